//! The next generation takes the visible one's place: by a new name where nobody has seen anything
//! yet, and otherwise by the difference between the two, so that views, grants, indexes and
//! triggers stay, and no reader ever sees an empty table.

use destination_sql::{quote, quote_all};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Keep, SYNCED_AT, TableId};
use tokio_postgres::error::SqlState;

use crate::carry::carry;
use crate::columns;
use crate::error::{Explain as _, is_of_row, reason};
use crate::names::Registered;
use crate::session::{Session, params};
use crate::table::{self, Part, Shape, WRITTEN_BY, migrate, shape};

pub(crate) const PUBLISHING: &str = "publishing a table";

/// Drops what earlier transactions collected of the next generation. `transaction` is the number of
/// the open one; where it has written nothing to it, all of it goes.
pub(crate) async fn discard(
    session: &Session,
    id: &TableId,
    transaction: Option<i64>,
) -> Result<Option<Registered>> {
    let Some(registered) = table::known(session, id).await? else {
        return Ok(None);
    };
    for part in [Part::Next, Part::Gone] {
        let name = part.relation(&registered).sql();
        if shape(session, &registered, part).await?.is_none() {
            continue;
        }
        let sql = match transaction {
            Some(number) => format!("DELETE FROM {name} WHERE {WRITTEN_BY} <> {number}"),
            None => format!("DROP TABLE {name}"),
        };
        session.batch(PUBLISHING, &sql).await?;
    }
    // What is about to be replaced is not missed any more.
    columns::accept(session, &registered).await?;
    Ok(Some(registered))
}

/// Shows the next generation in the visible one's place, with the rows that are carried over; when
/// nothing was collected, only those are left.
pub(crate) async fn publish(
    session: &Session,
    id: &TableId,
    keep: &[Keep],
    transaction: i64,
) -> Result<Option<Registered>> {
    let Some(registered) = table::known(session, id).await? else {
        return Ok(None);
    };
    columns::check_place(session, id, &registered).await?;
    let keep: Vec<&Keep> = keep.iter().filter(|keep| keep.table == *id).collect();
    carry(session, &registered, &keep, transaction).await?;
    let next = shape(session, &registered, Part::Next).await?;
    let visible = shape(session, &registered, Part::Visible).await?;
    match (next, visible) {
        (Some(next), None) => rename(session, &registered, &next).await?,
        (Some(next), Some(visible)) => {
            if is_untouched(session, &registered).await? {
                let sql = format!("DROP TABLE {}", registered.visible.sql());
                session.batch(PUBLISHING, &sql).await?;
                rename(session, &registered, &next).await?;
            } else {
                replace(session, &registered, &visible, &next).await?;
            }
        }
        (None, Some(_)) => {
            let sql = format!("DELETE FROM {}", registered.visible.sql());
            session.batch(PUBLISHING, &sql).await?;
        }
        (None, None) => {}
    }
    let gone = format!("DROP TABLE IF EXISTS {}", registered.gone().sql());
    session.batch(PUBLISHING, &gone).await?;
    columns::accept(session, &registered).await?;
    Ok(Some(registered))
}

/// Gives the next generation the visible table's name.
async fn rename(session: &Session, registered: &Registered, next: &Shape) -> Result<()> {
    let (from, to) = (registered.next(), &registered.visible);
    crate::meta::create_schema(session, &to.schema).await?;
    let (schema, name) = (quote(&to.schema), quote(&to.name));
    let mut sql = format!(
        "ALTER TABLE {} DROP COLUMN {WRITTEN_BY}; ALTER TABLE {0} SET SCHEMA {schema};
         ALTER TABLE {schema}.{} RENAME TO {name};",
        from.sql(),
        quote(&from.name)
    );
    if !next.key.is_empty() {
        let (from, to) = (quote(&registered.next_key()), quote(&registered.key()));
        sql.push_str("ALTER INDEX ");
        sql.push_str(&[schema.as_str(), ".", &from, " RENAME TO ", &to].concat());
    }
    session.batch(PUBLISHING, &sql).await?;
    let ours: Vec<String> = next.names().cloned().collect();
    columns::register(session, registered, &ours).await
}

/// True when the visible table has no row, and nothing that another table of its name would not
/// have: nobody can have seen anything of it.
async fn is_untouched(session: &Session, registered: &Registered) -> Result<bool> {
    let visible = &registered.visible;
    let has_rows = format!("SELECT EXISTS (SELECT 1 FROM {})", visible.sql());
    if session.is(PUBLISHING, &has_rows, &[]).await? {
        return Ok(false);
    }
    // Views, grants, indexes, triggers, policies, options, publications, references, inheritance,
    // another owner, and comments of others.
    let sql = "SELECT c.relacl IS NULL AND NOT c.relrowsecurity AND c.reloptions IS NULL AND NOT c.relhassubclass
            AND c.relowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_class'::regclass
                AND d.refobjid = c.oid AND d.classid = 'pg_catalog.pg_rewrite'::regclass)
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
                WHERE i.indrelid = c.oid AND ic.relname <> $3)
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid)
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid)
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE c.oid IN (k.conrelid, k.confrelid))
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel p WHERE p.prrelid = c.oid)
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                AND NOT a.attisdropped AND (a.attacl IS NOT NULL OR a.attnotnull OR a.atthasdef
                    OR a.attname NOT IN (SELECT k.name FROM _pipeline.columns k WHERE k.number = $4)))
            AND (SELECT count(*) FROM pg_catalog.pg_description d
                WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = c.oid) <= 4
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2";
    let key = registered.key();
    let values = params![visible.schema, visible.name, key, registered.number];
    session.is(PUBLISHING, sql, values).await
}

/// Makes the visible table hold the rows of the next generation.
async fn replace(
    session: &Session,
    registered: &Registered,
    visible: &Shape,
    next: &Shape,
) -> Result<()> {
    let mut wanted = visible.clone();
    for (name, data_type) in &next.columns {
        match wanted.columns.iter_mut().find(|(known, _)| known == name) {
            _ if name == WRITTEN_BY => {}
            Some((_, present)) => present.clone_from(data_type),
            None => wanted.columns.push((name.clone(), data_type.clone())),
        }
    }
    let same_key = visible.key == next.key;
    if !same_key {
        // Rows with another key are other rows.
        let sql = format!("DELETE FROM {}", registered.visible.sql());
        session.batch(PUBLISHING, &sql).await?;
        wanted.key.clone_from(&next.key);
    }
    migrate(session, registered, Part::Visible, visible, &wanted).await?;
    let ours: Vec<String> = next.names().cloned().collect();
    columns::register(session, registered, &ours).await?;
    let difference = Difference::of(registered, next);
    if next.key.is_empty() || !same_key {
        difference.all(session).await?;
    } else {
        difference.some(session).await?;
    }
    let drop = format!("DROP TABLE {}", registered.next().sql());
    session.batch(PUBLISHING, &drop).await
}

/// The statements that make two tables the same.
struct Difference {
    visible: String,
    next: String,
    columns: String,
    key: String,
    /// The condition that a row of both has the same key.
    same_key: String,
    sets: String,
    /// The condition that a row of both differs, without what tells when it was read.
    differs: [String; 2],
}

impl Difference {
    fn of(registered: &Registered, next: &Shape) -> Self {
        let equal: Vec<String> = next
            .key
            .iter()
            .map(|name| format!("t.{0} = n.{0}", quote(name)))
            .collect();
        let sets: Vec<String> = next
            .names()
            .map(|name| format!("{0} = excluded.{0}", quote(name)))
            .collect();
        let synced_at = next.column(SYNCED_AT).map(|(name, _)| name.as_str());
        let row = |side: &str| {
            let values: Vec<String> = next
                .columns
                .iter()
                .filter(|(name, _)| name != WRITTEN_BY && Some(name.as_str()) != synced_at)
                .map(|(name, data_type)| {
                    columns::comparable(&format!("{side}.{}", quote(name)), data_type)
                })
                .collect();
            format!("ROW({})", values.join(", "))
        };
        let differs =
            ["excluded", "n"].map(|side| format!("{} IS DISTINCT FROM {}", row("t"), row(side)));
        Self {
            visible: registered.visible.sql(),
            next: registered.next().sql(),
            columns: quote_all(next.names()),
            key: quote_all(&next.key),
            same_key: equal.join(" AND "),
            sets: sets.join(", "),
            differs,
        }
    }

    /// Writes every row anew.
    async fn all(&self, session: &Session) -> Result<()> {
        let Self {
            visible,
            next,
            columns,
            ..
        } = self;
        let sql = format!(
            "DELETE FROM {visible}; INSERT INTO {visible} ({columns}) SELECT {columns} FROM {next}"
        );
        self.run(session, &sql).await
    }

    /// Writes the rows that differ.
    async fn some(&self, session: &Session) -> Result<()> {
        let Self {
            visible,
            next,
            columns,
            key,
            same_key,
            sets,
            differs: [differs, differs_from_next],
        } = self;
        let remove = format!(
            "DELETE FROM {visible} AS t WHERE NOT EXISTS (SELECT 1 FROM {next} AS n WHERE {same_key})"
        );
        session.batch(PUBLISHING, &remove).await?;
        session
            .batch(PUBLISHING, "SAVEPOINT pipeline_difference")
            .await?;
        let upsert = format!(
            "INSERT INTO {visible} AS t ({columns}) SELECT {columns} FROM {next}
             ON CONFLICT ({key}) DO UPDATE SET {sets} WHERE {differs}"
        );
        match session.client().batch_execute(&upsert).await {
            Ok(()) => {
                session
                    .batch(PUBLISHING, "RELEASE SAVEPOINT pipeline_difference")
                    .await
            }
            // Two rows may have swapped a value that has to be unique: then each has to be gone
            // before the other one comes.
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                let sql = format!(
                    "ROLLBACK TO SAVEPOINT pipeline_difference; RELEASE SAVEPOINT pipeline_difference;
                     DELETE FROM {visible} AS t USING {next} AS n WHERE {same_key} AND {differs_from_next};
                     INSERT INTO {visible} ({columns}) SELECT {columns} FROM {next} ON CONFLICT ({key}) DO NOTHING"
                );
                self.run(session, &sql).await
            }
            Err(error) => explain_rule(Err(error), visible),
        }
    }

    async fn run(&self, session: &Session, sql: &str) -> Result<()> {
        explain_rule(session.client().batch_execute(sql).await, &self.visible)
    }
}

/// Names the rule of somebody's that rows break.
fn explain_rule(done: std::result::Result<(), tokio_postgres::Error>, table: &str) -> Result<()> {
    match done {
        Err(error) if is_of_row(&error) => {
            let what = reason(&error);
            Err(Error::new(
                ErrorKind::Destination,
                format!("a rule that was added to {table} does not allow the rows that are to replace its own: {what}"),
            )
            .with_operation(PUBLISHING)
            .with_help("drop the index, the constraint or the trigger, then run again; until then the table keeps its earlier rows")
            .with_source(error))
        }
        done => done.explain(PUBLISHING),
    }
}
