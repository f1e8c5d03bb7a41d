//! Which changes of checkpoints may be committed: those of an endpoint whose rows the destination
//! refuses, or a check of the user's stops, may not, so that the next sync reads these rows again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline_core::state::{CheckpointDelta, EndpointId};
use pipeline_core::{Error, Event};

use super::Job;
use super::budget::Rejections;
use super::endpoint_run::EndpointRun;
use crate::destination::{Keep, Table, TableId};

/// What a commit makes true, besides its rows.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) changes: Vec<CheckpointDelta>,
    pub(super) finished: Vec<EndpointId>,
    pub(super) publish: Vec<TableId>,
    pub(super) keep: Vec<Keep>,
}

/// The endpoints of a run, and those of them that go no further.
#[derive(Default)]
pub(super) struct Held {
    runs: Vec<Arc<EndpointRun>>,
    /// By the endpoint's number in the run.
    endpoints: BTreeSet<usize>,
    /// Those of them that a check has stopped, whose rows are not written either.
    stopped: BTreeSet<usize>,
    /// Refreshes that are to begin anew unless they end well, and have not said so yet.
    doubtful: Vec<Arc<EndpointRun>>,
}

impl Held {
    pub(super) fn new(runs: &[Arc<EndpointRun>]) -> Self {
        Self {
            runs: runs.to_vec(),
            ..Self::default()
        }
    }

    /// Holds an endpoint when the destination has refused too many of its rows. One whose rows have
    /// no key goes on: to read a page again would store its other rows twice.
    pub(super) fn judge(
        &mut self,
        job: &Job,
        endpoint: usize,
        refused: &BTreeMap<(usize, TableId), Rejections>,
    ) {
        let Some(run) = self.runs.get(endpoint).filter(|run| run.is_keyed()) else {
            return;
        };
        let refused = |table: &Table| refused.get(&(endpoint, table.id()));
        if run.doubt_refused(refused) {
            self.doubtful.push(Arc::clone(run));
        }
        let Err(error) = run.judge_refused(refused, true) else {
            return;
        };
        if self.endpoints.insert(endpoint) {
            run.stop_before_refused(&error);
            job.observer.observe(&Event::EndpointFinished {
                endpoint: &run.id,
                error: Some(&error),
            });
        }
    }

    /// Stops an endpoint in front of rows that a check does not let pass. Neither these rows nor
    /// others of the same pages are written, so this is exact for rows without a key as well.
    pub(super) fn stop(&mut self, job: &Job, endpoint: usize, error: &Error) {
        let Some(run) = self.runs.get(endpoint) else {
            return;
        };
        if !self.stopped.insert(endpoint) {
            return;
        }
        self.endpoints.insert(endpoint);
        if run.refresh {
            self.doubtful.push(Arc::clone(run));
        }
        run.stop_before_refused(error);
        job.observer.observe(&Event::EndpointFinished {
            endpoint: &run.id,
            error: Some(error),
        });
    }

    /// The endpoints that a check has stopped.
    pub(super) fn stopped(&self) -> &BTreeSet<usize> {
        &self.stopped
    }

    /// Refreshes whose doubt is to be committed together with the rows that give rise to it: a run
    /// that is killed after that commit leaves nothing else for the next one.
    pub(super) fn take_doubtful(&mut self) -> Vec<Arc<EndpointRun>> {
        std::mem::take(&mut self.doubtful)
    }

    /// Leaves out what may not be committed. What is read into the next generation of a table may
    /// be, except that the generation is not published: the next run begins it anew.
    pub(super) fn filter(&self, effects: &mut Effects) {
        let held = || self.endpoints.iter().map(|index| &self.runs[*index]);
        for run in held().filter(|run| !run.refresh) {
            effects
                .changes
                .retain(|change| *change.endpoint() != run.id);
            effects.finished.retain(|id| *id != run.id);
        }
        for run in held().filter(|run| run.refresh) {
            let group: Vec<_> = self
                .runs
                .iter()
                .filter(|other| is_of_group(other, run))
                .collect();
            for member in &group {
                if effects.finished.contains(&member.id) {
                    unfinish(member, &mut effects.changes);
                }
            }
            let tables: BTreeSet<TableId> = group
                .iter()
                .flat_map(|member| member.tables.iter().flatten())
                .map(|table| table.id())
                .collect();
            effects
                .finished
                .retain(|id| group.iter().all(|member| member.id != *id));
            effects.publish.retain(|table| !tables.contains(table));
            effects.keep.retain(|keep| !tables.contains(&keep.table));
        }
    }
}

/// True for an endpoint that publishes its tables together with another one.
fn is_of_group(run: &EndpointRun, other: &EndpointRun) -> bool {
    run.refresh && run.group == other.group && run.id.source == other.id.source
}

/// Removes the last change of an endpoint, with which it was finished.
fn unfinish(run: &EndpointRun, changes: &mut Vec<CheckpointDelta>) {
    let last = changes
        .iter()
        .rposition(|change| *change.endpoint() == run.id);
    if let Some(CheckpointDelta::Replace { from, .. }) = last.map(|last| changes.remove(last)) {
        run.return_to(from);
    }
}
