//! What a run leaves to the next about its limits: how much of a long quota is used, and what
//! answers have taught.

use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::rate_limit::BucketKey;

/// The only version of the format so far.
const VERSION: u32 = 1;

/// What is kept of one bucket between runs. Holds no credential and no name of an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BucketRecord {
    /// Permits that were spent lately, oldest first. Kept for quotas of a minute and longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Spent>,
    /// What answers have taught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Learned>,
}

/// Permits spent at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// When.
    pub at: DateTime<Utc>,
    /// How many.
    pub permits: u32,
}

/// What a vendor's answers have taught about a bucket that is not documented, or that differs from
/// what is documented.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// When it was last seen to hold.
    pub at: DateTime<Utc>,
    /// Requests a second that the vendor lets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The window in which the vendor counts, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<LearnedWindow>,
    /// Requests at once that the vendor lets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Requests in the quota's own span that headers reported, where the declared quota is only
    /// what the vendor publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<f64>,
}

/// The requests allowed in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedWindow {
    /// Requests.
    pub permits: f64,
    /// The window's length in seconds.
    pub seconds: f64,
}

/// Keeps what is known about buckets from one run to the next.
#[async_trait]
pub trait LimitLedger: Send + Sync + Debug {
    /// What was kept of a bucket, if anything.
    async fn load(&self, key: &BucketKey) -> Result<Option<BucketRecord>>;

    /// Keeps it in place of what was kept before.
    async fn save(&self, key: &BucketKey, record: &BucketRecord) -> Result<()>;
}

/// Keeps each bucket in a small file of JSON, which is replaced as a whole. Losing one costs a few
/// refused requests, so it is not synced to disk; one that cannot be read counts as lost.
#[derive(Clone, Debug)]
pub struct FileLedger {
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    bucket: String,
    #[serde(flatten)]
    record: BucketRecord,
}

impl FileLedger {
    /// Keeps the files in a directory, which is made when the first is written.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    fn path(&self, key: &BucketKey) -> PathBuf {
        let bucket = blake3::hash(key.bucket.as_bytes()).to_hex();
        self.directory
            .join(format!("{:016x}-{}.json", key.account, &bucket[..16]))
    }
}

#[async_trait]
impl LimitLedger for FileLedger {
    async fn load(&self, key: &BucketKey) -> Result<Option<BucketRecord>> {
        match tokio::fs::read(self.path(key)).await {
            Ok(text) => {
                let kept = serde_json::from_slice::<Versioned>(&text).ok();
                Ok(kept
                    .filter(|kept| kept.version == VERSION && kept.bucket == key.bucket)
                    .map(|kept| kept.record))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn save(&self, key: &BucketKey, record: &BucketRecord) -> Result<()> {
        let kept = Versioned {
            version: VERSION,
            bucket: key.bucket.clone(),
            record: record.clone(),
        };
        let text = serde_json::to_vec(&kept).map_err(|error| failed(error.into()))?;
        let (directory, path) = (self.directory.clone(), self.path(key));
        let written = tokio::task::spawn_blocking(move || replace(&directory, &path, &text)).await;
        written
            .map_err(std::io::Error::other)
            .and_then(|written| written)
            .map_err(failed)
    }
}

fn replace(directory: &Path, path: &Path, text: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text)?;
    file.persist(path)?;
    Ok(())
}

fn failed(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Disk,
        "what is known about limits cannot be read or written",
    )
    .with_help("see that the directory of limits is there and belongs to the user who runs this")
    .with_source(error)
}
