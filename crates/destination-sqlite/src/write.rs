//! Rows: from Arrow columns into statements, without a copy of the batch in between.

use std::ops::Range;

use arrow_array::RecordBatch;
use pipeline_core::cell::{Cell, Column};
use pipeline_core::{DELETED, Generation, Result, SYNCED_AT, Table};
use rusqlite::types::Null;
use rusqlite::{CachedStatement, Connection, Statement};

use crate::config::Deletes;
use crate::error::Explain;
use crate::sweep::Sweep;
use crate::table::{self, Before, ROWID, quote, quote_all};

pub(crate) const WRITING: &str = "writing rows";

/// How rows get into one table.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) name: String,
    /// The highest row number before this transaction, for the next generation. Its rows get numbers of their own, also
    /// when they replace a row, so that those of earlier transactions can be told apart and discarded.
    pub(crate) before: Before,
    /// The table that they are of, when tombstones are to be remembered: those of the next generation.
    next: Option<Table>,
    next_row: Option<i64>,
    /// Of one row: a statement of several keeps a journal of its own of every page that it changes.
    insert: String,
    all: Vec<usize>,
    delete: Option<String>,
    /// Columns of the batch that a tombstone sets: the key and the system columns.
    mark: Option<(String, Vec<usize>)>,
    key: Vec<usize>,
    deleted: Option<usize>,
    /// What a tombstone of many rows does.
    sweep: Option<Sweep>,
}

/// What a row of a batch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Row,
    /// A tombstone with its key.
    Tombstone,
    /// A tombstone of every row that has its values.
    Sweep,
}

impl Writer {
    /// Creates or widens the table, and writes the statements for it.
    pub(crate) fn new(connection: &Connection, table: &Table, deletes: Deletes) -> Result<Self> {
        let physical = table::ensure(connection, table)?;
        let rows = match table.generation {
            Generation::Current => None,
            Generation::Next => Some(table::last_row(connection, &physical.name)?),
        };
        let numbered = rows.is_some();
        let all: Vec<usize> = (0..physical.columns.len()).collect();
        let index = |name: &str| table.schema.index_of(name).ok();
        let key: Vec<usize> = table.primary_key.iter().filter_map(|name| index(name)).collect();
        let marked: Vec<usize> = key.iter().copied().chain([SYNCED_AT, DELETED].iter().filter_map(|name| index(name))).collect();
        let matches: Vec<String> = physical.key.iter().map(|name| format!("{} = ?", quote(name))).collect();
        let tombstones = !key.is_empty();
        Ok(Self {
            insert: insert(&physical, &all, numbered),
            all,
            delete: (tombstones && deletes == Deletes::Remove)
                .then(|| format!("DELETE FROM {} WHERE {}", quote(&physical.name), matches.join(" AND "))),
            mark: (tombstones && deletes == Deletes::Mark).then(|| (insert(&physical, &marked, numbered), marked)),
            sweep: tombstones.then(|| Sweep::new(&physical, table, deletes)),
            name: physical.name,
            next: (numbered && tombstones).then(|| table.clone()),
            next_row: rows.map(|last| last + 1),
            before: Before { rows, gone: None },
            key,
            deleted: index(DELETED),
        })
    }

    /// Writes a batch in its order, so that of rows with one key the last one stays.
    pub(crate) fn write(&mut self, connection: &Connection, batch: &RecordBatch) -> Result<()> {
        let columns = Column::of(batch)?;
        let mut binder = Binder { columns: &columns, text: String::new() };
        let mut start = 0;
        while start < batch.num_rows() {
            let kind = self.kind(&columns, start);
            let end = (start..batch.num_rows()).find(|row| self.kind(&columns, *row) != kind).unwrap_or(batch.num_rows());
            if kind != Kind::Row {
                self.remember_gone(connection, start..end, &mut binder)?;
            }
            match (kind, &self.delete, &self.mark, &self.sweep) {
                (Kind::Sweep, _, _, Some(sweep)) => sweep.run(connection, start..end, &mut binder)?,
                (Kind::Tombstone, Some(delete), ..) => each_row(connection, delete, start..end, &self.key, &mut None, &mut binder)?,
                (Kind::Tombstone, _, Some((mark, marked)), _) => {
                    each_row(connection, mark, start..end, marked, &mut self.next_row, &mut binder)?;
                }
                _ => each_row(connection, &self.insert, start..end, &self.all, &mut self.next_row, &mut binder)?,
            }
            start = end;
        }
        Ok(())
    }

    /// Keeps tombstones of the next generation until it is published.
    fn remember_gone(&mut self, connection: &Connection, rows: Range<usize>, binder: &mut Binder<'_>) -> Result<()> {
        let Some(table) = &self.next else { return Ok(()) };
        let gone = table::ensure_gone(connection, table)?;
        if self.before.gone.is_none() {
            self.before.gone = Some(table::last_row(connection, &gone.name)?);
        }
        each_row(connection, &insert(&gone, &self.all, false), rows, &self.all, &mut None, binder)
    }

    fn kind(&self, columns: &[Column<'_>], row: usize) -> Kind {
        if !self.deleted.is_some_and(|index| columns[index].cell(row) == Cell::Bool(true)) {
            Kind::Row
        } else if self.key.iter().all(|index| columns[*index].cell(row) != Cell::Null) {
            Kind::Tombstone
        } else {
            Kind::Sweep
        }
    }
}

/// Runs a statement once per row.
fn each_row(
    connection: &Connection,
    sql: &str,
    rows: Range<usize>,
    columns: &[usize],
    number: &mut Option<i64>,
    binder: &mut Binder<'_>,
) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).explain(WRITING)?;
    for row in rows {
        binder.bind_row(&mut statement, row, columns, number).explain(WRITING)?;
        statement.raw_execute().explain(WRITING)?;
    }
    Ok(())
}

/// An insert of some columns that replaces their values when the key exists.
fn insert(physical: &table::Physical, columns: &[usize], numbered: bool) -> String {
    let mut names: Vec<String> = columns.iter().map(|index| quote(&physical.columns[*index])).collect();
    if numbered {
        names.insert(0, ROWID.to_owned());
    }
    let values = vec!["?"; names.len()].join(", ");
    let mut sql = format!("INSERT INTO {} ({}) VALUES ({values})", quote(&physical.name), names.join(", "));
    if !physical.key.is_empty() {
        let sets: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        sql = format!("{sql} ON CONFLICT ({}) DO UPDATE SET {}", quote_all(&physical.key), sets.join(", "));
    }
    sql
}

/// Hands the values of a batch to statements.
pub(crate) struct Binder<'a> {
    pub(crate) columns: &'a [Column<'a>],
    text: String,
}

impl Binder<'_> {
    /// Binds a row, after its number if it has one.
    fn bind_row(
        &mut self,
        statement: &mut CachedStatement<'_>,
        row: usize,
        columns: &[usize],
        number: &mut Option<i64>,
    ) -> rusqlite::Result<()> {
        let mut parameter = 1;
        if let Some(number) = number {
            statement.raw_bind_parameter(parameter, *number)?;
            *number += 1;
            parameter += 1;
        }
        for column in columns {
            self.bind(statement, parameter, self.columns[*column].cell(row))?;
            parameter += 1;
        }
        Ok(())
    }

    pub(crate) fn bind(&mut self, statement: &mut Statement<'_>, parameter: usize, cell: Cell<'_>) -> rusqlite::Result<()> {
        match cell {
            Cell::Null => statement.raw_bind_parameter(parameter, Null),
            Cell::Bool(value) => statement.raw_bind_parameter(parameter, value),
            Cell::Int64(value) => statement.raw_bind_parameter(parameter, value),
            Cell::Float64(value) => statement.raw_bind_parameter(parameter, value),
            Cell::String(text) | Cell::Json(text) => statement.raw_bind_parameter(parameter, text),
            Cell::Decimal(..) | Cell::Date(_) | Cell::Timestamp(_) => {
                self.text.clear();
                cell.push_text(&mut self.text);
                statement.raw_bind_parameter(parameter, self.text.as_str())
            }
        }
    }
}
