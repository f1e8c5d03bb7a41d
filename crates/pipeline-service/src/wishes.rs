//! Wishes: streams that a webhook says have changed, until a run has read them.
//!
//! A wish is a name in a file, so that whatever number of webhooks comes, there is at most one for
//! each stream. A webhook whose streams are in the file already costs no write.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::webhook::WebhookHint;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, Notify};

const FILE: &str = "wishes.json";
const VERSION: u32 = 1;

/// Time in which webhooks are collected for one run.
pub(crate) const BUNDLE: Duration = Duration::from_secs(2);

/// Deliveries that are remembered for each source, so that one that comes again starts no run.
const REMEMBERED: usize = 4_096;

/// Time until a run that has failed is tried again for its webhooks; it doubles with every failure.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(10);

/// Longest time until then.
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(15);

/// The wishes of all sources.
#[derive(Debug)]
pub(crate) struct Wishes {
    folder: PathBuf,
    sources: Mutex<BTreeMap<String, OfSource>>,
    /// Held while the file is written.
    writing: AsyncMutex<()>,
    arrived: Notify,
    hasher: RandomState,
}

/// The wishes of one source.
#[derive(Debug, Default)]
struct OfSource {
    /// The streams, and when the last webhook about each has come.
    streams: BTreeMap<String, DateTime<Utc>>,
    /// Those that are in the file.
    durable: BTreeSet<String>,
    /// When the oldest webhook that no run has read has come.
    since: Option<DateTime<Utc>>,
    /// The start of the run under way.
    taken: Option<DateTime<Utc>>,
    /// Runs that have failed one after the other.
    failures: u32,
    /// Not before then.
    retry_at: Option<DateTime<Utc>>,
    /// Deliveries that are stored, the oldest first.
    remembered: VecDeque<u64>,
    known: HashSet<u64>,
    last: Option<LastWebhook>,
}

/// The last webhook of a source, for the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastWebhook {
    pub(crate) at: DateTime<Utc>,
    /// The vendor's name of what has happened.
    pub(crate) kind: String,
}

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A run will read what it is about, also after a restart.
    Stored,
    /// It came before.
    Duplicate,
    /// It is about nothing that the source reads.
    Ignored,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    wishes: BTreeMap<String, BTreeSet<String>>,
}

impl Wishes {
    /// Reads what an earlier process has left. A file that cannot be read is ignored: what it asks
    /// for comes with the next scheduled run.
    pub(crate) fn open(folder: &Path, now: DateTime<Utc>) -> Self {
        let written = match fs::read(folder.join(FILE)) {
            Ok(bytes) => serde_json::from_slice::<Written>(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Written {
                version: VERSION,
                wishes: BTreeMap::new(),
            }),
            Err(error) => Err(error),
        };
        let wishes = match written {
            Ok(written) => written.wishes,
            Err(error) => {
                tracing::warn!(%error, "what webhooks asked for cannot be read; it comes with the next scheduled run");
                BTreeMap::new()
            }
        };
        let of = |streams: BTreeSet<String>| OfSource {
            since: Some(now).filter(|_| !streams.is_empty()),
            streams: streams.iter().map(|name| (name.clone(), now)).collect(),
            durable: streams,
            ..OfSource::default()
        };
        let sources = wishes.into_iter().map(|(name, it)| (name, of(it)));
        Self {
            folder: folder.to_owned(),
            sources: Mutex::new(sources.collect()),
            writing: AsyncMutex::default(),
            arrived: Notify::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes a webhook that is proved, for a source that reads `selected`. It is on the disk when
    /// this returns.
    ///
    /// # Errors
    /// When it cannot be stored. It has to be sent again then.
    pub(crate) async fn take(
        &self,
        source: &str,
        hint: &WebhookHint,
        selected: &BTreeSet<String>,
        now: DateTime<Utc>,
    ) -> io::Result<Taken> {
        let id = hint.id.as_ref().map(|id| self.hasher.hash_one(id));
        let wanted: BTreeSet<&String> = hint.streams.intersection(selected).collect();
        let is_durable = {
            let mut sources = self.lock();
            let of = sources.entry(source.to_owned()).or_default();
            if id.is_some_and(|id| of.known.contains(&id)) {
                return Ok(Taken::Duplicate);
            }
            of.last = Some(LastWebhook {
                at: now,
                kind: shown(&hint.kind),
            });
            if wanted.is_empty() {
                return Ok(Taken::Ignored);
            }
            of.since.get_or_insert(now);
            for stream in &wanted {
                of.streams.insert((*stream).clone(), now);
            }
            wanted.iter().all(|stream| of.durable.contains(*stream))
        };
        self.arrived.notify_one();
        if !is_durable {
            self.write_unless(|sources| {
                let of = sources.get(source);
                of.is_some_and(|of| wanted.iter().all(|stream| of.durable.contains(*stream)))
            })
            .await?;
        }
        if let (Some(id), Some(of)) = (id, self.lock().get_mut(source)) {
            of.remember(id);
        }
        Ok(Taken::Stored)
    }

    /// Waits for a webhook.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// When a source is to be run for its webhooks, of which a run finds nothing until `settles`
    /// after the last one.
    pub(crate) fn due(&self, source: &str, settles: Duration) -> Option<DateTime<Utc>> {
        let sources = self.lock();
        let of = sources.get(source)?;
        let due = of.since? + BUNDLE.max(settles);
        Some(of.retry_at.map_or(due, |at| due.max(at)))
    }

    /// A run of a source starts. Returns the streams that are wished for.
    pub(crate) fn started(&self, source: &str, now: DateTime<Utc>) -> BTreeSet<String> {
        let mut sources = self.lock();
        let Some(of) = sources.get_mut(source) else {
            return BTreeSet::new();
        };
        of.taken = Some(now);
        of.streams.keys().cloned().collect()
    }

    /// The run of a source has ended. One that succeeded has fulfilled what was wished for so long
    /// before its start that the vendor could show it.
    pub(crate) fn ended(
        &self,
        source: &str,
        has_succeeded: bool,
        settles: Duration,
        now: DateTime<Utc>,
    ) {
        let mut sources = self.lock();
        let Some(of) = sources.get_mut(source) else {
            return;
        };
        let Some(started) = of.taken.take() else {
            return;
        };
        if of.streams.is_empty() {
            return;
        }
        if !has_succeeded {
            let pause = FIRST_PAUSE * 2_i32.pow(of.failures.min(10));
            of.retry_at = Some(now + pause.min(LONGEST_PAUSE));
            of.failures += 1;
            return;
        }
        (of.failures, of.retry_at) = (0, None);
        of.streams.retain(|_, last| *last + settles > started);
        let OfSource {
            streams, durable, ..
        } = of;
        durable.retain(|stream| streams.contains_key(stream));
        // What is left came after a time before that start; the next run sees what came until it.
        of.since = Some(started).filter(|_| !of.streams.is_empty());
    }

    /// Forgets what was wished for of sources that have no webhooks any more.
    pub(crate) fn keep(&self, has_webhooks: impl Fn(&str) -> bool) {
        self.lock().retain(|source, _| has_webhooks(source));
    }

    /// The last webhook of each source.
    pub(crate) fn last(&self) -> BTreeMap<String, LastWebhook> {
        let sources = self.lock();
        let last = |(name, of): (&String, &OfSource)| Some((name.clone(), of.last.clone()?));
        sources.iter().filter_map(last).collect()
    }

    /// Writes the file as it is to be now.
    pub(crate) async fn write(&self) -> io::Result<()> {
        self.write_unless(|_| false).await
    }

    /// Writes the file, unless another write, for which this one has waited, has done it.
    async fn write_unless(
        &self,
        is_written: impl Fn(&BTreeMap<String, OfSource>) -> bool,
    ) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        let wishes: BTreeMap<String, BTreeSet<String>> = {
            let mut sources = self.lock();
            if is_written(&sources) {
                return Ok(());
            }
            for of in sources.values_mut() {
                let OfSource {
                    streams, durable, ..
                } = of;
                // From now on a webhook about a stream that is not written waits for the next write.
                durable.retain(|stream| streams.contains_key(stream));
            }
            let names = |of: &OfSource| of.streams.keys().cloned().collect();
            let wishes = sources.iter().map(|(name, of)| (name.clone(), names(of)));
            wishes
                .filter(|(_, it): &(_, BTreeSet<_>)| !it.is_empty())
                .collect()
        };
        let written = Written {
            version: VERSION,
            wishes: wishes.clone(),
        };
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || store(&folder, &written))
            .await
            .map_err(io::Error::other)??;
        let mut sources = self.lock();
        for (source, streams) in wishes {
            if let Some(of) = sources.get_mut(&source) {
                of.durable = streams;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfSource>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfSource {
    fn remember(&mut self, id: u64) {
        if !self.known.insert(id) {
            return;
        }
        self.remembered.push_back(id);
        if self.remembered.len() > REMEMBERED
            && let Some(oldest) = self.remembered.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// A vendor's word, at a length that a page has room for.
fn shown(kind: &str) -> String {
    kind.chars().take(80).collect()
}

fn store(folder: &Path, written: &Written) -> io::Result<()> {
    let next = folder.join(format!("{FILE}.next"));
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec(written)?)?;
    file.sync_all()?;
    fs::rename(next, folder.join(FILE))?;
    // The name is on the disk when its folder is.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests;
