//! The destination and its transaction.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use destination_sql::Deletes;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, Result, RunRecord, failpoint};
use pipeline_engine::{
    Commit, Damage, Delivery, Depth, Destination, Generation, Purge, Purged, Refused, Status,
    Table, TableId, Transaction,
};
use rusqlite::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::SqliteConfig;
use crate::connection::{Writing, blocking};
use crate::error::{Explain, at};
use crate::meta::{Keeps, Present};
use crate::write::Writer;
use crate::{claim, connection, glance, meta, purge, runs, state, table, verify};

/// The cache where nothing else is asked for: what a run with the default budget leaves.
const CACHE: usize = 32 << 20;

/// A SQLite database that holds tables, checkpoints and the commit log.
///
/// One connection writes, another reads what is committed meanwhile; both are used on threads that
/// may block.
#[derive(Debug)]
pub struct SqliteDestination {
    path: PathBuf,
    deletes: Deletes,
    access: Access,
}

/// What may be done with the database.
#[derive(Debug)]
enum Access {
    /// Everything.
    Write {
        writer: Arc<Mutex<Writing>>,
        reader: Arc<std::sync::Mutex<Connection>>,
    },
    /// It is opened for every query, and nothing is written, not even beside it.
    Read,
}

impl SqliteDestination {
    /// Opens the database, and creates it when it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the file cannot be opened or written, or is not a database.
    pub fn open(config: SqliteConfig) -> Result<Self> {
        Self::open_within(config, CACHE)
    }

    /// The same with a cache of this number of bytes for the pages that a transaction changes,
    /// instead of 32 MiB; see
    /// [`MemoryBudget::of_destination`](pipeline_core::MemoryBudget::of_destination).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(config: SqliteConfig, cache: usize) -> Result<Self> {
        let SqliteConfig { path, deletes } = config;
        let writer = Writing::open(&path, Keeps::Rows, cache).map_err(at(&path))?;
        let reader = connection::open(&path, Keeps::Rows, cache).map_err(at(&path))?;
        let access = Access::Write {
            writer: Arc::new(Mutex::new(writer)),
            reader: Arc::new(std::sync::Mutex::new(reader)),
        };
        Ok(Self {
            path,
            deletes,
            access,
        })
    }

    /// Opens a database to look at it: for its [status](Destination::status), states, runs and
    /// whether it is [intact](Destination::verify). It may be on a read-only disk or of an earlier
    /// release; nothing is written to it, nor beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the file does not exist, when it is not a database, or when
    /// another process has left changes in a log that cannot be read without writing.
    pub fn open_to_read(config: SqliteConfig) -> Result<Self> {
        let SqliteConfig { path, deletes } = config;
        glance::read(&path, Present::of).map_err(at(&path))?;
        Ok(Self {
            path,
            deletes,
            access: Access::Read,
        })
    }

    /// Reads what is committed, whatever the writer does.
    async fn read<T: Send + 'static>(
        &self,
        query: impl Fn(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let read = match &self.access {
            Access::Write { reader, .. } => {
                let reader = Arc::clone(reader);
                blocking(move || {
                    let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                    // One snapshot for all the queries.
                    let snapshot = reader
                        .unchecked_transaction()
                        .explain("reading the database")?;
                    query(&snapshot)
                })
                .await
            }
            Access::Read => {
                let path = self.path.clone();
                blocking(move || glance::read(&path, query)).await
            }
        };
        read.map_err(at(&self.path))
    }

    fn writer(&self) -> Result<Arc<Mutex<Writing>>> {
        match &self.access {
            Access::Write { writer, .. } => Ok(Arc::clone(writer)),
            Access::Read => Err(Error::new(
                ErrorKind::Unsupported,
                "the database was opened to read only",
            )),
        }
    }

    /// The writing connection, unless a transaction is open.
    fn idle_writer(&self) -> Result<Option<OwnedMutexGuard<Writing>>> {
        Ok(self.writer()?.try_lock_owned().ok())
    }
}

#[async_trait]
impl Destination for SqliteDestination {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        let operation = "checking the database";
        let Some(mut writer) = self.idle_writer()? else {
            return Ok(());
        };
        let tried = blocking(move || {
            writer.begin(operation)?;
            let tried = writer
                .connection
                .execute_batch("CREATE TABLE _pipeline_check (x)")
                .explain(operation);
            writer.roll_back();
            tried
        });
        tried.await.map_err(at(&self.path))
    }

    async fn verify(&self, depth: Depth) -> Result<Vec<Damage>> {
        self.read(move |connection| {
            let damages = verify::verify(connection, depth)?;
            // What was compared is not looked at again, and the writer's cache takes as much.
            connection
                .execute_batch("PRAGMA shrink_memory")
                .explain("comparing the database with its log")?;
            Ok(damages)
        })
        .await
    }

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        let (path, source, run) = (self.path.clone(), source.to_owned(), run.to_owned());
        blocking(move || claim::claim(&path, &source, &run))
            .await
            .map_err(at(&self.path))
    }

    async fn is_claimed(&self, source: &str) -> Result<Option<bool>> {
        let (path, source) = (self.path.clone(), source.to_owned());
        blocking(move || Ok(claim::is_claimed(&path, &source))).await
    }

    /// Waits until the transaction before it is gone.
    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        let (mut writer, run) = (self.writer()?.lock_owned().await, run.clone());
        let recorded = blocking(move || {
            writer.transaction("recording the run", |writing| {
                runs::record(&writing.connection, &run)
            })
        });
        recorded.await.map_err(at(&self.path))
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.read(move |connection| {
            if Present::of(connection)?.runs {
                runs::list(connection, limit)
            } else {
                Ok(Vec::new())
            }
        })
        .await
    }

    /// While a transaction is open, leaves the tables to its first write.
    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        let Some(mut writer) = self.idle_writer()? else {
            return Ok(());
        };
        let tables = tables.to_vec();
        let prepared = blocking(move || {
            writer.transaction("preparing a table", |writing| {
                for table in &tables {
                    table::prepare(&writing.connection, table)?;
                }
                writing.counter.settle(&writing.connection)?;
                failpoint("sqlite-before-prepared");
                Ok(())
            })
        });
        prepared.await.map_err(at(&self.path))
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let source = source.to_owned();
        let states = self
            .read(move |connection| stored(connection, Some(&source)))
            .await?;
        Ok(states.into_iter().collect())
    }

    /// Waits until the transaction before it is gone.
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let (writer, deletes) = (self.writer()?.lock_owned().await, self.deletes);
        let open = blocking(move || Open::begin(writer, deletes))
            .await
            .map_err(at(&self.path))?;
        Ok(Box::new(SqliteTransaction {
            path: self.path.clone(),
            open: Some(open),
            refused: Vec::new(),
        }))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        self.read(move |connection| {
            let present = Present::of(connection)?;
            Ok(Status {
                endpoints: stored(connection, None)?,
                rows: if present.tables {
                    table::row_counts(connection)?
                } else {
                    Vec::new()
                },
                commits: if present.commits {
                    state::commits(connection, commits)?
                } else {
                    Vec::new()
                },
            })
        })
        .await
    }

    /// Waits until the transaction before it is gone.
    async fn purge(&self, purge: &Purge) -> Result<Purged> {
        let (mut writer, path, deletes) = (
            self.writer()?.lock_owned().await,
            self.path.clone(),
            self.deletes,
        );
        let purge = purge.clone();
        let purged = blocking(move || {
            // A statement that is still prepared keeps the file from being rewritten.
            writer.connection.flush_prepared_statement_cache();
            purge::purge(&mut writer, &path, deletes, &purge)
        });
        purged.await.map_err(at(&self.path))
    }
}

/// The checkpoints, of which there are none in a database that nothing was ever written to.
///
/// # Errors
/// [`ErrorKind::Destination`] when somebody dropped their table.
pub fn stored(
    connection: &Connection,
    source: Option<&str>,
) -> Result<Vec<(EndpointId, EndpointState)>> {
    let present = Present::of(connection)?;
    match present.state {
        true => state::list(connection, source),
        false if present.is_new() => Ok(Vec::new()),
        false => Err(Error::new(
            ErrorKind::Destination,
            "the table `_pipeline_state` was dropped, and the checkpoints with it",
        )
        .with_help(
            "restore the database from a backup, or run `pipeline sync --full-refresh` to read \
             everything again",
        )),
    }
}

/// The writing connection inside a transaction, which is rolled back when this is dropped, on
/// whichever thread.
struct Open {
    writing: OwnedMutexGuard<Writing>,
    deletes: Deletes,
    writers: HashMap<(TableId, Generation), (Arc<Table>, Writer)>,
}

impl Open {
    fn begin(mut writing: OwnedMutexGuard<Writing>, deletes: Deletes) -> Result<Self> {
        writing.begin("opening a transaction")?;
        failpoint("sqlite-after-begin");
        Ok(Self {
            writing,
            deletes,
            writers: HashMap::new(),
        })
    }

    fn write(&mut self, table: &Arc<Table>, batch: &RecordBatch) -> Result<Vec<Refused>> {
        let connection = &self.writing.connection;
        let key = (table.id(), table.generation);
        let known = self
            .writers
            .get(&key)
            .is_some_and(|(known, _)| same_shape(known, table));
        if !known {
            let mut writer = Writer::new(connection, table, self.deletes)?;
            if let Some((_, previous)) = self.writers.remove(&key) {
                writer.before = previous.before;
            }
            self.writers
                .insert(key.clone(), (Arc::clone(table), writer));
        }
        let refused = match self.writers.get_mut(&key) {
            Some((_, writer)) => writer.write(connection, batch)?,
            None => Vec::new(),
        };
        failpoint("sqlite-after-write");
        Ok(refused)
    }

    fn commit(mut self, commit: Commit) -> Result<u64> {
        let connection = &self.writing.connection;
        state::apply(connection, &commit.changes)?;
        meta::remember_feeds(connection, &commit.changes)?;
        let before = |name: &str| {
            self.writers
                .values()
                .find(|(_, writer)| writer.name == name)
                .map(|(_, writer)| writer.before)
        };
        for id in &commit.discard {
            table::discard(connection, id, |next| before(next).unwrap_or_default())?;
        }
        for id in &commit.publish {
            table::publish(connection, id, &commit.keep)?;
        }
        let sequence = state::log(connection, commit)?;
        self.writing.counter.settle(connection)?;
        failpoint("sqlite-before-commit");
        self.writing.commit("committing")?;
        failpoint("sqlite-after-commit");
        Ok(sequence)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.writing.roll_back();
    }
}

fn same_shape(left: &Arc<Table>, right: &Arc<Table>) -> bool {
    Arc::ptr_eq(left, right)
        || (left.schema == right.schema && left.primary_key == right.primary_key)
}

/// A transaction. It holds the writing connection except while a thread works with it; when a call
/// fails or is cancelled, the connection does not come back and the transaction is over.
struct SqliteTransaction {
    path: PathBuf,
    open: Option<Open>,
    refused: Vec<Refused>,
}

impl SqliteTransaction {
    fn take(&mut self) -> Result<Open> {
        let over = || {
            Error::new(
                ErrorKind::Destination,
                "the transaction ended with an earlier failure",
            )
            .with_help("run again")
        };
        self.open.take().ok_or_else(over)
    }
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let (mut open, table) = (self.take()?, Arc::clone(table));
        let stream = table.stream.clone();
        let written = blocking(move || {
            let refused = open.write(&table, &batch)?;
            Ok((open, refused))
        });
        let (open, refused) = written
            .await
            .map_err(|error| at(&self.path)(error.with_context("stream", stream)))?;
        (self.open, self.refused) = (Some(open), refused);
        Ok(0)
    }

    fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    async fn commit(mut self: Box<Self>, commit: &Commit) -> Result<u64> {
        let (open, commit) = (self.take()?, commit.clone());
        blocking(move || open.commit(commit))
            .await
            .map_err(at(&self.path))
    }
}
