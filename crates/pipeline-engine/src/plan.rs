//! What is to be read: from the committed state to the state that a run starts with. Pure.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use pipeline_core::slice::TimeRange;
use pipeline_core::state::{BOUNDARY_CAPACITY, EndpointState, Gap, Position};
use pipeline_core::{Coverage, Endpoint, Error, Origin, Since, SyncMode};

use self::groups::{agree, groups};
use crate::destination::Generation;

mod groups;

/// The start of a run for one endpoint.
#[expect(
    clippy::struct_excessive_bools,
    reason = "none of these facts follows from another"
)]
#[derive(Debug)]
pub(super) struct EndpointPlan {
    /// The committed state.
    pub(super) from: EndpointState,
    /// The state with everything to be read as slices.
    pub(super) to: EndpointState,
    /// Where the rows of each stream go.
    pub(super) generations: Vec<Generation>,
    /// True when the next generation of its tables is filled, which is published when it is read.
    pub(super) refresh: bool,
    /// The endpoints of a source that fill the same tables have the same number: they publish
    /// together.
    pub(super) group: usize,
    /// True when rows of an abandoned refresh must go first.
    pub(super) discard: bool,
    /// True when an interrupted plan goes on.
    pub(super) resumed: bool,
    /// True for a feed of changes that cannot go on where it stopped, so that its lists are read
    /// again.
    pub(super) gap: bool,
    /// What came of a start that the configuration has moved.
    pub(super) moved: Option<Moved>,
    /// Settings that what is stored was read with, and that are others now.
    pub(super) changed: Vec<&'static str>,
}

/// What comes of a start that is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moved {
    /// Back: what is older than the covered part is read beside what is new.
    Older,
    /// Back, where what is older comes with everything else only: all is read again.
    Again,
    /// Forward: what was read before stays.
    Forward,
}

/// The clocks by which a run is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// The vendor's, as its answers tell it.
    pub(super) now: DateTime<Utc>,
    /// The earlier of the vendor's and ours.
    pub(super) earlier: DateTime<Utc>,
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
    /// Rows of its tables are lost, perhaps those of an interrupted refresh: it does not go on, but
    /// begins again.
    pub(super) damaged: bool,
    /// Whose records they are.
    pub(super) origin: Origin,
}

/// An endpoint to be planned.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// The committed state.
    pub(super) stored: EndpointState,
    pub(super) wanted: Wanted,
    /// Why it is not to be read in this run.
    pub(super) refused: Option<&'a Error>,
}

/// How an endpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With what is new, into the visible rows.
    Continue,
    /// With everything, into a next generation that is empty.
    Refresh,
    /// With everything, into the next generation that others have begun to fill.
    Join,
    /// With everything, into what the lists fill.
    Again,
    /// Where an interrupted refresh stopped.
    Resume,
    /// Not in this run.
    Never,
}

/// Plans the endpoints of one source, all at the same instant.
///
/// * An interrupted refresh goes on where it was.
/// * A refresh starts when one is asked for or due, when the endpoint knows no other way, when an
///   earlier start is wanted that it cannot read by itself, when a stream was selected that the
///   committed data does not hold (half a table would be silent loss), when records look different
///   now, and when a feed of changes has a gap: what it was to read is gone, or it has passed over
///   changes of a stream for a while.
/// * Endpoints that feed the same table refresh together: a generation is complete when all of them
///   are.
/// * What is not to be read keeps its state, and holds up no other.
/// * Otherwise unfinished slices are kept, and what is new since the last plan is added.
pub(super) fn plan(requests: &[Request<'_>], clocks: Clocks) -> Vec<EndpointPlan> {
    let now = clocks.now;
    let gaps: BTreeSet<&str> = requests
        .iter()
        .flat_map(|request| request.gaps(now))
        .collect();
    let groups = groups(requests);
    let mut starts: Vec<Start> = requests
        .iter()
        .map(|request| request.start(&gaps, now))
        .collect();
    agree(requests, &groups, &mut starts);
    let refreshed = requests
        .iter()
        .zip(&starts)
        .filter(|(_, start)| !matches!(start, Start::Continue | Start::Never));
    let refreshed: BTreeSet<&str> = refreshed
        .flat_map(|(request, _)| request.streams())
        .collect();
    let begun = requests
        .iter()
        .zip(&starts)
        .filter(|(_, start)| matches!(start, Start::Refresh | Start::Join));
    let begun: BTreeSet<&str> = begun.flat_map(|(request, _)| request.streams()).collect();
    let plans = requests.iter().zip(starts).zip(groups);
    let plan = |request: &Request<'_>, start| match start {
        Start::Continue if request.corrects(&begun) => {
            request.plan(Start::Again, &refreshed, clocks)
        }
        start => request.plan(start, &refreshed, clocks),
    };
    plans
        .map(|((request, start), group)| EndpointPlan {
            group,
            ..plan(request, start)
        })
        .collect()
}

impl Request<'_> {
    fn streams(&self) -> impl Iterator<Item = &str> {
        self.wanted.streams.iter().map(String::as_str)
    }

    /// True for a feed that cannot go on where it stopped.
    fn has_gap(&self, now: DateTime<Utc>) -> bool {
        self.endpoint.is_last()
            && self.refused.is_none()
            && self.endpoint.slicer().expired(&self.stored, now)
    }

    /// The streams of which a feed does not know, or has not said, all that changed.
    fn gaps(&self, now: DateTime<Utc>) -> Vec<&str> {
        let Self {
            endpoint,
            stored,
            refused,
            ..
        } = self;
        if !endpoint.is_last() || refused.is_some() || stored.is_untouched() {
            return Vec::new();
        }
        let (all, missed) = (
            self.has_gap(now) || stored.is_reset(),
            endpoint.slicer().missed(stored),
        );
        self.streams()
            .filter(|stream| all || missed.contains(*stream) || !stored.streams.contains(*stream))
            .collect()
    }

    /// True when it corrects what is begun to be read again.
    fn corrects(&self, begun: &BTreeSet<&str>) -> bool {
        let is_touched = self.endpoint.is_correcting() && !self.stored.is_untouched();
        is_touched
            && (self.moved() == Some(Moved::Again)
                || self.streams().any(|stream| begun.contains(stream)))
    }

    /// From when on the configuration wants it.
    fn since(&self) -> Option<Since> {
        self.endpoint.slicer().since(self.wanted.range)
    }

    /// What is to come of a start that was moved since the endpoint was last planned.
    fn moved(&self) -> Option<Moved> {
        let (since, coverage) = self.since().zip(self.stored.coverage)?;
        match coverage.since {
            Since::At(covered) if since < coverage.since => {
                Some(if self.endpoint.slicer().before(since, covered).is_some() {
                    Moved::Older
                } else {
                    Moved::Again
                })
            }
            // Without a start of the user's own it moves with the time.
            _ => (self.wanted.range.start.is_some()
                && since > coverage.since
                && since != coverage.wanted)
                .then_some(Moved::Forward),
        }
    }

    /// True when everything is to be read again, because records look different now or because it
    /// is time.
    fn is_outdated(&self, now: DateTime<Utc>) -> bool {
        let Self {
            endpoint, stored, ..
        } = self;
        let is_due = |every| stored.begun.is_none_or(|begun| now - begun >= every);
        self.is_other_edition() || endpoint.refresh_interval().is_some_and(is_due)
    }

    fn is_other_edition(&self) -> bool {
        self.stored
            .edition
            .as_deref()
            .is_some_and(|edition| self.endpoint.read_version() != Some(edition))
    }

    fn start(&self, gaps: &BTreeSet<&str>, now: DateTime<Utc>) -> Start {
        let Self {
            endpoint,
            stored,
            wanted,
            refused,
        } = self;
        if refused.is_some() {
            return Start::Never;
        }
        if endpoint.is_last() {
            return Start::Continue;
        }
        let complete = stored.streams.is_superset(&wanted.streams);
        let begins_earlier = self.moved() == Some(Moved::Again);
        if stored.refreshing
            && complete
            && !begins_earlier
            && !self.is_other_edition()
            && !wanted.damaged
        {
            return Start::Resume;
        }
        let untouched = stored.is_untouched();
        let again = !untouched
            && (begins_earlier
                || self.is_outdated(now)
                || self.streams().any(|stream| gaps.contains(stream)));
        let refresh = wanted.full_refresh
            || endpoint.mode() == SyncMode::FullRefresh
            || again
            || !(untouched || complete);
        if refresh {
            Start::Refresh
        } else {
            Start::Continue
        }
    }

    fn plan(&self, start: Start, refreshed: &BTreeSet<&str>, clocks: Clocks) -> EndpointPlan {
        let now = clocks.now;
        let fills = matches!(start, Start::Refresh | Start::Join | Start::Resume);
        let generation = |name: &str| {
            if fills || refreshed.contains(name) {
                Generation::Next
            } else {
                Generation::Current
            }
        };
        let generations = self
            .endpoint
            .streams()
            .map(|stream| generation(stream.name()))
            .collect();
        let is_begun = matches!(start, Start::Refresh | Start::Join | Start::Again)
            || start == Start::Continue && self.has_gap(now);
        let (to, resumed) = match start {
            Start::Never => (self.stored.clone(), false),
            Start::Resume => (self.resume(clocks), true),
            Start::Refresh | Start::Join => (
                EndpointState {
                    refreshing: true,
                    ..self.begin(clocks)
                },
                false,
            ),
            _ if is_begun => (self.begin(clocks), false),
            _ => self.go_on(clocks),
        };
        let moved = match self.moved() {
            _ if start == Start::Never
                || self.endpoint.mode() == SyncMode::FullRefresh
                || self.wanted.full_refresh =>
            {
                None
            }
            // Whatever it was begun for, the start is the new one.
            Some(Moved::Older | Moved::Forward) if is_begun => None,
            moved => moved,
        };
        let refresh = fills
            || (start == Start::Never && self.streams().any(|stream| refreshed.contains(stream)));
        EndpointPlan {
            from: self.stored.clone(),
            to,
            generations,
            refresh,
            group: 0,
            discard: start == Start::Refresh,
            resumed,
            gap: self.has_gap(now),
            moved,
            changed: if is_begun || start == Start::Never {
                Vec::new()
            } else {
                self.changed()
            },
        }
    }

    /// The state with everything to be read.
    fn begin(&self, clocks: Clocks) -> EndpointState {
        let streams = self.wanted.streams.clone();
        let mut to = EndpointState {
            plan: self.stored.plan + 1,
            streams,
            begun: self.begun(clocks.earlier),
            ..EndpointState::default()
        };
        self.describe(&mut to);
        to.coverage = self
            .since()
            .map(|since| Coverage::new(since, self.endpoint.slicer().end(clocks.earlier)));
        // What is missing is met again, or is not missing any more.
        to.gaps = self
            .stored
            .gaps
            .iter()
            .map(|(id, gap)| {
                (
                    *id,
                    Gap {
                        stale: true,
                        ..gap.clone()
                    },
                )
            })
            .collect();
        self.add_slices(&mut to, self.wanted.range, clocks);
        to
    }

    /// When everything is begun to be read that is begun now, where somebody will ask.
    fn begun(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.endpoint.refresh_interval().map(|_| now)
    }

    /// The state with what is unfinished and what is new, and whether anything was unfinished.
    fn go_on(&self, clocks: Clocks) -> (EndpointState, bool) {
        let slicer = self.endpoint.slicer();
        let mut to = self.stored.next_plan();
        to.streams.clone_from(&self.wanted.streams);
        to.begun = self.stored.begun.or_else(|| self.begun(clocks.earlier));
        finish_slices(&mut to);
        if let Some(present) = slicer.end(clocks.now) {
            to.take_back(present, slicer.is_newest_first());
        }
        prune_boundary(self.endpoint, &mut to);
        let resumed = to.unfinished().any(|(_, slice)| slice.window.is_some());
        self.describe(&mut to);
        to.coverage = self.since().map(|since| {
            let until = slicer.end(clocks.earlier);
            to.coverage
                .map_or(Coverage::new(since, until), |known| Coverage {
                    until,
                    wanted: since,
                    ..known
                })
        });
        let range = self.covered(&to);
        // Before what is new, which is read first.
        self.add_older(&mut to);
        self.add_slices(&mut to, range, clocks);
        (to, resumed)
    }

    /// The state with which an interrupted refresh goes on. It ends at the present, too: what was
    /// made since it was interrupted is not left to the next sync.
    fn resume(&self, clocks: Clocks) -> EndpointState {
        if self.endpoint.slicer().end(clocks.now).is_some() {
            return self.go_on(clocks).0;
        }
        let mut to = self.stored.clone();
        self.describe(&mut to);
        if self.add_older(&mut to) {
            to.plan += 1;
        }
        to
    }

    /// Adds what lies before the covered part and is wanted now. True when there is any.
    fn add_older(&self, to: &mut EndpointState) -> bool {
        let (Some(since), Some(coverage), Some(Moved::Older)) =
            (self.since(), &mut to.coverage, self.moved())
        else {
            return false;
        };
        let Since::At(covered) = coverage.since else {
            return false;
        };
        let older = self
            .endpoint
            .slicer()
            .before(since, covered)
            .unwrap_or_default();
        (coverage.since, coverage.wanted) = (since, since);
        for slice in older {
            to.add_slice(slice);
        }
        true
    }

    /// Says what records of now are and look like.
    fn describe(&self, to: &mut EndpointState) {
        let origin = self.wanted.origin.clone().or(self.stored.origin.as_ref());
        to.origin = Some(origin).filter(|origin| !origin.is_unknown());
        to.edition = self.endpoint.read_version().map(ToOwned::to_owned);
        to.settings = self
            .endpoint
            .settings()
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
    }

    /// The settings that are others than those of what was read last.
    fn changed(&self) -> Vec<&'static str> {
        let settings = self.endpoint.settings().iter();
        let is_other = |(name, value): &(&&'static str, &String)| {
            self.stored
                .settings
                .get(**name)
                .is_some_and(|known| known != *value)
        };
        settings.filter(is_other).map(|(name, _)| *name).collect()
    }

    /// The range in which to go on: as far back as is covered, wherever the configuration begins
    /// now.
    fn covered(&self, state: &EndpointState) -> TimeRange {
        let range = self.wanted.range;
        match state.coverage.map(|coverage| coverage.since) {
            Some(Since::At(start)) => TimeRange {
                start: Some(start),
                ..range
            },
            Some(Since::Beginning) => TimeRange {
                start: None,
                ..range
            },
            None => range,
        }
    }

    fn add_slices(&self, state: &mut EndpointState, range: TimeRange, clocks: Clocks) {
        // A feed begins no later than the lists, whichever clock is wrong.
        let now = if self.endpoint.is_last() {
            clocks.earlier
        } else {
            clocks.now
        };
        for slice in self.endpoint.slicer().plan(state, range, now) {
            state.add_slice(slice);
        }
    }
}

/// The state of an endpoint whose slices are all read: what the next sync starts from.
pub(super) fn finished(endpoint: &Endpoint, state: &EndpointState) -> EndpointState {
    let mut to = state.next_plan();
    to.refreshing = false;
    to.gaps.retain(|_, gap| !gap.stale);
    finish_slices(&mut to);
    if endpoint.mode() == SyncMode::FullRefresh {
        to.slices.clear();
        to.boundary.clear();
    }
    to
}

/// The state of an endpoint that could not be read while others filled and published its tables:
/// the tables hold nothing of it now, so that it begins from nothing once it can be read.
pub(super) fn forgotten(state: &EndpointState) -> EndpointState {
    EndpointState {
        plan: state.plan + 1,
        ..EndpointState::default()
    }
}

fn finish_slices(state: &mut EndpointState) {
    state.collapse();
    state
        .slices
        .retain(|_, slice| slice.position != Position::End || slice.window.is_some());
}

/// Forgets boundary entries that the next sync cannot be given again.
fn prune_boundary(endpoint: &Endpoint, state: &mut EndpointState) {
    if let Some(cursor) = state.cursor {
        let horizon = (cursor - endpoint.slicer().lookback()).timestamp();
        state.boundary.retain(|_, seen| seen.at >= horizon);
    }
    while state.boundary.len() > BOUNDARY_CAPACITY {
        let Some(oldest) = state
            .boundary
            .iter()
            .min_by_key(|(_, seen)| seen.at)
            .map(|(key, _)| *key)
        else {
            return;
        };
        state.boundary.remove(&oldest);
    }
}
