//! What a sync did: the result of a run, for people and for programs.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use pipeline_core::http::WEB_PAGE;
use pipeline_core::rate_limit::BucketUse;
use pipeline_core::state::{EndpointId, Gap};
use pipeline_core::{Error, ErrorKind};

use crate::contract::DROPPED;
use crate::quality::OnFailure;

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
    /// True when the vendor answered for it in this run, be it that there is nothing. False when it
    /// was not asked, as for a list that is not due, or refused.
    pub answered: bool,
    /// What its streams got.
    pub streams: Vec<StreamSummary>,
    /// Cursor value up to which the data is complete, or the newest one read by an export.
    pub cursor: Option<DateTime<Utc>>,
    /// Slices that are not read to their end: where the next run resumes. Zero when everything up
    /// to the cursor is there.
    pub unfinished: usize,
    /// Records of a parent list that were passed over, because what belongs to them was refused.
    pub skipped: u64,
    /// Units that are missing, because the vendor refused them or never delivered them.
    pub gaps: Vec<GapSummary>,
}

/// A unit of an endpoint that is missing.
#[derive(Clone, Debug, Serialize)]
pub struct GapSummary {
    /// Its name.
    pub name: String,
    /// Why it could not be read, in the vendor's words.
    pub reason: String,
    /// When it was first passed over.
    pub since: DateTime<Utc>,
    /// How often it was asked for.
    pub attempts: u32,
}

impl DriftSummary {
    /// True when the values are not kept anywhere, because a contract says so.
    pub fn is_dropped(&self) -> bool {
        self.reason == DROPPED
    }
}

impl From<&Gap> for GapSummary {
    fn from(gap: &Gap) -> Self {
        Self {
            name: gap.name.clone(),
            reason: gap.reason.clone(),
            since: gap.since,
            attempts: gap.attempts,
        }
    }
}

/// How an endpoint ended.
#[derive(Debug, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that there was is committed.
    Done,
    /// Everything is committed but for the units that are listed as gaps.
    Incomplete,
    /// The run was cancelled or reached its deadline; what was read is committed.
    Interrupted,
    /// It may not be read and was not asked for by name: a permission, a plan, a product that is
    /// not enabled.
    Unavailable {
        /// What it would be as a failure.
        #[serde(serialize_with = "kind_name")]
        kind: ErrorKind,
        /// Why.
        reason: String,
        /// The vendor's own words, which `reason` quotes.
        answer: Option<String>,
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
    /// The vendor's own words, which `message` quotes: what distinguishes failures that have the
    /// same cause from others.
    pub answer: Option<String>,
    /// What can be done about it.
    pub help: Option<String>,
    /// True when the run before failed in the same way at the same place: it does not pass by
    /// itself.
    pub repeated: bool,
    /// True when it was not the vendor who answered: this says nothing about what the account has.
    #[serde(skip)]
    pub is_foreign: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
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
        let (answer, help) = (
            error.context_value("answer").map(ToOwned::to_owned),
            error.help().map(ToOwned::to_owned),
        );
        Self {
            kind: error.kind(),
            message,
            answer,
            help,
            repeated: false,
            is_foreign: error.message() == WEB_PAGE,
        }
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
    /// Records that were left out because an earlier sync, or the page before, had committed the
    /// very same.
    pub unchanged: u64,
    /// Records that cannot be a row, such as without a key: kept with the reason in the table
    /// `_rejected`.
    pub rejected: u64,
    /// Quality checks that rows broke; see [`QualityCheck`](crate::QualityCheck).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<QualitySummary>,
    /// Members that were kept in `_extra`: the member, why, and how often.
    pub drift: Vec<DriftSummary>,
}

/// A quality check that rows of a stream broke.
#[derive(Clone, Debug, Serialize)]
pub struct QualitySummary {
    /// What is wrong with them, in words.
    pub reason: String,
    /// What it led to.
    pub on_failure: OnFailure,
    /// Rows that broke it.
    pub records: u64,
    /// The primary key of the first one as a JSON object; none for a stream without a key.
    pub first: Option<String>,
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
    /// The most serious failure: decides the exit code. None when everything selected is done or
    /// unavailable, and something is done: a source of which nothing can be read has failed,
    /// the server that answers in the vendor's place.
    pub fn failure(&self) -> Option<ErrorKind> {
        self.failures()
            .map(|(kind, _)| kind)
            .max_by_key(|kind| severity(*kind))
    }

    /// True when there are failures and none of them passes by itself: running again does not help
    /// before something is changed.
    pub fn lasts(&self) -> bool {
        self.failure().is_some() && self.failures().all(|(_, lasts)| lasts)
    }

    /// The kinds of all failures, and whether they last.
    fn failures(&self) -> impl Iterator<Item = (ErrorKind, bool)> {
        let is_withheld = |source: &str| {
            let of_source = || {
                self.endpoints
                    .iter()
                    .filter(|endpoint| endpoint.id.source == source)
            };
            of_source().all(|endpoint| {
                !endpoint.answered || matches!(endpoint.outcome, Outcome::Unavailable { .. })
            })
        };
        let sources: BTreeSet<&str> = self
            .endpoints
            .iter()
            .map(|endpoint| &*endpoint.id.source)
            .collect();
        let withheld: BTreeSet<&str> = sources
            .into_iter()
            .filter(|source| is_withheld(source))
            .collect();
        self.endpoints.iter().filter_map(move |endpoint| {
            let kind = match &endpoint.outcome {
                Outcome::Done => None,
                Outcome::Unavailable {
                    kind: ErrorKind::Unsupported,
                    ..
                } => withheld
                    .contains(&*endpoint.id.source)
                    .then_some(ErrorKind::Refused),
                Outcome::Unavailable { kind, .. } => {
                    withheld.contains(&*endpoint.id.source).then_some(*kind)
                }
                Outcome::Incomplete => Some(ErrorKind::Unavailable),
                Outcome::Interrupted => Some(ErrorKind::Cancelled),
                Outcome::Failed { error } => Some(error.kind),
            }?;
            let is_repeated =
                matches!(&endpoint.outcome, Outcome::Failed { error } if error.repeated);
            Some((kind, kind.lasts() || is_repeated))
        })
    }
}

/// Defects first, then what the user must repair, then what the next run repairs by itself.
fn severity(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Unexpected => 6,
        ErrorKind::CheckpointConflict => 5,
        ErrorKind::Destination | ErrorKind::Disk => 4,
        ErrorKind::Unauthenticated => 3,
        ErrorKind::ConfigInvalid | ErrorKind::Unsupported | ErrorKind::PermissionDenied => 2,
        ErrorKind::Cancelled => 0,
        _ => 1,
    }
}
