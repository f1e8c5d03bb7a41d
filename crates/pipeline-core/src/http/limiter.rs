//! The client's side of the limits: who waits for what, and what the vendor's answers teach.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::bucket::{Bucket, Obstacle};
use super::classify::Throttle;
use super::control::Gate;
use super::headers::Hint;
use super::limit::{BucketKey, Grant, Left, Quota, RateLimitStore};
use super::line::Head;
use super::usage::BucketUse;
use crate::clock::Clock;
use crate::error::Result;

/// What the time begins with, so that what began before the process has a time too.
const ORIGIN: Duration = Duration::from_hours(32 * 24);

/// The buckets of one client.
#[derive(Debug)]
pub(super) struct Limiter {
    store: Arc<dyn RateLimitStore>,
    clock: Arc<dyn Clock>,
    origin: OnceLock<Instant>,
    buckets: HashMap<String, Arc<Bucket>>,
    /// Places given out in lines.
    tickets: AtomicU64,
}

/// Leave to send one request; holds its slots until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Time spent waiting.
    pub(super) waited: Duration,
    /// The limit waited for longest, in words.
    pub(super) limit: Option<String>,
    /// When it was granted.
    sent: Duration,
    since: Instant,
    buckets: Vec<Arc<Bucket>>,
    is_reported: bool,
}

/// A wait before a request.
pub(super) struct Wait {
    pub(super) limit: String,
    pub(super) wait: Duration,
}

/// What came of a request, as far as limits are concerned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Feedback {
    /// The limits let it through.
    Accepted,
    /// A limit refused it; the vendor may have said for how long.
    Refused(Throttle, Option<Duration>),
}

impl Limiter {
    pub(super) fn new(store: Arc<dyn RateLimitStore>, clock: Arc<dyn Clock>, account: u64, quotas: Vec<(String, Quota)>) -> Self {
        let bucket = |(name, quota): (String, Quota)| {
            let key = BucketKey { account, bucket: name.clone() };
            (name, Arc::new(Bucket::new(key, quota)))
        };
        Self { store, clock, origin: OnceLock::new(), buckets: quotas.into_iter().map(bucket).collect(), tickets: AtomicU64::new(0) }
    }

    fn now(&self) -> Duration {
        ORIGIN + self.origin.get_or_init(Instant::now).elapsed()
    }

    /// The named buckets, the narrowest first: whoever waits for a narrow one must not hold up those who need only a
    /// wider one. The order is the same for every request, so lines are never waited for in a circle.
    fn select(&self, names: &[Cow<'static, str>]) -> Vec<Arc<Bucket>> {
        let mut buckets: Vec<_> = names.iter().filter_map(|name| self.buckets.get(name.as_ref()).cloned()).collect();
        buckets.sort_by(|a, b| a.quota.rate().total_cmp(&b.quota.rate()).then_with(|| a.key.cmp(&b.key)));
        buckets.dedup_by(|a, b| a.key == b.key);
        buckets
    }

    /// What was used of each bucket so far.
    pub(super) fn usage(&self) -> Vec<BucketUse> {
        let mut usage: Vec<_> = self.buckets.values().filter_map(|bucket| bucket.usage()).collect();
        usage.sort_by(|a, b| a.bucket.cmp(&b.bucket));
        usage
    }

    /// The bucket that a throttled request hit when the vendor does not say which.
    pub(super) fn narrowest(&self, names: &[Cow<'static, str>]) -> Option<String> {
        self.select(names).first().map(|bucket| bucket.key.bucket.clone())
    }

    /// The limit that decides how long so many requests take, in words, and how long that is.
    pub(super) async fn forecast(&self, names: &[Cow<'static, str>], requests: u64) -> Result<Option<(String, Duration)>> {
        let mut longest = None;
        for bucket in self.select(names).into_iter().filter(|bucket| bucket.quota.is_known()) {
            let quota = self.known(&bucket).await?;
            let left = self.store.left(&bucket.key, &quota).await?;
            let time = quota.time_for(requests, left);
            if longest.as_ref().is_none_or(|(_, longest)| time > *longest) {
                longest = Some((bucket.describe(self.now()), time));
            }
        }
        Ok(longest)
    }

    /// What is left of a bucket's quota; none when there is no such bucket, or nobody knows its quota.
    pub(super) async fn left(&self, bucket: &str) -> Result<Option<Left>> {
        match self.buckets.get(bucket).filter(|bucket| bucket.quota.is_known()) {
            Some(bucket) => Ok(Some(self.store.left(&bucket.key, &self.known(bucket).await?).await?)),
            None => Ok(None),
        }
    }

    /// Waits until every named bucket lets a request pass. `before_wait` may refuse a known wait.
    pub(super) async fn acquire(&self, names: &[Cow<'static, str>], mut before_wait: impl FnMut(&Wait) -> Result<()>) -> Result<Turn> {
        let buckets = self.select(names);
        for bucket in &buckets {
            self.known(bucket).await?;
        }
        let started = Instant::now();
        let mut longest: Option<(Duration, String, usize)> = None;
        let mut lines: Vec<Head> = Vec::with_capacity(buckets.len());
        if let Some(narrowest) = buckets.first() {
            lines.push(narrowest.line.enter(self.ticket()).await);
        }
        // The head of the narrowest line has its place in the others from now on, also while it lets others pass.
        let ticket = self.ticket();
        loop {
            while let Some(bucket) = buckets.get(lines.len()) {
                lines.push(bucket.line.enter(ticket).await);
            }
            let now = self.now();
            let obstacle = buckets.iter().enumerate().find_map(|(index, bucket)| Some((index, bucket.obstacle(now)?)));
            let (binding, wait) = match obstacle {
                Some((binding, Obstacle::Gate(Gate::At(time)))) => (binding, Some(time.saturating_sub(now))),
                Some((binding, _)) => (binding, None),
                None => {
                    let charges: Vec<_> = buckets.iter().map(|bucket| bucket.charge(now)).collect();
                    let Grant::Wait { wait, bucket } = self.store.reserve(&charges).await? else { break };
                    (charges.iter().position(|charge| charge.key.bucket == bucket).unwrap_or(0), Some(wait))
                }
            };
            let limit = buckets[binding].describe(now);
            let asked = Instant::now();
            // The lines of wider buckets are left, so that others pass meanwhile.
            lines.truncate(binding + 1);
            match wait {
                Some(wait) => {
                    before_wait(&Wait { limit: limit.clone(), wait })?;
                    sleep(wait).await;
                }
                None => buckets[binding].answered.notified().await,
            }
            let waited = asked.elapsed();
            if longest.as_ref().is_none_or(|(longest, ..)| waited > *longest) {
                longest = Some((waited, limit, binding));
            }
        }
        let sent = self.now();
        for bucket in &buckets {
            bucket.granted(sent);
        }
        let waited = started.elapsed();
        // Whoever only stood in line waited for the head's limit.
        let in_line = || buckets.first().filter(|_| waited > Duration::ZERO).map(|bucket| bucket.describe(sent));
        if let Some(bucket) = buckets.get(longest.as_ref().map_or(0, |(.., binding)| *binding)) {
            bucket.waited(waited);
        }
        let limit = longest.map(|(_, limit, _)| limit).or_else(in_line);
        Ok(Turn { waited, limit, sent, since: Instant::now(), buckets, is_reported: false })
    }

    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// What a bucket allows, as far as this run or an earlier one knows.
    async fn known(&self, bucket: &Bucket) -> Result<Quota> {
        bucket.recalled.get_or_try_init(|| self.recall(bucket)).await?;
        Ok(bucket.allowed())
    }

    async fn recall(&self, bucket: &Bucket) -> Result<()> {
        if let Some(learned) = self.store.recall(&bucket.key).await? {
            bucket.recall(self.now(), self.clock.now(), &learned);
        }
        Ok(())
    }

    /// Takes note of what one answer says about the buckets.
    pub(super) fn learn(&self, turn: &Turn, hints: &[Hint]) {
        let now = self.now();
        for (name, bucket) in &self.buckets {
            let about: Vec<_> = hints.iter().filter(|(about, _)| about == name).map(|(_, hint)| hint).collect();
            let concerns = turn.buckets.iter().any(|charged| charged.key == bucket.key);
            if concerns || !about.is_empty() {
                bucket.learn(now, turn.sent, &about);
            }
        }
    }

    /// Takes note of what came of a request. True when waiting for the limit is enough before it is sent again; otherwise the
    /// request itself has to wait.
    pub(super) async fn report(&self, turn: &mut Turn, feedback: &Feedback) -> Result<bool> {
        turn.is_reported = true;
        let now = self.now();
        let hit = match feedback {
            Feedback::Accepted => None,
            Feedback::Refused(Throttle::Rate(name) | Throttle::Concurrency(name), _) => Some(name.as_ref()),
        };
        for bucket in &turn.buckets {
            match feedback {
                _ if hit.is_some_and(|hit| hit != bucket.key.bucket) => bucket.unanswered(now, turn.sent),
                Feedback::Accepted => bucket.accepted(now, turn.sent),
                Feedback::Refused(Throttle::Rate(_), wait) => bucket.refused(now, turn.sent, *wait),
                Feedback::Refused(Throttle::Concurrency(_), _) => bucket.too_many(now, turn.sent),
            }
            if let Some(learned) = bucket.to_keep(self.clock.now()) {
                self.store.remember(&bucket.key, &learned).await?;
            }
        }
        Ok(matches!(feedback, Feedback::Refused(Throttle::Rate(name), _) if self.buckets.contains_key(name.as_ref())))
    }

    /// True for a quota of which a refusal says nothing about the pace: it is used up, and will be for a while.
    pub(super) fn is_long(&self, bucket: &str) -> bool {
        self.buckets.get(bucket).is_some_and(|bucket| bucket.quota.is_known() && bucket.quota.per > Duration::from_mins(1))
    }

    /// Pauses a bucket for everybody; false when there is no such bucket.
    pub(super) async fn pause(&self, bucket: &str, wait: Duration) -> Result<bool> {
        let Some(bucket) = self.buckets.get(bucket) else { return Ok(false) };
        self.store.block(&bucket.key, wait).await?;
        Ok(true)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = self.sent + self.since.elapsed();
        for bucket in &self.buckets {
            if !self.is_reported {
                bucket.unanswered(now, self.sent);
            }
            bucket.released();
        }
    }
}
