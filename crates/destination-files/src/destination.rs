//! The destination and its transaction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, Result, RunRecord};
use pipeline_engine::{
    Access, Commit, Damage, Delivery, Depth, Destination, Generation, Location, Purge, Purged,
    Status, Table, TableId, Transaction,
};

use crate::card::Card;
use crate::carry::carry;
use crate::compact::compact;
use crate::error::Explain;
use crate::format::FileFormat;
use crate::local::Local;
use crate::place::Place;
use crate::purge::purge as purge_table;
use crate::remote::{Address, Remote, StorageConfig};
use crate::runs;
use crate::sieve::Sieves;
use crate::staged::Staged;
use crate::store::{Options, Store};

/// Where the files of a destination are: what its configuration says.
#[derive(Clone, Debug)]
pub struct FileTarget {
    /// A folder, or the address of a prefix in a bucket, such as `s3://bucket/prefix`.
    pub path: PathBuf,
    /// How the bucket is reached; none: by what the environment and the machine say.
    pub storage: Option<StorageConfig>,
}

impl FileTarget {
    /// Where rows go. An address that cannot be used is shown as it is: opening it fails.
    pub fn location(&self) -> Location {
        match Address::of(&self.path) {
            Ok(Some(address)) => Location::Url(address.to_string()),
            Ok(None) => Location::Path(self.path.clone()),
            Err(_) => Location::Url("a bucket".to_owned()),
        }
    }

    fn check_local(&self) -> Result<()> {
        if self.storage.is_none() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::ConfigInvalid,
            "`storage` requires a `path` in a bucket",
        )
        .with_context("field", "storage")
        .with_help("remove `[destination.storage]`, or set `path` to an address such as s3://bucket/prefix"))
    }
}

/// Data files that are published by manifests, in a folder or a bucket.
#[derive(Debug)]
pub struct FileDestination {
    place: Arc<dyn Place>,
    format: Arc<dyn FileFormat>,
    store: Arc<Mutex<Store>>,
}

impl FileDestination {
    /// Opens a folder, and creates it when it does not exist. Finishes or removes what an
    /// interrupted process left.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the folder cannot be written, or a manifest or data file is
    /// missing or damaged.
    pub fn open(root: impl AsRef<Path>, format: impl FileFormat, options: Options) -> Result<Self> {
        Self::open_at(
            Access::Write,
            Arc::new(Local::new(root.as_ref())),
            format,
            options,
        )
    }

    /// Opens a folder for reading, and changes nothing in it: it shows what it would show after
    /// [`open`](Self::open) had settled it, also on a read-only disk, and nothing when it does not
    /// exist. What writes fails.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the folder cannot be read, or a manifest is missing or
    /// damaged.
    pub fn open_to_read(
        root: impl AsRef<Path>,
        format: impl FileFormat,
        options: Options,
    ) -> Result<Self> {
        Self::open_at(
            Access::Read,
            Arc::new(Local::new(root.as_ref())),
            format,
            options,
        )
    }

    /// Opens a folder or a prefix in a bucket for an access, on a thread that may block: how every
    /// format of files opens its destination.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`open_to_read`](Self::open_to_read), and
    /// [`ErrorKind::ConfigInvalid`] when a bucket cannot be reached with its settings, or does not
    /// keep two writers apart.
    pub async fn open_for(
        access: Access,
        target: FileTarget,
        format: impl FileFormat,
        options: Options,
    ) -> Result<Self> {
        blocking(move || {
            let place: Arc<dyn Place> = match Address::of(&target.path)? {
                None => {
                    target.check_local()?;
                    Arc::new(Local::new(&target.path))
                }
                Some(address) => {
                    let storage = target.storage.unwrap_or_default();
                    Arc::new(Remote::new(&address, &storage, &options)?)
                }
            };
            Self::open_at(access, place, format, options)
        })
        .await
    }

    fn open_at(
        access: Access,
        place: Arc<dyn Place>,
        format: impl FileFormat,
        options: Options,
    ) -> Result<Self> {
        let open = match access {
            Access::Write => Store::open,
            Access::Read => Store::open_to_read,
        };
        let format: Arc<dyn FileFormat> = Arc::new(format);
        let store = open(Arc::clone(&place), &format, options)?;
        Ok(Self {
            place,
            format,
            store: Arc::new(Mutex::new(store)),
        })
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
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| {
        Error::new(ErrorKind::Unexpected, "a file task ended early").with_source(error)
    })?
}

#[async_trait]
impl Destination for FileDestination {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        self.with_store(move |store| {
            store.check_writable()?;
            store.place().check()
        })
        .await
    }

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        let (store, place) = (Arc::clone(&self.store), Arc::clone(&self.place));
        let (source, run) = (source.to_owned(), run.to_owned());
        blocking(move || {
            lock(&store).check_writable()?;
            place.claim(&source, &run)
        })
        .await
    }

    async fn is_claimed(&self, source: &str) -> Result<Option<bool>> {
        let (place, source) = (Arc::clone(&self.place), source.to_owned());
        blocking(move || Ok(place.is_claimed(&source))).await
    }

    async fn verify(&self, depth: Depth) -> Result<Vec<Damage>> {
        let format = Arc::clone(&self.format);
        self.with_store(move |store| store.verify(depth, &*format))
            .await
    }

    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        let (place, run) = (Arc::clone(&self.place), run.clone());
        let (store, format) = (Arc::clone(&self.store), Arc::clone(&self.format));
        blocking(move || {
            let compacts = {
                let store = lock(&store);
                store.check_writable()?;
                store.compacts() && run.took.is_some()
            };
            runs::record(&*place, &run)?;
            if compacts && let Err(error) = compact(&mut lock(&store), &format, &run) {
                // The files stay as they are, and the next run tries again.
                tracing::warn!(%error, "small files are not merged");
            }
            Ok(())
        })
        .await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let place = Arc::clone(&self.place);
        blocking(move || runs::newest(&*place, limit)).await
    }

    /// Creates the folders, and makes sure that visible rows are what was committed. Columns need
    /// nothing: every file has its own.
    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        let tables = tables.to_vec();
        self.with_store(move |store| {
            store.check_writable()?;
            tables.iter().try_for_each(|table| {
                store.learn_key(table);
                if table.generation == Generation::Current {
                    store.ready(&table.id(), Generation::Current)?;
                }
                let folder = store.folder(&table.id());
                store
                    .place()
                    .create_folders(&folder)
                    .explain("creating a table's folder", &folder)
            })
        })
        .await
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let source = source.to_owned();
        let is_its = move |(id, _): &(&EndpointId, &EndpointState)| id.source == source;
        let copy = |(id, state): (&EndpointId, &EndpointState)| (id.clone(), state.clone());
        self.with_store(move |store| {
            Ok(store
                .fold()
                .endpoints
                .iter()
                .filter(is_its)
                .map(copy)
                .collect())
        })
        .await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let (store, format) = (Arc::clone(&self.store), Arc::clone(&self.format));
        let (staged, spare) = blocking(move || {
            let store = lock(&store);
            store.check_writable()?;
            Ok((store.stage(&format), store.stage(&format)))
        })
        .await?;
        let parts = Parts {
            staged,
            spare,
            sieves: Sieves::default(),
            store: Arc::clone(&self.store),
            format: Arc::clone(&self.format),
        };
        Ok(Box::new(FileTransaction { parts: Some(parts) }))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        self.with_store(move |store| {
            let fold = store.fold();
            let rows =
                |files: &crate::manifest::Files| files.current.iter().map(|file| file.rows).sum();
            Ok(Status {
                endpoints: fold.endpoints.clone().into_iter().collect(),
                rows: fold
                    .tables
                    .iter()
                    .map(|(table, files)| (table.clone(), rows(files)))
                    .collect(),
                commits: store.log().commits(fold.sequence, commits)?,
            })
        })
        .await
    }

    async fn purge(&self, purge: &Purge) -> Result<Purged> {
        let (purge, format) = (purge.clone(), Arc::clone(&self.format));
        self.with_store(move |store| {
            if !purge.dry_run {
                store.check_writable()?;
            }
            let bytes_before = store.bytes();
            let wanted: Vec<TableId> = store
                .fold()
                .tables
                .keys()
                .filter(|table| purge.wants(table))
                .cloned()
                .collect();
            let tables = wanted
                .iter()
                .map(|table| purge_table(store, &format, &purge, table))
                .collect::<Result<_>>()?;
            Ok(Purged {
                tables,
                bytes_before,
                bytes_after: store.bytes(),
            })
        })
        .await
    }
}

/// What a transaction works with. Dropping it removes its files.
struct Parts {
    store: Arc<Mutex<Store>>,
    format: Arc<dyn FileFormat>,
    staged: Staged,
    /// Rows that earlier transactions have stored in a next generation, in case this one discards
    /// it.
    spare: Staged,
    sieves: Sieves,
}

impl Parts {
    /// Stages the rows that say something new, and returns how many do not.
    fn write(&mut self, table: &Table, batch: &RecordBatch) -> Result<u64> {
        let (id, generation) = (table.id(), table.generation);
        lock(&self.store).learn_key(table);
        let Some((patterns, sifted)) =
            self.sieves.sift(&self.store, &*self.format, table, batch)?
        else {
            self.staged.write(&id, generation, batch)?;
            return Ok(0);
        };
        if let Some(fresh) = &sifted.fresh {
            let card = Card {
                numbers: sifted.numbers,
                ..Card::new(&table.primary_key, &patterns)
            };
            self.staged.write_with(&id, generation, fresh, Some(card))?;
        }
        if let Some(spare) = &sifted.spare {
            self.spare.write(&id, generation, spare)?;
        }
        Ok(sifted.unchanged)
    }

    fn commit(mut self, commit: &Commit) -> Result<u64> {
        self.staged.close_all()?;
        self.spare.close_all()?;
        let needed = self
            .spare
            .take_files(|file| commit.discard.contains(&file.table));
        self.staged.adopt(needed);
        let mut store = lock(&self.store);
        let committed = store.commit(self.staged.files(), commit, |store| {
            self.sieves.check(store)?;
            carry(store, &self.format, commit, self.staged.files())
        });
        // After any other failure a manifest may name the files: the next start knows.
        if !committed
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::CheckpointConflict)
        {
            self.staged.leave();
        }
        if committed.is_ok() {
            self.sieves.hand_on(&mut store, commit);
        }
        committed
    }
}

/// A transaction. When a call fails or is cancelled, the files are removed and the transaction is
/// over.
struct FileTransaction {
    parts: Option<Parts>,
}

impl FileTransaction {
    fn take(&mut self) -> Result<Parts> {
        let over = || {
            Error::new(
                ErrorKind::Destination,
                "the transaction ended with an earlier failure",
            )
            .with_help("run again")
        };
        self.parts.take().ok_or_else(over)
    }
}

#[async_trait]
impl Transaction for FileTransaction {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let (mut parts, table) = (self.take()?, Arc::clone(table));
        let stream = table.stream.clone();
        let written = blocking(move || {
            let unchanged = parts.write(&table, &batch)?;
            Ok((parts, unchanged))
        });
        let (parts, unchanged) = written
            .await
            .map_err(|error| error.with_context("stream", stream))?;
        self.parts = Some(parts);
        Ok(unchanged)
    }

    async fn commit(mut self: Box<Self>, commit: &Commit) -> Result<u64> {
        let (parts, commit) = (self.take()?, commit.clone());
        blocking(move || parts.commit(&commit)).await
    }
}
