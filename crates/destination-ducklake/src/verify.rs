//! Compares the lake with what is stored of it.

use std::fs;
use std::path::Path;

use destination_sqlite::bookkeeping::{self, Explain, Present};
use pipeline_core::Result;
use pipeline_engine::{Damage, Depth, TableId};
use rusqlite::Connection;

use crate::files;
use crate::read::Rows;
use crate::table::{LakeTable, all, rows, visible_rows};

const VERIFYING: &str = "comparing the lake with its log";

/// What is not as the catalogue's own records say. More rows than were written are nobody's loss.
pub(crate) fn verify(connection: &Connection, data: &Path, depth: Depth) -> Result<Vec<Damage>> {
    let present = Present::of(connection)?;
    let mut damages = bookkeeping::verify(connection, depth)?;
    if !present.tables {
        return Ok(damages);
    }
    for (id, name) in all(connection)? {
        // Those of the engine's own, such as the one of rejected records, may be emptied by anybody.
        if !id.stream.starts_with('_') {
            let what = of_table(connection, data, &name, depth)?;
            damages.extend(what.map(|what| damage(&id, what)));
        }
    }
    Ok(damages)
}

fn damage(id: &TableId, what: String) -> Damage {
    let TableId { source, stream } = id;
    Damage {
        table: Some(id.clone()),
        what,
        help: format!(
            "restore the lake from a backup, read the table again with `pipeline sync {source} --full-refresh --streams {stream}`, \
             or accept what is left with `pipeline purge {source}/{stream}`"
        ),
    }
}

/// What is wrong with a table.
fn of_table(
    connection: &Connection,
    data: &Path,
    name: &str,
    depth: Depth,
) -> Result<Option<String>> {
    let wanted = rows(connection, name)?;
    let Some(table) = LakeTable::find(connection, data, name)? else {
        return Ok((wanted > 0).then(|| {
            format!("`{name}` was dropped by another program: {wanted} rows were committed to it")
        }));
    };
    for (path, bytes) in named(connection, &table)? {
        let path = table.folder.join(path);
        let what = match fs::metadata(&path) {
            Ok(file) if i64::try_from(file.len()).is_ok_and(|length| length == bytes) => continue,
            Ok(_) => "has not the size that it was written with",
            Err(_) => "is missing",
        };
        return Ok(Some(format!(
            "the file {} of `{name}` {what}",
            path.display()
        )));
    }
    for stored in files::list(connection, name, true)? {
        if !stored.path(&table).is_file() {
            return Ok(Some(format!(
                "the file {} of the next generation of `{name}` is missing",
                stored.path(&table).display()
            )));
        }
    }
    let found = visible_rows(connection, table.id)?;
    if found < wanted {
        return Ok(Some(format!(
            "`{name}` has {found} rows of the {wanted} that were committed to it: the others were deleted by another program"
        )));
    }
    if depth == Depth::Content {
        for (path, records) in data_files(connection, &table)? {
            let path = table.folder.join(path);
            let mut count = 0;
            let counted = Rows::open(&table, &path, None).and_then(|mut batches| {
                batches.try_for_each(|batch| {
                    count += batch?.num_rows();
                    Ok(())
                })
            });
            if counted.is_err() || i64::try_from(count) != Ok(records) {
                return Ok(Some(format!(
                    "the file {} of `{name}` is damaged",
                    path.display()
                )));
            }
        }
    }
    Ok(None)
}

/// The files that readers of a table read, with their sizes.
fn named(connection: &Connection, table: &LakeTable) -> Result<Vec<(String, i64)>> {
    numbered(
        connection,
        table,
        "SELECT path, file_size_bytes FROM ducklake_data_file WHERE table_id = ?1 AND end_snapshot IS NULL
         UNION ALL SELECT path, file_size_bytes FROM ducklake_delete_file WHERE table_id = ?1 AND end_snapshot IS NULL",
    )
}

/// The files of rows, with the number of these.
fn data_files(connection: &Connection, table: &LakeTable) -> Result<Vec<(String, i64)>> {
    numbered(
        connection,
        table,
        "SELECT path, record_count FROM ducklake_data_file WHERE table_id = ? AND end_snapshot IS NULL",
    )
}

fn numbered(connection: &Connection, table: &LakeTable, sql: &str) -> Result<Vec<(String, i64)>> {
    connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            select
                .query_map([table.id], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .explain(VERIFYING)
}
