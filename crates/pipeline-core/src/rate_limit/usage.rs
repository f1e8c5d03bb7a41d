//! How much of its limits a client has used: whether they bind, or the machine and the vendor's
//! latency.

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
    /// Requests that the limit would have let through meanwhile; none when it is unknown.
    pub allowed: Option<f64>,
    /// Requests that the limit refused.
    pub refused: u64,
    /// Time that requests waited for it, added up over all of them.
    pub waited: Duration,
}

impl BucketUse {
    /// Part of what was allowed that was used: near 1 where the limit binds.
    pub fn used(&self) -> Option<f64> {
        self.allowed
            .map(|allowed| count(self.requests - self.refused) / allowed)
    }

    /// Requests refused of 1,000.
    pub fn refused_of_1000(&self) -> f64 {
        1000.0 * count(self.refused) / count(self.requests).max(1.0)
    }
}

/// What is counted of one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestCounts {
    requests: u64,
    pub(crate) refused: u64,
    pub(crate) waited: Duration,
    /// When the first and the last request were sent.
    span: Option<(Duration, Duration)>,
    /// What the known limit let through, while there was one.
    windows: Option<Windows>,
}

/// The vendor's windows since the first request, one after the other: of a limit that is used to
/// its end, each holds as many requests as it may, however they lie in it.
#[derive(Clone, Copy, Debug)]
struct Windows {
    /// Permits of those that have ended.
    ended: f64,
    /// When the one that is open began.
    start: Duration,
    /// Its permits: a limit that falls within a window was higher before.
    permits: f64,
}

impl Windows {
    fn at(self, now: Duration, permits: f64, per: Duration) -> Self {
        let passed = (now.saturating_sub(self.start).as_secs_f64() / per.as_secs_f64()).floor();
        if passed < 1.0 {
            return Self {
                permits: self.permits.max(permits),
                ..self
            };
        }
        Self {
            ended: self.ended + passed * self.permits,
            start: self.start + per.mul_f64(passed),
            permits,
        }
    }
}

impl RequestCounts {
    /// A request was sent, under the limit of the moment: its permits, and the span in which the
    /// vendor counts them.
    pub(crate) fn sent(&mut self, now: Duration, limit: Option<(f64, Duration)>) {
        self.requests += 1;
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
        if let Some((permits, per)) = limit.filter(|(_, per)| !per.is_zero()) {
            let new = Windows {
                ended: 0.0,
                start: now,
                permits,
            };
            self.windows = Some(
                self.windows
                    .map_or(new, |windows| windows.at(now, permits, per)),
            );
        }
    }

    /// The figures, if there are any. `found` is what was found out in the place of the known
    /// limit: a second's permits, and the span in which the vendor counts.
    pub(crate) fn figures(
        &self,
        bucket: &str,
        limit: String,
        found: Option<(f64, Duration)>,
    ) -> Option<BucketUse> {
        let (first, last) = self.span?;
        let allowed = match found {
            Some((rate, per)) => {
                let per = per.as_secs_f64().max(f64::MIN_POSITIVE);
                Some(rate * per * ((last.saturating_sub(first).as_secs_f64() / per).floor() + 1.0))
            }
            None => self.windows.map(|windows| windows.ended + windows.permits),
        };
        // What was let through without a refusal was allowed, whatever is known of the limit by
        // now.
        let allowed = allowed.map(|allowed| {
            if self.refused == 0 {
                allowed.max(count(self.requests))
            } else {
                allowed
            }
        });
        let bucket = bucket.to_owned();
        Some(BucketUse {
            bucket,
            limit,
            requests: self.requests,
            allowed,
            refused: self.refused,
            waited: self.waited,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for display")]
fn count(requests: u64) -> f64 {
    requests as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Sends requests at these times, in seconds, and returns the part of the limit that was used.
    fn used(times: &[f64], permits: impl Fn(f64) -> f64, per: u64) -> f64 {
        let mut counted = RequestCounts::default();
        for time in times {
            counted.sent(
                Duration::from_secs_f64(*time),
                Some((permits(*time), Duration::from_secs(per))),
            );
        }
        counted
            .figures("b", String::new(), None)
            .unwrap()
            .used()
            .unwrap()
    }

    #[test]
    fn d7_windows_that_are_used_to_the_end_are_used_to_100_percent() {
        let ten_at = |start: f64| (0..10).map(move |n| start + 0.1 * f64::from(n));
        let of = |starts: &[f64]| {
            starts
                .iter()
                .flat_map(|start| ten_at(*start))
                .collect::<Vec<_>>()
        };
        let close = |used: f64, wanted: f64| {
            assert!((used - wanted).abs() < 1e-9, "{used} instead of {wanted}");
        };
        close(used(&of(&[0.0]), |_| 10.0, 60), 1.0);
        // A run that ends a second after the second window began: by the rate it would have been
        // allowed twelve of its twenty.
        close(used(&of(&[0.0, 60.0]), |_| 10.0, 60), 1.0);
        close(used(&of(&[0.0, 60.0, 120.0]), |_| 10.0, 60), 1.0);
        close(used(&of(&[0.0, 120.0]), |_| 10.0, 60), 2.0 / 3.0);
        // A limit that falls was higher before.
        close(
            used(
                &of(&[0.0, 60.0]),
                |time| if time < 60.0 { 10.0 } else { 20.0 },
                60,
            ),
            2.0 / 3.0,
        );
        close(
            used(
                &of(&[0.0, 60.0]),
                |time| if time < 30.0 { 20.0 } else { 10.0 },
                60,
            ),
            2.0 / 3.0,
        );
        let steady: Vec<f64> = (0..2_500).map(|n| f64::from(n) / 25.0).collect();
        close(used(&steady, |_| 25.0, 1), 1.0);
    }

    #[test]
    fn d7_more_than_was_known_to_be_allowed_takes_a_refusal() {
        let mut counted = RequestCounts::default();
        for second in 0..100 {
            counted.sent(Duration::from_millis(500 * second), None);
        }
        let found = Some((1.0, Duration::from_secs(1)));
        assert_eq!(
            counted.figures("b", String::new(), found).unwrap().used(),
            Some(1.0)
        );
        counted.refused = 1;
        assert!(
            counted
                .figures("b", String::new(), found)
                .unwrap()
                .used()
                .unwrap()
                > 1.5
        );
    }
}
