//! Opens the database, and keeps blocking calls off the async threads.

use std::path::Path;
use std::time::Duration;

use pipeline_core::{Error, ErrorKind, Result};
use rusqlite::Connection;

use crate::count::Counter;
use crate::error::Explain;
use crate::meta;
use crate::open_files::OpenFiles;

const OPENING: &str = "opening the database";

/// How long a statement waits for another process. A caller with more time tries again.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The cache of a database that holds little.
pub(crate) const SMALL_CACHE: usize = 2 << 20;
/// Statements kept prepared: a few for each of many streams.
const STATEMENTS: usize = 256;

/// A connection that writes, and what has to be watched meanwhile.
#[derive(Debug)]
pub struct Writing {
    /// The connection. Whoever writes with it begins a transaction first.
    pub connection: Connection,
    /// Rows added and removed since the transaction began.
    pub(crate) counter: Counter,
    /// The files that are written to.
    files: OpenFiles,
}

impl Writing {
    /// Opens a database to write to.
    pub fn open(path: &Path, keeps: meta::Keeps, cache: usize) -> Result<Self> {
        let mut connection = open(path, keeps, cache)?;
        let counter = Counter::watch(&mut connection).explain(OPENING)?;
        Ok(Self {
            connection,
            counter,
            files: OpenFiles::of(path)?,
        })
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// A temporary one when another process has the right to write for longer than
    /// `BUSY_TIMEOUT`.
    pub fn begin(&mut self, operation: &'static str) -> Result<()> {
        self.files.check(operation)?;
        self.connection
            .execute_batch("BEGIN IMMEDIATE")
            .explain(operation)?;
        self.counter.clear();
        Ok(())
    }

    /// Commits the transaction to the file that the database's path leads to.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when it leads to another file now, or to none: no reader would
    /// ever read what is committed.
    pub fn commit(&mut self, operation: &'static str) -> Result<()> {
        self.files.check(operation)?;
        self.connection.execute_batch("COMMIT").explain(operation)?;
        self.files.check(operation)
    }

    /// Ends the transaction, if there is any, without a trace.
    pub fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // A failed rollback leaves the transaction to SQLite's own recovery, which drops it as
            // well.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Runs work in a transaction of its own.
    pub fn transaction<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        self.begin(operation)?;
        let done = work(self).and_then(|done| self.commit(operation).map(|()| done));
        self.roll_back();
        done
    }
}

/// Opens a database whose commits survive a power cut, and creates the tables for checkpoints and
/// the commit log. Pages are kept in a cache of a fixed size; those that a transaction changes and
/// that do not fit go to the write-ahead log early.
pub fn open(path: &Path, keeps: meta::Keeps, cache: usize) -> Result<Connection> {
    let connection = Connection::open(path).explain(OPENING)?;
    connection.busy_timeout(BUSY_TIMEOUT).explain(OPENING)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .explain(OPENING)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .explain(OPENING)?;
    // Below zero it is a number of KiB, above a number of pages.
    let kib = i64::try_from(cache >> 10).unwrap_or(i64::MAX);
    connection
        .pragma_update(None, "cache_size", -kib)
        .explain(OPENING)?;
    // A table that takes another's place keeps the views that name it.
    connection
        .pragma_update(None, "legacy_alter_table", true)
        .explain(OPENING)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    meta::ensure(&connection, keeps)?;
    Ok(connection)
}

/// Runs work that blocks on a thread made for it.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| {
        Error::new(ErrorKind::Unexpected, "a database task ended early").with_source(error)
    })?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a7_the_page_cache_is_as_large_as_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.db");
        for mib in [8, 32] {
            let connection = Writing::open(&path, meta::Keeps::Rows, mib << 20)
                .unwrap()
                .connection;
            let in_use = || {
                i64::from(
                    connection
                        .pragma_query_value(None, "cache_size", |row| row.get::<_, i32>(0))
                        .unwrap(),
                )
            };
            assert_eq!(in_use(), -1024 * i64::try_from(mib).unwrap());
        }
    }
}
