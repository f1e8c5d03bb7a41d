//! Figures per endpoint, gathered from events: requests, latency, errors, throttling, and what was
//! waited for. And what else should be said when a run is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use pipeline_core::state::EndpointId;
use pipeline_core::{Attempt, Event, Observer};

/// Notices kept.
const MAX_NOTICES: usize = 1000;

/// Gathers figures per endpoint. Memory does not grow with the number of requests.
#[derive(Debug, Default)]
pub struct Metrics {
    endpoints: Mutex<BTreeMap<EndpointId, Gathered>>,
    notices: Mutex<Vec<(EndpointId, String)>>,
    /// Characters that could not be read, by endpoint.
    repaired: Mutex<BTreeMap<EndpointId, u64>>,
}

#[derive(Debug, Default)]
struct Gathered {
    figures: Figures,
    latencies: Histogram,
    waits: BTreeMap<String, Duration>,
}

/// Figures of one endpoint.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Attempts sent.
    pub requests: u64,
    /// Attempts after the first of their request.
    pub retries: u64,
    /// Attempts that the vendor answered with "too fast".
    pub throttled: u64,
    /// Attempts that failed for another reason.
    pub failed: u64,
    /// Bytes received, after decompression.
    pub bytes: u64,
    /// Time that requests waited for limits, added up over all of them.
    pub waited: Duration,
    /// The limit waited for longest.
    pub limit: Option<String>,
    /// Median latency.
    pub p50: Duration,
    /// Latency that 95 % of the attempts stay below.
    pub p95: Duration,
    /// Latency that 99 % of the attempts stay below.
    pub p99: Duration,
}

impl Figures {
    /// Part of the attempts that failed, throttled ones included.
    pub fn error_rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
        let ratio = |part: u64, whole: u64| {
            if whole == 0 {
                0.0
            } else {
                part as f64 / whole as f64
            }
        };
        ratio(self.failed + self.throttled, self.requests)
    }
}

impl Metrics {
    /// The figures of endpoints so far, all together.
    pub fn figures<'a>(&self, endpoints: impl IntoIterator<Item = &'a EndpointId>) -> Figures {
        let known = self.lock();
        let mut gathered = Gathered::default();
        for endpoint in endpoints
            .into_iter()
            .filter_map(|endpoint| known.get(endpoint))
        {
            gathered.join(endpoint);
        }
        Figures {
            limit: gathered
                .waits
                .iter()
                .max_by_key(|(_, wait)| **wait)
                .map(|(limit, _)| limit.clone()),
            p50: gathered.latencies.quantile(0.50),
            p95: gathered.latencies.quantile(0.95),
            p99: gathered.latencies.quantile(0.99),
            ..gathered.figures.clone()
        }
    }

    /// Notices for the user, each once, in the order in which they came.
    pub fn notices(&self) -> Vec<(EndpointId, String)> {
        let mut notices = self
            .notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let repaired = self.repaired.lock().unwrap_or_else(PoisonError::into_inner);
        let message = |characters| {
            format!(
                "{characters} characters could not be read, as in text that was cut inside an emoji: each is U+FFFD now"
            )
        };
        notices.extend(
            repaired
                .iter()
                .map(|(endpoint, characters)| (endpoint.clone(), message(characters))),
        );
        notices
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Gathered>> {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Attempt(attempt) => {
                let id = EndpointId::new(attempt.source, attempt.endpoint);
                self.lock().entry(id).or_default().add(attempt);
            }
            Event::Notice {
                source,
                endpoint,
                message,
            } => {
                let notice = (EndpointId::new(*source, *endpoint), (*message).to_owned());
                let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
                if notices.len() < MAX_NOTICES && !notices.contains(&notice) {
                    notices.push(notice);
                }
            }
            Event::Repaired {
                source,
                endpoint,
                characters,
            } => {
                let mut repaired = self.repaired.lock().unwrap_or_else(PoisonError::into_inner);
                *repaired
                    .entry(EndpointId::new(*source, *endpoint))
                    .or_default() += characters;
            }
            _ => {}
        }
    }
}

impl Gathered {
    fn join(&mut self, other: &Self) {
        let (figures, others) = (&mut self.figures, &other.figures);
        figures.requests += others.requests;
        figures.retries += others.retries;
        figures.throttled += others.throttled;
        figures.failed += others.failed;
        figures.bytes += others.bytes;
        figures.waited += others.waited;
        for (limit, wait) in &other.waits {
            *self.waits.entry(limit.clone()).or_default() += *wait;
        }
        for (bucket, count) in &other.latencies.counts {
            *self.latencies.counts.entry(*bucket).or_default() += count;
        }
        self.latencies.total += other.latencies.total;
    }

    fn add(&mut self, attempt: &Attempt<'_>) {
        let figures = &mut self.figures;
        figures.requests += 1;
        figures.retries += u64::from(attempt.attempt > 1);
        figures.throttled += u64::from(attempt.throttled);
        figures.failed += u64::from(attempt.failure.is_some() && !attempt.throttled);
        figures.bytes += attempt.bytes;
        figures.waited += attempt.limit_wait;
        self.latencies.add(attempt.latency);
        if let Some(limit) = attempt.limit {
            *self.waits.entry(limit.to_owned()).or_default() += attempt.limit_wait;
        }
    }
}

/// Latencies counted in buckets that grow by an eighth each: quantiles are exact to 12 %.
#[derive(Debug, Default)]
struct Histogram {
    counts: BTreeMap<u32, u64>,
    total: u64,
}

impl Histogram {
    fn add(&mut self, latency: Duration) {
        *self.counts.entry(bucket(latency)).or_default() += 1;
        self.total += 1;
    }

    /// The upper edge of the bucket that holds the quantile.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among counted values"
    )]
    fn quantile(&self, part: f64) -> Duration {
        let rank = (self.total as f64 * part).ceil() as u64;
        let mut counted = 0;
        for (bucket, count) in &self.counts {
            counted += count;
            if counted >= rank && counted > 0 {
                return upper_edge(*bucket);
            }
        }
        Duration::ZERO
    }
}

/// Bucket of a latency: the position of its highest bit in microseconds, and the three bits below
/// it.
fn bucket(latency: Duration) -> u32 {
    let micros = u64::try_from(latency.as_micros())
        .unwrap_or(u64::MAX)
        .max(8);
    let exponent = micros.ilog2();
    let fraction = (micros >> (exponent - 3)) & 7;
    exponent * 8 + u32::try_from(fraction).unwrap_or(7)
}

fn upper_edge(bucket: u32) -> Duration {
    let (exponent, fraction) = (bucket / 8, u64::from(bucket % 8));
    Duration::from_micros(((8 + fraction + 1) << (exponent - 3)).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_an_eighth() {
        let mut histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.add(Duration::from_millis(millis));
        }
        for (part, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let found = histogram.quantile(part).as_secs_f64() * 1000.0;
            assert!(
                found >= expected && found <= expected * 1.125,
                "{part}: {found}"
            );
        }
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
