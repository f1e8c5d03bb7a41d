//! Reads an [`Endpoint`]: the interpreter of the declarations that a connector is made of.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use self::shared::Walker;
use crate::connector::{Availability, CheckReport, Connector};
use crate::endpoint::{BodyFormat, Endpoint, Lines, Parent, SyncMode};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Call, HttpClient, Request, Response};
use crate::page_size::PageSize;
use crate::paginate::{PageView, not_advancing};
use crate::record::{Advance, BYTE_ORDER_MARK, Page, RawRecord, RecordPath, split};
use crate::slice::TimeRange;
use crate::state::{EndpointState, Position, SliceState};

mod ahead;
mod children;
mod nested;
pub(crate) mod shared;
#[cfg(test)]
mod tests;

pub use children::read_children;
pub use nested::read_record;
pub use shared::ParentMap;

/// Pages without a record, one after another, before a list counts as broken.
const MAX_EMPTY_PAGES: u32 = 100;

/// Positions remembered in order to notice that a list runs in a circle.
const MAX_REMEMBERED_POSITIONS: usize = 100_000;

/// Bytes of lines that make a page of a spooled response.
const SPOOL_PAGE: usize = 1 << 20;

/// Reads one slice of a declared endpoint: what [`Connector::read`] does unless overridden.
pub fn read<'a>(client: &HttpClient, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
    read_for(Walker::Own, client, endpoint, slice)
}

/// Reads one slice of an endpoint, for itself or for the lists of its records.
fn read_for<'a>(walker: Walker, client: &HttpClient, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
    if slice.position == Position::End {
        return stream::empty().boxed();
    }
    let pages = match (&endpoint.parent, endpoint.format) {
        (Some(parent), _) => children::read(walker, client, endpoint, parent, slice),
        (None, BodyFormat::Json) => List { client: client.clone(), endpoint, parent: None, walker }.pages(slice).boxed(),
        (None, BodyFormat::Ndjson(lines)) => read_lines(client.clone(), endpoint, slice, lines).boxed(),
    };
    pages.map_err(|error| error.with_context("endpoint", endpoint.name().to_owned())).boxed()
}

/// Where a walk through a list is, and what it needs to notice that it goes nowhere.
struct Walk {
    slice: SliceState,
    position: Position,
    visited: HashSet<u64>,
    empty_pages: u32,
}

/// One list of an endpoint: the account's, or that of one record of another list.
#[derive(Clone)]
struct List<'a> {
    client: HttpClient,
    endpoint: &'a Endpoint,
    /// The record whose list it is.
    parent: Option<RawRecord>,
    walker: Walker,
}

impl Walk {
    /// A walk that begins at the slice's position.
    fn from(slice: SliceState) -> Self {
        Self { position: slice.position.clone(), slice, visited: HashSet::new(), empty_pages: 0 }
    }

    /// Moves on past a page; false when it was the last.
    fn step(&mut self, page: &Page) -> Result<bool> {
        let Some(Advance::Next(next)) = &page.advance else { return Ok(false) };
        let is_new = self.visited.insert(fingerprint(next));
        if !is_new || matches!(&self.position, Position::At(current) if current == next) {
            return Err(not_advancing(next));
        }
        if self.visited.len() >= MAX_REMEMBERED_POSITIONS {
            self.visited.clear();
        }
        self.empty_pages = if page.records.iter().all(Vec::is_empty) { self.empty_pages + 1 } else { 0 };
        if self.empty_pages >= MAX_EMPTY_PAGES {
            return Err(Error::new(
                ErrorKind::Decode,
                format!("the list sent {MAX_EMPTY_PAGES} empty pages in a row, each saying that there is more"),
            ));
        }
        self.position = Position::At(next.clone());
        Ok(true)
    }
}

impl<'a> List<'a> {
    /// Walks the list from the slice's position on.
    fn pages(self, slice: SliceState) -> impl stream::Stream<Item = Result<Page>> + 'a {
        stream::try_unfold(Some((self, Walk::from(slice))), |walk| async move {
            let Some((list, mut walk)) = walk else { return Ok(None) };
            let page = list.read(&walk.slice, &mut walk.position).await?;
            let goes_on = walk.step(&page)?;
            if list.walker == Walker::Children && list.endpoint.shared.is_some() {
                // Of shared pages only what has children is seen, which may be nothing for long.
                walk.empty_pages = 0;
            }
            Ok(Some((page, goes_on.then_some((list, walk)))))
        })
    }

    /// The page at `position`, which moves when the vendor refuses it.
    async fn read(&self, slice: &SliceState, position: &mut Position) -> Result<Page> {
        let asked = position.clone();
        let read = async {
            let (request, response) = self.fetch(slice, position).await?;
            self.page(slice, position, &request, &response).await
        };
        match &self.endpoint.shared {
            Some(shared) => {
                let request = self.asked(slice, &asked)?;
                let key = fingerprint(&(self.client.account(), request.url.as_str(), &request.query));
                shared.page(self.walker, key, &asked, self.parent.is_none(), read).await
            }
            None => read.await,
        }
    }

    /// Requests the page at `position`, going back to an earlier position when the vendor refuses this one, and asking for
    /// less when the page is too large.
    async fn fetch(&self, slice: &SliceState, position: &mut Position) -> Result<(Request, Response)> {
        loop {
            let request = self.request(slice, position)?;
            match self.client.send(&request, &call(self.endpoint, position)).await {
                Err(error) if error.kind() == ErrorKind::CursorExpired => match self.endpoint.paginator.recover(position) {
                    Some(earlier) => *position = earlier,
                    None => return Err(error),
                },
                Err(error) if error.kind() == ErrorKind::TooLarge && self.asks_for_less(&request) => {}
                Err(error) => return Err(error),
                Ok(response) => {
                    self.endpoint.page_size.iter().for_each(PageSize::succeeded);
                    return Ok((request, response));
                }
            }
        }
    }

    /// Lowers the size of pages below that of a request; false when it cannot be lowered.
    fn asks_for_less(&self, request: &Request) -> bool {
        let Some(page_size) = &self.endpoint.page_size else { return false };
        let size = request.query.iter().find(|(name, _)| *name == page_size.param).and_then(|(_, size)| size.parse().ok());
        size.is_some_and(|size| page_size.too_large(size))
    }

    /// The request for one page, as large as pages may be at the moment.
    fn request(&self, slice: &SliceState, position: &Position) -> Result<Request> {
        let mut request = self.asked(slice, position)?;
        if let Some(page_size) = &self.endpoint.page_size {
            page_size.limit(&mut request);
        }
        Ok(request)
    }

    /// The request for one page, whatever its size may be at the moment.
    fn asked(&self, slice: &SliceState, position: &Position) -> Result<Request> {
        let Self { client, endpoint, parent, .. } = self;
        let base = endpoint.base.as_ref().unwrap_or(client.base());
        let invalid =
            |error: url::ParseError| Error::new(ErrorKind::Unexpected, "the endpoint's path is not a URL path").with_source(error);
        let path = parent.as_ref().map_or(Ok(endpoint.path.to_string()), |parent| children::path(&endpoint.path, parent))?;
        let mut request = Request::new(endpoint.method.clone(), base.join(&path).map_err(invalid)?);
        for (name, template) in endpoint.query.iter() {
            let value = parent.as_ref().map_or(Ok(template.clone()), |parent| children::value(template, parent))?;
            request.query.push((name.to_string(), value));
        }
        if let Some(PageSize { param, most, .. }) = &endpoint.page_size {
            request.set_query(param, most.to_string());
        }
        if parent.is_none() {
            endpoint.slicer.apply(slice, &mut request)?;
        }
        endpoint.paginator.apply(position, &mut request)?;
        Ok(request)
    }

    /// Makes a page of a response, with the lists inside its records completed.
    async fn page(&self, slice: &SliceState, position: &Position, request: &Request, response: &Response) -> Result<Page> {
        let endpoint = self.endpoint;
        if !response.status.is_success() {
            // The classifier ignored the answer: what was asked for is gone, or an export has nothing new yet.
            let end = match position {
                Position::At(at) if endpoint.mode == SyncMode::Incremental && self.parent.is_none() && slice.window.is_none() => {
                    Advance::CaughtUp(at.clone())
                }
                _ => Advance::End,
            };
            return Ok(Page::new(vec![Vec::new(); endpoint.feeds.len()], Some(end)));
        }
        let (records, mut advance) = self.cut(position, request, response)?;
        let last = records.first().and_then(|records| endpoint.cursor_of(records.last()?));
        if endpoint.newest_first && is_behind(slice, last) {
            advance = Advance::End;
        }
        let (mut records, skipped) = nested::spread(&self.client, endpoint, records).await?;
        if let (Some(Parent { inherited, .. }), Some(parent)) = (endpoint.parent.as_deref(), &self.parent) {
            records.iter_mut().flatten().for_each(|record| *record = children::inherit(record, parent, inherited));
        }
        let reached = last.filter(|_| self.parent.is_none());
        Ok(Page { reached, skipped, ..Page::new(map_records(endpoint, records)?, Some(advance)) })
    }

    /// Cuts a response into the records that it lists, and says what follows it.
    fn cut(&self, position: &Position, request: &Request, response: &Response) -> Result<(Vec<Vec<RawRecord>>, Advance)> {
        let paths: Vec<RecordPath> =
            self.endpoint.feeds.iter().filter(|feed| feed.inside.is_none()).map(|feed| feed.path.clone()).collect();
        let split = split(&response.body, &paths)?;
        let records = split.records.first().map_or(&[][..], Vec::as_slice);
        let view = PageView { request, headers: &response.headers, envelope: &split.envelope, records };
        let advance = self.endpoint.paginator.advance(position, &view)?;
        Ok((split.records, advance))
    }
}

/// True when a list that comes newest first has left the slice's window.
fn is_behind(slice: &SliceState, last: Option<DateTime<Utc>>) -> bool {
    let since = slice.window.and_then(|window| window.since);
    matches!((since, last), (Some(since), Some(last)) if last < since)
}

/// What the client must know about a request besides the request.
pub(crate) fn call<'a>(endpoint: &'a Endpoint, position: &Position) -> Call<'a> {
    let buckets = match (&endpoint.next_page_buckets, position) {
        (Some(buckets), Position::At(_)) => buckets,
        _ => &*endpoint.buckets,
    };
    Call { endpoint: endpoint.name(), buckets }
}

fn map_records(endpoint: &Endpoint, records: Vec<Vec<RawRecord>>) -> Result<Vec<Vec<RawRecord>>> {
    records.into_iter().zip(&*endpoint.feeds).map(|(records, feed)| feed.stream.mapped(records)).collect()
}

fn read_lines(client: HttpClient, endpoint: &Endpoint, slice: SliceState, lines: Lines) -> impl stream::Stream<Item = Result<Page>> {
    let spool = async move {
        let list = List { client, endpoint, parent: None, walker: Walker::Own };
        let request = list.request(&slice, &slice.position)?;
        list.client.download(&request, &call(endpoint, &slice.position), lines).await
    };
    let pages = move |spool| {
        stream::try_unfold(Some(spool), move |spool| async move {
            let Some(mut spool): Option<crate::http::Spool> = spool else { return Ok(None) };
            let Some(lines) = spool.next_lines(SPOOL_PAGE).await? else {
                let end = Page::new(vec![Vec::new(); endpoint.feeds.len()], Some(Advance::End));
                return Ok(Some((end, None)));
            };
            let records = map_records(endpoint, vec![cut_lines(&lines)])?;
            Ok(Some((Page::new(records, None), Some(spool))))
        })
    };
    stream::once(spool).map_ok(pages).try_flatten()
}

/// Cuts at byte 0x0A only: other line separators are legal inside JSON strings. Blank lines and byte order
/// marks are passed over.
fn cut_lines(lines: &Bytes) -> Vec<RawRecord> {
    let mut records = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', lines).chain([lines.len()]) {
        let line = lines[start..end].trim_ascii();
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        if !line.is_empty() {
            records.push(RawRecord::upsert(lines.slice_ref(line)));
        }
        start = end + 1;
    }
    records
}

fn fingerprint(value: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Asks declared endpoints for their first pages: what [`Connector::check`] does unless overridden.
///
/// # Errors
/// As [`Connector::check`].
pub async fn check(client: &HttpClient, endpoints: &[Endpoint], names: &[&str]) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    for endpoint in endpoints.iter().filter(|endpoint| names.is_empty() || names.contains(&endpoint.name())) {
        let outcome = first_page(client, endpoint).await;
        let availability = match outcome {
            Ok(_) => Availability::Available,
            Err(error) => match error.kind() {
                ErrorKind::Unauthenticated | ErrorKind::Unavailable | ErrorKind::ConfigInvalid => return Err(error),
                ErrorKind::PermissionDenied | ErrorKind::NotFound => Availability::Unavailable(error.to_string()),
                _ => Availability::Failed(error.to_string()),
            },
        };
        report.endpoints.push((endpoint.name().to_owned(), availability));
    }
    Ok(report)
}

/// The first page of an endpoint; of a child, that of the first parent on its first page.
async fn first_page(client: &HttpClient, endpoint: &Endpoint) -> Result<Page> {
    let mut list = List { client: client.clone(), endpoint, parent: None, walker: Walker::Own };
    if let Some(parent) = &endpoint.parent {
        let parents = Box::pin(first_page(client, &parent.endpoint)).await?;
        list.parent = parents.records.into_iter().next().and_then(|records| records.into_iter().find(|record| parent.wants(record)));
        if list.parent.is_none() {
            return Ok(Page::new(Vec::new(), None));
        }
    }
    let slice = endpoint.slicer.plan(&EndpointState::default(), TimeRange::all(), client.now()).pop().unwrap_or_default();
    let request = list.request(&slice, &Position::Start)?;
    let response = client.send(&request, &call(endpoint, &Position::Start)).await?;
    // Whether what it holds is understood is for a sync to find out.
    Ok(list.page(&slice, &Position::Start, &request, &response).await.unwrap_or(Page::new(Vec::new(), None)))
}

/// See [`ConnectorExt::records`](crate::ConnectorExt::records).
pub(crate) fn records<'a, C: Connector + ?Sized>(connector: &'a C, stream: &str, range: TimeRange) -> BoxStream<'a, Result<RawRecord>> {
    let found = connector.endpoints().iter().find_map(|endpoint| {
        let index = endpoint.streams().position(|def| def.name() == stream)?;
        Some((endpoint, index))
    });
    let Some((endpoint, index)) = found else {
        let error = Error::new(ErrorKind::ConfigInvalid, format!("there is no stream `{stream}`"));
        return stream::once(async { Err(error) }).boxed();
    };
    let slices = endpoint.slicer.plan(&EndpointState::default(), range, connector.client().now());
    let pages = stream::iter(slices).flat_map(move |slice| connector.read(endpoint, slice));
    pages.map_ok(move |mut page| stream::iter(std::mem::take(&mut page.records[index]).into_iter().map(Ok))).try_flatten().boxed()
}
