//! Which rows of a batch say something that the table does not hold yet.

use std::collections::{BTreeSet, HashMap, HashSet};

use arrow_array::RecordBatch;
use pipeline_core::Result;
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, Generation, SYNCED_AT};
use twox_hash::XxHash3_128;

use crate::known::{FIRST_CONTENT, GONE, Known, Pattern};
use crate::rows;
use crate::rows::{Kind, Rows};

/// A batch without what the table holds.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    /// Rows to be stored.
    pub(crate) fresh: Option<RecordBatch>,
    /// Their entries.
    pub(crate) numbers: Vec<u64>,
    /// Rows that an earlier transaction has stored in the next generation: to be stored after all
    /// when that is discarded.
    pub(crate) spare: Option<RecordBatch>,
    /// Rows that are not stored.
    pub(crate) unchanged: u64,
}

/// Makes the entries of rows.
pub(crate) struct Hashes<'a> {
    rows: &'a Rows<'a>,
    patterns: &'a [Pattern],
    /// The columns of a content, by their names.
    content: Vec<&'a Column<'a>>,
    buffer: String,
}

impl<'a> Hashes<'a> {
    pub(crate) fn new(rows: &'a Rows<'a>, patterns: &'a [Pattern]) -> Self {
        let is_content =
            |column: &&Column<'_>| column.name() != DELETED && column.name() != SYNCED_AT;
        let mut columns: Vec<&Column<'_>> = rows.columns.iter().filter(is_content).collect();
        columns.sort_unstable_by_key(|column| column.name());
        Self {
            rows,
            patterns,
            content: columns,
            buffer: String::new(),
        }
    }

    /// Appends the entry of a row.
    pub(crate) fn push(&mut self, row: usize, numbers: &mut Vec<u64>) {
        match self.rows.kind(row) {
            Kind::Row => {
                numbers.extend([self.key(row), self.content(row)]);
                for pattern in self.patterns {
                    numbers.push(group(self.rows, pattern, row, &mut self.buffer));
                }
            }
            Kind::Tombstone => {
                numbers.extend([self.key(row), GONE]);
                numbers.extend(self.patterns.iter().map(|_| 0));
            }
            Kind::Sweep => {
                let pattern = self.rows.pattern(row);
                let place = self.patterns.iter().position(|known| *known == pattern);
                let group = group(self.rows, &pattern, row, &mut self.buffer);
                // One of an unknown pattern is met only while cards are made anew.
                numbers.extend([
                    group,
                    place.map_or(FIRST_CONTENT - 1, |place| place as u64 + 1),
                ]);
                numbers.extend(self.patterns.iter().map(|_| 0));
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
    fn key(&mut self, row: usize) -> u64 {
        self.rows.key(row, &mut self.buffer) as u64
    }

    /// Hash of all values but the instant of the reading. A column without a value counts as one
    /// that is missing.
    fn content(&mut self, row: usize) -> u64 {
        self.buffer.clear();
        for column in &self.content {
            let cell = column.cell(row);
            if cell == Cell::Null {
                continue;
            }
            let start = self.buffer.len();
            self.buffer.push_str(column.name());
            self.buffer.push('\0');
            let before = self.buffer.len();
            rows::push(&mut self.buffer, cell);
            match self.buffer.len() - before {
                0 => self.buffer.truncate(start),
                length => push_length(&mut self.buffer, length),
            }
        }
        let content = short(self.buffer.as_bytes());
        if content < FIRST_CONTENT {
            content + FIRST_CONTENT
        } else {
            content
        }
    }
}

/// Appends a length, so that no value can look like the beginning of another column.
fn push_length(out: &mut String, mut length: usize) {
    while length > 0 {
        out.push(char::from(u8::try_from(length & 0x7f).unwrap_or_default()));
        length >>= 7;
    }
    out.push('\u{80}');
}

/// Half of the hash of what a tombstone of many compares; 0: one of the values is null.
#[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
fn group(rows: &Rows<'_>, pattern: &Pattern, row: usize, buffer: &mut String) -> u64 {
    rows.group(pattern, row, buffer)
        .map_or(0, |group| (group as u64).max(1))
}

#[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
fn short(bytes: &[u8]) -> u64 {
    XxHash3_128::oneshot(bytes) as u64
}

/// The patterns of the tombstones of many in a batch.
pub(crate) fn patterns(batch: &RecordBatch, key: &[String]) -> Result<BTreeSet<Pattern>> {
    let columns = Column::of(batch)?;
    let rows = Rows::new(&columns, key);
    let sweeps = (0..batch.num_rows()).filter(|row| rows.kind(*row) == Kind::Sweep);
    Ok(sweeps
        .map(|row| rows.pattern(row))
        .filter(|pattern| !pattern.is_empty())
        .collect())
}

/// Takes out of a batch what the table holds, and adds the rest to what is known. `mine` are the
/// keys that the open transaction has written.
pub(crate) fn sift(
    known: &mut Known,
    generation: Generation,
    key: &[String],
    batch: &RecordBatch,
    mine: &mut HashSet<u64>,
) -> Result<Sifted> {
    let columns = Column::of(batch)?;
    let rows = Rows::new(&columns, key);
    let patterns = known.patterns().to_vec();
    let (mut hashes, mut numbers) = (Hashes::new(&rows, &patterns), Vec::new());
    let count = batch.num_rows();
    (0..count).for_each(|row| hashes.push(row, &mut numbers));
    let width = 2 + patterns.len();
    let entries: Vec<&[u64]> = numbers.chunks_exact(width).collect();
    let sets = Sets::new(&entries);

    let (mut fresh, mut spare) = (vec![false; count], vec![false; count]);
    for (row, entry) in entries.iter().enumerate() {
        let (id, content) = (entry[0], entry[1]);
        let is_next = generation == Generation::Next;
        fresh[row] = match rows.kind(row) {
            Kind::Row => {
                let is_known = known.content(id) == Some(content);
                spare[row] = is_known && is_next && mine.insert(id);
                !is_known
            }
            // Those of the next generation may delete rows that are carried into it.
            Kind::Tombstone | Kind::Sweep if is_next => true,
            Kind::Tombstone => known
                .content(id)
                .map_or(!known.is_complete(), |content| content != GONE),
            Kind::Sweep => rows.pattern(row).is_empty() || !sets.changes_nothing(known, row, entry),
        };
        if fresh[row] {
            known.add(entry);
            if is_next {
                mine.insert(id);
            }
        }
    }
    let unchanged = fresh.iter().filter(|fresh| !**fresh).count() as u64;
    let stored = entries
        .iter()
        .zip(&fresh)
        .filter(|(_, fresh)| **fresh)
        .flat_map(|(entry, _)| entry.iter().copied());
    Ok(Sifted {
        numbers: stored.collect(),
        unchanged,
        fresh: rows::filter(batch, |row| fresh[row])?,
        spare: rows::filter(batch, |row| spare[row])?,
    })
}

/// Where the rows of a batch are, by their key and by what a tombstone of many compares; empty in a
/// batch without one.
struct Sets<'a> {
    entries: &'a [&'a [u64]],
    keys: HashMap<u64, Vec<usize>>,
    groups: HashMap<(usize, u64), Vec<usize>>,
}

impl<'a> Sets<'a> {
    fn new(entries: &'a [&'a [u64]]) -> Self {
        let mut sets = Self {
            entries,
            keys: HashMap::new(),
            groups: HashMap::new(),
        };
        if entries
            .iter()
            .any(|entry| (1..FIRST_CONTENT).contains(&entry[1]))
        {
            for (row, entry) in entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| !(1..FIRST_CONTENT).contains(&entry[1]))
            {
                sets.keys.entry(entry[0]).or_default().push(row);
                for (pattern, group) in entry[2..].iter().enumerate() {
                    sets.groups.entry((pattern, *group)).or_default().push(row);
                }
            }
        }
        sets
    }

    /// True when a tombstone of many deletes nothing, or the rows that follow it in its batch are
    /// exactly those that it deletes: a list that was read again and is the same.
    fn changes_nothing(&self, known: &Known, row: usize, entry: &[u64]) -> bool {
        let (group, pattern) = (
            entry[0],
            usize::try_from(entry[1] - 1).unwrap_or(usize::MAX),
        );
        let Some(alive) = known.alive(pattern, group) else {
            return false;
        };
        let after = |rows: Option<&Vec<usize>>| {
            rows.into_iter()
                .flatten()
                .copied()
                .filter(|other| *other > row)
                .collect::<Vec<_>>()
        };
        let version = |row: usize| (self.entries[row][0], self.entries[row][1]);
        let members: HashSet<(u64, u64)> = after(self.groups.get(&(pattern, group)))
            .into_iter()
            .map(version)
            .collect();
        let stays = |(key, content): &(u64, u64)| {
            after(self.keys.get(key))
                .into_iter()
                .all(|row| version(row).1 == *content)
        };
        alive.is_empty() || members == alive && alive.iter().all(stays)
    }
}
