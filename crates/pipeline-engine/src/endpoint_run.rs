//! One endpoint during a run: its staged state, the slices that wait, and how it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use pipeline_core::gap::{Missed, Tally, is_of_unit};
use pipeline_core::state::{
    Change, EndpointId, EndpointState, GAP_CAPACITY, Gap, Position, Seen, SliceId, SliceState,
};
use pipeline_core::{Advance, Endpoint, Error, ErrorKind, ErrorStatus, Event, Observer, Session};

use self::planned::Planned;
use super::budget::{ErrorBudget, Moment, Rejections, Share};
use super::dedup::{Counts, PageMark};
use super::plan::{EndpointPlan, finished, forgotten};
use super::staged::Late;
use super::summary::Failure;
use super::{Selection, Source};
use crate::destination::{Keep, Table};

mod outcome;
mod planned;
mod refused;

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

/// What is known of a stream's records.
struct Judged<'a> {
    table: &'a Table,
    share: Share,
    records: u64,
    rejections: &'a Rejections,
}

/// What the failures of slices mean that are units of their own.
#[derive(Default)]
struct Units {
    tally: Tally,
    /// Slices that failed and are not decided upon, by the names of their units.
    set_aside: BTreeMap<String, SliceId>,
    /// A slice that could be read, as it was planned.
    readable: Option<SliceState>,
    /// Gaps of this run that an outage could explain: they are asked for once more when all else is
    /// read.
    once_more: BTreeSet<SliceId>,
    /// Gaps, one after the other, that failed in a way that an outage could explain.
    failures: u32,
}

/// Gaps in a row that fail temporarily, after which no other is tried in the run.
const MOST_FAILURES: u32 = 3;

impl Progress {
    /// Changes the state as a new plan.
    fn replan(&mut self, endpoint: &EndpointId, change: impl FnOnce(&mut EndpointState)) -> Change {
        let from = self.state.clone();
        self.state.plan += 1;
        change(&mut self.state);
        Change::Replace {
            endpoint: endpoint.clone(),
            from,
            to: self.state.clone(),
        }
    }

    /// Makes gaps of slices that were set aside.
    fn pass_over(
        &mut self,
        endpoint: &EndpointId,
        missed: Vec<Missed>,
        now: DateTime<Utc>,
    ) -> Option<Change> {
        let units: Vec<(SliceId, Missed)> = missed
            .into_iter()
            .filter_map(|missed| Some((self.units.set_aside.remove(&missed.name)?, missed)))
            .collect();
        (!units.is_empty()).then(|| {
            self.replan(endpoint, |state| {
                for (id, missed) in units {
                    state.slices.remove(&id);
                    state.add_gap(missed.into_gap(now));
                }
            })
        })
    }

    /// Puts gaps that are not known yet, and that an outage could explain, behind everything that
    /// is to be read.
    fn ask_once_more(&mut self, names: &[String], known: &BTreeSet<SliceId>) {
        let is_meant = |(id, gap): &(&SliceId, &Gap)| {
            !known.contains(id) && gap.is_readable() && names.contains(&gap.name)
        };
        for id in self.state.gaps.iter().filter(is_meant).map(|(id, _)| *id) {
            self.units.once_more.insert(id);
            self.queued.push_front(id);
        }
    }

    /// Leaves the gaps that wait alone when too many in a row have failed: the vendor may be down.
    fn give_up_gaps(&mut self, is_temporary: bool) {
        self.units.failures = if is_temporary {
            self.units.failures + 1
        } else {
            0
        };
        if self.units.failures >= MOST_FAILURES {
            self.queued.retain(|id| !self.state.gaps.contains_key(id));
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

    pub(super) fn count(&self, stream: usize, page: Counts) {
        let counts = &mut self.progress().counts[stream];
        counts.records += page.records;
        counts.bytes += page.bytes;
        counts.unchanged += page.unchanged;
    }

    pub(super) fn counts(&self, stream: usize) -> Counts {
        self.progress().counts[stream]
    }

    /// Counts records of streams that cannot be rows.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when there are more of them than a stream may have.
    pub(super) fn reject(&self, page: &[Rejections]) -> Result<(), Error> {
        let mut progress = self.progress();
        progress
            .rejections
            .iter_mut()
            .zip(page)
            .for_each(|(all, page)| all.join(page));
        self.judge(&progress, Moment::Underway)
    }

    /// Counts records that were taken for rows, as [`reject`](Self::reject) does.
    pub(super) fn reject_late(&self, late: &[Late]) -> Result<(), Error> {
        let mut page = vec![Rejections::default(); self.tables.len()];
        for Late { table, reason } in late {
            let stream = self
                .tables
                .iter()
                .position(|own| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, table)));
            if let Some(stream) = stream {
                page[stream].add(reason);
            }
        }
        if late.is_empty() {
            Ok(())
        } else {
            self.reject(&page)
        }
    }

    /// Judges what was read, when nothing is left to be read.
    ///
    /// # Errors
    /// As [`reject`](Self::reject), and when the vendor's clock hid what is newer.
    pub(super) fn judge_all(&self) -> Result<(), Error> {
        self.judge(&self.progress(), Moment::End)?;
        self.planned.check(self.endpoint.slicer())
    }

    fn judge(&self, progress: &Progress, moment: Moment) -> Result<(), Error> {
        self.judged(progress).try_for_each(
            |Judged {
                 table,
                 share,
                 records,
                 rejections,
             }| {
                rejections.check(&table.stream, share, records, self.refresh, moment)
            },
        )
    }

    fn judged<'a>(&'a self, progress: &'a Progress) -> impl Iterator<Item = Judged<'a>> {
        let streams = self
            .tables
            .iter()
            .zip(&self.shares)
            .zip(progress.counts.iter().zip(&progress.rejections));
        streams.filter_map(|((table, share), (counts, rejections))| {
            Some(Judged {
                table: table.as_ref()?,
                share: *share,
                records: counts.records,
                rejections,
            })
        })
    }

    /// While a refresh has more records rejected than it may publish, or ends too early by a wrong
    /// clock, it is begun anew by the next run: that would not know of it, and could be complete
    /// where it goes on. Returns the change to commit, if it is one.
    pub(super) fn doubt(&self) -> Option<Change> {
        let mut progress = self.progress();
        let is_above = |Judged {
                            share,
                            records,
                            rejections,
                            ..
                        }: Judged<'_>| rejections.are_above(share, records);
        let is_doubtful = progress.refused
            || self.planned.check(self.endpoint.slicer()).is_err()
            || self.judged(&progress).any(is_above);
        let is_change =
            progress.state.refreshing && progress.state.streams.is_empty() != is_doubtful;
        // What the next generation holds of no stream is of no use to the next run.
        let streams = if is_doubtful {
            BTreeSet::new()
        } else {
            self.streams()
        };
        is_change.then(|| progress.replan(&self.id, |state| state.streams = streams))
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

    /// Applies a page's advance to the staged state, and returns the change to commit.
    pub(super) fn advance(
        &self,
        slice: SliceId,
        advance: &Advance,
        page: PageMark,
    ) -> Result<Change, Error> {
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
            reached,
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
        let change = Change::Advance {
            endpoint: self.id.clone(),
            plan,
            slice,
            from,
            to,
            reached,
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

    /// Takes note that a slice could not be read. One that is a unit of its own is passed over,
    /// once it is clear that it is the unit which fails; a gap stays one. `answered`: the vendor
    /// has answered for another unit since. Returns the change to commit, if there is any.
    ///
    /// # Errors
    /// The error itself, when it is the endpoint's.
    pub(super) fn pass_over(
        &self,
        id: SliceId,
        error: Error,
        answered: bool,
    ) -> Result<Option<Change>, Error> {
        if !is_of_unit(&error) {
            return Err(error);
        }
        let now = self.session.client().now();
        let mut progress = self.progress();
        if let Some(gap) = progress.state.gaps.get(&id).cloned() {
            // Asked for once more in the run that passed it over, it has not been tried again.
            let attempts = gap
                .attempts
                .saturating_add(u32::from(!progress.units.once_more.remove(&id)));
            let change = progress.replan(&self.id, |state| {
                state.gaps.insert(
                    id,
                    Gap {
                        reason: error.to_string(),
                        tried: now,
                        attempts,
                        rejected: false,
                        ..gap
                    },
                );
            });
            progress.give_up_gaps(error.status() != ErrorStatus::Permanent);
            return Ok(Some(change));
        }
        let unit = progress
            .state
            .slices
            .get(&id)
            .and_then(|slice| self.endpoint.slicer().unit(slice));
        let Some(missed) = unit else {
            return Err(error);
        };
        progress.units.set_aside.insert(missed.name.clone(), id);
        progress.units.tally.failed(missed, error)?;
        if answered {
            progress.units.tally.answered();
        }
        let missed = progress.units.tally.take();
        Ok(progress.pass_over(&self.id, missed, now))
    }

    /// Takes note that a slice was read: what failed before it failed by itself. Returns the change
    /// to commit, if there is any.
    pub(super) fn slice_read(&self, id: SliceId) -> Option<Change> {
        let now = self.session.client().now();
        let mut progress = self.progress();
        let read = progress
            .state
            .slices
            .get(&id)
            .filter(|slice| self.endpoint.slicer().unit(slice).is_some());
        progress.units.readable = read
            .map(|slice| SliceState {
                position: Position::Start,
                ..slice.clone()
            })
            .or(progress.units.readable.take());
        progress.units.failures = 0;
        progress.units.tally.succeeded();
        let missed = progress.units.tally.take();
        progress.pass_over(&self.id, missed, now)
    }

    /// Asks again for a unit that could be read, after another one failed in a way that an outage
    /// could explain. True when the vendor answers.
    pub(super) async fn is_answered(&self, id: SliceId, error: &Error) -> bool {
        let readable = {
            let progress = self.progress();
            let is_unit = progress
                .state
                .slices
                .get(&id)
                .is_some_and(|slice| self.endpoint.slicer().unit(slice).is_some());
            progress.units.readable.clone().filter(|_| {
                is_unit && is_of_unit(error) && error.status() != ErrorStatus::Permanent
            })
        };
        match readable {
            Some(slice) => self
                .session
                .read(&self.endpoint, slice)
                .try_next()
                .await
                .is_ok(),
            None => false,
        }
    }

    /// Decides upon the slices that were set aside, when there is nothing else to read.
    ///
    /// # Errors
    /// When they are all that there is, or the last of them failed in a way that an outage could
    /// explain.
    pub(super) fn conclude(&self) -> Result<Option<Change>, Error> {
        let now = self.session.client().now();
        let mut progress = self.progress();
        let missed = progress.units.tally.conclude()?;
        Ok(progress.pass_over(&self.id, missed, now))
    }

    /// Changes the plan, and returns the change to commit. A slice that is added waits to be read.
    pub(super) fn replan(
        &self,
        slice: SliceId,
        kept: SliceState,
        added: Option<SliceState>,
    ) -> Change {
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

    /// Names of the units that are missing.
    pub(super) fn gap_names(&self) -> BTreeSet<String> {
        self.progress()
            .state
            .gaps
            .values()
            .map(|gap| gap.name.clone())
            .collect()
    }

    /// True for a slice that is a gap's.
    pub(super) fn is_gap(&self, id: SliceId) -> bool {
        self.progress().state.gaps.contains_key(&id)
    }

    /// Marks everything as read. True unless it was so before.
    pub(super) fn complete(&self) -> bool {
        !std::mem::replace(&mut self.progress().complete, true)
    }

    /// The change to commit when its tables are complete, with or without it.
    pub(super) fn finish(&self) -> Change {
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
        Change::Replace {
            endpoint: self.id.clone(),
            from,
            to,
        }
    }

    /// What earlier syncs stored of units that are missing in the generation which is published,
    /// and of an account that could not be read at all: nobody has said that it is gone.
    pub(super) fn kept_rows(&self) -> Vec<Keep> {
        let progress = self.progress();
        let account = self
            .endpoint
            .account_value()
            .and_then(|(column, id)| Some((column.to_owned(), serde_json::to_string(id).ok()?)));
        let whole = account
            .clone()
            .filter(|_| !progress.complete)
            .map(|account| BTreeMap::from([account]));
        let of_gap = |gap: &Gap| {
            gap.keep
                .clone()
                .into_iter()
                .chain(account.clone())
                .collect()
        };
        let gaps = progress
            .state
            .gaps
            .values()
            .filter(|gap| !gap.keep.is_empty())
            .map(of_gap);
        let rows: Vec<BTreeMap<String, String>> = whole.into_iter().chain(gaps).collect();
        let tables = self.tables.iter().flatten();
        tables
            .flat_map(|table| {
                rows.iter().map(|values| Keep {
                    table: table.id(),
                    values: values.clone(),
                })
            })
            .collect()
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
