//! Rows that the destination refuses, by a rule that somebody added to it.

use pipeline_core::Error;
use pipeline_core::state::EndpointState;

use super::EndpointRun;
use super::judged::Judged;
use crate::budget::{Moment, Rejections};
use crate::destination::Table;
use crate::summary::Failure;

impl EndpointRun {
    /// Judges what the destination has refused of its streams.
    ///
    /// # Errors
    /// When a stream may not have so much rejected. `is_held`: the sync stops before these rows.
    pub(crate) fn judge_refused<'f>(
        &self,
        refused: impl Fn(&Table) -> Option<&'f Rejections>,
        is_held: bool,
    ) -> Result<(), Error> {
        let progress = self.progress();
        let is_last = progress.queued.is_empty() && progress.running.is_subset(&progress.ended);
        let moment = if is_last || !is_held {
            Moment::End
        } else {
            Moment::Underway
        };
        self.judged(&progress).try_for_each(
            |Judged {
                 table,
                 share,
                 records,
                 ..
             }| match refused(table) {
                Some(refused) => refused.check_refused(
                    &table.stream,
                    share,
                    records,
                    self.refresh,
                    moment,
                    is_held,
                ),
                None => Ok(()),
            },
        )
    }

    /// Doubts a refresh of which the destination has refused more than a stream may have, be it
    /// little. True unless that was so.
    pub(crate) fn doubt_refused<'f>(
        &self,
        refused: impl Fn(&Table) -> Option<&'f Rejections>,
    ) -> bool {
        let mut progress = self.progress();
        let is_above = |Judged {
                            table,
                            share,
                            records,
                            ..
                        }: Judged<'_>| {
            refused(table).is_some_and(|all| all.are_above(share, records))
        };
        let is_new = self.refresh && !progress.refused && self.judged(&progress).any(is_above);
        progress.refused |= is_new;
        is_new
    }

    /// True when its rows replace those with the same key, so that pages may be read twice.
    pub(crate) fn is_keyed(&self) -> bool {
        self.tables
            .iter()
            .flatten()
            .all(|table| !table.primary_key.is_empty())
    }

    /// Stops it because of rows that the destination refuses. A refresh is begun anew by the next
    /// run.
    pub(crate) fn stop_before_refused(&self, error: &Error) {
        self.progress().refused = true;
        self.fail(Failure::from(error));
    }

    /// True when the destination has refused too many of its rows.
    pub(crate) fn is_refused(&self) -> bool {
        self.progress().refused
    }

    /// Takes back what is not committed.
    pub(crate) fn return_to(&self, committed: EndpointState) {
        let mut progress = self.progress();
        progress.state = committed;
        progress.complete = false;
    }
}
