//! What is remembered of a run beside the data, whatever becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_core::state::EndpointId;
use pipeline_core::{EndpointRecord, ErrorKind, Event, RUN_CAPACITY, Result, RunRecord};
use tokio::time::Instant;

use super::Job;
use super::patience::patiently;
use super::summary::{EndpointSummary, Failure, Outcome, Summary};

/// The runs in which endpoints are looked for first: a run of the same sources is usually the one
/// before.
const FIRST_LOOK: usize = 10;

/// The record of a run. It is stored when the run begins, so that one which is killed is remembered
/// too, and again when it ends. A destination that cannot store it is a notice: what was read is
/// more important.
pub(super) struct Remembered {
    job: Arc<Job>,
    record: RunRecord,
    started: Instant,
}

impl Remembered {
    pub(super) async fn begin(job: &Arc<Job>) -> Self {
        let sources = job
            .sources
            .iter()
            .map(|source| source.name.clone())
            .collect();
        let record = RunRecord::started(job.run.clone(), job.clock.now(), sources);
        let begun = Self {
            job: Arc::clone(job),
            record,
            started: Instant::now(),
        };
        begun.store().await;
        begun
    }

    /// Marks the failures that ended the run before in the same way at the same place: what the
    /// vendor has sent twice is what it sends, and it is of no use to ask once more.
    pub(super) async fn compare(&self, summary: &mut Summary) {
        let is_stuck = |endpoint: &EndpointSummary| {
            let rows: u64 = endpoint.streams.iter().map(|stream| stream.rows).sum();
            matches!(&endpoint.outcome, Outcome::Failed { error } if error.kind == ErrorKind::Decode)
                && rows == 0
        };
        if !summary.endpoints.iter().any(is_stuck) {
            return;
        }
        let runs = self
            .job
            .destination
            .runs(FIRST_LOOK)
            .await
            .unwrap_or_default();
        for endpoint in summary
            .endpoints
            .iter_mut()
            .filter(|endpoint| is_stuck(endpoint))
        {
            let mut records = runs
                .iter()
                .filter(|run| run.run != self.record.run)
                .flat_map(|run| &run.endpoints);
            let before = records
                .find(|record| record.id == endpoint.id)
                .and_then(|record| record.error.as_deref());
            if let (Outcome::Failed { error }, Some(before)) = (&mut endpoint.outcome, before) {
                error.repeated = without_request(before) == without_request(&error.message);
            }
        }
    }

    pub(super) async fn end(&mut self, ended: &Result<Summary>) {
        self.record.took = Some(self.started.elapsed());
        match ended {
            Ok(summary) => {
                self.record.commits = summary.commits;
                self.record.endpoints = self.endpoints(summary).await;
                self.record.rows = self
                    .record
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint.rows)
                    .sum();
                self.record.failure = summary.failure().map(|kind| kind.to_string());
            }
            Err(error) => {
                self.record.failure = Some(error.kind().to_string());
                self.record.error = Some(Failure::from(error).message);
            }
        }
        self.store().await;
    }

    async fn store(&self) {
        if let Err(error) = patiently(&self.job, |destination| {
            destination.record_run(&self.record)
        })
        .await
        {
            let source = self.record.sources.first().map_or("", String::as_str);
            let message = &format!("the run could not be recorded: {error}");
            self.job.observer.observe(&Event::Notice {
                source,
                endpoint: "",
                message,
            });
        }
    }

    /// What became of the endpoints, each with its last success, in whichever run that was.
    async fn endpoints(&self, summary: &Summary) -> Vec<EndpointRecord> {
        let mut open: BTreeSet<&EndpointId> = summary
            .endpoints
            .iter()
            .filter(|endpoint| !matches!(endpoint.outcome, Outcome::Done))
            .map(|endpoint| &endpoint.id)
            .collect();
        let mut known = BTreeMap::new();
        for limit in [FIRST_LOOK, RUN_CAPACITY] {
            if open.is_empty() {
                break;
            }
            // Without the earlier ones the record is still worth having.
            let runs = self.job.destination.runs(limit).await.unwrap_or_default();
            known.extend(successes(&runs, &open));
            if runs.len() < limit {
                break;
            }
            open.retain(|id| !known.contains_key(*id));
        }
        let now = self.job.clock.now();
        summary
            .endpoints
            .iter()
            .map(|endpoint| record(endpoint, now, known.get(&endpoint.id).copied().flatten()))
            .collect()
    }
}

/// Of the endpoints that are looked for, what the newest run that had each of them says of its last
/// success.
fn successes(
    runs: &[RunRecord],
    wanted: &BTreeSet<&EndpointId>,
) -> BTreeMap<EndpointId, Option<DateTime<Utc>>> {
    let mut known = BTreeMap::new();
    for endpoint in runs
        .iter()
        .flat_map(|run| &run.endpoints)
        .filter(|endpoint| wanted.contains(&endpoint.id))
    {
        known
            .entry(endpoint.id.clone())
            .or_insert(endpoint.succeeded);
    }
    known
}

/// A message without the vendor's number of the request, which is another one each time.
fn without_request(message: &str) -> String {
    let Some((before, rest)) = message.split_once("request_id: ") else {
        return message.to_owned();
    };
    let end = rest.find([',', ')']).unwrap_or(rest.len());
    format!("{before}{}", &rest[end..])
}

fn record(
    endpoint: &EndpointSummary,
    now: DateTime<Utc>,
    before: Option<DateTime<Utc>>,
) -> EndpointRecord {
    let (status, error) = match &endpoint.outcome {
        Outcome::Done => ("done", None),
        Outcome::Incomplete => ("incomplete", None),
        Outcome::Interrupted => ("interrupted", None),
        Outcome::Unavailable { reason, .. } => ("unavailable", Some(reason.clone())),
        Outcome::Failed { error } => ("failed", Some(error.message.clone())),
    };
    EndpointRecord {
        id: endpoint.id.clone(),
        streams: endpoint
            .streams
            .iter()
            .map(|stream| stream.name.clone())
            .collect(),
        status: status.to_owned(),
        error,
        rows: endpoint.streams.iter().map(|stream| stream.rows).sum(),
        succeeded: if matches!(endpoint.outcome, Outcome::Done) {
            Some(now)
        } else {
            before
        },
    }
}
