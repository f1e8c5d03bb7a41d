//! Units of an endpoint that could not be read, and what their failures mean.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use pipeline_core::gap::{Missed, Tally, is_of_unit};
use pipeline_core::state::{CheckpointDelta, EndpointId, Gap, Position, SliceId, SliceState};
use pipeline_core::{Error, ErrorStatus};

use super::{EndpointRun, Progress};
use crate::destination::Keep;

/// What the failures of slices mean that are units of their own.
#[derive(Default)]
pub(super) struct Units {
    pub(super) tally: Tally,
    /// Slices that failed and are not decided upon, by the names of their units.
    pub(super) set_aside: BTreeMap<String, SliceId>,
    /// A slice that could be read, as it was planned.
    pub(super) readable: Option<SliceState>,
    /// Gaps of this run that an outage could explain: they are asked for once more when all else is
    /// read.
    pub(super) once_more: BTreeSet<SliceId>,
    /// Gaps, one after the other, that failed in a way that an outage could explain.
    pub(super) failures: u32,
}

/// Gaps in a row that fail temporarily, after which no other is tried in the run.
const MOST_FAILURES: u32 = 3;

impl Progress {
    /// Makes gaps of slices that were set aside.
    pub(super) fn pass_over(
        &mut self,
        endpoint: &EndpointId,
        missed: Vec<Missed>,
        now: DateTime<Utc>,
    ) -> Option<CheckpointDelta> {
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
    pub(super) fn ask_once_more(&mut self, names: &[String], known: &BTreeSet<SliceId>) {
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
    /// Takes note that a slice could not be read. One that is a unit of its own is passed over,
    /// once it is clear that it is the unit which fails; a gap stays one. `answered`: the vendor
    /// has answered for another unit since. Returns the change to commit, if there is any.
    ///
    /// # Errors
    /// The error itself, when it is the endpoint's.
    pub(crate) fn pass_over(
        &self,
        id: SliceId,
        error: Error,
        answered: bool,
    ) -> Result<Option<CheckpointDelta>, Error> {
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
    pub(crate) fn slice_read(&self, id: SliceId) -> Option<CheckpointDelta> {
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
    pub(crate) async fn is_answered(&self, id: SliceId, error: &Error) -> bool {
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
    pub(crate) fn conclude(&self) -> Result<Option<CheckpointDelta>, Error> {
        let now = self.session.client().now();
        let mut progress = self.progress();
        let missed = progress.units.tally.conclude()?;
        Ok(progress.pass_over(&self.id, missed, now))
    }

    /// Names of the units that are missing.
    pub(crate) fn gap_names(&self) -> BTreeSet<String> {
        self.progress()
            .state
            .gaps
            .values()
            .map(|gap| gap.name.clone())
            .collect()
    }

    /// True for a slice that is a gap's.
    pub(crate) fn is_gap(&self, id: SliceId) -> bool {
        self.progress().state.gaps.contains_key(&id)
    }

    /// What earlier syncs stored of units that are missing in the generation which is published,
    /// and of an account that could not be read at all: nobody has said that it is gone.
    pub(crate) fn kept_rows(&self) -> Vec<Keep> {
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
}
