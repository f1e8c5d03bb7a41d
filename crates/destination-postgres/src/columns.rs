//! Columns: which of a table are this crate's, which cannot be altered, and what others have added.
//! One that is missing later was dropped or renamed by somebody: to add it again would leave all
//! the rows before without its values.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use destination_sql::quote;
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{DELETED, EXTRA, SYNCED_AT, TableId};

use crate::names::{Registered, Relation};
use crate::session::{Session, get, params};
use crate::table::{PREPARING, Shape};

const COMPARING: &str = "comparing the columns of a table";

/// The columns of a visible table that are this crate's.
pub(crate) async fn registered(session: &Session, table: &Registered) -> Result<BTreeSet<String>> {
    let sql = "SELECT name FROM _pipeline.columns WHERE number = $1";
    let names = session
        .strings(COMPARING, sql, params![table.number])
        .await?;
    Ok(names.into_iter().collect())
}

/// Registers columns of a visible table, beside those that are registered.
pub(crate) async fn register(
    session: &Session,
    table: &Registered,
    columns: &[String],
) -> Result<()> {
    // Nothing is inserted, and nobody waited for, when all of them are known.
    let sql = "INSERT INTO _pipeline.columns (number, name)
        SELECT $1, name FROM unnest($2) AS name
        WHERE NOT EXISTS (SELECT 1 FROM _pipeline.columns k WHERE k.number = $1 AND k.name = name.name)
        ORDER BY name ON CONFLICT DO NOTHING";
    session
        .execute(COMPARING, sql, params![table.number, columns])
        .await
        .map(drop)
}

/// Forgets the columns that are not there: what the table has is what it is to have.
pub(crate) async fn accept(session: &Session, table: &Registered) -> Result<()> {
    let lost = lost(session, table).await?;
    if lost.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM _pipeline.columns WHERE number = $1 AND name = ANY ($2)";
    session
        .execute(COMPARING, sql, params![table.number, lost])
        .await
        .map(drop)
}

/// The columns of a visible table that were registered and are not there. None are missing of a
/// table that is gone as a whole.
async fn lost(session: &Session, table: &Registered) -> Result<Vec<String>> {
    let sql = "WITH present AS (SELECT a.attname::text AS name FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = $2 AND c.relname = $3 AND a.attnum > 0 AND NOT a.attisdropped)
        SELECT name FROM _pipeline.columns WHERE number = $1 AND EXISTS (SELECT 1 FROM present)
            AND name NOT IN (SELECT name FROM present) ORDER BY name COLLATE \"C\"";
    let values = params![table.number, table.visible.schema, table.visible.name];
    session.strings(COMPARING, sql, values).await
}

/// What is wrong with a visible table, and the ways out; none: it can be written.
pub(crate) async fn damage(
    session: &Session,
    id: &TableId,
    table: &Registered,
) -> Result<Option<(String, String)>> {
    if is_view(session, &table.visible).await? {
        return Ok(Some(view(id, &table.visible)));
    }
    // The engine's own tables, such as the one of rejected records, are anybody's to change.
    if id.stream.starts_with('_') {
        return Ok(None);
    }
    let lost = lost(session, table).await?;
    Ok((!lost.is_empty()).then(|| missing(id, &table.visible, &lost)))
}

/// Fails when columns of a visible table are missing, or when a view has its name.
pub(crate) async fn check(session: &Session, id: &TableId, table: &Registered) -> Result<()> {
    let damage = damage(session, id, table).await?;
    damage.map_or(Ok(()), |damage| Err(error(id, damage)))
}

/// Fails when a view has the name of a table that is to be replaced.
pub(crate) async fn check_place(session: &Session, id: &TableId, table: &Registered) -> Result<()> {
    if is_view(session, &table.visible).await? {
        Err(error(id, view(id, &table.visible)))
    } else {
        Ok(())
    }
}

fn error(id: &TableId, (what, help): (String, String)) -> Error {
    Error::new(ErrorKind::Destination, what)
        .with_operation(COMPARING)
        .with_context("source", id.source.clone())
        .with_context("stream", id.stream.clone())
        .with_help(help)
}

/// True when a name is that of something other than a table.
async fn is_view(session: &Session, relation: &Relation) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind NOT IN ('r', 'p'))";
    let place = params![relation.schema, relation.name];
    session.is(COMPARING, sql, place).await
}

/// What is wrong with a table of which columns are missing, and the ways out.
fn missing(id: &TableId, relation: &Relation, lost: &[String]) -> (String, String) {
    let TableId { source, stream } = id;
    let names: Vec<String> = lost.iter().map(|column| format!("`{column}`")).collect();
    let (columns, were) = if lost.len() == 1 {
        ("the column", "was")
    } else {
        ("the columns", "were")
    };
    let Relation { schema, name } = relation;
    let what = format!(
        "{columns} {} of `{schema}.{name}` {were} dropped or renamed by another program",
        names.join(", ")
    );
    let help = format!(
        "give back a column's name if it was renamed, restore the database from a backup, read the table again with \
         `pipeline sync {source} --full-refresh --streams {stream}`, or accept rows without these values with \
         `pipeline purge {source}/{stream}`"
    );
    (what, help)
}

/// What is wrong when a view has the name of a table, and the ways out.
fn view(id: &TableId, relation: &Relation) -> (String, String) {
    let TableId { source, stream } = id;
    let Relation { schema, name } = relation;
    let what = format!("`{schema}.{name}` is a view, where the stream's table was");
    let help = format!(
        "drop the view with `DROP VIEW {}`, then give the table its name back, or read it again with \
         `pipeline sync {source} --full-refresh --streams {stream}`",
        relation.sql()
    );
    (what, help)
}

/// The columns that a view or a rule reads: Postgres does not let their type be changed.
pub(crate) async fn pinned(session: &Session, relation: &Relation) -> Result<BTreeSet<String>> {
    let sql = "SELECT DISTINCT a.attname::text FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
            AND d.refobjsubid > 0 AND n.nspname = $1 AND c.relname = $2";
    let place = params![relation.schema, relation.name];
    let names = session.strings(PREPARING, sql, place).await?;
    Ok(names.into_iter().collect())
}

/// The type of a column; empty: there is no such column.
pub(crate) fn type_of<'a>(shape: &'a Shape, name: &str) -> &'a str {
    shape
        .columns
        .iter()
        .find(|(column, _)| column == name)
        .map_or("", |(_, data_type)| data_type)
}

/// A value of one type as one of a wider type, with all its digits.
pub(crate) fn widened(value: &str, from: &str, to: &str) -> String {
    match (from, to) {
        ("double precision", "numeric") => format!("{value}::text::numeric"),
        (from, "text") => text_of(value, from),
        (_, to) => format!("{value}::{to}"),
    }
}

/// A value as the text that this crate would write for it, whatever the session's settings are.
pub(crate) fn text_of(value: &str, data_type: &str) -> String {
    match data_type {
        "timestamp with time zone" => {
            format!("to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        }
        "date" => format!("to_char({value}, 'YYYY-MM-DD')"),
        _ => format!("{value}::text"),
    }
}

/// A value that can be compared with another of its column: some types have no equality.
pub(crate) fn comparable(value: &str, data_type: &str) -> String {
    match data_type {
        "boolean"
        | "bigint"
        | "double precision"
        | "numeric"
        | "text"
        | "date"
        | "jsonb"
        | "timestamp with time zone" => value.to_owned(),
        _ => format!("{value}::text"),
    }
}

/// The comments of a table and of the columns that this program adds.
pub(crate) fn comments(relation: &Relation, id: &TableId, shape: &Shape) -> String {
    let name = relation.sql();
    let table = format!(
        "stream {} of source {}, written by pipeline",
        id.stream, id.source
    );
    let mut sql = format!("COMMENT ON TABLE {name} IS {};", literal(&table));
    for (field, comment) in [
        (
            EXTRA,
            "members that are not declared, and values that do not fit their column",
        ),
        (SYNCED_AT, "when the record was read"),
        (DELETED, "true when the vendor has deleted the record"),
    ] {
        if let Some((column, _)) = shape.column(field) {
            let column = quote(column);
            // Writing to a string cannot fail.
            let _ = write!(
                sql,
                "COMMENT ON COLUMN {name}.{column} IS {};",
                literal(comment)
            );
        }
    }
    sql
}

/// A text in a statement.
pub(crate) fn literal(text: &str) -> String {
    // With an escape string a backslash means the same whatever the settings are.
    format!(
        " E'{}'",
        text.replace('\0', "\u{2400}")
            .replace('\\', "\\\\")
            .replace('\'', "''")
    )
}

/// Lets the next generation refuse the rows that unique indexes of the visible table would: one by
/// one, as they are written, and not all of them when the table is published. Indexes on
/// expressions or on a part of the rows are not among these.
pub(crate) async fn guard(session: &Session, table: &Registered, next: &Shape) -> Result<()> {
    let sql = "SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
            JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
        WHERE n.nspname = $1 AND c.relname = $2 AND ic.relname <> $3 AND i.indisunique
            AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
        GROUP BY i.indexrelid";
    let key = table.key();
    let values = params![table.visible.schema, table.visible.name, key];
    for row in session.query(PREPARING, sql, values).await? {
        let columns: Vec<String> = get(&row, 0)?;
        if columns
            .iter()
            .all(|column| next.names().any(|name| name == column))
        {
            let sql = format!(
                "CREATE UNIQUE INDEX ON {} ({})",
                table.next().sql(),
                destination_sql::quote_all(&columns)
            );
            session.batch(PREPARING, &sql).await?;
        }
    }
    Ok(())
}
