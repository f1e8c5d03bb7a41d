//! The different records of a list that is counted, so that one which comes twice counts once.

use std::collections::HashSet;

use super::fingerprint;
use crate::model::record::RawRecord;

/// Most records that are remembered, in at most 19 MB. Those that come later count each time that
/// they come; a whole page that comes again is still noticed.
const MOST: usize = 1_750_000;

/// The records of one round through a list, by a hash of their content.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    round: u32,
    known: HashSet<u64>,
    /// Those that the page in hand adds.
    page: Vec<u64>,
}

impl Distinct {
    /// How many records of a page are new in this round. The page is not part of it until it is
    /// [taken](Self::take).
    pub(super) fn fresh(&mut self, round: u32, records: &[RawRecord]) -> usize {
        if round != self.round {
            self.known.clear();
            self.round = round;
        }
        let hashes = records.iter().map(|record| fingerprint(&record.as_bytes()));
        self.page = hashes.filter(|hash| !self.known.contains(hash)).collect();
        self.page.sort_unstable();
        self.page.dedup();
        self.page.len()
    }

    /// Forgets the page in hand: another answer is asked for in its place.
    pub(super) fn discard(&mut self) {
        self.page.clear();
    }

    /// Remembers the records of the page in hand.
    pub(super) fn take(&mut self) {
        let room = MOST.saturating_sub(self.known.len());
        self.known.extend(self.page.drain(..).take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ids: &[u32]) -> Vec<RawRecord> {
        ids.iter()
            .map(|id| RawRecord::upsert(format!(r#"{{"id":{id}}}"#)))
            .collect()
    }

    #[test]
    fn a_record_counts_once_in_a_round() {
        let mut distinct = Distinct::default();
        assert_eq!(
            distinct.fresh(0, &records(&[1, 2, 2])),
            2,
            "twice on a page"
        );
        distinct.take();
        assert_eq!(
            distinct.fresh(0, &records(&[2, 3])),
            1,
            "on the page before"
        );
        assert_eq!(
            distinct.fresh(0, &records(&[3, 4])),
            2,
            "the page before was not taken"
        );
        distinct.discard();
        distinct.take();
        assert_eq!(distinct.fresh(0, &records(&[3])), 1);
        assert_eq!(
            distinct.fresh(1, &records(&[1, 2])),
            2,
            "the list is read again"
        );
    }
}
