//! Runs as people and programs see them.

use std::collections::BTreeMap;

use pipeline_core::RunRecord;
use pipeline_engine::Destination;
use serde_json::{Value, json};

use super::events::millis;
use super::table::{Align, TextTable};
use crate::console::Console;
use crate::units;

/// Longest reason in the table, in characters.
const REASON: usize = 100;

/// What became of the runs that have no end, by name.
#[derive(Debug, Default)]
pub(crate) struct Fates(BTreeMap<String, Fate>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its process holds its sources.
    Running,
    /// Its process is gone.
    Killed,
}

impl Fates {
    /// Finds out what became of runs, which are the newest first: a run holds its sources until its
    /// process ends in whatever way.
    pub(crate) async fn of(runs: &[RunRecord], destination: &dyn Destination) -> Self {
        let mut fates = BTreeMap::new();
        for run in runs.iter().filter(|run| run.took.is_none()) {
            let fate = if was_followed(run, runs) {
                Some(Fate::Killed)
            } else {
                asked(run, destination).await
            };
            fates.extend(fate.map(|fate| (run.run.clone(), fate)));
        }
        Self(fates)
    }
}

/// Of two runs that read the same source the later one starts when the earlier one has ended,
/// unless it is refused.
fn was_followed(run: &RunRecord, all: &[RunRecord]) -> bool {
    let is_later = |other: &&RunRecord| {
        other.started > run.started
            && other
                .sources
                .iter()
                .any(|source| run.sources.contains(source))
    };
    let was_let_in = |other: &RunRecord| {
        !matches!(
            other.failure.as_deref(),
            Some("checkpoint_conflict" | "config_invalid")
        )
    };
    all.iter().filter(is_later).any(was_let_in)
}

/// Whether a process holds the sources of a run; none when that cannot be determined.
async fn asked(run: &RunRecord, destination: &dyn Destination) -> Option<Fate> {
    let mut fate = None;
    for source in &run.sources {
        if destination.is_claimed(source).await.ok()?? {
            return Some(Fate::Running);
        }
        fate = Some(Fate::Killed);
    }
    fate
}

/// How a run ended, in words.
pub(crate) fn result(run: &RunRecord, fates: &Fates) -> String {
    let Some(failure) = run.failure.as_deref() else {
        return match (run.took, fates.0.get(&run.run)) {
            (Some(_), _) => "done",
            (None, Some(Fate::Killed)) => "killed",
            (None, Some(Fate::Running)) => "running",
            (None, None) => "running, or killed",
        }
        .to_owned();
    };
    match failure {
        "config_invalid" | "unsupported" => "configuration refused",
        "unauthenticated" => "credentials refused",
        "permission_denied" => "not permitted",
        "not_found" | "refused" => "refused by the vendor",
        "rate_limited" => "stopped at a rate limit",
        "cancelled" => "interrupted",
        "destination" => "destination failed",
        "disk" => "disk failed",
        "checkpoint_conflict" => "refused: another sync was running",
        "unexpected" => "defect of the program",
        _ if run
            .endpoints
            .iter()
            .all(|endpoint| endpoint.status != "failed") =>
        {
            "incomplete"
        }
        _ => "failed in part",
    }
    .to_owned()
}

/// Runs as a table.
pub(crate) fn table(runs: &[RunRecord], fates: &Fates, console: &Console) -> String {
    use Align::{Left, Right};
    let columns = [
        ("RUN", Left),
        ("STARTED", Left),
        ("TOOK", Right),
        ("SOURCES", Left),
        ("RESULT", Left),
        ("ROWS", Right),
        ("FAILED", Right),
        ("REASON", Left),
    ];
    let mut table = TextTable::new(columns);
    for run in runs {
        let failed = run
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.status == "failed")
            .count();
        table.row([
            run.run.clone(),
            units::instant(run.started),
            run.took.map_or_else(|| "-".to_owned(), units::short),
            run.sources.join(", "),
            result(run, fates),
            units::number(run.rows),
            units::number(failed as u64),
            short(&console.redact(reason(run).unwrap_or_default())),
        ]);
    }
    table.render()
}

/// A run as JSON.
pub(crate) fn json(run: &RunRecord, fates: &Fates, console: &Console) -> Value {
    let failed = run
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.error.is_some());
    let failures: Vec<Value> = failed
        .map(|endpoint| {
            json!({
                "source": endpoint.id.source,
                "endpoint": endpoint.id.endpoint,
                "streams": endpoint.streams,
                "status": endpoint.status,
                "error": endpoint.error.as_deref().map(|error| console.redact(error)),
            })
        })
        .collect();
    json!({
        "run": run.run,
        "started": run.started,
        "took_ms": run.took.map(millis),
        "sources": run.sources,
        "result": result(run, fates),
        "failure": run.failure,
        "error": run.error.as_deref().map(|error| console.redact(error)),
        "rows": run.rows,
        "commits": run.commits,
        "failures": failures,
    })
}

/// Why a run is not done, the most serious reason first.
fn reason(run: &RunRecord) -> Option<&str> {
    let of = |status: &'static str| {
        run.endpoints
            .iter()
            .filter(move |endpoint| endpoint.status == status)
            .find_map(|endpoint| endpoint.error.as_deref())
    };
    run.error
        .as_deref()
        .or_else(|| of("failed"))
        .or_else(|| of("incomplete"))
}

/// The first line, up to a length.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta};
    use pipeline_core::ErrorKind;

    fn run(hour: i64, took: Option<u64>, failure: Option<ErrorKind>) -> RunRecord {
        let started = DateTime::UNIX_EPOCH + TimeDelta::hours(hour);
        let run = RunRecord::started(format!("r{hour}"), started, vec!["s".to_owned()]);
        RunRecord {
            took: took.map(Duration::from_secs),
            ..run
        }
        .failed(failure)
    }

    #[test]
    fn d10_a_run_without_an_end_was_killed_when_a_later_one_was_let_in() {
        let killed = run(1, None, None);
        let refused = run(2, Some(0), Some(ErrorKind::CheckpointConflict));
        assert!(!was_followed(&killed, &[refused.clone(), killed.clone()]));
        assert!(was_followed(
            &killed,
            &[run(3, Some(9), None), refused, killed.clone()]
        ));
        let fates = Fates(BTreeMap::from([("r1".to_owned(), Fate::Killed)]));
        assert_eq!(result(&killed, &fates), "killed");
        assert_eq!(result(&killed, &Fates::default()), "running, or killed");
        assert_eq!(result(&run(3, Some(9), None), &fates), "done");
        assert_eq!(
            result(&run(3, Some(9), Some(ErrorKind::Unauthenticated)), &fates),
            "credentials refused"
        );
    }

    #[test]
    fn reasons_are_one_line_of_a_bounded_length() {
        assert_eq!(short("one\ntwo"), "one");
        assert_eq!(short(&"ä".repeat(300)).chars().count(), REASON + 1);
    }
}
