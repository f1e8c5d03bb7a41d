//! A run from start to end: resolve what is wanted, plan it, keep slices running, finish what is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::commit::Committer;
use super::decode::Decoder;
use super::endpoint_run::EndpointRun;
use super::plan::{Plan, Wanted, plan};
use super::slice_task::{Shared, SliceEnd, read_slice};
use super::summary::{DriftSummary, EndpointSummary, Failure, Outcome, StreamSummary, Summary};
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
    let mut committer = Committer::new(Arc::clone(&job));
    let runs = prepare(&job, wanted, &mut committer).await?;
    if !job.options.dry_run {
        committer.commit().await?;
    }
    let mut scheduler = Scheduler { shared: Arc::new(Shared::new(Arc::clone(&job), committer)), runs, tasks: JoinSet::new(), turn: 0 };
    if !job.options.dry_run {
        scheduler.run().await;
    }
    let summary = scheduler.summary(started.elapsed()).await;
    job.observer.observe(&Event::SyncFinished { run: &job.run });
    Ok(summary)
}

/// The endpoints to read of each source, and the streams wanted of each.
fn resolve(sources: &[Source]) -> Result<Vec<(&Source, usize, BTreeSet<String>)>> {
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
        for (index, endpoint) in endpoints.iter().enumerate() {
            let is_wanted = |name: &str| match &source.streams {
                Selection::All => !endpoint.is_by_name(),
                Selection::Named(names) => names.iter().any(|wanted| wanted == name),
            };
            let streams: BTreeSet<String> =
                endpoint.streams().map(|stream| stream.name().to_owned()).filter(|name| is_wanted(name)).collect();
            if !streams.is_empty() {
                wanted.push((source, index, streams));
            }
        }
    }
    Ok(wanted)
}

/// Loads the state of each endpoint, plans it, and creates its tables. The plans are committed by the caller.
async fn prepare(job: &Job, wanted: Vec<(&Source, usize, BTreeSet<String>)>, committer: &mut Committer) -> Result<Vec<Arc<EndpointRun>>> {
    let refused = prepare_connectors(job, &wanted).await;
    let mut runs = Vec::with_capacity(wanted.len());
    let mut tables = Vec::new();
    for (source, index, streams) in wanted {
        let endpoint = &source.connector.endpoints()[index];
        let id = EndpointId::new(&source.name, endpoint.name());
        let stored = job.destination.load(&id).await.map_err(|error| error.with_context("endpoint", id.to_string()))?;
        let wanted = Wanted { streams, range: source.connector.range(), full_refresh: job.options.full_refresh };
        let failure = refused.get(&id).map(|error| &**error);
        let plan = match failure {
            None => plan(endpoint, stored, &wanted, source.connector.client().now()),
            Some(_) => Plan::unchanged(stored),
        };
        let stream_tables = stream_tables(source, index, &wanted, &plan);
        for (table, stream) in stream_tables.iter().zip(endpoint.streams()) {
            let Some(table) = table else { continue };
            committer.add_table(table, stream.schema());
            if plan.discard {
                committer.discard(table.id());
            }
            tables.push(Arc::clone(table));
        }
        if plan.from != plan.to {
            committer.change(Change::Replace { endpoint: id, from: plan.from.clone(), to: plan.to.clone() });
        }
        let run = EndpointRun::new(source, index, stream_tables, &plan);
        if let Some(error) = failure {
            run.fail(Failure::from(error));
            job.observer.observe(&Event::EndpointFinished { endpoint: &run.id, error: Some(error) });
        }
        runs.push(Arc::new(run));
    }
    if !job.options.dry_run {
        job.destination.check().await?;
        job.destination.prepare(&tables).await?;
    }
    Ok(runs)
}

/// Lets every connector learn what it must know of its account. Gives the endpoints that are not to be read, each with why.
async fn prepare_connectors(job: &Job, wanted: &[(&Source, usize, BTreeSet<String>)]) -> BTreeMap<EndpointId, Arc<Error>> {
    let mut refused = BTreeMap::new();
    for source in &job.sources {
        let endpoints = source.connector.endpoints();
        let mine = wanted.iter().filter(|(other, ..)| other.name == source.name);
        let names: Vec<&str> = mine.map(|(_, index, _)| endpoints[*index].name()).collect();
        if names.is_empty() {
            continue;
        }
        let prepared = tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the run was cancelled before it began")),
            prepared = source.connector.prepare(&names) => prepared,
        };
        match prepared {
            Ok(Preparation { notes, unavailable }) => {
                notes.iter().for_each(|text| job.observer.observe(&Event::Note { source: &source.name, text }));
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

fn stream_tables(source: &Source, index: usize, wanted: &Wanted, plan: &Plan) -> Vec<Option<Arc<Table>>> {
    let table = |stream: &crate::StreamDef| {
        wanted.streams.contains(stream.name()).then(|| {
            Arc::new(Table {
                source: source.name.clone(),
                stream: stream.name().to_owned(),
                primary_key: stream.key().iter().map(ToString::to_string).collect(),
                schema: Decoder::arrow_schema(stream.schema()),
                generation: plan.generation,
            })
        })
    };
    source.connector.endpoints()[index].streams().map(table).collect()
}

struct Scheduler {
    shared: Arc<Shared>,
    runs: Vec<Arc<EndpointRun>>,
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
                Some(ended) = self.tasks.join_next() => self.ended(ended).await,
                () = self.shared.wake.notified() => {}
                _ = tick.tick() => self.commit_if_due().await,
            }
        }
        let committed = self.shared.committer.lock().await.commit().await;
        if let Err(error) = committed {
            self.stop(&error);
        }
    }

    /// Tells that an endpoint begins; one without anything to read is done at once.
    async fn announce(&self, index: usize) {
        let run = &self.runs[index];
        let streams: Vec<String> = run.tables.iter().flatten().map(|table| table.stream.clone()).collect();
        let slices = run.slices_left();
        self.shared.job.observer.observe(&Event::EndpointStarted { endpoint: &run.id, streams: &streams, slices, resumed: run.resumed });
        if slices == 0 && !run.stopped() {
            self.complete(run).await;
        }
    }

    /// Starts slices, one endpoint after the other, until there are enough.
    fn start_slices(&mut self) {
        let options = self.shared.job.options;
        if self.shared.job.cancel.is_cancelled() {
            return;
        }
        let mut idle = 0;
        while idle < self.runs.len() && self.tasks.len() < options.max_slices {
            let index = self.turn % self.runs.len();
            self.turn += 1;
            let Some(slice) = self.runs[index].start_slice(options.max_slices_per_endpoint) else {
                idle += 1;
                continue;
            };
            idle = 0;
            let (shared, run) = (Arc::clone(&self.shared), Arc::clone(&self.runs[index]));
            self.tasks.spawn(async move { (index, slice, read_slice(&shared, &run, slice).await) });
        }
        self.shared.running.store(self.tasks.len(), Ordering::Relaxed);
    }

    async fn ended(&mut self, ended: Result<(usize, SliceId, Result<SliceEnd>), tokio::task::JoinError>) {
        let (index, slice, result) = match ended {
            Ok(ended) => ended,
            Err(panic) => {
                self.stop(&Error::new(ErrorKind::Unexpected, "a task of the engine panicked").with_source(panic));
                return;
            }
        };
        let run = Arc::clone(&self.runs[index]);
        let last = run.end_slice(slice, !matches!(result, Ok(SliceEnd::Read)));
        match result {
            Ok(SliceEnd::Read) if last => self.complete(&run).await,
            Ok(_) => {}
            Err(error) => self.failed(&run, &error),
        }
    }

    /// Publishes what an endpoint read, with the next commit.
    async fn complete(&self, run: &EndpointRun) {
        let mut committer = self.shared.committer.lock().await;
        committer.change(run.complete());
        if run.generation == Generation::Next {
            for table in run.tables.iter().flatten() {
                committer.publish(table.id());
            }
        }
        self.shared.job.observer.observe(&Event::EndpointFinished { endpoint: &run.id, error: None });
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
        // A task that stages rows holds the lock and looks itself.
        let Ok(mut committer) = self.shared.committer.try_lock() else { return };
        if let Err(error) = committer.commit_if_due().await {
            drop(committer);
            self.stop(&error);
        }
    }

    async fn summary(&self, elapsed: Duration) -> Summary {
        let committer = self.shared.committer.lock().await;
        let endpoints = self.runs.iter().map(|run| summarise(run, &committer)).collect();
        Summary { run: self.shared.job.run.clone(), endpoints, commits: committer.commits(), elapsed }
    }
}

fn summarise(run: &EndpointRun, committer: &Committer) -> EndpointSummary {
    let streams = run.tables.iter().enumerate().filter_map(|(index, table)| {
        let table = table.as_ref()?;
        let (counts, figures) = (run.counts(index), committer.figures(&table.id()));
        let drift = figures.drift.into_iter().map(|((field, reason), records)| DriftSummary { field, reason: reason.to_owned(), records });
        Some(StreamSummary {
            name: table.stream.clone(),
            records: counts.records,
            bytes: counts.bytes,
            unchanged: counts.unchanged,
            rows: figures.rows,
            rejected: figures.rejected,
            drift: drift.collect(),
        })
    });
    let state = run.state();
    let outcome = run.outcome();
    let unfinished = if matches!(outcome, Outcome::Done) { 0 } else { state.unfinished().count() };
    let (streams, skipped) = (streams.collect(), run.skipped());
    EndpointSummary { id: run.id.clone(), outcome, streams, cursor: state.freshness(), unfinished, skipped }
}
