//! What of an endpoint is covered: from when on, up to when, and how sure that is.

use chrono::TimeDelta;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::state::{EndpointState, Position, SliceState, Window};

/// How far clocks go apart from one answer to the next without one of them being wrong.
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
    /// Where the last plan would have ended by the earlier of the vendor's clock and ours. An end
    /// that lies behind it was taken from a clock that may be wrong: the next plan begins here
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// The newest cursor value of a record: whatever the clocks say, nothing newer was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DateTime<Utc>>,
}

impl Coverage {
    /// What a first plan covers.
    pub fn new(since: Since, until: Option<DateTime<Utc>>) -> Self {
        Self {
            since,
            wanted: since,
            until,
            newest: None,
        }
    }

    /// Adds a record.
    pub fn saw(&mut self, newest: Option<DateTime<Utc>>) {
        self.newest = self.newest.max(newest);
    }

    /// How far everything is read, of a plan that ended at `end`, when one made now would end at
    /// `present`.
    fn safe(self, end: DateTime<Utc>, present: DateTime<Utc>) -> DateTime<Utc> {
        let safe = self.until.map_or(end, |until| end.min(until));
        // Both clocks said so, and were wrong. Only the records are left to go by.
        if safe > present + JITTER {
            self.newest.map_or(present, |newest| newest.min(present))
        } else {
            safe
        }
    }
}

impl EndpointState {
    /// Says where the plan would have ended by the earlier clock, now that more is known of it.
    pub fn vouch(&mut self, until: Option<DateTime<Utc>>) {
        if let (Some(coverage), Some(until)) = (&mut self.coverage, until) {
            coverage.until = Some(coverage.until.map_or(until, |known| known.min(until)));
        }
    }

    /// Takes ends back that lie behind what is surely read, so that what lies between is read
    /// again. `present` is where a plan that is made now would end.
    pub fn take_back(&mut self, present: DateTime<Utc>, newest_first: bool) {
        let planned = self
            .slices
            .values()
            .filter_map(|slice| Some(slice.window?.until))
            .max();
        let Some(end) = planned.max(self.cursor) else {
            return;
        };
        let unknown = Coverage::new(Since::Beginning, None);
        let safe = self.coverage.unwrap_or(unknown).safe(end, present);
        if safe >= end {
            return;
        }
        self.cursor = self.cursor.map(|cursor| cursor.min(safe));
        self.slices
            .retain(|_, slice| slice.end_at(safe, newest_first));
    }
}

impl SliceState {
    /// Ends the slice no later than an instant. False when nothing is left of it.
    fn end_at(&mut self, end: DateTime<Utc>, newest_first: bool) -> bool {
        let Some(window) = self.window.filter(|window| window.until > end) else {
            return true;
        };
        let until = match (&self.position, self.watermark) {
            // The record to resume behind stays inside: vendors refuse a record that does not
            // match.
            (Position::At(_), Some(watermark)) if newest_first => {
                end.max(watermark + TimeDelta::seconds(1)).min(window.until)
            }
            _ => end,
        };
        if matches!(self.position, Position::At(_)) && !newest_first {
            self.position = Position::Start;
        }
        self.window = Some(Window { until, ..window });
        window.since.is_none_or(|since| since < until)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::state::{CheckpointDelta, EndpointId};

    fn second(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn covered(until: Option<i64>) -> EndpointState {
        EndpointState {
            coverage: Some(Coverage::new(Since::Beginning, until.map(second))),
            ..EndpointState::default()
        }
    }

    #[test]
    fn the_newest_record_that_was_ever_read_is_kept() {
        let mut state = covered(None);
        let slice = state.add_slice(SliceState::default());
        for (page, newest, expected) in [
            (1, None, None),
            (2, Some(50), Some(50)),
            (3, Some(40), Some(50)),
            (4, None, Some(50)),
        ] {
            let (from, to) = (
                state.slices[&slice].position.clone(),
                Position::At(page.to_string()),
            );
            let (endpoint, newest) = (EndpointId::new("shop", "orders"), newest.map(second));
            let change = CheckpointDelta::Advance {
                endpoint,
                plan: 0,
                slice,
                from,
                to,
                watermark: None,
                newest,
                seen: vec![],
                gaps: vec![],
            };
            state.apply(&change).unwrap();
            assert_eq!(
                state.coverage.unwrap().newest,
                expected.map(second),
                "after page {page}"
            );
        }
    }

    #[test]
    fn the_earliest_end_that_a_clock_vouches_for_counts() {
        let vouched = |known, until| {
            let mut state = covered(known);
            state.vouch(until);
            state.coverage.unwrap().until
        };
        assert_eq!(vouched(None, Some(second(10))), Some(second(10)));
        assert_eq!(vouched(Some(20), Some(second(10))), Some(second(10)));
        assert_eq!(vouched(Some(5), Some(second(10))), Some(second(5)));
        assert_eq!(vouched(Some(5), None), Some(second(5)));
    }

    #[test]
    fn clocks_that_differ_by_a_minute_are_both_right() {
        let safe = |end| {
            Coverage {
                newest: Some(second(900)),
                ..Coverage::new(Since::Beginning, Some(second(end)))
            }
            .safe(second(end), second(2_000))
        };
        assert_eq!(
            [1_500, 2_060, 2_061].map(safe),
            [second(1_500), second(2_060), second(900)]
        );
    }

    #[test]
    fn a_slice_ends_where_it_is_safe_or_is_dropped() {
        let ended = |since, until, position: Position, newest_first| {
            let window = Some(Window {
                since: Some(second(since)),
                until: second(until),
            });
            let mut slice = SliceState {
                window,
                position,
                watermark: Some(second(500)),
                ..SliceState::default()
            };
            slice
                .end_at(second(1_000), newest_first)
                .then(|| (slice.window.unwrap().until.timestamp(), slice.position))
        };
        let at = || Position::At("or_1".to_owned());
        assert_eq!(
            ended(0, 1_001, at(), false),
            Some((1_000, Position::Start)),
            "oldest first: it is read again"
        );
        assert_eq!(
            ended(0, 1_000, at(), false),
            Some((1_000, at())),
            "it ended there"
        );
        assert_eq!(ended(0, 1_001, at(), true), Some((1_000, at())));
        assert_eq!(
            ended(999, 2_000, Position::Start, true),
            Some((1_000, Position::Start))
        );
        assert_eq!(
            ended(1_000, 2_000, Position::Start, true),
            None,
            "nothing is left of it"
        );
        let mut late = SliceState {
            position: at(),
            watermark: Some(second(1_500)),
            ..SliceState::default()
        };
        late.window = Some(Window {
            since: None,
            until: second(2_000),
        });
        assert!(late.end_at(second(1_000), false));
        assert_eq!(
            (late.window.unwrap().until, late.position),
            (second(1_000), Position::Start),
            "oldest first, whatever was reached"
        );
        assert!(
            SliceState::default().end_at(second(1_000), true),
            "one without a window has no end"
        );
    }
}
