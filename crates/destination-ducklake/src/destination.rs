//! The destination and its transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use destination_sql::Deletes;
use destination_sqlite::bookkeeping::{
    self, Explain, Keeps, Present, Writing, at, blocking, glance,
};
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, Result, RunRecord, failpoint};
use pipeline_engine::{
    Commit, Damage, Delivery, Depth, Destination, Generation, Purge, Purged, Status, Table,
    TableId, Transaction,
};
use rusqlite::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::DucklakeConfig;
use crate::lake::{Lake, Work};
use crate::rewrite::{can_rewrite, candidates, rewrite};
use crate::table::LakeTable;
use crate::write::Writer;
use crate::{catalog, files, publish, purge, reindex, sweep, table, verify};

/// Memory where nothing else is asked for: what a run with the default budget leaves.
const MEMORY: usize = 32 << 20;

/// A DuckLake: a catalogue in SQLite, which holds checkpoints and the commit log as well, and a
/// folder of Parquet files.
///
/// One connection writes, another reads what is committed meanwhile; both are used on threads that
/// may block.
#[derive(Debug)]
pub struct DucklakeDestination {
    path: PathBuf,
    lake: Lake,
    deletes: Deletes,
    access: Access,
}

/// What may be done with the lake.
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

impl DucklakeDestination {
    /// Opens the lake, and creates it when it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the catalogue cannot be opened or written, or is of a version
    /// that this crate does not write.
    pub fn open(config: DucklakeConfig) -> Result<Self> {
        Self::open_within(config, MEMORY)
    }

    /// The same with so many bytes of memory for pages of the catalogue and files that are being
    /// written, instead of 32 MiB.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(config: DucklakeConfig, memory: usize) -> Result<Self> {
        let data = catalog::absolute(&config.data_path());
        let DucklakeConfig {
            catalog: path,
            deletes,
            ..
        } = config;
        let open = || {
            let mut writer = Writing::open(&path, Keeps::Checkpoints, memory / 2)?;
            catalog::ensure(&writer.connection, &data)?;
            let lake = Lake {
                writer: catalog::random(&writer.connection).explain("opening the catalogue")?[..8]
                    .to_owned(),
                data: data.clone(),
                memory: memory / 2,
            };
            sweep::sweep(&mut writer, &data)?;
            let reader = bookkeeping::open(&path, Keeps::Checkpoints, memory / 8)?;
            Ok((writer, reader, lake))
        };
        let (writer, reader, lake) = open().map_err(at(&path))?;
        Ok(Self {
            access: Access::Write {
                writer: Arc::new(Mutex::new(writer)),
                reader: Arc::new(std::sync::Mutex::new(reader)),
            },
            path,
            lake,
            deletes,
        })
    }

    /// Opens a lake to look at it: for its [status](Destination::status), states, runs and whether it
    /// is [intact](Destination::verify). Nothing is written to it, nor beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when there is no such catalogue.
    pub fn open_to_read(config: DucklakeConfig) -> Result<Self> {
        let data = catalog::absolute(&config.data_path());
        let path = config.catalog;
        glance(&path, |connection| catalog::check(connection, &data)).map_err(at(&path))?;
        Ok(Self {
            path,
            lake: Lake {
                data,
                writer: String::new(),
                memory: 0,
            },
            deletes: config.deletes,
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
                        .explain("reading the catalogue")?;
                    query(&snapshot)
                })
                .await
            }
            Access::Read => {
                let path = self.path.clone();
                blocking(move || glance(&path, query)).await
            }
        };
        read.map_err(at(&self.path))
    }

    fn writer(&self) -> Result<Arc<Mutex<Writing>>> {
        match &self.access {
            Access::Write { writer, .. } => Ok(Arc::clone(writer)),
            Access::Read => Err(Error::new(
                ErrorKind::Unsupported,
                "the lake was opened to read only",
            )),
        }
    }
}

#[async_trait]
impl Destination for DucklakeDestination {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        let operation = "checking the lake";
        let Ok(mut writer) = self.writer()?.try_lock_owned() else {
            return Ok(());
        };
        let data = self.lake.data.clone();
        let tried = blocking(move || {
            writer.begin(operation)?;
            let tried = writer
                .connection
                .execute_batch("CREATE TABLE _pipeline_check (x)")
                .explain(operation)
                .and_then(|()| try_folder(&data));
            writer.roll_back();
            tried
        });
        tried.await.map_err(at(&self.path))
    }

    async fn verify(&self, depth: Depth) -> Result<Vec<Damage>> {
        let data = self.lake.data.clone();
        self.read(move |connection| verify::verify(connection, &data, depth))
            .await
    }

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        let (path, source, run) = (self.path.clone(), source.to_owned(), run.to_owned());
        blocking(move || bookkeeping::claim(&path, &source, &run))
            .await
            .map_err(at(&self.path))
    }

    async fn is_claimed(&self, source: &str) -> Result<Option<bool>> {
        let (path, source) = (self.path.clone(), source.to_owned());
        blocking(move || Ok(bookkeeping::is_claimed(&path, &source))).await
    }

    /// Waits until the transaction before it is gone.
    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        let (mut writer, run) = (self.writer()?.lock_owned().await, run.clone());
        let recorded = blocking(move || {
            writer.transaction("recording the run", |writing| {
                bookkeeping::record_run(&writing.connection, &run)
            })
        });
        recorded.await.map_err(at(&self.path))
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.read(move |connection| {
            if Present::of(connection)?.runs {
                bookkeeping::runs(connection, limit)
            } else {
                Ok(Vec::new())
            }
        })
        .await
    }

    /// While a transaction is open, leaves the tables to its first write.
    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        let Ok(mut writer) = self.writer()?.try_lock_owned() else {
            return Ok(());
        };
        let (tables, lake) = (tables.to_vec(), self.lake.clone());
        let prepared = blocking(move || {
            writer.transaction("preparing a table", |writing| {
                let mut work = Work::begin(&writing.connection, lake.clone())?;
                for table in &tables {
                    prepare(&writing.connection, &mut work, table)?;
                }
                work.snapshot
                    .finish(&writing.connection, "{\"prepare\":true}")?;
                failpoint("ducklake-before-prepared");
                Ok(())
            })
        });
        prepared.await.map_err(at(&self.path))
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let source = source.to_owned();
        let states = self
            .read(move |connection| bookkeeping::states(connection, Some(&source)))
            .await?;
        Ok(states.into_iter().collect())
    }

    /// Waits until the transaction before it is gone.
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let writer = self.writer()?.lock_owned().await;
        let (lake, deletes) = (self.lake.clone(), self.deletes);
        let open = blocking(move || Open::begin(writer, lake, deletes))
            .await
            .map_err(at(&self.path))?;
        Ok(Box::new(DucklakeTransaction {
            path: self.path.clone(),
            open: Some(open),
        }))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        let data = self.lake.data.clone();
        self.read(move |connection| {
            // A lake of somebody else's, which nothing of ours was written to.
            if !Present::of(connection)?.tables {
                return Ok(Status::default());
            }
            let mut rows = Vec::new();
            for (id, name) in table::all(connection)? {
                if let Some(table) = LakeTable::find(connection, &data, &name)? {
                    let count = table::visible_rows(connection, table.id)?;
                    rows.push((id, count.unsigned_abs()));
                }
            }
            Ok(Status {
                endpoints: bookkeeping::states(connection, None)?,
                rows,
                commits: bookkeeping::commits(connection, commits)?,
            })
        })
        .await
    }

    /// Waits until the transaction before it is gone.
    async fn purge(&self, purge: &Purge) -> Result<Purged> {
        let mut writer = self.writer()?.lock_owned().await;
        let (path, lake, deletes) = (self.path.clone(), self.lake.clone(), self.deletes);
        let purge = purge.clone();
        let purged = blocking(move || {
            announce(&mut writer, &lake)?;
            // A statement that is still prepared keeps the catalogue from being rewritten.
            writer.connection.flush_prepared_statement_cache();
            purge::purge(&mut writer, &path, &lake, deletes, &purge)
        });
        purged.await.map_err(at(&self.path))
    }
}

/// Creates the table of a stream, or widens it. One that somebody has dropped fails those who write
/// to it.
fn prepare(connection: &Connection, work: &mut Work, table: &Table) -> Result<()> {
    let name = table::known_name(connection, &table.id())?;
    if let Some(name) = &name {
        let is_there = LakeTable::find(connection, &work.lake.data, name)?.is_some();
        if !is_there && table::rows(connection, name)? > 0 {
            return Ok(());
        }
    }
    table::ensure(connection, &work.lake.data, &mut work.snapshot, table).map(drop)
}

/// Tries whether files can be made in the folder.
fn try_folder(data: &Path) -> Result<()> {
    let tried = (|| {
        let folder = data.join(catalog::SCHEMA);
        std::fs::create_dir_all(&folder)?;
        let probe = folder.join(format!("_check-{}", std::process::id()));
        std::fs::write(&probe, "")?;
        std::fs::remove_file(probe)
    })();
    tried.map_err(|error| {
        destination_files::file_error("checking the folder of the data files", error)
            .with_context("path", data.display().to_string())
    })
}

/// Registers this process as one that writes files.
fn announce(writing: &mut Writing, lake: &Lake) -> Result<()> {
    if lake.is_announced(&writing.connection)? {
        return Ok(());
    }
    writing.transaction("opening a transaction", |writing| {
        lake.announce(&writing.connection)
    })
}

/// The writing connection inside a transaction, which is rolled back when this is dropped, on
/// whichever thread.
struct Open {
    writing: OwnedMutexGuard<Writing>,
    work: Work,
    deletes: Deletes,
    writers: HashMap<(TableId, Generation), (Arc<Table>, Writer)>,
}

impl Open {
    fn begin(mut writing: OwnedMutexGuard<Writing>, lake: Lake, deletes: Deletes) -> Result<Self> {
        announce(&mut writing, &lake)?;
        writing.begin("opening a transaction")?;
        // Forgotten meanwhile: another process has swept, which takes a week of waiting.
        lake.announce(&writing.connection)?;
        let work = Work::begin(&writing.connection, lake)?;
        failpoint("ducklake-after-begin");
        Ok(Self {
            writing,
            work,
            deletes,
            writers: HashMap::new(),
        })
    }

    fn write(&mut self, table: &Arc<Table>, batch: &RecordBatch) -> Result<()> {
        let (connection, work) = (&self.writing.connection, &mut self.work);
        let key = (table.id(), table.generation);
        let (known, writer) = match self.writers.entry(key) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let writer = Writer::new(connection, work, table, self.deletes)?;
                place.insert((Arc::clone(table), writer))
            }
        };
        if !Arc::ptr_eq(known, table) && known.schema != table.schema {
            writer.refresh(connection, work, table)?;
            *known = Arc::clone(table);
        }
        writer.begin_batch(connection, batch)?;
        writer.write(connection, work, batch)?;
        self.make_room()
    }

    /// Writes files to the disk that take more memory, together, than there is.
    fn make_room(&mut self) -> Result<()> {
        let held: usize = self.writers.values().map(|(_, writer)| writer.held()).sum();
        if held > self.work.lake.memory {
            for (_, writer) in self.writers.values_mut() {
                writer.flush()?;
            }
        }
        Ok(())
    }

    fn commit(mut self, commit: Commit) -> Result<u64> {
        let (connection, work) = (&self.writing.connection, &mut self.work);
        bookkeeping::apply_changes(connection, &commit.changes)?;
        bookkeeping::remember_feeds(connection, &commit.changes)?;
        let mut names = BTreeSet::new();
        for ((id, generation), (_, writer)) in &mut self.writers {
            writer.finish(connection)?;
            if *generation == Generation::Current && !commit.publish.contains(id) {
                files::show(connection, work, &writer.lake)?;
                names.insert(writer.lake.name.clone());
            }
        }
        for id in &commit.discard {
            let is_written = self.writers.contains_key(&(id.clone(), Generation::Next));
            publish::discard(connection, work, id, is_written)?;
        }
        for id in &commit.publish {
            publish::publish(connection, work, id, &commit.keep)?;
        }
        let extra = serde_json::json!({ "run": commit.run, "sequence": work.sequence }).to_string();
        let sequence = bookkeeping::log_commit(connection, commit)?;
        work.snapshot.finish(connection, &extra)?;
        failpoint("ducklake-before-commit");
        self.writing.commit("committing")?;
        failpoint("ducklake-after-commit");
        // They are swept when this fails: the commit stands.
        for path in std::mem::take(&mut self.work.needless) {
            let _ = sweep::remove_file(&path);
        }
        self.work.made.clear();
        self.merge(&names);
        Ok(sequence)
    }

    /// Merges files of the tables that were written to, in a transaction of its own. What fails is
    /// tried again after the next commit.
    fn merge(&mut self, names: &BTreeSet<String>) {
        for name in names {
            let merged = self.merge_one(name);
            if !matches!(merged, Ok(true)) {
                self.writing.roll_back();
                self.remove_made();
            }
        }
    }

    /// True when something was merged.
    fn merge_one(&mut self, name: &str) -> Result<bool> {
        let operation = "merging data files";
        let data = self.work.lake.data.clone();
        let Some(table) = LakeTable::find(&self.writing.connection, &data, name)? else {
            return Ok(false);
        };
        let chosen = candidates(&self.writing.connection, &table)?;
        if chosen.is_empty() || !can_rewrite(&table) {
            return Ok(false);
        }
        self.writing.begin(operation)?;
        let connection = &self.writing.connection;
        self.work = Work::begin(connection, self.work.lake.clone())?;
        self.work.lake.announce(connection)?;
        // Another process may have written to the table meanwhile.
        reindex::catch_up(connection, &mut self.work, &table)?;
        let chosen = candidates(connection, &table)?;
        rewrite(connection, &mut self.work, &table, &chosen)?;
        self.work.snapshot.finish(connection, "{\"merge\":true}")?;
        failpoint("ducklake-before-merged");
        self.writing.commit(operation)?;
        self.work.made.clear();
        Ok(true)
    }

    fn remove_made(&mut self) {
        for path in std::mem::take(&mut self.work.made) {
            // Swept when the lake is opened the next time.
            let _ = sweep::remove_file(&path);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Whether a commit that failed was made is known by its files alone.
        if !self.writing.connection.is_autocommit() {
            self.writers.clear();
            self.remove_made();
        }
        self.writing.roll_back();
    }
}

/// A transaction. It holds the writing connection except while a thread works with it; when a call
/// fails or is cancelled, the connection does not come back and the transaction is over.
struct DucklakeTransaction {
    path: PathBuf,
    open: Option<Open>,
}

impl DucklakeTransaction {
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
impl Transaction for DucklakeTransaction {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let (mut open, table) = (self.take()?, Arc::clone(table));
        let stream = table.stream.clone();
        let written = blocking(move || {
            open.write(&table, &batch)?;
            Ok(open)
        });
        let open = written
            .await
            .map_err(|error| at(&self.path)(error.with_context("stream", stream)))?;
        self.open = Some(open);
        Ok(0)
    }

    async fn commit(mut self: Box<Self>, commit: &Commit) -> Result<u64> {
        let (open, commit) = (self.take()?, commit.clone());
        blocking(move || open.commit(commit))
            .await
            .map_err(at(&self.path))
    }
}
