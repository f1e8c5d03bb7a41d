//! How much memory what is found in a body may take.

use super::RawRecord;
use super::split::Place;
use crate::json::scan::Members;

/// Bytes of memory that a record takes on its way, besides those of its text and of its members.
const RECORD_BYTES: usize = size_of::<Place>() + 2 * size_of::<RawRecord>() + size_of::<u128>();

/// Memory for what is found in a body, besides the body.
pub(super) struct Room {
    /// Bytes that it may take.
    pub(super) most: usize,
    /// Bytes of what is found already and is not among the members that are being added to.
    pub(super) taken: usize,
    /// Records, and members of the envelope.
    pub(super) places: usize,
    pub(super) is_full: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            most: usize::MAX,
            taken: 0,
            places: 0,
            is_full: false,
        }
    }
}

impl Room {
    /// Takes note of one record more; none when there is no room for it.
    pub(super) fn add(&mut self, members: &Members) -> Option<()> {
        self.places += 1;
        self.is_full = self.bytes(members.bytes()) > self.most;
        (!self.is_full).then_some(())
    }

    /// Bytes of memory that all of it takes, of which these are the members that were added to
    /// last.
    pub(super) fn bytes(&self, members: usize) -> usize {
        self.taken + self.places * RECORD_BYTES + members
    }
}
