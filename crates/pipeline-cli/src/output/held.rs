//! The streams of a destination: what is stored of each, and how the last run that was to read it
//! ended.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use pipeline_core::state::{EndpointId, EndpointState, Position, SliceState};
use pipeline_core::{EndpointRecord, RunRecord};
use pipeline_engine::{Status, TableId};
use serde_json::{Value, json};

use super::gaps;
use super::gaps::Missing;
use crate::console::Console;
use crate::units;

/// Table of rejected records.
const REJECTED: &str = "_rejected";

/// One stream of a destination.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) source: &'a str,
    pub(crate) stream: &'a str,
    /// The endpoint that lists it; none when nothing is known but its rows.
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) rows: u64,
    pub(crate) committed: Option<DateTime<Utc>>,
    /// How far its data is complete.
    pub(crate) cursor: Option<DateTime<Utc>>,
    /// Slices that are planned and not read to their end.
    pub(crate) left: usize,
    pub(crate) missing: Vec<Missing<'a>>,
    /// When everything that feeds it was last complete.
    pub(crate) succeeded: Option<DateTime<Utc>>,
    /// How the last run that was to read it ended.
    pub(crate) ended: Option<Ended>,
    /// Why it is not done, and the run that found out.
    pub(crate) error: Option<(&'a str, &'a str)>,
}

/// How an endpoint ended, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Done,
    Incomplete,
    Interrupted,
    Unavailable,
    Failed,
}

impl Ended {
    fn of(status: &str) -> Self {
        match status {
            "done" => Self::Done,
            "incomplete" => Self::Incomplete,
            "interrupted" => Self::Interrupted,
            "unavailable" => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

/// What is known of one endpoint.
#[derive(Clone, Copy)]
struct Fed<'a> {
    id: &'a EndpointId,
    state: Option<&'a EndpointState>,
    committed: Option<DateTime<Utc>>,
    /// In the newest run that was to read it.
    last: Option<(&'a str, &'a EndpointRecord)>,
    succeeded: Option<DateTime<Utc>>,
}

/// Every stream once, by name: those with rows, those with a checkpoint, and those that a run was
/// to read. Runs are the newest first.
pub(crate) fn held<'a>(status: &'a Status, runs: &'a [RunRecord]) -> Vec<Held<'a>> {
    let mut streams: BTreeMap<(&str, &str), Vec<Fed<'a>>> = BTreeMap::new();
    for (table, rows) in &status.rows {
        if table.stream != REJECTED || *rows > 0 {
            streams.entry((&table.source, &table.stream)).or_default();
        }
    }
    for id in endpoints(status, runs) {
        let fed = fed(id, status, runs);
        let read = fed.last.iter().flat_map(|(_, record)| &record.streams);
        let mut names: BTreeSet<&str> = fed
            .state
            .iter()
            .flat_map(|state| &state.streams)
            .chain(read)
            .map(String::as_str)
            .collect();
        // Before its data is complete for the first time, a checkpoint names no stream.
        let is_own =
            |(table, _): &(TableId, u64)| table.source == id.source && table.stream == id.name();
        if names.is_empty() && status.rows.iter().any(is_own) {
            names.insert(id.name());
        }
        for name in names {
            streams.entry((&id.source, name)).or_default().push(fed);
        }
    }
    streams
        .into_iter()
        .map(|((source, stream), fed)| Held::of(source, stream, &fed, status))
        .collect()
}

/// The endpoints of checkpoints and of runs, each once. What is forgotten says nothing of the rows
/// that others read since.
fn endpoints<'a>(status: &'a Status, runs: &'a [RunRecord]) -> BTreeSet<&'a EndpointId> {
    let stored = status
        .endpoints
        .iter()
        .filter(|(_, state)| !state.is_forgotten())
        .map(|(id, _)| id);
    stored
        .chain(
            runs.iter()
                .flat_map(|run| &run.endpoints)
                .map(|endpoint| &endpoint.id),
        )
        .collect()
}

fn fed<'a>(id: &'a EndpointId, status: &'a Status, runs: &'a [RunRecord]) -> Fed<'a> {
    let mut records = runs
        .iter()
        .flat_map(|run| {
            run.endpoints
                .iter()
                .map(move |record| (run.run.as_str(), record))
        })
        .filter(|(_, record)| record.id == *id);
    let last = records.next();
    let succeeded = last
        .into_iter()
        .chain(records)
        .filter_map(|(_, record)| record.succeeded)
        .max();
    let state = status
        .endpoints
        .iter()
        .find(|(known, state)| known == id && !state.is_forgotten())
        .map(|(_, state)| state);
    let commit = status
        .commits
        .iter()
        .find(|commit| commit.changes.iter().any(|change| change.endpoint() == id));
    let committed = commit.map(|commit| commit.at);
    // When no run is recorded, the last commit is the only evidence.
    let known = state
        .filter(|state| last.is_none() && left(state) == 0 && state.missing().next().is_none());
    Fed {
        id,
        state,
        committed,
        last,
        succeeded: succeeded.or(known.and(committed)),
    }
}

/// Slices that are planned and not read to their end. An export that has caught up has one that
/// never ends, which is not work left.
fn left(state: &EndpointState) -> usize {
    let is_left = |slice: &SliceState| {
        slice.window.is_some() || state.refreshing || slice.position == Position::Start
    };
    state
        .unfinished()
        .filter(|(_, slice)| is_left(slice))
        .count()
}

/// A feed of changes, or an export: of several endpoints that feed a table the lists say how
/// complete it is.
fn is_feed(fed: &Fed<'_>) -> bool {
    fed.state
        .is_some_and(|state| state.slices.values().any(|slice| slice.window.is_none()))
}

impl<'a> Held<'a> {
    fn of(source: &'a str, stream: &'a str, fed: &[Fed<'a>], status: &'a Status) -> Self {
        let rows = status
            .rows
            .iter()
            .find(|(table, _)| table.source == source && table.stream == stream)
            .map_or(0, |(_, rows)| *rows);
        let lists = || fed.iter().filter(|fed| !is_feed(fed));
        let leading: Vec<&Fed<'_>> = if lists().next().is_some() {
            lists().collect()
        } else {
            fed.iter().collect()
        };
        let stored = || leading.iter().filter_map(|fed| fed.state);
        let worst = fed
            .iter()
            .filter_map(|fed| Some((Ended::of(&fed.last?.1.status), fed)))
            .max_by_key(|(ended, _)| *ended);
        let error = worst.and_then(|(_, fed)| {
            let (run, record) = fed.last?;
            Some((record.error.as_deref()?, run))
        });
        Self {
            source,
            stream,
            endpoint: leading.first().map(|fed| fed.id.name()),
            rows,
            committed: fed.iter().filter_map(|fed| fed.committed).max(),
            cursor: stored().map(EndpointState::freshness).min().flatten(),
            left: stored().map(left).sum(),
            missing: fed
                .iter()
                .filter_map(|fed| fed.state)
                .flat_map(gaps::of_state)
                .collect(),
            succeeded: fed.iter().map(|fed| fed.succeeded).min().flatten(),
            ended: worst.map(|(ended, _)| ended),
            error,
        }
    }

    /// Its state in words.
    pub(crate) fn state(&self) -> String {
        if self.stream == REJECTED {
            return "rejected records".to_owned();
        }
        let mut parts = Vec::new();
        match self.ended {
            _ if self.endpoint.is_none() => parts.push("read again by the next sync".to_owned()),
            Some(Ended::Failed) => parts.push("failed".to_owned()),
            Some(Ended::Unavailable) => parts.push("unavailable".to_owned()),
            Some(Ended::Interrupted) => parts.push("interrupted".to_owned()),
            Some(Ended::Done | Ended::Incomplete) | None => {}
        }
        let is_open = !matches!(self.ended, Some(Ended::Failed | Ended::Unavailable));
        match self.left {
            left if left == 0 || !is_open => {}
            1 => parts.push("1 slice left".to_owned()),
            left => parts.push(format!("{left} slices left")),
        }
        if !self.missing.is_empty() {
            parts.push(format!(
                "{} missing",
                units::number(self.missing.len() as u64)
            ));
        }
        if parts.is_empty() {
            "complete".to_owned()
        } else {
            parts.join(", ")
        }
    }

    pub(crate) fn json(&self, now: DateTime<Utc>, console: &Console) -> Value {
        json!({
            "source": self.source,
            "stream": self.stream,
            "endpoint": self.endpoint,
            "rows": self.rows,
            "state": self.state(),
            "last_success": self.succeeded,
            "lag_seconds": self.succeeded.map(|at| (now - at).num_seconds().max(0)),
            "last_error": self.error.map(|(error, run)| json!({ "run": run, "error": console.redact(error) })),
            "last_commit": self.committed,
            "cursor": self.cursor,
            "unfinished_slices": self.left,
            "missing": gaps::listed(&self.missing, console),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fmt::Write;

    use chrono::TimeDelta;
    use pipeline_core::state::Window;

    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn record(
        endpoint: &str,
        streams: &[&str],
        status: &str,
        error: Option<&str>,
        succeeded: Option<i64>,
    ) -> EndpointRecord {
        EndpointRecord {
            id: EndpointId::new("s", endpoint),
            streams: streams.iter().map(|name| (*name).to_owned()).collect(),
            status: status.to_owned(),
            error: error.map(str::to_owned),
            rows: 0,
            succeeded: succeeded.map(at),
        }
    }

    fn state(streams: &[&str], slices: &[SliceState]) -> EndpointState {
        let mut state = EndpointState {
            plan: 1,
            cursor: Some(at(1)),
            ..EndpointState::default()
        };
        state.streams = streams.iter().map(|name| (*name).to_owned()).collect();
        for slice in slices {
            state.add_slice(slice.clone());
        }
        state
    }

    fn listed(held: &[Held<'_>]) -> String {
        let mut text = String::new();
        for stream in held {
            let succeeded = stream.succeeded.map_or_else(
                || "never".to_owned(),
                |at| format!("{}", at.format("%H:%M")),
            );
            let error = stream
                .error
                .map_or_else(String::new, |(error, run)| format!("; {run}: {error}"));
            let _ = writeln!(
                text,
                "{}/{} {} rows: {}, {succeeded}{error}",
                stream.source,
                stream.stream,
                stream.rows,
                stream.state()
            );
        }
        text
    }

    /// An endpoint that feeds many streams of which only one has rows; an export that has caught
    /// up; a list with parts left; a stream that failed before there was anything; a table of which
    /// the checkpoint was forgotten.
    #[test]
    fn d2_d9_d10_every_stream_is_there_once_with_its_rows_and_its_state() {
        let open = SliceState {
            position: Position::At("cursor".to_owned()),
            ..SliceState::default()
        };
        let window = SliceState {
            window: Some(Window {
                since: None,
                until: at(9),
            }),
            ..SliceState::default()
        };
        let rows = [
            ("engage", 10_000),
            ("export", 7),
            ("charges", 5),
            ("gone", 3),
            (REJECTED, 0),
        ];
        let status = Status {
            endpoints: vec![
                (
                    EndpointId::new("s", "engage"),
                    state(
                        &["cohorts", "engage", "members"],
                        std::slice::from_ref(&open),
                    ),
                ),
                (
                    EndpointId::new("s", "export"),
                    state(&["export"], std::slice::from_ref(&open)),
                ),
                (
                    EndpointId::new("s", "charges"),
                    state(&["charges"], &[window.clone(), window]),
                ),
                (
                    EndpointId::new("s", "forgotten"),
                    EndpointState {
                        plan: 3,
                        ..EndpointState::default()
                    },
                ),
            ],
            rows: rows
                .map(|(stream, rows)| {
                    (
                        TableId {
                            source: "s".to_owned(),
                            stream: stream.to_owned(),
                        },
                        rows,
                    )
                })
                .to_vec(),
            commits: Vec::new(),
        };
        let run = |name: &str, hour: i64, endpoints: Vec<EndpointRecord>| RunRecord {
            took: Some(std::time::Duration::from_secs(1)),
            endpoints,
            ..RunRecord::started(name, at(hour), vec!["s".to_owned()])
        };
        let runs = [
            run(
                "r3",
                3,
                vec![
                    record("charges", &["charges"], "interrupted", None, Some(1)),
                    record(
                        "secret",
                        &["secret"],
                        "unavailable",
                        Some("no permission"),
                        None,
                    ),
                ],
            ),
            run(
                "r2",
                2,
                vec![
                    record("engage", &["engage"], "done", None, Some(2)),
                    record(
                        "export",
                        &["export"],
                        "failed",
                        Some("the server failed"),
                        Some(1),
                    ),
                ],
            ),
            run(
                "r1",
                1,
                vec![record("export", &["export"], "done", None, Some(1))],
            ),
        ];
        insta::assert_snapshot!("every_stream_once", listed(&held(&status, &runs)));
        insta::assert_snapshot!(
            "every_stream_once_without_runs",
            listed(&held(&status, &[]))
        );
    }
}
