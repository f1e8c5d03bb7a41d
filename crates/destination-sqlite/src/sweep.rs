//! Tombstones of many rows: what belonged to something that was deleted.

use std::ops::Range;

use destination_sql::Deletes;
use destination_sql::quote;
use pipeline_core::Result;
use pipeline_engine::cell::Cell;
use pipeline_engine::{DELETED, SYNCED_AT, Table};
use rusqlite::Connection;

use crate::error::Explain;
use crate::table::Physical;
use crate::write::{Binder, WRITING};

/// Parameters that SQLite allows in one statement.
const MAX_PARAMETERS: usize = 32_766;

/// Deletes, or marks, the rows of one table that have the values of a tombstone.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The statement up to the condition.
    sql: String,
    /// The column of the batch that the statement sets.
    synced_at: Option<usize>,
    /// The columns of the batch that can be compared, and their names in the table.
    columns: Vec<(usize, String)>,
}

impl Sweep {
    pub(crate) fn new(physical: &Physical, table: &Table, deletes: Deletes) -> Self {
        let position = |name: &str| table.schema.index_of(name).ok();
        let column = |name: &str| {
            position(name)
                .map(|index| quote(&physical.columns[index]))
                .unwrap_or_default()
        };
        let name = quote(&physical.name);
        let (sql, synced_at) = match deletes {
            Deletes::Remove => (format!("DELETE FROM {name}"), None),
            Deletes::Mark => (
                format!(
                    "UPDATE {name} SET {} = 1, {} = ?",
                    column(DELETED),
                    column(SYNCED_AT)
                ),
                position(SYNCED_AT),
            ),
        };
        let system = [position(DELETED), position(SYNCED_AT)];
        let compared = (0..physical.columns.len()).filter(|index| !system.contains(&Some(*index)));
        Self {
            sql,
            synced_at,
            columns: compared
                .map(|index| (index, quote(&physical.columns[index])))
                .collect(),
        }
    }

    /// Carries out the tombstones of a batch. Those that compare the same columns walk through the
    /// table once.
    pub(crate) fn run(
        &self,
        connection: &Connection,
        rows: Range<usize>,
        binder: &mut Binder<'_>,
    ) -> Result<()> {
        let mut start = rows.start;
        while start < rows.end {
            let columns = self.compared(binder, start);
            let most = rows
                .end
                .min(start + (MAX_PARAMETERS - 1) / columns.len().max(1));
            let end = (start..most)
                .find(|row| self.compared(binder, *row) != columns)
                .unwrap_or(most);
            // One that says nothing means nothing.
            if !columns.is_empty() {
                self.execute(connection, &columns, start..end, binder)?;
            }
            start = end;
        }
        Ok(())
    }

    /// The columns that a tombstone compares, by their place among those that can be.
    fn compared(&self, binder: &Binder<'_>, row: usize) -> Vec<usize> {
        (0..self.columns.len())
            .filter(|place| binder.columns[self.columns[*place].0].cell(row) != Cell::Null)
            .collect()
    }

    fn execute(
        &self,
        connection: &Connection,
        places: &[usize],
        rows: Range<usize>,
        binder: &mut Binder<'_>,
    ) -> Result<()> {
        let names: Vec<&str> = places
            .iter()
            .map(|place| self.columns[*place].1.as_str())
            .collect();
        let values =
            vec![format!("({})", vec!["?"; names.len()].join(", ")); rows.len()].join(", ");
        let sql = format!(
            "{} WHERE ({}) IN (VALUES {values})",
            self.sql,
            names.join(", ")
        );
        let mut statement = connection.prepare(&sql).explain(WRITING)?;
        let synced_at = self.synced_at.map(|column| (column, rows.start));
        let compared = rows.flat_map(|row| {
            places
                .iter()
                .map(move |place| (self.columns[*place].0, row))
        });
        for ((column, row), parameter) in synced_at.into_iter().chain(compared).zip(1..) {
            let cell = binder.columns[column].cell(row);
            binder
                .bind(&mut statement, parameter, cell)
                .explain(WRITING)?;
        }
        statement.raw_execute().map(|_| ()).explain(WRITING)
    }
}
