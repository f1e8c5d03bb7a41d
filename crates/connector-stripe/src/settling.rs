//! Objects that become final without an event: they are read again when they are due.
//!
//! What the lists of a run show as not final yet is noted, by the time when it is expected to be,
//! and that is what this endpoint stores. A sync reads again what has become due since the last
//! one: spans of creation times, and nothing else.

mod open;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::http::{HttpClient, Request};
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, Position, SliceState, Window};
use pipeline_core::{Advance, Endpoint, Error, ErrorKind, Page, RawRecord, Reader, Result, Stream};
use serde::{Deserialize, Serialize};

use self::open::{Open, Span};
use crate::limits::{ACCOUNT, operation};
use crate::streams;
use crate::vendor::{Reading, Settles};

/// Name of the endpoint.
pub(crate) const SETTLING: &str = "settling";

/// How far back to look for what is not final when an earlier run was interrupted before it could
/// be noted.
const FARTHEST: TimeDelta = TimeDelta::days(120);

/// Spans that are begun again in one pass.
const MOST_RESTARTS: u32 = 3;

/// The endpoint: it feeds the streams of such objects, as their lists do.
pub(crate) fn endpoint(lists: &[Endpoint]) -> Endpoint {
    let endpoint = Endpoint::get(SETTLING, "/v1/balance_transactions")
        .slices(Always)
        .incremental()
        .change_feed()
        .max_concurrent_slices(1);
    let endpoint = endpoint
        .buckets([ACCOUNT])
        .bucket(operation("/v1/balance_transactions"));
    let streams = lists
        .iter()
        .filter(|list| settles(list).is_some())
        .flat_map(Endpoint::streams);
    streams.fold(endpoint, |endpoint, stream| {
        endpoint.records("data").stream(stream.clone())
    })
}

/// The name of a list whose objects become final without an event, and how they show it.
fn settles(list: &Endpoint) -> Option<(&'static str, Settles)> {
    let list = streams::stream(list.name())?;
    Some((list.name, list.facts.settles?))
}

/// One slice that never ends.
#[derive(Clone, Copy, Debug)]
struct Always;

impl Slicer for Always {
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

/// What a sync knows from those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// By stream.
    #[serde(default)]
    streams: BTreeMap<String, Known>,
}

/// What is known of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// All that was created before this second and is not final is noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(default, skip_serializing_if = "Open::is_empty")]
    open: Open,
    /// What was read again in the pass under way, and is not final.
    #[serde(default, skip_serializing_if = "Open::is_empty")]
    again: Open,
}

impl Place {
    fn of(slice: &SliceState) -> Result<Self> {
        let Position::At(text) = &slice.position else {
            return Ok(Self::default());
        };
        serde_json::from_str(text).map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                "the stored position of what is not final is damaged",
            )
            .with_help("reset the state of `settling`, and run again")
            .with_source(error)
        })
    }

    fn text(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|_| unreachable!("a place has only string and integer keys"))
    }
}

/// What the lists of this run have read of a stream.
#[derive(Debug, Default)]
struct Noted {
    /// Ends of windows that were read from their start.
    begun: BTreeSet<DateTime<Utc>>,
    /// Windows that were read to their end.
    read: Vec<Window>,
    /// Whether the list was read at all.
    is_answered: bool,
    open: Open,
}

impl Noted {
    /// The end of what was read without a gap from a second on; none when that second was not read.
    fn covered_from(&self, since: Option<i64>) -> Option<i64> {
        let mut windows: Vec<_> = self
            .read
            .iter()
            .map(|window| {
                (
                    window.since.map(|since| since.timestamp()),
                    window.until.timestamp(),
                )
            })
            .collect();
        windows.sort_unstable();
        let mut covered = None;
        for (begin, end) in windows {
            // Windows of what is older than the covered part come first, and leave that as it is.
            let watermark = covered.max(since);
            let touches = match (begin, watermark) {
                (None, _) => true,
                (Some(begin), Some(watermark)) => begin <= watermark,
                (Some(_), None) => false,
            };
            if touches {
                covered = covered.max(Some(end));
            }
        }
        covered
    }
}

/// What is not final in all accounts that are read.
#[derive(Debug)]
pub(crate) struct Settling {
    lists: Vec<Endpoint>,
    /// The configuration's start: nothing older is read.
    start: Option<DateTime<Utc>>,
    lag: TimeDelta,
    /// By account, which is empty for the only one, and stream.
    noted: Mutex<HashMap<(String, &'static str), Noted>>,
}

impl Settling {
    pub(crate) fn new(lists: &[Endpoint], reading: Reading, start: Option<DateTime<Utc>>) -> Self {
        let lists = lists
            .iter()
            .filter(|list| settles(list).is_some())
            .cloned()
            .collect();
        Self {
            lists,
            start,
            lag: reading.lag,
            noted: Mutex::default(),
        }
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<(String, &'static str), Noted>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a list, taking note of what is not final.
    pub(crate) fn note<'a>(
        &'a self,
        client: &HttpClient,
        endpoint: &Endpoint,
        slice: &SliceState,
        pages: BoxStream<'a, Result<Page>>,
    ) -> BoxStream<'a, Result<Page>> {
        let (Some((name, settles)), Some(window)) = (settles(endpoint), slice.window) else {
            return pages;
        };
        let (key, client) = ((account(client), name), client.clone());
        if slice.position == Position::Start {
            self.noted()
                .entry(key.clone())
                .or_default()
                .begun
                .insert(window.until);
        }
        let note = move |page: &Page| {
            let mut noted = self.noted();
            let noted = noted.entry(key.clone()).or_default();
            noted.is_answered = true;
            noted.open.add(
                page.records.first().map_or(&[][..], Vec::as_slice),
                settles,
                client.now().timestamp(),
            );
            if page.advance == Some(Advance::End) && noted.begun.remove(&window.until) {
                noted.read.push(window);
            }
        };
        pages.inspect_ok(note).boxed()
    }

    /// Reads again what has become due.
    pub(crate) fn read<'a>(
        &'a self,
        reader: Reader,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        let begin = async move { Pass::begin(self, reader, endpoint, &slice).await };
        let pages = |pass| {
            stream::try_unfold(Some(pass), |pass: Option<Pass<'a>>| async move {
                let Some(mut pass) = pass else {
                    return Ok(None);
                };
                let page = pass.next().await?;
                let goes_on = matches!(page.advance, Some(Advance::Next(_)));
                Ok(Some((page, goes_on.then_some(pass))))
            })
        };
        stream::once(begin)
            .map_ok(pages)
            .try_flatten()
            .map_err(|error: Error| error.with_context("endpoint", SETTLING))
            .boxed()
    }
}

fn account(client: &HttpClient) -> String {
    client.account().unwrap_or_default().to_owned()
}

/// A list of which something is wanted.
#[derive(Clone, Copy)]
struct Due<'a> {
    endpoint: &'a Endpoint,
    settles: Settles,
    /// Number of its stream among those that are fed.
    index: usize,
}

/// One pass over what is due.
struct Pass<'a> {
    reader: Reader,
    lists: Vec<Due<'a>>,
    streams: usize,
    place: Place,
    now: i64,
    /// The span that is being read. A run that is interrupted begins it again.
    reading: Option<Again<'a>>,
    restarts: u32,
}

/// A span that is read again.
struct Again<'a> {
    list: Due<'a>,
    due: i64,
    span: Span,
    pages: BoxStream<'a, Result<Page>>,
}

impl<'a> Pass<'a> {
    async fn begin(
        settling: &'a Settling,
        reader: Reader,
        endpoint: &'a Endpoint,
        slice: &SliceState,
    ) -> Result<Self> {
        let now = reader.client().now();
        let wanted = endpoint
            .streams()
            .enumerate()
            .filter(|(index, _)| endpoint.wants(*index));
        let list = |(index, fed): (usize, &Stream)| {
            let endpoint = settling
                .lists
                .iter()
                .find(|list| list.name() == fed.name())?;
            Some(Due {
                endpoint,
                settles: settles(endpoint)?.1,
                index,
            })
        };
        let lists: Vec<Due<'a>> = wanted.filter_map(list).collect();
        let (place, streams) = (Place::of(slice)?, endpoint.streams().len());
        let mut pass = Self {
            reader,
            lists,
            streams,
            place,
            now: now.timestamp(),
            reading: None,
            restarts: 0,
        };
        for list in pass.lists.clone() {
            pass.learn(settling, list, now - settling.lag).await?;
        }
        Ok(pass)
    }

    /// Takes over what the list of this run has noted. What it has not read, because an earlier run
    /// did and was interrupted, is looked through.
    async fn learn(
        &mut self,
        settling: &Settling,
        list: Due<'a>,
        end: DateTime<Utc>,
    ) -> Result<()> {
        let name = list.endpoint.name();
        let key = settling
            .noted()
            .keys()
            .find(|(known, stream)| *known == account(self.reader.client()) && *stream == name)
            .cloned();
        // A list that was not read in this run says why by itself.
        let noted = key
            .and_then(|key| settling.noted().remove(&key))
            .filter(|noted| noted.is_answered);
        let Some(noted) = noted else { return Ok(()) };
        let known = self.place.streams.entry(name.to_owned()).or_default();
        // A clock that was ahead may have set it.
        known.until = known.until.map(|until| until.min(end.timestamp()));
        let since = known
            .until
            .or(settling.start.map(|start| start.timestamp()));
        let covered = noted.covered_from(since);
        known.open.join(noted.open);
        if covered.is_some() {
            known.until = known.until.max(covered);
            return Ok(());
        }
        let farthest = (end - FARTHEST).timestamp();
        let window = Window {
            since: DateTime::from_timestamp(
                known.until.map_or(farthest, |until| until.max(farthest)),
                0,
            ),
            until: end,
        };
        let mut open = Open::default();
        let mut pages = self.reader.read(
            list.endpoint,
            SliceState {
                window: Some(window),
                ..SliceState::default()
            },
        );
        while let Some(page) = pages.try_next().await? {
            open.add(
                page.records.first().map_or(&[][..], Vec::as_slice),
                list.settles,
                self.now,
            );
        }
        known.open.join(open);
        known.until = known.until.max(Some(end.timestamp()));
        Ok(())
    }

    /// The next page of what is due; the last one has nothing.
    async fn next(&mut self) -> Result<Page> {
        loop {
            let Some(mut again) = self.reading.take().or_else(|| self.next_span()) else {
                return Ok(self.end());
            };
            let page = match again.pages.try_next().await {
                Ok(page) => page,
                // What it was to go on after is gone: the span is begun again.
                Err(error)
                    if error.kind() == ErrorKind::CursorExpired
                        && self.restarts < MOST_RESTARTS =>
                {
                    self.restarts += 1;
                    continue;
                }
                // Of this kind the position of the whole slice would be given up.
                Err(error) if error.kind() == ErrorKind::CursorExpired => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "a list loses what it is to go on after",
                    )
                    .temporary()
                    .with_source(error));
                }
                Err(error) => return Err(error),
            };
            let now = self.now;
            let known = self.known(again.list);
            let Some(page) = page else {
                known.open.remove(again.due, again.span);
                continue;
            };
            let records = page.records.into_iter().next().unwrap_or_default();
            known.again.add(&records, again.list.settles, now);
            let settled: Vec<RawRecord> = records
                .into_iter()
                .filter(|record| !(again.list.settles.is_open)(record))
                .collect();
            let index = again.list.index;
            if matches!(page.advance, Some(Advance::Next(_))) {
                self.reading = Some(again);
            } else {
                known.open.remove(again.due, again.span);
            }
            if settled.is_empty() {
                continue;
            }
            let mut records = vec![Vec::new(); self.streams];
            records[index] = settled;
            return Ok(Page::new(records, Some(Advance::Next(self.place.text()))));
        }
    }

    fn known(&mut self, list: Due<'_>) -> &mut Known {
        self.place
            .streams
            .entry(list.endpoint.name().to_owned())
            .or_default()
    }

    fn next_span(&mut self) -> Option<Again<'a>> {
        let now = self.now;
        for list in self.lists.clone() {
            let known = self.known(list);
            let Some((due, span)) = known.open.first_due(now) else {
                continue;
            };
            let second = |second| DateTime::from_timestamp(second, 0);
            let window = second(span.end + 1).map(|until| Window {
                since: second(span.begin),
                until,
            });
            let slice = SliceState {
                window,
                ..SliceState::default()
            };
            let pages = self.reader.read(list.endpoint, slice);
            return Some(Again {
                list,
                due,
                span,
                pages,
            });
        }
        None
    }

    /// The end of the pass: what is still not final waits for another while.
    fn end(&mut self) -> Page {
        for list in self.lists.clone() {
            let known = self.known(list);
            let again = std::mem::take(&mut known.again);
            known.open.join(again);
        }
        let watermark = DateTime::from_timestamp(self.now, 0);
        let advance = Advance::CaughtUp(self.place.text());
        Page {
            watermark,
            ..Page::new(vec![Vec::new(); self.streams], Some(advance))
        }
    }
}
