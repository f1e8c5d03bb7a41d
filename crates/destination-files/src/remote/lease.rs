//! Who reads a source into a bucket. Nobody can lock there: a claim is an object that its holder
//! writes again every few seconds. Whoever finds one looks whether that happens; one that is not
//! written again was left by a process that died. So no clock has to be right.
//!
//! A claim keeps two syncs from requesting the same; what keeps them from committing the same is
//! the manifest.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};
use pipeline_core::{Claim, Clock as _, Result, SystemClock};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::claims::{CLAIMING, Holder, path, taken};
use crate::disk;
use crate::error::Explain;
use crate::remote::bucket::Bucket;
use crate::remote::error::io_error;

/// Parts of a lease after each of which its holder writes it again.
const BEATS: u32 = 5;
/// Time between two looks at somebody's claim.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time that giving a claim back may take.
const RETURN: Duration = Duration::from_secs(5);

/// What a claim object holds, as it was last written.
struct Written {
    bytes: Bytes,
    version: UpdateVersion,
}

/// Takes the right to read a source into the bucket.
pub(crate) fn claim(bucket: &Bucket, lease: Duration, source: &str, run: &str) -> Result<Claim> {
    let path = path(bucket.root(), source);
    let taking = take(bucket.clone(), path.clone(), run.to_owned(), lease);
    let written = match bucket.io().run(taking).explain(CLAIMING, &path)? {
        Ok(written) => written,
        Err(holder) => return Err(taken(source, &path, holder.as_ref())),
    };
    let keeping = keep(bucket.clone(), path.clone(), run.to_owned(), lease, written);
    let keeper = AbortOnDropHandle::new(bucket.io().handle().spawn(keeping));
    Ok(Box::new(Held {
        keeper: Some(keeper),
        bucket: bucket.clone(),
        path,
    }))
}

/// Whether a process has the right to read a source; none: what there is may be left over.
pub(crate) fn is_claimed(bucket: &Bucket, lease: Duration, source: &str) -> Option<bool> {
    let key = bucket.key(&path(bucket.root(), source)).ok()?;
    let store = bucket.store();
    let looking = async move {
        match store.head(&key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => found.map(Some).map_err(io_error),
        }
    };
    let Some(found) = bucket.io().run(looking).ok()? else {
        return Some(false);
    };
    // Two clocks: what is neither surely fresh nor surely old is not known.
    let age = (SystemClock.now() - found.last_modified).to_std();
    let age = age.unwrap_or_default();
    if age <= lease {
        Some(true)
    } else {
        (age > lease * 100).then_some(false)
    }
}

/// Waits until a claim is free, or is seen to be kept; then it fails with who keeps it.
async fn take(
    bucket: Bucket,
    path: PathBuf,
    run: String,
    lease: Duration,
) -> std::io::Result<std::result::Result<Written, Option<Holder>>> {
    let key = bucket.key(&path)?;
    let mut watched: Option<(Bytes, Instant)> = None;
    loop {
        let bytes = content(&run)?;
        match put(&bucket, &key, &bytes, PutMode::Create).await {
            Ok(version) => return Ok(Ok(Written { bytes, version })),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(io_error(error)),
        }
        let Some(found) = read(&bucket, &key).await? else {
            continue;
        };
        if found.bytes == bytes {
            return Ok(Ok(found));
        }
        let since = match watched {
            Some((before, since)) if before == found.bytes => since,
            Some(_) => return Ok(Err(serde_json::from_slice(&found.bytes).ok())),
            None => Instant::now(),
        };
        watched = Some((found.bytes.clone(), since));
        if since.elapsed() > lease {
            let mode = PutMode::Update(found.version);
            match put(&bucket, &key, &bytes, mode).await {
                Ok(version) => return Ok(Ok(Written { bytes, version })),
                // Written again after all, or taken by another process that has waited as well.
                Err(object_store::Error::Precondition { .. }) => continue,
                Err(error) => return Err(io_error(error)),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes a claim again until it is given back.
async fn keep(bucket: Bucket, path: PathBuf, run: String, lease: Duration, mut written: Written) {
    let Ok(key) = bucket.key(&path) else { return };
    loop {
        tokio::time::sleep(lease / BEATS).await;
        let Ok(bytes) = content(&run) else { return };
        let mode = PutMode::Update(written.version.clone());
        match tokio::time::timeout(lease, put(&bucket, &key, &bytes, mode)).await {
            Ok(Ok(version)) => written = Written { bytes, version },
            // It may be our own that was not answered.
            Ok(Err(object_store::Error::Precondition { .. })) | Err(_) => {
                match read(&bucket, &key).await {
                    Ok(Some(found)) if found.bytes == bytes || found.bytes == written.bytes => {
                        written = found;
                    }
                    Ok(_) => {
                        tracing::warn!(path = %path.display(), "another process has taken the claim of this one");
                        return;
                    }
                    Err(_) => {}
                }
            }
            Ok(Err(error)) => {
                let error = io_error(error);
                tracing::debug!(%error, path = %path.display(), "a claim is not written again");
            }
        }
    }
}

/// Every time another text.
fn content(run: &str) -> std::io::Result<Bytes> {
    let mut holder = Holder::this(Some(run));
    holder.beat = Some(disk::unique_name());
    Ok(serde_json::to_vec(&holder)?.into())
}

async fn put(
    bucket: &Bucket,
    key: &object_store::path::Path,
    bytes: &Bytes,
    mode: PutMode,
) -> object_store::Result<UpdateVersion> {
    let options = PutOptions {
        mode,
        ..PutOptions::default()
    };
    let store = bucket.store();
    let written = store.put_opts(key, bytes.clone().into(), options).await?;
    Ok(written.into())
}

async fn read(bucket: &Bucket, key: &object_store::path::Path) -> std::io::Result<Option<Written>> {
    let found = match bucket.store().get(key).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        found => found.map_err(io_error)?,
    };
    let version = UpdateVersion {
        e_tag: found.meta.e_tag.clone(),
        version: found.meta.version.clone(),
    };
    let bytes = found.bytes().await.map_err(io_error)?;
    Ok(Some(Written { bytes, version }))
}

/// A claim that is given back when it is dropped.
#[derive(Debug)]
struct Held {
    keeper: Option<AbortOnDropHandle<()>>,
    bucket: Bucket,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        let (bucket, path) = (self.bucket.clone(), self.path.clone());
        let returning = async move {
            // What it is writing must not come after the claim was removed.
            keeper.abort();
            let _ = keeper.await;
            bucket.delete(&path).await
        };
        self.bucket.io().run_for(RETURN, returning);
    }
}
