//! Files written again without the rows that are deleted, several as one: readers see the same rows
//! before and after.

use destination_sqlite::bookkeeping::Explain;
use pipeline_core::{Result, failpoint};
use pipeline_engine::cell::Column;
use rusqlite::Connection;

use crate::data_file::{DataFile, schema_of};
use crate::files::{self, Stored};
use crate::keys::{Encoder, Keys, Place, key_fields};
use crate::lake::Work;
use crate::read::take;
use crate::reindex::each_batch;
use crate::table::LakeTable;

const REWRITING: &str = "merging data files";

/// How many files of about one size are merged.
const MERGED: usize = 8;
/// The upper bounds of the sizes that are told apart. A larger file is left as it is.
const SIZES: [i64; 5] = [64 << 10, 512 << 10, 4 << 20, 32 << 20, 256 << 20];

/// True when the files of a table can be written again: no column has a type that somebody else gave
/// it, which would be lost.
pub(crate) fn can_rewrite(table: &LakeTable) -> bool {
    table.columns.iter().all(|column| column.field().is_some())
}

/// Files of a table that should be merged, or written again because most of their rows are deleted;
/// so many that a table has tens of them, however often a little is written to it.
pub(crate) fn candidates(connection: &Connection, table: &LakeTable) -> Result<Vec<Stored>> {
    let mut sizes: [Vec<Stored>; SIZES.len()] = Default::default();
    for stored in files::list(connection, &table.name, false)? {
        let (bytes, deleted): (i64, i64) = connection
            .prepare_cached(
                "SELECT file_size_bytes, (SELECT count(*) FROM _pipeline_deleted WHERE file = ?2)
                 FROM ducklake_data_file WHERE data_file_id = ?1",
            )
            .and_then(|mut select| {
                select.query_row([stored.data_file_id.unwrap_or(-1), stored.file], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
            })
            .explain(REWRITING)?;
        if 2 * deleted > stored.records {
            return Ok(vec![stored]);
        }
        if let Some(size) = SIZES.iter().position(|most| bytes < *most) {
            sizes[size].push(stored);
        }
    }
    Ok(sizes
        .into_iter()
        .find(|files| files.len() >= MERGED)
        .unwrap_or_default())
}

/// Writes the rows of some files into one, and takes the files away from readers.
pub(crate) fn rewrite(
    connection: &Connection,
    work: &mut Work,
    table: &LakeTable,
    chosen: &[Stored],
) -> Result<()> {
    let key = key_fields(connection, &table.name, false)?.unwrap_or_default();
    let keys = if key.is_empty() {
        None
    } else {
        Some(Keys::ensure(connection, &table.name, false)?)
    };
    let fields: Vec<&str> = table.columns.iter().map(|column| &*column.field).collect();
    let (schema, ids) = schema_of(table, &fields)?;
    let mut to: Option<(i64, DataFile)> = None;
    for stored in chosen {
        each_batch(connection, table, stored, None, |batch, places| {
            if places.is_empty() {
                return Ok(());
            }
            let rows: Vec<usize> = places.iter().map(|(row, _)| *row).collect();
            let arrays = take(batch.columns(), &rows)?;
            let (number, file) = if let Some(to) = &mut to {
                to
            } else {
                let (name, path) = work.new_file(connection, &table.folder, "")?;
                let number = files::add(connection, &table.name, false, &name)?;
                let file = DataFile::begin(path, schema.clone(), ids.clone(), &arrays)?;
                to.insert((number, file))
            };
            let columns = Column::of(batch)?;
            let mut encoder = Encoder::new(&columns, &key, &[]);
            for ((row, from), next) in places.iter().zip(file.rows..) {
                if let Some(keys) = &keys {
                    let place = Place {
                        file: *number,
                        row: next,
                    };
                    keys.move_to(
                        connection,
                        &encoder.key(*row, *from),
                        &encoder.key(*row, place),
                        place,
                    )?;
                }
            }
            file.write(arrays)
        })?;
    }
    if let Some((number, file)) = to {
        files::complete(connection, number, &file.finish()?)?;
    }
    failpoint("ducklake-rewritten");
    for stored in chosen {
        if let Some(id) = stored.data_file_id {
            files::hide_file(connection, work, table, id)?;
        }
        files::forget(connection, stored.file)?;
    }
    files::show(connection, work, table)
}
