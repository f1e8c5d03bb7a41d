//! The files of a generation: those that hold its rows, and which of their rows are deleted.

use std::collections::HashSet;
use std::path::PathBuf;

use destination_sqlite::bookkeeping::{Explain, json};
use pipeline_core::{Error, ErrorKind, Result, failpoint};
use rusqlite::{Connection, params};

use crate::data_file::Written;
use crate::delete_file;
use crate::lake::Work;
use crate::stats::{Described, wider};
use crate::table::{LakeTable, store_rows, visible_rows};

const STORING: &str = "storing data files";

/// A data file that holds rows of a generation.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// This crate's number of it.
    pub(crate) file: i64,
    /// Its path below the table's folder, or an absolute one.
    pub(crate) path: String,
    pub(crate) records: i64,
    /// The catalogue's number of it; none: nobody sees it yet.
    pub(crate) data_file_id: Option<i64>,
}

impl Stored {
    pub(crate) fn path(&self, table: &LakeTable) -> PathBuf {
        table.folder.join(&self.path)
    }
}

/// Registers a new file, and returns its number.
pub(crate) fn add(connection: &Connection, name: &str, next: bool, path: &str) -> Result<i64> {
    connection
        .prepare_cached("INSERT INTO _pipeline_files (name, next, path) VALUES (?, ?, ?)")
        .and_then(|mut insert| insert.insert(params![name, next, path]))
        .explain(STORING)
}

/// Stores what a file is that is complete.
pub(crate) fn complete(connection: &Connection, file: i64, written: &Written) -> Result<()> {
    connection
        .prepare_cached("UPDATE _pipeline_files SET records = ?, described = ? WHERE file = ?")
        .and_then(|mut update| update.execute(params![written.rows, json(written), file]))
        .explain(STORING)
        .map(drop)
}

/// Forgets a file.
pub(crate) fn forget(connection: &Connection, file: i64) -> Result<()> {
    for sql in [
        "DELETE FROM _pipeline_files WHERE file = ?",
        "DELETE FROM _pipeline_deleted WHERE file = ?",
    ] {
        connection
            .prepare_cached(sql)
            .and_then(|mut delete| delete.execute([file]))
            .explain(STORING)?;
    }
    Ok(())
}

/// The files of a generation, in the order in which they were written.
pub(crate) fn list(connection: &Connection, name: &str, next: bool) -> Result<Vec<Stored>> {
    connection
        .prepare_cached(
            "SELECT file, path, records, data_file_id FROM _pipeline_files WHERE name = ? AND next = ? ORDER BY file",
        )
        .and_then(|mut select| {
            let files = select.query_map(params![name, next], |row| {
                Ok(Stored {
                    file: row.get(0)?,
                    path: row.get(1)?,
                    records: row.get(2)?,
                    data_file_id: row.get(3)?,
                })
            })?;
            files.collect()
        })
        .explain(STORING)
}

/// Deletes a row of a file.
pub(crate) fn delete_row(
    connection: &Connection,
    work: &mut Work,
    file: i64,
    row: i64,
) -> Result<()> {
    work.touched.insert(file);
    connection
        .prepare_cached("INSERT OR IGNORE INTO _pipeline_deleted VALUES (?, ?)")
        .and_then(|mut insert| insert.execute([file, row]))
        .explain(STORING)
        .map(drop)
}

/// The rows of a file that are deleted.
pub(crate) fn deleted(connection: &Connection, file: i64) -> Result<HashSet<i64>> {
    connection
        .prepare_cached("SELECT row FROM _pipeline_deleted WHERE file = ?")
        .and_then(|mut select| select.query_map([file], |row| row.get(0))?.collect())
        .explain(STORING)
}

/// Shows what the transaction has written to a table: its new files, and the rows of others that are
/// deleted.
pub(crate) fn show(connection: &Connection, work: &mut Work, table: &LakeTable) -> Result<()> {
    for stored in list(connection, &table.name, false)? {
        let is_new = stored.data_file_id.is_none();
        if !is_new && !work.touched.contains(&stored.file) {
            continue;
        }
        let deleted: i64 = connection
            .query_row(
                "SELECT count(*) FROM _pipeline_deleted WHERE file = ?",
                [stored.file],
                |row| row.get(0),
            )
            .explain(STORING)?;
        if deleted >= stored.records {
            match stored.data_file_id {
                Some(id) => hide_file(connection, work, table, id)?,
                None => work.needless.push(stored.path(table)),
            }
            forget(connection, stored.file)?;
            continue;
        }
        let id = match stored.data_file_id {
            Some(id) => id,
            None => show_file(connection, work, table, &stored)?,
        };
        if deleted > 0 {
            write_deletes(connection, work, table, &stored, id)?;
        }
    }
    store_rows(connection, &table.name, visible_rows(connection, table.id)?)
}

/// Adds a file to the catalogue, and returns its number there.
fn show_file(
    connection: &Connection,
    work: &mut Work,
    table: &LakeTable,
    stored: &Stored,
) -> Result<i64> {
    let described: Option<String> = connection
        .query_row(
            "SELECT described FROM _pipeline_files WHERE file = ?",
            [stored.file],
            |row| row.get(0),
        )
        .explain(STORING)?;
    let written: Written =
        serde_json::from_str(&described.unwrap_or_default()).map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                "the description of a data file is damaged",
            )
            .with_operation(STORING)
            .with_help("restore the catalogue from a backup, or run with --full-refresh")
            .with_source(error)
        })?;
    let id = work.snapshot.file_id();
    connection
        .execute(
            "INSERT OR IGNORE INTO ducklake_table_stats SELECT ?1, 0, 0, 0 WHERE NOT EXISTS
                 (SELECT 1 FROM ducklake_table_stats WHERE table_id = ?1)",
            [table.id],
        )
        .and_then(|_| {
            connection.execute(
                "INSERT INTO ducklake_data_file (data_file_id, table_id, begin_snapshot, path, path_is_relative, file_format,
                     record_count, file_size_bytes, footer_size, row_id_start)
                 SELECT ?, ?2, ?, ?, 1, 'parquet', ?, ?, ?, next_row_id FROM ducklake_table_stats WHERE table_id = ?2",
                params![id, table.id, work.snapshot.id, stored.path, written.rows, written.bytes, written.footer],
            )
        })
        .and_then(|_| {
            connection.execute(
                "UPDATE ducklake_table_stats SET record_count = record_count + ?2, next_row_id = next_row_id + ?2,
                     file_size_bytes = file_size_bytes + ?3 WHERE table_id = ?1",
                params![table.id, written.rows, written.bytes],
            )
        })
        .and_then(|_| {
            connection.execute(
                "UPDATE _pipeline_files SET data_file_id = ?, described = NULL WHERE file = ?",
                params![id, stored.file],
            )
        })
        .explain(STORING)?;
    for column in &written.columns {
        describe(connection, table, id, column)?;
    }
    work.snapshot
        .change(format!("inserted_into_table:{}", table.id));
    Ok(id)
}

/// Stores the bounds of a column of a file, and widens those of the table.
fn describe(
    connection: &Connection,
    table: &LakeTable,
    data_file_id: i64,
    column: &Described,
) -> Result<()> {
    let lake_type = table
        .columns
        .iter()
        .find(|known| known.id == column.column_id)
        .map_or("", |known| &known.lake_type);
    connection
        .prepare_cached(
            "INSERT INTO ducklake_file_column_stats VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                data_file_id,
                table.id,
                column.column_id,
                column.bytes,
                column.values,
                column.nulls,
                column.least,
                column.greatest,
                column.nan
            ])
        })
        .explain(STORING)?;
    widen(connection, table.id, lake_type, column)
}

/// Widens the bounds of a column of the table.
pub(crate) fn widen(
    connection: &Connection,
    table_id: i64,
    lake_type: &str,
    column: &Described,
) -> Result<()> {
    type Bounds = (bool, Option<bool>, Option<String>, Option<String>);
    let known: Option<Bounds> = connection
        .prepare_cached(
            "SELECT contains_null, contains_nan, min_value, max_value FROM ducklake_table_column_stats
             WHERE table_id = ? AND column_id = ?",
        )
        .and_then(|mut select| {
            use rusqlite::OptionalExtension as _;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            select.query_row([table_id, column.column_id], row).optional()
        })
        .explain(STORING)?;
    // A column that is new is null in the rows before it; a table that is has none.
    let has_rows = || {
        let sql = "SELECT EXISTS (SELECT 1 FROM ducklake_file_column_stats WHERE table_id = ?1 AND column_id <> ?2
                       AND data_file_id NOT IN (SELECT data_file_id FROM ducklake_file_column_stats WHERE table_id = ?1 AND column_id = ?2))";
        connection
            .prepare_cached(sql)
            .and_then(|mut select| {
                select.query_row([table_id, column.column_id], |row| row.get::<_, bool>(0))
            })
            .explain(STORING)
    };
    let (nulls, nan, least, greatest) = match known {
        None => (
            column.nulls > 0 || has_rows()?,
            column.nan,
            column.least.clone(),
            column.greatest.clone(),
        ),
        // A file of nulls only says nothing of values.
        Some((_, nan, least, greatest)) if column.values == 0 => (true, nan, least, greatest),
        Some((nulls, nan, least, greatest)) => {
            use std::cmp::Ordering::{Greater, Less};
            (
                nulls || column.nulls > 0,
                match (nan, column.nan) {
                    (Some(left), Some(right)) => Some(left || right),
                    (left, right) => left.or(right),
                },
                wider(lake_type, least.as_deref(), column.least.as_deref(), Less),
                wider(
                    lake_type,
                    greatest.as_deref(),
                    column.greatest.as_deref(),
                    Greater,
                ),
            )
        }
    };
    connection
        .prepare_cached(
            "DELETE FROM ducklake_table_column_stats WHERE table_id = ? AND column_id = ?",
        )
        .and_then(|mut delete| delete.execute([table_id, column.column_id]))
        .explain(STORING)?;
    connection
        .prepare_cached("INSERT INTO ducklake_table_column_stats VALUES (?, ?, ?, ?, ?, ?, NULL)")
        .and_then(|mut insert| {
            insert.execute(params![
                table_id,
                column.column_id,
                nulls,
                nan,
                least,
                greatest
            ])
        })
        .explain(STORING)
        .map(drop)
}

/// Writes which rows of a file are deleted, in the place of what said so before.
fn write_deletes(
    connection: &Connection,
    work: &mut Work,
    table: &LakeTable,
    stored: &Stored,
    data_file_id: i64,
) -> Result<()> {
    let (name, path) = work.new_file(connection, &table.folder, "-delete")?;
    let written = {
        let mut select = connection
            .prepare_cached("SELECT row FROM _pipeline_deleted WHERE file = ? ORDER BY row")
            .explain(STORING)?;
        let rows = select
            .query_map([stored.file], |row| row.get(0))
            .explain(STORING)?
            .map(|row| row.explain(STORING));
        delete_file::write(&path, &stored.path(table), rows)?
    };
    failpoint("ducklake-deletes-written");
    end(
        connection,
        work,
        "ducklake_delete_file",
        "data_file_id = ?",
        data_file_id,
    )?;
    let id = work.snapshot.file_id();
    connection
        .execute(
            "INSERT INTO ducklake_delete_file (delete_file_id, table_id, begin_snapshot, data_file_id, path, path_is_relative,
                 format, delete_count, file_size_bytes, footer_size)
             VALUES (?, ?, ?, ?, ?, 1, 'parquet', ?, ?, ?)",
            params![id, table.id, work.snapshot.id, data_file_id, name, written.rows, written.bytes, written.footer],
        )
        .explain(STORING)?;
    work.snapshot
        .change(format!("deleted_from_table:{}", table.id));
    Ok(())
}

/// Ends what the catalogue says of some files: from this snapshot on they are not read.
fn end(
    connection: &Connection,
    work: &Work,
    kind: &str,
    condition: &str,
    value: i64,
) -> Result<()> {
    // What begins with this snapshot was never there.
    for sql in [
        format!(
            "DELETE FROM {kind} WHERE {condition} AND begin_snapshot = {}",
            work.snapshot.id
        ),
        format!(
            "UPDATE {kind} SET end_snapshot = {} WHERE {condition} AND end_snapshot IS NULL",
            work.snapshot.id
        ),
    ] {
        connection
            .prepare_cached(&sql)
            .and_then(|mut update| update.execute([value]))
            .explain(STORING)?;
    }
    Ok(())
}

/// Takes a file away from readers.
pub(crate) fn hide_file(
    connection: &Connection,
    work: &mut Work,
    table: &LakeTable,
    data_file_id: i64,
) -> Result<()> {
    end(
        connection,
        work,
        "ducklake_data_file",
        "data_file_id = ?",
        data_file_id,
    )?;
    end(
        connection,
        work,
        "ducklake_delete_file",
        "data_file_id = ?",
        data_file_id,
    )?;
    work.snapshot
        .change(format!("deleted_from_table:{}", table.id));
    Ok(())
}

/// Takes all files of a table away from readers.
pub(crate) fn hide_all(connection: &Connection, work: &mut Work, table: &LakeTable) -> Result<()> {
    if visible_rows(connection, table.id)? > 0 {
        work.snapshot
            .change(format!("deleted_from_table:{}", table.id));
    }
    end(
        connection,
        work,
        "ducklake_data_file",
        "table_id = ?",
        table.id,
    )?;
    end(
        connection,
        work,
        "ducklake_delete_file",
        "table_id = ?",
        table.id,
    )?;
    for stored in list(connection, &table.name, false)? {
        forget(connection, stored.file)?;
    }
    Ok(())
}
