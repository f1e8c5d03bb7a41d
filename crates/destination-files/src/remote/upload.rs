//! Brings files to a bucket, in parts, so that little of them is in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::remote::error::io_error;

/// Size of a part; a smaller file is put at once. Stores accept no smaller parts than 5 MiB.
const PART_BYTES: usize = 8 << 20;
/// What a permit of the memory is for.
const UNIT_BYTES: usize = 16 << 10;

/// Bytes that the parts on their way may take together.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// Room for so many bytes, at least for one part.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.max(PART_BYTES) / UNIT_BYTES)))
    }

    async fn take(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let units = bytes.clamp(1, PART_BYTES).div_ceil(UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.0).acquire_many_owned(units).await;
        taken.map_err(io::Error::other)
    }
}

/// Uploads a file.
pub(crate) async fn upload(
    store: Arc<dyn ObjectStore>,
    key: Key,
    file: &Path,
    room: Room,
) -> io::Result<()> {
    let mut file = File::open(file).await?;
    let size = usize::try_from(file.metadata().await?.len()).unwrap_or(usize::MAX);
    if size <= PART_BYTES {
        let _room = room.take(size).await?;
        let mut bytes = Vec::with_capacity(size);
        file.read_to_end(&mut bytes).await?;
        return store
            .put(&key, bytes.into())
            .await
            .map(drop)
            .map_err(io_error);
    }
    let mut upload = store.put_multipart(&key).await.map_err(io_error)?;
    match parts(&mut *upload, file, size, &room).await {
        Ok(()) => upload.complete().await.map(drop).map_err(io_error),
        Err(error) => {
            // Parts that stay cost money until a rule of the bucket removes them.
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

async fn parts(
    upload: &mut dyn MultipartUpload,
    mut file: File,
    mut left: usize,
    room: &Room,
) -> io::Result<()> {
    let mut on_their_way = JoinSet::new();
    while left > 0 {
        let size = left.min(PART_BYTES);
        let taken = room.take(size).await?;
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes).await?;
        left -= size;
        let part = upload.put_part(bytes.into());
        on_their_way.spawn(async move {
            let sent = part.await;
            drop(taken);
            sent
        });
        while let Some(sent) = on_their_way.try_join_next() {
            sent.map_err(io::Error::other)?.map_err(io_error)?;
        }
    }
    while let Some(sent) = on_their_way.join_next().await {
        sent.map_err(io::Error::other)?.map_err(io_error)?;
    }
    Ok(())
}
