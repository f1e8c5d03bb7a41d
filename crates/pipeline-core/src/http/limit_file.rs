//! Quotas that outlast a process: what a run used of an hour is still used up when the next one begins.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::limit::{BucketKey, Charge, Grant, MemoryLimits, RateLimitStore};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// Windows from this length on are kept: shorter ones have passed before a process is started again.
const LONG: Duration = Duration::from_mins(5);

/// Longer than the window itself by this: a request reaches the vendor a moment after it was granted, and not always the
/// same moment.
const MARGIN: Duration = Duration::from_secs(10);

/// Version of the file. A file of another version is not read, which costs at most one window.
const VERSION: u32 = 1;

/// Buckets in memory, of which those with a window of five minutes or more are kept in a file as well.
///
/// Every process that uses the same file shares these windows: a successor knows what a killed run has used, and two
/// syncs of one account at the same time do not spend the hour twice. The file holds hashes, names and times only.
#[derive(Debug)]
pub struct FileLimits {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    memory: MemoryLimits,
}

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Ledger {
    version: u32,
    buckets: BTreeMap<String, Window>,
}

/// The use of one bucket, in milliseconds since 1970.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Window {
    /// When permits were granted, and how many, oldest first.
    granted: Vec<(i64, u32)>,
    /// The vendor's pause.
    #[serde(default)]
    blocked_until: i64,
}

impl FileLimits {
    /// Keeps long windows in `path`, whose folder is made when it is first needed.
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { path: path.into(), clock, memory: MemoryLimits::default() }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_millis()
    }

    /// The ledger, and the lock that keeps other processes from it.
    async fn open(&self) -> Result<(File, Ledger)> {
        let path = self.path.clone();
        blocking(move || {
            let lock = lock(&path)?;
            Ok((lock, read(&path)?))
        })
        .await
    }

    async fn save(&self, lock: File, mut ledger: Ledger) -> Result<()> {
        let path = self.path.clone();
        ledger.version = VERSION;
        ledger.buckets.retain(|_, window| !window.granted.is_empty() || window.blocked_until > 0);
        blocking(move || {
            replace(&path, &ledger)?;
            drop(lock);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl RateLimitStore for FileLimits {
    async fn reserve(&self, charges: &[Charge]) -> Result<Grant> {
        if !charges.iter().any(is_long) {
            return self.memory.reserve(charges).await;
        }
        let (lock, mut ledger) = self.open().await?;
        let now = self.now();
        let mut binding: Option<(Duration, &str)> = None;
        for charge in charges.iter().filter(|charge| is_long(charge)) {
            let wait = ledger.buckets.entry(name(&charge.key)).or_default().wait(now, charge);
            if wait > binding.map_or(Duration::ZERO, |(longest, _)| longest) {
                binding = Some((wait, &charge.key.bucket));
            }
        }
        if let Some((wait, bucket)) = binding {
            return Ok(Grant::Wait { wait, bucket: bucket.to_owned() });
        }
        let grant = self.memory.reserve(charges).await?;
        if grant == Grant::Granted {
            for charge in charges.iter().filter(|charge| is_long(charge)) {
                ledger.buckets.entry(name(&charge.key)).or_default().granted.push((now, charge.cost));
            }
            self.save(lock, ledger).await?;
        }
        Ok(grant)
    }

    async fn block(&self, key: &BucketKey, wait: Duration) -> Result<()> {
        self.memory.block(key, wait).await?;
        if wait >= LONG {
            let (lock, mut ledger) = self.open().await?;
            let window = ledger.buckets.entry(name(key)).or_default();
            window.blocked_until = window.blocked_until.max(self.now().saturating_add(millis(wait)));
            self.save(lock, ledger).await?;
        }
        Ok(())
    }
}

impl Window {
    /// How long until the charge fits; zero: now.
    fn wait(&mut self, now: i64, charge: &Charge) -> Duration {
        let per = millis(charge.quota.per.saturating_add(MARGIN));
        // A clock that was set back must not make the past lie in the future.
        self.granted.iter_mut().for_each(|(at, _)| *at = (*at).min(now));
        self.granted.retain(|(at, _)| at.saturating_add(per) > now);
        let used: u32 = self.granted.iter().map(|(_, cost)| cost).sum();
        let mut excess = (used + charge.cost).saturating_sub(charge.quota.ceiling().max(charge.cost));
        let mut until = self.blocked_until;
        for (at, cost) in &self.granted {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*cost);
            until = until.max(at.saturating_add(per));
        }
        Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
    }
}

fn is_long(charge: &Charge) -> bool {
    charge.quota.per >= LONG
}

fn name(key: &BucketKey) -> String {
    format!("{:016x}/{}", key.account, key.bucket)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Waits until no other process has the ledger open. The lock goes with the file, also when the process is killed.
fn lock(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

fn read(path: &Path) -> std::io::Result<Ledger> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Ledger::default()),
        text => text?,
    };
    // It is replaced as a whole, so a ledger that cannot be read is another version's.
    Ok(serde_json::from_slice(&text).ok().filter(|ledger: &Ledger| ledger.version == VERSION).unwrap_or_default())
}

fn replace(path: &Path, ledger: &Ledger) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(&ledger)?)?;
    file.persist(path)?;
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other).and_then(|done| done).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "the file with the use of rate limits cannot be read or written")
            .with_help("see that the folder `.pipeline` is there and belongs to the user who runs this")
            .with_source(error)
    })
}
