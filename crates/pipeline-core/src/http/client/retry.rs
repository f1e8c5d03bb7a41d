//! How failed requests are tried again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bounds of the retries of one request. Delays are jittered and grow exponentially.
///
/// ```
/// use std::time::Duration;
///
/// use pipeline_core::http::RetryPolicy;
///
/// let patient = RetryPolicy::default().max_elapsed(Duration::from_hours(1)).max_server_delay(Duration::from_hours(1));
/// assert_eq!(patient.max_attempts, 8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts in all; those that were throttled do not count. Default 8.
    pub max_attempts: u32,
    /// Shortest delay. Default 0.5 s.
    pub min_delay: Duration,
    /// Longest delay of our own choice. Default 60 s.
    pub max_delay: Duration,
    /// Longest delay that the server may ask for. Default 10 min.
    pub max_server_delay: Duration,
    /// Longest time spent on one request from when it was first sent, waits included. Default 15
    /// min.
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

impl RetryPolicy {
    /// Sets the number of attempts in all, at least 1.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// Sets the shortest delay.
    pub fn min_delay(mut self, min_delay: Duration) -> Self {
        self.min_delay = min_delay;
        self
    }

    /// Sets the longest delay that the client chooses by itself.
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Sets the longest delay that the server may ask for.
    pub fn max_server_delay(mut self, max_server_delay: Duration) -> Self {
        self.max_server_delay = max_server_delay;
        self
    }

    /// Sets the longest time spent on one request, waits included.
    pub fn max_elapsed(mut self, max_elapsed: Duration) -> Self {
        self.max_elapsed = max_elapsed;
        self
    }
}

/// Delays with decorrelated jitter: each lies between the shortest one and three times the one
/// before.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    previous: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(policy: &RetryPolicy, rng: fastrand::Rng) -> Self {
        Self {
            min: policy.min_delay,
            max: policy.max_delay.max(policy.min_delay),
            previous: policy.min_delay,
            rng,
        }
    }

    /// The next delay. One that the server asked for is never shortened, and drawn out by up to a
    /// tenth, so that clients do not come back all at once.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            let asked = asked.max(self.min);
            return asked.saturating_add(asked.div_f64(10.0).mul_f64(self.rng.f64()));
        }
        let span = self.previous.saturating_mul(3).saturating_sub(self.min);
        self.previous = self
            .min
            .saturating_add(span.mul_f64(self.rng.f64()))
            .min(self.max);
        self.previous
    }
}

/// Keeps retries to a part of all requests, so that an outage is not made worse.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Tokens>);

#[derive(Debug)]
struct Tokens {
    left: f64,
    retrying: u32,
}

impl RetryBudget {
    /// Tokens to begin with, and at most. These and the costs are what the AWS SDKs use: some 35
    /// retries at once, then one for every 14 requests that succeed.
    const CAPACITY: f64 = 500.0;
    /// Tokens that a retry after a failure costs. One after a refusal by a limit costs none: the
    /// limiter spaces these.
    const COST: f64 = 14.0;
    /// Tokens earned by a request that succeeds at once; one that was retried gives back what its
    /// last retry cost.
    const EARNED: f64 = 1.0;

    pub(crate) fn new() -> Self {
        Self(Mutex::new(Tokens {
            left: Self::CAPACITY,
            retrying: 0,
        }))
    }

    /// Notes a request that succeeded.
    pub(crate) fn earn(&self, was_retried: bool) {
        let earned = if was_retried {
            Self::COST
        } else {
            Self::EARNED
        };
        self.with(|tokens| tokens.left = (tokens.left + earned).min(Self::CAPACITY));
    }

    /// Notes that a request begins to be retried, until the guard is dropped.
    pub(crate) fn begin(&self) -> Retrying<'_> {
        self.with(|tokens| tokens.retrying += 1);
        Retrying(self)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Tokens) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request that is being retried.
#[derive(Debug)]
pub(crate) struct Retrying<'a>(&'a RetryBudget);

impl Retrying<'_> {
    /// Takes a retry from the budget. The only request that is retried may always continue: it
    /// makes no storm.
    pub(crate) fn spend(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: 8,
        min_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(20),
        max_server_delay: Duration::from_mins(10),
        max_elapsed: Duration::from_mins(15),
    };

    /// What `next` gives for many seeds: the least, and the most.
    fn range(next: impl Fn(&mut Backoff) -> Duration) -> (Duration, Duration) {
        let delays: Vec<_> = (0..2_000)
            .map(|seed| next(&mut Backoff::new(&POLICY, fastrand::Rng::with_seed(seed))))
            .collect();
        (
            delays.iter().copied().min().unwrap_or_default(),
            delays.iter().copied().max().unwrap_or_default(),
        )
    }

    fn lies_within(found: (Duration, Duration), least: f64, most: f64) {
        let (low, high) = (found.0.as_secs_f64(), found.1.as_secs_f64());
        let near = (most - least) / 50.0;
        assert!(
            low >= least && low < least + near && high <= most && high > most - near,
            "{low} to {high}, not {least} to {most}"
        );
    }

    #[test]
    fn a_delay_lies_between_the_shortest_and_three_times_the_one_before() {
        lies_within(range(|backoff| backoff.next(None)), 1.0, 3.0);
        let after = |previous: u64| {
            move |backoff: &mut Backoff| {
                backoff.previous = Duration::from_secs(previous);
                backoff.next(None)
            }
        };
        lies_within(range(after(5)), 1.0, 15.0);
        assert_eq!(
            range(after(1_000)).1,
            Duration::from_secs(20),
            "none is longer than the longest"
        );
        let mut backoff = Backoff::new(&POLICY, fastrand::Rng::with_seed(1));
        assert_eq!(backoff.next(None), backoff.previous);
    }

    #[test]
    fn what_a_server_asks_for_is_never_shortened_and_drawn_out_by_a_tenth() {
        lies_within(
            range(|backoff| backoff.next(Some(Duration::from_secs(100)))),
            100.0,
            110.0,
        );
        lies_within(
            range(|backoff| backoff.next(Some(Duration::ZERO))),
            1.0,
            1.1,
        );
        let asked_before = |backoff: &mut Backoff| {
            backoff.next(Some(Duration::from_secs(100)));
            backoff.next(None)
        };
        lies_within(range(asked_before), 1.0, 3.0);
    }

    /// How often a retry is allowed, one after the other.
    fn allowed(retrying: &Retrying<'_>) -> usize {
        (0..1_000).take_while(|_| retrying.spend()).count()
    }

    #[test]
    fn a_storm_of_retries_ends_with_the_budget_and_successes_earn_it_back() {
        let budget = RetryBudget::new();
        let first = budget.begin();
        assert_eq!(
            allowed(&first),
            1_000,
            "the only request that is retried makes no storm"
        );
        let second = budget.begin();
        assert_eq!(allowed(&second), 0, "it has used the budget up");
        for (successes, was_retried, expected) in [
            (13, false, 0),
            (14, false, 1),
            (27, false, 1),
            (3, true, 3),
            (1_000, false, 35),
            (1_000, true, 35),
        ] {
            (0..successes).for_each(|_| budget.earn(was_retried));
            assert_eq!(allowed(&second), expected, "after {successes} successes");
        }
        drop(first);
        assert!(second.spend(), "it is the only one now");
        let third = budget.begin();
        assert!(!third.spend() && !second.spend());
    }
}
