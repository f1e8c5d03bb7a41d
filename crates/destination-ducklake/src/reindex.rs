//! The index of keys made anew: when another program has written to the table, when its key has
//! changed, and when rows are deleted together by other columns than before.

use std::collections::BTreeSet;

use destination_sqlite::bookkeeping::Explain;
use pipeline_core::Result;
use pipeline_engine::cell::Column;
use rusqlite::{Connection, params};

use crate::delete_file;
use crate::files::{self, Stored};
use crate::keys::{
    Encoder, Keys, Place, drop_keys, exists, key_fields, parts, store_key_fields, table_name,
};
use crate::lake::Work;
use crate::read::Rows;
use crate::table::LakeTable;

const COMPARING: &str = "comparing the files of a table";

/// A data file as the catalogue has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    data_file_id: i64,
    path: String,
    records: i64,
    delete_file: Option<String>,
    deleted: i64,
}

/// Takes over what another program, such as DuckDB, has made of the table: merged files, deleted
/// rows, inserted ones. Whoever reads the files that are known calls it first.
pub(crate) fn catch_up(connection: &Connection, work: &mut Work, table: &LakeTable) -> Result<()> {
    let stored = files::list(connection, &table.name, false)?;
    // What this transaction itself has done is not in the catalogue yet.
    if stored
        .iter()
        .any(|stored| stored.data_file_id.is_none() || work.touched.contains(&stored.file))
    {
        return Ok(());
    }
    let seen = seen(connection, table)?;
    let mut known = BTreeSet::new();
    for stored in stored {
        if let Some(id) = stored.data_file_id {
            let deleted: i64 = connection
                .prepare_cached("SELECT count(*) FROM _pipeline_deleted WHERE file = ?")
                .and_then(|mut select| select.query_row([stored.file], |row| row.get(0)))
                .explain(COMPARING)?;
            known.insert((id, stored.records, deleted));
        }
    }
    let found: BTreeSet<_> = seen
        .iter()
        .map(|file| (file.data_file_id, file.records, file.deleted))
        .collect();
    if found == known {
        return Ok(());
    }
    take_over(connection, table, &seen)?;
    match key_fields(connection, &table.name, false)? {
        Some(key) => {
            rebuild(connection, work, table, false, &key)?;
            store_key_fields(connection, &table.name, false, &key)
        }
        None => Ok(()),
    }
}

fn seen(connection: &Connection, table: &LakeTable) -> Result<Vec<Seen>> {
    connection
        .prepare_cached(
            "SELECT f.data_file_id, f.path, f.path_is_relative, f.record_count, d.path, d.path_is_relative, coalesce(d.delete_count, 0)
             FROM ducklake_data_file AS f LEFT JOIN ducklake_delete_file AS d
                 ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL
             WHERE f.table_id = ? AND f.end_snapshot IS NULL ORDER BY f.data_file_id",
        )
        .and_then(|mut select| {
            let files = select.query_map([table.id], |row| {
                Ok(Seen {
                    data_file_id: row.get(0)?,
                    path: row.get(1)?,
                    records: row.get(3)?,
                    delete_file: row.get(4)?,
                    deleted: row.get(6)?,
                })
            })?;
            files.collect()
        })
        .explain(COMPARING)
}

/// Forgets the files that are known of a table, and knows those that the catalogue has.
fn take_over(connection: &Connection, table: &LakeTable, seen: &[Seen]) -> Result<()> {
    for stored in files::list(connection, &table.name, false)? {
        files::forget(connection, stored.file)?;
    }
    for file in seen {
        let number = files::add(connection, &table.name, false, &file.path)?;
        connection
            .execute(
                "UPDATE _pipeline_files SET records = ?, data_file_id = ? WHERE file = ?",
                params![file.records, file.data_file_id, number],
            )
            .explain(COMPARING)?;
        if let Some(path) = &file.delete_file {
            let mut insert = connection
                .prepare_cached("INSERT OR IGNORE INTO _pipeline_deleted VALUES (?, ?)")
                .explain(COMPARING)?;
            for row in delete_file::read(&table.folder.join(path))? {
                insert.execute([number, row]).explain(COMPARING)?;
            }
        }
    }
    Ok(())
}

/// Makes the index of a generation anew. Of rows with one key the last one stays.
pub(crate) fn rebuild(
    connection: &Connection,
    work: &mut Work,
    table: &LakeTable,
    next: bool,
    key: &[String],
) -> Result<()> {
    drop_keys(connection, &table.name, next)?;
    if key.is_empty() {
        return Ok(());
    }
    let keys = Keys::ensure(connection, &table.name, next)?;
    each_row(connection, table, next, None, |columns, row, place| {
        let entry = Encoder::new(columns, key, &keys.parts).entry(row, place);
        if !keys.insert(connection, &entry)? {
            if let Some((_, earlier)) = keys.find(connection, &entry.key)? {
                files::delete_row(connection, work, earlier.file, earlier.row)?;
            }
            keys.replace(connection, &entry)?;
        }
        Ok(())
    })
}

/// Fills a new part of the index of a generation.
pub(crate) fn fill(
    connection: &Connection,
    table: &LakeTable,
    next: bool,
    part: usize,
    fields: &[String],
) -> Result<()> {
    if !exists(connection, &table_name(&table.name, next))? {
        return Ok(());
    }
    let Some(key) = key_fields(connection, &table.name, next)? else {
        return Ok(());
    };
    debug_assert!(parts(connection, &table.name)?.len() > part);
    let keys = Keys::ensure(connection, &table.name, next)?;
    let wanted = [&key[..], fields].concat();
    each_row(
        connection,
        table,
        next,
        Some(&wanted),
        |columns, row, place| {
            let mut encoder = Encoder::new(columns, &key, &[]);
            let value = encoder.values(fields, row);
            keys.fill_part(connection, part, &encoder.key(row, place), value.as_deref())
        },
    )
}

/// Calls a function with every row of a generation that is not deleted.
pub(crate) fn each_row(
    connection: &Connection,
    table: &LakeTable,
    next: bool,
    wanted: Option<&[String]>,
    mut call: impl FnMut(&[Column<'_>], usize, Place) -> Result<()>,
) -> Result<()> {
    for stored in files::list(connection, &table.name, next)? {
        each_batch(connection, table, &stored, wanted, |batch, places| {
            let columns = Column::of(batch)?;
            places
                .iter()
                .try_for_each(|(row, place)| call(&columns, *row, *place))
        })?;
    }
    Ok(())
}

/// Calls a function with every batch of a file, and the rows of it that are not deleted.
pub(crate) fn each_batch(
    connection: &Connection,
    table: &LakeTable,
    stored: &Stored,
    wanted: Option<&[String]>,
    mut call: impl FnMut(&arrow_array::RecordBatch, &[(usize, Place)]) -> Result<()>,
) -> Result<()> {
    // A file without rows is one that is still being written, and has none of these.
    if stored.records == 0 {
        return Ok(());
    }
    let deleted = files::deleted(connection, stored.file)?;
    let mut start = 0;
    for batch in Rows::open(table, &stored.path(table), wanted)? {
        let batch = batch?;
        let rows = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        let places: Vec<(usize, Place)> = (0..rows)
            .filter(|row| !deleted.contains(&(start + row)))
            .map(|row| {
                let place = Place {
                    file: stored.file,
                    row: start + row,
                };
                (usize::try_from(row).unwrap_or(usize::MAX), place)
            })
            .collect();
        start += rows;
        call(&batch, &places)?;
    }
    Ok(())
}
