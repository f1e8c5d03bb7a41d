//! The summary of a run for people: a table, then what needs attention, then the next step.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use pipeline_core::ErrorKind;
use pipeline_core::state::EndpointId;
use pipeline_engine::{DriftSummary, Figures, LimitSummary, OnFailure, Outcome, StreamSummary};

use super::gaps;
use super::gaps::Missing;
use super::json::Report;
use super::merged::{Merged, merged, names};
use super::reasons::reasons;
use super::table::{Align, TextTable};
use crate::exit::Exit;
use crate::units;

/// Reasons printed per stream for values that did not go to their column.
const DRIFT_SHOWN: usize = 3;

/// Limits named, the busiest first.
const LIMITS_SHOWN: usize = 5;

/// Part of a limit from which its use is worth a line.
const LIMIT_USED: f64 = 0.05;

impl Report<'_> {
    /// The whole report.
    pub(crate) fn text(&self) -> String {
        let mut text = self.table();
        self.limits(&mut text);
        self.drift(&mut text);
        self.rejected(&mut text);
        self.quality(&mut text);
        self.skipped(&mut text);
        self.notices(&mut text);
        self.gaps(&mut text);
        self.failures(&mut text);
        let _ = write!(text, "\n{}\n", self.closing());
        text
    }

    fn table(&self) -> String {
        use Align::{Left, Right};
        let mut table = TextTable::new([
            ("SOURCE", Left),
            ("STREAM", Left),
            ("STATUS", Left),
            ("RECORDS", Right),
            ("ROWS", Right),
            ("REQS", Right),
            ("RETRIES", Right),
            ("429", Right),
            ("P50/P95 MS", Right),
            ("UP TO", Left),
            ("WAITED", Right),
        ]);
        let mut seen = BTreeSet::new();
        for endpoint in &merged(self.summary) {
            let figures = self.metrics.figures(endpoint.ids());
            for (index, (name, records, rows)) in lines(endpoint, &mut seen).into_iter().enumerate()
            {
                let requests = |text: String| if index == 0 { text } else { "\"".to_owned() };
                table.row([
                    endpoint.source.to_owned(),
                    name,
                    endpoint.status(|outcome| self.status(outcome)),
                    units::number(records),
                    units::number(rows),
                    requests(units::number(figures.requests)),
                    requests(units::number(figures.retries)),
                    requests(units::number(figures.throttled)),
                    requests(latencies(&figures)),
                    resume(endpoint),
                    requests(waited(figures.waited)),
                ]);
            }
        }
        table.render()
    }

    /// The word for an outcome, and its rank: the worst is the lowest.
    fn status(&self, outcome: &Outcome) -> (u8, &'static str) {
        match outcome {
            Outcome::Failed { .. } => (0, "failed"),
            Outcome::Done | Outcome::Incomplete | Outcome::Interrupted if self.dry_run => {
                (3, "planned")
            }
            Outcome::Interrupted => (1, "interrupted"),
            Outcome::Unavailable { .. } => (2, "unavailable"),
            Outcome::Incomplete => (2, "incomplete"),
            Outcome::Done => (3, "done"),
        }
    }

    /// How much of each limit was used: near 100 %, the limit decided how long it took; otherwise
    /// the machine, the network or the vendor did. The waiting is that of all requests together.
    fn limits(&self, text: &mut String) {
        use Align::{Left, Right};
        let known = self
            .summary
            .limits
            .iter()
            .filter_map(|limit| Some((limit.usage.used()?, limit)));
        let mut known: Vec<_> = known
            .filter(|(used, limit)| *used >= LIMIT_USED || limit.usage.refused > 0)
            .collect();
        known.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        if known.is_empty() {
            return;
        }
        let mut table = TextTable::new([
            ("SOURCE", Left),
            ("LIMIT", Left),
            ("USED", Right),
            ("429 OF 1,000", Right),
            ("WAITED", Right),
        ]);
        for (used, LimitSummary { source, usage }) in known.into_iter().take(LIMITS_SHOWN) {
            table.row([
                source.clone(),
                format!("{}: {}", usage.bucket, usage.limit),
                format!("{:.0} %", 100.0 * used),
                if usage.refused == 0 {
                    "0".to_owned()
                } else {
                    format!("{:.1}", usage.refused_of_1000())
                },
                waited(usage.waited),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }

    fn drift(&self, text: &mut String) {
        let kept = "\nKept in `_extra` (no matching column or type):\n";
        self.departures(text, kept, |drift| !drift.is_dropped());
        let dropped = "\nNot written, because of `contract`:\n";
        self.departures(text, dropped, DriftSummary::is_dropped);
    }

    /// The fields of each stream whose values were not as declared, of one kind.
    fn departures(&self, text: &mut String, title: &str, is_shown: fn(&DriftSummary) -> bool) {
        let mut title = title;
        for endpoint in merged(self.summary) {
            for stream in &endpoint.streams {
                let drift: Vec<&DriftSummary> = stream
                    .drift
                    .iter()
                    .filter(|drift| is_shown(drift))
                    .collect();
                if drift.is_empty() {
                    continue;
                }
                text.push_str(std::mem::take(&mut title));
                let shown = drift.iter().take(DRIFT_SHOWN);
                let mut fields: Vec<String> = shown
                    .map(|drift| {
                        format!(
                            "{} ({}, {})",
                            drift.field,
                            drift.reason,
                            units::number(drift.records)
                        )
                    })
                    .collect();
                if let Some(more) = drift
                    .len()
                    .checked_sub(DRIFT_SHOWN)
                    .filter(|more| *more > 0)
                {
                    fields.push(format!("{more} more"));
                }
                let _ = writeln!(
                    text,
                    "  {}/{}: {}",
                    endpoint.source,
                    stream.name,
                    fields.join(", ")
                );
            }
        }
    }

    fn rejected(&self, text: &mut String) {
        for endpoint in merged(self.summary) {
            for stream in endpoint.streams.iter().filter(|stream| stream.rejected > 0) {
                let (source, name, count) = (
                    endpoint.source,
                    &stream.name,
                    units::count(stream.rejected, "record"),
                );
                let _ = writeln!(
                    text,
                    "\n{source}/{name}: {count} rejected; see the reasons in {source}'s table \
                     `_rejected`"
                );
            }
        }
    }

    fn quality(&self, text: &mut String) {
        for endpoint in merged(self.summary) {
            let source = endpoint.source;
            for stream in &endpoint.streams {
                for broken in &stream.quality {
                    let what = match broken.on_failure {
                        OnFailure::Warn => "written all the same".to_owned(),
                        OnFailure::Quarantine => {
                            format!("kept in {source}'s table `_rejected` instead")
                        }
                        // The failure below says it.
                        OnFailure::Stop => continue,
                    };
                    let first = broken
                        .first
                        .as_ref()
                        .map_or_else(String::new, |first| format!("; the first is {first}"));
                    let _ = writeln!(
                        text,
                        "\n{source}/{}: {} in {}, {what}{first}",
                        stream.name,
                        broken.reason,
                        units::count(broken.records, "row"),
                    );
                }
            }
        }
    }

    fn skipped(&self, text: &mut String) {
        for endpoint in merged(self.summary)
            .iter()
            .filter(|endpoint| endpoint.skipped > 0)
        {
            let (source, name, count) = (
                endpoint.source,
                endpoint.name,
                units::count(endpoint.skipped, "parent record"),
            );
            let _ = writeln!(
                text,
                "\n{source}/{name}: {count} skipped: access to their children was refused (see \
                 --log-requests)"
            );
        }
    }

    fn notices(&self, text: &mut String) {
        let mut notices: Vec<(String, Vec<EndpointId>)> = Vec::new();
        for (id, message) in self.metrics.notices() {
            let is_same = |(known, ids): &(String, Vec<EndpointId>)| {
                *known == message
                    && id.account().is_some()
                    && ids[0].source == id.source
                    && ids[0].name() == id.name()
            };
            match notices.iter_mut().find(|known| is_same(known)) {
                Some((_, ids)) => ids.push(id),
                None => notices.push((message, vec![id])),
            }
        }
        let mut title = "\nNotices:\n";
        for (message, ids) in notices {
            text.push_str(std::mem::take(&mut title));
            let of = match &*ids {
                [id] if id.endpoint.is_empty() => id.source.clone(),
                ids => names(&ids.iter().collect::<Vec<_>>()),
            };
            let _ = writeln!(text, "  {of}: {message}");
        }
    }

    /// Units that are missing, endpoint by endpoint.
    fn gaps(&self, text: &mut String) {
        for endpoint in &self.summary.endpoints {
            gaps::write(
                &endpoint.id,
                &endpoint.gaps.iter().map(Missing::from).collect::<Vec<_>>(),
                text,
            );
        }
    }

    /// What could not be read, each reason once: a broken network fails every endpoint in the same
    /// way.
    fn failures(&self, text: &mut String) {
        for reason in reasons(self.summary) {
            let _ = writeln!(text, "\n{}\n{}", names(&reason.endpoints), reason.text);
        }
    }

    /// True when everything is read but for units that are missing.
    fn is_but_for_gaps(&self) -> bool {
        let is_read = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Done | Outcome::Incomplete | Outcome::Unavailable { .. }
            )
        };
        self.summary
            .endpoints
            .iter()
            .all(|endpoint| is_read(&endpoint.outcome))
    }

    /// True when a failure is the same as that of the run before.
    fn is_repeated(&self) -> bool {
        self.summary.endpoints.iter().any(
            |endpoint| matches!(&endpoint.outcome, Outcome::Failed { error } if error.repeated),
        )
    }

    /// One sentence on how it ended and what to do next.
    fn closing(&self) -> String {
        let rows: u64 = self
            .summary
            .endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.streams)
            .map(|stream| stream.rows)
            .sum();
        let (rows, commits, elapsed) = (
            units::number(rows),
            self.summary.commits,
            units::short(self.summary.elapsed),
        );
        let committed = format!("{rows} rows committed in {commits} commits, {elapsed}");
        match self.exit {
            Exit::Done if self.dry_run => {
                "Dry run: nothing was read or written. Run without --dry-run to do it.".to_owned()
            }
            Exit::Done => {
                format!(
                    "Done: {committed}. Run it again to read new records; `pipeline status` shows \
                     what the destination contains."
                )
            }
            Exit::Incomplete if self.summary.lasts() && self.is_repeated() => {
                format!(
                    "Incomplete: {committed}. The previous run failed in the same way at the same \
                     place, so another run is unlikely to help: act on the reasons above, or \
                     deselect those streams."
                )
            }
            Exit::Incomplete if self.summary.lasts() => {
                format!(
                    "Incomplete: {committed}. Another run does not change what is refused: act on \
                     the reasons above, or deselect those streams."
                )
            }
            Exit::Incomplete if self.is_but_for_gaps() => {
                format!(
                    "Incomplete: {committed}. Everything else is read. Run it again to request \
                     what is missing and to read new records."
                )
            }
            Exit::Incomplete => format!(
                "Incomplete: {committed}. Run the same command again: it resumes where this run \
                 stopped."
            ),
            Exit::Authentication if self.summary.failure() == Some(ErrorKind::PermissionDenied) => {
                format!(
                    "Incomplete: {committed}. Grant the permissions named above (`pipeline check` \
                     tests them) or deselect those streams, then run again."
                )
            }
            Exit::Authentication => {
                format!(
                    "Incomplete: {committed}. Fix the credentials (`pipeline check` tests them), \
                     then run again to resume."
                )
            }
            Exit::Destination => {
                format!(
                    "The destination failed: {committed}. Repair it, then run again to resume: \
                     committed data is safe."
                )
            }
            Exit::Conflict => {
                format!(
                    "Stopped: {committed}. Another process updated the same checkpoints. Wait \
                     until it ends, then run again."
                )
            }
            Exit::Closed => {
                format!("Stopped: {committed}. The next run reads again what was not written.")
            }
            Exit::Usage => {
                format!("Incomplete: {committed}. Fix the configuration, then run again to resume.")
            }
            Exit::Bug => {
                format!(
                    "Failed: {committed}. This is a defect of the program; committed data is safe, \
                     and the next run resumes from it."
                )
            }
        }
    }
}

/// The lines of an endpoint: one a stream, with its records and rows. One that feeds only streams
/// of endpoints before it, such as a feed of changes, has one line with its own name.
fn lines(endpoint: &Merged<'_>, seen: &mut BTreeSet<(String, String)>) -> Vec<(String, u64, u64)> {
    let streams = || endpoint.streams.iter();
    let new = streams()
        .filter(|stream| seen.insert((endpoint.source.to_owned(), stream.name.clone())))
        .count();
    if new == 0 && endpoint.streams.len() > 1 {
        let sum = |part: fn(&StreamSummary) -> u64| streams().map(part).sum();
        return vec![(
            format!("({})", endpoint.name),
            sum(|stream| stream.records),
            sum(|stream| stream.rows),
        )];
    }
    streams()
        .map(|stream| (stream.name.clone(), stream.records, stream.rows))
        .collect()
}

fn latencies(figures: &Figures) -> String {
    if figures.requests == 0 {
        "-".to_owned()
    } else {
        format!("{}/{}", figures.p50.as_millis(), figures.p95.as_millis())
    }
}

fn waited(time: Duration) -> String {
    if time.as_millis() == 0 {
        "-".to_owned()
    } else {
        units::short(time)
    }
}

fn resume(endpoint: &Merged<'_>) -> String {
    let cursor = endpoint
        .cursor()
        .map_or_else(|| "-".to_owned(), units::instant);
    match endpoint.unfinished {
        0 => cursor,
        1 => format!("{cursor}, 1 slice left"),
        left => format!("{cursor}, {left} slices left"),
    }
}
