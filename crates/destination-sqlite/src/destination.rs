//! The destination and its transaction.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{
    Commit, Delivery, Destination, Error, ErrorKind, Generation, Purge, Purged, Result, Status, Table, TableId, Transaction, crash_point,
};
use rusqlite::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::{Deletes, SqliteConfig};
use crate::connection::{self, blocking};
use crate::error::{Explain, at};
use crate::write::Writer;
use crate::{purge, state, table};

/// A SQLite database that holds tables, checkpoints and the commit log.
///
/// One connection writes, another reads what is committed meanwhile; both are used on threads that may block.
#[derive(Debug)]
pub struct SqliteDestination {
    path: PathBuf,
    deletes: Deletes,
    writer: Arc<Mutex<Connection>>,
    reader: Arc<std::sync::Mutex<Connection>>,
}

impl SqliteDestination {
    /// Opens the database, and creates it when it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the file cannot be opened or written, or is no database.
    pub fn open(config: SqliteConfig) -> Result<Self> {
        let SqliteConfig { path, deletes } = config;
        let writer = connection::open(&path).map_err(at(&path))?;
        let reader = connection::open(&path).map_err(at(&path))?;
        Ok(Self { deletes, writer: Arc::new(Mutex::new(writer)), reader: Arc::new(std::sync::Mutex::new(reader)), path })
    }

    /// Reads what is committed, whatever the writer does.
    async fn read<T: Send + 'static>(&self, query: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        let reader = Arc::clone(&self.reader);
        let read = blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            // One snapshot for all the queries.
            let snapshot = reader.unchecked_transaction().explain("reading the database")?;
            query(&snapshot)
        });
        read.await.map_err(at(&self.path))
    }
}

#[async_trait]
impl Destination for SqliteDestination {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        let operation = "checking the database";
        let Ok(writer) = Arc::clone(&self.writer).try_lock_owned() else { return Ok(()) };
        let tried = blocking(move || {
            let open = Open::begin(writer, Deletes::default())?;
            open.connection.execute_batch("CREATE TABLE _pipeline_check (x)").explain(operation)
        });
        tried.await.map_err(at(&self.path))
    }

    /// While a transaction is open, leaves the tables to its first write.
    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        let Ok(writer) = Arc::clone(&self.writer).try_lock_owned() else { return Ok(()) };
        let tables = tables.to_vec();
        let prepared = blocking(move || {
            let open = Open::begin(writer, Deletes::default())?;
            for table in &tables {
                table::ensure(&open.connection, table)?;
            }
            crash_point("sqlite-before-prepared");
            open.connection.execute_batch("COMMIT").explain("preparing a table")
        });
        prepared.await.map_err(at(&self.path))
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let source = source.to_owned();
        let states = self.read(move |connection| state::list(connection, Some(&source))).await?;
        Ok(states.into_iter().collect())
    }

    /// Waits until the transaction before it is gone.
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let (writer, deletes) = (Arc::clone(&self.writer).lock_owned().await, self.deletes);
        let open = blocking(move || Open::begin(writer, deletes)).await.map_err(at(&self.path))?;
        Ok(Box::new(SqliteTransaction { path: self.path.clone(), open: Some(open) }))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        self.read(move |connection| {
            Ok(Status {
                endpoints: state::list(connection, None)?,
                rows: table::row_counts(connection)?,
                commits: state::commits(connection, commits)?,
            })
        })
        .await
    }

    /// Waits until the transaction before it is gone.
    async fn purge(&self, purge: &Purge) -> Result<Purged> {
        let (writer, path, deletes) = (Arc::clone(&self.writer).lock_owned().await, self.path.clone(), self.deletes);
        let purge = purge.clone();
        let purged = blocking(move || {
            // A statement that is still prepared keeps the file from being rewritten.
            writer.flush_prepared_statement_cache();
            purge::purge(&writer, &path, deletes, &purge)
        });
        purged.await.map_err(at(&self.path))
    }
}

/// The writing connection inside a transaction, which is rolled back when this is dropped, on whichever thread.
struct Open {
    connection: OwnedMutexGuard<Connection>,
    deletes: Deletes,
    writers: HashMap<(TableId, Generation), (Arc<Table>, Writer)>,
}

impl Open {
    fn begin(connection: OwnedMutexGuard<Connection>, deletes: Deletes) -> Result<Self> {
        connection.execute_batch("BEGIN IMMEDIATE").explain("opening a transaction")?;
        crash_point("sqlite-after-begin");
        Ok(Self { connection, deletes, writers: HashMap::new() })
    }

    fn write(&mut self, table: &Arc<Table>, batch: &RecordBatch) -> Result<()> {
        let key = (table.id(), table.generation);
        let known = self.writers.get(&key).is_some_and(|(known, _)| same_shape(known, table));
        if !known {
            let mut writer = Writer::new(&self.connection, table, self.deletes)?;
            if let Some((_, previous)) = self.writers.remove(&key) {
                writer.before = previous.before;
            }
            self.writers.insert(key.clone(), (Arc::clone(table), writer));
        }
        if let Some((_, writer)) = self.writers.get_mut(&key) {
            writer.write(&self.connection, batch)?;
        }
        crash_point("sqlite-after-write");
        Ok(())
    }

    fn commit(self, commit: Commit) -> Result<u64> {
        let connection = &*self.connection;
        state::apply(connection, &commit.changes)?;
        let before = |name: &str| self.writers.values().find(|(_, writer)| writer.name == name).map(|(_, writer)| writer.before);
        for id in &commit.discard {
            table::discard(connection, id, |next| before(next).unwrap_or_default())?;
        }
        for id in &commit.publish {
            table::publish(connection, id, &commit.keep)?;
        }
        let sequence = state::log(connection, commit)?;
        crash_point("sqlite-before-commit");
        connection.execute_batch("COMMIT").explain("committing")?;
        crash_point("sqlite-after-commit");
        Ok(sequence)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.connection.is_autocommit() {
            // A failed rollback leaves the transaction to SQLite's own recovery, which drops it as well.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

fn same_shape(left: &Arc<Table>, right: &Arc<Table>) -> bool {
    Arc::ptr_eq(left, right) || (left.schema == right.schema && left.primary_key == right.primary_key)
}

/// A transaction. It holds the writing connection except while a thread works with it; when a call fails or is
/// cancelled, the connection does not come back and the transaction is over.
struct SqliteTransaction {
    path: PathBuf,
    open: Option<Open>,
}

impl SqliteTransaction {
    fn take(&mut self) -> Result<Open> {
        let over = || Error::new(ErrorKind::Destination, "the transaction ended with an earlier failure").with_help("run again");
        self.open.take().ok_or_else(over)
    }
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let (mut open, table) = (self.take()?, Arc::clone(table));
        let stream = table.stream.clone();
        let written = blocking(move || {
            open.write(&table, &batch)?;
            Ok(open)
        });
        self.open = Some(written.await.map_err(|error| at(&self.path)(error.with_context("stream", stream)))?);
        Ok(0)
    }

    async fn commit(mut self: Box<Self>, commit: &Commit) -> Result<u64> {
        let (open, commit) = (self.take()?, commit.clone());
        blocking(move || open.commit(commit)).await.map_err(at(&self.path))
    }
}
