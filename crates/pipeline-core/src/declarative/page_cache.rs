//! Pages of a list that several walks need: its own, and those through the lists of its records.
//! Each is requested once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::connector::endpoint::ParentMap;
use crate::error::Result;
use crate::memory::{Hold, Lease};
use crate::model::record::{Advance, Page, RawRecord};
use crate::model::state::Position;

/// Bytes of records kept for the lists of their own. What comes beyond is requested again by who
/// needs it.
const KEPT_BYTES: usize = 64 << 20;

/// Bytes of pages kept whole because a walk through the records' lists was there before the walk
/// that stores the page.
const WHOLE_BYTES: usize = 32 << 20;

/// What a page costs besides its records.
const PAGE_BYTES: usize = 512;

/// How long a page counts that ends where it began: what is new later stands at the same place.
const STANDING: Duration = Duration::from_mins(1);

/// The pages of one endpoint in one run, as far as 64 MiB hold them.
#[derive(Debug, Default)]
pub(super) struct PageCache(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    slots: HashMap<u64, Arc<tokio::sync::Mutex<Slot>>>,
    /// Slots that hold a whole page and its bytes, the oldest first.
    whole: VecDeque<(u64, usize)>,
    bytes: usize,
}

/// One page, once it was read.
#[derive(Debug, Default)]
struct Slot {
    whole: Option<Page>,
    parents: Option<Parents>,
}

#[derive(Debug)]
struct Parents {
    records: Vec<RawRecord>,
    end: Page,
    read: Instant,
    stands: bool,
    /// The memory that the records take.
    #[expect(dead_code, reason = "given back with them")]
    lease: Option<Lease>,
}

/// Which walk asks for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walker {
    /// The one that stores its records.
    Own,
    /// One that reads the lists of its records.
    Children,
}

impl PageCache {
    /// The page that a request of this key asks for, read by `read` unless another walk has read
    /// it. Walks that want the same page wait for each other if they may. What the lists of its
    /// records need is made by `map`.
    pub(super) async fn page(
        &self,
        map: ParentMap,
        walker: Walker,
        key: u64,
        position: &Position,
        waits: bool,
        read: impl Future<Output = Result<Page>>,
    ) -> Result<Page> {
        let slot = Arc::clone(self.lock().slots.entry(key).or_default());
        let mut slot = if waits {
            slot.lock().await
        } else {
            // Lists of many records are begun together, and one that is not looked at at the moment
            // must not be waited for.
            match slot.try_lock() {
                Ok(slot) => slot,
                Err(_) => return read.await,
            }
        };
        let known = match walker {
            Walker::Own => slot.whole.take(),
            Walker::Children => slot.parents.as_ref().and_then(Parents::page),
        };
        if let Some(page) = known {
            return Ok(page);
        }
        let apart = Hold::apart().filter(|_| walker == Walker::Children);
        let page = match &apart {
            Some(hold) => hold.scope(read).await?,
            None => read.await?,
        };
        let parents = Parents::of(&page, map, position)?;
        let small = parents.page();
        self.keep(key, &mut slot, parents);
        match (walker, small) {
            (Walker::Children, Some(small)) if apart.is_some_and(|hold| hold.may_keep()) => {
                let bytes = page.records.iter().flatten().map(RawRecord::len).sum();
                slot.whole = Some(page);
                drop(slot);
                self.forget_whole(key, bytes);
                Ok(small)
            }
            (Walker::Children, Some(small)) => Ok(small),
            _ => Ok(page),
        }
    }

    /// Forgets a page that cannot be what was asked for, so that it is requested again.
    pub(super) fn forget(&self, key: u64) {
        self.lock().slots.remove(&key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what the lists of a page's records need, if there is room.
    fn keep(&self, key: u64, slot: &mut Slot, parents: Parents) {
        let records = parents
            .records
            .iter()
            .map(|record| record.len() + size_of::<RawRecord>());
        let bytes = PAGE_BYTES + records.sum::<usize>();
        let mut pages = self.lock();
        let lease = if pages.bytes + bytes <= KEPT_BYTES {
            Hold::current().keep(bytes)
        } else {
            None
        };
        if lease.is_some() {
            pages.bytes += bytes;
            slot.parents = Some(Parents { lease, ..parents });
        } else {
            pages.slots.remove(&key);
        }
    }

    /// Forgets the oldest whole pages when there are too many: the walk that stores them may not be
    /// wanted at all.
    fn forget_whole(&self, key: u64, bytes: usize) {
        let mut forgotten = Vec::new();
        {
            let mut pages = self.lock();
            pages.whole.push_back((key, bytes));
            let mut total: usize = pages.whole.iter().map(|(_, bytes)| bytes).sum();
            while total > WHOLE_BYTES && pages.whole.len() > 1 {
                let Some((oldest, bytes)) = pages.whole.pop_front() else {
                    break;
                };
                total -= bytes;
                forgotten.extend(pages.slots.get(&oldest).cloned());
            }
        }
        for slot in forgotten {
            if let Ok(mut slot) = slot.try_lock() {
                slot.whole = None;
            }
        }
    }
}

impl Parents {
    /// What the lists of a page's records need.
    fn of(page: &Page, map: ParentMap, position: &Position) -> Result<Self> {
        let first = page.records.first().map_or(&[][..], Vec::as_slice);
        let mut records = Vec::new();
        for record in first {
            records.extend(map(record)?);
        }
        let stands = match (&page.advance, position) {
            (Some(Advance::Next(_)), _) => false,
            (Some(Advance::CaughtUp(to)), Position::At(from)) => to == from,
            _ => true,
        };
        let Page {
            watermark,
            skipped,
            digest,
            ..
        } = *page;
        let end = Page {
            watermark,
            skipped,
            digest,
            ..Page::new(Vec::new(), page.advance.clone())
        };
        Ok(Self {
            records,
            end,
            read: Instant::now(),
            stands,
            lease: None,
        })
    }

    /// The page again, unless it may have changed.
    fn page(&self) -> Option<Page> {
        if self.stands && self.read.elapsed() > STANDING {
            return None;
        }
        let end = Page {
            watermark: self.end.watermark,
            skipped: self.end.skipped,
            digest: self.end.digest,
            ..Page::new(vec![self.records.clone()], self.end.advance.clone())
        };
        Some(end)
    }
}
