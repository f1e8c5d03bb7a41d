//! Opens the database, and keeps blocking calls off the async threads.

use std::path::Path;
use std::time::Duration;

use pipeline_core::{Error, ErrorKind, Result};
use rusqlite::Connection;

use crate::error::Explain;

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that a transaction changes are kept up to this size before they spill to the write-ahead log.
const CACHE_KIB: i64 = 64 * 1024;
/// Statements kept prepared: a few for each of many streams.
const STATEMENTS: usize = 256;

const META: &str = "
CREATE TABLE IF NOT EXISTS _pipeline_state (
    source TEXT NOT NULL, endpoint TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (source, endpoint));
CREATE TABLE IF NOT EXISTS _pipeline_commits (
    sequence INTEGER PRIMARY KEY, run TEXT NOT NULL, at TEXT NOT NULL, changes TEXT NOT NULL, rows TEXT NOT NULL,
    bytes INTEGER NOT NULL, content_hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _pipeline_tables (
    source TEXT NOT NULL, stream TEXT NOT NULL, name TEXT NOT NULL UNIQUE COLLATE NOCASE, PRIMARY KEY (source, stream));";
const META_TABLES: i64 = 3;

/// Opens a database whose commits survive a power cut, and creates the tables for checkpoints and the commit log.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    let operation = "opening the database";
    let connection = Connection::open(path).explain(operation)?;
    connection.busy_timeout(BUSY_TIMEOUT).explain(operation)?;
    connection.pragma_update(None, "journal_mode", "WAL").explain(operation)?;
    connection.pragma_update(None, "synchronous", "FULL").explain(operation)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).explain(operation)?;
    // A table that takes another's place keeps the views that name it.
    connection.pragma_update(None, "legacy_alter_table", true).explain(operation)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let count = "SELECT count(*) FROM sqlite_master WHERE name IN ('_pipeline_state', '_pipeline_commits', '_pipeline_tables')";
    let known: i64 = connection.query_row(count, [], |row| row.get(0)).explain(operation)?;
    if known < META_TABLES {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {META} COMMIT;")).explain(operation)?;
    }
    Ok(connection)
}

/// Runs work that blocks on a thread made for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Error::new(ErrorKind::Unexpected, "a database task ended early").with_source(error))?
}
