//! The endpoints that the table describes.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::Request;
use pipeline_core::paginate::AfterLastId;
use pipeline_core::slice::{Slicer, TimeRange, Windows};
use pipeline_core::state::{EndpointState, SliceState};
use pipeline_core::{Deletes, Endpoint, Result, StreamDef, SyncMode, TimeFormat};

use super::{ACCOUNT, Place, Stream, operation, streams};

/// What the user decides about all lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) page_size: u8,
    pub(crate) lag: TimeDelta,
    pub(crate) lookback: TimeDelta,
}

/// The endpoints that read every stream.
pub(crate) fn endpoints(reading: Reading) -> Vec<Endpoint> {
    let mut own: Vec<_> = streams().filter(|stream| matches!(stream.place, Place::Account)).collect();
    own.sort_by_key(|stream| stream.name);
    own.into_iter().map(|stream| endpoint(stream, reading)).collect()
}

/// The endpoint that reads a stream.
fn endpoint(stream: &Stream, reading: Reading) -> Endpoint {
    let endpoint = list(stream, reading).feeds(definition(stream, stream.mode), "data");
    let Some(cursor) = stream.cursor else {
        return match stream.partition {
            Some((name, values)) => endpoint.slices(Values { name, values }),
            None => endpoint,
        };
    };
    let windows = Windows {
        lag: reading.lag,
        lookback: reading.lookback,
        partition: stream.partition,
        ..Windows::newest_first("created[gte]", "created[lt]", TimeFormat::UnixSeconds)
    };
    let endpoint = endpoint.cursor(cursor, TimeFormat::UnixSeconds);
    match stream.mode {
        SyncMode::FullRefresh => endpoint.slices(Everything(windows)),
        SyncMode::Incremental => endpoint.slices(windows).incremental(),
    }
}

/// The requests of a list.
fn list(stream: &Stream, reading: Reading) -> Endpoint {
    let mut endpoint = Endpoint::get(stream.name, stream.path).buckets([ACCOUNT]).bucket(operation(stream.path));
    if stream.paged {
        endpoint = endpoint.query("limit", reading.page_size.to_string()).paginate(PAGES);
    }
    stream.parameters().fold(endpoint, |endpoint, (name, value)| endpoint.query(name, value))
}

const PAGES: AfterLastId = AfterLastId { param: "starting_after", more: "has_more", id: "id" };

fn definition(stream: &Stream, mode: SyncMode) -> StreamDef {
    let definition = StreamDef::new(stream.name, stream.schema()).primary_key(stream.key.iter().copied());
    definition.deletes(match mode {
        SyncMode::FullRefresh => Deletes::BySnapshot,
        SyncMode::Incremental => Deletes::Invisible,
    })
}

/// Windows over the whole life of the account. A start date limits what happened, not what is on sale: a subscription of
/// today can have a price of ten years ago.
#[derive(Debug)]
struct Everything(Windows);

impl Slicer for Everything {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        self.0.plan(state, TimeRange { start: None, ..range }, now)
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
}

/// One slice for each value of a parameter, of a list that cannot be filtered by time.
#[derive(Debug)]
struct Values {
    name: &'static str,
    values: &'static [&'static str],
}

impl Slicer for Values {
    fn plan(&self, state: &EndpointState, _range: TimeRange, _now: DateTime<Utc>) -> Vec<SliceState> {
        if !state.slices.is_empty() {
            return Vec::new();
        }
        let slice = |value: &&str| SliceState { query: vec![(self.name.to_owned(), (*value).to_owned())], ..SliceState::default() };
        self.values.iter().map(slice).collect()
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        for (name, value) in &slice.query {
            request.set_query(name, value.clone());
        }
        Ok(())
    }
}
