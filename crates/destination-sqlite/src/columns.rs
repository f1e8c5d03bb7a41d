//! Which columns of a table are this crate's. One that is missing later was dropped or renamed by
//! somebody: to add it again would leave all the rows before without its values.

use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::TableId;
use rusqlite::{Connection, params};

use crate::error::Explain;
use crate::state::json;

const COMPARING: &str = "comparing the columns of a table";

/// The columns of a visible table that were registered and are not there. None are missing of a
/// table that is gone as a whole, nor of one whose columns an earlier release did not register.
fn lost(connection: &Connection, name: &str) -> Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT ours.value FROM _pipeline_tables AS known, json_each(known.columns) AS ours
             WHERE known.name = ?1 AND EXISTS (SELECT 1 FROM pragma_table_info(?1))
                 AND ours.value NOT IN (SELECT present.name FROM pragma_table_info(?1) AS present)",
        )
        .and_then(|mut select| select.query_map([name], |row| row.get(0))?.collect())
        .explain(COMPARING)
}

/// Registers columns of a visible table, beside those that are registered.
pub(crate) fn register(connection: &Connection, name: &str, columns: &[String]) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE _pipeline_tables SET columns = (SELECT json_group_array(value) FROM
                 (SELECT value FROM json_each(coalesce(columns, '[]')) UNION SELECT value FROM json_each(?2)))
             WHERE name = ?1 AND EXISTS
                 (SELECT 1 FROM json_each(?2) WHERE value NOT IN (SELECT value FROM json_each(coalesce(columns, '[]'))))",
        )
        .and_then(|mut update| update.execute(params![name, json(&columns)]))
        .explain(COMPARING)
        .map(drop)
}

/// Forgets the columns that are not there: what the table has is what it is to have.
pub(crate) fn accept(connection: &Connection, name: &str) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE _pipeline_tables SET columns = (SELECT json_group_array(ours.value) FROM json_each(columns) AS ours
                 WHERE ours.value IN (SELECT present.name FROM pragma_table_info(?1) AS present))
             WHERE name = ?1 AND columns IS NOT NULL",
        )
        .and_then(|mut update| update.execute([name]))
        .explain(COMPARING)
        .map(drop)
}

/// What is wrong with a visible table, and the ways out; none: it can be written.
pub(crate) fn damage(
    connection: &Connection,
    id: &TableId,
    name: &str,
) -> Result<Option<(String, String)>> {
    if is_view(connection, name)? {
        return Ok(Some(view(id, name)));
    }
    let lost = lost(connection, name)?;
    // The engine's own tables, such as the one of rejected records, are anybody's to change.
    Ok((!lost.is_empty() && !id.stream.starts_with('_')).then(|| missing(id, name, &lost)))
}

/// Fails when columns of a visible table are missing, or when a view has its name.
pub(crate) fn check(connection: &Connection, id: &TableId, name: &str) -> Result<()> {
    damage(connection, id, name)?.map_or(Ok(()), |damage| Err(error(id, damage)))
}

/// Fails when a view has the name of a table that is to be replaced.
pub(crate) fn check_place(connection: &Connection, id: &TableId, name: &str) -> Result<()> {
    if is_view(connection, name)? {
        Err(error(id, view(id, name)))
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

/// True when a name is a view's.
fn is_view(connection: &Connection, name: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = ? COLLATE NOCASE";
    connection
        .prepare_cached(sql)
        .and_then(|mut select| select.exists([name]))
        .explain(COMPARING)
}

/// What is wrong with a table of which columns are missing, and the ways out.
fn missing(id: &TableId, name: &str, lost: &[String]) -> (String, String) {
    let TableId { source, stream } = id;
    let names: Vec<String> = lost.iter().map(|column| format!("`{column}`")).collect();
    let (columns, were) = if lost.len() == 1 {
        ("the column", "was")
    } else {
        ("the columns", "were")
    };
    let what = format!(
        "{columns} {} of `{name}` {were} dropped or renamed by another program",
        names.join(", ")
    );
    let help = format!(
        "give back a column's name if it was renamed, restore the database from a backup, read the \
         table again with `pipeline sync {source} --full-refresh --streams {stream}`, or accept \
         rows without these values with `pipeline purge {source}/{stream}`"
    );
    (what, help)
}

/// What is wrong when a view has the name of a table, and the ways out.
fn view(id: &TableId, name: &str) -> (String, String) {
    let TableId { source, stream } = id;
    let what = format!("`{name}` is a view, where the stream's table was");
    let help = format!(
        "drop the view with `DROP VIEW \"{name}\"`, then give the table its name back, or read it \
         again with `pipeline sync {source} --full-refresh --streams {stream}`"
    );
    (what, help)
}
