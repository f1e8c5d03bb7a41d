//! Leaves nothing of what was deleted on the disk: neither in files, nor in snapshots, nor in the
//! catalogue.

use std::path::{Path, PathBuf};

use destination_sqlite::bookkeeping::{self, Explain, Writing, empty_log};
use pipeline_core::{Result, failpoint};
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, Purge, Purged, PurgedTable};
use rusqlite::{Connection, params};

use crate::keys::{Encoder, Keys, drop_keys, key_fields};
use crate::lake::{Lake, Work};
use crate::reindex::{catch_up, each_batch};
use crate::rewrite::{can_rewrite, rewrite};
use crate::stats::Described;
use crate::sweep::{files as all_files, remove_file};
use crate::table::{LakeTable, all, store_rows, visible_rows};
use crate::{Deletes, files};

const PURGING: &str = "purging the lake";

/// Removes generations that nobody collects any more, rows that are only marked as deleted, and
/// everything that only older snapshots have.
pub(crate) fn purge(
    writing: &mut Writing,
    path: &Path,
    lake: &Lake,
    deletes: Deletes,
    purge: &Purge,
) -> Result<Purged> {
    let bytes_before = size(path, &lake.data)?;
    writing.begin(PURGING)?;
    let mut work = Work::begin(&writing.connection, lake.clone())?;
    let removed = remove(&writing.connection, &mut work, deletes, purge);
    let is_begun = is_unfinished(&writing.connection)?;
    let tables = match removed {
        Ok(tables) if !purge.dry_run && (is_begun || is_something(&tables, purge)) => tables,
        nothing => {
            writing.roll_back();
            work.made.iter().try_for_each(|path| remove_file(path))?;
            return Ok(Purged {
                tables: nothing?,
                bytes_before,
                bytes_after: bytes_before,
            });
        }
    };
    let expired = finish(&writing.connection, work);
    set_unfinished(&writing.connection, true)?;
    failpoint("ducklake-before-purged");
    let committed = expired.and_then(|paths| writing.commit(PURGING).map(|()| paths));
    writing.roll_back();
    for path in committed? {
        remove_file(&path)?;
        failpoint("ducklake-removing-files");
    }
    let connection = &writing.connection;
    empty_log(connection)?;
    connection.execute_batch("VACUUM").explain(PURGING)?;
    failpoint("ducklake-after-vacuum");
    set_unfinished(connection, false)?;
    empty_log(connection)?;
    Ok(Purged {
        tables,
        bytes_before,
        bytes_after: size(path, &lake.data)?,
    })
}

/// True when a purge was interrupted after it had removed the rows.
fn is_unfinished(connection: &Connection) -> Result<bool> {
    connection
        .prepare("SELECT 1 FROM _pipeline_unfinished WHERE what = 'purge'")
        .and_then(|mut select| select.exists([]))
        .explain(PURGING)
}

fn set_unfinished(connection: &Connection, is_unfinished: bool) -> Result<()> {
    let sql = if is_unfinished {
        "INSERT OR IGNORE INTO _pipeline_unfinished VALUES ('purge')"
    } else {
        "DELETE FROM _pipeline_unfinished WHERE what = 'purge'"
    };
    connection.execute(sql, []).explain(PURGING).map(drop)
}

/// True when there is something to remove. Whoever names a table wants it as it is: rows that others
/// have deleted are not missed any more.
fn is_something(tables: &[PurgedTable], purge: &Purge) -> bool {
    tables.iter().any(|table| table.rows > 0) || (purge.stream.is_some() && !tables.is_empty())
}

/// Takes rows out of the tables, and returns how many of each are on the disk without being seen.
fn remove(
    connection: &Connection,
    work: &mut Work,
    deletes: Deletes,
    purge: &Purge,
) -> Result<Vec<PurgedTable>> {
    let states = bookkeeping::states(connection, None)?;
    let mut tables = Vec::new();
    for (id, name) in all(connection)?
        .into_iter()
        .filter(|(id, _)| purge.wants(id))
    {
        let mut purged = PurgedTable {
            rows: 0,
            skipped: None,
            table: id.clone(),
        };
        if let Some(table) = LakeTable::find(connection, &work.lake.data, &name)? {
            catch_up(connection, work, &table)?;
            let refreshes = states
                .iter()
                .any(|(endpoint, state)| endpoint.source == id.source && state.refreshing);
            if !refreshes {
                purged.rows += abandon(connection, work, &table)?;
            }
            if deletes == Deletes::Mark {
                remove_marked(connection, work, &table)?;
                files::show(connection, work, &table)?;
            }
            purged.rows += hidden(connection, &table)?;
            let rest: Vec<_> = files::list(connection, &name, false)?
                .into_iter()
                .filter_map(|stored| match files::deleted(connection, stored.file) {
                    Ok(rows) if rows.is_empty() => None,
                    rows => Some(rows.map(|_| stored)),
                })
                .collect::<Result<_>>()?;
            if can_rewrite(&table) {
                for stored in rest {
                    rewrite(connection, work, &table, &[stored])?;
                }
            } else if !rest.is_empty() {
                purged.skipped = Some("a column has a type of another program".to_owned());
            }
            store_rows(connection, &name, visible_rows(connection, table.id)?)?;
        } else if purge.stream.is_some() {
            store_rows(connection, &name, 0)?;
        }
        tables.push(purged);
    }
    Ok(tables)
}

/// Drops a next generation, and returns how many rows it had.
fn abandon(connection: &Connection, work: &mut Work, table: &LakeTable) -> Result<u64> {
    let mut rows = 0;
    for stored in files::list(connection, &table.name, true)? {
        rows += stored.records.unsigned_abs();
        work.needless.push(stored.path(table));
        files::forget(connection, stored.file)?;
    }
    drop_keys(connection, &table.name, true)?;
    let gone = connection
        .execute("DELETE FROM _pipeline_gone WHERE name = ?", [&table.name])
        .explain(PURGING)?;
    Ok(rows + gone as u64)
}

/// Removes the rows that are only marked as deleted.
fn remove_marked(connection: &Connection, work: &mut Work, table: &LakeTable) -> Result<()> {
    let key = key_fields(connection, &table.name, false)?.unwrap_or_default();
    // Where rows have no key, a tombstone is a row like others.
    if key.is_empty() {
        return Ok(());
    }
    let keys = Keys::ensure(connection, &table.name, false)?;
    let wanted = [&key[..], &[DELETED.to_owned()]].concat();
    for stored in files::list(connection, &table.name, false)? {
        each_batch(
            connection,
            table,
            &stored,
            Some(&wanted),
            |batch, places| {
                let columns = Column::of(batch)?;
                let marks = columns.iter().find(|column| column.name() == DELETED);
                let mut encoder = Encoder::new(&columns, &key, &[]);
                for (row, place) in places {
                    if marks.is_some_and(|marks| marks.cell(*row) == Cell::Bool(true)) {
                        keys.remove(connection, &encoder.key(*row, *place))?;
                        files::delete_row(connection, work, place.file, place.row)?;
                    }
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Rows of a table that are in files and are not seen.
fn hidden(connection: &Connection, table: &LakeTable) -> Result<u64> {
    let rows: i64 = connection
        .query_row(
            "SELECT (SELECT coalesce(sum(record_count), 0) FROM ducklake_data_file WHERE table_id = ?1 AND end_snapshot IS NOT NULL)
                  + (SELECT coalesce(sum(delete_count), 0) FROM ducklake_delete_file WHERE table_id = ?1 AND end_snapshot IS NULL)",
            [table.id],
            |row| row.get(0),
        )
        .explain(PURGING)?;
    Ok(rows.unsigned_abs())
}

/// Stores the snapshot and forgets all others; returns the files that nobody reads any more.
fn finish(connection: &Connection, mut work: Work) -> Result<Vec<PathBuf>> {
    let data = work.lake.data.clone();
    let mut paths = std::mem::take(&mut work.needless);
    work.snapshot.finish(connection, "{\"purge\":true}")?;
    paths.extend(expire(connection, &data)?);
    for (_, name) in all(connection)? {
        if let Some(table) = LakeTable::find(connection, &data, &name)? {
            describe_again(connection, &table)?;
        }
    }
    Ok(paths)
}

/// Forgets all snapshots but the newest, and returns the files that only they had.
fn expire(connection: &Connection, data: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for kind in ["ducklake_data_file", "ducklake_delete_file"] {
        let sql = format!(
            "SELECT s.path, t.path, f.path FROM {kind} AS f JOIN ducklake_table AS t ON t.table_id = f.table_id
             JOIN ducklake_schema AS s ON s.schema_id = t.schema_id WHERE f.end_snapshot IS NOT NULL AND f.path_is_relative"
        );
        let found: Vec<(String, String, String)> = connection
            .prepare(&sql)
            .and_then(|mut select| {
                select
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                    .collect()
            })
            .explain(PURGING)?;
        paths.extend(
            found
                .into_iter()
                .map(|(schema, table, file)| data.join(schema).join(table).join(file)),
        );
    }
    let scheduled: Vec<String> = connection
        .prepare("SELECT path FROM ducklake_files_scheduled_for_deletion WHERE path_is_relative")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .explain(PURGING)?;
    paths.extend(scheduled.into_iter().map(|path| data.join(path)));
    connection
        .execute_batch(
            "DELETE FROM ducklake_files_scheduled_for_deletion WHERE path_is_relative;
             DELETE FROM ducklake_file_column_stats WHERE data_file_id IN
                 (SELECT data_file_id FROM ducklake_data_file WHERE end_snapshot IS NOT NULL);
             DELETE FROM ducklake_delete_file WHERE end_snapshot IS NOT NULL;
             DELETE FROM ducklake_data_file WHERE end_snapshot IS NOT NULL;
             DELETE FROM ducklake_column WHERE end_snapshot IS NOT NULL;
             DELETE FROM ducklake_table WHERE end_snapshot IS NOT NULL;
             DELETE FROM ducklake_view WHERE end_snapshot IS NOT NULL;
             DELETE FROM ducklake_snapshot_changes WHERE snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshot);
             DELETE FROM ducklake_snapshot WHERE snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshot);",
        )
        .explain(PURGING)?;
    Ok(paths)
}

/// Stores the bounds of a table's columns anew, from the files that are left.
fn describe_again(connection: &Connection, table: &LakeTable) -> Result<()> {
    connection
        .execute(
            "DELETE FROM ducklake_table_column_stats WHERE table_id = ?",
            [table.id],
        )
        .explain(PURGING)?;
    for column in &table.columns {
        let described: Vec<Described> = connection
            .prepare_cached(
                "SELECT column_id, value_count, null_count, min_value, max_value, contains_nan FROM ducklake_file_column_stats
                 WHERE table_id = ? AND column_id = ?",
            )
            .and_then(|mut select| {
                let described = select.query_map(params![table.id, column.id], |row| {
                    Ok(Described {
                        column_id: row.get(0)?,
                        bytes: 0,
                        values: row.get(1)?,
                        nulls: row.get(2)?,
                        least: row.get(3)?,
                        greatest: row.get(4)?,
                        nan: row.get(5)?,
                    })
                })?;
                described.collect()
            })
            .explain(PURGING)?;
        for described in described {
            files::widen(connection, table.id, &column.lake_type, &described)?;
        }
    }
    Ok(())
}

/// Size of the catalogue and of all files of tables.
fn size(path: &Path, data: &Path) -> Result<u64> {
    let files = all_files(data)?;
    let sizes = files
        .iter()
        .filter_map(|(path, _)| std::fs::metadata(path).ok())
        .map(|file| file.len());
    Ok(bookkeeping::size(path) + sizes.sum::<u64>())
}
