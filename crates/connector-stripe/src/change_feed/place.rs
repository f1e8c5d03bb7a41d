//! Where the feed is: what a sync knows of those before it.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::Request;
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, Position, SliceState};
use pipeline_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::unit;
use crate::streams::{inside, stream};

/// How long Stripe keeps events.
pub(super) const RETENTION: TimeDelta = TimeDelta::days(30);

/// How much of that time is left as a reserve for the run itself.
const RESERVE: TimeDelta = TimeDelta::days(1);

/// Seconds that clocks go apart without one of them being wrong.
const JITTER: i64 = 60;

/// One slice that never ends: each sync goes on where the last one caught up. It begins at the
/// start of the first run, before a list is asked, so that no change falls between the lists and
/// the feed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) lag: TimeDelta,
}

const SINCE: &str = "since";

impl Slicer for Start {
    fn plan(
        &self,
        state: &EndpointState,
        _range: TimeRange,
        now: DateTime<Utc>,
    ) -> Vec<SliceState> {
        if !state.slices.is_empty() {
            return Vec::new();
        }
        let since = (SINCE.to_owned(), (now - self.lag).timestamp().to_string());
        vec![SliceState {
            query: vec![since],
            ..SliceState::default()
        }]
    }

    fn apply(&self, _slice: &SliceState, _request: &mut Request) -> Result<()> {
        Ok(())
    }

    fn expired(&self, state: &EndpointState, now: DateTime<Utc>) -> bool {
        // An end that is still to come was set by a wrong clock.
        let known = |place: Place| {
            if place.since > now.timestamp() {
                place.surely()
            } else {
                place.since
            }
        };
        let since = state
            .slices
            .values()
            .filter_map(|slice| Place::of(slice).ok())
            .map(known)
            .min();
        since.is_some_and(|since| now.timestamp() - since > (RETENTION - RESERVE).num_seconds())
    }

    fn missed(&self, state: &EndpointState) -> BTreeSet<String> {
        let passed_over: BTreeSet<String> = state
            .slices
            .values()
            .filter_map(|slice| Place::of(slice).ok())
            .flat_map(|place| place.passed_over)
            .collect();
        let owners = passed_over.iter().filter_map(|name| stream(name));
        let inside: Vec<String> = owners
            .flat_map(inside)
            .map(|(inside, _)| inside.name.to_owned())
            .collect();
        passed_over
            .into_iter()
            .chain(inside)
            .chain(unit::streams_to_read(state))
            .collect()
    }
}

/// Where the feed is: what a sync knows of those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Everything that happened before this second is known.
    pub(super) since: i64,
    /// End of the pass under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<i64>,
    /// Where the pass goes on in the list of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// The end of the pass under way, or of the last one, by the earlier of Stripe's clock and
    /// ours: one of them may be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) safe: Option<i64>,
    /// When the newest event that was ever seen happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) newest: Option<i64>,
    /// Events near the end of the pass under way, which the next one is given again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) seen: Vec<String>,
    /// Events near the end of the last pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) known: Vec<String>,
    /// Streams whose changes were passed over since their list was last begun: the key could not
    /// read their objects, or the events had aged out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) passed_over: BTreeSet<String>,
}

impl Place {
    pub(super) fn of(slice: &SliceState) -> Result<Self> {
        let damaged = || {
            Error::new(
                ErrorKind::Decode,
                "the stored position of the change feed is damaged",
            )
            .with_help("run with --full-refresh after resetting the state of `changes`")
        };
        match &slice.position {
            Position::At(text) => {
                serde_json::from_str(text).map_err(|error| damaged().with_source(error))
            }
            Position::Start | Position::End => {
                let since = slice
                    .query
                    .iter()
                    .find(|(name, _)| name == SINCE)
                    .and_then(|(_, since)| since.parse().ok());
                Ok(Self {
                    since: since.ok_or_else(damaged)?,
                    ..Self::default()
                })
            }
        }
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("a place has only string keys"))
    }

    /// The second before which everything is known, whichever clock was wrong.
    fn surely(&self) -> i64 {
        self.safe.map_or(self.since, |safe| safe.min(self.since))
    }

    /// Takes the place back behind which there may be changes that nobody has read, before a pass
    /// that ends at `end`.
    pub(super) fn take_back(&mut self, end: i64) {
        self.since = match self.surely() {
            // Both clocks were wrong: only the events that were seen are left to go by.
            since if since > end + JITTER => self
                .newest
                .unwrap_or(end - RETENTION.num_seconds())
                .min(end),
            since => since,
        };
    }

    /// The place behind the whole pass.
    pub(super) fn finished(self, until: i64) -> Self {
        let Self {
            safe,
            newest,
            seen,
            passed_over,
            ..
        } = self;
        Self {
            since: until,
            safe,
            newest,
            known: seen,
            passed_over,
            ..Self::default()
        }
    }
}
