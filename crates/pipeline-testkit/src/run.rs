//! Reads the streams of a case with the engine, sync after sync, and can be killed after every page
//! and resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use pipeline_core::http::HttpService;
use pipeline_core::{
    BuildContext, Catalog, Clock, Connector as _, Error, Event, Observer, Registry, Result,
};
use pipeline_engine::{
    Destination, EndpointSummary, Failure, Job, Options, Outcome, Selection, Source, Summary,
};

use crate::fixture::Fixture;
use crate::ledger::{Ledger, Progress, Store};
use crate::memory::TextRow;
use crate::replay::Replay;
use crate::tape::{PageRead, SeenPages, Tape};
use crate::watched::Watched;

/// Seed of the jitter: every run waits the same.
const SEED: u64 = 7;

/// One page after the other, each committed by itself: a run can be killed after any of them, and
/// its requests have an order.
fn one_by_one() -> Options {
    Options::default()
        .max_slices(1)
        .max_slices_per_endpoint(1)
        .commit_bytes(0)
}

/// A case, to be read by the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) connector: &'static str,
    pub(crate) fixture: &'a Fixture,
}

impl Reading<'_> {
    /// The connector of the case, with its streams alone.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub(crate) fn connect(
        self,
        transport: Arc<dyn HttpService>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        tape: Arc<Tape>,
    ) -> Result<Arc<Watched>> {
        let context = BuildContext::new(self.connector)
            .transport(transport)
            .clock(clock)
            .observer(observer)
            .seed(SEED);
        let connector =
            self.registry
                .build(self.connector, self.fixture.config.clone(), context)?;
        Ok(Arc::new(Watched::new(connector, self.fixture, tape)))
    }

    /// A sync of these streams with a connector.
    pub(crate) fn job(
        self,
        connector: Arc<Watched>,
        streams: Selection,
        destination: Arc<dyn Destination>,
        clock: Arc<dyn Clock>,
    ) -> Job {
        let source = Source {
            name: self.connector.to_owned(),
            connector,
            streams,
        };
        Job::new("suite", destination, vec![source]).clock(clock)
    }

    /// The streams of the case, by name.
    pub(crate) fn named(self) -> Selection {
        Selection::Named(self.fixture.streams.clone())
    }
}

/// Waits for something on a clock that nothing but waiting moves.
///
/// # Errors
/// When the runtime cannot be started.
pub(crate) fn paused<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    Ok(runtime
        .map_err(|error| format!("the runtime does not start: {error}"))?
        .block_on(future))
}

/// Runs a sync, unless it is killed before its end: then none.
pub(crate) async fn sync(job: Job, killed: impl Future<Output = ()>) -> Option<Result<Summary>> {
    tokio::select! {
        biased;
        () = killed => None,
        summary = pipeline_engine::sync(job) => Some(summary),
    }
}

/// A wall clock that stands still during a sync: what is planned is what was recorded.
#[derive(Debug)]
pub(crate) struct Still(Mutex<DateTime<Utc>>);

impl Still {
    pub(crate) fn at(now: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(now)))
    }

    fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for Still {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The syncs of a case that came to their end, by success, error or kill.
#[derive(Debug)]
pub(crate) struct Run {
    /// What the store holds of them, and of those before a kill.
    pub(crate) progress: Progress,
    /// The visible rows of every stream.
    pub(crate) tables: BTreeMap<String, Vec<TextRow>>,
    /// What was seen on the way.
    pub(crate) seen: SeenPages,
    /// Requests answered before each sync.
    pub(crate) begun: Vec<usize>,
    /// What the engine says of the streams, in lines, of each sync.
    pub(crate) remarks: Vec<Vec<String>>,
    /// Why units were passed over that are still missing.
    pub(crate) missing: BTreeMap<String, String>,
    pub(crate) error: Option<Failure>,
    /// Everything that was reported or could have been printed or stored.
    pub(crate) transcript: String,
}

impl Run {
    pub(crate) fn pages(&self) -> &[PageRead] {
        &self.seen.pages
    }

    /// The streams, with what the connector learned of the account.
    pub(crate) fn catalog(&self) -> Option<&Catalog> {
        self.seen.catalog.as_ref()
    }

    fn take(&mut self, summary: &Summary) {
        self.missing.clear();
        let mut remarks = Vec::new();
        for endpoint in &summary.endpoints {
            for gap in &endpoint.gaps {
                self.missing.insert(
                    format!("{} of {}", gap.name, endpoint.id.endpoint),
                    gap.reason.clone(),
                );
            }
            remarks.extend(remarks_on(endpoint));
            self.error = self.error.take().or_else(|| failure(&endpoint.outcome));
        }
        self.remarks.push(remarks);
    }
}

/// What is worth a line of the streams of an endpoint.
fn remarks_on(endpoint: &EndpointSummary) -> Vec<String> {
    let mut remarks = Vec::new();
    for stream in &endpoint.streams {
        let mut remark = |count: u64, what: &str| {
            if count > 0 {
                remarks.push(format!(
                    "{} of {}: {count} {what}",
                    stream.name, endpoint.id.endpoint
                ));
            }
        };
        remark(stream.unchanged, "unchanged");
        remark(stream.rejected, "rejected");
    }
    remarks
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Done | Outcome::Incomplete => None,
        Outcome::Interrupted => Some(Failure::from(&Error::new(
            pipeline_core::ErrorKind::Cancelled,
            "interrupted",
        ))),
        Outcome::Unavailable {
            kind,
            reason,
            answer,
            help,
        } => {
            let (message, answer, help) = (reason.clone(), answer.clone(), help.clone());
            Some(Failure {
                kind: *kind,
                message,
                answer,
                help,
                repeated: false,
                is_foreign: false,
            })
        }
        Outcome::Failed { error } => Some(error.clone()),
    }
}

/// What a run is made of.
pub(crate) struct Setup<'a> {
    pub(crate) reading: Reading<'a>,
    pub(crate) replay: Arc<Replay>,
    pub(crate) store: Arc<Store>,
    /// The run ends after this number of pages.
    pub(crate) kill_after: Option<usize>,
}

impl Setup<'_> {
    /// Runs the syncs of the case that the store has not seen the end of, with one connector,
    /// through a transport that is made from the run's clock.
    ///
    /// # Errors
    /// When the runtime cannot be started. Errors of the run are part of the [`Run`].
    pub(crate) fn run(
        self,
        transport: impl FnOnce(Arc<dyn Clock>) -> Arc<dyn HttpService>,
    ) -> Result<Run, String> {
        let Reading {
            connector, fixture, ..
        } = self.reading;
        let caught_up = self.store.caught_up().clone();
        let tape = Arc::new(Tape::new(
            Arc::clone(&self.replay),
            &fixture.streams,
            caught_up,
            self.kill_after,
        ));
        let mut run = Run {
            progress: Progress::default(),
            tables: BTreeMap::new(),
            seen: SeenPages::default(),
            begun: Vec::new(),
            remarks: Vec::new(),
            missing: BTreeMap::new(),
            error: None,
            transcript: String::new(),
        };
        paused(self.read(&mut run, &tape, transport))?;
        run.seen = tape.take();
        self.store.caught_up().clone_from(&run.seen.caught_up);
        run.progress = self.store.progress().clone();
        let table = |stream: &String| (stream.clone(), self.store.table(connector, stream));
        run.tables = fixture.streams.iter().map(table).collect();
        _ = write!(
            run.transcript,
            "{:?}\n{:?}\n",
            run.progress.states, run.error
        );
        Ok(run)
    }

    async fn read(
        &self,
        run: &mut Run,
        tape: &Arc<Tape>,
        transport: impl FnOnce(Arc<dyn Clock>) -> Arc<dyn HttpService>,
    ) {
        let Reading { fixture, .. } = self.reading;
        let (clock, notes) = (Still::at(fixture.now), Arc::new(Notes::default()));
        let connector = self.reading.connect(
            transport(clock.clone()),
            clock.clone(),
            notes.clone(),
            Arc::clone(tape),
        );
        let connector = match connector {
            Ok(connector) => connector,
            Err(error) => {
                run.error = Some(Failure::from(&error));
                notes.add_error(&error);
                run.transcript = notes.take();
                return;
            }
        };
        notes.add(format_args!("{connector:?}"));
        tape.declared(connector.endpoints());
        let done = self.store.progress().syncs;
        for now in [Some(fixture.now), fixture.again]
            .into_iter()
            .flatten()
            .skip(done)
        {
            clock.set(now);
            tape.begin();
            run.begun.push(self.replay.requests().len());
            let ledger = Arc::new(Ledger {
                store: Arc::clone(&self.store),
                tape: Arc::clone(tape),
            });
            let job = self.reading.job(
                Arc::clone(&connector),
                self.reading.named(),
                ledger,
                clock.clone(),
            );
            let job = job.options(one_by_one()).observer(notes.clone());
            match sync(job, tape.killed()).await {
                None => break,
                Some(Ok(summary)) => {
                    notes.add(format_args!("{summary:?}"));
                    run.take(&summary);
                }
                Some(Err(error)) => {
                    notes.add_error(&error);
                    run.error = Some(Failure::from(&error));
                }
            }
            tape.end();
            if run.error.is_some() {
                break;
            }
            self.store.progress().syncs += 1;
        }
        run.transcript = notes.take();
    }
}

/// Keeps every event as it prints itself.
#[derive(Debug, Default)]
struct Notes(Mutex<String>);

impl Notes {
    /// Adds what prints itself.
    fn add(&self, what: impl Display) {
        _ = writeln!(
            self.0.lock().unwrap_or_else(PoisonError::into_inner),
            "{what}"
        );
    }

    fn add_error(&self, error: &Error) {
        self.add(format_args!(
            "{error}\n{error:?}\n{error:#?}\n{:?}\n{:?}",
            error.help(),
            error.context()
        ));
    }

    fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Notes {
    fn observe(&self, event: &Event<'_>) {
        self.add(format_args!("{event:?}"));
        if let Event::EndpointFinished {
            error: Some(error), ..
        } = event
        {
            self.add_error(error);
        }
    }
}

/// The units that are missing after a run.
pub(crate) fn units(run: &Run) -> BTreeSet<&str> {
    run.missing.keys().map(String::as_str).collect()
}
