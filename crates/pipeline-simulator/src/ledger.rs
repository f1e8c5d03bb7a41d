//! What has become of the records of a table that changes while the server runs.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::timeline::Timeline;

/// Whether a record is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Live,
    /// Deleted, and shown as deleted.
    Deleted,
    /// Deleted for good: shown without what it said.
    Scrubbed,
    /// Shown nowhere any more.
    Gone,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its place in the order of exports.
    pub(crate) time: i64,
    /// When somebody, and not the system, changed it.
    pub(crate) updated: i64,
    pub(crate) created: i64,
    /// Raised by every change of its content.
    pub(crate) version: u32,
    pub(crate) fate: Fate,
}

/// The records of a table, and their order in exports.
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    order: BTreeSet<(i64, u64)>,
}

impl Ledger {
    pub(crate) fn new(timeline: &Timeline, is_deleted: impl Fn(u64) -> bool) -> Ledger {
        let entry = |index| {
            let time = timeline.at(index);
            let fate = if is_deleted(index) {
                Fate::Deleted
            } else {
                Fate::Live
            };
            Entry {
                time,
                updated: time - 60,
                created: time - 90_000,
                version: 0,
                fate,
            }
        };
        let entries: Vec<Entry> = (0..timeline.count).map(entry).collect();
        let order = entries
            .iter()
            .zip(0..)
            .map(|(entry, index)| (entry.time, index))
            .collect();
        Ledger { entries, order }
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn entry(&self, index: u64) -> Option<Entry> {
        self.entries.get(usize::try_from(index).ok()?).copied()
    }

    /// The records in the order of exports, from this time and index on up to `until`, inclusive.
    pub(crate) fn from(
        &self,
        time: i64,
        index: u64,
        until: i64,
    ) -> impl Iterator<Item = (i64, u64)> + '_ {
        let from = (Bound::Included((time, index)), Bound::Unbounded);
        self.order
            .range(from)
            .copied()
            .take_while(move |(time, _)| *time <= until)
    }

    /// Adds a record made now, and gives its index.
    pub(crate) fn add(&mut self, now: i64) -> u64 {
        let index = self.len();
        self.entries.push(Entry {
            time: now,
            updated: now,
            created: now,
            version: 0,
            fate: Fate::Live,
        });
        self.order.insert((now, index));
        index
    }

    /// Changes a record, which moves it to the end of the order.
    pub(crate) fn change(&mut self, index: u64, now: i64, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = usize::try_from(index)
            .ok()
            .and_then(|index| self.entries.get_mut(index))
        else {
            return;
        };
        self.order.remove(&(entry.time, index));
        entry.time = now;
        entry.version += 1;
        change(entry);
        if entry.fate != Fate::Gone {
            self.order.insert((now, index));
        }
    }

    /// The first record from `start` on, in a circle, that has one of these fates.
    pub(crate) fn find(&self, start: u64, fates: &[Fate]) -> Option<u64> {
        let indexes = (start..self.len()).chain(0..start.min(self.len()));
        indexes.into_iter().find(|index| {
            self.entry(*index)
                .is_some_and(|entry| fates.contains(&entry.fate))
        })
    }
}
