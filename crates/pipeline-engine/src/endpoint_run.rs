//! One endpoint during a run: its staged state, the slices that wait, and how it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::state::{
    CheckpointDelta, EndpointId, EndpointState, GAP_CAPACITY, Position, Seen, SliceId, SliceState,
};
use pipeline_core::{Advance, Endpoint, Error, ErrorKind, Event, Observer, Session};

use self::planned::Planned;
use self::units::Units;
use super::budget::{ErrorBudget, Moment, Rejections, Share};
use super::contract::DroppedValues;
use super::dedup::{Counts, PageMark};
use super::plan::{EndpointPlan, finished, forgotten};
use super::summary::Failure;
use super::{Selection, Source};
use crate::destination::Table;

mod judged;
mod outcome;
mod planned;
mod refused;
mod units;

/// An endpoint that is being read.
pub(super) struct EndpointRun {
    pub(super) id: EndpointId,
    pub(super) session: Arc<dyn Session>,
    /// Number of the endpoint in the run, for figures.
    pub(super) ordinal: usize,
    /// The endpoint, told which of its streams are wanted.
    endpoint: Endpoint,
    /// True when the user asked for one of its streams by name, and for its account if there are
    /// several.
    named: bool,
    /// The table of each stream that it feeds; none: not selected.
    pub(super) tables: Vec<Option<Arc<Table>>>,
    /// What each stream may have rejected.
    shares: Vec<Share>,
    /// True when it is read into the next generation of its tables.
    pub(super) refresh: bool,
    /// Endpoints of a source with the same number publish together.
    pub(super) group: usize,
    pub(super) resumed: bool,
    /// Records that were committed before this run and may come again.
    pub(super) boundary: BTreeMap<u64, Seen>,
    /// When it was planned.
    planned: Planned,
    /// Slices of all endpoints of the source that are being read.
    busy: Arc<AtomicUsize>,
    progress: Mutex<Progress>,
    /// Values that contracts dropped.
    dropped: Mutex<DroppedValues>,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "none of these facts follows from another"
)]
struct Progress {
    /// The committed state with everything that is staged applied to it.
    state: EndpointState,
    queued: VecDeque<SliceId>,
    /// Slices that could not be read and are units of their own.
    units: Units,
    running: BTreeSet<SliceId>,
    failure: Option<Failure>,
    interrupted: bool,
    complete: bool,
    /// True once it was told how long the requests will take.
    forecast: bool,
    counts: Vec<Counts>,
    /// Records that cannot be rows, by stream.
    rejections: Vec<Rejections>,
    /// Slices being read whose last page is staged.
    ended: BTreeSet<SliceId>,
    /// Records of a parent list that were passed over.
    skipped: u64,
    /// The destination has refused too many of its rows.
    refused: bool,
}

impl Progress {
    /// Changes the state as a new plan.
    fn replan(
        &mut self,
        endpoint: &EndpointId,
        change: impl FnOnce(&mut EndpointState),
    ) -> CheckpointDelta {
        let from = self.state.clone();
        self.state.plan += 1;
        change(&mut self.state);
        CheckpointDelta::Replace {
            endpoint: endpoint.clone(),
            from,
            to: self.state.clone(),
        }
    }
}

impl EndpointRun {
    /// `busy` counts the slices of all endpoints of the source that are being read.
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, with what the source, its run and the plan know of the endpoint"
    )]
    pub(super) fn new(
        source: &Source,
        session: &Arc<dyn Session>,
        ordinal: usize,
        endpoint: &Endpoint,
        tables: Vec<Option<Arc<Table>>>,
        plan: &EndpointPlan,
        busy: &Arc<AtomicUsize>,
        budget: &ErrorBudget,
    ) -> Self {
        let client = session.client();
        let now = client.now();
        let due = plan
            .to
            .gaps
            .iter()
            .filter(|(_, gap)| gap.is_readable() && gap.is_due(now))
            .map(|(id, _)| *id);
        let progress = Progress {
            // The last come first: what is missing before what is new.
            queued: plan.to.unfinished().map(|(id, _)| id).chain(due).collect(),
            units: Units::default(),
            running: BTreeSet::new(),
            failure: None,
            interrupted: false,
            complete: false,
            forecast: false,
            counts: vec![Counts::default(); tables.len()],
            rejections: vec![Rejections::default(); tables.len()],
            ended: BTreeSet::new(),
            skipped: 0,
            refused: false,
            state: plan.to.clone(),
        };
        Self {
            id: endpoint.id(&source.name),
            session: Arc::clone(session),
            ordinal,
            endpoint: endpoint
                .clone()
                .select(|name| tables.iter().flatten().any(|table| table.stream == name)),
            named: matches!(source.streams, Selection::Named(_))
                && !endpoint.is_found()
                && endpoint.account().is_none_or(|account| account.named),
            shares: endpoint
                .streams()
                .map(|stream| budget.of(stream.name()))
                .collect(),
            tables,
            refresh: plan.refresh,
            group: plan.group,
            resumed: plan.resumed,
            boundary: plan.to.boundary.clone(),
            planned: Planned::by(client),
            busy: Arc::clone(busy),
            progress: Mutex::new(progress),
            dropped: Mutex::default(),
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
        // The newest first: what is fresh is what people look at, and it is where work is split
        // off.
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
        progress.ended.remove(&slice);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        progress.interrupted |= interrupted;
    }

    /// True when nothing of it is read any more, nor will be in this run.
    pub(super) fn is_over(&self) -> bool {
        let progress = self.progress();
        progress.running.is_empty() && (progress.queued.is_empty() || progress.failure.is_some())
    }

    /// True when the vendor answered for it in this run.
    pub(super) fn answered(&self) -> bool {
        let has_records = self
            .progress()
            .counts
            .iter()
            .any(|counts| counts.records > 0);
        has_records || self.session.client().has_answered(&self.id.endpoint)
    }

    /// True when everything was read.
    pub(super) fn is_read(&self) -> bool {
        let progress = self.progress();
        progress.running.is_empty()
            && progress.queued.is_empty()
            && progress.failure.is_none()
            && !progress.interrupted
    }

    /// True when [`complete`](Self::complete) was called.
    pub(super) fn is_complete(&self) -> bool {
        self.progress().complete
    }

    /// True when it ended because this account has no such data.
    pub(super) fn is_unavailable(&self) -> bool {
        let progress = self.progress();
        progress.running.is_empty() && progress.is_withheld(self.session.client())
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
        self.endpoint()
            .most_slices()
            .map_or(limit, |own| own.min(limit))
    }

    pub(super) fn slice(&self, id: SliceId) -> SliceState {
        self.progress().state.slice(id).cloned().unwrap_or_default()
    }

    pub(super) fn state(&self) -> EndpointState {
        self.progress().state.clone()
    }

    /// Slices that wait to be read.
    pub(super) fn slices_left(&self) -> usize {
        self.progress().queued.len()
    }

    /// Tells, once it can be told, how many requests all slices still need, and until when the
    /// limits let them pass.
    pub(super) async fn forecast(&self, observer: &dyn Observer) {
        let (client, slicer) = (self.session.client(), self.endpoint().slicer());
        let requests = {
            let progress = self.progress();
            let mut left = progress
                .state
                .unfinished()
                .map(|(_, slice)| slicer.requests_left(slice));
            if progress.forecast {
                None
            } else {
                left.try_fold(0, |sum, left| Some(sum + left?))
            }
        };
        let Some(requests) = requests.filter(|requests| *requests > 0) else {
            return;
        };
        let call = pipeline_core::declarative::call(self.endpoint(), &Position::Start);
        let Ok(Some((limit, time))) = client.forecast(&call, requests).await else {
            return;
        };
        self.progress().forecast = true;
        let until = client.now() + TimeDelta::from_std(time).unwrap_or_default();
        observer.observe(&Event::Planned {
            endpoint: &self.id,
            requests,
            limit: &limit,
            until,
        });
    }

    /// The end of the time that this run surely covers, for endpoints cut by time.
    pub(super) fn covered_until(&self) -> Option<DateTime<Utc>> {
        let progress = self.progress();
        let end = progress
            .state
            .slices
            .values()
            .filter_map(|slice| Some(slice.window?.until))
            .max()?;
        Some(
            progress
                .state
                .coverage
                .and_then(|coverage| coverage.until)
                .map_or(end, |until| end.min(until)),
        )
    }

    /// Names of the streams that it is read for.
    fn streams(&self) -> BTreeSet<String> {
        self.tables
            .iter()
            .flatten()
            .map(|table| table.stream.clone())
            .collect()
    }

    /// Takes note of parents that were passed over, because what belongs to them was refused.
    pub(super) fn skip(&self, parents: u64) {
        self.progress().skipped += parents;
    }

    pub(super) fn skipped(&self) -> u64 {
        self.progress().skipped
    }

    /// Counts values of a stream that its contract drops.
    pub(super) fn drop_value(&self, stream: usize, field: &str, records: u64) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.add(stream, field, records);
    }

    /// Fields of a stream whose values its contract dropped, and of how many records.
    pub(super) fn dropped(&self, stream: usize) -> Vec<(String, u64)> {
        let dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.of(stream)
    }

    /// Applies a page's advance to the staged state, and returns the change to commit.
    pub(super) fn advance(
        &self,
        slice: SliceId,
        advance: &Advance,
        page: PageMark,
    ) -> Result<CheckpointDelta, Error> {
        let to = match advance {
            Advance::Next(at) | Advance::CaughtUp(at) => Position::At(at.clone()),
            Advance::End => Position::End,
        };
        let now = self.session.client().now();
        let mut progress = self.progress();
        let from = progress
            .state
            .slice(slice)
            .map(|slice| slice.position.clone())
            .unwrap_or_default();
        let plan = progress.state.plan;
        let PageMark {
            watermark,
            newest,
            seen,
            gaps,
        } = page;
        if matches!(advance, Advance::End | Advance::CaughtUp(_)) {
            progress.ended.insert(slice);
        }
        let is_last = progress.queued.is_empty() && progress.running.is_subset(&progress.ended);
        self.judge(
            &progress,
            if is_last {
                Moment::End
            } else {
                Moment::Underway
            },
        )?;
        let doubted: Vec<String> = gaps
            .iter()
            .filter(|missed| missed.in_doubt)
            .map(|missed| missed.name.clone())
            .collect();
        let gaps = gaps
            .into_iter()
            .map(|missed| missed.into_gap(now))
            .collect();
        let known: BTreeSet<SliceId> = progress.state.gaps.keys().copied().collect();
        let change = CheckpointDelta::Advance {
            endpoint: self.id.clone(),
            plan,
            slice,
            from,
            to,
            watermark,
            newest,
            seen,
            gaps,
        };
        progress.state.apply(&change)?;
        if progress.state.gaps.len() > GAP_CAPACITY {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("more than {GAP_CAPACITY} units of the endpoint cannot be read"),
            )
            .with_help("see `pipeline state gaps` for the reasons"));
        }
        progress.ask_once_more(&doubted, &known);
        Ok(change)
    }

    /// Changes the plan, and returns the change to commit. A slice that is added waits to be read.
    pub(super) fn replan(
        &self,
        slice: SliceId,
        kept: SliceState,
        added: Option<SliceState>,
    ) -> CheckpointDelta {
        let mut progress = self.progress();
        let mut id = None;
        let change = progress.replan(&self.id, |state| {
            if let Some(slice) = state.slice_mut(slice) {
                *slice = kept;
            }
            id = added.map(|added| state.add_slice(added));
        });
        progress.queued.extend(id);
        change
    }

    /// Marks everything as read. True unless it was so before.
    pub(super) fn complete(&self) -> bool {
        !std::mem::replace(&mut self.progress().complete, true)
    }

    /// The change to commit when its tables are complete, with or without it.
    pub(super) fn finish(&self) -> CheckpointDelta {
        let mut progress = self.progress();
        let mut to = if progress.complete {
            EndpointState {
                streams: self.streams(),
                ..finished(&self.endpoint, &progress.state)
            }
        } else {
            forgotten(&progress.state)
        };
        // An answer may have told the vendor's time only after the plan was made.
        let earlier = self.planned.at() + self.session.client().ahead().min(TimeDelta::zero());
        to.vouch(self.endpoint.slicer().end(earlier));
        let from = std::mem::replace(&mut progress.state, to.clone());
        CheckpointDelta::Replace {
            endpoint: self.id.clone(),
            from,
            to,
        }
    }

    /// Takes note that it is not to be read in this run. An account that was asked for is then
    /// missing, whatever its streams.
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
}
