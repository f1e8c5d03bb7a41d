//! Reads one slice: page by page, each staged with its position, splitting off work when there is
//! room for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use pipeline_core::gap::Missed;
use pipeline_core::state::{GAP_CAPACITY, SliceId, SliceState};
use pipeline_core::{Added, Advance, Endpoint, Error, ErrorKind, Event, Page, RawRecord, Result};
use tokio::sync::Notify;

use super::budget::Rejections;
use super::contract::{ContractGuard, ContractVerdict, DROPPED};
use super::decode::Keys;
use super::dedup::{Dedup, Hashed, PageMark};
use super::endpoint_run::EndpointRun;
use super::stage::Stager;
use super::staged::PageRecords;
use super::{Job, quality};
use crate::destination::Table;

/// Pages that must be left of a slice for a part of it to be worth a slice of its own.
const SPLIT_PAGES: f64 = 3.0;

/// What all slice tasks of a run share.
pub(super) struct Shared {
    pub(super) job: Arc<Job>,
    pub(super) stager: Stager,
    /// Told when a slice was added.
    pub(super) wake: Notify,
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
    pub(super) fn new(job: Arc<Job>, stager: Stager) -> Self {
        Self {
            stager,
            wake: Notify::new(),
            job,
        }
    }
}

/// Reads a slice of an endpoint from its staged position to its end.
pub(super) async fn read_slice(
    shared: &Shared,
    run: &EndpointRun,
    id: SliceId,
) -> Result<SliceEnd> {
    let added = run.endpoint().account_value().map(|(column, _)| column);
    let keys = run
        .endpoint()
        .streams()
        .map(|stream| Keys::of(stream, added))
        .collect();
    let contracts = shared.job.contracts.get(&run.id.source);
    let guards = run
        .endpoint()
        .streams()
        .map(|stream| ContractGuard::of(stream, contracts?))
        .collect();
    let mut reader = SliceReader {
        shared,
        run,
        id,
        dedup: Dedup::default(),
        keys,
        guards,
        pages: 0.0,
        restarts: 0,
    };
    loop {
        match reader.read().await? {
            Step::Ended(end) => return Ok(end),
            Step::Replanned => {}
        }
    }
}

/// The records with the account that they were read of, where the source reads several.
fn of_account(endpoint: &Endpoint, records: Vec<Vec<RawRecord>>) -> Vec<Vec<RawRecord>> {
    let Some((column, account)) = endpoint.account_value() else {
        return records;
    };
    let account =
        serde_json::to_string(account).unwrap_or_else(|_| unreachable!("a string is always JSON"));
    let account = Added::after([(column, &*account)]);
    let stream = |records| RawRecord::all_with(records, &account);
    records.into_iter().map(stream).collect()
}

/// A page as it is staged.
struct Prepared<'a> {
    records: Vec<PageRecords<'a>>,
    mark: PageMark,
    /// What cannot be rows of each stream.
    rejections: Vec<Rejections>,
}

struct SliceReader<'a> {
    shared: &'a Shared,
    run: &'a EndpointRun,
    id: SliceId,
    dedup: Dedup,
    /// What the records of each stream must have to be rows.
    keys: Vec<Keys>,
    /// What holds the records of each stream to its contract; none: everything evolves.
    guards: Vec<Option<ContractGuard>>,
    /// Pages read of this slice.
    pages: f64,
    restarts: u32,
}

/// A unit as one that was read, but for the records that cannot be rows; none when there are none
/// of these.
fn with_rejected(unit: Missed, rejections: &[Rejections]) -> Option<Missed> {
    let reason = rejections.iter().find_map(Rejections::reason)?;
    Some(Missed {
        reason,
        rejected: true,
        ..unit
    })
}

enum Step {
    Ended(SliceEnd),
    /// The slice is another one now: read it from its new state.
    Replanned,
}

impl<'a> SliceReader<'a> {
    /// Reads pages until the slice ends, or changes.
    async fn read(&mut self) -> Result<Step> {
        let Self {
            shared, run, id, ..
        } = *self;
        let slice = run.slice(id);
        let mut pages = run.session.read(run.endpoint(), slice);
        loop {
            if run.stopped() {
                return Ok(Step::Ended(SliceEnd::Stopped));
            }
            // The others keep room for this page until it is staged.
            let hold = shared.stager.memory().hold();
            let page = tokio::select! {
                biased;
                () = shared.job.cancel.cancelled() => return Ok(Step::Ended(SliceEnd::Stopped)),
                next = hold.scope(pages.try_next()) => match next {
                    Err(error) if error.kind() == ErrorKind::CursorExpired => return self.restart(error),
                    Err(error) => {
                        self.doubt(&error);
                        return Err(error);
                    }
                    Ok(next) => next,
                },
            };
            let Some(page) = page else {
                return Err(Error::new(
                    ErrorKind::Unexpected,
                    "the connector stopped reading before the end of the slice",
                ));
            };
            let in_hand = page.in_hand;
            match self.take(page, &mut pages).await? {
                None => return Ok(Step::Ended(SliceEnd::Stopped)),
                Some(Advance::End | Advance::CaughtUp(_)) => {
                    return Ok(Step::Ended(SliceEnd::Read));
                }
                Some(Advance::Next(_)) => {}
            }
            run.forecast(&*shared.job.observer).await;
            if !in_hand && self.split() {
                return Ok(Step::Replanned);
            }
        }
    }

    /// Stages a page and its position. Nothing is returned when it was given up.
    async fn take(
        &mut self,
        page: Page,
        pages: &mut BoxStream<'_, Result<Page>>,
    ) -> Result<Option<Advance>> {
        let Some(advance) = page.advance.clone() else {
            return self.take_response(page, pages).await;
        };
        let Prepared {
            records,
            mark,
            rejections,
        } = self.prepare(page)?;
        let change = || {
            self.run
                .reject(&rejections)
                .and_then(|()| self.run.advance(self.id, &advance, mark))
        };
        let late = self
            .shared
            .stager
            .stage(records, change)
            .await
            .and_then(|late| self.run.reject_late(&late));
        if self.run.refresh {
            self.shared.stager.try_change(|| Ok(self.run.doubt()))?;
        }
        late?;
        self.pages += 1.0;
        Ok(Some(advance))
    }

    /// Commits a response of several pages by itself, because it has no place to stop inside.
    async fn take_response(
        &mut self,
        mut page: Page,
        pages: &mut BoxStream<'_, Result<Page>>,
    ) -> Result<Option<Advance>> {
        let mut alone = self.shared.stager.alone().await?;
        // While nobody else can write there is nobody to wait for.
        let urgent = self.shared.stager.memory().urgent();
        loop {
            let end = page.advance.clone();
            let Prepared {
                records,
                mark,
                rejections,
            } = self.prepare(page)?;
            self.run.reject(&rejections)?;
            if let Some(advance) = end {
                self.run.reject_late(&alone.write(records).await?)?;
                if alone.is_stopped(self.run.ordinal) {
                    return Ok(None);
                }
                alone
                    .commit(|| self.run.advance(self.id, &advance, mark))
                    .await?;
                self.pages += 1.0;
                return Ok(Some(advance));
            }
            // The next page is read and taken apart while the destination writes this one.
            let cancel = &self.shared.job.cancel;
            let next = async {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => Ok(None),
                    next = urgent.scope(pages.try_next()) => next,
                }
            };
            let (late, next) = tokio::join!(alone.write(records), next);
            self.run.reject_late(&late?)?;
            match next? {
                Some(next) if !alone.is_stopped(self.run.ordinal) => page = next,
                _ => return Ok(None),
            }
        }
    }

    /// Leaves out the records that are committed already and those of streams that are not wanted,
    /// and tells observers of the page.
    ///
    /// # Errors
    /// When a record breaks a frozen contract: nothing of the page is staged then.
    fn prepare(&mut self, page: Page) -> Result<Prepared<'a>> {
        let restarted = self.restarts > 0;
        let records = of_account(self.run.endpoint(), page.records);
        let mut prepared =
            self.dedup
                .filter(self.run, &self.run.slice(self.id), records, restarted);
        prepared.mark.watermark = page.watermark.or(prepared.mark.watermark);
        for Missed { name, reason, .. } in &page.gaps {
            self.shared.job.observer.observe(&Event::PassedOver {
                endpoint: &self.run.id,
                unit: name,
                reason,
            });
        }
        prepared.mark.gaps = page.gaps;
        let unit = page.unit;
        self.run.skip(page.skipped);
        let (mut records, mut bytes) = (0, 0);
        for (stream, counts) in prepared.counts.iter().enumerate() {
            if self.run.tables[stream].is_some() {
                self.run.count(stream, *counts);
                records += counts.records;
                bytes += counts.bytes;
            }
        }
        let rejections = self.reject(&mut prepared.records);
        self.hold_to_contracts(&mut prepared.records)?;
        if self.run.refresh || self.run.is_gap(self.id) {
            let rejected = unit.and_then(|unit| with_rejected(unit, &rejections));
            prepared
                .mark
                .gaps
                .extend(rejected.filter(|unit| self.has_room_for(unit)));
        }
        self.shared.job.observer.observe(&Event::PageRead {
            endpoint: &self.run.id,
            records,
            bytes,
        });
        let streams = self
            .run
            .endpoint()
            .streams()
            .zip(&self.run.tables)
            .zip(prepared.records);
        let wanted = streams.filter_map(|((stream, table), records)| {
            let table = table.as_ref().filter(|_| !records.is_empty())?;
            Some(PageRecords {
                endpoint: self.run.ordinal,
                table,
                stream,
                keeps: quality::keeps_records(&self.shared.job.quality, table),
                records,
            })
        });
        Ok(Prepared {
            records: wanted.collect(),
            mark: prepared.mark,
            rejections,
        })
    }

    /// Rejects records, and leaves out members, as the contracts say.
    fn hold_to_contracts(&mut self, page: &mut [Vec<Hashed>]) -> Result<()> {
        for (number, (guard, records)) in self.guards.iter_mut().zip(page).enumerate() {
            let (Some(guard), Some(table)) = (guard, &self.run.tables[number]) else {
                continue;
            };
            let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
            for Hashed { record, .. } in records {
                match guard.hold(record)? {
                    ContractVerdict::Whole => {}
                    ContractVerdict::Rejected(reason) => *record = record.clone().rejected(&reason),
                    ContractVerdict::Without(fields) => {
                        let names: Vec<&str> = fields.iter().map(String::as_str).collect();
                        *record = record.clone().with(&Added::without(&names));
                        for field in fields {
                            *dropped.entry(field).or_default() += 1;
                        }
                    }
                }
            }
            for (field, records) in dropped {
                self.run.drop_value(number, &field, records);
                self.shared.job.observer.observe(&Event::Drift {
                    source: &table.source,
                    stream: &table.stream,
                    field: &field,
                    reason: DROPPED,
                    records,
                });
            }
        }
        Ok(())
    }

    /// Marks the records that cannot be rows.
    fn reject(&mut self, page: &mut [Vec<Hashed>]) -> Vec<Rejections> {
        let reject =
            |((table, keys), records): ((&Option<Arc<Table>>, &mut Keys), &mut Vec<Hashed>)| {
                let mut rejections = Rejections::default();
                for Hashed { record, .. } in records.iter_mut().filter(|_| table.is_some()) {
                    if let Some(reason) = keys.refuse(record).map(|rejection| rejection.to_string())
                    {
                        rejections.add(&reason);
                        *record = record.clone().rejected(&reason);
                    }
                }
                rejections
            };
        self.run
            .tables
            .iter()
            .zip(&mut self.keys)
            .zip(page)
            .map(reject)
            .collect()
    }

    /// True unless the gap would be one too many: a unit that was read must not make the endpoint
    /// fail.
    fn has_room_for(&self, unit: &Missed) -> bool {
        let known = self.run.gap_names();
        known.len() < GAP_CAPACITY / 2 || known.contains(&unit.name)
    }

    /// Gives a part of the slice away when another task could read it. True when it did.
    fn split(&self) -> bool {
        let Self {
            shared, run, id, ..
        } = *self;
        let options = shared.job.options;
        let idle = run.source_has_room(options.max_slices)
            && run.has_room(options.max_slices_per_endpoint);
        if !idle || run.is_gap(id) || self.pages_left(&run.slice(id)) < SPLIT_PAGES {
            return false;
        }
        let Some((kept, given)) = run.endpoint().slicer().split(&run.slice(id)) else {
            return false;
        };
        shared.stager.change(|| run.replan(id, kept, Some(given)));
        shared
            .job
            .observer
            .observe(&Event::SliceSplit { endpoint: &run.id });
        shared.wake.notify_one();
        true
    }

    /// Pages that the slice still has if it goes on as it began.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn pages_left(&self, slice: &SliceState) -> f64 {
        if let Some(requests) = self.run.endpoint().slicer().requests_left(slice) {
            return requests as f64;
        }
        let (Some(window), Some(watermark)) = (slice.window, slice.watermark) else {
            return 0.0;
        };
        let Some(since) = window.since else {
            return f64::INFINITY;
        };
        let seconds = |span: chrono::TimeDelta| span.num_seconds().max(1) as f64;
        self.pages.max(1.0) * seconds(watermark - since) / seconds(window.until - watermark)
    }

    /// Remembers the page that the list repeated instead of going on, so that the next sync does
    /// not take it for the next one.
    fn doubt(&self, error: &Error) {
        let slice = self.run.slice(self.id);
        if error
            .doubted()
            .is_some_and(|page| slice.doubted != Some(page))
        {
            let doubted = SliceState {
                doubted: error.doubted(),
                ..slice
            };
            self.shared
                .stager
                .change(|| self.run.replan(self.id, doubted, None));
        }
    }

    /// Goes on behind a position that the vendor refuses for good.
    fn restart(&mut self, error: Error) -> Result<Step> {
        let slice = self.run.slice(self.id);
        let keyed = self
            .run
            .tables
            .iter()
            .flatten()
            .all(|table| !table.primary_key.is_empty());
        self.restarts += 1;
        if !keyed || self.restarts > 3 {
            return Err(error.with_help("the stream has no key, so reading it again would repeat rows; run with --full-refresh"));
        }
        let restarted = self.run.endpoint().slicer().restart(&slice);
        let restarted = restarted.unwrap_or(SliceState {
            position: pipeline_core::state::Position::Start,
            ..slice
        });
        self.shared
            .stager
            .change(|| self.run.replan(self.id, restarted, None));
        Ok(Step::Replanned)
    }
}
