//! Rate limits: quotas per named bucket, and the store in which they are reserved before a request
//! is sent.

use std::fmt::{self, Debug};
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::rate_limit::ledger::Learned;

/// What a vendor allows in one bucket.
///
/// Two rules hold together: requests are spaced by the rate once `burst` of them went out at once,
/// and no window of length `per`, wherever it starts, holds more than `permits`. The second is what
/// vendors count.
///
/// ```
/// use pipeline_core::rate_limit::Quota;
///
/// let quota = Quota::per_minute(600).concurrency(8).share(0.8);
/// assert_eq!(quota.rate(), 8.0, "requests a second");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Requests (or cost units) per `per`; infinite when unknown.
    pub permits: f64,
    /// The span that `permits` refers to.
    pub per: Duration,
    /// Requests that may be sent at once after a pause.
    pub burst: NonZeroU32,
    /// Requests that may be under way at the same time; none: no limit.
    pub concurrency: Option<NonZeroU32>,
    /// Part of a limit found out by asking that is used, from 0 to 1; of a known limit the part is
    /// in `permits`.
    pub part: f64,
    /// True for what the vendor publishes for every account; see [`published`](Self::published).
    pub is_published: bool,
}

impl Quota {
    /// `n` a second, with a burst of a tenth of that: enough to make up for a late timer, and
    /// gentle to a vendor that counts in shorter spans.
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

    /// A limit that the vendor does not document: it is found out by asking, carefully at first.
    pub fn unknown() -> Self {
        let per = Duration::from_secs(1);
        Self {
            permits: f64::INFINITY,
            per,
            burst: NonZeroU32::MAX,
            concurrency: None,
            part: 1.0,
            is_published: false,
        }
    }

    fn new(n: u32, per: Duration, burst: u32) -> Self {
        Self {
            permits: f64::from(n.max(1)),
            per,
            burst: at_least_one(burst),
            concurrency: None,
            part: 1.0,
            is_published: false,
        }
    }

    /// False for a limit that has to be found out.
    pub fn is_known(&self) -> bool {
        self.permits.is_finite()
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

    /// Keeps only a part of the quota, between 0 and 1, and leaves the rest to the account's other
    /// programs.
    pub fn share(mut self, part: f64) -> Self {
        let part = part.clamp(0.01, 1.0);
        self.permits *= part;
        self.part *= part;
        self.burst = at_least_one(whole(f64::from(self.burst.get()) * part));
        self
    }

    /// It is what the vendor publishes for every account, and not what the user of this program
    /// allows: what answers report of the account's own limit over the same span takes its place,
    /// be it lower or higher.
    pub fn published(mut self) -> Self {
        self.is_published = true;
        self
    }

    /// The same of another number of permits.
    pub(crate) fn of(self, permits: f64) -> Self {
        let burst = whole(f64::from(self.burst.get()) * permits / self.permits);
        Self {
            permits,
            burst: at_least_one(burst),
            ..self
        }
    }

    /// Permits a second.
    pub fn rate(&self) -> f64 {
        self.permits / self.per.as_secs_f64()
    }

    /// Time until the last of this number of requests can be sent, from what is left of the current
    /// window.
    pub(crate) fn time_for(&self, requests: u64, left: Remaining) -> Duration {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        let paced = self
            .interval()
            .saturating_mul(requests.saturating_sub(self.burst.get()));
        let later = requests.saturating_sub(left.permits);
        let windows = match later.checked_sub(1) {
            // Where nothing was spent so far, the first comes back when the first that is spent now
            // does.
            Some(others) => {
                let next = if left.next.is_zero() {
                    self.per
                } else {
                    left.next
                };
                next.saturating_add(self.per.saturating_mul(others / self.ceiling()))
            }
            None => Duration::ZERO,
        };
        paced.max(windows)
    }

    /// Time between two permits at the steady rate.
    pub(crate) fn interval(&self) -> Duration {
        self.per
            .div_f64(self.permits.max(f64::MIN_POSITIVE).max(1e-6))
    }

    /// Most permits in any window of length `per`.
    pub(crate) fn ceiling(&self) -> u32 {
        whole(self.permits.ceil()).max(1)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_known() {
            return f.write_str("no known limit");
        }
        let permits = (self.permits * 100.0).round() / 100.0;
        match self.per.as_secs() {
            1 => write!(f, "{permits} requests/s"),
            60 => write!(f, "{permits} requests/min"),
            3600 => write!(f, "{permits} requests/h"),
            seconds => write!(f, "{permits} requests/{seconds} s"),
        }
    }
}

pub(crate) fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

/// The integer part, within the range of the type.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from float saturate"
)]
pub(crate) fn whole(n: f64) -> u32 {
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
pub struct Reservation {
    /// The bucket.
    pub key: BucketKey,
    /// What is never exceeded: no window holds more.
    pub quota: Quota,
    /// How fast it is used at the moment; only its rate and its burst count.
    pub pace: Quota,
    /// How many permits the request takes.
    pub cost: u32,
}

/// Answer to a reservation.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
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

/// What is left of a quota's current window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Permits that can still be spent before one has to wait.
    pub permits: u32,
    /// How long until one more comes free; zero when nothing was spent.
    pub next: Duration,
}

/// Holds the buckets. Shared by everything that spends the same account's quota.
#[async_trait]
pub trait RateLimitStore: Send + Sync + Debug {
    /// Charges all buckets or none.
    async fn reserve(&self, charges: &[Reservation]) -> Result<Decision>;

    /// Pauses a bucket for all requests, as the vendor asked.
    async fn block(&self, key: &BucketKey, wait: Duration) -> Result<()>;

    /// What is left of a bucket's quota, to plan a run by. By default a store knows of nothing that
    /// was spent.
    async fn left(&self, key: &BucketKey, quota: &Quota) -> Result<Remaining> {
        let _ = key;
        Ok(Remaining {
            permits: quota.ceiling(),
            next: Duration::ZERO,
        })
    }

    /// What answers taught about a bucket in an earlier run. By default nothing is kept.
    async fn recall(&self, key: &BucketKey) -> Result<Option<Learned>> {
        let _ = key;
        Ok(None)
    }

    /// Keeps what answers have taught about a bucket. By default it is forgotten.
    async fn remember(&self, key: &BucketKey, learned: &Learned) -> Result<()> {
        let _ = (key, learned);
        Ok(())
    }
}

/// The generic cell rate algorithm: spaces permits by the quota's rate, with its burst.
///
/// `arrival` is the bucket's only state, the theoretical arrival time of the next permit, and `now`
/// the time, both since the same origin. Gives the new state, or how long to wait. A cost above the
/// burst is granted when the bucket is full.
pub fn gcra(
    arrival: Duration,
    now: Duration,
    quota: &Quota,
    cost: u32,
) -> Result<Duration, Duration> {
    let interval = quota.interval();
    let next = arrival
        .max(now)
        .saturating_add(interval.saturating_mul(cost));
    let tolerance = interval.saturating_mul(quota.burst.get().max(cost));
    let wait = next.saturating_sub(tolerance).saturating_sub(now);
    if wait.is_zero() { Ok(next) } else { Err(wait) }
}

/// The state of [`gcra`] after a change of the rate: what was spent is the same number of permits
/// as before.
pub fn rescale(arrival: Duration, now: Duration, from: &Quota, to: &Quota) -> Duration {
    let (old, new) = (from.interval(), to.interval());
    let ahead = arrival.saturating_sub(now);
    if old == new || ahead.is_zero() || old.is_zero() {
        return arrival;
    }
    now.saturating_add(ahead.mul_f64(new.div_duration_f64(old).min(1e9)))
}
