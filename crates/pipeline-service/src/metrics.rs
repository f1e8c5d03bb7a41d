//! Metrics for Prometheus, as listed in `docs/metrics.md`. A snapshot protects their names.
//!
//! Labels hold names of the configuration and of connectors' declarations, never a value of a
//! record. Their number is bounded: what an account defines itself is added up beyond a limit.

mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline_core::rate_limit::BucketUse;
use pipeline_core::state::EndpointId;
use pipeline_core::{Attempt, Event};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::webhook::HookResult;
use crate::alerts::Channel;
use crate::runner::{Ended, StoredStream, Verdict};
use crate::supervisor::{Phase, Reason, Seen};

/// Names of endpoints, streams and limits that are counted singly, for each source.
const NAMES: usize = 400;

/// The name under which further ones are counted.
const OTHER: &str = "_other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunResult {
    source: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Endpoint {
    source: String,
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requests {
    source: String,
    endpoint: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stream {
    source: String,
    stream: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bucket {
    source: String,
    limit: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    channel: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hook {
    source: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// Makes histograms with the same buckets.
#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// From a page of a small account to a first sync over a weekend.
const RUNS: Buckets = Buckets(&[
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
]);

const REQUESTS: Buckets = Buckets(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0]);

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    names: Mutex<BTreeMap<(String, Of), BTreeSet<String>>>,
    runs: Family<RunResult, Counter>,
    run_duration: Family<Source, Histogram, Buckets>,
    skipped: Family<Source, Counter>,
    running: Family<Source, Gauge>,
    paused: Family<Source, Gauge>,
    next_run: Family<Source, Gauge>,
    last_run: Family<Source, Gauge>,
    last_success: Family<Source, Gauge>,
    requests: Family<Requests, Counter>,
    request_duration: Family<Source, Histogram, Buckets>,
    received: Family<Source, Counter>,
    retries: Family<Source, Counter>,
    limit_wait: Family<Source, Counter<f64, std::sync::atomic::AtomicU64>>,
    limit_used: Family<Bucket, Gauge<f64, std::sync::atomic::AtomicU64>>,
    records: Family<Endpoint, Counter>,
    rows: Family<Source, Counter>,
    commits: Family<Source, Counter>,
    rejected: Family<Source, Counter>,
    drift: Family<Stream, Counter>,
    stored_rows: Family<Stream, Gauge>,
    lag: Family<Stream, Gauge>,
    missing: Family<Stream, Gauge>,
    alerts: Family<Sent, Counter>,
    reloads: Family<Outcome, Counter>,
    webhooks: Family<Hook, Counter>,
}

/// What a bounded name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Endpoint,
    Stream,
    Limit,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing is counted yet.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("pipeline"),
            names: Mutex::default(),
            runs: Family::default(),
            run_duration: Family::new_with_constructor(RUNS),
            skipped: Family::default(),
            running: Family::default(),
            paused: Family::default(),
            next_run: Family::default(),
            last_run: Family::default(),
            last_success: Family::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(REQUESTS),
            received: Family::default(),
            retries: Family::default(),
            limit_wait: Family::default(),
            limit_used: Family::default(),
            records: Family::default(),
            rows: Family::default(),
            commits: Family::default(),
            rejected: Family::default(),
            drift: Family::default(),
            stored_rows: Family::default(),
            lag: Family::default(),
            missing: Family::default(),
            alerts: Family::default(),
            reloads: Family::default(),
            webhooks: Family::default(),
        };
        metrics.register_runs();
        metrics.register_requests();
        metrics.register_data();
        metrics
    }

    fn register_runs(&mut self) {
        let registry = &mut self.registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the program", version);
        registry.register("runs", "Runs that have ended, by result", self.runs.clone());
        registry.register_with_unit(
            "run_duration",
            "Time from start to end of a run",
            Unit::Seconds,
            self.run_duration.clone(),
        );
        registry.register(
            "starts_skipped",
            "Starts that were left out because the source was running",
            self.skipped.clone(),
        );
        registry.register(
            "source_running",
            "1 while a run is under way",
            self.running.clone(),
        );
        registry.register(
            "source_paused",
            "1 while a person has paused the source",
            self.paused.clone(),
        );
        let mut time = |name: &str, help: &str, family: &Family<Source, Gauge>| {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        time(
            "source_next_start_timestamp",
            "When the source is due, in seconds since 1970",
            &self.next_run,
        );
        time(
            "source_last_end_timestamp",
            "When the last run ended, in seconds since 1970",
            &self.last_run,
        );
        time(
            "source_last_success_timestamp",
            "When the last complete run ended, in seconds since 1970",
            &self.last_success,
        );
        registry.register(
            "alerts_sent",
            "Alerts that were sent or given up, by channel",
            self.alerts.clone(),
        );
        registry.register(
            "config_reloads",
            "Times that the configuration was read again",
            self.reloads.clone(),
        );
        registry.register(
            "webhooks",
            "Webhooks of vendors, by what became of them",
            self.webhooks.clone(),
        );
    }

    fn register_requests(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Attempts of requests, by the class of the vendor's answer",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from sending a request to the end of the answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register_with_unit(
            "received",
            "Bytes of answers after decompression",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register(
            "request_retries",
            "Attempts after the first of their request",
            self.retries.clone(),
        );
        registry.register_with_unit(
            "limit_wait",
            "Time that requests waited for rate limits, added up over all of them",
            Unit::Seconds,
            self.limit_wait.clone(),
        );
        registry.register_with_unit(
            "limit_used",
            "Part of what a rate limit allowed that the last run used; near 1 it decides the speed",
            Unit::Other("ratio".to_owned()),
            self.limit_used.clone(),
        );
    }

    fn register_data(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "records_read",
            "Records that the vendor sent",
            self.records.clone(),
        );
        registry.register("rows_committed", "Rows committed", self.rows.clone());
        registry.register("commits", "Commits", self.commits.clone());
        registry.register(
            "records_rejected",
            "Records that could not be a row and are in the table _rejected",
            self.rejected.clone(),
        );
        registry.register(
            "records_drifted",
            "Records with a member that has no column or does not fit its column",
            self.drift.clone(),
        );
        registry.register(
            "stream_rows",
            "Rows in the destination",
            self.stored_rows.clone(),
        );
        registry.register_with_unit(
            "stream_lag",
            "Time since the stream was last complete",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register(
            "stream_missing_units",
            "Units that the vendor withholds and that are asked for again",
            self.missing.clone(),
        );
    }

    /// The figures in the format of OpenMetrics 1.0.
    pub fn openmetrics(&self) -> String {
        let mut body = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut body, &self.registry);
        body
    }

    /// The figures in the text format of Prometheus, for what does not ask for OpenMetrics.
    pub fn prometheus(&self) -> String {
        let mut body = String::new();
        let _ = prometheus_text::encode(&mut body, &self.registry);
        body
    }

    /// The name, or the one under which those beyond the limit are counted.
    fn bounded(&self, source: &str, of: Of, name: &str) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.entry((source.to_owned(), of)).or_default();
        if known.contains(name) || known.len() < NAMES && known.insert(name.to_owned()) {
            name.to_owned()
        } else {
            OTHER.to_owned()
        }
    }

    /// Counts an event of a run of a source.
    pub(crate) fn observe(&self, source: &str, event: &Event<'_>) {
        match event {
            Event::Attempt(attempt) => self.attempt(source, attempt),
            Event::PageRead {
                endpoint, records, ..
            } => {
                let endpoint = self.bounded(source, Of::Endpoint, endpoint.name());
                let labels = Endpoint {
                    source: source.to_owned(),
                    endpoint,
                };
                self.records.get_or_create(&labels).inc_by(*records);
            }
            Event::Committed { rows, .. } => {
                self.rows.get_or_create(&of(source)).inc_by(*rows);
                self.commits.get_or_create(&of(source)).inc();
            }
            Event::Drift {
                stream, records, ..
            } => {
                let labels = self.stream(source, stream);
                self.drift.get_or_create(&labels).inc_by(*records);
            }
            _ => {}
        }
    }

    fn attempt(&self, source: &str, attempt: &Attempt<'_>) {
        // Sub-accounts are not told apart: there may be thousands.
        let id = EndpointId::new(source, attempt.endpoint);
        let labels = Requests {
            source: source.to_owned(),
            endpoint: self.bounded(source, Of::Endpoint, id.name()),
            status: class(attempt),
        };
        self.requests.get_or_create(&labels).inc();
        let source = of(source);
        self.request_duration
            .get_or_create(&source)
            .observe(attempt.latency.as_secs_f64());
        self.received.get_or_create(&source).inc_by(attempt.bytes);
        self.retries
            .get_or_create(&source)
            .inc_by(u64::from(attempt.attempt > 1));
        self.limit_wait
            .get_or_create(&source)
            .inc_by(attempt.limit_wait.as_secs_f64());
    }

    fn stream(&self, source: &str, stream: &str) -> Stream {
        Stream {
            source: source.to_owned(),
            stream: self.bounded(source, Of::Stream, stream),
        }
    }

    /// Counts a run that has ended.
    pub(crate) fn ended(
        &self,
        source: &str,
        reason: Reason,
        ended: &Ended,
        took: Duration,
        now: DateTime<Utc>,
    ) {
        // Every result is there from the first run on, so that its rate is known when it occurs.
        for verdict in Verdict::ALL {
            let labels = RunResult {
                source: source.to_owned(),
                result: verdict.name(),
            };
            self.runs
                .get_or_create(&labels)
                .inc_by(u64::from(verdict == ended.verdict));
        }
        if ended.verdict == Verdict::Busy {
            return;
        }
        let labels = of(source);
        self.run_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        self.last_run.get_or_create(&labels).set(now.timestamp());
        if ended.verdict == Verdict::Done && reason != Reason::Webhook {
            self.last_success
                .get_or_create(&labels)
                .set(now.timestamp());
        }
        self.rejected.get_or_create(&labels).inc_by(ended.rejected);
        for usage in &ended.limits {
            self.limit(source, usage);
        }
    }

    fn limit(&self, source: &str, usage: &BucketUse) {
        if let Some(used) = usage.used().filter(|used| used.is_finite()) {
            let labels = Bucket {
                source: source.to_owned(),
                limit: self.bounded(source, Of::Limit, &usage.bucket),
            };
            self.limit_used.get_or_create(&labels).set(used);
        }
    }

    /// Counts a start that was left out.
    pub(crate) fn skipped(&self, source: &str) {
        self.skipped.get_or_create(&of(source)).inc();
    }

    /// Counts a webhook.
    pub(crate) fn webhook(&self, source: &str, result: HookResult) {
        // Every result is there from the first webhook on, so that its rate is known when it occurs.
        for known in HookResult::ALL {
            let labels = Hook {
                source: source.to_owned(),
                result: known.name(),
            };
            self.webhooks
                .get_or_create(&labels)
                .inc_by(u64::from(known == result));
        }
    }

    /// Shows what sources do.
    pub(crate) fn sources(&self, seen: &BTreeMap<String, Seen>) {
        self.running.clear();
        self.paused.clear();
        self.next_run.clear();
        for (source, seen) in seen {
            let labels = of(source);
            let is_running = matches!(seen.phase, Phase::Running | Phase::Stopping);
            self.running
                .get_or_create(&labels)
                .set(i64::from(is_running));
            self.paused
                .get_or_create(&labels)
                .set(i64::from(seen.paused));
            if let Some(next) = seen.next {
                self.next_run.get_or_create(&labels).set(next.timestamp());
            }
        }
    }

    /// Shows what is stored.
    pub(crate) fn stored(&self, streams: &[StoredStream], now: DateTime<Utc>) {
        self.stored_rows.clear();
        self.lag.clear();
        self.missing.clear();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for stream in streams {
            let labels = self.stream(&stream.source, &stream.stream);
            self.stored_rows
                .get_or_create(&labels)
                .inc_by(number(stream.rows));
            self.missing
                .get_or_create(&labels)
                .inc_by(number(stream.missing.len() as u64));
            if let Some(succeeded) = stream.succeeded.filter(|_| stream.available) {
                let lag = (now - succeeded).num_seconds().max(0);
                let gauge = self.lag.get_or_create(&labels);
                gauge.set(lag.max(gauge.get()));
            }
        }
    }

    /// Counts an alert.
    pub(crate) fn alert(&self, channel: Channel, is_sent: bool) {
        let labels = Sent {
            channel: channel.name(),
            result: if is_sent { "sent" } else { "given_up" },
        };
        self.alerts.get_or_create(&labels).inc();
    }

    /// Counts that the configuration was read again.
    pub(crate) fn reloaded(&self, is_ok: bool) {
        let labels = Outcome {
            result: if is_ok { "ok" } else { "failed" },
        };
        self.reloads.get_or_create(&labels).inc();
    }

    /// The names of all figures, one a line with their type and help: what a snapshot compares.
    pub fn listed(&self) -> String {
        let mut listed = String::new();
        let body = self.prometheus();
        let mut help = "";
        for line in body.lines() {
            if let Some(text) = line.strip_prefix("# HELP ") {
                help = text.split_once(' ').map_or("", |(_, help)| help);
            } else if let Some(text) = line.strip_prefix("# TYPE ") {
                let _ = writeln!(listed, "{text}: {help}");
            }
        }
        listed
    }
}

fn of(source: &str) -> Source {
    Source {
        source: source.to_owned(),
    }
}

/// What became of an attempt, in few words.
fn class(attempt: &Attempt<'_>) -> &'static str {
    if attempt.throttled {
        return "throttled";
    }
    match attempt.status.map(|status| status.as_u16()) {
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(_) => "5xx",
        None => "no_answer",
    }
}

#[cfg(test)]
mod tests;
