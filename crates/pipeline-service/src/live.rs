//! A run in progress, as the page shows it. Holds a few numbers for each endpoint.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::rate_limit::BucketUse;
use pipeline_core::{Event, Observer};

use crate::metrics::Metrics;
use crate::supervisor::Reason;

/// Endpoints that are listed singly; of a source with thousands of sub-accounts the rest is added
/// up.
const LISTED: usize = 300;

/// Asks the connector what was used of its limits.
type Budget = Box<dyn Fn() -> Vec<BucketUse> + Send + Sync>;

/// Observes one run.
pub struct Live {
    /// The source.
    pub source: String,
    /// When the service started the run.
    pub started: DateTime<Utc>,
    /// Why.
    pub reason: Reason,
    metrics: Arc<Metrics>,
    progress: Mutex<Progress>,
    budget: Mutex<Option<Budget>>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("source", &self.source)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// What a run has done so far.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The run's name, once it has one.
    pub run: Option<String>,
    /// Attempts of requests.
    pub requests: u64,
    /// Those that the vendor called too fast.
    pub throttled: u64,
    /// Attempts that failed otherwise.
    pub failed: u64,
    /// Records read.
    pub records: u64,
    /// Rows committed.
    pub rows: u64,
    /// The limit that a request waited for last, and for how long.
    pub waiting: Option<(String, Duration)>,
    /// Endpoints, by name.
    pub endpoints: BTreeMap<String, EndpointProgress>,
    /// Endpoints that are not listed.
    pub unlisted: u64,
}

/// What a run has done so far with one endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointProgress {
    /// Records read.
    pub records: u64,
    /// None while it is read; then whether that succeeded.
    pub done: Option<bool>,
}

impl Live {
    /// A run that is about to start.
    pub fn new(
        source: impl Into<String>,
        reason: Reason,
        started: DateTime<Utc>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            source: source.into(),
            started,
            reason,
            metrics,
            progress: Mutex::default(),
            budget: Mutex::default(),
        }
    }

    /// Lets the page ask what is used of the limits while the run lasts.
    pub fn watch_limits(&self, budget: impl Fn() -> Vec<BucketUse> + Send + Sync + 'static) {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(budget));
    }

    /// What was used of each limit until now.
    pub fn limits(&self) -> Vec<BucketUse> {
        let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.as_ref().map(|budget| budget()).unwrap_or_default()
    }

    /// What was done until now.
    pub fn progress(&self) -> Progress {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn endpoint(&mut self, name: String) -> Option<&mut EndpointProgress> {
        if self.endpoints.len() >= LISTED && !self.endpoints.contains_key(&name) {
            return None;
        }
        Some(self.endpoints.entry(name).or_default())
    }
}

impl Observer for Live {
    fn observe(&self, event: &Event<'_>) {
        self.metrics.observe(&self.source, event);
        let mut progress = self.lock();
        match event {
            Event::SyncStarted { run } => progress.run = Some((*run).to_owned()),
            Event::EndpointStarted { endpoint, .. } => {
                let is_unlisted = progress.endpoint(endpoint.endpoint.clone()).is_none();
                progress.unlisted += u64::from(is_unlisted);
            }
            Event::Attempt(attempt) => {
                progress.requests += 1;
                progress.throttled += u64::from(attempt.throttled);
                progress.failed += u64::from(attempt.failure.is_some() && !attempt.throttled);
            }
            Event::Waiting { limit, wait, .. } => {
                progress.waiting = Some(((*limit).to_owned(), *wait));
            }
            Event::PageRead {
                endpoint, records, ..
            } => {
                progress.records += records;
                if let Some(listed) = progress.endpoint(endpoint.endpoint.clone()) {
                    listed.records += records;
                }
            }
            Event::Committed { rows, .. } => progress.rows += rows,
            Event::EndpointFinished { endpoint, error } => {
                if let Some(listed) = progress.endpoint(endpoint.endpoint.clone()) {
                    listed.done = Some(error.is_none());
                }
            }
            _ => {}
        }
    }
}
