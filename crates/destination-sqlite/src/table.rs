//! Tables: their names, their columns, and the generation that waits to take their place.

use arrow_schema::DataType;
use destination_sql::Columns;
use destination_sql::Dialect;
use destination_sql::column_names;
use destination_sql::quote;
use destination_sql::quote_all;
use destination_sql::table_names;
use pipeline_core::{Error, ErrorKind, Result, failpoint};
use pipeline_engine::{Generation, Keep, SYNCED_AT, Table, TableId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::carry::carry;
use crate::columns;
use crate::count::{LOST, accept, correct, count, exists};
use crate::error::Explain;
use crate::write::is_of_row;

const PREPARING: &str = "preparing a table";
pub(crate) const PUBLISHING: &str = "publishing a table";

/// A table as it is in the database, matched with the columns of a batch.
#[derive(Debug)]
pub(crate) struct Physical {
    /// Its name.
    pub(crate) name: String,
    /// For each column of the batch, the table's.
    pub(crate) columns: Vec<String>,
    /// Columns of the table that identify a row; empty: none do.
    pub(crate) key: Vec<String>,
}

/// Name, columns with their types, and the unique constraint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) columns: Vec<(String, String)>,
    key: Vec<String>,
}

impl Shape {
    /// True when rows replace each other.
    pub(crate) fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// The column that holds a field.
    pub(crate) fn column(&self, field: &str) -> Option<&String> {
        let candidates = column_names(field);
        candidates.iter().find_map(|name| {
            self.columns
                .iter()
                .map(|(column, _)| column)
                .find(|column| *column == name)
        })
    }
}

/// Creates the visible table of a stream, or widens it. One that is being refreshed is left as it
/// is: the next generation, which takes its place, is made when it gets its first row. So is one
/// that was damaged from outside: it fails writes.
pub(crate) fn prepare(connection: &Connection, table: &Table) -> Result<()> {
    let visible = name(connection, &table.id())?;
    if columns::damage(connection, &table.id(), &visible)?.is_some() {
        return Ok(());
    }
    if table.generation == Generation::Current || shape(connection, &visible)?.is_none() {
        ensure_as(
            connection,
            table,
            visible.clone(),
            &visible,
            &table.primary_key,
        )?;
    }
    Ok(())
}

/// Creates the table of a generation, or widens it; never drops or narrows a column.
pub(crate) fn ensure(connection: &Connection, table: &Table) -> Result<Physical> {
    let visible = name(connection, &table.id())?;
    let target = match table.generation {
        Generation::Current => {
            columns::check(connection, &table.id(), &visible)?;
            visible.clone()
        }
        Generation::Next => {
            columns::check_place(connection, &table.id(), &visible)?;
            next_name(&visible)
        }
    };
    ensure_as(connection, table, target, &visible, &table.primary_key)
}

/// Creates or widens the table that holds the tombstones of the next generation.
pub(crate) fn ensure_gone(connection: &Connection, table: &Table) -> Result<Physical> {
    let visible = name(connection, &table.id())?;
    ensure_as(connection, table, gone_name(&visible), &visible, &[])
}

fn ensure_as(
    connection: &Connection,
    table: &Table,
    target: String,
    visible: &str,
    key: &[String],
) -> Result<Physical> {
    let present = shape(connection, &target)?;
    let known = match &present {
        Some(shape) => shape.clone(),
        None => shape(connection, visible)?.unwrap_or_default(),
    };
    let Columns {
        all: columns,
        of_fields: names,
    } = DIALECT.widen(known.columns, table.schema.fields());
    let position = |key: &String| table.schema.index_of(key).map(|index| names[index].clone());
    let key = key
        .iter()
        .map(position)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            Error::new(
                ErrorKind::Unexpected,
                "a key column is not among the table's columns",
            )
            .with_source(error)
            .with_operation(PREPARING)
        })?;
    let wanted = Shape { columns, key };
    match present {
        None => {
            create(connection, &target, &wanted)?;
            if target == next_name(visible) {
                guard(connection, visible, &target)?;
            }
        }
        Some(present) => migrate(connection, &target, &present, &wanted)?,
    }
    if target == visible {
        columns::register(connection, visible, &names)?;
    }
    Ok(Physical {
        name: target,
        columns: names,
        key: wanted.key,
    })
}

/// The table of a stream, given once and kept.
fn name(connection: &Connection, id: &TableId) -> Result<String> {
    if let Some(name) = known_name(connection, id)? {
        return Ok(name);
    }
    let [marked, plain] = table_names(id, &DIALECT);
    let taken = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1 COLLATE NOCASE)
                     OR EXISTS (SELECT 1 FROM _pipeline_tables WHERE name = ?1 COLLATE NOCASE)";
    let taken: bool = connection
        .query_row(taken, [&plain], |row| row.get(0))
        .explain(PREPARING)?;
    let name = if taken { marked } else { plain };
    let insert = "INSERT INTO _pipeline_tables (source, stream, name) VALUES (?, ?, ?)";
    connection
        .execute(insert, [&id.source, &id.stream, &name])
        .explain(PREPARING)?;
    Ok(name)
}

fn known_name(connection: &Connection, id: &TableId) -> Result<Option<String>> {
    let select = "SELECT name FROM _pipeline_tables WHERE source = ? AND stream = ?";
    connection
        .query_row(select, [&id.source, &id.stream], |row| row.get(0))
        .optional()
        .explain(PREPARING)
}

/// Registers the table of a stream that was registered before. What it should hold is lost with its
/// entry, when rows were ever written to it; and when this crate has no table with its
/// name, so is the table.
pub(crate) fn register_again(
    connection: &Connection,
    id: &TableId,
    was_written: bool,
) -> Result<()> {
    for name in table_names(id, &DIALECT) {
        if shape(connection, &name)?.is_some_and(|shape| shape.column(SYNCED_AT).is_some()) {
            let has_rows = exists(connection, &name)? && last_row(connection, &name)? > 0;
            let rows = (was_written || has_rows).then_some(LOST);
            let sql = "INSERT OR IGNORE INTO _pipeline_tables (source, stream, name, rows, next_rows) VALUES (?, ?, ?, ?, NULL)";
            if connection
                .execute(sql, params![id.source, id.stream, name, rows])
                .explain(PREPARING)?
                > 0
            {
                return Ok(());
            }
        }
    }
    let name = name(connection, id)?;
    connection
        .execute(
            "UPDATE _pipeline_tables SET rows = ? WHERE name = ?",
            params![LOST, name],
        )
        .explain(PREPARING)
        .map(drop)
}

/// What the name of a next generation begins with.
pub(crate) const NEXT: &str = "_pipeline_next_";

/// Where the next generation of a table is collected.
pub(crate) fn next_name(visible: &str) -> String {
    format!("{NEXT}{visible}")
}

/// Where tombstones of the next generation are collected: they count for the rows that are carried
/// into it as well.
pub(crate) fn gone_name(visible: &str) -> String {
    format!("_pipeline_gone_{visible}")
}

/// The row number's name, which no column of a batch gets.
pub(crate) const ROWID: &str = "_rowid_";

/// What differs between SQLite and others. An integer column keeps fractions, a real one loses
/// digits.
const DIALECT: Dialect = Dialect {
    reserved_tables: &["sqlite_", "_pipeline_"],
    reserved_columns: &[ROWID],
    longest_name: usize::MAX,
    column_type: |field| match field.data_type() {
        DataType::Boolean | DataType::Int64 => "INTEGER",
        DataType::Float64 => "REAL",
        _ => "TEXT",
    },
    widening: &[&["REAL", "INTEGER", "TEXT"]],
};

pub(crate) fn shape(connection: &Connection, name: &str) -> Result<Option<Shape>> {
    let strings = |sql: &str| -> rusqlite::Result<Vec<(String, String)>> {
        connection
            .prepare_cached(sql)?
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    };
    let columns =
        strings("SELECT name, type FROM pragma_table_info(?) ORDER BY cid").explain(PREPARING)?;
    if columns.is_empty() {
        return Ok(None);
    }
    let key = strings(
        "SELECT i.name, l.name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i WHERE l.origin = 'u' ORDER BY i.seqno",
    )
    .explain(PREPARING)?;
    Ok(Some(Shape {
        columns,
        key: key.into_iter().map(|(column, _)| column).collect(),
    }))
}

pub(crate) fn create(connection: &Connection, name: &str, shape: &Shape) -> Result<()> {
    let mut parts: Vec<String> = shape
        .columns
        .iter()
        .map(|(column, affinity)| format!("{} {affinity}", quote(column)))
        .collect();
    if !shape.key.is_empty() {
        parts.push(format!("UNIQUE ({})", quote_all(&shape.key)));
    }
    connection
        .execute_batch(&format!(
            "CREATE TABLE {} ({})",
            quote(name),
            parts.join(", ")
        ))
        .explain(PREPARING)
}

/// What the names of indexes begin with that stand for those of the visible table while its next
/// generation is filled.
const UNIQUE: &str = "_pipeline_unique_";

/// Lets the next generation refuse the rows that unique indexes of the visible table would: one by
/// one, as they are written, and not all of them when the table is published. Indexes on
/// expressions or on a part of the rows are not among these.
fn guard(connection: &Connection, visible: &str, next: &str) -> Result<()> {
    let indexes: Vec<String> = connection
        .prepare_cached("SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND origin = 'c' AND NOT partial")
        .and_then(|mut select| select.query_map([visible], |row| row.get(0))?.collect())
        .explain(PREPARING)?;
    for (number, index) in indexes.iter().enumerate() {
        let columns: Vec<(Option<String>, String)> = connection
            .prepare_cached("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno")
            .and_then(|mut select| {
                select
                    .query_map([index], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .explain(PREPARING)?;
        let column = |(name, collation): &(Option<String>, String)| {
            Some(format!(
                "{} COLLATE {}",
                quote(name.as_ref()?),
                quote(collation)
            ))
        };
        if let Some(columns) = columns.iter().map(column).collect::<Option<Vec<_>>>() {
            let name = quote(&format!("{UNIQUE}{number}_{visible}"));
            let sql = format!(
                "CREATE UNIQUE INDEX {name} ON {} ({})",
                quote(next),
                columns.join(", ")
            );
            connection.execute_batch(&sql).explain(PREPARING)?;
        }
    }
    Ok(())
}

/// Drops what [`guard`] made, when the indexes that it stands for take its place.
fn unguard(connection: &Connection, name: &str, operation: &'static str) -> Result<()> {
    let indexes: Vec<String> = connection
        .prepare_cached(
            "SELECT name FROM pragma_index_list(?) WHERE substr(name, 1, length(?)) = ?2",
        )
        .and_then(|mut select| {
            select
                .query_map([name, UNIQUE], |row| row.get(0))?
                .collect()
        })
        .explain(operation)?;
    indexes.iter().try_for_each(|index| {
        connection
            .execute_batch(&format!("DROP INDEX {}", quote(index)))
            .explain(operation)
    })
}

/// Adds columns; when the key or a column's type changed, copies the table into one that fits.
fn migrate(connection: &Connection, name: &str, present: &Shape, wanted: &Shape) -> Result<()> {
    let added = &wanted.columns[present.columns.len()..];
    if present.key == wanted.key && wanted.columns.starts_with(&present.columns) {
        return added.iter().try_for_each(|(column, affinity)| {
            let sql = format!(
                "ALTER TABLE {} ADD COLUMN {} {affinity}",
                quote(name),
                quote(column)
            );
            connection.execute_batch(&sql).explain(PREPARING)
        });
    }
    let copy = "_pipeline_copy";
    create(connection, copy, wanted)?;
    let columns = quote_all(present.columns.iter().map(|(column, _)| column));
    let sql = format!(
        "INSERT OR REPLACE INTO {copy} ({ROWID}, {columns}) SELECT {ROWID}, {columns} FROM {} ORDER BY {ROWID}",
        quote(name)
    );
    connection.execute_batch(&sql).explain(PREPARING)?;
    correct(
        connection,
        name,
        count(connection, copy)? - count(connection, name)?,
    )?;
    replace(connection, name, copy, PREPARING)
}

/// Puts one table in another's place, with the indexes and triggers that somebody added to the old
/// one.
fn replace(connection: &Connection, old: &str, new: &str, operation: &'static str) -> Result<()> {
    let added: Vec<(String, String)> = connection
        .prepare_cached("SELECT name, sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL")
        .and_then(|mut select| select.query_map([old], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .explain(operation)?;
    connection
        .execute_batch(&format!("DROP TABLE IF EXISTS {}", quote(old)))
        .explain(operation)?;
    failpoint("sqlite-replacing-table");
    connection
        .execute_batch(&format!(
            "ALTER TABLE {} RENAME TO {}",
            quote(new),
            quote(old)
        ))
        .explain(operation)?;
    added.iter().try_for_each(|(name, sql)| match connection.execute_batch(sql) {
        Err(error) if is_of_row(&error) => Err(Error::new(
            ErrorKind::Destination,
            format!("the index `{name}`, which was added to `{old}`, does not allow the rows that are to replace it"),
        )
        .with_operation(operation)
        .with_help("drop the index, or make it one that is not unique, then run again; until then the table keeps its earlier rows")
        .with_source(error)),
        done => done.explain(operation),
    })
}

/// The highest row number of a table; rows that come later have a higher one.
pub(crate) fn last_row(connection: &Connection, name: &str) -> Result<i64> {
    let sql = format!("SELECT coalesce(max({ROWID}), 0) FROM {}", quote(name));
    connection
        .query_row(&sql, [], |row| row.get(0))
        .explain(PREPARING)
}

/// The highest row numbers of a next generation before the open transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    /// Of its rows; none: this transaction wrote none.
    pub(crate) rows: Option<i64>,
    /// Of its tombstones.
    pub(crate) gone: Option<i64>,
}

/// Drops what earlier transactions collected of the next generation. `before` returns, by the name
/// of the table, what was there before this transaction.
pub(crate) fn discard(
    connection: &Connection,
    id: &TableId,
    before: impl Fn(&str) -> Before,
) -> Result<()> {
    let Some(visible) = known_name(connection, id)? else {
        return Ok(());
    };
    let (next, gone) = (next_name(&visible), gone_name(&visible));
    let before = before(&next);
    for (name, last) in [(next, before.rows), (gone, before.gone)] {
        let sql = match last {
            Some(last) => format!("DELETE FROM {} WHERE {ROWID} <= {last}", quote(&name)),
            None => format!("DROP TABLE IF EXISTS {}", quote(&name)),
        };
        connection.execute_batch(&sql).explain(PUBLISHING)?;
    }
    // What is about to be replaced is not missed any more.
    accept(connection, &visible)
}

/// Puts the next generation in the visible one's place, with the rows that are carried over; when
/// nothing was collected, only those are left.
pub(crate) fn publish(connection: &Connection, id: &TableId, keep: &[Keep]) -> Result<()> {
    let Some(visible) = known_name(connection, id)? else {
        return Ok(());
    };
    columns::check_place(connection, id, &visible)?;
    carry(
        connection,
        &visible,
        keep.iter().filter(|keep| keep.table == *id),
    )?;
    let next = next_name(&visible);
    match (shape(connection, &next)?, shape(connection, &visible)?) {
        (Some(new), old) => {
            unguard(connection, &next, PUBLISHING)?;
            replace(connection, &visible, &next, PUBLISHING)?;
            // Columns that somebody added to the visible table were taken over; those that are new
            // are ours.
            let is_new = |name: &String| {
                old.as_ref()
                    .is_none_or(|old| old.columns.iter().all(|(column, _)| column != name))
            };
            let added: Vec<String> = new
                .columns
                .into_iter()
                .map(|(name, _)| name)
                .filter(is_new)
                .collect();
            columns::register(connection, &visible, &added)?;
        }
        (None, Some(_)) => connection
            .execute_batch(&format!("DELETE FROM {}", quote(&visible)))
            .explain(PUBLISHING)?,
        (None, None) => {}
    }
    connection
        .execute_batch(&format!(
            "DROP TABLE IF EXISTS {}",
            quote(&gone_name(&visible))
        ))
        .explain(PUBLISHING)?;
    accept(connection, &visible)
}

/// Every table of a stream, with its name in the database.
pub(crate) fn all(connection: &Connection) -> Result<Vec<(TableId, String)>> {
    connection
        .prepare_cached("SELECT source, stream, name FROM _pipeline_tables ORDER BY source, stream")
        .and_then(|mut select| {
            select
                .query_map([], |row| {
                    Ok((
                        TableId {
                            source: row.get(0)?,
                            stream: row.get(1)?,
                        },
                        row.get(2)?,
                    ))
                })?
                .collect()
        })
        .explain("listing the tables")
}

/// Visible rows, per table.
pub(crate) fn row_counts(connection: &Connection) -> Result<Vec<(TableId, u64)>> {
    let mut counts = Vec::new();
    for (id, name) in all(connection)? {
        if shape(connection, &name)?.is_some() {
            let sql = format!("SELECT count(*) FROM {}", quote(&name));
            let count: i64 = connection
                .query_row(&sql, [], |row| row.get(0))
                .explain("counting rows")?;
            counts.push((id, count.unsigned_abs()));
        }
    }
    Ok(counts)
}
