//! An account with orders, listed newest first in windows of `created`, as many APIs do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::HttpClient;
use pipeline_core::slice::{TimeRange, TimeSlicer};
use pipeline_core::state::{Position, SliceState};
use pipeline_core::{
    Advance, BuildContext, CheckReport, Connector, DataType, Endpoint, Error, ErrorKind, Origin,
    Page, Plan, RawRecord, Result, Schema, Session, Stream, TimeFormat, TokioClock, declarative,
};

use super::fake::{Fake, open_as};

pub(super) const PAGE: usize = 10;
pub(super) const LATENCY: Duration = Duration::from_millis(150);
pub(super) const NOW: DateTime<Utc> = DateTime::from_timestamp(1_700_000_000, 0).unwrap();

/// What goes wrong once enough pages are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Fails(ErrorKind),
    PositionLostOnce,
}

#[derive(Clone, Debug)]
struct Order {
    id: Option<String>,
    created: i64,
    value: i64,
}

#[derive(Debug)]
pub(super) struct Account {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    /// Newest last.
    orders: Mutex<Vec<Order>>,
    served: AtomicUsize,
    hang_after: AtomicUsize,
    fault: Mutex<Option<(usize, Fault)>>,
    parts: Mutex<Option<(usize, Option<usize>)>>,
    closed: Mutex<Option<ErrorKind>>,
    range: Mutex<TimeRange>,
    origin: Mutex<Origin>,
}

impl Account {
    fn new(created: impl Iterator<Item = i64>) -> Arc<Self> {
        let schema = || {
            Schema::default()
                .with("id", DataType::String)
                .with("created", DataType::Timestamp(TimeFormat::UnixSeconds))
                .with("value", DataType::Int64)
        };
        let windows = TimeSlicer {
            lookback: TimeDelta::minutes(10),
            ..TimeSlicer::newest_first("since", "until", TimeFormat::UnixSeconds)
        };
        let orders = Endpoint::get("orders", "/orders")
            .records("data")
            .stream(Stream::new("orders", schema()).primary_key(["id"]))
            .records("lines")
            .stream(Stream::new("lines", schema()).primary_key(["id"]))
            .cursor("created", TimeFormat::UnixSeconds)
            .slices(windows)
            .incremental();
        let context = BuildContext::default().clock(Arc::new(TokioClock::starting_at(NOW)));
        let order = |(index, created)| Order {
            id: Some(format!("or_{index:05}")),
            created,
            value: 0,
        };
        Arc::new(Self {
            client: HttpClient::builder(&context, "https://shop.test".parse().unwrap())
                .build()
                .unwrap(),
            endpoints: vec![orders],
            orders: Mutex::new(created.enumerate().map(order).collect()),
            served: AtomicUsize::new(0),
            hang_after: AtomicUsize::new(usize::MAX),
            fault: Mutex::new(None),
            parts: Mutex::new(None),
            closed: Mutex::new(None),
            range: Mutex::default(),
            origin: Mutex::default(),
        })
    }

    pub(super) fn evenly(count: i64) -> Arc<Self> {
        Self::new((0..count).map(move |index| NOW.timestamp() - (count - index) * 60))
    }

    /// Nine tenths of the orders are in the last twentieth of the time.
    pub(super) fn skewed(count: i64) -> Arc<Self> {
        let span = 10_000_000;
        let created = move |index| {
            if index < count / 10 {
                index * span * 19 / 2 / count
            } else {
                span * 19 / 20 + (index - count / 10) * span / 18 / count
            }
        };
        Self::new((0..count).map(move |index| NOW.timestamp() - span + created(index)))
    }

    pub(super) fn one_second(count: i64) -> Arc<Self> {
        Self::new((0..count).map(|_| NOW.timestamp() - 1_000))
    }

    pub(super) fn with_gaps(gaps: &[i64]) -> Arc<Self> {
        let mut before: i64 = gaps.iter().sum();
        Self::new(gaps.iter().map(move |gap| {
            before -= gap;
            NOW.timestamp() - 1 - before
        }))
    }

    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self
            .orders
            .lock()
            .unwrap()
            .iter()
            .filter_map(|order| order.id.clone())
            .collect();
        ids.sort();
        ids
    }

    pub(super) fn pages_served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Answers no request once that many pages are served.
    pub(super) fn hang_after(&self, pages: usize) {
        self.hang_after.store(pages, Ordering::Relaxed);
    }

    pub(super) fn fault_after(&self, pages: usize, fault: Fault) {
        *self.fault.lock().unwrap() = Some((pages, fault));
    }

    /// Begins at an instant, or with everything.
    pub(super) fn start_at(&self, start: Option<DateTime<Utc>>) {
        *self.range.lock().unwrap() = TimeRange { start, end: None };
    }

    /// Says whose orders they are.
    pub(super) fn belong_to(&self, origin: Origin) {
        *self.origin.lock().unwrap() = origin;
    }

    /// The orders made since an instant.
    pub(super) fn ids_since(&self, start: DateTime<Utc>) -> Vec<String> {
        let orders = self.orders.lock().unwrap();
        let mut ids: Vec<String> = orders
            .iter()
            .filter(|order| order.created >= start.timestamp())
            .filter_map(|order| order.id.clone())
            .collect();
        ids.sort();
        ids
    }

    /// Lets nothing be learned of the account, or lets it again.
    pub(super) fn close(&self, kind: Option<ErrorKind>) {
        *self.closed.lock().unwrap() = kind;
    }

    /// Adds orders made since.
    pub(super) fn grow(&self, count: i64) {
        let mut orders = self.orders.lock().unwrap();
        for index in 0..count {
            orders.push(Order {
                id: Some(format!("or_new{index:04}")),
                created: NOW.timestamp() + index / 10,
                value: 0,
            });
        }
    }

    /// Changes orders that the lookback reads again.
    pub(super) fn touch_newest(&self, count: usize) {
        let mut orders = self.orders.lock().unwrap();
        let newest = orders
            .iter_mut()
            .filter(|order| order.created < NOW.timestamp())
            .rev();
        newest.take(count).for_each(|order| order.value += 1);
    }

    pub(super) fn set_newest(&self, value: i64) {
        self.orders.lock().unwrap().last_mut().unwrap().value = value;
    }

    pub(super) fn remove_oldest(&self, count: usize) {
        self.orders.lock().unwrap().drain(..count);
    }

    pub(super) fn add_without_key(&self) {
        self.orders.lock().unwrap().push(Order {
            id: None,
            created: NOW.timestamp() - 5,
            value: 0,
        });
    }

    /// Answers with one response of several pages, which breaks before the given one.
    pub(super) fn stream_of_parts(&self, parts: usize, breaks_at: Option<usize>) {
        *self.parts.lock().unwrap() = Some((parts, breaks_at));
    }

    /// The page of a slice at a position, `created/id` of the last order read.
    fn page(&self, slice: &SliceState, position: &Position) -> Page {
        let window = slice.window.unwrap();
        let orders = self.orders.lock().unwrap();
        let mut found: Vec<&Order> = orders
            .iter()
            .filter(|order| {
                window
                    .since
                    .is_none_or(|since| order.created >= since.timestamp())
                    && order.created < window.until.timestamp()
            })
            .collect();
        found.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        let start = match position {
            Position::At(last) => {
                1 + found
                    .iter()
                    .position(|order| order.id.as_deref() == Some(last))
                    .expect("a cursor that matches the filter")
            }
            _ => 0,
        };
        let page: Vec<&Order> = found[start..].iter().take(PAGE).copied().collect();
        let more = start + page.len() < found.len();
        let advance = if more {
            Advance::Next(page.last().unwrap().id.clone().unwrap())
        } else {
            Advance::End
        };
        let records: Vec<RawRecord> = page.into_iter().map(record).collect();
        Page::new(vec![records.clone(), records], Some(advance))
    }

    /// What goes wrong with the next page, if anything.
    async fn serve(&self, at: &Position) -> Result<()> {
        tokio::time::sleep(LATENCY).await;
        if self.pages_served() >= self.hang_after.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let mut fault = self.fault.lock().unwrap();
        if let Some((pages, kind)) = *fault
            && self.pages_served() >= pages
        {
            match kind {
                Fault::Fails(kind) => return Err(Error::new(kind, "refused")),
                Fault::PositionLostOnce if matches!(at, Position::At(_)) => {
                    *fault = None;
                    return Err(Error::new(ErrorKind::CursorExpired, "no such order"));
                }
                Fault::PositionLostOnce => {}
            }
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn record(order: &Order) -> RawRecord {
    let id = order
        .id
        .as_ref()
        .map_or_else(|| "null".to_owned(), |id| format!("{id:?}"));
    RawRecord::upsert(format!(
        r#"{{"id":{id},"created":{},"value":{}}}"#,
        order.created, order.value
    ))
}

#[async_trait::async_trait]
impl Connector for Account {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    fn range(&self) -> TimeRange {
        *self.range.lock().unwrap()
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(&self.client, &self.endpoints, endpoints).await
    }

    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        let mut plan = Plan {
            endpoints: self.endpoints.clone(),
            ..Plan::default()
        };
        match *self.closed.lock().unwrap() {
            Some(ErrorKind::Unsupported) => {
                plan.skip_endpoint(
                    "orders",
                    Error::new(ErrorKind::Unsupported, "nothing is configured for it"),
                );
            }
            Some(kind) => return Err(Error::new(kind, "the account is closed")),
            None => {
                plan.origin = self.origin.lock().unwrap().clone();
                plan.notices
                    .push(format!("reads {}", endpoints.join(" and ")));
            }
        }
        Ok(open_as(self, plan))
    }
}

impl Fake for Account {
    fn read<'a>(
        &'a self,
        _endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        if let Some((parts, breaks_at)) = *self.parts.lock().unwrap() {
            let part = move |index| match breaks_at {
                Some(at) if at == index => {
                    Err(Error::new(ErrorKind::Decode, "the file is damaged"))
                }
                _ if index == parts => {
                    Ok(Page::new(vec![Vec::new(), Vec::new()], Some(Advance::End)))
                }
                _ => {
                    let order = Order {
                        id: Some(format!("or_{index}")),
                        created: 1,
                        value: 0,
                    };
                    Ok(Page::new(vec![vec![record(&order)], Vec::new()], None))
                }
            };
            return stream::iter((0..=parts).map(part)).boxed();
        }
        let position = slice.position.clone();
        stream::try_unfold(Some(position), move |position| {
            let slice = slice.clone();
            async move {
                let Some(position) = position else {
                    return Ok(None);
                };
                self.serve(&position).await?;
                let page = self.page(&slice, &position);
                let next = match &page.advance {
                    Some(Advance::Next(next)) => Some(Position::At(next.clone())),
                    _ => None,
                };
                Ok(Some((page, next)))
            }
        })
        .boxed()
    }
}
