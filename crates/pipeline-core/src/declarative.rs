//! Reads an [`Endpoint`]: the interpreter of the declarations that a connector is made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::stream;

use self::check::first_page;
pub use self::compile::compile;
use self::distinct::Distinct;
use self::embedded::Spread;
pub use self::list_def::{ListDef, ParentRef};
use self::page_cache::{PageCache, Walker};
use self::page_size::PageSize;
use self::parents::Inheritance;
use self::reader::Learned;
pub use self::reader::Reader;
pub use self::session::{DeclarativeConnector, SessionExt};
pub use self::stream_def::StreamDef;
pub use self::vendor::Vendor;
use self::walk::Walk;
use crate::connector::endpoint::{Parent, ParentMap};
use crate::connector::{Endpoint, SyncMode};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Call;
use crate::message::{Request, Response};
use crate::model::gap::{Missed, Tally};
use crate::model::record::{Advance, Page, RawRecord};
use crate::model::state::{Position, SliceState};

mod check;
mod compile;
mod cut;
mod distinct;
mod embedded;
mod lines;
mod list_def;
mod page_cache;
mod page_size;
mod parents;
mod prefetch;
mod reader;
mod session;
mod stream_def;
#[cfg(test)]
mod tests;
mod vendor;
mod walk;

pub use check::check;

/// Attempts at a request for a unit that could not be read before: the next sync asks again.
const GAP_ATTEMPTS: u32 = 2;

/// Requests for a page whose answers cannot be read.
const DAMAGED_ATTEMPTS: u32 = 3;

/// What to do when a page of one record is too large.
const ONE_IS_TOO_LARGE: &str = "one record alone is larger than a page may be, and no smaller page can be asked for: deselect the stream, or \
                                have the record made smaller at the vendor";

/// What to do when an answer that cannot be asked for in parts is too large.
const ALL_IS_TOO_LARGE: &str =
    "this list cannot be asked for in smaller pages: deselect the stream";

/// Pause before the second of them; the next ones are longer.
const DAMAGED_PAUSE: Duration = Duration::from_millis(500);

/// One list of an endpoint: the account's, or that of one record of another list.
#[derive(Clone)]
struct List<'a> {
    reader: Reader,
    endpoint: &'a Endpoint,
    learned: Option<Arc<Learned>>,
    /// The record whose list it is.
    parent: Option<RawRecord>,
    walker: Walker,
}

/// A page as it came.
struct Fetched {
    request: Request,
    /// The records of every path and what follows them; none when the classifier ignored the
    /// answer.
    cut: Option<(Vec<Vec<RawRecord>>, Advance)>,
}

impl<'a> List<'a> {
    /// The list of an account, as the walk that stores its records reads it.
    fn new(reader: &Reader, endpoint: &'a Endpoint) -> Self {
        Self {
            reader: reader.clone(),
            endpoint,
            learned: reader.learned(endpoint),
            parent: None,
            walker: Walker::Own,
        }
    }

    /// The list of one record.
    fn of(self, parent: RawRecord) -> Self {
        Self {
            parent: Some(parent),
            ..self
        }
    }

    /// The list as another walk reads it.
    fn walked_by(self, walker: Walker) -> Self {
        Self { walker, ..self }
    }

    /// The pages that walks share, and what is kept of them.
    fn shared(&self) -> Option<(&PageCache, ParentMap)> {
        Some((&self.learned.as_ref()?.pages, self.endpoint.cache_pages?))
    }

    /// How large pages are at the moment.
    fn size(&self) -> Option<&PageSize> {
        self.learned.as_ref()?.size.as_ref()
    }

    /// Walks the list from the slice's position on.
    fn pages(self, slice: SliceState) -> impl stream::Stream<Item = Result<Page>> + 'a {
        let walk = Walk::of(self.endpoint, slice);
        stream::try_unfold(Some((self, walk)), |walk| async move {
            let Some((list, mut walk)) = walk else {
                return Ok(None);
            };
            let page = list.next(&mut walk).await?;
            let goes_on = walk.step(list.endpoint, &page)?;
            if list.walker == Walker::Children && list.endpoint.cache_pages.is_some() {
                // Of shared pages only what has children is seen, which may be nothing for long.
                walk.empty_pages = 0;
            }
            Ok(Some((page, goes_on.then_some((list, walk)))))
        })
    }

    /// The next page, asked for again while it cannot be what follows: a cache on the way has
    /// answered in the vendor's place, or a server that lags behind.
    async fn next(&self, walk: &mut Walk) -> Result<Page> {
        let mut attempt = 1;
        loop {
            let asked = walk.position.clone();
            let page = self.read(walk).await?;
            walk.has_read(self.endpoint, &asked);
            let is_repeated = walk.is_repeated(self.endpoint, &page);
            match attempt {
                _ if !is_repeated && !walk.is_out_of_place(self.endpoint, &page) => {
                    return Ok(page);
                }
                DAMAGED_ATTEMPTS if is_repeated => return Err(walk.repeated(&page)),
                DAMAGED_ATTEMPTS => return Ok(page),
                _ => {}
            }
            self.forget(walk)?;
            tokio::time::sleep(DAMAGED_PAUSE * attempt).await;
            attempt += 1;
        }
    }

    /// The page at the walk's position, which moves when the vendor refuses it.
    async fn read(&self, walk: &mut Walk) -> Result<Page> {
        let Walk {
            slice,
            position,
            distinct,
            ..
        } = walk;
        let asked = position.clone();
        distinct.discard();
        let read = async {
            let fetched = self.fetch(slice, position, distinct).await?;
            self.page(slice, position, fetched).await
        };
        match self.shared() {
            Some((pages, map)) => {
                pages
                    .page(
                        map,
                        self.walker,
                        self.key(slice, &asked)?,
                        &asked,
                        self.parent.is_none(),
                        read,
                    )
                    .await
            }
            None => read.await,
        }
    }

    /// What the page at a position is shared by.
    fn key(&self, slice: &SliceState, position: &Position) -> Result<u64> {
        let request = self.asked(slice, position)?;
        Ok(fingerprint(&(
            self.reader.client().account(),
            request.url.as_str(),
            &request.query,
        )))
    }

    /// Makes sure that the page at the walk's position is requested again, though another walk may
    /// have shared it.
    fn forget(&self, walk: &Walk) -> Result<()> {
        if let Some((pages, _)) = self.shared() {
            pages.forget(self.key(&walk.slice, &walk.position)?);
        }
        Ok(())
    }

    /// Requests the page at `position`, and asks again when what comes is damaged: most damage is
    /// done on the way.
    async fn fetch(
        &self,
        slice: &SliceState,
        position: &mut Position,
        distinct: &mut Distinct,
    ) -> Result<Fetched> {
        let mut attempt = 1;
        loop {
            let (request, response) = self.send(slice, position).await?;
            if response.is_ignored || !response.status.is_success() {
                return Ok(Fetched { request, cut: None });
            }
            match self.cut(position, &request, &response, distinct).await {
                Ok(cut) => {
                    return Ok(Fetched {
                        request,
                        cut: Some(cut),
                    });
                }
                // There was memory for the body, and not for its records.
                Err(error)
                    if error.kind() == ErrorKind::TooLarge && self.asks_for_less(&request) =>
                {
                    continue;
                }
                Err(error) if error.kind() != ErrorKind::Decode => return Err(error),
                Err(error) => {
                    let error = self.reader.client().explained(error, &request, &response);
                    if attempt == DAMAGED_ATTEMPTS || error.kind() != ErrorKind::Decode {
                        return Err(error);
                    }
                    tokio::time::sleep(DAMAGED_PAUSE * attempt).await;
                }
            }
            attempt += 1;
        }
    }

    /// Requests the page at `position`, going back to an earlier position when the vendor refuses
    /// this one, and asking for less when the page is too large.
    async fn send(
        &self,
        slice: &SliceState,
        position: &mut Position,
    ) -> Result<(Request, Response)> {
        loop {
            let request = self.request(slice, position)?;
            match self
                .reader
                .client()
                .send(&request, &call(self.endpoint, position))
                .await
            {
                Err(error) if error.kind() == ErrorKind::CursorExpired => {
                    match self.endpoint.paginator.recover(position) {
                        Some(earlier) => *position = earlier,
                        None => return Err(error),
                    }
                }
                Err(error) if error.kind() == ErrorKind::TooLarge => {
                    if !self.asks_for_less(&request) {
                        return Err(error.with_help(if self.endpoint.page_size.is_some() {
                            ONE_IS_TOO_LARGE
                        } else {
                            ALL_IS_TOO_LARGE
                        }));
                    }
                }
                Err(error) => return Err(error),
                Ok(response) => {
                    self.size().into_iter().for_each(PageSize::succeeded);
                    return Ok((request, response));
                }
            }
        }
    }

    /// Lowers the size of pages below that of a request; false when it cannot be lowered.
    fn asks_for_less(&self, request: &Request) -> bool {
        let Some(page_size) = self.size() else {
            return false;
        };
        let size = request
            .query
            .iter()
            .find(|(name, _)| *name == page_size.param)
            .and_then(|(_, size)| size.parse().ok());
        size.is_some_and(|size| page_size.too_large(size))
    }

    /// The request for one page, as large as pages may be at the moment.
    fn request(&self, slice: &SliceState, position: &Position) -> Result<Request> {
        let mut request = self.asked(slice, position)?;
        if let Some(page_size) = self.size() {
            page_size.limit(&mut request);
        }
        Ok(request)
    }

    /// The request for one page, whatever its size may be at the moment.
    fn asked(&self, slice: &SliceState, position: &Position) -> Result<Request> {
        let Self {
            endpoint, parent, ..
        } = self;
        let client = self.reader.client();
        let base = endpoint.base.as_ref().unwrap_or(client.base());
        let invalid = |error: url::ParseError| {
            Error::new(
                ErrorKind::Unexpected,
                "the endpoint's path is not a URL path",
            )
            .with_source(error)
        };
        let path = parent
            .as_ref()
            .map_or(Ok(endpoint.path.to_string()), |parent| {
                parents::path(&endpoint.path, parent)
            })?;
        let mut request = client
            .request(endpoint.method.clone(), base, &path)
            .map_err(invalid)?;
        for (name, template) in endpoint.query.iter() {
            let value = parent.as_ref().map_or(Ok(template.clone()), |parent| {
                parents::value(template, parent)
            })?;
            request.query.push((name.to_string(), value));
        }
        if let Some((param, most)) = &endpoint.page_size {
            request.set_query(param, most.to_string());
        }
        if parent.is_none() {
            endpoint.slicer.apply(slice, &mut request)?;
        }
        endpoint.paginator.apply(position, &mut request)?;
        Ok(request)
    }

    /// Makes a page of a response, with the lists inside its records completed.
    async fn page(
        &self,
        slice: &SliceState,
        position: &Position,
        Fetched { request, cut }: Fetched,
    ) -> Result<Page> {
        let endpoint = self.endpoint;
        let Some((records, mut advance)) = cut else {
            // The classifier ignored the answer: what was asked for is gone, or an export has
            // nothing new yet.
            let end = match position {
                Position::At(at)
                    if endpoint.mode == SyncMode::Incremental
                        && self.parent.is_none()
                        && slice.window.is_none() =>
                {
                    Advance::CaughtUp(at.clone())
                }
                _ => Advance::End,
            };
            return Ok(Page::new(vec![Vec::new(); endpoint.feeds.len()], Some(end)));
        };
        let last = records
            .first()
            .and_then(|records| endpoint.cursor_of(records.last()?));
        if endpoint.newest_first && is_behind(slice, last) {
            advance = Advance::End;
        }
        // The whole answer as a record holds its cursor, which is another one on each page: there
        // the rows are compared.
        let lists = endpoint
            .feeds
            .iter()
            .filter(|feed| feed.inside.is_none())
            .zip(&records);
        let digest = walk::digest(
            lists
                .filter(|(feed, _)| !feed.path.0.is_empty())
                .map(|(_, records)| records),
        );
        let Spread {
            mut records,
            gone,
            asked,
        } = embedded::spread(&self.reader, endpoint, records).await?;
        let gaps = self.incomplete(slice, position, &request, asked).await?;
        if let (Some(Parent { inherited, .. }), Some(parent)) =
            (endpoint.parent.as_deref(), &self.parent)
        {
            let inheritance = Inheritance::of(parent, inherited);
            for list in &mut records {
                let children = std::mem::take(list).into_iter();
                *list = children.map(|child| inheritance.give(child)).collect();
            }
        }
        let watermark = last.filter(|_| self.parent.is_none());
        let records = map_records(endpoint, records)?;
        let digest = digest.or_else(|| walk::digest(&records));
        Ok(Page {
            watermark,
            skipped: gone,
            gaps,
            digest,
            ..Page::new(records, Some(advance))
        })
    }

    /// The records of a page that hold lists which could not be completed.
    ///
    /// # Errors
    /// When it is not the records' own fault, or they could not be read again by themselves.
    async fn incomplete(
        &self,
        slice: &SliceState,
        position: &Position,
        request: &Request,
        asked: Vec<Result<(), (RawRecord, Error)>>,
    ) -> Result<Vec<Missed>> {
        // The page itself could be read.
        let mut tally = Tally::resumed();
        for asked in asked {
            match asked {
                Ok(()) => tally.succeeded(),
                Err((record, error)) => match self.missed(slice, &record) {
                    Some(missed) => tally.failed(missed, error)?,
                    None => return Err(error),
                },
            }
        }
        tally
            .finish(async {
                self.reader
                    .client()
                    .send(request, &call(self.endpoint, position))
                    .await
                    .map(drop)
            })
            .await
    }

    /// A record of a slice, and how to read it again; none when nothing but the whole list holds
    /// it.
    fn missed(&self, slice: &SliceState, record: &RawRecord) -> Option<Missed> {
        let key = self.endpoint.feeds.first()?.stream.key();
        let name = key
            .iter()
            .filter_map(|member| record.scalar(member))
            .collect::<Vec<_>>()
            .join(",");
        let window = match slice.window {
            Some(_) => Some(
                self.endpoint
                    .slicer
                    .around(self.endpoint.cursor_of(record)?)?,
            ),
            // What is read as a whole by every sync is read again by the next.
            None if self.endpoint.mode == SyncMode::FullRefresh => None,
            None => return None,
        };
        let missed = Missed::new(
            name,
            SliceState {
                window,
                query: slice.query.clone(),
                ..SliceState::default()
            },
        );
        // The entries that an earlier sync stored of its lists. Of columns that differ none can
        // stand for all of them.
        let columns = self.endpoint.nested.iter().flat_map(|list| &list.inherited);
        let kept: BTreeMap<&str, &str> = columns
            .filter_map(|(member, column)| Some((*column, record.member(member)?)))
            .collect();
        match kept.iter().next().filter(|_| kept.len() == 1) {
            Some((column, value)) => Some(missed.keeping(*column, *value)),
            None => Some(missed),
        }
    }
}

/// True when a list that comes newest first has left the slice's window.
fn is_behind(slice: &SliceState, last: Option<DateTime<Utc>>) -> bool {
    let since = slice.window.and_then(|window| window.since);
    matches!((since, last), (Some(since), Some(last)) if last < since)
}

/// What the client must know about a request besides the request.
pub fn call<'a>(endpoint: &'a Endpoint, position: &Position) -> Call<'a> {
    let buckets = match (&endpoint.next_page_buckets, position) {
        (Some(buckets), Position::At(_)) => buckets,
        _ => &*endpoint.buckets,
    };
    Call {
        endpoint: endpoint.name(),
        buckets,
    }
}

fn map_records(endpoint: &Endpoint, records: Vec<Vec<RawRecord>>) -> Result<Vec<Vec<RawRecord>>> {
    records
        .into_iter()
        .zip(&*endpoint.feeds)
        .map(|(records, feed)| feed.stream.mapped(records))
        .collect()
}

fn fingerprint(value: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
