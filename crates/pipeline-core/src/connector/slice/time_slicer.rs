//! Cuts an endpoint by time: one slice for each window of a time filter.

use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};

use super::instants::render_time;
use super::{Slicer, TimeRange};
use crate::error::Result;
use crate::message::Request;
use crate::model::coverage::Since;
use crate::model::schema::TimeFormat;
use crate::model::state::{EndpointState, Position, SliceState, Window};

/// How many times the span read so far a slice without a lower bound keeps when it is split.
const OPEN_STRETCH: i32 = 32;

/// Windows of time, sent as two query parameters.
///
/// ```
/// use chrono::TimeDelta;
/// use pipeline_core::TimeFormat;
/// use pipeline_core::http::{Method, Request};
/// use pipeline_core::slice::{Slicer, TimeRange, TimeSlicer};
/// use pipeline_core::state::EndpointState;
///
/// let slicer = TimeSlicer {
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
    fn cursor_granularity(&self) -> TimeDelta {
        if self.format == TimeFormat::Date {
            TimeDelta::days(1)
        } else {
            TimeDelta::seconds(1)
        }
    }

    fn floor(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let granularity = self.cursor_granularity().num_seconds();
        DateTime::from_timestamp(time.timestamp().div_euclid(granularity) * granularity, 0)
            .unwrap_or(time)
    }

    fn ceil(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let floor = self.floor(time);
        if floor < time {
            floor + self.cursor_granularity()
        } else {
            floor
        }
    }

    /// Where the first window starts.
    pub(super) fn earliest(&self, range: TimeRange) -> Option<DateTime<Utc>> {
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
        let back = newest.map_or(back, |newest| {
            back.min(self.floor(newest) + self.cursor_granularity())
        });
        earliest.map_or(back, |earliest| back.max(earliest.min(covered)))
    }

    /// Windows, the newest first, that fill a span; none at its start: it is open.
    fn cut(&self, start: Option<DateTime<Utc>>, end: DateTime<Utc>) -> Vec<SliceState> {
        let (mut slices, mut until) = (Vec::new(), end);
        loop {
            let stepped = self
                .step
                .map(|step| self.floor(until - step.max(self.cursor_granularity())));
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
            let watermark = slice.watermark.filter(|_| self.newest_first);
            Some(watermark.map_or(until, |watermark| {
                until.min(self.floor(watermark) + self.cursor_granularity())
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
        let latest = self.floor(now - self.lag) + self.cursor_granularity();
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
        Some(self.floor(now - self.lag) + self.cursor_granularity())
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
        let (window, watermark) = (slice.window?, slice.watermark?);
        let middle = self.floor(match window.since {
            Some(since) => since + (watermark - since) / 2,
            // It is unknown where the list begins: keep a good stretch of what the pace so far
            // suggests.
            None => watermark.checked_sub_signed((window.until - watermark) * OPEN_STRETCH)?,
        });
        // The record that the position names stays inside what the slice keeps: vendors refuse one
        // that does not match.
        if window.since.is_some_and(|since| middle <= since)
            || middle >= self.floor(watermark).min(window.until)
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
        let (window, watermark) = (slice.window?, slice.watermark?);
        if !self.newest_first {
            return None;
        }
        let until = (self.floor(watermark) + self.cursor_granularity()).min(window.until);
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
            until: since + self.cursor_granularity(),
        })
    }

    fn lookback(&self) -> TimeDelta {
        // Without a lag a sync ends with the second, or day, that is not over yet: the next one
        // reads it again.
        if self.lag < self.cursor_granularity() {
            self.lookback.max(self.cursor_granularity())
        } else {
            self.lookback
        }
    }
}
