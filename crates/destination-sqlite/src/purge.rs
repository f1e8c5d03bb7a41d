//! Leaves nothing of what was deleted in the file: SQLite only marks its pages as free.

use std::fs;
use std::path::Path;

use destination_sql::Deletes;
use destination_sql::quote;
use pipeline_core::{Error, ErrorKind, Result, failpoint};
use pipeline_engine::{DELETED, Purge, Purged, PurgedTable};
use rusqlite::Connection;

use crate::connection::Writing;
use crate::error::Explain;
use crate::table::{gone_name, next_name, shape};
use crate::{count, state, table};

const PURGING: &str = "purging the database";

/// Drops generations that are not collected any more and rows that are only marked as deleted, then
/// rewrites the file.
pub(crate) fn purge(
    writing: &mut Writing,
    path: &Path,
    deletes: Deletes,
    purge: &Purge,
) -> Result<Purged> {
    let bytes_before = size(path);
    writing.begin(PURGING)?;
    let tables = remove_rows(&writing.connection, deletes, purge);
    if tables.is_err() || purge.dry_run {
        writing.roll_back();
        return Ok(Purged {
            tables: tables?,
            bytes_before,
            bytes_after: bytes_before,
        });
    }
    let settled = writing.counter.settle(&writing.connection);
    failpoint("sqlite-before-purged");
    let committed = settled.and_then(|()| writing.commit(PURGING));
    writing.roll_back();
    committed?;
    let (tables, connection) = (tables?, &writing.connection);
    empty_log(connection)?;
    failpoint("sqlite-before-vacuum");
    connection.execute_batch("VACUUM").explain(PURGING)?;
    failpoint("sqlite-after-vacuum");
    empty_log(connection)?;
    Ok(Purged {
        tables,
        bytes_before,
        bytes_after: size(path),
    })
}

fn remove_rows(
    connection: &Connection,
    deletes: Deletes,
    purge: &Purge,
) -> Result<Vec<PurgedTable>> {
    let states = state::list(connection, None)?;
    let mut tables = Vec::new();
    for (id, visible) in table::all(connection)?
        .into_iter()
        .filter(|(id, _)| purge.wants(id))
    {
        let mut rows = 0;
        if !states
            .iter()
            .any(|(endpoint, state)| endpoint.source == id.source && state.refreshing)
        {
            for name in [next_name(&visible), gone_name(&visible)] {
                if shape(connection, &name)?.is_some() {
                    let count = format!("SELECT count(*) FROM {}", quote(&name));
                    rows += connection
                        .query_row(&count, [], |row| row.get::<_, i64>(0))
                        .explain(PURGING)?
                        .unsigned_abs();
                    connection
                        .execute_batch(&format!("DROP TABLE {}", quote(&name)))
                        .explain(PURGING)?;
                }
            }
            count::forget_next(connection, &visible)?;
        }
        // Where rows have no key, a tombstone is a row like others.
        let known = shape(connection, &visible)?
            .filter(|shape| deletes == Deletes::Mark && shape.has_key());
        if let Some(deleted) = known.as_ref().and_then(|shape| shape.column(DELETED)) {
            let delete = format!(
                "DELETE FROM {} WHERE {} = 1",
                quote(&visible),
                quote(deleted)
            );
            rows += connection.execute(&delete, []).explain(PURGING)? as u64;
        }
        // A user who names a table wants it as it is: rows that others have deleted are not missed
        // any more.
        if purge.stream.is_some() {
            count::accept(connection, &visible)?;
        }
        tables.push(PurgedTable {
            table: id,
            rows,
            skipped: None,
        });
    }
    Ok(tables)
}

/// Moves the write-ahead log into the database and empties it.
pub fn empty_log(connection: &Connection) -> Result<()> {
    let busy: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .explain(PURGING)?;
    if busy {
        return Err(Error::new(
            ErrorKind::Destination,
            "the database is read by another process, which keeps what was deleted in the log",
        )
        .with_operation(PURGING)
        .with_help("wait until the other process is finished, then run again"));
    }
    Ok(())
}

/// Size of the database and its write-ahead log.
pub fn size(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    [path, Path::new(&log)]
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|file| file.len())
        .sum()
}
