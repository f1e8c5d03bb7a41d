//! Reads the streams of a case as a sync does, page by page, and can be killed and resumed after each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use pipeline_core::http::HttpService;
use pipeline_core::slice::{TimeRange, parse_time};
use pipeline_core::state::{Change, EndpointId, EndpointState, Position, SliceId};
use pipeline_core::{
    Advance, BuildContext, Catalog, Clock, Connector, ConnectorConfig, Endpoint, Error, ErrorKind, Event, Observer, Op, Page, Preparation,
    RawRecord, Registry, Result, TokioClock,
};
use tokio::time::Instant;

use crate::fixture::Fixture;
use crate::json::compact;
use crate::replay::Replay;

/// Seed of the jitter: every run waits the same.
const SEED: u64 = 7;

/// Number of a state's plan once it is planned, and not finished yet.
const PLANNED: u64 = 1;

/// What a sync has committed, in the form that survives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// State of each endpoint, as JSON.
    pub(crate) states: BTreeMap<String, String>,
    /// Records of each stream, as text.
    pub(crate) records: BTreeMap<String, Vec<String>>,
    /// Units that were passed over.
    pub(crate) passed_over: BTreeSet<String>,
    /// Slices that caught up: what comes later is the next sync's, which is not recorded.
    caught_up: BTreeSet<(String, SliceId)>,
}

impl Progress {
    /// Records of each stream, counted.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.records.iter().map(|(stream, records)| (stream.clone(), records.len())).collect()
    }
}

/// One page that was committed, or staged when more of its response follows.
#[derive(Debug)]
pub(crate) struct PageRead {
    pub(crate) endpoint: String,
    /// Records on it, by stream.
    pub(crate) records: Vec<(String, usize)>,
    /// The state afterwards; none when the page is no place to stop.
    pub(crate) state: Option<String>,
    /// Data requests answered until then.
    pub(crate) requests: usize,
    /// Records committed until then.
    pub(crate) committed: BTreeMap<String, usize>,
}

/// A run that came to its end, by success, error or kill.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) progress: Progress,
    pub(crate) pages: Vec<PageRead>,
    /// Why units were passed over.
    pub(crate) reasons: BTreeMap<String, String>,
    pub(crate) error: Option<Error>,
    /// The streams, with what the connector learned of the account.
    pub(crate) catalog: Catalog,
    /// Everything that was told or could have been printed or stored.
    pub(crate) transcript: String,
}

/// What a run is made of.
pub(crate) struct Setup<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) connector: &'static str,
    pub(crate) fixture: &'a Fixture,
    pub(crate) replay: Arc<Replay>,
    /// The run ends after so many pages.
    pub(crate) kill_after: Option<usize>,
}

impl<'a> Setup<'a> {
    pub(crate) fn new<C: ConnectorConfig>(registry: &'a Registry, fixture: &'a Fixture, replay: Arc<Replay>) -> Self {
        Self { registry, connector: C::NAME, fixture, replay, kill_after: None }
    }

    /// Runs from `progress` on, through a transport that is made from the run's clock.
    ///
    /// # Errors
    /// When the runtime cannot be started. Errors of the run are part of the [`Run`].
    pub(crate) fn run(self, progress: Progress, transport: impl FnOnce(Arc<dyn Clock>) -> Arc<dyn HttpService>) -> Result<Run, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.map_err(|error| format!("the runtime does not start: {error}"))?.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(self.fixture.now));
            let notes = Arc::new(Notes::default());
            let context = BuildContext {
                source: self.connector.to_owned(),
                transport: Some(transport(clock.clone())),
                clock,
                observer: notes.clone(),
                seed: Some(SEED),
                ..BuildContext::default()
            };
            let connector = self.registry.build(self.connector, self.fixture.config.clone(), context);
            let mut reader = Reader { setup: &self, progress, pages: Vec::new(), reasons: BTreeMap::new(), started: Instant::now() };
            let error = match &connector {
                Ok(connector) => reader.read_all(&**connector).await.err(),
                Err(error) => Some(Error::new(error.kind(), error.message())),
            };
            let (progress, pages, reasons) = (reader.progress, reader.pages, reader.reasons);
            let catalog = Catalog::of(connector.as_ref().map_or(&[][..], |connector| connector.endpoints()));
            let mut transcript = notes.take();
            _ = write!(transcript, "{connector:?}\n{:?}\n", progress.states);
            if let Some(error) = &error {
                _ = write!(transcript, "{error}\n{error:?}\n{error:#?}\n{:?}\n{:?}\n", error.help(), error.context());
            }
            Ok(Run { progress, pages, reasons, error, catalog, transcript })
        })
    }
}

/// Keeps every event as it prints itself.
#[derive(Debug, Default)]
struct Notes(Mutex<String>);

impl Notes {
    fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Notes {
    fn observe(&self, event: &Event<'_>) {
        _ = writeln!(self.0.lock().unwrap_or_else(PoisonError::into_inner), "{event:?}");
    }
}

struct Reader<'a, 's> {
    setup: &'s Setup<'a>,
    progress: Progress,
    pages: Vec<PageRead>,
    reasons: BTreeMap<String, String>,
    started: Instant,
}

impl Reader<'_, '_> {
    async fn read_all(&mut self, connector: &dyn Connector) -> Result<()> {
        let declared = self.endpoints(connector.endpoints());
        let unknown = self.setup.fixture.streams.iter().find(|name| !connector.endpoints().iter().any(|endpoint| feeds(endpoint, name)));
        if let Some(unknown) = unknown {
            return Err(Error::new(ErrorKind::ConfigInvalid, format!("there is no stream `{unknown}`")));
        }
        let names: Vec<&str> = declared.iter().map(Endpoint::name).collect();
        let Preparation { endpoints, mut unavailable, mut closed, .. } = connector.prepare(&names).await?;
        if let Some((_, error)) = unavailable.pop().or_else(|| closed.pop()) {
            return Err(error);
        }
        let endpoints = self.endpoints(endpoints.as_deref().unwrap_or(connector.endpoints()));
        // All plans before the first request, as time passes while pages are read.
        for endpoint in &endpoints {
            self.plan(endpoint, connector)?;
        }
        for endpoint in &endpoints {
            self.read_endpoint(connector, endpoint).await?;
        }
        Ok(())
    }

    /// The endpoints that feed the streams of the case. A feed of changes has nothing to tell of an account that is read for
    /// the first time.
    fn endpoints(&self, known: &[Endpoint]) -> Vec<Endpoint> {
        let is_wanted = |endpoint: &&Endpoint| self.setup.fixture.streams.iter().any(|name| feeds(endpoint, name));
        known.iter().filter(|endpoint| !endpoint.is_last()).filter(is_wanted).cloned().collect()
    }

    fn plan(&mut self, endpoint: &Endpoint, connector: &dyn Connector) -> Result<()> {
        if self.progress.states.contains_key(&self.id(endpoint).endpoint) {
            return Ok(());
        }
        let range = self.setup.fixture.start.map_or_else(|| connector.range(), TimeRange::since);
        // As if learning what planning needs had taken no time: windows are recorded, and a fault must not move them.
        let now = connector.client().now() - TimeDelta::from_std(self.started.elapsed()).unwrap_or_default();
        let mut state = EndpointState::default().next_plan();
        for slice in endpoint.slicer().plan(&EndpointState::default(), range, now) {
            state.add_slice(slice);
        }
        self.change(Change::Replace { endpoint: self.id(endpoint), from: EndpointState::default(), to: state })
    }

    async fn read_endpoint(&mut self, connector: &dyn Connector, endpoint: &Endpoint) -> Result<()> {
        let state = self.state(endpoint)?;
        for (id, _) in state.unfinished() {
            if !self.progress.caught_up.contains(&(self.id(endpoint).endpoint, id)) {
                self.read_slice(connector, endpoint, id).await?;
            }
        }
        let from = self.state(endpoint)?;
        if from.plan > PLANNED {
            // It was finished before the kill.
            return Ok(());
        }
        let mut to = from.next_plan();
        to.collapse();
        self.change(Change::Replace { endpoint: self.id(endpoint), from, to })
    }

    async fn read_slice(&mut self, connector: &dyn Connector, endpoint: &Endpoint, id: SliceId) -> Result<()> {
        let slice = self.state(endpoint)?.slices.remove(&id).unwrap_or_default();
        let mut position = slice.position.clone();
        let mut staged: Vec<(String, String)> = Vec::new();
        let mut pages = connector.read(endpoint, slice);
        while let Some(page) = pages.next().await {
            let page = page?;
            let reached = reached(endpoint, &page);
            let records = self.wanted(endpoint, &page);
            let counts = count(&records);
            staged.extend(records);
            let is_stop = page.advance.is_some();
            for missed in page.gaps {
                let unit = format!("{} of {}", missed.name, endpoint.name());
                self.reasons.insert(unit.clone(), missed.reason);
                self.progress.passed_over.insert(unit);
            }
            if let Some(advance) = page.advance {
                self.commit(std::mem::take(&mut staged));
                position = self.advance(endpoint, id, position, advance, reached)?;
            }
            self.note(endpoint, counts, is_stop);
            self.kill_if_due()?;
        }
        Ok(())
    }

    /// The page's records of the streams of the case, as text.
    fn wanted(&self, endpoint: &Endpoint, page: &Page) -> Vec<(String, String)> {
        let streams = endpoint.streams().zip(&page.records);
        let wanted = streams.filter(|(stream, _)| self.setup.fixture.streams.iter().any(|name| name == stream.name()));
        wanted.flat_map(|(stream, records)| records.iter().map(|record| (stream.name().to_owned(), text(record)))).collect()
    }

    fn commit(&mut self, staged: Vec<(String, String)>) {
        for (stream, record) in staged {
            self.progress.records.entry(stream).or_default().push(record);
        }
    }

    fn advance(
        &mut self,
        endpoint: &Endpoint,
        slice: SliceId,
        from: Position,
        advance: Advance,
        reached: Option<DateTime<Utc>>,
    ) -> Result<Position> {
        let to = match advance {
            Advance::Next(position) => Position::At(position),
            Advance::CaughtUp(position) => {
                self.progress.caught_up.insert((self.id(endpoint).endpoint, slice));
                Position::At(position)
            }
            Advance::End => Position::End,
        };
        let plan = self.state(endpoint)?.plan;
        let change = Change::Advance {
            endpoint: self.id(endpoint),
            plan,
            slice,
            from,
            to: to.clone(),
            reached,
            newest: None,
            seen: Vec::new(),
            gaps: Vec::new(),
        };
        self.change(change)?;
        Ok(to)
    }

    fn note(&mut self, endpoint: &Endpoint, records: Vec<(String, usize)>, is_stop: bool) {
        self.pages.push(PageRead {
            endpoint: endpoint.name().to_owned(),
            records,
            state: is_stop.then(|| self.progress.states.get(&self.id(endpoint).endpoint).cloned().unwrap_or_default()),
            requests: self.setup.replay.answers().len(),
            committed: self.progress.counts(),
        });
    }

    fn kill_if_due(&self) -> Result<()> {
        if self.setup.kill_after == Some(self.pages.len()) {
            return Err(Error::new(ErrorKind::Cancelled, "killed"));
        }
        Ok(())
    }

    fn id(&self, endpoint: &Endpoint) -> EndpointId {
        endpoint.id(self.setup.connector)
    }

    fn state(&self, endpoint: &Endpoint) -> Result<EndpointState> {
        self.stored(&self.id(endpoint).endpoint)
    }

    fn stored(&self, endpoint: &str) -> Result<EndpointState> {
        self.progress.states.get(endpoint).map_or_else(|| Ok(EndpointState::default()), |json| EndpointState::from_json(json))
    }

    fn change(&mut self, change: Change) -> Result<()> {
        let endpoint = change.endpoint().endpoint.clone();
        let mut state = self.stored(&endpoint)?;
        state.apply(&change)?;
        self.progress.states.insert(endpoint, state.to_json());
        Ok(())
    }
}

fn feeds(endpoint: &Endpoint, name: &str) -> bool {
    endpoint.streams().any(|stream| stream.name() == name)
}

/// Cursor value of the last record of the endpoint's first stream.
fn reached(endpoint: &Endpoint, page: &Page) -> Option<DateTime<Utc>> {
    if page.reached.is_some() {
        return page.reached;
    }
    let cursor = endpoint.cursor_field()?;
    let last = page.records.first()?.last()?;
    parse_time(&last.scalar(cursor.field)?, cursor.format)
}

fn text(record: &RawRecord) -> String {
    let mark = match record.op() {
        Op::Upsert => "",
        Op::Delete => "deleted ",
        Op::DeleteMatching => "deleted all with ",
        Op::Reject => "rejected ",
    };
    format!("{mark}{}", compact(record.as_bytes()))
}

fn count(records: &[(String, String)]) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (stream, _) in records {
        match counts.iter_mut().find(|(known, _)| known == stream) {
            Some((_, count)) => *count += 1,
            None => counts.push((stream.clone(), 1)),
        }
    }
    counts
}
