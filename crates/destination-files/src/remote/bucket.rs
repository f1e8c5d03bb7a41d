//! Objects by their paths.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use tokio::time::Instant;

use crate::remote::error::{StoreError, io_error, listing_error};
use crate::remote::io::Io;
use crate::remote::listing::Listing;

/// Longest time in which a new object is put again when it is not known what became of it.
const UNDECIDED: Duration = Duration::from_secs(30);
/// Time before something is tried or looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// A prefix in a bucket. Clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    io: Arc<Io>,
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
    prefix: String,
}

impl Bucket {
    pub(crate) fn new(io: Io, store: Arc<dyn ObjectStore>, root: PathBuf, prefix: String) -> Self {
        Self {
            io: Arc::new(io),
            store,
            root,
            prefix,
        }
    }

    pub(crate) fn io(&self) -> &Io {
        &self.io
    }

    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The address that all paths begin with.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The key of an object, or of the objects below a folder.
    pub(crate) fn key(&self, path: &Path) -> io::Result<Key> {
        let below = path.strip_prefix(&self.root).map_err(io::Error::other)?;
        let mut key = self.prefix.clone();
        for part in below {
            let part = part
                .to_str()
                .ok_or_else(|| io::Error::other("a path is not text"))?;
            if !key.is_empty() {
                key.push('/');
            }
            key.push_str(part);
        }
        Key::parse(key).map_err(io::Error::other)
    }

    /// What is in a folder.
    pub(crate) async fn list(&self, folder: &Path) -> io::Result<Listing> {
        let key = self.key(folder)?;
        let listed = self.store.list_with_delimiter(prefix(&key)).await;
        let listed = listed.map_err(listing_error)?;
        let folders = listed.common_prefixes.iter();
        let folders = folders.filter_map(|key| Some((key.filename()?.to_owned(), None)));
        let files = listed.objects.iter();
        let files =
            files.filter_map(|meta| Some((meta.location.filename()?.to_owned(), Some(meta.size))));
        Ok(folders.chain(files).collect())
    }

    /// The objects in a folder with names after one.
    pub(crate) async fn list_after(&self, folder: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
        let (key, after) = (self.key(folder)?, self.key(&folder.join(name))?);
        let listed = self.store.list_with_offset(prefix(&key), &after);
        let listed: Vec<_> = listed.try_collect().await.map_err(listing_error)?;
        let names = listed.iter().filter_map(|meta| meta.location.filename());
        Ok(names.map(|name| folder.join(name)).collect())
    }

    /// The content of an object; none: it does not exist.
    pub(crate) async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.store.get(&self.key(path)?).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(io_error)?.into())),
            Err(error) => match io_error(error) {
                error if error.kind() == io::ErrorKind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Makes or replaces an object.
    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        let made = self.store.put(&self.key(path)?, bytes.into()).await;
        made.map(drop).map_err(io_error)
    }

    /// Makes an object that does not exist. False: there is one, with other content.
    ///
    /// The library tries again after a failure that may have been a success, and takes the answer
    /// "conflict", which decides nothing, for "exists". So what exists is read: it may be ours. Where
    /// there is nothing it is put again, which is harmless: if the one before arrives after all, this
    /// one finds it.
    pub(crate) async fn create(&self, path: &Path, bytes: Vec<u8>) -> io::Result<bool> {
        let key = self.key(path)?;
        let bytes = bytes::Bytes::from(bytes);
        let started = Instant::now();
        loop {
            let options = PutOptions::from(PutMode::Create);
            let made = self.store.put_opts(&key, bytes.clone().into(), options);
            let Err(error) = made.await else {
                return Ok(true);
            };
            let is_passing = matches!(error, object_store::Error::AlreadyExists { .. })
                || StoreError::new(&error).is_passing();
            match self.read(path).await {
                Ok(Some(found)) => return Ok(found == bytes),
                Ok(None) if is_passing && started.elapsed() < UNDECIDED => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(None) | Err(_) => return Err(io_error(error)),
            }
        }
    }

    /// The size of an object; none: it does not exist.
    pub(crate) async fn read_len(&self, path: &Path) -> io::Result<Option<u64>> {
        match self.store.head(&self.key(path)?).await.map_err(io_error) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies an object in the bucket.
    pub(crate) async fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.key(from)?, self.key(to)?);
        self.store.copy(&from, &to).await.map_err(io_error)
    }

    /// Waits until a copy is as large as its original, if that is still there.
    pub(crate) async fn copied(&self, from: &Path, to: &Path) -> io::Result<()> {
        loop {
            let wanted = self.read_len(from).await?;
            if wanted.is_none() || self.read_len(to).await? == wanted {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Removes an object that may be gone.
    pub(crate) async fn delete(&self, path: &Path) -> io::Result<()> {
        match self.store.delete(&self.key(path)?).await.map_err(io_error) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }
}

fn prefix(key: &Key) -> Option<&Key> {
    (!key.as_ref().is_empty()).then_some(key)
}
