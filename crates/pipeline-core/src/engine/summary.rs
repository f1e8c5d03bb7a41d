//! What a sync did: the result of a run, for people and for programs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::http::BucketUse;
use crate::state::EndpointId;

/// What a run did.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Identifies the run in events, logs and the commit log.
    pub run: String,
    /// One entry an endpoint that was to be read, in the order of the configuration.
    pub endpoints: Vec<EndpointSummary>,
    /// What was used of the limits of each source.
    pub limits: Vec<LimitSummary>,
    /// Commits made.
    pub commits: u64,
    /// Time from start to end.
    pub elapsed: Duration,
}

/// What a run used of one limit of a source.
#[derive(Debug, Serialize)]
pub struct LimitSummary {
    /// The source's name.
    pub source: String,
    /// The figures.
    #[serde(flatten)]
    pub usage: BucketUse,
}

/// What a run did with one endpoint.
#[derive(Debug, Serialize)]
pub struct EndpointSummary {
    /// The endpoint.
    pub id: EndpointId,
    /// How it ended.
    pub outcome: Outcome,
    /// What its streams got.
    pub streams: Vec<StreamSummary>,
    /// Cursor value up to which the data is complete, or the newest one read by an export.
    pub cursor: Option<DateTime<Utc>>,
    /// Slices that are not read to their end: where the next run goes on. Zero when everything up to the cursor is there.
    pub unfinished: usize,
    /// Records of a parent list that were passed over, because what belongs to them was refused.
    pub skipped: u64,
}

/// How an endpoint ended.
#[derive(Debug, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that there was is committed.
    Done,
    /// The run was cancelled or reached its deadline; what was read is committed.
    Interrupted,
    /// It may not be read and was not asked for by name: a permission, a plan, a product that is not enabled.
    Unavailable {
        /// Why.
        reason: String,
        /// What can be done about it.
        help: Option<String>,
    },
    /// It failed; what was read before is committed.
    Failed {
        /// The failure.
        #[serde(flatten)]
        error: Failure,
    },
}

/// An error, for the summary.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// What went wrong.
    #[serde(serialize_with = "kind_name")]
    pub kind: ErrorKind,
    /// What happened and where.
    pub message: String,
    /// What can be done about it.
    pub help: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn kind_name<S: serde::Serializer>(kind: &ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&kind.to_string())
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self { kind: error.kind(), message, help: error.help().map(ToOwned::to_owned) }
    }
}

/// What a run did for one stream.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamSummary {
    /// The stream's name.
    pub name: String,
    /// Records that the vendor sent.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Rows written and committed.
    pub rows: u64,
    /// Records that were left out because an earlier sync, or the page before, had committed the very same.
    pub unchanged: u64,
    /// Records that cannot be a row, such as without a key: kept with the reason in the table `_rejected`.
    pub rejected: u64,
    /// Members that were kept in `_extra`: the member, why, and how often.
    pub drift: Vec<DriftSummary>,
}

/// Members of one name that did not go to a column.
#[derive(Clone, Debug, Serialize)]
pub struct DriftSummary {
    /// The member's name.
    pub field: String,
    /// Why, in words.
    pub reason: String,
    /// How often.
    pub records: u64,
}

impl Summary {
    /// The most serious failure: decides the exit code. None when everything selected is done or unavailable.
    pub fn failure(&self) -> Option<ErrorKind> {
        let kinds = self.endpoints.iter().filter_map(|endpoint| match &endpoint.outcome {
            Outcome::Done | Outcome::Unavailable { .. } => None,
            Outcome::Interrupted => Some(ErrorKind::Cancelled),
            Outcome::Failed { error } => Some(error.kind),
        });
        kinds.max_by_key(|kind| severity(*kind))
    }
}

/// Defects first, then what the user must repair, then what the next run repairs by itself.
fn severity(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Unexpected => 6,
        ErrorKind::CheckpointConflict => 5,
        ErrorKind::Destination => 4,
        ErrorKind::Unauthenticated => 3,
        ErrorKind::ConfigInvalid | ErrorKind::Unsupported => 2,
        ErrorKind::Cancelled => 0,
        _ => 1,
    }
}
