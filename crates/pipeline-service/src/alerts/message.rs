//! What an alert says, as JSON and as text for Slack.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Age, Kind};
use crate::runner::Ended;
use crate::words;

/// Names that an alert lists.
const LISTED: usize = 20;

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What is, or was, wrong.
    pub event: Kind,
    /// `raised` or `resolved`.
    pub status: Status,
    /// When that was found out.
    pub at: DateTime<Utc>,
    /// When it began; only when it is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The source.
    pub source: String,
    /// The streams that it is about, at most twenty.
    #[serde(default)]
    pub streams: Vec<String>,
    /// The run that found out; none for what no run has found out.
    #[serde(default)]
    pub run: Option<String>,
    /// The run's exit code.
    #[serde(default)]
    pub exit_code: Option<u8>,
    /// What happened, with the vendor's request id where there is one.
    #[serde(default)]
    pub error: Option<String>,
    /// Rows that the run committed.
    #[serde(default)]
    pub rows: Option<u64>,
    /// Age of the oldest data, in seconds.
    #[serde(default)]
    pub lag_seconds: Option<u64>,
    /// What can be done about it.
    #[serde(default)]
    pub help: Option<String>,
}

/// Whether something is wrong, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is wrong since now.
    Raised,
    /// It was wrong until now.
    Resolved,
}

impl Alert {
    fn new(event: Kind, resolved: bool, source: &str, at: DateTime<Utc>) -> Self {
        Self {
            event,
            status: if resolved {
                Status::Resolved
            } else {
                Status::Raised
            },
            at,
            since: None,
            source: source.to_owned(),
            streams: Vec::new(),
            run: None,
            exit_code: None,
            error: None,
            rows: None,
            lag_seconds: None,
            help: None,
        }
    }

    pub(super) fn of_run(
        event: Kind,
        resolved: bool,
        source: &str,
        ended: &Ended,
        at: DateTime<Utc>,
    ) -> Self {
        let missing = format!(
            "missing: {}, which the next runs request again",
            words::count(ended.missing, "unit")
        );
        let error = match (event, &ended.error) {
            (Kind::Gaps, Some(error)) => Some(format!("{missing}; the first is {error}")),
            (Kind::Gaps, None) => Some(missing),
            (_, error) => error.clone(),
        };
        let help = ended
            .help
            .clone()
            .or_else(|| what_to_do(event).map(str::to_owned));
        Self {
            streams: ended.streams.iter().take(LISTED).cloned().collect(),
            run: ended.run.clone(),
            exit_code: Some(ended.exit_code),
            error: error.filter(|_| !resolved),
            rows: Some(ended.rows),
            help: help.filter(|_| !resolved),
            ..Self::new(event, resolved, source, at)
        }
    }

    pub(super) fn of_drift(
        source: &str,
        drift: &[&(String, String)],
        ended: &Ended,
        at: DateTime<Utc>,
    ) -> Self {
        let mut parts: Vec<String> = drift
            .iter()
            .take(LISTED)
            .map(|(member, reason)| format!("{member}: {reason}"))
            .collect();
        if drift.len() > LISTED {
            parts.push(format!("and {} more", drift.len() - LISTED));
        }
        let mut streams: Vec<String> = drift
            .iter()
            .filter_map(|(member, _)| Some(member.split_once('.')?.0.to_owned()))
            .collect();
        streams.dedup();
        streams.truncate(LISTED);
        Self {
            streams,
            run: ended.run.clone(),
            exit_code: Some(ended.exit_code),
            error: Some(parts.join("; ")),
            rows: Some(ended.rows),
            help: what_to_do(Kind::Drift).map(str::to_owned),
            ..Self::new(Kind::Drift, false, source, at)
        }
    }

    pub(super) fn of_age(resolved: bool, source: &str, age: &Age, at: DateTime<Utc>) -> Self {
        let error = format!(
            "the last complete sync was {} ago",
            words::duration(age.lag)
        );
        Self {
            streams: age.streams.iter().take(LISTED).cloned().collect(),
            error: Some(error).filter(|_| !resolved),
            lag_seconds: Some(age.lag.as_secs()).filter(|_| !resolved),
            help: what_to_do(Kind::Stale)
                .map(str::to_owned)
                .filter(|_| !resolved),
            ..Self::new(Kind::Stale, resolved, source, at)
        }
    }

    /// What happened, in one line.
    fn title(&self) -> String {
        let source = &self.source;
        match (self.status, self.event) {
            (Status::Raised, Kind::Failed) => format!("{source}: the sync failed"),
            (Status::Raised, Kind::Credentials) => format!("{source}: the credentials are refused"),
            (Status::Raised, Kind::Stale) => format!("{source}: the data is too old"),
            (Status::Raised, Kind::Gaps) => format!("{source}: the vendor withholds units"),
            (_, Kind::Drift) => format!("{source}: records have members without a column"),
            (Status::Resolved, Kind::Failed) => format!("{source}: the sync works again"),
            (Status::Resolved, Kind::Credentials) => {
                format!("{source}: the credentials are accepted again")
            }
            (Status::Resolved, Kind::Stale) => format!("{source}: the data is up to date again"),
            (Status::Resolved, Kind::Gaps) => format!("{source}: nothing is missing any more"),
        }
    }

    /// The body for Slack: text alone, which every service that imitates Slack understands.
    pub(crate) fn slack(&self) -> Value {
        let mark = match self.status {
            Status::Raised => ":red_circle:",
            Status::Resolved => ":large_green_circle:",
        };
        let mut text = format!("{mark} *{}*", escape(&self.title()));
        let mut line = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{name}: {}", escape(value));
        };
        if !self.streams.is_empty() {
            line("streams", &self.streams.join(", "));
        }
        if let Some(error) = &self.error {
            line("what", error);
        }
        if let Some(help) = &self.help {
            line("do", help);
        }
        if let Some(since) = self.since {
            line("since", &since.to_rfc3339_opts(SecondsFormat::Secs, true));
        }
        if let Some(run) = &self.run {
            line("run", run);
        }
        json!({ "text": text })
    }
}

/// What to do when the failure itself does not say.
fn what_to_do(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Failed => None,
        Kind::Credentials => Some("renew the credentials of this source, or allow what is missing"),
        Kind::Stale => Some("look at the last run with `pipeline runs`; is the service running?"),
        Kind::Gaps => Some("`pipeline state gaps` lists them and can give them up"),
        Kind::Drift => Some("the values are kept in the column _extra"),
    }
}

/// Slack gives these three characters a meaning.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
