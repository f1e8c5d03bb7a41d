//! What the server has seen.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Vendor;

/// Counters since the start.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// All requests, those answered by a fault included.
    pub requests: u64,
    /// Requests refused by a rate limit, by vendor. Injected 429s aren't counted.
    pub rejected: BTreeMap<Vendor, u64>,
    /// The requests that reached a limit, by method and route: `GET /v1/charges/{id}`.
    pub operations: BTreeMap<String, Operation>,
    /// The most requests that were being answered at once.
    pub max_in_flight: usize,
    /// Requests being answered now.
    pub(crate) in_flight: usize,
}

/// The requests of one operation, as times since the start.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// When requests were let through.
    pub accepted: Vec<Duration>,
    /// When requests were refused with 429.
    pub rejected: Vec<Duration>,
}

impl Operation {
    /// How many requests were let through in each second since the start, up to the last one.
    pub fn per_second(&self) -> Vec<u64> {
        let mut seconds = Vec::new();
        for time in &self.accepted {
            let second = usize::try_from(time.as_secs()).unwrap_or(usize::MAX);
            if seconds.len() <= second {
                seconds.resize(second + 1, 0);
            }
            seconds[second] += 1;
        }
        seconds
    }
}

impl Stats {
    pub(crate) fn record(&mut self, vendor: Vendor, operation: &str, at: Duration, accepted: bool) {
        let entry = self.operations.entry(operation.to_owned()).or_default();
        if accepted {
            entry.accepted.push(at);
        } else {
            entry.rejected.push(at);
            *self.rejected.entry(vendor).or_default() += 1;
        }
    }
}
