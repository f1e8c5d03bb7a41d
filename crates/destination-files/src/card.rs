//! A card of a data file: what [`Known`](crate::known::Known) needs of its rows. It is made from
//! the file, and made again when it is lost, damaged, or lacks a pattern.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use pipeline_core::Result;
use pipeline_engine::cell::Column;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::format::FileFormat;
use crate::known::Pattern;
use crate::place::Place;
use crate::rows;
use crate::rows::{Kind, Rows};
use crate::sift::Hashes;

/// Version of the shape and of what is hashed. A card of another version is made again.
const VERSION: u32 = 1;

/// The entries of a data file's rows, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Card {
    pub(crate) key: Vec<String>,
    pub(crate) patterns: Vec<Pattern>,
    /// As many numbers for each row as an entry has.
    pub(crate) numbers: Vec<u64>,
}

/// What stands before the numbers, on one line.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    key: Vec<String>,
    patterns: Vec<Pattern>,
    checksum: String,
}

impl Card {
    /// A card without rows.
    pub(crate) fn new(key: &[String], patterns: &[Pattern]) -> Self {
        Self {
            key: key.to_vec(),
            patterns: patterns.to_vec(),
            numbers: Vec::new(),
        }
    }

    /// The card of these rows and those that follow them in the same file; none: they differ in
    /// what is known of them.
    pub(crate) fn join(mut self, more: Self) -> Option<Self> {
        self.numbers.extend(more.numbers);
        (self.key == more.key && self.patterns == more.patterns).then_some(self)
    }

    /// The entry of each row.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &[u64]> {
        self.numbers.chunks_exact(2 + self.patterns.len())
    }

    /// Makes the card of a data file, and adds the patterns of its tombstones to those that are
    /// known.
    pub(crate) fn make(
        place: &dyn Place,
        format: &dyn FileFormat,
        path: &Path,
        key: &[String],
        patterns: &[Pattern],
        found: &mut BTreeSet<Pattern>,
    ) -> Result<Self> {
        let mut card = Self::new(key, patterns);
        for batch in rows::read(place, format, path)? {
            let batch = batch?;
            let columns = Column::of(&batch)?;
            let rows = Rows::new(&columns, key);
            let mut hashes = Hashes::new(&rows, patterns);
            for row in 0..batch.num_rows() {
                if rows.kind(row) == Kind::Sweep {
                    found.extend(Some(rows.pattern(row)).filter(|pattern| !pattern.is_empty()));
                }
                hashes.push(row, &mut card.numbers);
            }
        }
        Ok(card)
    }

    /// Reads a card; none: it cannot be used.
    pub(crate) fn read(bytes: &[u8], key: &[String]) -> Option<Self> {
        let end = memchr::memchr(b'\n', bytes)?;
        let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
        let body = &bytes[end + 1..];
        if header.version != VERSION || header.key != key || header.checksum != checksum(body) {
            return None;
        }
        let (numbers, _) = body.as_chunks::<8>();
        let numbers = numbers
            .iter()
            .map(|number| u64::from_le_bytes(*number))
            .collect();
        Some(Self {
            key: header.key,
            patterns: header.patterns,
            numbers,
        })
    }

    /// Stores the card. It need not be durable.
    pub(crate) fn store(&self, place: &dyn Place, path: &Path) -> io::Result<()> {
        let body: Vec<u8> = self
            .numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let header = Header {
            version: VERSION,
            key: self.key.clone(),
            patterns: self.patterns.clone(),
            checksum: checksum(&body),
        };
        let mut bytes = serde_json::to_vec(&header)?;
        bytes.push(b'\n');
        bytes.extend(body);
        place.put_loosely(path, &bytes)
    }
}

fn checksum(body: &[u8]) -> String {
    format!("{:032x}", XxHash3_128::oneshot(body))
}
