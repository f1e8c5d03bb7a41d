//! The feed of changes: what happened to objects that the lists have passed.
//!
//! Stripe's lists are ordered by creation, so they show new objects and not that an old one has
//! changed. Its events do: one pass over them, for all streams, tells which objects to fetch again.
//! What an event says of an object is never stored: it is in the account's own version of the API,
//! holds the first ten entries of lists, and of several events of one second nobody can say which
//! is the last.

mod coverage;
mod event;
mod fetch;
mod routes;
mod target;
mod unit;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::gap::{Missed, Tally};
use pipeline_core::http::{HttpClient, Request};
use pipeline_core::paginate::AfterLastId;
use pipeline_core::slice::{Slicer, TimeRange, TimeSlicer};
use pipeline_core::state::{EndpointState, Position, SliceState, Window};
use pipeline_core::{
    Advance, Endpoint, Error, ErrorKind, Op, Page, RawRecord, Reader, Result, Schema, StreamDef,
    TimeFormat,
};
use serde::{Deserialize, Serialize};

use self::coverage::{Coverage, Moment};
use self::event::Event;
use self::fetch::{Fetcher, Records};
use self::routes::Routes;
pub(crate) use self::routes::{is_heard, tells_deletions};
use self::target::{Found, Targets};
use crate::spare::Spare;
use crate::streams::{ACCOUNT, Place as InStream, Reading, Stream, operation, stream, streams};

/// Name of the endpoint.
pub(crate) const CHANGES: &str = "changes";

/// How long Stripe keeps events.
const RETENTION: TimeDelta = TimeDelta::days(30);

/// How much of that time is left as a reserve for the run itself.
const RESERVE: TimeDelta = TimeDelta::days(1);

/// How near to the end of the retention an event must be for a refusal to mean that it has gone.
const EDGE: TimeDelta = TimeDelta::hours(1);

/// Seconds that clocks go apart without one of them being wrong.
const JITTER: i64 = 60;

/// Names that can be asked for in one request; with more, everything is read.
const MOST_TYPES: usize = 20;

/// Objects fetched at the same time. Enough for 100 requests a second at 300 ms.
const AT_ONCE: usize = 32;

/// Attempts at a request for something that could not be fetched before.
const UNIT_ATTEMPTS: u32 = 2;

/// Ids of events that are remembered from one pass to the next. What comes beyond is fetched once
/// more.
const MOST_REMEMBERED: usize = 10_000;

/// The feeds of all accounts that are read.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The list of events.
    events: Endpoint,
    routes: Routes,
    /// What was read of each account; of the only one, its name is empty.
    coverage: Mutex<HashMap<String, Arc<Coverage>>>,
    fetcher: Fetcher,
    lag: TimeDelta,
    overlap: TimeDelta,
}

/// The endpoint of the feed: it feeds every stream that events tell of, as the lists do.
pub(crate) fn endpoint(lists: &[Endpoint], reading: Reading) -> Endpoint {
    let heard = routes::heard();
    // Lists that are read only when they are named are not part of the feed.
    let lists = lists.iter().filter(|list| !list.is_opt_in());
    let streams = lists
        .flat_map(Endpoint::streams)
        .filter(|stream| heard.contains(stream.name()));
    let endpoint = Endpoint::get(CHANGES, "/v1/events")
        .slices(Start { lag: reading.lag })
        .incremental()
        .last()
        .at_most(1);
    let endpoint = endpoint.buckets([ACCOUNT]).bucket(operation("/v1/events"));
    streams.fold(endpoint, |endpoint, stream| {
        endpoint.feeds(stream.clone(), "data")
    })
}

/// One slice that never ends: each sync goes on where the last one caught up. It begins at the
/// start of the first run, before a list is asked, so that no change falls between the lists and
/// the feed.
#[derive(Clone, Copy, Debug)]
struct Start {
    lag: TimeDelta,
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
        let is_inside = |stream: &&Stream| matches!(stream.place, InStream::Inside { parent, .. } if passed_over.contains(parent));
        let inside: Vec<String> = streams()
            .filter(is_inside)
            .map(|stream| stream.name.to_owned())
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
struct Place {
    /// Everything that happened before this second is known.
    since: i64,
    /// End of the pass under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    /// Where the pass goes on in the list of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// The end of the pass under way, or of the last one, by the earlier of Stripe's clock and
    /// ours: one of them may be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    safe: Option<i64>,
    /// When the newest event that was ever seen happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest: Option<i64>,
    /// Events near the end of the pass under way, which the next one is given again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seen: Vec<String>,
    /// Events near the end of the last pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known: Vec<String>,
    /// Streams whose changes were passed over since their list was last begun: the key could not
    /// read their objects, or the events had aged out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    passed_over: BTreeSet<String>,
}

impl Place {
    fn of(slice: &SliceState) -> Result<Self> {
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

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("a place has only string keys"))
    }

    /// The second before which everything is known, whichever clock was wrong.
    fn surely(&self) -> i64 {
        self.safe.map_or(self.since, |safe| safe.min(self.since))
    }

    /// Takes the place back behind which there may be changes that nobody has read, before a pass
    /// that ends at `end`.
    fn take_back(&mut self, end: i64) {
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
    fn finished(self, until: i64) -> Self {
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

impl Changes {
    pub(crate) fn new(lists: &[Endpoint], reading: Reading, spare: Spare) -> Self {
        let windows =
            TimeSlicer::newest_first("created[gte]", "created[lt]", TimeFormat::UnixSeconds);
        let events = Endpoint::get(CHANGES, "/v1/events")
            .page_size("limit", reading.page_size.into())
            .feeds(
                StreamDef::new("events", Schema::default()).primary_key(["id"]),
                "data",
            )
            .paginate(AfterLastId {
                param: "starting_after",
                more: "has_more",
                id: "id",
            })
            .slices(windows)
            .buckets([ACCOUNT])
            .bucket(operation("/v1/events"));
        let (routes, fetcher) = (Routes::new(), Fetcher::new(lists, reading, spare));
        Self {
            events,
            routes,
            coverage: Mutex::default(),
            fetcher,
            lag: reading.lag,
            overlap: reading.lookback,
        }
    }

    /// What the lists of the account that a client is for have read.
    fn coverage(&self, client: &HttpClient) -> Arc<Coverage> {
        let mut all = self.coverage.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            all.entry(client.account().unwrap_or_default().to_owned())
                .or_default(),
        )
    }

    /// Reads a list, taking note of what it has read.
    pub(crate) fn note<'a>(
        &'a self,
        client: &HttpClient,
        endpoint: &'a Endpoint,
        slice: SliceState,
        pages: BoxStream<'a, Result<Page>>,
    ) -> BoxStream<'a, Result<Page>> {
        let coverage = self.coverage(client);
        coverage.begin(endpoint.name(), &slice, Moment::now(client));
        let note = move |page: &Page| {
            coverage.page(endpoint.name());
            if page.advance == Some(Advance::End) {
                coverage.end(endpoint.name(), &slice);
            }
        };
        pages.inspect_ok(note).boxed()
    }

    /// Reads what changed: from the place where the feed stands up to the start of this run, or
    /// something that could not be fetched before.
    pub(crate) fn read<'a>(
        &'a self,
        reader: Reader,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        if let Some(unit) = slice.unit {
            return stream::once(self.read_unit(reader, endpoint, unit)).boxed();
        }
        let begin = async move { Pass::begin(self, reader, endpoint, &slice) };
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
            .map_err(|error: Error| error.with_context("endpoint", CHANGES))
            .boxed()
    }
}

impl Changes {
    /// Fetches what an earlier pass could not, unless a list of this run has brought it.
    async fn read_unit(&self, reader: Reader, endpoint: &Endpoint, unit: String) -> Result<Page> {
        let nothing = || {
            Page::new(
                vec![Vec::new(); endpoint.streams().len()],
                Some(Advance::End),
            )
        };
        let Some(found) = Found::of(&unit)? else {
            return Ok(nothing());
        };
        let (list, coverage) = (
            self.fetcher.list(found.stream),
            self.coverage(reader.client()),
        );
        let (created, happened) = (found.created.and_then(second), second(found.happened));
        if list
            .zip(happened)
            .is_some_and(|(list, happened)| coverage.has_read(list, created, happened))
        {
            return Ok(nothing());
        }
        let fetched = self
            .fetcher
            .fetch(&reader.with_attempts(UNIT_ATTEMPTS), &found)
            .await?;
        match fetched.refusal {
            Some(refusal) => Err(refusal),
            None => Ok(Page::new(
                sorted(endpoint, fetched.records),
                Some(Advance::End),
            )),
        }
    }
}

fn second(second: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(second, 0)
}

/// Records by the streams of the endpoint. What takes away comes first: it is about rows that were
/// there before, and not about those beside it.
fn sorted(endpoint: &Endpoint, records: Records) -> Vec<Vec<RawRecord>> {
    let index: BTreeMap<&str, usize> = endpoint
        .streams()
        .enumerate()
        .map(|(index, stream)| (stream.name(), index))
        .collect();
    let mut sorted = vec![Vec::new(); index.len()];
    for (stream, record) in records {
        if let Some(index) = index.get(stream) {
            sorted[*index].push(record);
        }
    }
    for records in &mut sorted {
        records.sort_by_key(|record| record.op() != Op::DeleteMatching);
    }
    sorted
}

/// One pass over the events of a span of time, newest first.
struct Pass<'a> {
    changes: &'a Changes,
    reader: Reader,
    coverage: Arc<Coverage>,
    endpoint: &'a Endpoint,
    place: Place,
    until: i64,
    /// Ids of events that the last pass has dealt with.
    known: HashSet<String>,
    events: BoxStream<'a, Result<Page>>,
    targets: Targets<'a>,
    /// When the oldest event so far happened.
    reached: i64,
    /// Names of events that are in no table.
    unknown: HashSet<String>,
    /// What failures to fetch something mean.
    tally: Tally,
}

/// What was fetched for a page of events.
struct Fetch {
    records: Vec<Vec<RawRecord>>,
    /// Objects that may not be read.
    skipped: u64,
    /// What could not be fetched.
    gaps: Vec<Missed>,
}

impl<'a> Pass<'a> {
    fn begin(
        changes: &'a Changes,
        reader: Reader,
        endpoint: &'a Endpoint,
        slice: &SliceState,
    ) -> Result<Self> {
        let mut place = Place::of(slice)?;
        let coverage = changes.coverage(reader.client());
        let started = coverage
            .started()
            .unwrap_or_else(|| Moment::now(reader.client()));
        if place.until.is_none() {
            place.take_back((started.theirs - changes.lag).timestamp());
        }
        let until = place
            .until
            .unwrap_or_else(|| (started.theirs - changes.lag).timestamp())
            .max(place.since);
        if place.until.is_none() {
            place.safe = Some(until.min((started.earlier - changes.lag).timestamp()));
        }
        let time = |second| DateTime::from_timestamp(second, 0);
        // There was nothing behind the newest event, unless the clock that said up to when was
        // wrong.
        let again = place.since - changes.overlap.num_seconds();
        let since = time(place.newest.map_or(again, |newest| again.min(newest + 1)));
        let window = time(until).map(|until| Window { since, until });
        let position = place.after.clone().map_or(Position::Start, Position::At);
        let targets = Targets::new(
            &changes.routes,
            Arc::clone(&coverage),
            &changes.fetcher,
            endpoint,
            changes.lag,
        );
        let types = routes::types(&|stream| targets.wants(stream));
        let names = types
            .into_iter()
            .enumerate()
            .map(|(index, name)| (format!("types[{index}]"), name));
        let query: Vec<_> = names.take(MOST_TYPES + 1).collect();
        let query = if query.len() > MOST_TYPES {
            Vec::new()
        } else {
            query
        };
        let slice = SliceState {
            window,
            query,
            position,
            ..SliceState::default()
        };
        // Nothing can have happened before the feed begins.
        let events = if until == place.since {
            stream::empty().boxed()
        } else {
            reader.read(&changes.events, slice)
        };
        let known = place.known.iter().cloned().collect();
        let (reached, unknown, tally) = (until, HashSet::new(), Tally::resumed());
        Ok(Self {
            changes,
            reader,
            coverage,
            endpoint,
            place,
            until,
            known,
            events,
            targets,
            reached,
            unknown,
            tally,
        })
    }

    /// The objects that a page of events tells of.
    async fn next(&mut self) -> Result<Page> {
        let (events, advance) = match self.events.try_next().await {
            Ok(Some(page)) => (
                page.records.into_iter().next().unwrap_or_default(),
                page.advance,
            ),
            Ok(None) => (Vec::new(), None),
            Err(error) if self.is_edge(&error) => (Vec::new(), None),
            Err(error) => return Err(error),
        };
        let found = self.take(&events);
        let Fetch {
            records,
            skipped,
            gaps,
        } = self.fetch(found).await?;
        self.take_back();
        let advance = if let Some(Advance::Next(after)) = advance {
            self.place.until = Some(self.until);
            self.place.after = Some(after);
            Advance::Next(self.place.text())
        } else {
            self.mind_the_gap();
            self.coverage.clear();
            Advance::CaughtUp(std::mem::take(&mut self.place).finished(self.until).text())
        };
        let reached = if matches!(advance, Advance::CaughtUp(_)) {
            DateTime::from_timestamp(self.until, 0)
        } else {
            None
        };
        Ok(Page {
            reached,
            skipped,
            gaps,
            ..Page::new(records, Some(advance))
        })
    }

    /// Notes the streams that may not be read, and forgets those whose list is being read again
    /// since.
    fn take_back(&mut self) {
        let Self {
            place,
            targets,
            changes,
            coverage,
            ..
        } = self;
        let is_listed = |name: &String| {
            stream(name)
                .and_then(|stream| changes.fetcher.list(stream))
                .is_some_and(|list| coverage.has_begun(list))
        };
        let again: Vec<String> = place
            .passed_over
            .iter()
            .filter(|name| is_listed(name) && !targets.refuses(name))
            .cloned()
            .collect();
        for name in again {
            place.passed_over.remove(&name);
            let message = format!(
                "the whole list of `{name}` was read again, because changes of it had been passed over"
            );
            self.reader.client().notice(CHANGES, &message);
        }
        place
            .passed_over
            .extend(targets.refused().map(ToOwned::to_owned));
    }

    /// What the events of a page say has changed, those known already left out.
    fn take(&mut self, records: &[RawRecord]) -> Vec<Found> {
        let remember_from = self
            .place
            .safe
            .map_or(self.until, |safe| safe.min(self.until))
            - self.changes.overlap.num_seconds();
        let mut found = Vec::new();
        for record in records {
            let event = match Event::read(record) {
                Ok(event) => event,
                Err(error) => {
                    self.misread(record, error.message());
                    continue;
                }
            };
            self.reached = self.reached.min(event.created);
            self.place.newest = self.place.newest.max(Some(event.created));
            if event.created >= remember_from && self.place.seen.len() < MOST_REMEMBERED {
                self.place
                    .seen
                    .extend(event.id.as_deref().map(ToOwned::to_owned));
            }
            if event
                .id
                .as_deref()
                .is_some_and(|id| self.known.contains(id))
            {
                continue;
            }
            let hits = self.targets.hit(&event, &mut found);
            // Without an id, such as the invoice that is to come, it tells of nothing.
            let is_named = event.object.scalar("id").is_some();
            if !is_named && routes::carries_object(&event.kind) {
                self.misread(record, "its object has no id");
            }
            let is_told = hits > 0 && is_named;
            if is_told
                && !routes::is_known(&event.kind)
                && self.unknown.insert(event.kind.to_string())
            {
                let message = format!(
                    "events of the type `{}` are new: understood by the type of their object",
                    event.kind
                );
                self.reader.client().notice(CHANGES, &message);
            }
        }
        found
    }

    /// Takes note of an event that says that something has changed, but not what. The lists that it
    /// may concern are read again by the next sync. Said once.
    fn misread(&mut self, event: &RawRecord, reason: &str) {
        let kind = event.scalar("type");
        let concerns = |name: &str| {
            kind.as_deref()
                .is_none_or(|kind| routes::concerned(kind).any(|concerned| concerned == name))
        };
        let wanted = self
            .endpoint
            .streams()
            .enumerate()
            .filter(|(index, _)| self.endpoint.wants(*index));
        self.place.passed_over.extend(
            wanted
                .map(|(_, stream)| stream.name())
                .filter(|name| concerns(name))
                .map(ToOwned::to_owned),
        );
        if self.unknown.insert(String::new()) {
            let id = event.scalar("id").unwrap_or_default();
            let message = format!(
                "events are not what Stripe documents, `{id}` first ({reason}): the next sync reads the lists again that they concern"
            );
            self.reader.client().notice(CHANGES, &message);
        }
    }

    /// Fetches what was found, many at a time, and sorts the records by stream. What cannot be
    /// fetched is passed over, as long as other things can.
    async fn fetch(&mut self, found: Vec<Found>) -> Result<Fetch> {
        let (reader, fetcher) = (&self.reader, &self.changes.fetcher);
        let fetch = |found: Found| async move { (fetcher.fetch(reader, &found).await, found) };
        let mut objects = stream::iter(found).map(fetch).buffer_unordered(AT_ONCE);
        let (mut records, mut skipped) = (Records::new(), 0);
        while let Some((fetched, found)) = objects.next().await {
            match fetched {
                Ok(object) => {
                    self.tally.succeeded();
                    records.extend(object.records);
                    if let Some(refusal) = &object.refusal {
                        skipped += 1;
                        self.targets.refuse(reader.client(), object.stream, refusal);
                    }
                }
                Err(error) => self.tally.failed(found.missed(), error)?,
            }
        }
        let gaps = self
            .tally
            .finish(async { fetcher.probe(reader.client()).await })
            .await?;
        Ok(Fetch {
            records: sorted(self.endpoint, records),
            skipped,
            gaps,
        })
    }

    /// Events that the pass was to read may have aged out while it, or the lists before it, took
    /// long. What they told of is read again by the next sync.
    fn mind_the_gap(&mut self) {
        if self.place.since > (self.reader.client().now() - RETENTION).timestamp() {
            return;
        }
        let wanted = self
            .endpoint
            .streams()
            .enumerate()
            .filter(|(index, _)| self.endpoint.wants(*index));
        self.place
            .passed_over
            .extend(wanted.map(|(_, stream)| stream.name().to_owned()));
        let message = "events aged out before they could be read: the next sync reads all lists again that they concern";
        self.reader.client().notice(CHANGES, message);
    }

    /// Events age while they are read, and a page behind one that has gone is refused: the pass is
    /// at its end.
    fn is_edge(&self, error: &Error) -> bool {
        let is_refused = matches!(
            error.kind(),
            ErrorKind::CursorExpired | ErrorKind::Refused | ErrorKind::NotFound
        );
        is_refused && self.reached <= (self.reader.client().now() - RETENTION + EDGE).timestamp()
    }
}

/// The operation that fetches one object of a list.
pub(crate) fn retrieve_operation(path: &str) -> String {
    operation(&format!("{path}/{{id}}"))
}

/// Every path of which single objects are fetched.
pub(crate) fn retrieved() -> impl Iterator<Item = &'static str> {
    routes::heard()
        .into_iter()
        .filter_map(stream)
        .map(Stream::object_list)
}

/// The names of all events that the feed asks for, for those who check them.
pub fn event_types() -> BTreeSet<String> {
    routes::types(&|_| true)
}
