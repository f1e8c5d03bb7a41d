//! Rate limits: quotas per named bucket, reserved before a request is sent.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Debug};
use std::num::NonZeroU32;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::error::Result;

/// What a vendor allows in one bucket.
///
/// Two rules hold together: requests are spaced by the rate once `burst` of them went out at once, and no window of
/// length `per`, wherever it starts, holds more than `permits`. The second is what vendors count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Requests (or cost units) per `per`.
    pub permits: f64,
    /// The span that `permits` refers to.
    pub per: Duration,
    /// Requests that may be sent at once after a pause.
    pub burst: NonZeroU32,
    /// Requests that may be under way at the same time; none: no limit.
    pub concurrency: Option<NonZeroU32>,
}

impl Quota {
    /// `n` a second, with a burst of a tenth of that: enough to make up for a late timer, and gentle to a vendor that
    /// counts in shorter spans.
    pub fn per_second(n: u32) -> Self {
        Self::new(n, Duration::from_secs(1), n / 10)
    }

    /// `n` a minute, with a burst of a tenth of that.
    pub fn per_minute(n: u32) -> Self {
        Self::new(n, Duration::from_mins(1), n / 10)
    }

    /// `n` an hour, which may be used all at once: the next come free an hour later.
    pub fn per_hour(n: u32) -> Self {
        Self::new(n, Duration::from_hours(1), n)
    }

    fn new(n: u32, per: Duration, burst: u32) -> Self {
        Self { permits: f64::from(n.max(1)), per, burst: at_least_one(burst), concurrency: None }
    }

    /// Sets how many requests may be sent at once after a pause.
    pub fn burst(mut self, n: u32) -> Self {
        self.burst = at_least_one(n);
        self
    }

    /// Sets how many requests may be under way at the same time.
    pub fn concurrency(mut self, n: u32) -> Self {
        self.concurrency = Some(at_least_one(n));
        self
    }

    /// Keeps only a part of the quota, between 0 and 1, and leaves the rest to the account's other programs.
    pub fn share(mut self, part: f64) -> Self {
        let part = part.clamp(0.01, 1.0);
        self.permits *= part;
        self.burst = at_least_one(whole(f64::from(self.burst.get()) * part));
        self
    }

    /// Permits a second.
    pub fn rate(&self) -> f64 {
        self.permits / self.per.as_secs_f64()
    }

    /// Time from the first to the last of so many requests, if the quota was unused before.
    pub fn time_for(&self, requests: u64) -> Duration {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        let paced = self.interval().saturating_mul(requests.saturating_sub(self.burst.get()));
        let windows = self.per.saturating_mul(requests.saturating_sub(1) / self.ceiling());
        paced.max(windows)
    }

    /// Time between two permits at the steady rate.
    fn interval(&self) -> Duration {
        self.per.div_f64(self.permits.max(f64::MIN_POSITIVE).max(1e-6))
    }

    /// Most permits in any window of length `per`.
    pub(super) fn ceiling(&self) -> u32 {
        whole(self.permits.ceil()).max(1)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permits = (self.permits * 100.0).round() / 100.0;
        match self.per.as_secs() {
            1 => write!(f, "{permits} requests/s"),
            60 => write!(f, "{permits} requests/min"),
            3600 => write!(f, "{permits} requests/h"),
            seconds => write!(f, "{permits} requests/{seconds} s"),
        }
    }
}

pub(super) fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

/// The integer part, within the range of the type.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from float saturate")]
pub(super) fn whole(n: f64) -> u32 {
    n as u32
}

/// Names one bucket of one account. Two connections with the same credential share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketKey {
    /// Hash of vendor, host and credential identity; never the credential itself.
    pub account: u64,
    /// The bucket's name.
    pub bucket: String,
}

/// One bucket that a request counts against.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// The bucket.
    pub key: BucketKey,
    /// What it allows at the moment.
    pub quota: Quota,
    /// How many permits the request takes.
    pub cost: u32,
}

/// Answer to a reservation.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// Every bucket was charged.
    Granted,
    /// No bucket was charged; ask again after `wait`, because of `bucket`.
    Wait {
        /// How long until it can be granted.
        wait: Duration,
        /// The bucket that binds.
        bucket: String,
    },
}

/// Holds the buckets. Shared by everything that spends the same account's quota.
#[async_trait]
pub trait RateLimitStore: Send + Sync + Debug {
    /// Charges all buckets or none.
    async fn reserve(&self, charges: &[Charge]) -> Result<Grant>;

    /// Pauses a bucket for everybody: the vendor said so.
    async fn block(&self, key: &BucketKey, wait: Duration) -> Result<()>;
}

/// The generic cell rate algorithm: spaces permits by the quota's rate, with its burst.
///
/// `arrival` is the bucket's only state, the theoretical arrival time of the next permit, and `now` the time, both since
/// the same origin. Gives the new state, or how long to wait. A cost above the burst is granted when the bucket is full.
pub fn gcra(arrival: Duration, now: Duration, quota: &Quota, cost: u32) -> Result<Duration, Duration> {
    let interval = quota.interval();
    let next = arrival.max(now).saturating_add(interval.saturating_mul(cost));
    let tolerance = interval.saturating_mul(quota.burst.get().max(cost));
    let wait = next.saturating_sub(tolerance).saturating_sub(now);
    if wait.is_zero() { Ok(next) } else { Err(wait) }
}

/// Buckets in the memory of this process, on its monotonic clock.
#[derive(Debug, Default)]
pub struct MemoryLimits {
    origin: OnceLock<Instant>,
    buckets: Mutex<HashMap<BucketKey, Bucket>>,
}

#[derive(Debug, Default)]
struct Bucket {
    arrival: Duration,
    blocked_until: Duration,
    /// When the permits of the current window were granted, oldest first.
    granted: VecDeque<(Duration, u32)>,
}

impl Bucket {
    /// How long until the cost can be charged; zero: now.
    fn wait(&mut self, now: Duration, quota: &Quota, cost: u32) -> Duration {
        let blocked = self.blocked_until.saturating_sub(now);
        let paced = gcra(self.arrival, now, quota, cost).err().unwrap_or_default();
        blocked.max(paced).max(self.window_wait(now, quota, cost))
    }

    fn window_wait(&mut self, now: Duration, quota: &Quota, cost: u32) -> Duration {
        while self.granted.front().is_some_and(|(at, _)| at.saturating_add(quota.per) <= now) {
            self.granted.pop_front();
        }
        let used: u32 = self.granted.iter().map(|(_, cost)| cost).sum();
        let mut excess = (used + cost).saturating_sub(quota.ceiling().max(cost));
        let mut oldest = self.granted.iter();
        let mut wait = Duration::ZERO;
        while excess > 0 {
            let Some((at, cost)) = oldest.next() else { break };
            excess = excess.saturating_sub(*cost);
            wait = (*at + quota.per).saturating_sub(now);
        }
        wait
    }

    fn charge(&mut self, now: Duration, quota: &Quota, cost: u32) {
        self.arrival = gcra(self.arrival, now, quota, cost).unwrap_or(self.arrival);
        self.granted.push_back((now, cost));
    }
}

impl MemoryLimits {
    fn now(&self) -> Duration {
        self.origin.get_or_init(Instant::now).elapsed()
    }
}

#[async_trait]
impl RateLimitStore for MemoryLimits {
    async fn reserve(&self, charges: &[Charge]) -> Result<Grant> {
        let now = self.now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut binding: Option<(Duration, &str)> = None;
        for Charge { key, quota, cost } in charges {
            let wait = buckets.entry(key.clone()).or_default().wait(now, quota, *cost);
            if wait > binding.map_or(Duration::ZERO, |(longest, _)| longest) {
                binding = Some((wait, &key.bucket));
            }
        }
        if let Some((wait, bucket)) = binding {
            return Ok(Grant::Wait { wait, bucket: bucket.to_owned() });
        }
        for Charge { key, quota, cost } in charges {
            buckets.entry(key.clone()).or_default().charge(now, quota, *cost);
        }
        Ok(Grant::Granted)
    }

    async fn block(&self, key: &BucketKey, wait: Duration) -> Result<()> {
        let until = self.now().saturating_add(wait);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(key.clone()).or_default();
        bucket.blocked_until = bucket.blocked_until.max(until);
        Ok(())
    }
}
