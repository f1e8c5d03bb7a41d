//! A project's own days: its time zone, and how its events were stored.

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use pipeline_core::gap::Missed;
use pipeline_core::http::Request;
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, SliceState};
use pipeline_core::{Result, Since};
use schemars::JsonSchema;
use serde::Deserialize;

/// The zone in which a day begins last: a day that has begun there has begun everywhere.
pub(crate) const LAST_ZONE: Tz = Tz::Etc__GMTPlus12;

/// Longer than any change of a zone's clocks.
const LONGEST_GAP: TimeDelta = TimeDelta::hours(26);

/// How a project's events were stored, which decides what exported times and days mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeStorage {
    /// In UTC: projects made in 2023 or later.
    #[default]
    Utc,
    /// As the wall-clock time of the project's zone: projects made before 2023.
    ProjectLocal,
}

/// What days and times of a project mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calendar {
    /// The project's zone.
    pub(crate) zone: Tz,
    /// How its events were stored.
    pub(crate) storage: TimeStorage,
}

/// When something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Milliseconds since 1970, in UTC.
    pub(crate) millis: i64,
    /// True when the wall clock showed this time twice that day, so that it may have been an hour
    /// later.
    pub(crate) is_ambiguous: bool,
}

impl TimeStorage {
    /// Its name in a configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Utc => "utc",
            Self::ProjectLocal => "project_local",
        }
    }
}

impl Calendar {
    /// The wall clock in the project's zone, which the days of all queries are counted by, read as
    /// if it were UTC.
    pub(crate) fn local(self, now: DateTime<Utc>) -> DateTime<Utc> {
        now.with_timezone(&self.zone).naive_local().and_utc()
    }

    /// The clock that the days of the export are counted by, read as if it were UTC.
    pub(crate) fn export_clock(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.storage {
            TimeStorage::Utc => now,
            TimeStorage::ProjectLocal => self.local(now),
        }
    }

    /// Today, as queries count days.
    pub(crate) fn today(self, now: DateTime<Utc>) -> NaiveDate {
        self.local(now).date_naive()
    }

    /// When an event happened whose exported time is `millis`.
    ///
    /// Wall-clock times are resolved by the zone's rules of that day. Of a time that occurs twice,
    /// when clocks are set back, it is the earlier one; one that never occurs, when clocks are set
    /// forward, counts on from before the change.
    pub(crate) fn moment(self, millis: i64) -> Moment {
        let wall_clock = DateTime::from_timestamp_millis(millis)
            .filter(|_| self.storage == TimeStorage::ProjectLocal);
        let Some(wall_clock) = wall_clock.map(|time| time.naive_utc()) else {
            return Moment {
                millis,
                is_ambiguous: false,
            };
        };
        match self.zone.from_local_datetime(&wall_clock) {
            LocalResult::Single(time) => Moment {
                millis: time.timestamp_millis(),
                is_ambiguous: false,
            },
            LocalResult::Ambiguous(earlier, _) => Moment {
                millis: earlier.timestamp_millis(),
                is_ambiguous: true,
            },
            LocalResult::None => {
                let before = wall_clock
                    .checked_sub_signed(LONGEST_GAP)
                    .and_then(|before| self.zone.from_local_datetime(&before).latest());
                let millis =
                    before.map_or(millis, |before| (before + LONGEST_GAP).timestamp_millis());
                Moment {
                    millis,
                    is_ambiguous: false,
                }
            }
        }
    }
}

/// Which of a project's two clocks days are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DayClock {
    /// That of the export.
    Export,
    /// That of queries.
    Query,
}

/// Days as the project counts them: a slicer of days that is told the project's time instead of
/// UTC.
///
/// Windows then begin and end at the midnights of the project, each written as the same midnight in
/// UTC.
#[derive(Clone, Debug)]
pub(crate) struct ProjectDays<S> {
    /// Cuts days.
    pub(crate) days: S,
    /// The project's.
    pub(crate) calendar: Calendar,
    /// Which days.
    pub(crate) clock: DayClock,
}

impl<S> ProjectDays<S> {
    /// The time by which the project counts these days.
    fn clock(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.clock {
            DayClock::Export => self.calendar.export_clock(now),
            DayClock::Query => self.calendar.local(now),
        }
    }
}

impl<S: Slicer> Slicer for ProjectDays<S> {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        self.days.plan(state, range, self.clock(now))
    }

    fn since(&self, range: TimeRange) -> Option<Since> {
        self.days.since(range)
    }

    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.days.end(self.clock(now))
    }

    fn before(&self, since: Since, covered: DateTime<Utc>) -> Option<Vec<SliceState>> {
        self.days.before(since, covered)
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        self.days.apply(slice, request)
    }

    fn split(&self, slice: &SliceState) -> Option<(SliceState, SliceState)> {
        self.days.split(slice)
    }

    fn restart(&self, slice: &SliceState) -> Option<SliceState> {
        self.days.restart(slice)
    }

    fn requests_left(&self, slice: &SliceState) -> Option<u64> {
        self.days.requests_left(slice)
    }

    fn unit(&self, slice: &SliceState) -> Option<Missed> {
        self.days.unit(slice)
    }

    fn is_newest_first(&self) -> bool {
        self.days.is_newest_first()
    }

    fn lookback(&self) -> TimeDelta {
        self.days.lookback()
    }
}
