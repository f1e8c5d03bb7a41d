//! How much of its limits a client has used: whether they bind, or the machine and the vendor's latency.

use std::time::Duration;

use serde::Serialize;

/// What a client used of one bucket, from its first request to its last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BucketUse {
    /// The bucket's name.
    pub bucket: String,
    /// The limit in words: as configured, or as it was found out where that is less.
    pub limit: String,
    /// Requests sent.
    pub requests: u64,
    /// Requests that the limit would have let through meanwhile; none when nobody knows it.
    pub allowed: Option<f64>,
    /// Requests that the limit refused.
    pub refused: u64,
    /// Time that requests waited for it, added up over all of them.
    pub waited: Duration,
}

impl BucketUse {
    /// Part of what was allowed that was used: near 1 where the limit binds.
    pub fn used(&self) -> Option<f64> {
        self.allowed.map(|allowed| count(self.requests - self.refused) / allowed)
    }

    /// Requests refused of 1,000.
    pub fn refused_of_1000(&self) -> f64 {
        1000.0 * count(self.refused) / count(self.requests).max(1.0)
    }
}

/// What is counted of one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    requests: u64,
    pub(super) refused: u64,
    pub(super) waited: Duration,
    /// When the first and the last request were sent.
    span: Option<(Duration, Duration)>,
}

impl Counted {
    pub(super) fn sent(&mut self, now: Duration) {
        self.requests += 1;
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }

    /// The figures, if there are any. `rate` is a second's, and `per` the span in which the vendor counts.
    pub(super) fn figures(&self, bucket: &str, limit: String, rate: Option<f64>, per: Duration) -> Option<BucketUse> {
        let (first, last) = self.span?;
        // The last request begins a span that it does not end.
        let allowed = rate.map(|rate| (rate * last.saturating_sub(first).as_secs_f64() + 1.0).max(rate * per.as_secs_f64()));
        let bucket = bucket.to_owned();
        Some(BucketUse { bucket, limit, requests: self.requests, allowed, refused: self.refused, waited: self.waited })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for display")]
fn count(requests: u64) -> f64 {
    requests as f64
}
