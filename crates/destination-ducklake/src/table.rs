//! Tables of the lake: their names and columns.

use std::path::{Path, PathBuf};

use arrow_schema::Field;
use destination_sql::{Dialect, column_names, quote, table_names};
use destination_sqlite::bookkeeping::Explain;
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Generation, Table, TableId};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::catalog::{SCHEMA, uuid};
use crate::snapshot::Snapshot;
use crate::types;

const PREPARING: &str = "preparing a table";

/// Only names of tables are made by it: columns are named by [`Lake::column`].
const DIALECT: Dialect = Dialect {
    reserved_tables: &["_pipeline_", "ducklake_"],
    reserved_columns: &[],
    longest_name: usize::MAX,
    column_type: |_| types::TEXT,
    widening: &[],
};

/// A column of a table.
#[derive(Clone, Debug)]
pub(crate) struct LakeColumn {
    pub(crate) id: i64,
    /// Its name in the lake.
    pub(crate) name: String,
    pub(crate) lake_type: String,
    /// The connector's name for it; the lake's when somebody else has added it.
    pub(crate) field: String,
}

impl LakeColumn {
    /// The column as Arrow has it; none: it has a type that somebody else gave it.
    pub(crate) fn field(&self) -> Option<Field> {
        types::field(&self.field, &self.lake_type)
    }
}

/// A table that readers see.
#[derive(Clone, Debug)]
pub(crate) struct LakeTable {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// The folder of its files.
    pub(crate) folder: PathBuf,
    pub(crate) columns: Vec<LakeColumn>,
}

impl LakeTable {
    /// The visible table of a name.
    pub(crate) fn find(connection: &Connection, data: &Path, name: &str) -> Result<Option<Self>> {
        let found: Option<(i64, String, bool)> = connection
            .prepare_cached(
                "SELECT t.table_id, t.path, t.path_is_relative AND s.path_is_relative
                 FROM ducklake_table AS t JOIN ducklake_schema AS s ON s.schema_id = t.schema_id
                 WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND s.schema_name = ?
                     AND t.table_name = ? COLLATE NOCASE",
            )
            .and_then(|mut select| {
                select
                    .query_row([SCHEMA, name], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })
                    .optional()
            })
            .explain(PREPARING)?;
        let Some((id, path, is_relative)) = found else {
            return Ok(None);
        };
        let folder = if is_relative {
            data.join(SCHEMA).join(path)
        } else {
            path.into()
        };
        Ok(Some(Self {
            id,
            name: name.to_owned(),
            folder,
            columns: columns(connection, id)?,
        }))
    }

    /// The column that holds a field.
    pub(crate) fn column(&self, field: &str) -> Option<&LakeColumn> {
        self.columns.iter().find(|column| column.field == field)
    }
}

fn columns(connection: &Connection, table_id: i64) -> Result<Vec<LakeColumn>> {
    connection
        .prepare_cached(
            "SELECT c.column_id, c.column_name, c.column_type, coalesce(ours.field, c.column_name)
             FROM ducklake_column AS c LEFT JOIN _pipeline_columns AS ours
                 ON ours.table_id = c.table_id AND ours.column_id = c.column_id
             WHERE c.table_id = ? AND c.end_snapshot IS NULL AND c.parent_column IS NULL
             ORDER BY c.column_order",
        )
        .and_then(|mut select| {
            let columns = select.query_map([table_id], |row| {
                Ok(LakeColumn {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    lake_type: row.get(2)?,
                    field: row.get(3)?,
                })
            })?;
            columns.collect()
        })
        .explain(PREPARING)
}

/// Creates the table of a stream, or widens it; never drops or narrows a column.
///
/// # Errors
/// [`ErrorKind::Destination`] when somebody has dropped the table and rows are to be added to it.
pub(crate) fn ensure(
    connection: &Connection,
    data: &Path,
    snapshot: &mut Snapshot,
    table: &Table,
) -> Result<LakeTable> {
    let name = name(connection, &table.id())?;
    let mut lake = match LakeTable::find(connection, data, &name)? {
        Some(lake) => lake,
        None if table.generation == Generation::Current && rows(connection, &name)? > 0 => {
            return Err(Error::new(
                ErrorKind::Destination,
                format!("the table `{name}` was dropped by another program"),
            )
            .with_operation(PREPARING)
            .with_help(format!(
                "read it again with `pipeline sync {} --full-refresh --streams {}`",
                table.source, table.stream
            )));
        }
        None => create(connection, data, snapshot, &name)?,
    };
    for field in table.schema.fields() {
        column(connection, snapshot, &mut lake, field)?;
    }
    Ok(lake)
}

fn create(
    connection: &Connection,
    data: &Path,
    snapshot: &mut Snapshot,
    name: &str,
) -> Result<LakeTable> {
    let id = snapshot.catalog_id();
    connection
        .execute(
            "INSERT INTO ducklake_table VALUES (?, ?, ?, NULL, 0, ?, ?, 1)",
            params![
                id,
                uuid(connection).explain(PREPARING)?,
                snapshot.id,
                name,
                format!("{name}/")
            ],
        )
        .explain(PREPARING)?;
    let change = format!("created_table:{}.{}", quote(SCHEMA), quote(name));
    snapshot.alter(connection, id, change)?;
    Ok(LakeTable {
        id,
        name: name.to_owned(),
        folder: data.join(SCHEMA).join(name),
        columns: Vec::new(),
    })
}

/// Adds the column of a field, or gives it a wider type.
fn column(
    connection: &Connection,
    snapshot: &mut Snapshot,
    lake: &mut LakeTable,
    field: &Field,
) -> Result<()> {
    let wanted = types::lake_type(field);
    if let Some(known) = lake
        .columns
        .iter_mut()
        .find(|column| column.field == *field.name())
    {
        let wider = types::wider(&known.lake_type, &wanted);
        // A type that somebody else chose stays.
        if wider != known.lake_type && known.field().is_some() {
            known.lake_type = wider;
            let known = known.clone();
            widen(connection, snapshot, lake.id, &known)?;
        }
        return Ok(());
    }
    let [marked, plain] = column_names(field.name());
    let clashes = lake
        .columns
        .iter()
        .any(|column| column.name.eq_ignore_ascii_case(&plain));
    let id: i64 = connection
        .query_row(
            "SELECT coalesce(max(column_id), 0) + 1 FROM ducklake_column WHERE table_id = ?",
            [lake.id],
            |row| row.get(0),
        )
        .explain(PREPARING)?;
    let column = LakeColumn {
        id,
        name: if clashes { marked } else { plain },
        lake_type: wanted,
        field: field.name().clone(),
    };
    insert_column(connection, snapshot, lake.id, &column)?;
    connection
        .execute(
            "INSERT INTO _pipeline_columns VALUES (?, ?, ?)",
            params![lake.id, id, column.field],
        )
        .explain(PREPARING)?;
    lake.columns.push(column);
    Ok(())
}

fn insert_column(
    connection: &Connection,
    snapshot: &mut Snapshot,
    table_id: i64,
    column: &LakeColumn,
) -> Result<()> {
    connection
        .execute(
            "INSERT INTO ducklake_column VALUES (?1, ?2, NULL, ?3, ?1, ?4, ?5, NULL, 'NULL', 1, NULL, 'literal', 'duckdb')",
            params![column.id, snapshot.id, table_id, column.name, column.lake_type],
        )
        .explain(PREPARING)?;
    let is_new: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM ducklake_table WHERE table_id = ? AND begin_snapshot = ?)",
            [table_id, snapshot.id],
            |row| row.get(0),
        )
        .explain(PREPARING)?;
    if is_new {
        return Ok(());
    }
    snapshot.alter(connection, table_id, format!("altered_table:{table_id}"))
}

/// Gives a column another type. What is stored of its values was compared by the earlier one.
fn widen(
    connection: &Connection,
    snapshot: &mut Snapshot,
    table_id: i64,
    column: &LakeColumn,
) -> Result<()> {
    let ended = connection
        .execute(
            "UPDATE ducklake_column SET end_snapshot = ? WHERE table_id = ? AND column_id = ?
                 AND end_snapshot IS NULL AND begin_snapshot < ?1",
            params![snapshot.id, table_id, column.id],
        )
        .explain(PREPARING)?;
    if ended > 0 {
        insert_column(connection, snapshot, table_id, column)?;
    } else {
        connection
            .execute(
                "UPDATE ducklake_column SET column_type = ? WHERE table_id = ? AND column_id = ? AND end_snapshot IS NULL",
                params![column.lake_type, table_id, column.id],
            )
            .explain(PREPARING)?;
    }
    for stats in ["ducklake_file_column_stats", "ducklake_table_column_stats"] {
        let sql = format!(
            "UPDATE {stats} SET min_value = NULL, max_value = NULL WHERE table_id = ? AND column_id = ?"
        );
        connection
            .execute(&sql, [table_id, column.id])
            .explain(PREPARING)?;
    }
    Ok(())
}

/// The table of a stream, given once and kept.
fn name(connection: &Connection, id: &TableId) -> Result<String> {
    if let Some(name) = known_name(connection, id)? {
        return Ok(name);
    }
    let [marked, plain] = table_names(id, &DIALECT);
    let taken =
        "SELECT EXISTS (SELECT 1 FROM ducklake_table WHERE table_name = ?1 COLLATE NOCASE AND end_snapshot IS NULL)
             OR EXISTS (SELECT 1 FROM ducklake_view WHERE view_name = ?1 COLLATE NOCASE AND end_snapshot IS NULL)
             OR EXISTS (SELECT 1 FROM _pipeline_tables WHERE name = ?1 COLLATE NOCASE)";
    let taken: bool = connection
        .query_row(taken, [&plain], |row| row.get(0))
        .explain(PREPARING)?;
    let name = if taken { marked } else { plain };
    connection
        .execute(
            "INSERT INTO _pipeline_tables (source, stream, name) VALUES (?, ?, ?)",
            [&id.source, &id.stream, &name],
        )
        .explain(PREPARING)?;
    Ok(name)
}

/// The name of a stream's table; none: it never had one.
pub(crate) fn known_name(connection: &Connection, id: &TableId) -> Result<Option<String>> {
    connection
        .prepare_cached("SELECT name FROM _pipeline_tables WHERE source = ? AND stream = ?")
        .and_then(|mut select| {
            select
                .query_row([&id.source, &id.stream], |row| row.get(0))
                .optional()
        })
        .explain(PREPARING)
}

/// The rows that were committed to a table.
pub(crate) fn rows(connection: &Connection, name: &str) -> Result<i64> {
    connection
        .query_row(
            "SELECT coalesce(rows, 0) FROM _pipeline_tables WHERE name = ?",
            [name],
            |row| row.get(0),
        )
        .explain(PREPARING)
}

/// Stores how many rows a table has.
pub(crate) fn store_rows(connection: &Connection, name: &str, rows: i64) -> Result<()> {
    connection
        .execute(
            "UPDATE _pipeline_tables SET rows = ? WHERE name = ?",
            params![rows, name],
        )
        .explain(PREPARING)
        .map(drop)
}

/// Every table of a stream, with its name.
pub(crate) fn all(connection: &Connection) -> Result<Vec<(TableId, String)>> {
    connection
        .prepare_cached("SELECT source, stream, name FROM _pipeline_tables ORDER BY source, stream")
        .and_then(|mut select| {
            let tables = select.query_map([], |row| {
                let id = TableId {
                    source: row.get(0)?,
                    stream: row.get(1)?,
                };
                Ok((id, row.get(2)?))
            })?;
            tables.collect()
        })
        .explain("listing the tables")
}

/// The rows that readers see in a table, counted by the catalogue.
pub(crate) fn visible_rows(connection: &Connection, table_id: i64) -> Result<i64> {
    connection
        .prepare_cached(
            "SELECT (SELECT coalesce(sum(record_count), 0) FROM ducklake_data_file WHERE table_id = ?1 AND end_snapshot IS NULL)
                  - (SELECT coalesce(sum(delete_count), 0) FROM ducklake_delete_file WHERE table_id = ?1 AND end_snapshot IS NULL)",
        )
        .and_then(|mut select| select.query_row([table_id], |row| row.get(0)))
        .explain("counting rows")
}
