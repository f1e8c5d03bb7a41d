//! Pages of a list that several walks need: its own, and those through the lists of its records. Each is requested once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fingerprint;
use crate::error::Result;
use crate::record::{Advance, Page, RawRecord};
use crate::state::{Position, SliceState};

/// Bytes of records kept for the lists of their own. What comes beyond is requested again by who needs it.
const KEPT_BYTES: usize = 64 << 20;

/// Pages kept whole because a walk through the records' lists was there before the walk that stores the page.
const WHOLE_PAGES: usize = 2;

/// How long a page counts that ends where it began: what is new later stands at the same place.
const STANDING: Duration = Duration::from_mins(1);

/// Makes what the lists of a record need of it; none: no list of it is read.
pub type ParentMap = fn(&RawRecord) -> Result<Option<RawRecord>>;

/// The pages of one endpoint. Clones of the endpoint share them.
#[derive(Clone, Debug)]
pub(crate) struct SharedPages {
    keep: ParentMap,
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
struct Pages {
    slots: HashMap<u64, Arc<tokio::sync::Mutex<Slot>>>,
    /// Slots that hold a whole page, the oldest first.
    whole: VecDeque<u64>,
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
}

/// Which walk asks for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walker {
    /// The one that stores its records.
    Own,
    /// One that reads the lists of its records.
    Children,
}

impl SharedPages {
    pub(crate) fn new(keep: ParentMap) -> Self {
        Self { keep, pages: Arc::default() }
    }

    /// The page at a position, read by `read` unless another walk has read it. Walks that want the same page wait for each
    /// other.
    pub(crate) async fn page(
        &self,
        walker: Walker,
        slice: &SliceState,
        position: &Position,
        read: impl Future<Output = Result<Page>>,
    ) -> Result<Page> {
        let key = fingerprint(&(&slice.query, slice.window.map(|window| (window.since, window.until)), format!("{position:?}")));
        let slot = Arc::clone(self.lock().slots.entry(key).or_default());
        let mut slot = slot.lock().await;
        match walker {
            Walker::Own => {
                if let Some(page) = slot.whole.take() {
                    return Ok(page);
                }
            }
            Walker::Children => {
                if let Some(page) = slot.parents.as_ref().and_then(Parents::page) {
                    return Ok(page);
                }
            }
        }
        let page = read.await?;
        let parents = self.parents(&page, position)?;
        let bytes: usize = parents.records.iter().map(|record| record.as_bytes().len() + size_of::<RawRecord>()).sum();
        let small = parents.page();
        slot.parents = self.has_room(bytes).then_some(parents);
        match (walker, small) {
            (Walker::Children, Some(small)) => {
                slot.whole = Some(page);
                drop(slot);
                self.forget_whole(key).await;
                Ok(small)
            }
            _ => Ok(page),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let mut pages = self.lock();
        let fits = pages.bytes + bytes <= KEPT_BYTES;
        pages.bytes += if fits { bytes } else { 0 };
        fits
    }

    /// Forgets the oldest whole page when there are too many: the walk that stores them may not be wanted at all.
    async fn forget_whole(&self, key: u64) {
        let oldest = {
            let mut pages = self.lock();
            pages.whole.push_back(key);
            let oldest = (pages.whole.len() > WHOLE_PAGES).then(|| pages.whole.pop_front()).flatten();
            oldest.and_then(|oldest| pages.slots.get(&oldest).cloned())
        };
        if let Some(oldest) = oldest {
            oldest.lock().await.whole = None;
        }
    }

    fn parents(&self, page: &Page, position: &Position) -> Result<Parents> {
        let first = page.records.first().map_or(&[][..], Vec::as_slice);
        let mut records = Vec::new();
        for record in first {
            records.extend((self.keep)(record)?);
        }
        let stands = match (&page.advance, position) {
            (Some(Advance::Next(_)), _) => false,
            (Some(Advance::CaughtUp(to)), Position::At(from)) => to == from,
            _ => true,
        };
        let end = Page { reached: page.reached, skipped: page.skipped, ..Page::new(Vec::new(), page.advance.clone()) };
        Ok(Parents { records, end, read: Instant::now(), stands })
    }
}

impl Parents {
    /// The page again, unless it may have changed.
    fn page(&self) -> Option<Page> {
        if self.stands && self.read.elapsed() > STANDING {
            return None;
        }
        let end = Page { reached: self.end.reached, skipped: self.end.skipped, ..Page::new(vec![self.records.clone()], self.end.advance.clone()) };
        Some(end)
    }
}
