//! How failed requests are tried again.

use std::time::Duration;

/// Bounds of the retries of one request. Delays are jittered and grow exponentially.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all. Default 6.
    pub max_attempts: u32,
    /// Shortest delay. Default 0.5 s.
    pub min_delay: Duration,
    /// Longest delay of our own choice. Default 60 s.
    pub max_delay: Duration,
    /// Longest delay that the server may ask for. Default 10 min.
    pub max_server_delay: Duration,
    /// Longest time spent on one request, waits included. Default 15 min.
    pub max_elapsed: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(60),
            max_server_delay: Duration::from_secs(600),
            max_elapsed: Duration::from_secs(900),
        }
    }
}
