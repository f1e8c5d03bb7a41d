//! A run from start to end: resolve what is wanted, plan it, keep slices running, finish what is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::commit::Committer;
use super::decode::Decoder;
use super::endpoint_run::EndpointRun;
use super::plan::{Plan, Request, Wanted, plan};
use super::slice_task::{Shared, SliceEnd, read_slice};
use super::summary::{DriftSummary, EndpointSummary, Failure, LimitSummary, Outcome, StreamSummary, Summary};
use super::write::{Figures, TableFigures};
use super::{Job, Selection, Source};
use crate::connector::Preparation;
use crate::destination::{Generation, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::state::{Change, EndpointId, SliceId};

/// How often the run looks whether a commit is due although no page comes.
const TICK: Duration = Duration::from_millis(500);

/// See [`super::sync`].
pub(super) async fn run(job: Job) -> Result<Summary> {
    let started = Instant::now();
    let job = Arc::new(job);
    let wanted = resolve(&job.sources)?;
    job.observer.observe(&Event::SyncStarted { run: &job.run });
    let committer = Committer::new(Arc::clone(&job));
    let runs = prepare(&job, wanted, &committer).await?;
    if !job.options.dry_run {
        committer.commit().await?;
    }
    let open = (0..runs.len()).collect();
    let shared = Arc::new(Shared::new(Arc::clone(&job), committer));
    let mut scheduler = Scheduler { shared, runs, open, tasks: JoinSet::new(), turn: 0 };
    if !job.options.dry_run {
        scheduler.run().await;
    }
    let summary = scheduler.summary(started.elapsed()).await;
    job.observer.observe(&Event::SyncFinished { run: &job.run });
    Ok(summary)
}

/// An endpoint to read, by its index in the connector, and the streams wanted of it.
type Selected = (usize, BTreeSet<String>);

/// The endpoints to read of each source.
fn resolve(sources: &[Source]) -> Result<Vec<(&Source, Vec<Selected>)>> {
    let mut wanted = Vec::new();
    for source in sources {
        let endpoints = source.connector.endpoints();
        if let Selection::Named(names) = &source.streams {
            let known: BTreeSet<&str> = endpoints.iter().flat_map(|endpoint| endpoint.streams().map(crate::StreamDef::name)).collect();
            if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
                return Err(Error::new(ErrorKind::ConfigInvalid, format!("there is no stream `{unknown}`"))
                    .with_context("source", source.name.clone())
                    .with_context("field", "streams")
                    .with_help(format!("known streams: {}", known.into_iter().collect::<Vec<_>>().join(", "))));
            }
        }
        let mut selected = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let is_wanted = |name: &str| match &source.streams {
                Selection::All => !endpoint.is_by_name(),
                Selection::Named(names) => names.iter().any(|wanted| wanted == name),
            };
            let streams: BTreeSet<String> =
                endpoint.streams().map(|stream| stream.name().to_owned()).filter(|name| is_wanted(name)).collect();
            if !streams.is_empty() {
                selected.push((index, streams));
            }
        }
        wanted.push((source, selected));
    }
    Ok(wanted)
}

/// Loads the state of each endpoint, plans it, and creates its tables. The plans are committed by the caller.
async fn prepare(job: &Job, wanted: Vec<(&Source, Vec<Selected>)>, committer: &Committer) -> Result<Vec<Arc<EndpointRun>>> {
    let refused = prepare_connectors(job, &wanted).await;
    let mut runs = Vec::new();
    let mut tables = BTreeMap::new();
    for (source, selected) in wanted {
        let requests = requests(job, source, selected, &refused).await?;
        let plans = plan(&requests, source.connector.client().now());
        let busy = Arc::default();
        for (request, plan) in requests.iter().zip(plans) {
            let stream_tables = stream_tables(source, request, &plan);
            for table in stream_tables.iter().flatten() {
                if plan.discard {
                    committer.discard(table.id());
                }
                tables.entry(table.id()).or_insert_with(|| Arc::clone(table));
            }
            let run = EndpointRun::new(source, runs.len(), request.endpoint, stream_tables, &plan, &busy);
            if let Some(error) = request.refused {
                run.fail(Failure::from(error));
                job.observer.observe(&Event::EndpointFinished { endpoint: &run.id, error: Some(error) });
            }
            if plan.gap {
                let message = "changes since the last sync can no longer be read: all lists that they concern are read again";
                job.observer.observe(&Event::Notice { source: &source.name, endpoint: &run.id.endpoint, message });
            }
            if plan.from != plan.to {
                committer.change(|| Change::Replace { endpoint: run.id.clone(), from: plan.from, to: plan.to });
            }
            runs.push(Arc::new(run));
        }
    }
    if !job.options.dry_run {
        job.destination.check().await?;
        job.destination.prepare(&tables.into_values().collect::<Vec<_>>()).await?;
    }
    Ok(runs)
}

/// Why endpoints are not to be read.
type Refused = BTreeMap<EndpointId, Arc<Error>>;

/// Lets every connector learn what it must know of its account.
async fn prepare_connectors(job: &Job, wanted: &[(&Source, Vec<Selected>)]) -> Refused {
    let mut refused = BTreeMap::new();
    for (source, selected) in wanted.iter().filter(|(_, selected)| !selected.is_empty()) {
        let endpoints = source.connector.endpoints();
        let names: Vec<&str> = selected.iter().map(|(index, _)| endpoints[*index].name()).collect();
        let prepared = tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the run was cancelled before it began")),
            prepared = source.connector.prepare(&names) => prepared,
        };
        match prepared {
            Ok(Preparation { notes, unavailable }) => {
                for message in &notes {
                    job.observer.observe(&Event::Notice { source: &source.name, endpoint: "", message });
                }
                refused.extend(unavailable.into_iter().map(|(name, error)| (EndpointId::new(&source.name, name), Arc::new(error))));
            }
            Err(error) => {
                let error = Arc::new(error);
                refused.extend(names.into_iter().map(|name| (EndpointId::new(&source.name, name), Arc::clone(&error))));
            }
        }
    }
    refused
}

/// What is to be planned of a source.
async fn requests<'a>(job: &Job, source: &'a Source, selected: Vec<Selected>, refused: &'a Refused) -> Result<Vec<Request<'a>>> {
    let mut requests = Vec::with_capacity(selected.len());
    for (index, streams) in selected {
        let endpoint = &source.connector.endpoints()[index];
        let id = EndpointId::new(&source.name, endpoint.name());
        let refused = refused.get(&id).map(|error| &**error);
        // Who wants everything wants what the configuration lets be read.
        if source.streams == Selection::All && refused.is_some_and(|error| error.kind() == ErrorKind::Unsupported) {
            continue;
        }
        let stored = job.destination.load(&id).await.map_err(|error| error.with_context("endpoint", id.to_string()))?;
        let wanted = Wanted { streams, range: source.connector.range(), full_refresh: job.options.full_refresh };
        requests.push(Request { endpoint, stored, wanted, refused });
    }
    Ok(requests)
}

fn stream_tables(source: &Source, request: &Request<'_>, plan: &Plan) -> Vec<Option<Arc<Table>>> {
    let table = |(stream, generation): (&crate::StreamDef, &Generation)| {
        request.wanted.streams.contains(stream.name()).then(|| {
            Arc::new(Table {
                source: source.name.clone(),
                stream: stream.name().to_owned(),
                primary_key: stream.key().iter().map(ToString::to_string).collect(),
                schema: Decoder::arrow_schema(stream.schema()),
                generation: *generation,
            })
        })
    };
    request.endpoint.streams().zip(&plan.generations).map(table).collect()
}

struct Scheduler {
    shared: Arc<Shared>,
    runs: Vec<Arc<EndpointRun>>,
    /// Indexes of the endpoints that are not over.
    open: Vec<usize>,
    tasks: JoinSet<(usize, SliceId, Result<SliceEnd>)>,
    /// Endpoint whose turn it is, so that none starves another.
    turn: usize,
}

impl Scheduler {
    async fn run(&mut self) {
        for index in 0..self.runs.len() {
            self.announce(index).await;
        }
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.start_slices();
            if self.tasks.is_empty() {
                break;
            }
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                () = self.shared.wake.notified() => {}
                _ = tick.tick() => self.commit_if_due().await,
            }
        }
        if let Err(error) = self.shared.committer.commit().await {
            self.stop(&error);
        }
        for run in &self.runs {
            for message in &run.connector.remarks(run.endpoint().name()) {
                let (source, endpoint) = (run.id.source.as_str(), run.id.endpoint.as_str());
                self.shared.job.observer.observe(&Event::Notice { source, endpoint, message });
            }
        }
    }

    /// Tells that an endpoint begins; one without anything to read is done at once.
    async fn announce(&self, index: usize) {
        let run = &self.runs[index];
        let streams: Vec<String> = run.tables.iter().flatten().map(|table| table.stream.clone()).collect();
        let slices = run.slices_left();
        self.shared.job.observer.observe(&Event::EndpointStarted { endpoint: &run.id, streams: &streams, slices, resumed: run.resumed });
        run.forecast(&*self.shared.job.observer).await;
        if slices == 0 && !run.stopped() {
            self.complete(run);
        }
    }

    /// Starts slices, one endpoint after the other, until there are enough.
    fn start_slices(&mut self) {
        let options = self.shared.job.options;
        if self.shared.job.cancel.is_cancelled() {
            return;
        }
        self.open.retain(|index| !self.runs[*index].is_over());
        let mut idle = 0;
        while idle < self.open.len() {
            let index = self.open[self.turn % self.open.len()];
            self.turn += 1;
            let run = &self.runs[index];
            let startable = run.source_has_room(options.max_slices) && !self.waits(run);
            let Some(slice) = startable.then(|| run.start_slice(options.max_slices_per_endpoint)).flatten() else {
                idle += 1;
                continue;
            };
            idle = 0;
            let (shared, run) = (Arc::clone(&self.shared), Arc::clone(&self.runs[index]));
            self.tasks.spawn(async move { (index, slice, read_slice(&shared, &run, slice).await) });
        }
    }

    /// True when an endpoint is to be read last and others of its source are not over.
    fn waits(&self, run: &EndpointRun) -> bool {
        let is_before = |other: &EndpointRun| !other.endpoint().last && other.id.source == run.id.source;
        run.endpoint().last && self.open.iter().any(|index| is_before(&self.runs[*index]))
    }

    fn ended(&mut self, ended: Result<(usize, SliceId, Result<SliceEnd>), tokio::task::JoinError>) {
        let (index, slice, result) = match ended {
            Ok(ended) => ended,
            Err(panic) => {
                self.stop(&Error::new(ErrorKind::Unexpected, "a task of the engine panicked").with_source(panic));
                return;
            }
        };
        let run = Arc::clone(&self.runs[index]);
        run.end_slice(slice, !matches!(result, Ok(SliceEnd::Read)));
        if let Err(error) = result {
            self.failed(&run, &error);
        }
        if run.is_over() {
            self.complete(&run);
        }
    }

    /// Takes note that an endpoint is over, and has what it read committed. Rows of a refresh are published when all
    /// endpoints that fill the same tables are over; those that may not be read do not hold up the others.
    fn complete(&self, run: &EndpointRun) {
        if run.is_read() && run.complete() {
            self.shared.job.observer.observe(&Event::EndpointFinished { endpoint: &run.id, error: None });
            if !run.refresh {
                self.shared.committer.finish(&[run]);
            }
        }
        let group: Vec<&EndpointRun> = self.runs.iter().map(|run| &**run).filter(|other| run.publishes_with(other)).collect();
        let is_complete = group.iter().all(|run| run.is_complete() || run.is_unavailable()) && group.iter().any(|run| run.is_complete());
        if is_complete {
            self.shared.committer.finish(&group);
        }
    }

    /// Decides how far a failure reaches: the endpoint, its source, or the run.
    fn failed(&self, run: &EndpointRun, error: &Error) {
        self.shared.job.observer.observe(&Event::EndpointFinished { endpoint: &run.id, error: Some(error) });
        match error.kind() {
            ErrorKind::Destination | ErrorKind::CheckpointConflict => self.stop(error),
            ErrorKind::Unauthenticated => {
                for other in self.runs.iter().filter(|other| other.id.source == run.id.source) {
                    other.fail(Failure::from(error));
                }
            }
            _ => run.fail(Failure::from(error)),
        }
    }

    /// Ends the run because of an error that concerns every endpoint.
    fn stop(&self, error: &Error) {
        for run in &self.runs {
            run.fail(Failure::from(error));
        }
        self.shared.job.cancel.cancel();
    }

    async fn commit_if_due(&self) {
        if let Err(error) = self.shared.committer.commit_if_due().await {
            self.stop(&error);
        }
    }

    async fn summary(&self, elapsed: Duration) -> Summary {
        let mut figures = self.shared.committer.figures().await;
        let endpoints = self.runs.iter().map(|run| summarise(run, &mut figures)).collect();
        let job = &self.shared.job;
        let limits = job.sources.iter().flat_map(|source| {
            let limit = |usage| LimitSummary { source: source.name.clone(), usage };
            source.connector.client().usage().into_iter().map(limit)
        });
        Summary { run: job.run.clone(), endpoints, limits: limits.collect(), commits: figures.commits, elapsed }
    }
}

fn summarise(run: &EndpointRun, figures: &mut Figures) -> EndpointSummary {
    let streams = run.tables.iter().enumerate().filter_map(|(index, table)| {
        let table = table.as_ref()?;
        let counts = run.counts(index);
        let TableFigures { rows, rejected } = figures.tables.get(&(run.ordinal, table.id())).copied().unwrap_or_default();
        // Of several endpoints that feed the table, the first tells.
        let drift = figures.drift.remove(&table.id()).unwrap_or_default().into_iter().map(|((field, reason), records)| DriftSummary {
            field,
            reason: reason.to_owned(),
            records,
        });
        Some(StreamSummary {
            name: table.stream.clone(),
            records: counts.records,
            bytes: counts.bytes,
            unchanged: counts.unchanged,
            rows,
            rejected,
            drift: drift.collect(),
        })
    });
    let committed = figures.finished.contains(&run.id);
    let state = run.state();
    let outcome = run.outcome(committed);
    let unfinished = if matches!(outcome, Outcome::Done) { 0 } else { state.unfinished().count() };
    let (streams, skipped) = (streams.collect(), run.skipped());
    EndpointSummary { id: run.id.clone(), outcome, streams, cursor: state.freshness(), unfinished, skipped }
}
