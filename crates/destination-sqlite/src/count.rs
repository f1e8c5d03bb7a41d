//! How many rows tables have: counted while they are written, stored with every commit, and
//! compared at the next start.
//!
//! To count a large table takes as long as to read it. So the writing connection counts what it
//! adds and removes, and the sums are stored in the transaction itself. What others remove with
//! connections of their own is therefore missing from a table, and not from the number that is
//! stored of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use destination_sql::quote;
use pipeline_core::Result;
use rusqlite::hooks::Action;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::columns;
use crate::error::Explain;
use crate::table::{NEXT, next_name};

const COUNTING: &str = "counting rows";

/// Stored of a table when it is unknown how many rows it had: more than any table can have.
pub(crate) const LOST: i64 = 1 << 61;

/// Rows of each table that a connection has added, less those that it has removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<Mutex<HashMap<String, i64>>>);

impl Counter {
    /// Counts what a connection does from now on.
    pub(crate) fn watch(connection: &mut Connection) -> rusqlite::Result<Self> {
        let counter = Self::default();
        let counts = counter.clone();
        connection.update_hook(Some(move |action: Action, _: &str, table: &str, _| {
            let rows = match action {
                Action::SQLITE_INSERT => 1,
                Action::SQLITE_DELETE => -1,
                // A row that replaces the one with its key is an update.
                _ => return,
            };
            let mut counts = counts.lock();
            match counts.get_mut(table) {
                Some(count) => *count += rows,
                None => drop(counts.insert(table.to_owned(), rows)),
            }
        }))?;
        Ok(counter)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Stores, in the open transaction, how many rows the tables have now. What was published or
    /// discarded is counted anew: a table that was dropped or emptied as a whole does not report
    /// its rows.
    pub(crate) fn settle(&self, connection: &Connection) -> Result<()> {
        let counts = std::mem::take(&mut *self.lock());
        for (table, rows) in counts {
            let is_known = correct(connection, &table, rows)?;
            if is_known && !table.starts_with(NEXT) {
                store_ends(connection, &table)?;
            }
        }
        for name in uncounted(connection)? {
            let (rows, next) = (
                count(connection, &name)?,
                count(connection, &next_name(&name))?,
            );
            let sql = "UPDATE _pipeline_tables SET rows = coalesce(rows, ?), next_rows = \
                       coalesce(next_rows, ?) WHERE name = ?";
            connection
                .prepare_cached(sql)
                .and_then(|mut update| update.execute(params![rows, next, name]))
                .explain(COUNTING)?;
            store_ends(connection, &name)?;
        }
        Ok(())
    }
}

/// The tables that have to be counted.
fn uncounted(connection: &Connection) -> Result<Vec<String>> {
    connection
        .prepare_cached("SELECT name FROM _pipeline_tables WHERE rows IS NULL OR next_rows IS NULL")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .explain(COUNTING)
}

/// Stores the lowest and the highest row number of a table.
fn store_ends(connection: &Connection, name: &str) -> Result<()> {
    let (first, last) = ends(connection, name)?;
    let sql = "UPDATE _pipeline_tables SET first_row = ?, last_row = ? WHERE name = ?";
    connection
        .prepare_cached(sql)
        .and_then(|mut update| update.execute(params![first, last, name]))
        .explain(COUNTING)
        .map(drop)
}

/// The lowest and the highest row number of a table that may not be there: two look-ups, however
/// many rows it has.
pub(crate) fn ends(connection: &Connection, name: &str) -> Result<(Option<i64>, Option<i64>)> {
    if !exists(connection, name)? {
        return Ok((None, None));
    }
    let end = |function: &str| {
        let sql = format!("SELECT {function}(_rowid_) FROM {}", quote(name));
        connection
            .query_row(&sql, [], |row| row.get(0))
            .explain(COUNTING)
    };
    Ok((end("min")?, end("max")?))
}

/// True when there is a table, and not a view, of that name.
pub(crate) fn exists(connection: &Connection, name: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE";
    connection
        .prepare_cached(sql)
        .and_then(|mut select| select.exists([name]))
        .explain(COUNTING)
}

/// Counts the rows of a table; none are in one that is not there.
pub(crate) fn count(connection: &Connection, name: &str) -> Result<i64> {
    if !exists(connection, name)? {
        return Ok(0);
    }
    let sql = format!("SELECT count(*) FROM {}", quote(name));
    connection
        .query_row(&sql, [], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
        .explain(COUNTING)
}

/// Adds a number to what is stored of a table, or of its next generation, by its name in the
/// database. False when it does not belong to a stream.
pub(crate) fn correct(connection: &Connection, table: &str, rows: i64) -> Result<bool> {
    let (column, name) = match table.strip_prefix(NEXT) {
        Some(visible) => ("next_rows", visible),
        None => ("rows", table),
    };
    let sql = format!("UPDATE _pipeline_tables SET {column} = {column} + ? WHERE name = ?");
    let known = connection
        .prepare_cached(&sql)
        .and_then(|mut update| update.execute(params![rows, name]))
        .explain(COUNTING)?;
    Ok(known > 0)
}

/// Has a table counted at the end of the transaction: what it holds then is what it is to hold, and
/// in the columns that it has.
pub(crate) fn accept(connection: &Connection, name: &str) -> Result<()> {
    let sql = "UPDATE _pipeline_tables SET rows = NULL, next_rows = NULL WHERE name = ?";
    connection
        .prepare_cached(sql)
        .and_then(|mut update| update.execute([name]))
        .explain(COUNTING)?;
    columns::accept(connection, name)
}

/// Stores that nothing is collected of a table's next generation.
pub(crate) fn forget_next(connection: &Connection, name: &str) -> Result<()> {
    let sql = "UPDATE _pipeline_tables SET next_rows = 0 WHERE name = ?";
    connection
        .prepare_cached(sql)
        .and_then(|mut update| update.execute([name]))
        .explain(COUNTING)
        .map(drop)
}
