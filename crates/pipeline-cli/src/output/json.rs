//! A finished run as JSON: the last line of `--output json`.

use pipeline_core::state::EndpointId;
use pipeline_core::{Clock, SystemClock};
use pipeline_engine::{
    Delivery, EndpointSummary, Figures, LimitSummary, Metrics, Outcome, StreamSummary, Summary,
};
use serde_json::{Value, json};

use super::events::millis;
use super::gaps;
use super::gaps::Missing;
use crate::console::Console;
use crate::exit::Exit;
use crate::units;

/// A finished run and what was measured during it.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// What the engine says.
    pub(crate) summary: &'a Summary,
    /// Requests per endpoint.
    pub(crate) metrics: &'a Metrics,
    /// What the destination promises.
    pub(crate) delivery: Delivery,
    /// How the process will end.
    pub(crate) exit: Exit,
    /// Whether anything was to be read at all.
    pub(crate) dry_run: bool,
}

impl Report<'_> {
    /// The event `sync_finished`: totals, and one entry per source and stream. Streams of one
    /// endpoint share its requests, so request figures are added up by endpoint, not by stream.
    pub(crate) fn json(&self, console: &Console) -> Value {
        let streams = self.summary.endpoints.iter().flat_map(|endpoint| {
            let figures = self.metrics.figures([&endpoint.id]);
            endpoint
                .streams
                .iter()
                .map(move |stream| self.stream(endpoint, stream, &figures, console))
        });
        let streams: Vec<Value> = streams.collect();
        json!({
            "event": "sync_finished",
            "time": SystemClock.now(),
            "run": self.summary.run,
            "status": if self.dry_run { "planned" } else if self.exit == Exit::Done { "done" } else { "incomplete" },
            "exit_code": self.exit.code(),
            "elapsed_ms": millis(self.summary.elapsed),
            "commits": self.summary.commits,
            "delivery": self.delivery,
            "totals": self.totals(),
            "limits": self.limits_json(),
            "streams": streams,
            "notices": self.notices_json(console),
        })
    }

    /// What was used of each limit; `used` is the part of what it allowed, near 1 where it decided
    /// how long the run took.
    fn limits_json(&self) -> Vec<Value> {
        let limit = |limit: &LimitSummary| {
            let usage = &limit.usage;
            json!({
                "source": limit.source,
                "bucket": usage.bucket,
                "limit": usage.limit,
                "requests": usage.requests,
                "allowed": usage.allowed,
                "used": usage.used(),
                "refused": usage.refused,
                "refused_of_1000": usage.refused_of_1000(),
                "waited_ms": millis(usage.waited),
            })
        };
        self.summary.limits.iter().map(limit).collect()
    }

    fn notices_json(&self, console: &Console) -> Vec<Value> {
        let notice = |(id, message): (EndpointId, String)| json!({ "source": id.source, "endpoint": id.endpoint, "message": console.redact(&message) });
        self.metrics.notices().into_iter().map(notice).collect()
    }

    fn totals(&self) -> Value {
        let streams = || {
            self.summary
                .endpoints
                .iter()
                .flat_map(|endpoint| &endpoint.streams)
        };
        let figures: Vec<Figures> = self
            .summary
            .endpoints
            .iter()
            .map(|endpoint| self.metrics.figures([&endpoint.id]))
            .collect();
        let requests = |part: fn(&Figures) -> u64| figures.iter().map(part).sum::<u64>();
        json!({
            "records": streams().map(|stream| stream.records).sum::<u64>(),
            "bytes": streams().map(|stream| stream.bytes).sum::<u64>(),
            "rows": streams().map(|stream| stream.rows).sum::<u64>(),
            "requests": requests(|figures| figures.requests),
            "retries": requests(|figures| figures.retries),
            "throttled": requests(|figures| figures.throttled),
        })
    }

    fn stream(
        &self,
        endpoint: &EndpointSummary,
        stream: &StreamSummary,
        figures: &Figures,
        console: &Console,
    ) -> Value {
        let (status, error, help) = match &endpoint.outcome {
            Outcome::Done | Outcome::Incomplete | Outcome::Interrupted if self.dry_run => {
                ("planned", None, None)
            }
            Outcome::Done => ("done", None, None),
            Outcome::Incomplete => ("incomplete", None, None),
            Outcome::Interrupted => ("interrupted", None, None),
            Outcome::Unavailable { reason, help, .. } => {
                ("unavailable", Some(console.redact(reason)), help.clone())
            }
            Outcome::Failed { error } => (
                "failed",
                Some(console.redact(&error.message)),
                error.help.clone(),
            ),
        };
        json!({
            "source": endpoint.id.source,
            "stream": stream.name,
            "endpoint": endpoint.id.name(),
            "account": endpoint.id.account(),
            "status": status,
            "error": error,
            "help": help,
            "records": stream.records,
            "bytes": stream.bytes,
            "rows": stream.rows,
            "unchanged": stream.unchanged,
            "rejected": stream.rejected,
            "quality": stream.quality,
            "drift": stream.drift,
            "skipped": endpoint.skipped,
            "missing": gaps::listed(&endpoint.gaps.iter().map(Missing::from).collect::<Vec<_>>(), console),
            "requests": figures.requests,
            "retries": figures.retries,
            "throttled": figures.throttled,
            "error_rate": figures.error_rate(),
            "waited_ms": millis(figures.waited),
            "waited_for": figures.limit,
            "latency_ms": { "p50": millis(figures.p50), "p95": millis(figures.p95), "p99": millis(figures.p99) },
            "resume": { "cursor": endpoint.cursor.map(units::instant), "unfinished_slices": endpoint.unfinished },
        })
    }
}
