//! One endpoint during a run: its staged state, the slices that wait, and how it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::plan::{Plan, finished, forgotten};
use super::summary::{Failure, Outcome};
use super::{Selection, Source};
use crate::connector::Connector;
use crate::destination::Table;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::record::Advance;
use crate::state::{Change, EndpointId, EndpointState, Position, Seen, SliceId, SliceState};

/// An endpoint that is being read.
pub(super) struct EndpointRun {
    pub(super) id: EndpointId,
    pub(super) connector: Arc<dyn Connector>,
    /// Number of the endpoint in the run, for figures.
    pub(super) ordinal: usize,
    /// The endpoint, told which of its streams are wanted.
    endpoint: Endpoint,
    /// True when the user asked for one of its streams by name, and for its account if there are several.
    named: bool,
    /// The table of each stream that it feeds; none: not selected.
    pub(super) tables: Vec<Option<Arc<Table>>>,
    /// True when it is read into the next generation of its tables.
    pub(super) refresh: bool,
    /// Endpoints of a source with the same number publish together.
    pub(super) group: usize,
    pub(super) resumed: bool,
    /// Records that were committed before this run and may come again.
    pub(super) boundary: BTreeMap<u64, Seen>,
    /// Slices of all endpoints of the source that are being read.
    busy: Arc<AtomicUsize>,
    progress: Mutex<Progress>,
}

struct Progress {
    /// The committed state with everything that is staged applied to it.
    state: EndpointState,
    queued: VecDeque<SliceId>,
    running: BTreeSet<SliceId>,
    failure: Option<Failure>,
    interrupted: bool,
    complete: bool,
    /// True once it was told how long the requests will take.
    forecast: bool,
    counts: Vec<Counts>,
    /// Records of a parent list that were passed over.
    skipped: u64,
}

/// Records of one stream so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) unchanged: u64,
}

impl EndpointRun {
    /// `busy` counts the slices of all endpoints of the source that are being read.
    pub(super) fn new(
        source: &Source,
        ordinal: usize,
        endpoint: &Endpoint,
        tables: Vec<Option<Arc<Table>>>,
        plan: &Plan,
        busy: &Arc<AtomicUsize>,
    ) -> Self {
        let progress = Progress {
            queued: plan.to.unfinished().map(|(id, _)| id).collect(),
            running: BTreeSet::new(),
            failure: None,
            interrupted: false,
            complete: false,
            forecast: false,
            counts: vec![Counts::default(); tables.len()],
            skipped: 0,
            state: plan.to.clone(),
        };
        Self {
            id: endpoint.id(&source.name),
            connector: Arc::clone(&source.connector),
            ordinal,
            endpoint: endpoint.clone().select(|name| tables.iter().flatten().any(|table| table.stream == name)),
            named: matches!(source.streams, Selection::Named(_)) && endpoint.account().is_none_or(|account| account.named),
            tables,
            refresh: plan.refresh,
            group: plan.group,
            resumed: plan.resumed,
            boundary: plan.to.boundary.clone(),
            busy: Arc::clone(busy),
            progress: Mutex::new(progress),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next slice to read, if another may run.
    pub(super) fn start_slice(&self, limit: usize) -> Option<SliceId> {
        let limit = self.at_most(limit);
        let mut progress = self.progress();
        if progress.running.len() >= limit || progress.failure.is_some() {
            return None;
        }
        // The newest first: what is fresh is what people look at, and it is where work is split off.
        let slice = progress.queued.pop_back()?;
        progress.running.insert(slice);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Some(slice)
    }

    /// True when a slice waits to be read.
    pub(super) fn has_queued(&self) -> bool {
        let progress = self.progress();
        !progress.queued.is_empty() && progress.failure.is_none()
    }

    /// Takes note that a slice is no longer read.
    pub(super) fn end_slice(&self, slice: SliceId, interrupted: bool) {
        let mut progress = self.progress();
        progress.running.remove(&slice);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        progress.interrupted |= interrupted;
    }

    /// True when nothing of it is read any more, nor will be in this run.
    pub(super) fn is_over(&self) -> bool {
        let progress = self.progress();
        progress.running.is_empty() && (progress.queued.is_empty() || progress.failure.is_some())
    }

    /// True when everything was read.
    pub(super) fn is_read(&self) -> bool {
        let progress = self.progress();
        progress.running.is_empty() && progress.queued.is_empty() && progress.failure.is_none() && !progress.interrupted
    }

    /// True when [`complete`](Self::complete) was called.
    pub(super) fn is_complete(&self) -> bool {
        self.progress().complete
    }

    /// True when it ended because this account has no such data.
    pub(super) fn is_unavailable(&self) -> bool {
        let progress = self.progress();
        progress.running.is_empty() && progress.failure.as_ref().is_some_and(|failure| is_unavailable(failure.kind))
    }

    /// True when fewer slices of the source are being read than the limit allows.
    pub(super) fn source_has_room(&self, limit: usize) -> bool {
        self.busy.load(Ordering::Relaxed) < limit
    }

    /// True when another slice of this endpoint could be read at once.
    pub(super) fn has_room(&self, limit: usize) -> bool {
        let progress = self.progress();
        progress.queued.is_empty() && progress.running.len() < self.at_most(limit)
    }

    fn at_most(&self, limit: usize) -> usize {
        self.endpoint().at_most.map_or(limit, |own| own.min(limit))
    }

    pub(super) fn slice(&self, id: SliceId) -> SliceState {
        self.progress().state.slices.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn state(&self) -> EndpointState {
        self.progress().state.clone()
    }

    pub(super) fn slices_left(&self) -> usize {
        self.progress().state.unfinished().count()
    }

    /// Tells, once it can be told, how many requests all slices still need, and until when the limits let them pass.
    pub(super) async fn forecast(&self, observer: &dyn Observer) {
        let (client, slicer) = (self.connector.client(), self.endpoint().slicer());
        let requests = {
            let progress = self.progress();
            let mut left = progress.state.unfinished().map(|(_, slice)| slicer.requests_left(slice));
            if progress.forecast { None } else { left.try_fold(0, |sum, left| Some(sum + left?)) }
        };
        let Some(requests) = requests.filter(|requests| *requests > 0) else { return };
        let call = crate::declared::call(self.endpoint(), &Position::Start);
        let Ok(Some((limit, time))) = client.forecast(&call, requests).await else { return };
        self.progress().forecast = true;
        let until = client.now() + TimeDelta::from_std(time).unwrap_or_default();
        observer.observe(&Event::Planned { endpoint: &self.id, requests, limit: &limit, until });
    }

    /// The end of the time that this run covers, for endpoints cut by time.
    pub(super) fn covered_until(&self) -> Option<DateTime<Utc>> {
        self.progress().state.slices.values().filter_map(|slice| Some(slice.window?.until)).max()
    }

    pub(super) fn count(&self, stream: usize, page: Counts) {
        let counts = &mut self.progress().counts[stream];
        counts.records += page.records;
        counts.bytes += page.bytes;
        counts.unchanged += page.unchanged;
    }

    pub(super) fn counts(&self, stream: usize) -> Counts {
        self.progress().counts[stream]
    }

    /// Takes note of parents that were passed over, because what belongs to them was refused.
    pub(super) fn skip(&self, parents: u64) {
        self.progress().skipped += parents;
    }

    pub(super) fn skipped(&self) -> u64 {
        self.progress().skipped
    }

    /// Applies a page's advance to the staged state, and returns the change to commit.
    pub(super) fn advance(&self, slice: SliceId, advance: &Advance, page: PageMark) -> Result<Change, Error> {
        let to = match advance {
            Advance::Next(at) | Advance::CaughtUp(at) => Position::At(at.clone()),
            Advance::End => Position::End,
        };
        let mut progress = self.progress();
        let from = progress.state.slices.get(&slice).map(|slice| slice.position.clone()).unwrap_or_default();
        let plan = progress.state.plan;
        let change = Change::Advance { endpoint: self.id.clone(), plan, slice, from, to, reached: page.reached, seen: page.seen };
        progress.state.apply(&change)?;
        Ok(change)
    }

    /// Changes the plan, and returns the change to commit. A slice that is added waits to be read.
    pub(super) fn replan(&self, slice: SliceId, kept: SliceState, added: Option<SliceState>) -> Change {
        let mut progress = self.progress();
        let from = progress.state.clone();
        progress.state.plan += 1;
        progress.state.slices.insert(slice, kept);
        if let Some(added) = added {
            let id = progress.state.add_slice(added);
            progress.queued.push_back(id);
        }
        Change::Replace { endpoint: self.id.clone(), from, to: progress.state.clone() }
    }

    /// Marks everything as read. True unless it was so before.
    pub(super) fn complete(&self) -> bool {
        !std::mem::replace(&mut self.progress().complete, true)
    }

    /// The change to commit when its tables are complete, with or without it.
    pub(super) fn finish(&self) -> Change {
        let mut progress = self.progress();
        let to = if progress.complete { finished(&self.endpoint, &progress.state) } else { forgotten(&progress.state) };
        let from = std::mem::replace(&mut progress.state, to.clone());
        Change::Replace { endpoint: self.id.clone(), from, to }
    }

    /// Takes note that it is not to be read in this run. An account that was asked for is then missing, whatever its streams.
    pub(super) fn refuse(&mut self, error: &Error) {
        self.named |= self.endpoint.account().is_some_and(|account| account.named);
        self.fail(Failure::from(error));
    }

    /// Takes note of a failure; the first one counts.
    pub(super) fn fail(&self, failure: Failure) {
        self.progress().failure.get_or_insert(failure);
    }

    /// True when no further page is wanted.
    pub(super) fn stopped(&self) -> bool {
        self.progress().failure.is_some()
    }

    /// How it ended. What was read to the end but could not be committed is not done.
    pub(super) fn outcome(&self, committed: bool) -> Outcome {
        let progress = self.progress();
        match &progress.failure {
            _ if committed && progress.complete => Outcome::Done,
            Some(failure) if !self.named && is_unavailable(failure.kind) => {
                Outcome::Unavailable { reason: failure.message.clone(), help: failure.help.clone() }
            }
            Some(failure) => Outcome::Failed { error: failure.clone() },
            None if progress.complete => Outcome::Done,
            None => Outcome::Interrupted,
        }
    }
}

/// Failures that mean that this account has no such data, rather than that reading it went wrong.
fn is_unavailable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// What a page adds to its slice's progress besides its position.
#[derive(Debug, Default)]
pub(super) struct PageMark {
    /// Cursor value of its last record.
    pub(super) reached: Option<DateTime<Utc>>,
    /// Boundary entries to remember.
    pub(super) seen: Vec<(u64, Seen)>,
}
