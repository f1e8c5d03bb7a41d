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
mod pass;
mod place;
mod routes;
mod target;
mod unit;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::http::HttpClient;
use pipeline_core::slice::TimeSlicer;
use pipeline_core::state::SliceState;
use pipeline_core::{Advance, Endpoint, Error, Page, Reader, Result, Schema, Stream, TimeFormat};

use self::coverage::{Coverage, Moment};
use self::fetch::Fetcher;
use self::pass::{Pass, sorted};
use self::place::Start;
use self::routes::Routes;
pub(crate) use self::routes::concerned;
pub use self::routes::{heard, tells_deletions};
use self::target::Found;
use crate::limits::{ACCOUNT, operation};
use crate::spare::Spare;
use crate::vendor::{AFTER_LAST, Reading, Stripe};

/// Name of the endpoint.
pub(crate) const CHANGES: &str = "changes";

/// Attempts at a request for something that could not be fetched before.
const UNIT_ATTEMPTS: u32 = 2;

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
    let heard = heard();
    // Lists that are read only when they are named are not part of the feed.
    let lists = lists.iter().filter(|list| !list.is_opt_in());
    let streams = lists
        .flat_map(Endpoint::streams)
        .filter(|stream| heard.contains(stream.name()));
    let endpoint = Endpoint::get(CHANGES, "/v1/events")
        .slices(Start { lag: reading.lag })
        .incremental()
        .change_feed()
        .max_concurrent_slices(1);
    let endpoint = endpoint.buckets([ACCOUNT]).bucket(operation("/v1/events"));
    streams.fold(endpoint, |endpoint, stream| {
        endpoint.records("data").stream(stream.clone())
    })
}

impl Changes {
    pub(crate) fn new(lists: &[Endpoint], stripe: &Stripe, spare: Spare) -> Self {
        let reading = stripe.reading();
        let windows =
            TimeSlicer::newest_first("created[gte]", "created[lt]", TimeFormat::UnixSeconds);
        let events = Endpoint::get(CHANGES, "/v1/events")
            .page_size("limit", reading.page_size.into())
            .records("data")
            .stream(Stream::new("events", Schema::default()).primary_key(["id"]))
            .paginate(AFTER_LAST)
            .slices(windows)
            .buckets([ACCOUNT])
            .bucket(operation("/v1/events"));
        let (routes, fetcher) = (Routes::new(), Fetcher::new(lists, stripe, spare));
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

/// The names of all events that the feed asks for, for those who check them.
pub fn event_types() -> BTreeSet<String> {
    routes::types(&|_| true)
}
