//! Buckets in the memory of one process, which a ledger can carry over to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::error::Result;
use crate::rate_limit::ledger::{BucketRecord, Learned, LimitLedger, Spent};
use crate::rate_limit::quota::{
    BucketKey, Decision, Quota, RateLimitStore, Remaining, Reservation, gcra, rescale,
};

/// What was spent of a quota of this length or more is written down: a process can start anew
/// before it has passed.
const KEPT: Duration = Duration::from_mins(1);
/// Permits that were spent in the same part of a quota's length are written down as if all had been
/// spent with the last.
const GRAINS: u32 = 60;
/// What the monotonic time begins with, so that what an earlier run spent lies at a time too.
const ORIGIN: Duration = Duration::from_hours(32 * 24);
/// What is spent is written down in this part of a quota, so that a large one is not written at
/// every request.
const NOTED_PART: u32 = 100;

/// Buckets in the memory of this process, on its monotonic clock.
#[derive(Debug, Default)]
pub struct MemoryLimits {
    origin: OnceLock<Instant>,
    buckets: Mutex<HashMap<BucketKey, Bucket>>,
    kept: Option<Kept>,
}

/// Where buckets are kept between runs.
#[derive(Debug)]
struct Kept {
    ledger: Arc<dyn LimitLedger>,
    clock: Arc<dyn Clock>,
    /// One record is written after the other, so that an older one never replaces a newer one.
    writing: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct Bucket {
    arrival: Duration,
    /// The pace that `arrival` is meant in.
    pace: Option<Quota>,
    blocked_until: Duration,
    /// When the permits of the current window were granted, oldest first.
    granted: VecDeque<(Duration, u32)>,
    used: u32,
    unwritten: u32,
    /// True when what was spent counts for so long that the next run must know of it.
    is_kept: bool,
    /// How exactly it is written down when it was spent.
    grain: Duration,
    learned: Option<Learned>,
}

impl Bucket {
    /// How long until the cost can be charged; zero: now.
    fn wait(&mut self, now: Duration, charge: &Reservation) -> Duration {
        if let Some(before) = self.pace.replace(charge.pace) {
            self.arrival = rescale(self.arrival, now, &before, &charge.pace);
        }
        let blocked = self.blocked_until.saturating_sub(now);
        let paced = gcra(self.arrival, now, &charge.pace, charge.cost)
            .err()
            .unwrap_or_default();
        blocked
            .max(paced)
            .max(self.window_wait(now, &charge.quota, charge.cost))
    }

    /// Forgets what no longer counts.
    fn expire(&mut self, now: Duration, quota: &Quota) {
        while let Some((_, cost)) = self
            .granted
            .front()
            .filter(|(at, _)| at.saturating_add(quota.per) <= now)
        {
            self.used -= cost;
            self.granted.pop_front();
        }
    }

    fn window_wait(&mut self, now: Duration, quota: &Quota, cost: u32) -> Duration {
        if !quota.is_known() {
            return Duration::ZERO;
        }
        self.expire(now, quota);
        let mut excess = (self.used + cost).saturating_sub(quota.ceiling().max(cost));
        let mut oldest = self.granted.iter();
        let mut wait = Duration::ZERO;
        while excess > 0 {
            let Some((at, cost)) = oldest.next() else {
                break;
            };
            excess = excess.saturating_sub(*cost);
            wait = at.saturating_add(quota.per).saturating_sub(now);
        }
        wait
    }

    fn charge(&mut self, now: Duration, charge: &Reservation) {
        self.arrival = gcra(self.arrival, now, &charge.pace, charge.cost).unwrap_or(self.arrival);
        if charge.quota.is_known() {
            self.granted.push_back((now, charge.cost));
            self.used += charge.cost;
            self.unwritten += charge.cost;
            (self.is_kept, self.grain) = (charge.quota.per >= KEPT, charge.quota.per / GRAINS);
        }
    }

    /// What was spent, as it is written down. Grains lie at fixed times, so that what is read and
    /// written again by run after run does not grow younger.
    fn spent(&self, now: Duration, wall: DateTime<Utc>) -> Vec<Spent> {
        let mut spent: Vec<Spent> = Vec::new();
        let grain = i64::try_from(self.grain.as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        for &(at, permits) in self.granted.iter().filter(|_| self.is_kept) {
            let ago = TimeDelta::from_std(now.saturating_sub(at)).unwrap_or(TimeDelta::MAX);
            let at = wall.checked_sub_signed(ago).unwrap_or(wall);
            match spent.last_mut() {
                Some(last)
                    if last.at.timestamp_millis() / grain == at.timestamp_millis() / grain =>
                {
                    *last = Spent {
                        at: at.max(last.at),
                        permits: last.permits.saturating_add(permits),
                    };
                }
                _ => spent.push(Spent { at, permits }),
            }
        }
        spent
    }

    /// True when what was spent has to be written down.
    fn is_due(&self, quota: &Quota) -> bool {
        self.is_kept && self.unwritten >= (quota.ceiling() / NOTED_PART).max(1)
    }
}

impl MemoryLimits {
    /// Buckets that continue where the run before this one ended. The clock shows how long ago that
    /// was.
    pub fn kept(ledger: Arc<dyn LimitLedger>, clock: Arc<dyn Clock>) -> Self {
        Self {
            kept: Some(Kept {
                ledger,
                clock,
                writing: AsyncMutex::default(),
            }),
            ..Self::default()
        }
    }

    fn now(&self) -> Duration {
        ORIGIN + self.origin.get_or_init(Instant::now).elapsed()
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<BucketKey, Bucket>) -> T) -> T {
        change(&mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a bucket known, with what the ledger has of it.
    async fn open(&self, key: &BucketKey) -> Result<()> {
        if self.with(|buckets| buckets.contains_key(key)) {
            return Ok(());
        }
        let mut bucket = Bucket::default();
        if let Some(kept) = &self.kept
            && let Some(record) = kept.ledger.load(key).await?
        {
            let (now, wall) = (self.now(), kept.clock.now());
            for Spent { at, permits } in record.spent {
                // What lies in the future was written by a clock that was ahead: it counts as spent
                // now.
                let ago = (wall - at).to_std().unwrap_or_default();
                bucket.granted.push_back((now.saturating_sub(ago), permits));
                bucket.used += permits;
                bucket.is_kept = true;
            }
            bucket.learned = record.learned;
        }
        self.with(|buckets| {
            buckets.entry(key.clone()).or_insert(bucket);
        });
        Ok(())
    }

    async fn write(&self, key: &BucketKey) -> Result<()> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let _turn = kept.writing.lock().await;
        let (now, wall) = (self.now(), kept.clock.now());
        let record = self.with(|buckets| {
            let bucket = buckets.entry(key.clone()).or_default();
            bucket.unwritten = 0;
            BucketRecord {
                spent: bucket.spent(now, wall),
                learned: bucket.learned,
            }
        });
        kept.ledger.save(key, &record).await
    }
}

#[async_trait]
impl RateLimitStore for MemoryLimits {
    async fn reserve(&self, charges: &[Reservation]) -> Result<Decision> {
        if self.kept.is_some() {
            for charge in charges {
                self.open(&charge.key).await?;
            }
        }
        let now = self.now();
        let (grant, due) = self.with(|buckets| {
            let mut binding: Option<(Duration, &str)> = None;
            for charge in charges {
                let wait = buckets
                    .entry(charge.key.clone())
                    .or_default()
                    .wait(now, charge);
                if wait > binding.map_or(Duration::ZERO, |(longest, _)| longest) {
                    binding = Some((wait, &charge.key.bucket));
                }
            }
            if let Some((wait, bucket)) = binding {
                return (
                    Decision::Wait {
                        wait,
                        bucket: bucket.to_owned(),
                    },
                    Vec::new(),
                );
            }
            let mut due = Vec::new();
            for charge in charges {
                let bucket = buckets.entry(charge.key.clone()).or_default();
                bucket.charge(now, charge);
                if self.kept.is_some() && bucket.is_due(&charge.quota) {
                    due.push(charge.key.clone());
                }
            }
            (Decision::Granted, due)
        });
        // Before the request is sent: one that was forgotten would be spent twice.
        for key in due {
            self.write(&key).await?;
        }
        Ok(grant)
    }

    async fn block(&self, key: &BucketKey, wait: Duration) -> Result<()> {
        let until = self.now().saturating_add(wait);
        self.with(|buckets| {
            let bucket = buckets.entry(key.clone()).or_default();
            bucket.blocked_until = bucket.blocked_until.max(until);
        });
        Ok(())
    }

    async fn left(&self, key: &BucketKey, quota: &Quota) -> Result<Remaining> {
        self.open(key).await?;
        let now = self.now();
        Ok(self.with(|buckets| {
            let bucket = buckets.entry(key.clone()).or_default();
            bucket.expire(now, quota);
            let permits = quota.ceiling().saturating_sub(bucket.used);
            let next = bucket
                .granted
                .front()
                .map(|(at, _)| at.saturating_add(quota.per).saturating_sub(now));
            Remaining {
                permits,
                next: next
                    .unwrap_or_default()
                    .max(bucket.blocked_until.saturating_sub(now)),
            }
        }))
    }

    async fn recall(&self, key: &BucketKey) -> Result<Option<Learned>> {
        self.open(key).await?;
        Ok(self.with(|buckets| buckets.get(key).and_then(|bucket| bucket.learned)))
    }

    async fn remember(&self, key: &BucketKey, learned: &Learned) -> Result<()> {
        self.open(key).await?;
        self.with(|buckets| buckets.entry(key.clone()).or_default().learned = Some(*learned));
        self.write(key).await
    }
}
