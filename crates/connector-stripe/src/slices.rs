//! How Stripe's lists are cut into slices.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::Request;
use pipeline_core::slice::{Slicer, TimeRange, TimeSlicer};
use pipeline_core::state::{EndpointState, SliceState, Window};
use pipeline_core::{Result, Since};

/// Windows over the whole life of the account, whatever the start date.
#[derive(Debug)]
pub(crate) struct Everything(pub(crate) TimeSlicer);

impl Slicer for Everything {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        self.0.plan(
            state,
            TimeRange {
                start: None,
                ..range
            },
            now,
        )
    }

    fn since(&self, _range: TimeRange) -> Option<Since> {
        Some(Since::Beginning)
    }

    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.end(now)
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        self.0.apply(slice, request)
    }

    fn split(&self, slice: &SliceState) -> Option<(SliceState, SliceState)> {
        self.0.split(slice)
    }

    fn restart(&self, slice: &SliceState) -> Option<SliceState> {
        self.0.restart(slice)
    }

    fn is_newest_first(&self) -> bool {
        self.0.is_newest_first()
    }

    fn lookback(&self) -> TimeDelta {
        self.0.lookback()
    }

    fn around(&self, time: DateTime<Utc>) -> Option<Window> {
        self.0.around(time)
    }
}

/// The whole list, once.
#[derive(Debug)]
pub(crate) struct Once;

impl Slicer for Once {
    fn plan(
        &self,
        state: &EndpointState,
        _range: TimeRange,
        now: DateTime<Utc>,
    ) -> Vec<SliceState> {
        if state.cursor.is_some() || !state.slices.is_empty() {
            return Vec::new();
        }
        vec![SliceState {
            window: Some(Window {
                since: None,
                until: now,
            }),
            ..SliceState::default()
        }]
    }

    fn apply(&self, _slice: &SliceState, _request: &mut Request) -> Result<()> {
        Ok(())
    }

    /// The whole list: nothing smaller can be asked for.
    fn around(&self, time: DateTime<Utc>) -> Option<Window> {
        Some(Window {
            since: Some(time),
            until: time + TimeDelta::seconds(1),
        })
    }
}

/// One slice for each value of a parameter, of a list that cannot be filtered by time.
#[derive(Debug)]
pub(crate) struct Values {
    pub(crate) name: &'static str,
    pub(crate) values: &'static [&'static str],
}

impl Slicer for Values {
    fn plan(
        &self,
        state: &EndpointState,
        _range: TimeRange,
        _now: DateTime<Utc>,
    ) -> Vec<SliceState> {
        if !state.slices.is_empty() {
            return Vec::new();
        }
        let slice = |value: &&str| SliceState {
            query: vec![(self.name.to_owned(), (*value).to_owned())],
            ..SliceState::default()
        };
        self.values.iter().map(slice).collect()
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        for (name, value) in &slice.query {
            request.set_query(name, value.clone());
        }
        Ok(())
    }
}
