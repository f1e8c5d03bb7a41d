//! What a client, and the connector that owns it, are given besides their configuration.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::event::{NoObserver, Observer};
use crate::http::HttpService;
use crate::http::auth::{MemoryTokens, TokenStore};
use crate::http::client::RetryPolicy;
use crate::rate_limit::{MemoryLimits, RateLimitStore};

/// What a connector is given besides its configuration. The default is what a program wants: the
/// network, the system clock, limits and tokens in memory.
///
/// ```
/// use pipeline_core::BuildContext;
/// use pipeline_core::http::RetryPolicy;
///
/// let context = BuildContext::new("payments").retry(RetryPolicy::default().max_attempts(3));
/// assert_eq!((context.source.as_str(), context.retry.max_attempts), ("payments", 3));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuildContext {
    /// The source's name in events and errors.
    pub source: String,
    /// Replaces the network; none: reqwest.
    pub transport: Option<Arc<dyn HttpService>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Quotas, shared by everything that uses the same account.
    pub limits: Arc<dyn RateLimitStore>,
    /// Where rotating tokens are kept.
    pub tokens: Arc<dyn TokenStore>,
    /// The observer of what happens.
    pub observer: Arc<dyn Observer>,
    /// How failed requests are tried again.
    pub retry: RetryPolicy,
    /// Largest response body in memory, after decompression. Default 64 MiB; less where a run's
    /// memory has no room for one.
    pub max_body: u64,
    /// Longest time to establish a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest time without a byte. Default 60 s.
    pub read_timeout: Duration,
    /// Longest time for one attempt of a response that is held in memory. Default 300 s; spooled
    /// responses have a least pace instead.
    pub total_timeout: Duration,
    /// Seed of the jitter; none: from the system.
    pub seed: Option<u64>,
}

impl Default for BuildContext {
    fn default() -> Self {
        Self {
            source: String::new(),
            transport: None,
            clock: Arc::new(SystemClock),
            limits: Arc::new(MemoryLimits::default()),
            tokens: Arc::new(MemoryTokens::default()),
            observer: Arc::new(NoObserver),
            retry: RetryPolicy::default(),
            max_body: 64 << 20,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_mins(1),
            total_timeout: Duration::from_mins(5),
            seed: None,
        }
    }
}

impl BuildContext {
    /// Creates the default context for the source of this name.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            ..Self::default()
        }
    }

    /// Names the source in events and errors.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Replaces the network.
    pub fn transport(mut self, transport: Arc<dyn HttpService>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Replaces the system clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Shares quotas with other connectors of the same account, or keeps them beyond the process.
    pub fn limits(mut self, limits: Arc<dyn RateLimitStore>) -> Self {
        self.limits = limits;
        self
    }

    /// Stores rotating tokens elsewhere than in memory.
    pub fn tokens(mut self, tokens: Arc<dyn TokenStore>) -> Self {
        self.tokens = tokens;
        self
    }

    /// Reports requests, waits, and retries to an observer.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Replaces the retry policy.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the largest response body in memory, in bytes after decompression.
    pub fn max_body(mut self, max_body: u64) -> Self {
        self.max_body = max_body;
        self
    }

    /// Sets the longest time to establish a connection.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets the longest time without a byte.
    pub fn read_timeout(mut self, read_timeout: Duration) -> Self {
        self.read_timeout = read_timeout;
        self
    }

    /// Sets the longest time for one attempt of a response that is held in memory.
    pub fn total_timeout(mut self, total_timeout: Duration) -> Self {
        self.total_timeout = total_timeout;
        self
    }

    /// Makes the jitter of retries reproducible.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}
