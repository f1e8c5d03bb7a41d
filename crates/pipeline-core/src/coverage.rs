//! What of an endpoint is covered: from when on, up to when, and how sure that is.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
#[cfg(any(feature = "engine", test))]
use {
    crate::state::{EndpointState, Position, SliceState, Window},
    chrono::TimeDelta,
};

/// How far clocks go apart from one answer to the next without one of them being wrong.
#[cfg(any(feature = "engine", test))]
const JITTER: TimeDelta = TimeDelta::minutes(1);

/// From when on something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// Whenever the account began.
    Beginning,
    /// This instant.
    At(DateTime<Utc>),
}

/// What of an endpoint that is cut by time is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Everything from here on is committed, or planned as slices.
    pub since: Since,
    /// Where the configuration had it begin when it was last planned.
    pub wanted: Since,
    /// Where the last plan would have ended by the earlier of the vendor's clock and ours. An end that lies behind it was taken
    /// from a clock that may be wrong: the next plan begins here again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// The newest cursor value of a record: whatever the clocks say, nothing newer was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DateTime<Utc>>,
}

impl Coverage {
    /// What a first plan covers.
    pub fn new(since: Since, until: Option<DateTime<Utc>>) -> Self {
        Self { since, wanted: since, until, newest: None }
    }

    /// Takes note of a record.
    pub(crate) fn saw(&mut self, newest: Option<DateTime<Utc>>) {
        self.newest = self.newest.max(newest);
    }

    /// How far everything is read, of a plan that ended at `end`, when one made now would end at `present`.
    #[cfg(any(feature = "engine", test))]
    fn safe(self, end: DateTime<Utc>, present: DateTime<Utc>) -> DateTime<Utc> {
        let safe = self.until.map_or(end, |until| end.min(until));
        // Both clocks said so, and were wrong. Only the records are left to go by.
        if safe > present + JITTER { self.newest.map_or(present, |newest| newest.min(present)) } else { safe }
    }
}

#[cfg(any(feature = "engine", test))]
impl EndpointState {
    /// Says where the plan would have ended by the earlier clock, now that more is known of it.
    pub(crate) fn vouch(&mut self, until: Option<DateTime<Utc>>) {
        if let (Some(coverage), Some(until)) = (&mut self.coverage, until) {
            coverage.until = Some(coverage.until.map_or(until, |known| known.min(until)));
        }
    }

    /// Takes ends back that lie behind what is surely read, so that what lies between is read again. `present` is where a plan
    /// that is made now would end.
    pub(crate) fn take_back(&mut self, present: DateTime<Utc>, newest_first: bool) {
        let planned = self.slices.values().filter_map(|slice| Some(slice.window?.until)).max();
        let Some(end) = planned.max(self.cursor) else { return };
        let unknown = Coverage::new(Since::Beginning, None);
        let safe = self.coverage.unwrap_or(unknown).safe(end, present);
        if safe >= end {
            return;
        }
        self.cursor = self.cursor.map(|cursor| cursor.min(safe));
        self.slices.retain(|_, slice| slice.end_at(safe, newest_first));
    }
}

#[cfg(any(feature = "engine", test))]
impl SliceState {
    /// Ends the slice no later than an instant. False when nothing is left of it.
    fn end_at(&mut self, end: DateTime<Utc>, newest_first: bool) -> bool {
        let Some(window) = self.window.filter(|window| window.until > end) else { return true };
        let until = match (&self.position, self.reached) {
            // What it is to go on behind stays inside: vendors refuse a record that does not match.
            (Position::At(_), Some(reached)) if newest_first => end.max(reached + TimeDelta::seconds(1)).min(window.until),
            _ => end,
        };
        if matches!(self.position, Position::At(_)) && !newest_first {
            self.position = Position::Start;
        }
        self.window = Some(Window { until, ..window });
        window.since.is_none_or(|since| since < until)
    }
}
