//! One pass over the events: what they tell of is found, and fetched.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::gap::{Missed, Tally};
use pipeline_core::state::{Position, SliceState, Window};
use pipeline_core::{Advance, Endpoint, Error, ErrorKind, Op, Page, RawRecord, Reader, Result};

use super::coverage::{Coverage, Moment};
use super::event::Event;
use super::fetch::Records;
use super::place::{Place, RETENTION};
use super::target::{Found, Targets};
use super::{CHANGES, Changes, routes};
use crate::streams::stream;

/// How near to the end of the retention an event must be for a refusal to mean that it has gone.
const EDGE: TimeDelta = TimeDelta::hours(1);

/// Names that can be asked for in one request; with more, everything is read.
const MOST_TYPES: usize = 20;

/// Objects fetched at the same time. Enough for 100 requests a second at 300 ms.
const AT_ONCE: usize = 32;

/// Ids of events that are remembered from one pass to the next. What comes beyond is fetched once
/// more.
const MOST_REMEMBERED: usize = 10_000;

/// Records by the streams of the endpoint. What takes away comes first: it is about rows that were
/// there before, and not about those beside it.
pub(super) fn sorted(endpoint: &Endpoint, records: Records) -> Vec<Vec<RawRecord>> {
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
pub(super) struct Pass<'a> {
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
    watermark: i64,
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
    pub(super) fn begin(
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
        let (watermark, unknown, tally) = (until, HashSet::new(), Tally::resumed());
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
            watermark,
            unknown,
            tally,
        })
    }

    /// The objects that a page of events tells of.
    pub(super) async fn next(&mut self) -> Result<Page> {
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
        let watermark = if matches!(advance, Advance::CaughtUp(_)) {
            DateTime::from_timestamp(self.until, 0)
        } else {
            None
        };
        Ok(Page {
            watermark,
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
            self.watermark = self.watermark.min(event.created);
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
        is_refused && self.watermark <= (self.reader.client().now() - RETENTION + EDGE).timestamp()
    }
}
