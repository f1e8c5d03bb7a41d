//! A run from start to end: resolve what is wanted, keep slices running, finish what is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pipeline_core::state::SliceId;
use pipeline_core::{Claim, Error, ErrorKind, Event, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Job;
use super::commit::{Figures, TableFigures};
use super::contract::DROPPED;
use super::damages::Damages;
use super::endpoint_run::EndpointRun;
use super::fair_queue::FairQueue;
use super::remembered::Remembered;
use super::resolve::{Resolved, check_streams, resolve};
use super::slice_task::{Shared, SliceEnd, read_slice};
use super::stage::Stager;
use super::summary::{
    DriftSummary, EndpointSummary, Failure, GapSummary, LimitSummary, Outcome, QualitySummary,
    StreamSummary, Summary,
};
use crate::destination::{Table, TableId};
use crate::quality::{self, Broken, SourceChecks};

/// How often the run looks whether a commit is due although no page comes.
const TICK: Duration = Duration::from_millis(500);

/// See [`super::sync`].
pub(super) async fn run(job: Job) -> Result<Summary> {
    let job = Arc::new(job);
    check_streams(&job.sources)?;
    if job.options.dry_run {
        return read(&job).await;
    }
    // Held to the end: of two syncs the second is refused before it asks the vendor for anything,
    // and the first is not hurt.
    let _claims = claim(&job).await?;
    let mut remembered = Remembered::begin(&job).await;
    let mut ended = read(&job).await;
    if let Ok(summary) = &mut ended {
        remembered.compare(summary).await;
    }
    remembered.end(&ended).await;
    ended
}

/// Takes the right to read each source, in the same order in every process: then one of two gets
/// all of them.
async fn claim(job: &Job) -> Result<Vec<Claim>> {
    let names: BTreeSet<&str> = job.sources.iter().map(|source| &*source.name).collect();
    let mut claims = Vec::with_capacity(names.len());
    for name in names {
        claims.push(job.destination.claim(name, &job.run).await?);
    }
    Ok(claims)
}

/// Resolves what is wanted and reads it. Nothing is left open when it returns.
async fn read(job: &Arc<Job>) -> Result<Summary> {
    let started = Instant::now();
    job.observer.observe(&Event::SyncStarted { run: &job.run });
    let damages = Damages::find(job).await?;
    let stager = Stager::new(Arc::clone(job));
    let Resolved { runs, gone } = resolve(job, &stager, &damages).await?;
    let tables = runs.iter().flat_map(|run| run.tables.iter().flatten());
    quality::check_columns(&job.quality, tables)?;
    if !job.options.dry_run {
        stager.commit().await?;
    }
    stager.watch(&runs).await;
    let shared = Arc::new(Shared::new(Arc::clone(job), stager));
    let mut scheduler = Scheduler::new(shared, runs);
    if !job.options.dry_run {
        scheduler.run().await;
    }
    let mut summary = scheduler.summary(started.elapsed()).await;
    summary.endpoints.extend(gone);
    job.observer.observe(&Event::SyncFinished { run: &job.run });
    Ok(summary)
}

struct Scheduler {
    shared: Arc<Shared>,
    runs: Vec<Arc<EndpointRun>>,
    queue: FairQueue,
    /// Endpoints that publish together, by source and number.
    groups: BTreeMap<(String, usize), Vec<usize>>,
    tasks: JoinSet<Ended>,
    /// How many slices are read of each endpoint that has any.
    reading: BTreeMap<usize, usize>,
}

/// What came of reading a slice.
struct Ended {
    /// The endpoint's number in the run.
    index: usize,
    slice: SliceId,
    result: Result<SliceEnd>,
    /// True unless an outage could explain the failure.
    answered: bool,
}

impl Scheduler {
    fn new(shared: Arc<Shared>, runs: Vec<Arc<EndpointRun>>) -> Self {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, run) in runs.iter().enumerate().filter(|(_, run)| run.refresh) {
            groups
                .entry((run.id.source.clone(), run.group))
                .or_default()
                .push(index);
        }
        let queue = FairQueue::new(&runs);
        Self {
            shared,
            runs,
            queue,
            groups,
            tasks: JoinSet::new(),
            reading: BTreeMap::new(),
        }
    }

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
                () = self.shared.wake.notified() => self.find_split(),
                () = self.shared.stager.memory().wanted() => self.commit_if_due().await,
                _ = tick.tick() => self.commit_if_due().await,
            }
        }
        if let Err(error) = self.shared.stager.commit().await {
            self.stop(&error);
        } else if let Err(error) = self.take_back_refused().await {
            self.stop(&error);
        }
        for run in &self.runs {
            for message in &run.session.notices(run.endpoint().name()) {
                let (source, endpoint) = (run.id.source.as_str(), run.id.endpoint.as_str());
                self.shared.job.observer.observe(&Event::Notice {
                    source,
                    endpoint,
                    message,
                });
            }
        }
    }

    /// Takes back what was read of endpoints whose rows the destination refuses: a refresh begins
    /// anew with the next run, all others resume where their last change was committed.
    async fn take_back_refused(&self) -> Result<()> {
        for run in self.runs.iter().filter(|run| run.is_refused()) {
            if run.refresh {
                self.shared.stager.try_change(|| Ok(run.doubt()))?;
            } else {
                let stored = self.shared.job.destination.states(&run.id.source).await?;
                run.return_to(stored.get(&run.id).cloned().unwrap_or_default());
            }
        }
        self.shared.stager.commit().await
    }

    /// Reports that an endpoint begins; one without anything to read is done at once.
    async fn announce(&self, index: usize) {
        let run = &self.runs[index];
        let streams: Vec<String> = run
            .tables
            .iter()
            .flatten()
            .map(|table| table.stream.clone())
            .collect();
        let slices = run.slices_left();
        self.shared.job.observer.observe(&Event::EndpointStarted {
            endpoint: &run.id,
            streams: &streams,
            slices,
            resumed: run.resumed,
        });
        run.forecast(&*self.shared.job.observer).await;
        if slices == 0 && !run.stopped() {
            self.complete(index);
        }
    }

    /// Starts slices, one endpoint after the other, until there are enough.
    fn start_slices(&mut self) {
        let options = self.shared.job.options;
        if self.shared.job.cancel.is_cancelled() {
            return;
        }
        for source in self.queue.sources() {
            while let Some(index) = self.queue.next(source) {
                let run = Arc::clone(&self.runs[index]);
                if !run.source_has_room(options.max_slices) {
                    self.queue.put_back(index);
                    break;
                }
                // One that may begin no other slice is ready again when one of its slices has
                // ended.
                let Some(slice) = run.start_slice(options.max_slices_per_endpoint) else {
                    continue;
                };
                *self.reading.entry(index).or_default() += 1;
                if run.has_queued() {
                    self.queue.add(index);
                }
                let shared = Arc::clone(&self.shared);
                self.tasks.spawn(async move {
                    let result = read_slice(&shared, &run, slice).await;
                    let answered = match &result {
                        Err(error) => run.is_answered(slice, error).await,
                        Ok(_) => true,
                    };
                    Ended {
                        index,
                        slice,
                        result,
                        answered,
                    }
                });
            }
        }
    }

    /// A slice that is being read has given a part of itself away.
    fn find_split(&mut self) {
        for index in self
            .reading
            .keys()
            .filter(|index| self.runs[**index].has_queued())
        {
            self.queue.add(*index);
        }
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended {
            index,
            slice,
            result,
            answered,
        } = match ended {
            Ok(ended) => ended,
            Err(panic) => {
                self.stop(
                    &Error::new(ErrorKind::Unexpected, "a task of the engine panicked")
                        .with_source(panic),
                );
                return;
            }
        };
        let run = Arc::clone(&self.runs[index]);
        run.end_slice(slice, matches!(result, Ok(SliceEnd::Stopped)));
        self.reading.entry(index).and_modify(|count| *count -= 1);
        self.reading.retain(|_, count| *count > 0);
        let read = match result {
            Ok(SliceEnd::Read) => self.shared.stager.try_change(|| Ok(run.slice_read(slice))),
            Ok(SliceEnd::Stopped) => Ok(()),
            Err(error) => self.pass_over(&run, slice, error, answered),
        };
        if let Err(error) = read {
            self.failed(&run, &error);
        }
        if run.is_over() {
            if let Err(error) = self.shared.stager.try_change(|| run.conclude()) {
                self.failed(&run, &error);
            }
            self.complete(index);
            self.queue.end(index, run.endpoint().is_last());
        } else if run.has_queued() {
            self.queue.add(index);
        }
    }

    /// Passes over a slice that could not be read, if that is a unit of its own.
    fn pass_over(
        &self,
        run: &EndpointRun,
        slice: SliceId,
        error: Error,
        answered: bool,
    ) -> Result<()> {
        let (known, reason) = (run.gap_names(), error.to_string());
        self.shared
            .stager
            .try_change(|| run.pass_over(slice, error, answered))?;
        for unit in run.gap_names().difference(&known) {
            self.shared.job.observer.observe(&Event::PassedOver {
                endpoint: &run.id,
                unit,
                reason: &reason,
            });
        }
        Ok(())
    }

    /// Takes note that an endpoint is over, and has what it read committed. Rows of a refresh are
    /// published when all endpoints that fill the same tables are over; those that may not be read
    /// do not hold up the others.
    fn complete(&self, index: usize) {
        let run = &*self.runs[index];
        if run.is_read()
            && let Err(error) = run.judge_all()
        {
            self.failed(run, &error);
            let given_up = self.shared.stager.try_change(|| Ok(run.doubt()));
            debug_assert!(given_up.is_ok(), "the closure cannot fail");
        }
        if run.is_read() && run.complete() {
            self.shared.job.observer.observe(&Event::EndpointFinished {
                endpoint: &run.id,
                error: None,
            });
            if !run.refresh {
                self.shared.stager.finish(&[run]);
            }
        }
        let Some(group) = self
            .groups
            .get(&(run.id.source.clone(), run.group))
            .filter(|_| run.refresh)
        else {
            return;
        };
        let group: Vec<&EndpointRun> = group.iter().map(|index| &*self.runs[*index]).collect();
        let is_complete = group
            .iter()
            .all(|run| run.is_complete() || run.is_unavailable())
            && group.iter().any(|run| run.is_complete());
        if is_complete {
            self.shared.stager.finish(&group);
        }
    }

    /// Decides how far a failure reaches: the endpoint, its source, or the run.
    fn failed(&self, run: &EndpointRun, error: &Error) {
        self.shared.job.observer.observe(&Event::EndpointFinished {
            endpoint: &run.id,
            error: Some(error),
        });
        match error.kind() {
            ErrorKind::Destination | ErrorKind::CheckpointConflict => self.stop(error),
            ErrorKind::Unauthenticated => {
                for other in self
                    .runs
                    .iter()
                    .filter(|other| other.id.source == run.id.source)
                {
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
        if let Err(error) = self.shared.stager.commit_if_due().await {
            self.stop(&error);
        }
    }

    async fn summary(&self, elapsed: Duration) -> Summary {
        let mut figures = self.shared.stager.figures().await;
        let endpoints = self
            .runs
            .iter()
            .map(|run| summarise(run, &mut figures, &self.shared.job.quality))
            .collect();
        let job = &self.shared.job;
        let limits = job.sources.iter().flat_map(|source| {
            let limit = |usage| LimitSummary {
                source: source.name.clone(),
                usage,
            };
            let run = self.runs.iter().find(|run| run.id.source == source.name);
            run.map_or(source.connector.client(), |run| run.session.client())
                .usage()
                .into_iter()
                .map(limit)
        });
        Summary {
            run: job.run.clone(),
            endpoints,
            limits: limits.collect(),
            commits: figures.commits,
            elapsed,
        }
    }
}

/// The checks that rows of an endpoint broke in one of its tables.
fn quality_of(
    run: &EndpointRun,
    table: &Table,
    broken: &BTreeMap<(usize, TableId), BTreeMap<usize, Broken>>,
    checks: &SourceChecks,
) -> Vec<QualitySummary> {
    let broken = broken.get(&(run.ordinal, table.id()));
    let checks = checks.get(&table.source);
    broken
        .into_iter()
        .flatten()
        .filter_map(|(number, broken)| {
            let check = checks?.get(*number)?;
            Some(QualitySummary {
                reason: check.rule.to_string(),
                on_failure: check.on_failure,
                records: broken.records,
                first: broken.first.clone(),
            })
        })
        .collect()
}

fn summarise(run: &EndpointRun, figures: &mut Figures, checks: &SourceChecks) -> EndpointSummary {
    let streams = run.tables.iter().enumerate().filter_map(|(index, table)| {
        let table = table.as_ref()?;
        let counts = run.counts(index);
        let TableFigures {
            rows,
            rejected,
            unchanged,
        } = figures
            .tables
            .get(&(run.ordinal, table.id()))
            .copied()
            .unwrap_or_default();
        // Of several endpoints that feed the table, the first tells.
        let drift = figures
            .drift
            .remove(&table.id())
            .unwrap_or_default()
            .into_iter()
            .map(|((field, reason), records)| DriftSummary {
                field,
                reason: reason.to_owned(),
                records,
            });
        let dropped = run
            .dropped(index)
            .into_iter()
            .map(|(field, records)| DriftSummary {
                field,
                reason: DROPPED.to_owned(),
                records,
            });
        Some(StreamSummary {
            name: table.stream.clone(),
            records: counts.records,
            bytes: counts.bytes,
            unchanged: counts.unchanged + unchanged,
            rows,
            rejected,
            quality: quality_of(run, table, &figures.broken, checks),
            drift: drift.chain(dropped).collect(),
        })
    });
    let committed = figures.finished.contains(&run.id);
    let state = run.state();
    let refused = run.judge_refused(
        |table| figures.refused.get(&(run.ordinal, table.id())),
        false,
    );
    let outcome = match (run.outcome(committed), refused) {
        (Outcome::Done | Outcome::Incomplete, Err(error)) => Outcome::Failed {
            error: Failure::from(&error),
        },
        (outcome, _) => outcome,
    };
    let unfinished = if matches!(outcome, Outcome::Done | Outcome::Incomplete) {
        0
    } else {
        state.unfinished().count()
    };
    let (streams, skipped) = (streams.collect(), run.skipped());
    let gaps = state.missing().map(GapSummary::from).collect();
    let (cursor, answered) = (state.freshness(), run.answered());
    EndpointSummary {
        id: run.id.clone(),
        outcome,
        answered,
        streams,
        cursor,
        unfinished,
        skipped,
        gaps,
    }
}
