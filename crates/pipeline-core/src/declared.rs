//! Reads an [`Endpoint`]: the interpreter of the declarations that a connector is made of.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use self::nested::Spread;
use self::shared::Walker;
use self::walk::Walk;
use crate::connector::{Availability, CheckReport, Connector};
use crate::endpoint::{BodyFormat, Endpoint, Lines, Parent, SyncMode};
use crate::error::{Error, ErrorKind, Result};
use crate::gap::{Missed, Tally};
use crate::http::{Call, HttpClient, Request, Response};
use crate::page_size::PageSize;
use crate::paginate::PageView;
use crate::record::{Advance, BYTE_ORDER_MARK, Page, RawRecord, RecordPath, split};
use crate::slice::TimeRange;
use crate::state::{EndpointState, Position, SliceState};

mod ahead;
mod children;
mod nested;
pub(crate) mod shared;
#[cfg(test)]
mod tests;
mod walk;

pub use children::read_children;
pub use nested::read_record;
pub use shared::ParentMap;

/// Attempts at a request for a unit that could not be read before: the next sync asks again.
const GAP_ATTEMPTS: u32 = 2;

/// Requests for a page whose answers cannot be read.
const DAMAGED_ATTEMPTS: u32 = 3;

/// Pause before the second of them; the next ones are longer.
const DAMAGED_PAUSE: Duration = Duration::from_millis(500);

/// Bytes of lines that make a page of a spooled response.
const SPOOL_PAGE: usize = 1 << 20;

/// Reads one slice of a declared endpoint: what [`Connector::read`] does unless overridden.
pub fn read<'a>(client: &HttpClient, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
    read_for(Walker::Own, client, endpoint, slice)
}

/// Reads a slice of a list for what hangs on its records, without a request of its own where the list is read as well.
///
/// The pages hold what [`Endpoint::shared`] keeps of the records of the first stream, and end where the list's own pages end.
pub fn read_kept<'a>(client: &HttpClient, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
    read_for(Walker::Children, client, endpoint, slice)
}

/// Reads one slice of an endpoint, for itself or for the lists of its records.
fn read_for<'a>(walker: Walker, client: &HttpClient, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
    if slice.position == Position::End {
        return stream::empty().boxed();
    }
    let pages = match (&endpoint.parent, endpoint.format) {
        (Some(parent), _) if slice.unit.as_deref().is_some_and(children::is_parent) => {
            children::read_unit(client.with_attempts(GAP_ATTEMPTS), endpoint, parent, slice)
        }
        (Some(parent), _) => children::read(walker, client, endpoint, parent, slice),
        (None, BodyFormat::Json) => List { client: client.clone(), endpoint, parent: None, walker }.pages(slice).boxed(),
        (None, BodyFormat::Ndjson(lines)) => read_lines(client.clone(), endpoint, slice, lines).boxed(),
    };
    pages.map_err(|error| error.with_context("endpoint", endpoint.name().to_owned())).boxed()
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

/// A page as it came.
struct Fetched {
    request: Request,
    /// The records of every path and what follows them; none when the classifier ignored the answer.
    cut: Option<(Vec<Vec<RawRecord>>, Advance)>,
}

impl<'a> List<'a> {
    /// Walks the list from the slice's position on.
    fn pages(self, slice: SliceState) -> impl stream::Stream<Item = Result<Page>> + 'a {
        stream::try_unfold(Some((self, Walk::from(slice))), |walk| async move {
            let Some((list, mut walk)) = walk else { return Ok(None) };
            let mut page = list.read(&walk.slice, &mut walk.position).await?;
            let mut attempt = 1;
            while attempt < DAMAGED_ATTEMPTS && walk.is_out_of_place(list.endpoint, &page) {
                // A cache on the way has answered in the vendor's place, or a server that lags behind.
                tokio::time::sleep(DAMAGED_PAUSE * attempt).await;
                page = list.read(&walk.slice, &mut walk.position).await?;
                attempt += 1;
            }
            let goes_on = walk.step(list.endpoint, &page)?;
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
            let fetched = self.fetch(slice, position).await?;
            self.page(slice, position, fetched).await
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

    /// Requests the page at `position`, and asks again when what comes is damaged: most damage is done on the way.
    async fn fetch(&self, slice: &SliceState, position: &mut Position) -> Result<Fetched> {
        let mut attempt = 1;
        loop {
            let (request, response) = self.send(slice, position).await?;
            if !response.status.is_success() {
                return Ok(Fetched { request, cut: None });
            }
            match self.cut(position, &request, &response) {
                Ok(cut) => return Ok(Fetched { request, cut: Some(cut) }),
                Err(error) if error.kind() != ErrorKind::Decode => return Err(error),
                Err(error) => {
                    let error = self.client.explained(error, &request, &response).await;
                    if attempt == DAMAGED_ATTEMPTS || error.kind() != ErrorKind::Decode {
                        return Err(error);
                    }
                    tokio::time::sleep(DAMAGED_PAUSE * attempt).await;
                }
            }
            attempt += 1;
        }
    }

    /// Requests the page at `position`, going back to an earlier position when the vendor refuses this one, and asking for
    /// less when the page is too large.
    async fn send(&self, slice: &SliceState, position: &mut Position) -> Result<(Request, Response)> {
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
        let mut request = client.request(endpoint.method.clone(), base, &path).map_err(invalid)?;
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
    async fn page(&self, slice: &SliceState, position: &Position, Fetched { request, cut }: Fetched) -> Result<Page> {
        let endpoint = self.endpoint;
        let Some((records, mut advance)) = cut else {
            // The classifier ignored the answer: what was asked for is gone, or an export has nothing new yet.
            let end = match position {
                Position::At(at) if endpoint.mode == SyncMode::Incremental && self.parent.is_none() && slice.window.is_none() => {
                    Advance::CaughtUp(at.clone())
                }
                _ => Advance::End,
            };
            return Ok(Page::new(vec![Vec::new(); endpoint.feeds.len()], Some(end)));
        };
        let last = records.first().and_then(|records| endpoint.cursor_of(records.last()?));
        if endpoint.newest_first && is_behind(slice, last) {
            advance = Advance::End;
        }
        let Spread { mut records, gone, asked } = nested::spread(&self.client, endpoint, records).await?;
        let gaps = self.incomplete(slice, position, &request, asked).await?;
        if let (Some(Parent { inherited, .. }), Some(parent)) = (endpoint.parent.as_deref(), &self.parent) {
            records.iter_mut().flatten().for_each(|record| *record = children::inherit(record, parent, inherited));
        }
        let reached = last.filter(|_| self.parent.is_none());
        Ok(Page { reached, skipped: gone, gaps, ..Page::new(map_records(endpoint, records)?, Some(advance)) })
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
        tally.finish(async { self.client.send(request, &call(self.endpoint, position)).await.map(drop) }).await
    }

    /// A record of a slice, and how to read it again; none when nothing but the whole list holds it.
    fn missed(&self, slice: &SliceState, record: &RawRecord) -> Option<Missed> {
        let key = self.endpoint.feeds.first()?.stream.key();
        let name = key.iter().filter_map(|member| record.scalar(member)).collect::<Vec<_>>().join(",");
        let window = match slice.window {
            Some(_) => Some(self.endpoint.slicer.around(self.endpoint.cursor_of(record)?)?),
            // What is read as a whole by every sync is read again by the next.
            None if self.endpoint.mode == SyncMode::FullRefresh => None,
            None => return None,
        };
        let missed = Missed::new(name, SliceState { window, query: slice.query.clone(), ..SliceState::default() });
        // The entries that an earlier sync stored of its lists. Of columns that differ none can stand for all of them.
        let columns = self.endpoint.nested.iter().flat_map(|list| &list.inherited);
        let kept: BTreeMap<&str, &str> = columns.filter_map(|(member, column)| Some((*column, record.member(member)?))).collect();
        match kept.iter().next().filter(|_| kept.len() == 1) {
            Some((column, value)) => Some(missed.keeping(*column, *value)),
            None => Some(missed),
        }
    }

    /// A body that is damaged by bytes that are not text, with U+FFFD in their place; none when it is text.
    fn readable(&self, body: &Bytes) -> Option<Bytes> {
        let text = String::from_utf8_lossy(body);
        let Cow::Owned(text) = text else { return None };
        let repaired =
            text.matches('\u{FFFD}').count() - body.utf8_chunks().map(|chunk| chunk.valid().matches('\u{FFFD}').count()).sum::<usize>();
        self.client.tell_repaired(self.endpoint.name(), repaired as u64);
        Some(text.into())
    }

    /// Cuts a response into the records that it lists, and says what follows it.
    fn cut(&self, position: &Position, request: &Request, response: &Response) -> Result<(Vec<Vec<RawRecord>>, Advance)> {
        let paths: Vec<RecordPath> =
            self.endpoint.feeds.iter().filter(|feed| feed.inside.is_none()).map(|feed| feed.path.clone()).collect();
        let split = split(&response.body, &paths).or_else(|error| split(&self.readable(&response.body).ok_or(error)?, &paths))?;
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
                ErrorKind::PermissionDenied => Availability::Unavailable(with_help(&error)),
                ErrorKind::NotFound | ErrorKind::Refused => Availability::Refused(with_help(&error)),
                _ => Availability::Failed(with_help(&error)),
            },
        };
        report.endpoints.push((endpoint.name().to_owned(), availability));
    }
    Ok(report)
}

/// What happened, in the vendor's words, and what can be done about it.
fn with_help(error: &Error) -> String {
    error.help().map_or_else(|| error.to_string(), |help| format!("{error}; {help}"))
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
    let nothing = || Page::new(Vec::new(), None);
    let Ok(cut) = list.cut(&Position::Start, &request, &response) else { return Ok(nothing()) };
    let fetched = Fetched { request, cut: Some(cut).filter(|_| response.status.is_success()) };
    Ok(list.page(&slice, &Position::Start, fetched).await.unwrap_or_else(|_| nothing()))
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
