//! What is to be read: from the committed state to the state that a run starts with. Pure.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::destination::Generation;
use crate::endpoint::{Endpoint, SyncMode};
use crate::slice::TimeRange;
use crate::state::{BOUNDARY_CAPACITY, EndpointState, Position};

/// The start of a run for one endpoint.
#[derive(Debug)]
pub(super) struct Plan {
    /// The committed state.
    pub(super) from: EndpointState,
    /// The state with everything to be read as slices.
    pub(super) to: EndpointState,
    /// Where rows go.
    pub(super) generation: Generation,
    /// True when rows of an abandoned refresh must go first.
    pub(super) discard: bool,
    /// True when an interrupted plan goes on.
    pub(super) resumed: bool,
}

impl Plan {
    /// Nothing is planned, because nothing can be read.
    pub(super) fn unchanged(stored: EndpointState) -> Self {
        let generation = if stored.refreshing { Generation::Next } else { Generation::Current };
        Self { from: stored.clone(), to: stored, generation, discard: false, resumed: false }
    }
}

/// What the user wants of an endpoint.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Names of the selected streams that the endpoint feeds.
    pub(super) streams: BTreeSet<String>,
    /// The time to cover.
    pub(super) range: TimeRange,
    /// Read everything again.
    pub(super) full_refresh: bool,
}

/// Plans one endpoint.
///
/// * An interrupted refresh goes on where it was.
/// * A refresh starts when one is asked for, when the endpoint knows no other way, and when a stream was selected that
///   the committed data does not hold: half a table would be silent loss.
/// * Otherwise unfinished slices are kept, and what is new since the last plan is added.
pub(super) fn plan(endpoint: &Endpoint, stored: EndpointState, wanted: &Wanted, now: DateTime<Utc>) -> Plan {
    let complete = stored.streams.is_superset(&wanted.streams);
    if stored.refreshing && complete {
        return Plan { from: stored.clone(), to: stored, generation: Generation::Next, discard: false, resumed: true };
    }
    let untouched = stored == EndpointState::default();
    if wanted.full_refresh || endpoint.mode() == SyncMode::FullRefresh || !(untouched || complete) {
        let plan = stored.plan + 1;
        let mut to = EndpointState { plan, streams: wanted.streams.clone(), refreshing: true, ..EndpointState::default() };
        add_slices(endpoint, &mut to, wanted.range, now);
        return Plan { from: stored, to, generation: Generation::Next, discard: true, resumed: false };
    }
    let mut to = stored.next_plan();
    to.streams.clone_from(&wanted.streams);
    finish_slices(&mut to);
    prune_boundary(endpoint, &mut to);
    let resumed = to.unfinished().any(|(_, slice)| slice.window.is_some());
    add_slices(endpoint, &mut to, wanted.range, now);
    Plan { from: stored, to, generation: Generation::Current, discard: false, resumed }
}

fn add_slices(endpoint: &Endpoint, state: &mut EndpointState, range: TimeRange, now: DateTime<Utc>) {
    for slice in endpoint.slicer().plan(state, range, now) {
        state.add_slice(slice);
    }
}

/// The state of an endpoint whose slices are all read: what the next sync starts from.
pub(super) fn finished(endpoint: &Endpoint, state: &EndpointState) -> EndpointState {
    let mut to = state.next_plan();
    to.refreshing = false;
    finish_slices(&mut to);
    if endpoint.mode() == SyncMode::FullRefresh {
        to.slices.clear();
        to.boundary.clear();
    }
    to
}

fn finish_slices(state: &mut EndpointState) {
    state.collapse();
    state.slices.retain(|_, slice| slice.position != Position::End || slice.window.is_some());
}

/// Forgets boundary entries that the next sync cannot be given again.
fn prune_boundary(endpoint: &Endpoint, state: &mut EndpointState) {
    if let Some(cursor) = state.cursor {
        let horizon = (cursor - endpoint.slicer().lookback()).timestamp();
        state.boundary.retain(|_, seen| seen.at >= horizon);
    }
    while state.boundary.len() > BOUNDARY_CAPACITY {
        let Some(oldest) = state.boundary.iter().min_by_key(|(_, seen)| seen.at).map(|(key, _)| *key) else { return };
        state.boundary.remove(&oldest);
    }
}
