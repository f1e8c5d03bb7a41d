//! A prefix in a bucket.

mod address;
mod bucket;
mod client;
mod config;
mod error;
mod io;
mod lease;
mod listing;
mod probe;
mod upload;

use std::fs::File;
use std::io::{Error as IoError, Result as IoResult, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use pipeline_core::{Claim, Error, ErrorKind, Result, failpoint};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::address::Address;
use self::address::Scheme;
use self::bucket::Bucket;
use self::client::Connector;
pub use self::config::StorageConfig;
pub(crate) use self::error::StoreError;
use self::error::{io_error, listing_error};
use self::io::Io;
use self::listing::{Listing, Listings};
use self::upload::Room;
use crate::error::{Explain, file_error};
use crate::names;
use crate::output::Output;
use crate::place::{Found, Held, Occupied, Place, Upload, View};
use crate::store::{OPENING, Options};

const STAGING: &str = "uploading a file";
const REMOVING: &str = "removing a file";
/// Requests at once where there are many to make.
const AT_ONCE: usize = 16;
/// Longest time in which what is not needed is removed.
const REMOVAL: Duration = Duration::from_secs(10);

/// A prefix in a bucket, of which every file is an object.
#[derive(Debug)]
pub(crate) struct Remote {
    scheme: Scheme,
    bucket: Bucket,
    connector: Connector,
    listings: Listings,
    /// Where files are written before they are uploaded.
    drafts: TempDir,
    room: Room,
    lease: Duration,
    idle: Duration,
    /// What the store's clock said when the bucket was opened for writing.
    opened: Mutex<Option<DateTime<Utc>>>,
}

impl Remote {
    /// Makes a client; nothing is requested yet.
    pub(crate) fn new(
        address: &Address,
        storage: &StorageConfig,
        options: &Options,
    ) -> Result<Self> {
        let connector = Connector::new()?;
        let store = storage.store(address, connector.clone())?;
        let root = PathBuf::from(address.to_string());
        let drafts = tempfile::tempdir().map_err(|error| {
            file_error("making a folder for files to be uploaded", error)
                .with_context("path", std::env::temp_dir().display().to_string())
        })?;
        Ok(Self {
            scheme: address.scheme,
            bucket: Bucket::new(Io::new()?, store, root, address.prefix.clone()),
            connector,
            listings: Listings::default(),
            drafts,
            room: Room::new(options.buffered / 2),
            lease: options.lease,
            idle: options.idle,
            opened: Mutex::new(None),
        })
    }

    fn draft(&self, staged: &Path) -> PathBuf {
        self.drafts
            .path()
            .join(names::of(staged).unwrap_or("draft"))
    }

    /// The listing of a folder, from memory while that is held.
    fn listing<T>(&self, folder: &Path, look: impl FnOnce(&Listing) -> T) -> IoResult<T> {
        let mut look = Some(look);
        let known = self
            .listings
            .get(folder, |listing| look.take().map(|look| look(listing)));
        if let Some(Some(seen)) = known {
            return Ok(seen);
        }
        let listing = self.list_fresh(folder)?;
        self.listings.put(folder, &listing);
        match look {
            Some(look) => Ok(look(&listing)),
            None => unreachable!("it was not used"),
        }
    }

    fn list_fresh(&self, folder: &Path) -> IoResult<Listing> {
        let (bucket, folder) = (self.bucket.clone(), folder.to_owned());
        self.bucket
            .io()
            .run(async move { bucket.list(&folder).await })
    }

    /// Listings of many folders.
    fn list_many(&self, folders: Vec<PathBuf>) -> IoResult<Vec<(PathBuf, Listing)>> {
        let bucket = self.bucket.clone();
        self.bucket.io().run(async move {
            let list = |folder: PathBuf| {
                let bucket = bucket.clone();
                async move { bucket.list(&folder).await.map(|listing| (folder, listing)) }
            };
            let listed = futures::stream::iter(folders).map(list).buffered(AT_ONCE);
            listed.try_collect().await
        })
    }
}

impl Held for () {}

impl Place for Remote {
    fn root(&self) -> &Path {
        self.bucket.root()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result<()> {
        let opened = probe::probe(&self.bucket)?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        probe::probe(&self.bucket)?;
        match self.connector.expiration() {
            None => Ok(()),
            Some(rule) => Err(probe::expires(self.root(), &rule)),
        }
    }

    /// Nobody can lock a bucket: what is put in order is what nobody can be at work on any more.
    fn occupy(&self, _: Duration, alone: &mut dyn FnMut() -> Result<()>) -> Result<Occupied> {
        alone()?;
        Ok(Box::new(()))
    }

    fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        lease::claim(&self.bucket, self.lease, source, run)
    }

    fn is_claimed(&self, source: &str) -> Option<bool> {
        lease::is_claimed(&self.bucket, self.lease, source)
    }

    fn read(&self, path: &Path) -> IoResult<Option<Vec<u8>>> {
        let (bucket, path) = (self.bucket.clone(), path.to_owned());
        self.bucket
            .io()
            .run(async move { bucket.read(&path).await })
    }

    fn read_all(&self, paths: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
        let (bucket, wanted) = (self.bucket.clone(), paths.to_owned());
        let reading = async move {
            let read = |path: PathBuf| {
                let bucket = bucket.clone();
                async move { bucket.read(&path).await.ok().flatten() }
            };
            let read = futures::stream::iter(wanted).map(read).buffered(AT_ONCE);
            Ok(read.collect().await)
        };
        let read = self.bucket.io().run(reading);
        read.unwrap_or_else(|_| vec![None; paths.len()])
    }

    /// Downloads it to a file that has no name.
    fn open(&self, path: &Path) -> IoResult<File> {
        let (store, key) = (self.bucket.store(), self.bucket.key(path)?);
        let mut file = tempfile::tempfile()?;
        self.bucket.io().run(async move {
            let found = store.get(&key).await.map_err(io_error)?;
            let mut pieces = found.into_stream();
            while let Some(piece) = pieces.try_next().await.map_err(io_error)? {
                file.write_all(&piece)?;
            }
            file.rewind()?;
            Ok(file)
        })
    }

    fn metadata(&self, path: &Path) -> IoResult<Option<Found>> {
        if self.listings.is_held()
            && let (Some(folder), Some(name)) = (path.parent(), names::of(path))
        {
            let found = self.listing(folder, |listing| listing.get(name).copied())?;
            return Ok(found.map(|len| Found {
                len: len.unwrap_or_default(),
                is_file: len.is_some(),
            }));
        }
        let (store, key) = (self.bucket.store(), self.bucket.key(path)?);
        let looking = async move { store.head(&key).await.map_err(io_error) };
        match self.bucket.io().run(looking) {
            Ok(meta) => Ok(Some(Found {
                len: meta.size,
                is_file: true,
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &Path) -> IoResult<Vec<PathBuf>> {
        self.listing(folder, |listing| {
            listing.keys().map(|name| folder.join(name)).collect()
        })
    }

    fn list_after(&self, folder: &Path, name: &str) -> IoResult<Vec<PathBuf>> {
        let (bucket, folder) = (self.bucket.clone(), folder.to_owned());
        let name = name.to_owned();
        self.bucket
            .io()
            .run(async move { bucket.list_after(&folder, &name).await })
    }

    /// Those that were written long before the bucket was opened, by the store's own clock.
    fn list_idle(&self, folder: &Path) -> IoResult<Vec<PathBuf>> {
        let opened = *self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = opened else {
            return Ok(Vec::new());
        };
        let (store, key) = (self.bucket.store(), self.bucket.key(folder)?);
        let (idle, folder) = (self.idle, folder.to_owned());
        self.bucket.io().run(async move {
            let listed = store.list_with_delimiter(Some(&key)).await;
            let listed = listed.map_err(listing_error)?;
            let is_idle = |meta: &&object_store::ObjectMeta| {
                let age = (opened - meta.last_modified).to_std();
                age.is_ok_and(|age| age >= idle)
            };
            let idle = listed.objects.iter().filter(is_idle);
            let names = idle.filter_map(|meta| meta.location.filename());
            Ok(names.map(|name| folder.join(name)).collect())
        })
    }

    fn data_files(&self) -> Result<Vec<PathBuf>> {
        let root = self.root().to_owned();
        let below = |(folder, listing): (PathBuf, Listing), wanted: fn(&str, bool) -> bool| {
            let names = listing.into_iter();
            let names = names.filter(move |(name, len)| wanted(name, len.is_none()));
            names
                .map(move |(name, _)| folder.join(name))
                .collect::<Vec<_>>()
        };
        let is_folder = |name: &str, is_folder: bool| is_folder && names::can_be_table(name);
        let mut found = vec![root.clone()];
        for wanted in [is_folder, is_folder, |_: &str, is_folder: bool| !is_folder] {
            let listed = self.list_many(found).explain(OPENING, &root)?;
            found = listed
                .into_iter()
                .flat_map(|listed| below(listed, wanted))
                .collect();
        }
        Ok(found)
    }

    fn view(&self, folders: &[PathBuf]) -> View {
        let held = self.listings.hold();
        let mut unknown = folders.to_vec();
        unknown.retain(|folder| self.listings.get(folder, |_| ()).is_none());
        // What cannot be listed now fails where it is looked at.
        if let Ok(listed) = self.list_many(unknown) {
            for (folder, listing) in listed {
                self.listings.put(&folder, &listing);
            }
        }
        View { _held: Some(held) }
    }

    /// There are no folders.
    fn create_folders(&self, _: &Path) -> IoResult<()> {
        Ok(())
    }

    fn put_new(&self, path: &Path, bytes: &[u8], operation: &'static str) -> Result<bool> {
        failpoint("files-before-manifest");
        let (bucket, to, bytes) = (self.bucket.clone(), path.to_owned(), bytes.to_vec());
        let made = self
            .bucket
            .io()
            .run(async move { bucket.create(&to, bytes).await });
        failpoint("files-after-manifest");
        made.explain(operation, path)
    }

    fn put(&self, path: &Path, bytes: &[u8], operation: &'static str) -> Result<()> {
        failpoint("files-before-snapshot");
        self.put_loosely(path, bytes).explain(operation, path)
    }

    fn put_loosely(&self, path: &Path, bytes: &[u8]) -> IoResult<()> {
        let len = bytes.len() as u64;
        let (bucket, to, bytes) = (self.bucket.clone(), path.to_owned(), bytes.to_vec());
        self.bucket
            .io()
            .run(async move { bucket.put(&to, bytes).await })?;
        self.listings.change(path, Some(len));
        Ok(())
    }

    fn begin(&self, staged: &Path) -> Output {
        Output::draft(self.draft(staged))
    }

    fn complete(&self, staged: &Path) -> Upload {
        let (draft, staged) = (self.draft(staged), staged.to_owned());
        let (bucket, room) = (self.bucket.clone(), self.room.clone());
        let listings = self.listings.clone();
        let (target, store) = (bucket.key(&staged), bucket.store());
        let uploading = bucket.io().handle().spawn(async move {
            let uploaded = upload::upload(store, target?, &draft, room).await;
            // It is not needed any more, whatever became of it.
            let _ = tokio::fs::remove_file(&draft).await;
            uploaded
        });
        let uploading = AbortOnDropHandle::new(uploading);
        Upload::pending(move || {
            let waited = bucket
                .io()
                .run(async move { uploading.await.map_err(IoError::other)? });
            listings.change(&staged, None);
            waited.explain(STAGING, &staged)
        })
    }

    fn abandon(&self, staged: &Path) {
        let _ = std::fs::remove_file(self.draft(staged));
        let (bucket, path) = (self.bucket.clone(), staged.to_owned());
        self.bucket
            .io()
            .run_for(REMOVAL, async move { bucket.delete(&path).await });
        self.listings.change(staged, None);
    }

    /// A process that was stopped for a day may find its files removed as left-overs.
    fn secure(&self, folder: &Path, files: &[(&str, u64)], operation: &'static str) -> Result<()> {
        let listing = self.list_fresh(folder).explain(operation, folder)?;
        let is_lost = |(name, len): &&(&str, u64)| listing.get(*name) != Some(&Some(*len));
        match files.iter().find(is_lost) {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(
                ErrorKind::Destination,
                "a file that was uploaded is not in the bucket any more",
            )
            .with_operation(operation)
            .with_context("path", folder.join(name).display().to_string())
            .with_help("run again; nothing of it was committed")),
        }
    }

    /// Copies, and then removes: after a crash in between both are there, and it is done again.
    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        let (bucket, source, target) = (self.bucket.clone(), from.to_owned(), to.to_owned());
        let is_slow = self.scheme == Scheme::Az;
        self.bucket.io().run(async move {
            bucket.copy(&source, &target).await?;
            failpoint("files-copied");
            // Azure may answer before it has copied.
            if is_slow {
                bucket.copied(&source, &target).await?;
            }
            bucket.delete(&source).await
        })?;
        self.listings.moved(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let (bucket, removed) = (self.bucket.clone(), path.to_owned());
        let deleting = async move { bucket.delete(&removed).await };
        self.bucket.io().run(deleting).explain(REMOVING, path)?;
        self.listings.change(path, None);
        Ok(())
    }
}
