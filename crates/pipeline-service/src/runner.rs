//! The interface between a service and the program that embeds it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pipeline_core::RunRecord;
use pipeline_core::rate_limit::BucketUse;
use pipeline_engine::{CancellationToken, Outcome, Summary};

use crate::live::Live;
use crate::settings::Settings;

/// Runs syncs. The service decides when to run, and the program how, so that scheduled runs are the
/// same as those started by hand.
#[async_trait]
pub trait Runner: Send + Sync + Debug {
    /// Reads one source. Returns when the run has ended, successfully or not.
    async fn run(&self, order: Order) -> Ended;

    /// Returns what the destination contains. Takes no lock and sends no request to a vendor.
    ///
    /// # Errors
    /// In words that may be shown.
    async fn stored(&self) -> Result<Stored, String>;

    /// Loads the configuration again and uses it from the next run.
    ///
    /// # Errors
    /// In words that may be shown; nothing has changed then.
    fn reload(&self) -> Result<Settings, String>;

    /// Replaces secrets in a text.
    fn redact(&self, text: &str) -> String;
}

/// A run that is to be made.
#[derive(Clone, Debug)]
pub struct Order {
    /// The source.
    pub source: String,
    /// Streams whose newest records are wanted; none: everything.
    pub targets: BTreeSet<String>,
    /// Time after which it commits what it has and stops.
    pub max_duration: Option<Duration>,
    /// Receives every event of the run, and shows it on the page and in the metrics.
    pub live: Arc<Live>,
    /// Cancelled when the run is to commit what it has and stop.
    pub cancel: CancellationToken,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The run's name; none when it failed before it had one.
    pub run: Option<String>,
    /// How, in one word.
    pub verdict: Verdict,
    /// The exit code that a process would have ended with.
    pub exit_code: u8,
    /// Why it is not done, with the vendor's request id where there is one.
    pub error: Option<String>,
    /// What can be done about it.
    pub help: Option<String>,
    /// The streams that are not complete.
    pub streams: Vec<String>,
    /// Rows committed.
    pub rows: u64,
    /// Records rejected.
    pub rejected: u64,
    /// Units that are missing.
    pub missing: u64,
    /// Members that have no column or do not fit theirs: `stream.member`, and why.
    pub drift: Vec<(String, String)>,
    /// What was used of each limit.
    pub limits: Vec<BucketUse>,
}

/// How a run ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is there.
    Done,
    /// Everything but single units that the vendor withholds.
    Missing,
    /// It failed.
    Failed,
    /// The credentials are refused, or lack a permission.
    Refused,
    /// It was stopped: by a person, a deadline, or the end of the process.
    Interrupted,
    /// Another process reads the source. Nothing was done, and nothing is wrong.
    Busy,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Done,
        Self::Missing,
        Self::Failed,
        Self::Refused,
        Self::Interrupted,
        Self::Busy,
    ];

    /// The verdict as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
            Self::Busy => "busy",
        }
    }
}

impl Ended {
    /// A run that failed as a whole, or before it began.
    pub fn failed(verdict: Verdict, exit_code: u8, error: impl Into<String>) -> Self {
        Self {
            run: None,
            verdict,
            exit_code,
            error: Some(error.into()),
            help: None,
            streams: Vec::new(),
            rows: 0,
            rejected: 0,
            missing: 0,
            drift: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// A run as the engine reports it. `verdict` and `exit_code` are the program's, which knows
    /// what its exit codes mean; `redact` hides what must not be seen.
    pub fn of(
        summary: &Summary,
        verdict: Verdict,
        exit_code: u8,
        redact: &dyn Fn(&str) -> String,
    ) -> Self {
        let streams = || {
            summary
                .endpoints
                .iter()
                .flat_map(|endpoint| &endpoint.streams)
        };
        let (error, help) = reason(summary).unzip();
        let incomplete = summary.endpoints.iter().filter(|endpoint| {
            !matches!(
                endpoint.outcome,
                Outcome::Done | Outcome::Unavailable { .. }
            )
        });
        // Several endpoints may feed one stream, such as a list and its feed of changes.
        let names: BTreeSet<String> = incomplete
            .flat_map(|endpoint| endpoint.streams.iter().map(|stream| stream.name.clone()))
            .collect();
        let drift = streams().flat_map(|stream| {
            let of = |drift: &pipeline_engine::DriftSummary| {
                (
                    format!("{}.{}", stream.name, drift.field),
                    drift.reason.clone(),
                )
            };
            stream.drift.iter().map(of)
        });
        let missing: usize = summary
            .endpoints
            .iter()
            .map(|endpoint| endpoint.gaps.len())
            .sum();
        Self {
            run: Some(summary.run.clone()),
            verdict,
            exit_code,
            error: error.map(|error| redact(&error)),
            help: help.flatten().map(|help| redact(&help)),
            streams: names.into_iter().collect(),
            rows: streams().map(|stream| stream.rows).sum(),
            rejected: streams().map(|stream| stream.rejected).sum(),
            missing: missing as u64,
            drift: drift.collect(),
            limits: summary
                .limits
                .iter()
                .map(|limit| limit.usage.clone())
                .collect(),
        }
    }
}

/// Why a run is not done, the failures before what was refused and what is missing.
fn reason(summary: &Summary) -> Option<(String, Option<String>)> {
    let failed = summary
        .endpoints
        .iter()
        .find_map(|endpoint| match &endpoint.outcome {
            Outcome::Failed { error } => Some((error.message.clone(), error.help.clone())),
            _ => None,
        });
    let refused = || {
        summary
            .endpoints
            .iter()
            .find_map(|endpoint| match &endpoint.outcome {
                Outcome::Unavailable { reason, help, .. } if summary.failure().is_some() => {
                    Some((reason.clone(), help.clone()))
                }
                _ => None,
            })
    };
    let missing = || {
        let gap = summary
            .endpoints
            .iter()
            .find_map(|endpoint| endpoint.gaps.first())?;
        Some((format!("{}: {}", gap.name, gap.reason), None))
    };
    failed.or_else(refused).or_else(missing)
}

/// What a destination holds.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Every stream, by source and name.
    pub streams: Vec<StoredStream>,
    /// The last runs, newest first.
    pub runs: Vec<RunRecord>,
}

/// One stream of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStream {
    /// The source.
    pub source: String,
    /// The stream.
    pub stream: String,
    /// Its rows.
    pub rows: u64,
    /// Its state in words.
    pub state: String,
    /// False when the vendor does not let these credentials read it: its age says nothing.
    pub available: bool,
    /// When everything that feeds it was last complete.
    pub succeeded: Option<DateTime<Utc>>,
    /// Up to when its data is complete.
    pub cursor: Option<DateTime<Utc>>,
    /// Units that are missing: their names, and why.
    pub missing: Vec<(String, String)>,
    /// Why it is not done.
    pub error: Option<String>,
}
