//! What a table holds: of each key the newest version, so that one that comes again is not stored
//! again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Columns that a tombstone of many rows compares, sorted.
pub(crate) type Pattern = Vec<String>;

/// What one row of a table is, in a few numbers: first the hash of its key and that of its content,
/// then, for each pattern of the table, the hash of the values that a tombstone of many would
/// compare, or 0.
///
/// In the place of the content a tombstone has [`GONE`], and one of many the number of its pattern
/// from 1; the latter has in the place of the key the hash of its values.
pub(crate) type Entry = [u64];

/// In the place of the content: the key is deleted.
pub(crate) const GONE: u64 = 0;

/// Contents below this are not hashes.
pub(crate) const FIRST_CONTENT: u64 = 256;

/// The most patterns of a table. There is one for each way in which its rows belong to something
/// that can be deleted.
pub(crate) const MAX_PATTERNS: usize = 8;

type Map<V> = HashMap<u64, V, BuildHasherDefault<Prehashed>>;

/// The newest version of each key of one generation of a table; of a large one only those that were
/// written last.
#[derive(Debug)]
pub(crate) struct Known {
    patterns: Vec<Pattern>,
    /// Keys that may be in memory.
    capacity: usize,
    /// False when there are older rows than those that are known.
    complete: bool,
    /// Content by key. When this one has half of what may be in memory, it takes the place of
    /// `old`.
    young: Map<u64>,
    old: Map<u64>,
    /// For each pattern, the rows by what a tombstone of many compares.
    groups: Vec<Map<Group>>,
}

/// Rows that one tombstone would delete.
#[derive(Debug, Default)]
struct Group {
    /// True when nothing older than these rows can belong to it.
    whole: bool,
    /// Keys and contents, those included that have changed since.
    rows: Vec<(u64, u64)>,
}

impl Known {
    /// Knows nothing yet. `complete`: every row of the table will be added.
    pub(crate) fn new(patterns: Vec<Pattern>, capacity: usize, complete: bool) -> Self {
        let groups = patterns.iter().map(|_| Map::default()).collect();
        Self {
            patterns,
            capacity,
            complete,
            young: Map::default(),
            old: Map::default(),
            groups,
        }
    }

    pub(crate) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// True when a key that is not known is not in the table.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Keys in memory.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// The content of a key's newest version.
    pub(crate) fn content(&self, key: u64) -> Option<u64> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    /// Forgets everything, because rows of that pattern cannot be told from others.
    pub(crate) fn forget(&mut self, patterns: Vec<Pattern>) {
        *self = Self::new(patterns, self.capacity, false);
    }

    /// Adds the next row of the table.
    pub(crate) fn add(&mut self, entry: &Entry) {
        let [key, content, groups @ ..] = entry else {
            return;
        };
        if (1..FIRST_CONTENT).contains(content) {
            return self.sweep(usize::try_from(content - 1).unwrap_or(usize::MAX), *key);
        }
        if self.young.len() >= self.capacity.div_ceil(2) {
            self.rotate();
        }
        self.young.insert(*key, *content);
        if *content != GONE {
            for (known, group) in self
                .groups
                .iter_mut()
                .zip(groups)
                .filter(|(_, group)| **group != 0)
            {
                known.entry(*group).or_default().rows.push((*key, *content));
            }
        }
    }

    /// The keys and contents of the rows that a tombstone of many would delete; none: there may be
    /// others.
    pub(crate) fn alive(&self, pattern: usize, group: u64) -> Option<HashSet<(u64, u64)>> {
        let known = self.groups.get(pattern)?.get(&group);
        if !self.complete && !known.is_some_and(|group| group.whole) {
            return None;
        }
        let rows = known.map(|group| group.rows.as_slice()).unwrap_or_default();
        Some(
            rows.iter()
                .copied()
                .filter(|(key, content)| self.content(*key) == Some(*content))
                .collect(),
        )
    }

    fn sweep(&mut self, pattern: usize, group: u64) {
        let Some(known) = self.groups.get_mut(pattern) else {
            return;
        };
        let swept = std::mem::replace(
            known.entry(group).or_default(),
            Group {
                whole: true,
                rows: Vec::new(),
            },
        );
        for (key, content) in swept.rows {
            if self.content(key) == Some(content) {
                self.young.remove(&key);
                self.old.remove(&key);
            }
        }
    }

    /// Forgets the older half.
    fn rotate(&mut self) {
        let young = std::mem::take(&mut self.young);
        let forgotten = std::mem::replace(&mut self.old, young);
        let is_known = |old: &Map<u64>, (key, content): &(u64, u64)| old.get(key) == Some(content);
        self.complete &= forgotten.keys().all(|key| self.old.contains_key(key));
        for groups in &mut self.groups {
            groups.retain(|_, group| {
                group.whole &= !group
                    .rows
                    .iter()
                    .any(|row| is_known(&forgotten, row) && !self.old.contains_key(&row.0));
                group.rows.retain(|row| is_known(&self.old, row));
                !group.rows.is_empty()
            });
        }
    }
}

/// Takes a key, which is a hash already, as it is.
#[derive(Debug, Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are numbers")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = FIRST_CONTENT + 1;
    const B: u64 = FIRST_CONTENT + 2;

    fn known(capacity: usize) -> Known {
        Known::new(vec![vec!["customer".to_owned()]], capacity, true)
    }

    #[test]
    fn the_newest_version_counts() {
        let mut known = known(100);
        known.add(&[1, A, 7]);
        known.add(&[1, B, 8]);
        known.add(&[2, A, 7]);
        known.add(&[2, GONE, 0]);
        assert_eq!(
            [1, 2, 3].map(|key| known.content(key)),
            [Some(B), Some(GONE), None]
        );
        assert_eq!(known.alive(0, 7), Some(HashSet::new()));
        assert_eq!(known.alive(0, 8), Some([(1, B)].into()));
        known.add(&[8, 1, 0]);
        assert_eq!(known.content(1), None, "what belonged to 8 is gone");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut known = known(4);
        for key in 1..=9 {
            known.add(&[key, A, key % 2 + 1]);
        }
        assert!(known.len() <= 4 && !known.is_complete());
        assert_eq!((known.content(1), known.content(9)), (None, Some(A)));
        assert_eq!(known.alive(0, 1), None, "some of them are forgotten");
        known.add(&[1, 1, 0]);
        known.add(&[20, B, 1]);
        assert_eq!(
            known.alive(0, 1),
            Some([(20, B)].into()),
            "those before the tombstone do not matter"
        );
    }
}
