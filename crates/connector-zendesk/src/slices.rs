//! What a sync asks for: where an export starts, and the spans of time that lists are filtered by.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::gap::Missed;
use pipeline_core::http::Request;
use pipeline_core::slice::{Oldest, Slicer, StartTime, TimeRange, TimeSlicer, render_time};
use pipeline_core::state::{EndpointState, Position, SliceState, Window};
use pipeline_core::{Result, Since, TimeFormat};

/// Query parameter of the first request of every export.
pub(crate) const START_TIME: &str = "start_time";

/// How old a time must be that is asked for: exports and filters refuse the last minute.
const MIN_AGE: TimeDelta = TimeDelta::seconds(61);

/// Starts an export at a time that is old enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExportStart(StartTime);

impl ExportStart {
    /// Starts with everything there is unless the user says otherwise.
    pub(crate) fn new() -> Self {
        Self(StartTime {
            param: START_TIME,
            format: TimeFormat::UnixSeconds,
            earliest: DateTime::UNIX_EPOCH,
        })
    }
}

impl Slicer for ExportStart {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        self.0.plan(state, range, now - MIN_AGE)
    }

    fn since(&self, range: TimeRange) -> Option<Since> {
        self.0.since(range)
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        self.0.apply(slice, request)
    }

    /// A cursor that is refused and does not tell its time gives way to the newest time that was
    /// read.
    fn restart(&self, slice: &SliceState) -> Option<SliceState> {
        let start = (
            START_TIME.to_owned(),
            render_time(slice.watermark?, TimeFormat::UnixSeconds),
        );
        Some(SliceState {
            query: vec![start],
            position: Position::Start,
            ..slice.clone()
        })
    }
}

/// How a span of time is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Both ends as values of the one parameter `filter[created_at][]`.
    Created,
    /// `start_time` and `end_time` in seconds.
    StartEnd,
    /// In the query of the search index.
    Search,
    /// Not at all: the list is read from the newest on, until it is older.
    Unfiltered,
}

/// Spans of time in one of Zendesk's four spellings.
#[derive(Clone, Debug)]
pub(crate) struct Filtered {
    windows: TimeSlicer,
    filter: Filter,
}

impl Filtered {
    pub(crate) fn new(filter: Filter) -> Self {
        let none = TimeDelta::zero();
        let (step, lag, lookback, oldest) = match filter {
            Filter::Created => (None, none, none, Oldest::At(DateTime::UNIX_EPOCH)),
            // Nobody documents whether the filter looks at when a rating was asked for or given.
            Filter::StartEnd => (
                Some(TimeDelta::days(30)),
                MIN_AGE + TimeDelta::seconds(1),
                TimeDelta::days(1),
                Oldest::Open,
            ),
            Filter::Unfiltered => (None, none, none, Oldest::Open),
            // The index lags behind.
            Filter::Search => (
                Some(TimeDelta::days(30)),
                none,
                TimeDelta::days(1),
                Oldest::Open,
            ),
        };
        let windows = TimeSlicer {
            step,
            lag,
            lookback,
            oldest,
            newest_first: false,
            ..TimeSlicer::newest_first("", "", TimeFormat::Rfc3339)
        };
        Self { windows, filter }
    }
}

impl Slicer for Filtered {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        self.windows.plan(state, range, now)
    }

    fn since(&self, range: TimeRange) -> Option<Since> {
        self.windows.since(range)
    }

    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.windows.end(now)
    }

    /// Lists that take no end come with everything that is newer.
    fn before(&self, since: Since, covered: DateTime<Utc>) -> Option<Vec<SliceState>> {
        match self.filter {
            Filter::Created | Filter::StartEnd | Filter::Search => {
                self.windows.before(since, covered)
            }
            Filter::Unfiltered => None,
        }
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        let Some(Window { since, until }) = slice.window else {
            return Ok(());
        };
        let text = |time| render_time(time, TimeFormat::Rfc3339);
        let mut add = |name: &str, value: String| request.query.push((name.to_owned(), value));
        match self.filter {
            Filter::Created => {
                add(
                    "filter[created_at][]",
                    text(since.unwrap_or(DateTime::UNIX_EPOCH)),
                );
                add("filter[created_at][]", text(until));
            }
            Filter::StartEnd => {
                if let Some(since) = since {
                    add(START_TIME, since.timestamp().to_string());
                }
                add("end_time", until.timestamp().to_string());
            }
            Filter::Search => {
                let since = since
                    .map(|since| format!("updated_at>={} ", text(since)))
                    .unwrap_or_default();
                add("query", format!("{since}updated_at<={}", text(until)));
            }
            Filter::Unfiltered => {}
        }
        Ok(())
    }

    /// A window of several is read by itself: one that cannot be read holds up no other.
    fn unit(&self, slice: &SliceState) -> Option<Missed> {
        let Window { since, until } = slice
            .window
            .filter(|_| matches!(self.filter, Filter::StartEnd | Filter::Search))?;
        let text = |time| render_time(time, TimeFormat::Rfc3339);
        let name = since.map_or_else(
            || format!("before {}", text(until)),
            |since| format!("{} to {}", text(since), text(until)),
        );
        Some(Missed::new(name, slice.clone()))
    }

    fn lookback(&self) -> TimeDelta {
        self.windows.lookback()
    }
}
