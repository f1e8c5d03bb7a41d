//! What of an endpoint's records cannot be rows, and when that is too much.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline_core::Error;
use pipeline_core::state::CheckpointDelta;

use super::{EndpointRun, Progress};
use crate::budget::{Moment, Rejections, Share};
use crate::dedup::Counts;
use crate::destination::Table;
use crate::staged::Late;

/// What is known of a stream's records.
pub(super) struct Judged<'a> {
    pub(super) table: &'a Table,
    pub(super) share: Share,
    pub(super) records: u64,
    pub(super) rejections: &'a Rejections,
}

impl EndpointRun {
    pub(crate) fn count(&self, stream: usize, page: Counts) {
        let counts = &mut self.progress().counts[stream];
        counts.records += page.records;
        counts.bytes += page.bytes;
        counts.unchanged += page.unchanged;
    }

    pub(crate) fn counts(&self, stream: usize) -> Counts {
        self.progress().counts[stream]
    }

    /// Counts records of streams that cannot be rows.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when there are more of them than a stream may have.
    pub(crate) fn reject(&self, page: &[Rejections]) -> Result<(), Error> {
        let mut progress = self.progress();
        progress
            .rejections
            .iter_mut()
            .zip(page)
            .for_each(|(all, page)| all.join(page));
        self.judge(&progress, Moment::Underway)
    }

    /// Counts records that were taken for rows, as [`reject`](Self::reject) does.
    pub(crate) fn reject_late(&self, late: &[Late]) -> Result<(), Error> {
        let mut page = vec![Rejections::default(); self.tables.len()];
        for Late { table, reason } in late {
            let stream = self
                .tables
                .iter()
                .position(|own| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, table)));
            if let Some(stream) = stream {
                page[stream].add(reason);
            }
        }
        if late.is_empty() {
            Ok(())
        } else {
            self.reject(&page)
        }
    }

    /// Judges what was read, when nothing is left to be read.
    ///
    /// # Errors
    /// As [`reject`](Self::reject), and when the vendor's clock hid what is newer.
    pub(crate) fn judge_all(&self) -> Result<(), Error> {
        self.judge(&self.progress(), Moment::End)?;
        self.planned.check(self.endpoint.slicer())
    }

    pub(super) fn judge(&self, progress: &Progress, moment: Moment) -> Result<(), Error> {
        self.judged(progress).try_for_each(
            |Judged {
                 table,
                 share,
                 records,
                 rejections,
             }| {
                rejections.check(&table.stream, share, records, self.refresh, moment)
            },
        )
    }

    pub(super) fn judged<'a>(&'a self, progress: &'a Progress) -> impl Iterator<Item = Judged<'a>> {
        let streams = self
            .tables
            .iter()
            .zip(&self.shares)
            .zip(progress.counts.iter().zip(&progress.rejections));
        streams.filter_map(|((table, share), (counts, rejections))| {
            Some(Judged {
                table: table.as_ref()?,
                share: *share,
                records: counts.records,
                rejections,
            })
        })
    }

    /// While a refresh has more records rejected than it may publish, or ends too early by a wrong
    /// clock, it is begun anew by the next run: that would not know of it, and could be complete
    /// where it goes on. Returns the change to commit, if it is one.
    pub(crate) fn doubt(&self) -> Option<CheckpointDelta> {
        let mut progress = self.progress();
        let is_above = |Judged {
                            share,
                            records,
                            rejections,
                            ..
                        }: Judged<'_>| rejections.are_above(share, records);
        let is_doubtful = progress.refused
            || self.planned.check(self.endpoint.slicer()).is_err()
            || self.judged(&progress).any(is_above);
        let is_change =
            progress.state.refreshing && progress.state.streams.is_empty() != is_doubtful;
        // What the next generation holds of no stream is of no use to the next run.
        let streams = if is_doubtful {
            BTreeSet::new()
        } else {
            self.streams()
        };
        is_change.then(|| progress.replan(&self.id, |state| state.streams = streams))
    }
}
