//! The endpoints that the table describes.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::Request;
use pipeline_core::paginate::AfterLastId;
use pipeline_core::slice::{Slicer, TimeRange, TimeSlicer};
use pipeline_core::state::{EndpointState, SliceState, Window};
use pipeline_core::{
    Deletes, EmbeddedList, Endpoint, Result, Schema, Since, StreamDef, SyncMode, TimeFormat,
};

use super::{ACCOUNT, Place, Stream, operation, stream, streams};
use crate::changes::{is_heard, tells_deletions};

/// What the user decides about all lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) page_size: u8,
    pub(crate) lag: TimeDelta,
    pub(crate) lookback: TimeDelta,
}

/// The endpoints that read every stream, by name. The streams inside the records of another one are
/// fed by its endpoint.
pub(crate) fn endpoints(reading: Reading) -> Vec<Endpoint> {
    let mut all: Vec<_> = streams()
        .filter_map(|stream| Some((stream.name, endpoint(stream, reading)?)))
        .collect();
    all.sort_by_key(|(name, _)| *name);
    all.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// The endpoint that reads a stream without its [spare](Stream::spare) members.
pub(crate) fn plain_endpoint(stream: &Stream, reading: Reading) -> Option<Endpoint> {
    let list = request(stream.name, stream.path);
    let list = if stream.paged {
        list.page_size("limit", reading.page_size.into())
            .paginate(PAGES)
    } else {
        list
    };
    let asked = stream
        .expand
        .iter()
        .filter(|member| !stream.spare.contains(member))
        .enumerate();
    let list = stream
        .query
        .iter()
        .fold(list, |list, (name, value)| list.query(*name, *value));
    let list = asked.fold(list, |list, (index, member)| {
        list.query(format!("expand[{index}]"), format!("data.{member}"))
    });
    matches!(stream.place, Place::Account)
        .then(|| complete(walk(stream, reading, &list), stream, reading))
}

/// The endpoint that reads a stream; none for one that another's endpoint feeds.
fn endpoint(stream: &Stream, reading: Reading) -> Option<Endpoint> {
    match stream.place {
        Place::Account => Some(complete(
            walk(stream, reading, &list(stream, reading)),
            stream,
            reading,
        )),
        Place::Each { parent, when } => {
            let parent = self::stream(parent)?;
            // Nothing of the parents is stored, so nothing in them is expanded or completed.
            let bare = Stream {
                expand: &[],
                mode: mode(stream),
                ..*parent
            };
            let own = list(stream, reading).feeds(definition(stream, mode(stream)), "data");
            let own = own.for_each(walk(&bare, reading, &list(&bare, reading)));
            // It also says which rows are kept of a parent whose list cannot be read.
            let own = stream
                .parent_id
                .or(stream.owner)
                .into_iter()
                .fold(own, |own, column| own.inherit("id", column));
            Some(when.into_iter().fold(own, Endpoint::when))
        }
        Place::Inside { .. } => None,
    }
}

/// A list with its slices.
fn walk(stream: &Stream, reading: Reading, list: &Endpoint) -> Endpoint {
    let endpoint = list.clone().feeds(definition(stream, stream.mode), "data");
    let Some(cursor) = stream.cursor else {
        return match stream.partition {
            Some((name, values)) => endpoint.slices(Values { name, values }),
            None if stream.mode == SyncMode::Incremental => endpoint.slices(Once).incremental(),
            None => endpoint,
        };
    };
    let windows = TimeSlicer {
        lag: reading.lag,
        lookback: reading.lookback,
        partition: stream.partition,
        ..TimeSlicer::newest_first("created[gte]", "created[lt]", TimeFormat::UnixSeconds)
    };
    let endpoint = endpoint.cursor(cursor, TimeFormat::UnixSeconds);
    let endpoint = if stream.ageless {
        endpoint.slices(Everything(windows))
    } else {
        endpoint.slices(windows)
    };
    match stream.mode {
        SyncMode::FullRefresh => endpoint,
        SyncMode::Incremental => endpoint.incremental(),
    }
}

/// Adds the lists inside the records: all are completed, and some are streams.
fn complete(mut endpoint: Endpoint, stream: &Stream, reading: Reading) -> Endpoint {
    for child in streams() {
        let Place::Inside { parent, member } = child.place else {
            continue;
        };
        if parent == stream.name {
            let rest = list(child, reading).feeds(definition(child, stream.mode), "data");
            let nested = EmbeddedList::new(member, "has_more", rest).total("total_count");
            // Expanded, it is there, but not in every kind of object: the others' lists are
            // documented to be always there.
            let nested = if stream.expand.contains(&member) {
                nested.optional()
            } else {
                nested
            };
            let column = child.parent_id.or(child.owner);
            endpoint = endpoint.feeds_embedded(
                column
                    .into_iter()
                    .fold(nested, |nested, column| nested.inherit("id", column)),
            );
        }
    }
    for inner in stream.inner {
        let name = format!("{}.{}", stream.name, inner.member);
        let entries = StreamDef::new(name.clone(), Schema::default()).primary_key(["id"]);
        let rest = request(name, inner.path)
            .page_size("limit", reading.page_size.into())
            .paginate(PAGES)
            .feeds(entries, "data");
        let rest = inner
            .query
            .iter()
            .fold(rest, |rest, (name, value)| rest.query(*name, *value));
        endpoint = endpoint.complete_embedded(
            EmbeddedList::new(inner.member, "has_more", rest).total("total_count"),
        );
    }
    endpoint
}

/// The requests of a stream's list.
fn list(stream: &Stream, reading: Reading) -> Endpoint {
    let mut endpoint = request(stream.name, stream.path);
    if stream.paged {
        endpoint = endpoint
            .page_size("limit", reading.page_size.into())
            .paginate(PAGES);
    }
    stream
        .parameters()
        .fold(endpoint, |endpoint, (name, value)| {
            endpoint.query(name, value)
        })
}

/// A request with its limits. What a path of Stripe's names in braces is always the id of the
/// record that the list is of.
fn request(name: impl Into<Cow<'static, str>>, template: &'static str) -> Endpoint {
    let path = match (template.split_once('{'), template.split_once('}')) {
        (Some((before, _)), Some((_, after))) => format!("{before}{{id}}{after}").into(),
        _ => Cow::Borrowed(template),
    };
    Endpoint::get(name, path)
        .buckets([ACCOUNT])
        .bucket(operation(template))
}

const PAGES: AfterLastId = AfterLastId {
    param: "starting_after",
    more: "has_more",
    id: "id",
};

/// How a stream is read from one sync to the next. Of lists that other records have those of new
/// records are read, when it can be told which are new, and events tell when the others have
/// changed.
fn mode(stream: &Stream) -> SyncMode {
    let parent = stream.parent().and_then(self::stream);
    match (stream.place, parent) {
        (Place::Each { .. }, _) if !is_heard(stream) => SyncMode::FullRefresh,
        (
            Place::Each { .. },
            Some(Stream {
                cursor: Some(_), ..
            }),
        ) => SyncMode::Incremental,
        (_, parent) => parent.map_or(stream.mode, mode),
    }
}

fn definition(stream: &Stream, mode: SyncMode) -> StreamDef {
    let definition =
        StreamDef::new(stream.name, stream.schema()).primary_key(stream.key.iter().copied());
    let heard = stream
        .parent()
        .filter(|_| matches!(stream.place, Place::Inside { .. }))
        .and_then(self::stream)
        .unwrap_or(stream);
    definition.deletes(match mode {
        SyncMode::FullRefresh => Deletes::BySnapshot,
        SyncMode::Incremental if tells_deletions(heard) => Deletes::Announced,
        SyncMode::Incremental => Deletes::Invisible,
    })
}

/// Windows over the whole life of the account, whatever the start date.
#[derive(Debug)]
struct Everything(TimeSlicer);

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
struct Once;

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
struct Values {
    name: &'static str,
    values: &'static [&'static str],
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
