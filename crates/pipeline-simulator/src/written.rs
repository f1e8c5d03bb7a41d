//! Records that were written beforehand: a server that only copies takes little of the processor
//! from what is measured.

use std::ops::Range;

use crate::packed::Packed;
use crate::world::{Row, World};

const SEPARATOR: &[u8] = b",\n    ";

/// All records of one table as they stand in a list, newest first.
pub(crate) struct Written {
    table: usize,
    expanded: Vec<String>,
    text: Vec<u8>,
    /// Where each record ends, the newest first.
    ends: Vec<usize>,
    packed: Option<Packed>,
}

impl Written {
    pub(crate) fn new(world: &World, table: usize, expanded: Vec<String>) -> Written {
        let requested: Vec<&str> = expanded.iter().map(String::as_str).collect();
        let mut written = Written {
            table,
            text: Vec::new(),
            ends: Vec::new(),
            expanded: expanded.clone(),
            packed: None,
        };
        for index in (0..world.tables[table].count()).rev() {
            written.text.extend_from_slice(SEPARATOR);
            world.write(Row { table, index }, &requested, &mut written.text);
            written.ends.push(written.text.len());
        }
        written
    }

    /// The same, compressed as well.
    pub(crate) fn compressed(mut self) -> std::io::Result<Written> {
        let records = (0..self.ends.len()).map(|record| self.records(record..record + 1));
        self.packed = Some(Packed::new(records, SEPARATOR)?);
        Ok(self)
    }

    /// The records with these indexes, if they are neighbours, newest first, and if these members
    /// are expanded. Without a separator before the first.
    pub(crate) fn list(&self, table: usize, indexes: &[u64], expanded: &[String]) -> Option<&[u8]> {
        Some(self.records(self.places(table, indexes, expanded)?))
    }

    /// A gzip file of them, with text before and after.
    pub(crate) fn page(
        &self,
        table: usize,
        indexes: &[u64],
        expanded: &[String],
        before: &[u8],
        after: &[u8],
    ) -> Option<Vec<u8>> {
        Some(
            self.packed
                .as_ref()?
                .page(before, self.places(table, indexes, expanded)?, after),
        )
    }

    fn places(&self, table: usize, indexes: &[u64], expanded: &[String]) -> Option<Range<usize>> {
        let (newest, oldest) = (*indexes.first()?, *indexes.last()?);
        let from_newest =
            |index: u64| usize::try_from((self.ends.len() as u64).checked_sub(index + 1)?).ok();
        let (first, last) = (from_newest(newest)?, from_newest(oldest)?);
        let is_known = self.table == table
            && self.expanded == expanded
            && last.checked_sub(first)? + 1 == indexes.len();
        is_known.then_some(first..last + 1)
    }

    fn records(&self, places: Range<usize>) -> &[u8] {
        let start = places
            .start
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        self.text[start..self.ends[places.end - 1]]
            .strip_prefix(SEPARATOR)
            .unwrap_or_default()
    }
}
