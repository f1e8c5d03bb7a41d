//! Reads one slice: page by page, each staged with its position, splitting off work when there is room for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::TryStreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::Job;
use super::commit::Committer;
use super::dedup::Dedup;
use super::endpoint_run::{EndpointRun, PageMark};
use super::staged::PageRecords;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::gap::Missed;
use crate::record::{Advance, Page, RawRecord};
use crate::state::{SliceId, SliceState};

/// Bytes that one permit of the memory budget stands for.
const PERMIT_BYTES: usize = 64 << 10;

/// Pages that must be left of a slice for a part of it to be worth a slice of its own.
const SPLIT_PAGES: f64 = 3.0;

/// What all slice tasks of a run share.
pub(super) struct Shared {
    pub(super) job: Arc<Job>,
    pub(super) committer: Committer,
    /// Told when a slice was added.
    pub(super) wake: Notify,
    budget: Semaphore,
    largest_page: AtomicUsize,
}

/// How a slice's task ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SliceEnd {
    /// Everything was read.
    Read,
    /// The run is being cancelled, or the endpoint failed elsewhere.
    Stopped,
}

impl Shared {
    pub(super) fn new(job: Arc<Job>, committer: Committer) -> Self {
        let permits = (job.options.memory_budget / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { committer, wake: Notify::new(), budget: Semaphore::new(permits), largest_page: AtomicUsize::new(1 << 20), job }
    }

    /// Waits for memory for a page of the size that pages have had so far.
    async fn page_memory(&self) -> Result<SemaphorePermit<'_>> {
        let budget = self.job.options.memory_budget;
        let bytes = (2 * self.largest_page.load(Ordering::Relaxed)).min(budget);
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).max(1);
        self.budget
            .acquire_many(permits.min(u32::try_from(budget / PERMIT_BYTES).unwrap_or(u32::MAX).max(1)))
            .await
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the memory budget is closed").with_source(error))
    }
}

/// Reads a slice of an endpoint from its staged position to its end.
pub(super) async fn read_slice(shared: &Shared, run: &EndpointRun, id: SliceId) -> Result<SliceEnd> {
    let mut reader = SliceReader { shared, run, id, dedup: Dedup::default(), pages: 0.0, restarts: 0 };
    loop {
        match reader.read().await? {
            Step::Ended(end) => return Ok(end),
            Step::Replanned => {}
        }
    }
}

/// The records with the account that they were read of, where the source reads several.
fn of_account(endpoint: &Endpoint, records: Vec<Vec<RawRecord>>) -> Vec<Vec<RawRecord>> {
    let Some((column, account)) = endpoint.account_value() else { return records };
    let account = serde_json::to_string(account).unwrap_or_else(|_| unreachable!("a string is always JSON"));
    let stream = |records: Vec<RawRecord>| records.iter().map(|record| record.with_member(column, &account)).collect();
    records.into_iter().map(stream).collect()
}

struct SliceReader<'a> {
    shared: &'a Shared,
    run: &'a EndpointRun,
    id: SliceId,
    dedup: Dedup,
    /// Pages read of this slice.
    pages: f64,
    restarts: u32,
}

enum Step {
    Ended(SliceEnd),
    /// The slice is another one now: read it from its new state.
    Replanned,
}

impl<'a> SliceReader<'a> {
    /// Reads pages until the slice ends, or changes.
    async fn read(&mut self) -> Result<Step> {
        let Self { shared, run, id, .. } = *self;
        let slice = run.slice(id);
        let mut pages = run.connector.read(run.endpoint(), slice);
        loop {
            if run.stopped() {
                return Ok(Step::Ended(SliceEnd::Stopped));
            }
            let next = async {
                let memory = shared.page_memory().await?;
                Ok::<_, Error>((pages.try_next().await?, memory))
            };
            let (page, _memory) = tokio::select! {
                biased;
                () = shared.job.cancel.cancelled() => return Ok(Step::Ended(SliceEnd::Stopped)),
                next = next => match next {
                    Err(error) if error.kind() == ErrorKind::CursorExpired => return self.restart(error),
                    next => next?,
                },
            };
            let Some(page) = page else {
                return Err(Error::new(ErrorKind::Unexpected, "the connector stopped reading before the end of the slice"));
            };
            let in_hand = page.in_hand;
            match self.take(page, &mut pages).await? {
                None => return Ok(Step::Ended(SliceEnd::Stopped)),
                Some(Advance::End | Advance::CaughtUp(_)) => return Ok(Step::Ended(SliceEnd::Read)),
                Some(Advance::Next(_)) => {}
            }
            run.forecast(&*shared.job.observer).await;
            if !in_hand && self.split() {
                return Ok(Step::Replanned);
            }
        }
    }

    /// Stages a page and its position. Nothing is returned when it was given up.
    async fn take(&mut self, page: Page, pages: &mut BoxStream<'_, Result<Page>>) -> Result<Option<Advance>> {
        let Some(advance) = page.advance.clone() else { return self.take_response(page, pages).await };
        let (records, mark) = self.prepare(page);
        self.shared.committer.stage(records, || self.run.advance(self.id, &advance, mark)).await?;
        self.pages += 1.0;
        Ok(Some(advance))
    }

    /// Commits a response of several pages by itself, because it has no place to stop inside.
    async fn take_response(&mut self, mut page: Page, pages: &mut BoxStream<'_, Result<Page>>) -> Result<Option<Advance>> {
        let mut alone = self.shared.committer.alone().await?;
        loop {
            let end = page.advance.clone();
            let (records, mark) = self.prepare(page);
            alone.write(records).await?;
            if let Some(advance) = end {
                alone.commit(|| self.run.advance(self.id, &advance, mark)).await?;
                self.pages += 1.0;
                return Ok(Some(advance));
            }
            let next = tokio::select! {
                biased;
                () = self.shared.job.cancel.cancelled() => None,
                next = pages.try_next() => next?,
            };
            match next {
                Some(next) => page = next,
                None => return Ok(None),
            }
        }
    }

    /// Leaves out the records that are committed already and those of streams that are not wanted, and tells observers of
    /// the page.
    fn prepare(&mut self, page: Page) -> (Vec<PageRecords<'a>>, PageMark) {
        let restarted = self.restarts > 0;
        let records = of_account(self.run.endpoint(), page.records);
        let mut prepared = self.dedup.filter(self.run, &self.run.slice(self.id), records, restarted);
        prepared.mark.reached = page.reached.or(prepared.mark.reached);
        for Missed { name, reason, .. } in &page.gaps {
            self.shared.job.observer.observe(&Event::PassedOver { endpoint: &self.run.id, unit: name, reason });
        }
        prepared.mark.gaps = page.gaps;
        self.run.skip(page.skipped);
        let (mut records, mut bytes, mut page_bytes) = (0, 0, 0);
        for (stream, counts) in prepared.counts.iter().enumerate() {
            page_bytes += counts.bytes;
            if self.run.tables[stream].is_some() {
                self.run.count(stream, *counts);
                records += counts.records;
                bytes += counts.bytes;
            }
        }
        self.shared.largest_page.fetch_max(usize::try_from(page_bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.shared.job.observer.observe(&Event::PageRead { endpoint: &self.run.id, records, bytes });
        let streams = self.run.endpoint().streams().zip(&self.run.tables).zip(prepared.records);
        let wanted = streams.filter_map(|((stream, table), records)| {
            let table = table.as_ref().filter(|_| !records.is_empty())?;
            Some(PageRecords { endpoint: self.run.ordinal, table, stream, records })
        });
        (wanted.collect(), prepared.mark)
    }

    /// Gives a part of the slice away when another task could read it. True when it did.
    fn split(&self) -> bool {
        let Self { shared, run, id, .. } = *self;
        let options = shared.job.options;
        let idle = run.source_has_room(options.max_slices) && run.has_room(options.max_slices_per_endpoint);
        if !idle || run.is_gap(id) || self.pages_left(&run.slice(id)) < SPLIT_PAGES {
            return false;
        }
        let Some((kept, given)) = run.endpoint().slicer().split(&run.slice(id)) else { return false };
        shared.committer.change(|| run.replan(id, kept, Some(given)));
        shared.job.observer.observe(&Event::SliceSplit { endpoint: &run.id });
        shared.wake.notify_one();
        true
    }

    /// Pages that the slice still has if it goes on as it began.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn pages_left(&self, slice: &SliceState) -> f64 {
        if let Some(requests) = self.run.endpoint().slicer().requests_left(slice) {
            return requests as f64;
        }
        let (Some(window), Some(reached)) = (slice.window, slice.reached) else { return 0.0 };
        let Some(since) = window.since else { return f64::INFINITY };
        let seconds = |span: chrono::TimeDelta| span.num_seconds().max(1) as f64;
        self.pages.max(1.0) * seconds(reached - since) / seconds(window.until - reached)
    }

    /// Goes on behind a position that the vendor refuses for good.
    fn restart(&mut self, error: Error) -> Result<Step> {
        let slice = self.run.slice(self.id);
        let keyed = self.run.tables.iter().flatten().all(|table| !table.primary_key.is_empty());
        self.restarts += 1;
        if !keyed || self.restarts > 3 {
            return Err(error.with_help("the stream has no key, so reading it again would repeat rows; run with --full-refresh"));
        }
        let restarted = self.run.endpoint().slicer().restart(&slice);
        let restarted = restarted.unwrap_or(SliceState { position: crate::state::Position::Start, ..slice });
        self.shared.committer.change(|| self.run.replan(self.id, restarted, None));
        Ok(Step::Replanned)
    }
}
