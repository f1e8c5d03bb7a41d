//! Rows of the visible generation that stay when the next one takes its place.

use std::collections::BTreeMap;

use destination_sql::quote;
use destination_sql::quote_all;
use pipeline_core::{Result, failpoint};
use pipeline_engine::{DELETED, Keep, SYNCED_AT};
use rusqlite::{Connection, params_from_iter};

use crate::error::Explain;
use crate::table::{PUBLISHING, Shape, create, gone_name, next_name, shape};

/// Values in one statement; SQLite allows 32,766.
const MAX_PARAMETERS: usize = 30_000;

/// Inserts the selected rows of the visible table into the next generation, unless it has the key
/// or deletes the row.
pub(crate) fn carry<'a>(
    connection: &Connection,
    visible: &str,
    keep: impl Iterator<Item = &'a Keep>,
) -> Result<()> {
    let mut keep = keep.peekable();
    let Some(from) = shape(connection, visible)?.filter(|_| keep.peek().is_some()) else {
        return Ok(());
    };
    let next = next_name(visible);
    let to = if let Some(to) = shape(connection, &next)? {
        to
    } else {
        create(connection, &next, &from)?;
        from.clone()
    };
    let shared = || {
        from.columns
            .iter()
            .map(|(name, _)| name)
            .filter(|name| to.columns.iter().any(|(column, _)| column == *name))
    };
    let columns = quote_all(shared());
    let gone = gone(connection, &gone_name(visible), &from)?;
    for (condition, values) in conditions(&from, keep) {
        for values in values.chunks((MAX_PARAMETERS / condition.compared.len().max(1)).max(1)) {
            let sql = format!(
                "INSERT OR IGNORE INTO {} ({columns}) SELECT {columns} FROM {} AS kept WHERE \
                 {}{gone}",
                quote(&next),
                quote(visible),
                condition.sql(values.len())
            );
            connection
                .execute(&sql, params_from_iter(values.iter().flatten()))
                .explain(PUBLISHING)?;
            failpoint("sqlite-carrying");
        }
    }
    Ok(())
}

/// What some of the selections compare.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Condition {
    /// Columns that have a value.
    compared: Vec<String>,
    /// Columns that have none.
    null: Vec<String>,
}

impl Condition {
    /// The condition for as many rows of values.
    fn sql(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.compared.len()].join(", "));
        let values = vec![row; rows].join(", ");
        let compared = (!self.compared.is_empty())
            .then(|| format!("({}) IN (VALUES {values})", quote_all(&self.compared)));
        let null = self
            .null
            .iter()
            .map(|name| format!("{} IS NULL", quote(name)));
        let parts: Vec<String> = compared.into_iter().chain(null).collect();
        if parts.is_empty() {
            "true".to_owned()
        } else {
            parts.join(" AND ")
        }
    }
}

/// The selections by what they compare, with their values as text, which SQLite compares as the
/// column's type asks for. One that compares a column that the table does not have selects nothing.
fn conditions<'a>(
    shape: &Shape,
    keep: impl Iterator<Item = &'a Keep>,
) -> BTreeMap<Condition, Vec<Vec<String>>> {
    let mut conditions: BTreeMap<Condition, Vec<Vec<String>>> = BTreeMap::new();
    'keep: for keep in keep {
        let (mut condition, mut row) = (
            Condition {
                compared: Vec::new(),
                null: Vec::new(),
            },
            Vec::new(),
        );
        for (field, json) in &keep.values {
            match (shape.column(field), text(json)) {
                (Some(column), Some(text)) => {
                    condition.compared.push(column.clone());
                    row.push(text);
                }
                (Some(column), None) => condition.null.push(column.clone()),
                (None, None) => {}
                (None, Some(_)) => continue 'keep,
            }
        }
        conditions.entry(condition).or_default().push(row);
    }
    conditions
}

/// A JSON value as the text that SQLite compares; none: null.
fn text(json: &str) -> Option<String> {
    match json.trim() {
        "null" => None,
        "true" => Some("1".to_owned()),
        "false" => Some("0".to_owned()),
        json => Some(serde_json::from_str(json).unwrap_or_else(|_| json.to_owned())),
    }
}

/// The condition that no tombstone of the next generation deletes the row; empty: it has none.
fn gone(connection: &Connection, name: &str, visible: &Shape) -> Result<String> {
    let Some(gone) = shape(connection, name)? else {
        return Ok(String::new());
    };
    let system = [visible.column(DELETED), visible.column(SYNCED_AT)];
    let mut compared = Vec::new();
    for (column, _) in visible
        .columns
        .iter()
        .filter(|(column, _)| !system.contains(&Some(column)))
    {
        if gone.columns.iter().any(|(known, _)| known == column) {
            let column = quote(column);
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM {} WHERE {column} IS NOT NULL)",
                quote(name)
            );
            if connection
                .query_row(&sql, [], |row| row.get(0))
                .explain(PUBLISHING)?
            {
                compared.push(format!(
                    "(gone.{column} IS NULL OR gone.{column} = kept.{column})"
                ));
            }
        }
    }
    if compared.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(
        " AND NOT EXISTS (SELECT 1 FROM {} AS gone WHERE {})",
        quote(name),
        compared.join(" AND ")
    ))
}
