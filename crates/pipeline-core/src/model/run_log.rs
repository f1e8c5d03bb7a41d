//! Which runs there are: who may read a source now, and how runs ended, failed ones too.

use std::any::Any;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::model::state::EndpointId;

/// The right to read a source into a destination: given back when it is dropped, or when the
/// process ends in whatever way.
pub type Claim = Box<dyn Any + Send + Sync>;

/// Most runs that a destination remembers; the oldest are forgotten first.
pub const RUN_CAPACITY: usize = 500;

/// A run: written when it starts, and again, under the same name, when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Identifies the run in events, logs and the commit log.
    pub run: String,
    /// When it started.
    pub started: DateTime<Utc>,
    /// How long it took. None: it is running, or was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<Duration>,
    /// The sources that it was to read.
    pub sources: Vec<String>,
    /// Rows committed.
    #[serde(default)]
    pub rows: u64,
    /// Commits made.
    #[serde(default)]
    pub commits: u64,
    /// The most serious failure, by its name. None: it is running, or everything is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why it failed as a whole, if it did: what came of single endpoints is with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What became of each endpoint that it was to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointRecord>,
}

/// What became of one endpoint in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The endpoint.
    #[serde(flatten)]
    pub id: EndpointId,
    /// The streams that it feeds and that were selected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<String>,
    /// `done`, `incomplete`, `interrupted`, `unavailable` or `failed`.
    pub status: String,
    /// Why it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Rows committed.
    #[serde(default)]
    pub rows: u64,
    /// When it was last complete, in this run or in one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<DateTime<Utc>>,
}

impl RunRecord {
    /// A run that starts.
    pub fn started(run: impl Into<String>, started: DateTime<Utc>, sources: Vec<String>) -> Self {
        Self {
            run: run.into(),
            started,
            took: None,
            sources,
            rows: 0,
            commits: 0,
            failure: None,
            error: None,
            endpoints: Vec::new(),
        }
    }

    /// Says how serious it was.
    #[must_use]
    pub fn failed(mut self, kind: Option<ErrorKind>) -> Self {
        self.failure = kind.map(|kind| kind.to_string());
        self
    }
}
