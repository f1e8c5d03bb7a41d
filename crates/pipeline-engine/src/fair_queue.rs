//! Whose turn it is: the endpoints that have something to read, in a fair order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::endpoint_run::EndpointRun;

/// The endpoints of a run, by number, that could begin a slice. Nothing here takes longer the more
/// endpoints there are.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// Those that could begin one, of each source.
    ready: Vec<VecDeque<usize>>,
    members: Vec<Member>,
    units: Vec<Unit>,
}

/// What is known of an endpoint.
#[derive(Debug)]
struct Member {
    source: usize,
    unit: usize,
    /// True while it is among those that are ready.
    waits: bool,
    over: bool,
}

/// The endpoints of one account of a source.
#[derive(Debug, Default)]
struct Unit {
    /// Lists that are not over.
    lists: usize,
    /// Endpoints that are read when no list is left.
    last: Vec<usize>,
}

impl FairQueue {
    pub(super) fn new(runs: &[Arc<EndpointRun>]) -> Self {
        let mut queue = Self::default();
        let (mut sources, mut units) = (BTreeMap::new(), BTreeMap::new());
        for (index, run) in runs.iter().enumerate() {
            let (sources_known, units_known) = (sources.len(), units.len());
            let source = *sources.entry(&run.id.source).or_insert(sources_known);
            let unit = *units
                .entry((source, run.id.account()))
                .or_insert(units_known);
            queue.ready.resize_with(sources.len(), VecDeque::new);
            queue.units.resize_with(units.len(), Unit::default);
            let over = run.is_over();
            queue.members.push(Member {
                source,
                unit,
                waits: false,
                over,
            });
            match run.endpoint().is_last() {
                true => queue.units[unit].last.push(index),
                false if over => {}
                false => {
                    queue.units[unit].lists += 1;
                    queue.add(index);
                }
            }
        }
        for unit in 0..queue.units.len() {
            queue.begin_last(unit);
        }
        queue
    }

    /// Each source, by number.
    pub(super) fn sources(&self) -> std::ops::Range<usize> {
        0..self.ready.len()
    }

    /// The endpoint of a source that may begin a slice.
    pub(super) fn next(&mut self, source: usize) -> Option<usize> {
        let index = self.ready[source].pop_front()?;
        self.members[index].waits = false;
        Some(index)
    }

    /// Puts an endpoint behind those that are ready, unless it is among them.
    pub(super) fn add(&mut self, index: usize) {
        let place = &mut self.members[index];
        if !std::mem::replace(&mut place.waits, true) {
            self.ready[place.source].push_back(index);
        }
    }

    /// Puts an endpoint before those that are ready: it has not had its turn.
    pub(super) fn put_back(&mut self, index: usize) {
        let place = &mut self.members[index];
        if !std::mem::replace(&mut place.waits, true) {
            self.ready[place.source].push_front(index);
        }
    }

    /// Records that an endpoint is over.
    pub(super) fn end(&mut self, index: usize, is_last: bool) {
        let place = &mut self.members[index];
        if std::mem::replace(&mut place.over, true) || is_last {
            return;
        }
        let unit = place.unit;
        self.units[unit].lists -= 1;
        self.begin_last(unit);
    }

    /// Lets what is read last begin when nothing else is left of its account, before other accounts
    /// go on.
    fn begin_last(&mut self, unit: usize) {
        if self.units[unit].lists == 0 {
            for index in std::mem::take(&mut self.units[unit].last) {
                self.put_back(index);
            }
        }
    }
}
