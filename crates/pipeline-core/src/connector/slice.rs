//! How an endpoint is cut into slices: pure functions from the committed state to a plan.

use std::collections::BTreeSet;
use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::Result;
use crate::message::Request;
use crate::model::coverage::Since;
use crate::model::gap::Missed;
use crate::model::schema::TimeFormat;
use crate::model::state::{EndpointState, SliceState, Window};

mod instants;
mod time_slicer;

pub use self::instants::{check_start, parse_day, parse_start, parse_time, render_time};
pub use self::time_slicer::{Oldest, TimeSlicer};

/// The time that a sync covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Oldest cursor value wanted; none: everything there is.
    pub start: Option<DateTime<Utc>>,
    /// First instant not wanted; none: everything up to now.
    pub end: Option<DateTime<Utc>>,
}

impl TimeRange {
    /// Everything there is.
    pub fn all() -> Self {
        Self::default()
    }

    /// Everything from an instant on.
    pub fn since(start: DateTime<Utc>) -> Self {
        Self {
            start: Some(start),
            end: None,
        }
    }
}

/// Plans slices and renders them into requests. Does no IO and reads no clock.
pub trait Slicer: Send + Sync + Debug {
    /// The slices to add to `state` so that it covers `range` up to `now`. Unfinished slices are
    /// kept by the caller.
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState>;

    /// From when on a plan covers a range. None for what is not cut by time, such as a list that is
    /// read whole.
    fn since(&self, range: TimeRange) -> Option<Since> {
        let _ = range;
        None
    }

    /// Where a plan ends that is made at `now`, the range's own end aside. None where no clock
    /// decides that.
    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let _ = now;
        None
    }

    /// The slices that lie between `since` and what is covered already, which a configuration wants
    /// that begins earlier than before. None when the vendor shows them only with everything that
    /// is newer: then all is read again.
    fn before(&self, since: Since, covered: DateTime<Utc>) -> Option<Vec<SliceState>> {
        let _ = (since, covered);
        None
    }

    /// Makes `request` ask for this slice only.
    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()>;

    /// Cuts what is unread of a running slice in two: what the slice keeps, and a new slice. None
    /// when it cannot be cut.
    fn split(&self, slice: &SliceState) -> Option<(SliceState, SliceState)> {
        let _ = slice;
        None
    }

    /// The slice to read instead when its position is lost and cannot be recovered: the unread
    /// rest, possibly with a few records that were read already. None when the slice must start
    /// again from its beginning.
    fn restart(&self, slice: &SliceState) -> Option<SliceState> {
        let _ = slice;
        None
    }

    /// Requests that what is unread of a slice takes, where that can be told: slices that take many
    /// are split while other tasks are idle, and the time when all will be done is reported.
    fn requests_left(&self, slice: &SliceState) -> Option<u64> {
        let _ = slice;
        None
    }

    /// True when what was to be read next is gone: the vendor keeps it for a limited time only.
    /// Called for [change feeds](crate::Endpoint::change_feed); all streams that they feed are read
    /// again then.
    fn expired(&self, state: &EndpointState, now: DateTime<Utc>) -> bool {
        let _ = (state, now);
        false
    }

    /// Names of streams of which changes were passed over, so that their lists are read again.
    /// Called for [change feeds](crate::Endpoint::change_feed).
    fn missed(&self, state: &EndpointState) -> BTreeSet<String> {
        let _ = state;
        BTreeSet::new()
    }

    /// True when the vendor lists the records of a slice from the newest on, by their cursor.
    fn is_newest_first(&self) -> bool {
        false
    }

    /// The shortest window that holds an instant, for a record that has to be read again by itself.
    /// None where slices are not cut by time.
    fn around(&self, time: DateTime<Utc>) -> Option<Window> {
        let _ = time;
        None
    }

    /// The unit that a slice is, where a slice that cannot be read says nothing about the others:
    /// it is passed over and stays missing then. None: a slice that fails is the endpoint's
    /// failure.
    fn unit(&self, slice: &SliceState) -> Option<Missed> {
        let _ = slice;
        None
    }

    /// How far back before the cursor a sync reads again, to catch records that became visible
    /// late.
    fn lookback(&self) -> TimeDelta {
        TimeDelta::zero()
    }
}

/// One slice that is the whole list. What makes it incremental is a paginator that catches up.
///
/// ```
/// use chrono::DateTime;
/// use pipeline_core::slice::{Slicer, TimeRange, SingleSlice};
/// use pipeline_core::state::EndpointState;
///
/// let planned = SingleSlice.plan(&EndpointState::default(), TimeRange::all(), DateTime::UNIX_EPOCH);
/// assert_eq!(planned.len(), 1);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleSlice;

impl Slicer for SingleSlice {
    fn plan(
        &self,
        state: &EndpointState,
        _range: TimeRange,
        _now: DateTime<Utc>,
    ) -> Vec<SliceState> {
        if state.slices.is_empty() {
            vec![SliceState::default()]
        } else {
            Vec::new()
        }
    }

    fn apply(&self, _slice: &SliceState, _request: &mut Request) -> Result<()> {
        Ok(())
    }
}

/// One slice whose first request says from when to start, for exports that continue by a position
/// of their own.
///
/// ```
/// use chrono::DateTime;
/// use pipeline_core::TimeFormat;
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::slice::{Slicer, StartTime, TimeRange};
/// use pipeline_core::state::EndpointState;
///
/// let slicer = StartTime { param: "start_time", format: TimeFormat::UnixSeconds, earliest: DateTime::UNIX_EPOCH };
/// let since = "2026-01-31T00:00:00Z".parse()?;
/// let now = "2026-02-01T00:00:00Z".parse()?;
/// let slices = slicer.plan(&EndpointState::default(), TimeRange::since(since), now);
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/export".parse()?);
/// slicer.apply(&slices[0], &mut request)?;
/// assert_eq!(request.full_url().query(), Some("start_time=1769817600"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StartTime {
    /// Query parameter that takes the start.
    pub param: &'static str,
    /// How it is written.
    pub format: TimeFormat,
    /// The start when the user gives none.
    pub earliest: DateTime<Utc>,
}

impl Slicer for StartTime {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        if !state.slices.is_empty() {
            return Vec::new();
        }
        let since = range.start.unwrap_or(self.earliest);
        let start = (
            self.param.to_owned(),
            render_time(since.min(now), self.format),
        );
        vec![SliceState {
            query: vec![start],
            ..SliceState::default()
        }]
    }

    fn since(&self, range: TimeRange) -> Option<Since> {
        Some(Since::At(range.start.unwrap_or(self.earliest)))
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        for (name, value) in &slice.query {
            request.set_query(name, value.clone());
        }
        Ok(())
    }
}
