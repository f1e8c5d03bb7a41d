//! The client's side of the limits: who waits for what, and what the vendor's answers teach.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as FairMutex, Notify, OwnedMutexGuard};
use tokio::time::{Instant, sleep};

use super::classify::Throttle;
use super::headers::{Hint, RateHint};
use super::limit::{BucketKey, Charge, Grant, Left, Quota, RateLimitStore, at_least_one, whole};
use crate::error::Result;

/// What is left of the rate after a request was throttled.
const CUT: f64 = 0.8;
/// The rate is not cut below this part of the quota.
const LEAST: f64 = 0.05;
/// Part of the rate that comes back in a second.
const RECOVERY: f64 = 0.01;
/// Slots that come back in a second after there were too many requests at once.
const SLOT_RECOVERY: f64 = 0.2;
/// Windows longer than this, and than the quota's own, say nothing about the rate.
const LONG_WINDOW: Duration = Duration::from_mins(1);
/// Throttled answers within this span are one event: they were all sent before the first was known.
const ONE_EVENT: Duration = Duration::from_secs(1);

/// The buckets of one client.
#[derive(Debug)]
pub(super) struct Limiter {
    store: Arc<dyn RateLimitStore>,
    buckets: HashMap<String, Arc<Bucket>>,
}

/// One bucket.
#[derive(Debug)]
struct Bucket {
    key: BucketKey,
    /// What the configuration allows: never exceeded, whatever the vendor says.
    quota: Quota,
    learned: Mutex<Learned>,
    /// The line of those who wait, first come, first served. Only its head asks the store, so nobody is woken for nothing.
    line: Arc<FairMutex<()>>,
    freed: Notify,
}

/// What answers have taught, and the requests under way.
#[derive(Debug, Default)]
struct Learned {
    in_flight: u32,
    /// The vendor's rate a second.
    rate: Option<f64>,
    /// The rate a second that uses up what is left of the window, and when that ends.
    window: Option<(f64, Instant)>,
    /// Part of the rate that is used since then.
    pace: Option<(f64, Instant)>,
    concurrency: Option<u32>,
    /// Slots since then.
    slots: Option<(f64, Instant)>,
}

/// Leave to send one request; holds its slots until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Time spent waiting.
    pub(super) waited: Duration,
    /// The limit waited for longest, in words.
    pub(super) limit: Option<String>,
    slots: Vec<Arc<Bucket>>,
}

/// What stands between a request and its turn.
pub(super) struct Obstacle {
    pub(super) limit: String,
    pub(super) wait: Duration,
}

impl Limiter {
    pub(super) fn new(store: Arc<dyn RateLimitStore>, account: u64, quotas: Vec<(String, Quota)>) -> Self {
        let bucket = |(name, quota): (String, Quota)| {
            let key = BucketKey { account, bucket: name.clone() };
            let bucket = Bucket { key, quota, learned: Mutex::default(), line: Arc::default(), freed: Notify::new() };
            (name, Arc::new(bucket))
        };
        Self { store, buckets: quotas.into_iter().map(bucket).collect() }
    }

    /// The named buckets, the narrowest first: whoever waits for a narrow one must not hold up those who need only a
    /// wider one. The order is the same for every request, so lines are never waited for in a circle.
    fn select(&self, names: &[Cow<'static, str>]) -> Vec<Arc<Bucket>> {
        let mut buckets: Vec<_> = names.iter().filter_map(|name| self.buckets.get(name.as_ref()).cloned()).collect();
        buckets.sort_by(|a, b| a.quota.rate().total_cmp(&b.quota.rate()).then_with(|| a.key.cmp(&b.key)));
        buckets.dedup_by(|a, b| a.key == b.key);
        buckets
    }

    /// The bucket that a throttled request hit when the vendor does not say which.
    pub(super) fn narrowest(&self, names: &[Cow<'static, str>]) -> Option<String> {
        self.select(names).first().map(|bucket| bucket.key.bucket.clone())
    }

    /// The limit that decides how long so many requests take, in words, and how long that is.
    pub(super) async fn forecast(&self, names: &[Cow<'static, str>], requests: u64) -> Result<Option<(String, Duration)>> {
        let mut longest = None;
        for bucket in self.select(names).into_iter().filter(|bucket| bucket.quota.is_known()) {
            let left = self.store.left(&bucket.key, &bucket.quota).await?;
            let time = bucket.quota.time_for(requests, left);
            if longest.as_ref().is_none_or(|(_, longest)| time > *longest) {
                longest = Some((bucket.describe(), time));
            }
        }
        Ok(longest)
    }

    /// What is left of a bucket's quota; none when there is no such bucket, or nobody knows its quota.
    pub(super) async fn left(&self, bucket: &str) -> Result<Option<Left>> {
        match self.buckets.get(bucket).filter(|bucket| bucket.quota.is_known()) {
            Some(bucket) => Ok(Some(self.store.left(&bucket.key, &bucket.quota).await?)),
            None => Ok(None),
        }
    }

    /// Waits until every named bucket lets a request pass. `before_wait` may refuse a known wait.
    pub(super) async fn acquire(&self, names: &[Cow<'static, str>], mut before_wait: impl FnMut(&Obstacle) -> Result<()>) -> Result<Turn> {
        let buckets = self.select(names);
        let started = Instant::now();
        let mut longest: Option<(Duration, &Bucket)> = None;
        let mut lines: Vec<OwnedMutexGuard<()>> = Vec::with_capacity(buckets.len());
        loop {
            while let Some(bucket) = buckets.get(lines.len()) {
                lines.push(Arc::clone(&bucket.line).lock_owned().await);
            }
            let asked = Instant::now();
            let binding = if let Some(full) = buckets.iter().position(|bucket| !bucket.has_slot()) {
                lines.truncate(full + 1);
                buckets[full].slot().await;
                full
            } else {
                let charges: Vec<_> = buckets.iter().map(|bucket| bucket.charge()).collect();
                let Grant::Wait { wait, bucket } = self.store.reserve(&charges).await? else { break };
                let binding = charges.iter().position(|charge| charge.key.bucket == bucket).unwrap_or(0);
                before_wait(&Obstacle { limit: buckets[binding].describe(), wait })?;
                // The lines of wider buckets are left, so that others pass meanwhile.
                lines.truncate(binding + 1);
                sleep(wait).await;
                binding
            };
            let waited = asked.elapsed();
            if longest.is_none_or(|(longest, _)| waited > longest) {
                longest = Some((waited, &buckets[binding]));
            }
        }
        for bucket in &buckets {
            bucket.learned().in_flight += 1;
        }
        let waited = started.elapsed();
        // Whoever only stood in line waited for the head's limit.
        let limit = longest.map(|(_, bucket)| bucket).or_else(|| buckets.first().filter(|_| waited > Duration::ZERO).map(AsRef::as_ref));
        Ok(Turn { waited, limit: limit.map(Bucket::describe), slots: buckets.clone() })
    }

    /// Takes note of what one answer says about the buckets.
    pub(super) async fn learn(&self, hints: &[Hint]) -> Result<()> {
        for (name, bucket) in &self.buckets {
            let about: Vec<_> = hints.iter().filter(|(about, _)| about == name).map(|(_, hint)| hint).collect();
            bucket.learn(&about);
            for hint in about.iter().filter(|hint| hint.is_used_up() && !hint.concurrency) {
                self.store.block(&bucket.key, hint.reset.unwrap_or_default()).await?;
            }
        }
        Ok(())
    }

    /// A request was throttled: the limit it hit gives way. True when waiting for the limit is enough; otherwise the
    /// request itself has to wait.
    pub(super) async fn throttled(&self, scope: &Throttle, wait: Duration) -> Result<bool> {
        match scope {
            Throttle::Rate(name) => {
                if let Some(bucket) = self.buckets.get(name.as_ref()) {
                    bucket.slow_down();
                }
                self.pause(name, wait).await
            }
            Throttle::Concurrency(name) => {
                if let Some(bucket) = self.buckets.get(name.as_ref()) {
                    bucket.fewer_slots();
                }
                Ok(false)
            }
        }
    }

    /// Pauses a bucket for everybody; false when there is no such bucket.
    pub(super) async fn pause(&self, bucket: &str, wait: Duration) -> Result<bool> {
        let Some(bucket) = self.buckets.get(bucket) else { return Ok(false) };
        self.store.block(&bucket.key, wait).await?;
        Ok(true)
    }
}

impl Bucket {
    fn learned(&self) -> std::sync::MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The quota as it is now: the configured one, or less.
    fn current(&self) -> Quota {
        let learned = self.learned();
        let mut rate = self.quota.rate();
        if let Some(told) = learned.rate {
            rate = rate.min(told);
        }
        if let Some((left, _)) = learned.window.filter(|(_, end)| Instant::now() < *end) {
            rate = rate.min(left);
        }
        rate *= learned.pace_now();
        let permits = rate * self.quota.per.as_secs_f64();
        let burst = at_least_one(self.quota.burst.get().min(whole(permits)));
        Quota { permits, burst, concurrency: learned.slots_now(&self.quota).map(at_least_one), ..self.quota }
    }

    fn describe(&self) -> String {
        let quota = self.current();
        match quota.concurrency {
            Some(limit) if self.learned().in_flight >= limit.get() => format!("{}: {limit} requests at once", self.key.bucket),
            _ => format!("{}: {quota}", self.key.bucket),
        }
    }

    fn charge(&self) -> Charge {
        Charge { key: self.key.clone(), quota: self.quota, pace: self.current(), cost: 1 }
    }

    fn has_slot(&self) -> bool {
        let learned = self.learned();
        learned.slots_now(&self.quota).is_none_or(|slots| learned.in_flight < slots)
    }

    /// Waits for a free slot. Only the head of the line does.
    async fn slot(&self) {
        while !self.has_slot() {
            self.freed.notified().await;
        }
    }

    fn learn(&self, hints: &[&RateHint]) {
        let mut learned = self.learned();
        let slots = hints.iter().filter(|hint| hint.concurrency).filter_map(|hint| hint.limit.map(whole)).filter(|limit| *limit > 0);
        learned.concurrency = slots.min().or(learned.concurrency);
        // A long window is there to be used at any pace, until nothing is left of it.
        let long = self.quota.per.max(LONG_WINDOW);
        let rates = hints.iter().filter(|hint| !hint.concurrency && hint.window.is_none_or(|window| window <= long));
        let told = rates.clone().filter_map(|hint| Some(hint.limit? / hint.window.unwrap_or(self.quota.per).as_secs_f64()));
        learned.rate = told.filter(|rate| *rate > 0.0).min_by(f64::total_cmp).or(learned.rate);
        // Other programs spend from the same account: what is left has to last until the window ends.
        let left = rates.filter_map(|hint| {
            let (remaining, reset) = (hint.remaining.filter(|left| *left > 0.0)?, hint.reset.filter(|reset| *reset <= long)?);
            let reset = reset.max(Duration::from_secs(1));
            Some((remaining / reset.as_secs_f64(), Instant::now() + reset))
        });
        learned.window = left.min_by(|a, b| a.0.total_cmp(&b.0)).or(learned.window);
    }

    fn slow_down(&self) {
        let mut learned = self.learned();
        if learned.pace.is_none_or(|(_, since)| since.elapsed() > ONE_EVENT) {
            learned.pace = Some(((learned.pace_now() * CUT).max(LEAST), Instant::now()));
        }
    }

    fn fewer_slots(&self) {
        let mut learned = self.learned();
        if learned.slots.is_none_or(|(_, since)| since.elapsed() > ONE_EVENT) {
            // The throttled request has ended and still counts among those that were too many.
            let slots = (f64::from(learned.in_flight + 1) * 0.75).floor().max(1.0);
            learned.slots = Some((slots, Instant::now()));
        }
    }
}

impl Learned {
    fn pace_now(&self) -> f64 {
        self.pace.map_or(1.0, |(pace, since)| (pace + RECOVERY * since.elapsed().as_secs_f64()).min(1.0))
    }

    fn slots_now(&self, quota: &Quota) -> Option<u32> {
        let recovered = self.slots.map(|(slots, since)| whole(slots + SLOT_RECOVERY * since.elapsed().as_secs_f64()));
        [quota.concurrency.map(std::num::NonZeroU32::get), self.concurrency, recovered].into_iter().flatten().min()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for bucket in &self.slots {
            bucket.learned().in_flight -= 1;
            bucket.freed.notify_one();
        }
    }
}
