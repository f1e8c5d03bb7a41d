//! How an endpoint is cut into slices: pure functions from the committed state to a plan.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Debug;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};

use crate::error::{Error, ErrorKind, Result};
use crate::message::Request;
use crate::model::coverage::Since;
use crate::model::gap::Missed;
use crate::model::schema::TimeFormat;
use crate::model::state::{EndpointState, Position, SliceState, Window};

/// How many times the span read so far a slice without a lower bound keeps when it is split.
const OPEN_STRETCH: i32 = 32;

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
    /// are split while other tasks are idle, and a person is told when all will be done.
    fn requests_left(&self, slice: &SliceState) -> Option<u64> {
        let _ = slice;
        None
    }

    /// True when what was to be read next is gone: the vendor keeps it for a limited time only.
    /// Asked of endpoints that are read [last](crate::Endpoint::last); all streams that they feed
    /// are read again then.
    fn expired(&self, state: &EndpointState, now: DateTime<Utc>) -> bool {
        let _ = (state, now);
        false
    }

    /// Names of streams of which changes were passed over, so that their lists are read again.
    /// Asked of endpoints that are read [last](crate::Endpoint::last).
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
/// let planned = Whole.plan(&EndpointState::default(), TimeRange::all(), DateTime::UNIX_EPOCH);
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

/// One slice whose first request says from when to start, for exports that go on by a position of
/// their own.
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

/// Windows of time, sent as two query parameters.
///
/// ```
/// use chrono::TimeDelta;
/// use pipeline_core::TimeFormat;
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::slice::{Slicer, TimeRange, TimeSlicer};
/// use pipeline_core::state::EndpointState;
///
/// let slicer = Windows {
///     step: Some(TimeDelta::days(1)),
///     ..TimeSlicer::newest_first("created_from", "created_before", TimeFormat::UnixSeconds)
/// };
/// let since = "2026-01-31T00:00:00Z".parse()?;
/// let now = "2026-02-01T23:59:59Z".parse()?;
/// let slices = slicer.plan(&EndpointState::default(), TimeRange::since(since), now);
/// assert_eq!(slices.len(), 2, "a slice for each day, the newest first");
///
/// let mut request = Request::new(Method::GET, "https://api.acme.example/orders".parse()?);
/// slicer.apply(&slices[0], &mut request)?;
/// assert_eq!(request.full_url().query(), Some("created_before=1769990400&created_from=1769904000"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TimeSlicer {
    /// Query parameter of the first instant inside.
    pub since: &'static str,
    /// Query parameter of the end.
    pub until: &'static str,
    /// How both are written. With [`TimeFormat::Date`] the end is the last day inside; otherwise
    /// the first instant after.
    pub format: TimeFormat,
    /// Longest window planned; none: one window, left to be split while it is read.
    pub step: Option<TimeDelta>,
    /// How far behind now a sync ends, because the vendor shows records late: with the second, or
    /// day, that was then.
    pub lag: TimeDelta,
    /// How far before the cursor a sync starts, for the same reason. Without a lag at least a
    /// second, or a day.
    pub lookback: TimeDelta,
    /// What the first window starts at when the user gives no start.
    pub oldest: Oldest,
    /// True when records come newest first within a window, so that the unread rest is what lies
    /// before the last one.
    pub newest_first: bool,
    /// A parameter that cuts every window into one slice for each of its values.
    pub partition: Option<(&'static str, &'static [&'static str])>,
}

/// Where the first window starts when the user gives no start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oldest {
    /// No lower bound is sent: records can be older than anything known.
    Open,
    /// At this instant.
    At(DateTime<Utc>),
}

impl TimeSlicer {
    /// Windows that are read newest first, have whole seconds and no gap, as a starting point.
    pub fn newest_first(since: &'static str, until: &'static str, format: TimeFormat) -> Self {
        Self {
            since,
            until,
            format,
            step: None,
            lag: TimeDelta::zero(),
            lookback: TimeDelta::zero(),
            oldest: Oldest::Open,
            newest_first: true,
            partition: None,
        }
    }

    /// Unit below which a window is not cut.
    fn grain(&self) -> TimeDelta {
        if self.format == TimeFormat::Date {
            TimeDelta::days(1)
        } else {
            TimeDelta::seconds(1)
        }
    }

    fn floor(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let grain = self.grain().num_seconds();
        DateTime::from_timestamp(time.timestamp().div_euclid(grain) * grain, 0).unwrap_or(time)
    }

    fn ceil(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let floor = self.floor(time);
        if floor < time {
            floor + self.grain()
        } else {
            floor
        }
    }

    /// Where the first window starts.
    fn earliest(&self, range: TimeRange) -> Option<DateTime<Utc>> {
        match (range.start, self.oldest) {
            (Some(start), _) | (None, Oldest::At(start)) => Some(self.floor(start)),
            (None, Oldest::Open) => None,
        }
    }

    /// Where to read from again when everything before `covered` was asked for: not before what the
    /// user wants.
    ///
    /// What lies behind the newest record that was ever seen is asked for again as well: there was
    /// nothing, unless the clock that said when it was asked for was wrong.
    fn back(
        &self,
        state: &EndpointState,
        covered: DateTime<Utc>,
        earliest: Option<DateTime<Utc>>,
    ) -> DateTime<Utc> {
        let newest = state.coverage.and_then(|coverage| coverage.newest);
        let back = self.floor(covered - self.lookback());
        let back = newest.map_or(back, |newest| back.min(self.floor(newest) + self.grain()));
        earliest.map_or(back, |earliest| back.max(earliest.min(covered)))
    }

    /// Windows, the newest first, that fill a span; none at its start: it is open.
    fn cut(&self, start: Option<DateTime<Utc>>, end: DateTime<Utc>) -> Vec<SliceState> {
        let (mut slices, mut until) = (Vec::new(), end);
        loop {
            let stepped = self
                .step
                .map(|step| self.floor(until - step.max(self.grain())));
            let since = match (stepped, start) {
                (Some(stepped), Some(start)) if stepped > start => Some(stepped),
                (_, start) => start,
            };
            let window = Some(Window { since, until });
            slices.extend(self.partitions().into_iter().map(|query| SliceState {
                window,
                query,
                ..SliceState::default()
            }));
            match since {
                Some(since) if Some(since) != start => until = since,
                _ => return slices,
            }
        }
    }

    /// The part of `[since, planned)` that was read before an interruption: late records may have
    /// joined it meanwhile.
    fn read_again(
        &self,
        state: &EndpointState,
        planned: DateTime<Utc>,
        since: DateTime<Utc>,
    ) -> Vec<SliceState> {
        let unread = |slice: &SliceState| {
            let until = slice.window?.until;
            let reached = slice.reached.filter(|_| self.newest_first);
            Some(reached.map_or(until, |reached| {
                until.min(self.floor(reached) + self.grain())
            }))
        };
        let again = |query: Vec<(String, String)>| {
            let unread = state
                .unfinished()
                .filter(|(_, slice)| slice.query == query)
                .filter_map(|(_, slice)| unread(slice))
                .max();
            let since = unread.map_or(since, |unread| since.max(unread));
            let window = Some(Window {
                since: Some(since),
                until: planned,
            });
            (since < planned).then(|| SliceState {
                window,
                query,
                ..SliceState::default()
            })
        };
        self.partitions().into_iter().filter_map(again).collect()
    }

    fn partitions(&self) -> Vec<Vec<(String, String)>> {
        match self.partition {
            None => vec![Vec::new()],
            Some((name, values)) => values
                .iter()
                .map(|value| vec![(name.to_owned(), (*value).to_owned())])
                .collect(),
        }
    }
}

impl Slicer for TimeSlicer {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        let latest = self.floor(now - self.lag) + self.grain();
        let end = range.end.map_or(latest, |end| latest.min(self.ceil(end)));
        let earliest = self.earliest(range);
        let planned = state
            .slices
            .values()
            .filter_map(|slice| Some(slice.window?.until))
            .max();
        // Slices of what is older than the covered part may be all that is left of a plan.
        let planned =
            planned.filter(|planned| state.cursor.is_none_or(|cursor| *planned >= cursor));
        let start = match (planned, state.cursor) {
            (Some(planned), _) => Some(planned),
            (None, Some(cursor)) => Some(self.back(state, cursor, earliest)),
            (None, None) => earliest,
        };
        if start.is_some_and(|start| start >= end) {
            return Vec::new();
        }
        let again = planned
            .map(|planned| self.read_again(state, planned, self.back(state, planned, earliest)));
        again
            .into_iter()
            .flatten()
            .chain(self.cut(start, end))
            .collect()
    }

    fn since(&self, range: TimeRange) -> Option<Since> {
        Some(self.earliest(range).map_or(Since::Beginning, Since::At))
    }

    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(self.floor(now - self.lag) + self.grain())
    }

    fn before(&self, since: Since, covered: DateTime<Utc>) -> Option<Vec<SliceState>> {
        let since = match since {
            Since::Beginning => None,
            Since::At(since) => Some(since),
        };
        Some(self.cut(since, covered))
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        for (name, value) in &slice.query {
            request.set_query(name, value.clone());
        }
        if let Some(window) = slice.window {
            if let Some(since) = window.since {
                request.set_query(self.since, render_time(since, self.format));
            }
            let until = if self.format == TimeFormat::Date {
                window.until - TimeDelta::days(1)
            } else {
                window.until
            };
            request.set_query(self.until, render_time(until, self.format));
        }
        Ok(())
    }

    fn split(&self, slice: &SliceState) -> Option<(SliceState, SliceState)> {
        if !self.newest_first || slice.position == Position::End {
            return None;
        }
        let (window, reached) = (slice.window?, slice.reached?);
        let middle = self.floor(match window.since {
            Some(since) => since + (reached - since) / 2,
            // Nobody knows where the list begins: keep a good stretch of what the pace so far
            // suggests.
            None => reached.checked_sub_signed((window.until - reached) * OPEN_STRETCH)?,
        });
        // The record that the position names stays inside what the slice keeps: vendors refuse one
        // that does not match.
        if window.since.is_some_and(|since| middle <= since)
            || middle >= self.floor(reached).min(window.until)
        {
            return None;
        }
        let kept = SliceState {
            window: Some(Window {
                since: Some(middle),
                ..window
            }),
            ..slice.clone()
        };
        let given = Window {
            since: window.since,
            until: middle,
        };
        let given = SliceState {
            window: Some(given),
            query: slice.query.clone(),
            ..SliceState::default()
        };
        Some((kept, given))
    }

    fn restart(&self, slice: &SliceState) -> Option<SliceState> {
        let (window, reached) = (slice.window?, slice.reached?);
        if !self.newest_first {
            return None;
        }
        let until = (self.floor(reached) + self.grain()).min(window.until);
        if window.since.is_some_and(|since| since >= until) {
            return None;
        }
        Some(SliceState {
            window: Some(Window { until, ..window }),
            position: Position::Start,
            ..slice.clone()
        })
    }

    fn is_newest_first(&self) -> bool {
        self.newest_first
    }

    fn around(&self, time: DateTime<Utc>) -> Option<Window> {
        let since = self.floor(time);
        Some(Window {
            since: Some(since),
            until: since + self.grain(),
        })
    }

    fn lookback(&self) -> TimeDelta {
        // Without a lag a sync ends with the second, or day, that is not over yet: the next one
        // reads it again.
        if self.lag < self.grain() {
            self.lookback.max(self.grain())
        } else {
            self.lookback
        }
    }
}

/// Reads the start that a configuration asks for: a day, which means its first instant in UTC, or
/// an RFC 3339 time. None when it is neither.
pub fn parse_start(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    parse_time(text, TimeFormat::Date).or_else(|| parse_time(text, TimeFormat::Rfc3339))
}

/// Refuses a start that leaves nothing to read.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] when it is still to come.
pub fn check_start(start: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    if start < now {
        return Ok(start);
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "the start date is in the future")
        .with_context("field", "start_date")
        .with_help("nothing that happened until now would be read: write a day that is over, such as 2026-01-31"))
}

/// An instant as the vendor writes it.
pub fn render_time(time: DateTime<Utc>, format: TimeFormat) -> String {
    match format {
        TimeFormat::UnixSeconds => time.timestamp().to_string(),
        TimeFormat::UnixMillis => time.timestamp_millis().to_string(),
        TimeFormat::Rfc3339 => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        TimeFormat::Date => time.format("%Y-%m-%d").to_string(),
    }
}

/// Reads an instant as the vendor writes it; none when it is not one.
pub fn parse_time(text: &str, format: TimeFormat) -> Option<DateTime<Utc>> {
    match format {
        TimeFormat::UnixSeconds => DateTime::from_timestamp(text.parse().ok()?, 0),
        TimeFormat::UnixMillis => DateTime::from_timestamp_millis(text.parse().ok()?),
        TimeFormat::Rfc3339 => parse_rfc3339(text),
        TimeFormat::Date => parse_day(text).and_then(midnight),
    }
}

fn midnight(day: NaiveDate) -> Option<DateTime<Utc>> {
    Some(day.and_hms_opt(0, 0, 0)?.and_utc())
}

/// Reads a day written `YYYY-MM-DD`, and in no other way.
pub fn parse_day(text: &str) -> Option<NaiveDate> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text
            .get(range)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<u32>().ok()
    };
    let is_separated = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    if is_separated {
        NaiveDate::from_ymd_opt(
            number(0..4)?.try_into().ok()?,
            number(5..7)?,
            number(8..10)?,
        )
    } else {
        None
    }
}

/// RFC 3339, and the common variants without an offset or with a space between day and time.
fn parse_rfc3339(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let normal: Cow<'_, str> = if text.contains(' ') {
        text.replacen(' ', "T", 1).into()
    } else {
        text.into()
    };
    normal
        .parse::<chrono::NaiveDateTime>()
        .ok()
        .map(|time| time.and_utc())
}
