//! Tables: their names, their columns, and the generation that waits to take their place.

use std::collections::BTreeSet;

use destination_sql::{Columns, quote, quote_all};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{DELETED, EXTRA, Generation, SYNCED_AT, Table, TableId};

use crate::columns;
use crate::counts;
use crate::dialect::{DIALECT, Style};
use crate::meta;
use crate::names::{Registered, Relation, relations};
use crate::session::{Session, get, params};

pub(crate) const PREPARING: &str = "preparing a table";

/// The column of a next generation that says which transaction has written a row.
pub(crate) const WRITTEN_BY: &str = "_pipeline_xid";
/// The column of staged rows that says in which order they came.
pub(crate) const ORDER: &str = "_pipeline_order";

/// Columns of a table. Postgres allows 1,600, of which some are left to this crate and to others.
pub(crate) const MOST_COLUMNS: usize = 1_590;

/// Stored of a table when nobody knows how many rows it had: more than any table can have.
pub(crate) const LOST: i64 = 1 << 61;

/// A table as it stands in the database, matched with the columns of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Physical {
    pub(crate) relation: Relation,
    /// For each column of the batch, the table's and its type; none: the table has no room for it.
    pub(crate) columns: Vec<Option<(String, String)>>,
    /// Columns of the table that identify a row; empty: none do.
    pub(crate) key: Vec<String>,
}

/// Columns with their types, and the unique index of the key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) columns: Vec<(String, String)>,
    pub(crate) key: Vec<String>,
    /// Columns that were dropped, and still count.
    pub(crate) dropped: usize,
}

impl Shape {
    /// The column that holds a field.
    pub(crate) fn column(&self, field: &str) -> Option<&(String, String)> {
        let candidates = DIALECT.column_names(field);
        candidates
            .iter()
            .find_map(|name| self.columns.iter().find(|(column, _)| column == name))
    }

    /// The names of the columns, without that of this crate's own.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.columns
            .iter()
            .map(|(name, _)| name)
            .filter(|name| *name != WRITTEN_BY)
    }
}

/// Which relation of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Visible,
    Next,
    Gone,
}

impl Part {
    pub(crate) fn of(generation: Generation) -> Self {
        match generation {
            Generation::Current => Self::Visible,
            Generation::Next => Self::Next,
        }
    }

    pub(crate) fn relation(self, table: &Registered) -> Relation {
        match self {
            Self::Visible => table.visible.clone(),
            Self::Next => table.next(),
            Self::Gone => table.gone(),
        }
    }

    fn key_index(self, table: &Registered) -> String {
        match self {
            Self::Visible | Self::Gone => table.key(),
            Self::Next => table.next_key(),
        }
    }
}

/// Creates the visible table of a stream, or widens it. One that is being refreshed is left as it
/// is: the next generation is made when it gets its first row. So is one that somebody has damaged:
/// it fails those who write to it.
pub(crate) async fn prepare(session: &Session, style: &Style, table: &Table) -> Result<()> {
    let registered = register(session, style, &table.id()).await?;
    if columns::damage(session, &table.id(), &registered)
        .await?
        .is_some()
    {
        return Ok(());
    }
    if table.generation == Generation::Current
        || shape(session, &registered, Part::Visible).await?.is_none()
    {
        ensure(session, style, table, &registered, Part::Visible).await?;
    }
    Ok(())
}

/// Fails when a part of a table cannot be written because of what somebody has done to it.
pub(crate) async fn check(session: &Session, table: &Table, registered: &Registered) -> Result<()> {
    match table.generation {
        Generation::Current => columns::check(session, &table.id(), registered).await,
        Generation::Next => columns::check_place(session, &table.id(), registered).await,
    }
}

/// Creates a relation of a table, or widens it; never drops or narrows a column.
pub(crate) async fn ensure(
    session: &Session,
    style: &Style,
    table: &Table,
    registered: &Registered,
    part: Part,
) -> Result<Physical> {
    let (mut present, mut wanted, mut names) =
        plan(session, style, table, registered, part).await?;
    if present.as_ref() != Some(&wanted) {
        // Of two that change it at once the second one sees what the first one did.
        meta::lock(session, registered.number).await?;
        (present, wanted, names) = plan(session, style, table, registered, part).await?;
        match &present {
            None => create(session, table, registered, part, &wanted).await?,
            Some(present) => migrate(session, registered, part, present, &wanted).await?,
        }
    }
    if part == Part::Visible {
        let ours: Vec<String> = names.iter().flatten().cloned().collect();
        columns::register(session, registered, &ours).await?;
    }
    let typed = |name: String| wanted.columns.iter().find(|(column, _)| *column == name);
    Ok(Physical {
        relation: part.relation(registered),
        columns: names
            .into_iter()
            .map(|name| name.and_then(typed).cloned())
            .collect(),
        key: wanted.key,
    })
}

type Plan = (Option<Shape>, Shape, Vec<Option<String>>);

/// What there is, what there should be, and the column of each field.
async fn plan(
    session: &Session,
    style: &Style,
    table: &Table,
    registered: &Registered,
    part: Part,
) -> Result<Plan> {
    let present = shape(session, registered, part).await?;
    let known = match &present {
        Some(shape) => shape.clone(),
        None => template(session, registered, part).await?,
    };
    let pinned = columns::pinned(session, &registered.visible).await?;
    let Columns {
        all,
        of_fields: names,
    } = style
        .dialect()
        .widen(known.columns.clone(), table.schema.fields());
    let columns = with_room(&known, all, |name| {
        names
            .iter()
            .zip(table.schema.fields())
            .any(|(known, field)| {
                known == name
                    && (is_system(field.name()) || table.primary_key.contains(field.name()))
            })
    });
    let typed = |(name, data_type): (String, String)| match known
        .columns
        .iter()
        .find(|(column, _)| *column == name && pinned.contains(column))
    {
        // A view would keep the column from being altered.
        Some((_, present)) => (name, present.clone()),
        None => (name, data_type),
    };
    let columns: Vec<(String, String)> = columns.into_iter().map(typed).collect();
    let names: Vec<Option<String>> = names
        .into_iter()
        .map(|name| {
            columns
                .iter()
                .any(|(known, _)| *known == name)
                .then_some(name)
        })
        .collect();
    let key = match part {
        Part::Gone => Vec::new(),
        Part::Visible | Part::Next => key(table, &names)?,
    };
    let wanted = Shape {
        columns,
        key,
        dropped: known.dropped,
    };
    Ok((present, wanted, names))
}

/// Those columns for which a table has room. What there is stays, and so does what is needed: the
/// key, and what holds the values of the columns that are left out.
fn with_room(
    known: &Shape,
    all: Vec<(String, String)>,
    is_needed: impl Fn(&String) -> bool,
) -> Vec<(String, String)> {
    let present = known.columns.len();
    let needed = all[present..].iter().filter(|(name, _)| is_needed(name));
    let mut room = MOST_COLUMNS.saturating_sub(known.dropped + present + needed.count());
    let mut place = 0..;
    let mut has_room = |(name, _): &(String, String)| {
        let is_present = place.next() < Some(present);
        if is_present || is_needed(name) {
            return true;
        }
        let has_room = room > 0;
        room = room.saturating_sub(1);
        has_room
    };
    all.into_iter().filter(|column| has_room(column)).collect()
}

fn is_system(field: &str) -> bool {
    [EXTRA, SYNCED_AT, DELETED].contains(&field)
}

/// What a relation that is not there begins with: the columns of the visible table that are this
/// crate's, with their types, and where the transaction is noted.
async fn template(session: &Session, registered: &Registered, part: Part) -> Result<Shape> {
    if part == Part::Visible {
        return Ok(Shape::default());
    }
    let mut columns = Vec::new();
    if let Some(visible) = shape(session, registered, Part::Visible).await? {
        let ours = columns::registered(session, registered).await?;
        columns.extend(
            visible
                .columns
                .into_iter()
                .filter(|(name, _)| ours.contains(name)),
        );
    }
    columns.push((WRITTEN_BY.to_owned(), "bigint".to_owned()));
    Ok(Shape {
        columns,
        ..Shape::default()
    })
}

fn key(table: &Table, names: &[Option<String>]) -> Result<Vec<String>> {
    let column = |field: &String| {
        let index = table.schema.index_of(field).ok()?;
        names[index].clone()
    };
    let key: Option<Vec<String>> = table.primary_key.iter().map(column).collect();
    key.ok_or_else(|| {
        Error::new(
            ErrorKind::Unexpected,
            "a key column is not among the table's columns",
        )
        .with_operation(PREPARING)
    })
}

/// The table of a stream, given once and kept.
async fn register(session: &Session, style: &Style, id: &TableId) -> Result<Registered> {
    if let Some(known) = known(session, id).await? {
        return Ok(known);
    }
    let [marked, plain] = relations(&style.schema, id);
    for relation in [plain, marked] {
        let taken = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";
        let place = params![relation.schema, relation.name];
        if session.is(PREPARING, taken, place).await? {
            continue;
        }
        insert(session, id, &relation, 0).await?;
        // Another process may have given it another name, or this name to another table.
        if let Some(known) = known(session, id).await? {
            return Ok(known);
        }
    }
    Err(Error::new(
        ErrorKind::Destination,
        "both names that the stream's table may have are taken",
    )
    .with_operation(PREPARING)
    .with_context("source", id.source.clone())
    .with_context("stream", id.stream.clone())
    .with_help("rename the tables of others, or choose another `schema`"))
}

/// The table of a stream for a transaction that writes to it.
pub(crate) async fn registered(
    session: &Session,
    style: &Style,
    table: &Table,
) -> Result<Registered> {
    register(session, style, &table.id()).await
}

async fn insert(session: &Session, id: &TableId, relation: &Relation, rows: i64) -> Result<u64> {
    let sql = "INSERT INTO _pipeline.tables (source, stream, schema_name, table_name, rows)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let values = params![id.source, id.stream, relation.schema, relation.name, rows];
    session.execute(PREPARING, sql, values).await
}

pub(crate) async fn known(session: &Session, id: &TableId) -> Result<Option<Registered>> {
    let sql = "SELECT number, schema_name, table_name FROM _pipeline.tables WHERE source = $1 AND stream = $2";
    let found = session
        .optional(PREPARING, sql, params![id.source, id.stream])
        .await?;
    found
        .map(|row| {
            Ok(Registered {
                number: get(&row, 0)?,
                visible: Relation {
                    schema: get(&row, 1)?,
                    name: get(&row, 2)?,
                },
            })
        })
        .transpose()
}

/// Registers the table of a stream that was registered before. What it should hold is lost with its
/// entry.
pub(crate) async fn register_again(session: &Session, schema: &str, id: &TableId) -> Result<()> {
    let candidates = relations(schema, id);
    for relation in &candidates {
        let is_ours = columns_of(session, relation)
            .await?
            .is_some_and(|shape| shape.column(SYNCED_AT).is_some());
        if is_ours && insert(session, id, relation, LOST).await? > 0 {
            return Ok(());
        }
    }
    for relation in candidates.iter().rev() {
        if insert(session, id, relation, LOST).await? > 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Every table of a stream.
pub(crate) async fn all(session: &Session) -> Result<Vec<(TableId, Registered)>> {
    let sql = "SELECT source, stream, number, schema_name, table_name FROM _pipeline.tables
        ORDER BY source COLLATE \"C\", stream COLLATE \"C\"";
    let rows = session.query("listing the tables", sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let id = TableId {
                source: get(row, 0)?,
                stream: get(row, 1)?,
            };
            let registered = Registered {
                number: get(row, 2)?,
                visible: Relation {
                    schema: get(row, 3)?,
                    name: get(row, 4)?,
                },
            };
            Ok((id, registered))
        })
        .collect()
}

/// The columns of a relation; none: there is no such table.
pub(crate) async fn columns_of(session: &Session, relation: &Relation) -> Result<Option<Shape>> {
    let sql = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attisdropped
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND a.attnum > 0 ORDER BY a.attnum";
    let place = params![relation.schema, relation.name];
    let rows = session.query(PREPARING, sql, place).await?;
    let mut shape = Shape::default();
    for row in &rows {
        if get(row, 2)? {
            shape.dropped += 1;
        } else {
            shape.columns.push((get(row, 0)?, get(row, 1)?));
        }
    }
    Ok((!rows.is_empty()).then_some(shape))
}

/// The columns and the key of a part of a table; none: it is not there.
pub(crate) async fn shape(
    session: &Session,
    registered: &Registered,
    part: Part,
) -> Result<Option<Shape>> {
    let relation = part.relation(registered);
    let Some(mut shape) = columns_of(session, &relation).await? else {
        return Ok(None);
    };
    if part != Part::Gone {
        let sql = "SELECT a.attname FROM pg_catalog.pg_index i
                JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
                JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
            WHERE n.nspname = $1 AND c.relname = $2 AND ic.relname = $3 AND i.indisunique AND i.indisvalid
            ORDER BY k.place";
        let index = part.key_index(registered);
        let values = params![relation.schema, relation.name, index];
        shape.key = session.strings(PREPARING, sql, values).await?;
    }
    Ok(Some(shape))
}

/// Creates a relation with its key and comments.
pub(crate) async fn create(
    session: &Session,
    table: &Table,
    registered: &Registered,
    part: Part,
    shape: &Shape,
) -> Result<()> {
    let relation = part.relation(registered);
    if part == Part::Visible {
        meta::create_schema(session, &relation.schema).await?;
    }
    let columns: Vec<String> = shape
        .columns
        .iter()
        .map(|(name, data_type)| format!("{} {data_type}", quote(name)))
        .collect();
    let mut sql = format!("CREATE TABLE {} ({});", relation.sql(), columns.join(", "));
    sql += &unique_index(registered, part, &shape.key);
    if part != Part::Gone {
        sql += &columns::comments(&relation, &table.id(), shape);
    }
    session.batch(PREPARING, &sql).await?;
    if part == Part::Next {
        columns::guard(session, registered, shape).await?;
    }
    Ok(())
}

/// The statement that makes the unique index of a key; empty: there is no key.
pub(crate) fn unique_index(registered: &Registered, part: Part, key: &[String]) -> String {
    if key.is_empty() {
        return String::new();
    }
    format!(
        "CREATE UNIQUE INDEX {} ON {} ({});",
        quote(&part.key_index(registered)),
        part.relation(registered).sql(),
        quote_all(key)
    )
}

/// Adds columns, makes them wider, and changes the key.
pub(crate) async fn migrate(
    session: &Session,
    registered: &Registered,
    part: Part,
    present: &Shape,
    wanted: &Shape,
) -> Result<()> {
    let relation = part.relation(registered);
    let name = relation.sql();
    let known: BTreeSet<&String> = present.columns.iter().map(|(name, _)| name).collect();
    let mut changes = Vec::new();
    for (column, data_type) in &wanted.columns {
        let quoted = quote(column);
        if !known.contains(column) {
            changes.push(format!("ADD COLUMN {quoted} {data_type}"));
        } else if !present
            .columns
            .contains(&(column.clone(), data_type.clone()))
        {
            let from = columns::type_of(present, column);
            let cast = columns::widened(&quoted, from, data_type);
            changes.push(format!(
                "ALTER COLUMN {quoted} TYPE {data_type} USING {cast}"
            ));
        }
    }
    if !changes.is_empty() {
        let sql = format!("ALTER TABLE {name} {}", changes.join(", "));
        session.batch(PREPARING, &sql).await?;
    }
    if present.key == wanted.key {
        return Ok(());
    }
    if !present.key.is_empty() {
        let index = Relation {
            schema: relation.schema.clone(),
            name: part.key_index(registered),
        };
        session
            .batch(PREPARING, &format!("DROP INDEX {}", index.sql()))
            .await?;
    }
    if !wanted.key.is_empty() {
        // Of rows that get the same key the last one stays, as far as their places tell.
        let equal: Vec<String> = wanted
            .key
            .iter()
            .map(|column| format!("older.{0} = newer.{0}", quote(column)))
            .collect();
        let sql = format!(
            "DELETE FROM {name} AS older USING {name} AS newer WHERE older.ctid < newer.ctid AND {}",
            equal.join(" AND ")
        );
        let removed = session.execute(PREPARING, &sql, &[]).await?;
        let index = unique_index(registered, part, &wanted.key);
        session.batch(PREPARING, &index).await?;
        let added = -i64::try_from(removed).unwrap_or(i64::MAX);
        match part {
            Part::Next => counts::add_next(session, registered, added).await?,
            Part::Visible | Part::Gone => counts::add(session, registered, added).await?,
        }
    }
    Ok(())
}
