//! How failed requests are tried again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bounds of the retries of one request. Delays are jittered and grow exponentially.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all; those that were throttled do not count. Default 8.
    pub max_attempts: u32,
    /// Shortest delay. Default 0.5 s.
    pub min_delay: Duration,
    /// Longest delay of our own choice. Default 60 s.
    pub max_delay: Duration,
    /// Longest delay that the server may ask for. Default 10 min.
    pub max_server_delay: Duration,
    /// Longest time spent on one request from when it was first sent, waits included. Default 15 min.
    pub max_elapsed: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_mins(1),
            max_server_delay: Duration::from_mins(10),
            max_elapsed: Duration::from_mins(15),
        }
    }
}

/// Delays with decorrelated jitter: each lies between the shortest one and three times the one before.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    previous: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    pub(super) fn new(policy: &RetryPolicy, rng: fastrand::Rng) -> Self {
        Self { min: policy.min_delay, max: policy.max_delay.max(policy.min_delay), previous: policy.min_delay, rng }
    }

    /// The next delay. One that the server asked for is never shortened, and drawn out by up to a tenth, so that not
    /// everybody comes back at once.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            let asked = asked.max(self.min);
            return asked.saturating_add(asked.div_f64(10.0).mul_f64(self.rng.f64()));
        }
        let span = self.previous.saturating_mul(3).saturating_sub(self.min);
        self.previous = self.min.saturating_add(span.mul_f64(self.rng.f64())).min(self.max);
        self.previous
    }
}

/// Keeps retries to a part of all requests, so that an outage is not made worse.
#[derive(Debug)]
pub(super) struct RetryBudget(Mutex<Tokens>);

#[derive(Debug)]
struct Tokens {
    left: f64,
    retrying: u32,
}

impl RetryBudget {
    /// Tokens to begin with, and at most. These and the costs are what the AWS SDKs use: some 35 retries at once, then one
    /// for every 14 requests that succeed.
    const CAPACITY: f64 = 500.0;
    /// Tokens that a retry after a failure costs. One after a refusal by a limit costs none: the limiter spaces these.
    const COST: f64 = 14.0;
    /// Tokens earned by a request that succeeds at once; one that was retried gives back what its last retry cost.
    const EARNED: f64 = 1.0;

    pub(super) fn new() -> Self {
        Self(Mutex::new(Tokens { left: Self::CAPACITY, retrying: 0 }))
    }

    /// Notes a request that succeeded.
    pub(super) fn earn(&self, was_retried: bool) {
        let earned = if was_retried { Self::COST } else { Self::EARNED };
        self.with(|tokens| tokens.left = (tokens.left + earned).min(Self::CAPACITY));
    }

    /// Notes that a request begins to be retried, until the guard is dropped.
    pub(super) fn begin(&self) -> Retrying<'_> {
        self.with(|tokens| tokens.retrying += 1);
        Retrying(self)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Tokens) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request that is being retried.
#[derive(Debug)]
pub(super) struct Retrying<'a>(&'a RetryBudget);

impl Retrying<'_> {
    /// Takes a retry from the budget. The only request that is retried may always go on: it makes no storm.
    pub(super) fn spend(&self) -> bool {
        self.0.with(|tokens| {
            let allowed = tokens.left >= RetryBudget::COST || tokens.retrying <= 1;
            tokens.left = (tokens.left - RetryBudget::COST).max(0.0);
            allowed
        })
    }
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        self.0.with(|tokens| tokens.retrying -= 1);
    }
}
