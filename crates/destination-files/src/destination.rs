//! The destination and its transaction.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{
    Commit, Delivery, Destination, Error, ErrorKind, Generation, Result, Status, Table, TableId, Transaction, crash_point,
};

use crate::error::Explain;
use crate::log::create_unique;
use crate::manifest::StagedFile;
use crate::store::{self, Store, staging};

const WRITING: &str = "writing rows";
/// A file that has grown this large is closed, and another begun.
const FILE_BYTES: u64 = 128 * 1024 * 1024;
/// What the open files of a transaction may hold in memory together.
const BUFFERED_BYTES: usize = 128 * 1024 * 1024;
/// Commits after which the manifests are folded into a snapshot.
const SNAPSHOT_EVERY: u64 = 64;

/// A kind of data file.
pub trait FileFormat: Send + Sync + Debug + 'static {
    /// What file names end in, without the dot.
    fn extension(&self) -> &'static str;

    /// Begins a file. All its rows have the columns of `first`, which is written next.
    fn begin(&self, file: File, first: &RecordBatch) -> Result<Box<dyn FileWriter>>;
}

/// A data file on its way. Dropping it leaves the file unfinished.
pub trait FileWriter: Send {
    /// Adds rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Bytes held in memory.
    fn buffered(&self) -> usize;

    /// Writes what is held in memory.
    fn flush(&mut self) -> Result<()>;

    /// Bytes written to the file.
    fn written(&self) -> u64;

    /// Completes the file and gives it back.
    fn finish(self: Box<Self>) -> Result<File>;
}

/// A folder of data files that are published by manifests.
#[derive(Debug)]
pub struct FileDestination {
    root: PathBuf,
    format: Arc<dyn FileFormat>,
    store: Arc<Mutex<Store>>,
}

impl FileDestination {
    /// Opens a folder, and creates it when it does not exist. Finishes or removes what an interrupted process left.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the folder cannot be written, or a manifest or data file is missing or damaged.
    pub fn open(root: impl AsRef<Path>, format: impl FileFormat) -> Result<Self> {
        Self::open_with(root, format, SNAPSHOT_EVERY)
    }

    /// As [`open`](Self::open), with the number of commits after which the manifests are folded into a snapshot, which
    /// is 64 otherwise. It bounds how many manifests are read at the start.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(root: impl AsRef<Path>, format: impl FileFormat, snapshot_every: u64) -> Result<Self> {
        let root = root.as_ref().to_owned();
        let store = Store::open(&root, format.extension(), snapshot_every)?;
        Ok(Self { root, format: Arc::new(format), store: Arc::new(Mutex::new(store)) })
    }

    /// The visible files of a table, oldest first, as the newest manifest has it.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when a manifest cannot be read.
    pub fn files(&self, table: &TableId) -> Result<Vec<PathBuf>> {
        let mut store = lock(&self.store);
        store.refresh()?;
        Ok(store.visible(table))
    }

    /// The folder where a table's visible files are.
    pub fn folder(&self, table: &TableId) -> PathBuf {
        lock(&self.store).folder(table)
    }

    /// Works with the store, refreshed, on a thread that may block.
    async fn with_store<T: Send + 'static>(&self, work: impl FnOnce(&mut Store) -> Result<T> + Send + 'static) -> Result<T> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let mut store = lock(&store);
            store.refresh()?;
            work(&mut store)
        })
        .await
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Error::new(ErrorKind::Unexpected, "a file task ended early").with_source(error))?
}

#[async_trait]
impl Destination for FileDestination {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        let folder = staging(&self.root);
        blocking(move || {
            let (path, _) = create_unique(&folder, "checking the folder")?;
            store::remove(&path)
        })
        .await
    }

    /// Creates the folders. Columns need nothing: every file has its own.
    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        let tables: Vec<TableId> = tables.iter().map(|table| table.id()).collect();
        self.with_store(move |store| {
            tables
                .iter()
                .map(|table| store.folder(table))
                .try_for_each(|folder| fs::create_dir_all(&folder).explain("creating a table's folder", &folder))
        })
        .await
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let source = source.to_owned();
        let is_its = move |(id, _): &(&EndpointId, &EndpointState)| id.source == source;
        let copy = |(id, state): (&EndpointId, &EndpointState)| (id.clone(), state.clone());
        self.with_store(move |store| Ok(store.fold().endpoints.iter().filter(is_its).map(copy).collect())).await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let staged = Staged { folder: staging(&self.root), format: Arc::clone(&self.format), open: Vec::new(), files: Vec::new() };
        Ok(Box::new(FileTransaction { store: Arc::clone(&self.store), staged: Some(staged) }))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        self.with_store(move |store| {
            let fold = store.fold();
            let rows = |files: &crate::manifest::Files| files.current.iter().map(|file| file.rows).sum();
            Ok(Status {
                endpoints: fold.endpoints.clone().into_iter().collect(),
                rows: fold.tables.iter().map(|(table, files)| (table.clone(), rows(files))).collect(),
                commits: store.log().commits(fold.sequence, commits)?,
            })
        })
        .await
    }
}

/// The files of a transaction, which are removed when this is dropped before they are committed.
struct Staged {
    folder: PathBuf,
    format: Arc<dyn FileFormat>,
    open: Vec<OpenFile>,
    files: Vec<StagedFile>,
}

struct OpenFile {
    table: TableId,
    generation: Generation,
    schema: SchemaRef,
    path: PathBuf,
    rows: u64,
    writer: Box<dyn FileWriter>,
}

impl Staged {
    fn write(&mut self, table: &Table, batch: &RecordBatch) -> Result<()> {
        let index = self.file_for(table, batch)?;
        let open = &mut self.open[index];
        open.writer.write(batch).map_err(|error| at(&open.path, error))?;
        open.rows += batch.num_rows() as u64;
        if open.writer.written() >= FILE_BYTES {
            self.close(index)?;
        }
        crash_point("files-after-write");
        self.bound_memory()
    }

    /// The open file of a table, begun if need be, and begun anew when the columns changed.
    fn file_for(&mut self, table: &Table, batch: &RecordBatch) -> Result<usize> {
        let (id, schema) = (table.id(), batch.schema());
        if let Some(index) = self.open.iter().position(|open| open.table == id && open.generation == table.generation) {
            if self.open[index].schema == schema {
                return Ok(index);
            }
            self.close(index)?;
        }
        let (path, file) = create_unique(&self.folder, WRITING)?;
        let writer = self.format.begin(file, batch).inspect_err(|_| drop(store::remove(&path)))?;
        self.open.push(OpenFile { table: id, generation: table.generation, schema, path, rows: 0, writer });
        Ok(self.open.len() - 1)
    }

    fn bound_memory(&mut self) -> Result<()> {
        let mut buffered: usize = self.open.iter().map(|open| open.writer.buffered()).sum();
        while buffered > BUFFERED_BYTES {
            let Some(largest) = self.open.iter_mut().max_by_key(|open| open.writer.buffered()) else { break };
            buffered -= largest.writer.buffered();
            largest.writer.flush().map_err(|error| at(&largest.path, error))?;
        }
        Ok(())
    }

    /// Completes a file; it is on disk when this returns.
    fn close(&mut self, index: usize) -> Result<()> {
        let OpenFile { table, generation, path, rows, writer, .. } = self.open.remove(index);
        let finish = || {
            let file = writer.finish().map_err(|error| at(&path, error))?;
            file.sync_all().and_then(|()| file.metadata()).explain(WRITING, &path)
        };
        let bytes = finish().inspect_err(|_| drop(store::remove(&path)))?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.push(StagedFile { table, generation, name, rows, bytes });
        Ok(())
    }

    fn commit(mut self, store: &Mutex<Store>, commit: &Commit) -> Result<u64> {
        while !self.open.is_empty() {
            self.close(0)?;
        }
        let files = std::mem::take(&mut self.files);
        lock(store).commit(&files, commit).inspect_err(|error| {
            // After any other failure a manifest may name the files: the next start knows.
            if error.kind() == ErrorKind::CheckpointConflict {
                self.files = files;
            }
        })
    }
}

fn at(path: &Path, error: Error) -> Error {
    error.with_context("path", path.display().to_string())
}

impl Drop for Staged {
    fn drop(&mut self) {
        let open = self.open.iter().map(|open| open.path.clone());
        let closed = self.files.iter().map(|file| self.folder.join(&file.name));
        for path in open.chain(closed) {
            // What cannot be removed now is removed when the folder is next opened.
            let _ = store::remove(&path);
        }
    }
}

/// A transaction. When a call fails or is cancelled, the files are removed and the transaction is over.
struct FileTransaction {
    store: Arc<Mutex<Store>>,
    staged: Option<Staged>,
}

impl FileTransaction {
    fn take(&mut self) -> Result<Staged> {
        let over = || Error::new(ErrorKind::Destination, "the transaction ended with an earlier failure").with_help("run again");
        self.staged.take().ok_or_else(over)
    }
}

#[async_trait]
impl Transaction for FileTransaction {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<()> {
        let (mut staged, table) = (self.take()?, Arc::clone(table));
        let stream = table.stream.clone();
        let written = blocking(move || {
            staged.write(&table, &batch)?;
            Ok(staged)
        });
        self.staged = Some(written.await.map_err(|error| error.with_context("stream", stream))?);
        Ok(())
    }

    async fn commit(mut self: Box<Self>, commit: &Commit) -> Result<u64> {
        let (staged, store, commit) = (self.take()?, Arc::clone(&self.store), commit.clone());
        blocking(move || staged.commit(&store, &commit)).await
    }
}
