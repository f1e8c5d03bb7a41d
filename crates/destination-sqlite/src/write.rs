//! Rows: from Arrow columns into statements, without a copy of the batch in between.

use std::ops::Range;

use arrow_array::RecordBatch;
use destination_sql::Deletes;
use destination_sql::RowKind;
use destination_sql::Tombstones;
use destination_sql::quote;
use destination_sql::upsert;
use pipeline_core::Result;
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, Generation, Refused, SYNCED_AT, Table};
use rusqlite::types::Null;
use rusqlite::{CachedStatement, Connection, ErrorCode, Statement};

use crate::error::Explain;
use crate::sweep::Sweep;
use crate::table;
use crate::table::{Before, ROWID};

pub(crate) const WRITING: &str = "writing rows";

/// How rows get into one table.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) name: String,
    /// The highest row number before this transaction, for the next generation. Its rows get
    /// numbers of their own, also when they replace a row, so that those of earlier transactions
    /// can be recognized and discarded.
    pub(crate) before: Before,
    /// The table that they are of, when tombstones are to be remembered: those of the next
    /// generation.
    next: Option<Table>,
    next_row: Option<i64>,
    /// Of one row: a statement of several keeps a journal of its own of every page that it changes.
    insert: String,
    all: Vec<usize>,
    delete: Option<String>,
    /// Columns of the batch that a tombstone sets: the key and the system columns.
    mark: Option<(String, Vec<usize>)>,
    tombstones: Tombstones,
    /// What a tombstone of many rows does.
    sweep: Option<Sweep>,
    /// How to find out whether a row is there after it was written; none: nothing else happens when
    /// it is.
    watch: Option<Watch>,
}

/// Triggers that somebody added to a table: they may leave out a row, or remove it as soon as it is
/// there.
#[derive(Debug)]
struct Watch {
    /// Whether there is a row of a number.
    exists: String,
    /// Why a row is refused that is not there.
    reason: String,
}

impl Watch {
    fn of(connection: &Connection, name: &str) -> Result<Option<Self>> {
        let triggers: Vec<String> = connection
            .prepare_cached(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE \
                 NOCASE ORDER BY name",
            )
            .and_then(|mut select| select.query_map([name], |row| row.get(0))?.collect())
            .explain(WRITING)?;
        let names: Vec<String> = triggers.iter().map(|name| format!("`{name}`")).collect();
        Ok((!names.is_empty()).then(|| Self {
            exists: format!("SELECT 1 FROM {} WHERE {ROWID} = ?", quote(name)),
            reason: format!(
                "a trigger that was added to the table left the row out, or removed it: {}",
                names.join(", ")
            ),
        }))
    }
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
        let tombstones = Tombstones::of(table);
        let marked: Vec<usize> = tombstones
            .key()
            .iter()
            .copied()
            .chain([SYNCED_AT, DELETED].iter().filter_map(|name| index(name)))
            .collect();
        let matches: Vec<String> = physical
            .key
            .iter()
            .map(|name| format!("{} = ?", quote(name)))
            .collect();
        let has_tombstones = !tombstones.key().is_empty();
        let watch = Watch::of(connection, &physical.name)?;
        let is_watched = watch.is_some();
        Ok(Self {
            insert: insert(&physical, &all, numbered, is_watched),
            all,
            delete: (has_tombstones && deletes == Deletes::Remove).then(|| {
                format!(
                    "DELETE FROM {} WHERE {}",
                    quote(&physical.name),
                    matches.join(" AND ")
                )
            }),
            mark: (has_tombstones && deletes == Deletes::Mark)
                .then(|| (insert(&physical, &marked, numbered, is_watched), marked)),
            sweep: has_tombstones.then(|| Sweep::new(&physical, table, deletes)),
            name: physical.name,
            next: (numbered && has_tombstones).then(|| table.clone()),
            next_row: rows.map(|last| last + 1),
            before: Before { rows, gone: None },
            tombstones,
            watch,
        })
    }

    /// Writes a batch in its order, so that of rows with one key the last one stays. Returns the
    /// rows that the database refuses, because of an index or a trigger that somebody added; all
    /// others are written.
    pub(crate) fn write(
        &mut self,
        connection: &Connection,
        batch: &RecordBatch,
    ) -> Result<Vec<Refused>> {
        let columns = Column::of(batch)?;
        let mut binder = Binder {
            columns: &columns,
            text: String::new(),
            refused: Vec::new(),
        };
        let runs: Vec<_> = self.tombstones.runs(&columns, batch.num_rows()).collect();
        for (kind, rows) in runs {
            if kind != RowKind::Row {
                self.remember_gone(connection, rows.clone(), &mut binder)?;
            }
            match (kind, &self.delete, &self.mark, &self.sweep) {
                (RowKind::Sweep, _, _, Some(sweep)) => sweep.run(connection, rows, &mut binder)?,
                (RowKind::Tombstone, Some(delete), ..) => {
                    each_row(
                        connection,
                        delete,
                        rows,
                        self.tombstones.key(),
                        &mut None,
                        None,
                        &mut binder,
                    )?;
                }
                (RowKind::Tombstone, _, Some((mark, marked)), _) => {
                    each_row(
                        connection,
                        mark,
                        rows,
                        marked,
                        &mut self.next_row,
                        self.watch.as_ref(),
                        &mut binder,
                    )?;
                }
                _ => each_row(
                    connection,
                    &self.insert,
                    rows,
                    &self.all,
                    &mut self.next_row,
                    self.watch.as_ref(),
                    &mut binder,
                )?,
            }
        }
        Ok(binder.refused)
    }

    /// Keeps tombstones of the next generation until it is published.
    fn remember_gone(
        &mut self,
        connection: &Connection,
        rows: Range<usize>,
        binder: &mut Binder<'_>,
    ) -> Result<()> {
        let Some(table) = &self.next else {
            return Ok(());
        };
        let gone = table::ensure_gone(connection, table)?;
        if self.before.gone.is_none() {
            self.before.gone = Some(table::last_row(connection, &gone.name)?);
        }
        each_row(
            connection,
            &insert(&gone, &self.all, false, false),
            rows,
            &self.all,
            &mut None,
            None,
            binder,
        )
    }
}

/// Runs a statement once per row. One that is watched returns the number of the row that it wrote.
fn each_row(
    connection: &Connection,
    sql: &str,
    rows: Range<usize>,
    columns: &[usize],
    number: &mut Option<i64>,
    watch: Option<&Watch>,
    binder: &mut Binder<'_>,
) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).explain(WRITING)?;
    let mut watch = match watch {
        Some(watch) => Some((
            connection.prepare_cached(&watch.exists).explain(WRITING)?,
            &watch.reason,
        )),
        None => None,
    };
    for row in rows {
        binder
            .bind_row(&mut statement, row, columns, number)
            .explain(WRITING)?;
        let written = match &mut watch {
            None => statement.raw_execute().map(|_| None),
            Some((exists, reason)) => is_written(&mut statement, exists)
                .map(|is_written| (!is_written).then_some(&**reason)),
        };
        match written {
            Ok(None) => {}
            Ok(Some(reason)) => binder.refused.push(Refused {
                row,
                reason: reason.clone(),
            }),
            // The statement left nothing behind, and the transaction continues, unless a trigger
            // has ended it.
            Err(error) if is_of_row(&error) && !connection.is_autocommit() => {
                binder.refused.push(Refused {
                    row,
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error).explain(WRITING),
        }
    }
    Ok(())
}

/// Writes a row, and returns whether it is there when all triggers are done.
fn is_written(statement: &mut Statement<'_>, exists: &mut Statement<'_>) -> rusqlite::Result<bool> {
    let mut written = statement.raw_query();
    let mut number: Option<i64> = None;
    while let Some(row) = written.next()? {
        number = Some(row.get(0)?);
    }
    number.map_or(Ok(false), |number| exists.exists([number]))
}

/// True when the database refuses this row and would take another.
pub(crate) fn is_of_row(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
    )
}

/// An insert of some columns that replaces their values when the key exists. It returns the row's
/// number when that is wanted.
fn insert(
    physical: &table::Physical,
    columns: &[usize],
    numbered: bool,
    returning: bool,
) -> String {
    let mut names: Vec<String> = columns
        .iter()
        .map(|index| quote(&physical.columns[*index]))
        .collect();
    if numbered {
        names.insert(0, ROWID.to_owned());
    }
    let mut sql = upsert(&physical.name, &names, &physical.key, |_| "?".to_owned());
    if returning {
        sql = format!("{sql} RETURNING {ROWID}");
    }
    sql
}

/// Hands the values of a batch to statements.
pub(crate) struct Binder<'a> {
    pub(crate) columns: &'a [Column<'a>],
    text: String,
    /// Rows that the database has refused.
    refused: Vec<Refused>,
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

    pub(crate) fn bind(
        &mut self,
        statement: &mut Statement<'_>,
        parameter: usize,
        cell: Cell<'_>,
    ) -> rusqlite::Result<()> {
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
