//! Units that cannot be read while the rest can: what a failure of one of them means for the
//! others.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::error::{Error, ErrorKind, ErrorStatus, Result};
use crate::model::state::{Gap, SliceState};

/// Temporary failures in a row after which it is the vendor that does not work, and not a unit.
const OUTAGE: usize = 3;

/// Refusals in a row after which it is the endpoint that is refused, whether something could be
/// read before or not. A key that may read the last of a hundred parents reads it; a portal that
/// answers in the vendor's place, which refuses everything, and a key that may read none of ten
/// thousand are found out.
const MOST_REFUSED: usize = 100;

/// A unit of an endpoint that a page passes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Names the unit to the user, and distinguishes it from the others of its endpoint: an id, a
    /// day.
    pub name: String,
    /// Why it could not be read, in the vendor's words.
    pub reason: String,
    /// How it is read later.
    pub slice: SliceState,
    /// Columns, with their values as JSON, that select the rows which an earlier sync stored of it.
    /// A refresh carries those over.
    pub keep: BTreeMap<String, String>,
    /// True when an outage that has ended since could be the reason: then it is asked for once more
    /// before the run ends.
    pub in_doubt: bool,
    /// True when it was read, and some of its records cannot be rows.
    pub rejected: bool,
}

impl Missed {
    /// The gap that is stored of it when it was passed over now.
    pub fn into_gap(self, now: DateTime<Utc>) -> Gap {
        let Self {
            name,
            reason,
            slice,
            keep,
            rejected,
            ..
        } = self;
        Gap {
            name,
            reason,
            since: now,
            tried: now,
            attempts: 1,
            keep,
            stale: false,
            given_up: false,
            rejected,
            slice,
        }
    }

    /// A unit that could not be read, and how to read it later.
    pub fn new(name: impl Into<String>, slice: SliceState) -> Self {
        Self {
            name: name.into(),
            reason: String::new(),
            slice,
            keep: BTreeMap::new(),
            in_doubt: false,
            rejected: false,
        }
    }

    /// Rows that an earlier sync stored of the unit have this value, written as JSON, in this
    /// column.
    #[must_use]
    pub fn keeping(mut self, column: impl Into<String>, json: impl Into<String>) -> Self {
        self.keep.insert(column.into(), json.into());
        self
    }

    /// The unit with the reason why it could not be read.
    #[must_use]
    pub fn because(mut self, error: &Error) -> Self {
        self.reason = error.to_string();
        self
    }
}

/// True for a failure that can be a unit's own. Others concern the credentials, the limits, this
/// machine or the program, and so every unit alike.
pub fn is_of_unit(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::ConfigInvalid
        | ErrorKind::Unauthenticated
        | ErrorKind::RateLimited
        | ErrorKind::Untrusted
        | ErrorKind::CheckpointConflict
        | ErrorKind::Destination
        | ErrorKind::Disk
        | ErrorKind::Cancelled
        | ErrorKind::Rejected
        | ErrorKind::Unexpected => false,
        ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::Refused
        | ErrorKind::Unavailable
        | ErrorKind::TooLarge
        | ErrorKind::Decode
        | ErrorKind::CursorExpired
        | ErrorKind::Unsupported => true,
    }
}

/// Decides, unit after unit, whether a failure is one unit's or the endpoint's.
///
/// * A refusal, or an answer that makes no sense, is the unit's: the vendor answers. When nothing
///   but refusals came, it is the endpoint that is refused.
/// * A temporary failure, retries used up, is the unit's once the vendor has answered for another
///   unit afterwards. Three in a row are an outage, and end the endpoint with nothing passed over.
///   What was passed over for such a failure is asked for once more at the end of the run, when an
///   outage that it fell into has passed.
#[derive(Debug, Default)]
pub struct Tally {
    /// Units that failed in a way that an outage could explain, since the last answer.
    doubted: Vec<Missed>,
    confirmed: Vec<Missed>,
    /// True once a unit could be read.
    readable: bool,
    /// Refusals since the last unit that could be read.
    in_a_row: usize,
    /// The last refusal, while nothing could be read.
    refusal: Option<Error>,
    /// The last temporary failure, while it leaves a doubt.
    doubt: Option<Error>,
}

impl Tally {
    /// For a walk from its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a walk that is resumed where an earlier run stopped: a few units that are all refused
    /// say nothing about the endpoint.
    pub fn resumed() -> Self {
        Self {
            readable: true,
            ..Self::default()
        }
    }

    /// Takes a unit that failed.
    ///
    /// # Errors
    /// The error itself, when it is not one unit's.
    pub fn failed(&mut self, missed: Missed, error: Error) -> Result<()> {
        if !is_of_unit(&error) {
            return Err(error);
        }
        // An answer for another unit can have been asked for before this one failed.
        let missed = Missed {
            in_doubt: error.status() != ErrorStatus::Permanent,
            ..missed.because(&error)
        };
        if error.status() == ErrorStatus::Permanent {
            self.confirm();
            self.confirmed.push(missed);
            self.in_a_row += 1;
            if self.in_a_row >= MOST_REFUSED {
                return Err(error);
            }
            self.refusal = Some(error).filter(|_| !self.readable);
        } else {
            self.doubted.push(missed);
            if self.doubted.len() >= OUTAGE {
                return Err(error);
            }
            self.doubt = Some(error);
        }
        Ok(())
    }

    /// Records that a unit was read.
    pub fn succeeded(&mut self) {
        self.confirm();
        self.readable = true;
        (self.in_a_row, self.refusal) = (0, None);
    }

    /// Records that the vendor answered, for something that was read before.
    pub fn answered(&mut self) {
        self.confirm();
    }

    /// True when a unit failed and nothing has shown since that the vendor works.
    pub fn is_in_doubt(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// True while nothing but refusals came: whether it is the endpoint that is refused shows with
    /// the units that follow.
    pub fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Adds units that are known to be passed over.
    pub(crate) fn extend(&mut self, missed: Vec<Missed>) {
        self.confirmed.extend(missed);
    }

    /// The units that may be passed over now, to be put into the page whose position does so.
    /// Nothing while it is in doubt whether it is the endpoint that fails.
    pub fn take(&mut self) -> Vec<Missed> {
        if self.refusal.is_some() {
            Vec::new()
        } else {
            std::mem::take(&mut self.confirmed)
        }
    }

    /// The units that are passed over at a place where no other unit follows. `probe` asks the
    /// vendor for something that was read before; it is not run unless the last units leave a
    /// doubt.
    ///
    /// # Errors
    /// The probe's, or the refusal when there was nothing else.
    pub async fn finish(&mut self, probe: impl Future<Output = Result<()>>) -> Result<Vec<Missed>> {
        if self.refusal.is_none() && self.is_in_doubt() {
            probe.await?;
            self.confirm();
        }
        self.conclude()
    }

    /// The units that are passed over at the end of everything, where nothing can be asked for any
    /// more.
    ///
    /// # Errors
    /// The refusal when there was nothing else, and the last failure when it leaves a doubt.
    pub fn conclude(&mut self) -> Result<Vec<Missed>> {
        match self.refusal.take().or(self.doubt.take()) {
            Some(error) => Err(error),
            None => Ok(self.take()),
        }
    }

    fn confirm(&mut self) {
        self.confirmed.append(&mut self.doubted);
        self.doubt = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unit(name: &str) -> Missed {
        Missed::new(name, SliceState::default())
    }

    fn refusal() -> Error {
        Error::new(ErrorKind::NotFound, "refused")
    }

    fn outage() -> Error {
        Error::new(ErrorKind::Unavailable, "down")
            .temporary()
            .persistent()
    }

    fn names(missed: Vec<Missed>) -> Vec<String> {
        missed.into_iter().map(|missed| missed.name).collect()
    }

    fn up() -> impl Future<Output = Result<()>> {
        std::future::ready(Ok(()))
    }

    #[tokio::test]
    async fn a_refused_unit_is_passed_over_at_once_when_others_can_be_read() {
        let mut tally = Tally::new();
        tally.succeeded();
        tally.failed(unit("b"), refusal()).unwrap();
        assert_eq!(names(tally.take()), ["b"]);
        assert_eq!(names(tally.finish(up()).await.unwrap()), [""; 0]);
    }

    #[tokio::test]
    async fn an_endpoint_of_which_nothing_can_be_read_is_refused() {
        let mut tally = Tally::new();
        tally.failed(unit("a"), refusal()).unwrap();
        assert!(tally.take().is_empty());
        assert_eq!(
            tally.finish(up()).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        let mut tally = Tally::new();
        let refused = (0..MOST_REFUSED)
            .map(|_| tally.failed(unit("a"), refusal()).is_err())
            .filter(|failed| *failed)
            .count();
        assert_eq!(refused, 1);
    }

    #[tokio::test]
    async fn refusals_before_the_first_unit_that_can_be_read_are_gaps_then() {
        let mut tally = Tally::new();
        tally.failed(unit("a"), refusal()).unwrap();
        tally.succeeded();
        assert_eq!(names(tally.take()), ["a"]);
        let mut resumed = Tally::resumed();
        resumed.failed(unit("a"), refusal()).unwrap();
        assert_eq!(names(resumed.finish(up()).await.unwrap()), ["a"]);
    }

    #[tokio::test]
    async fn an_outage_leaves_no_gap() {
        let mut tally = Tally::new();
        tally.succeeded();
        tally.failed(unit("a"), outage()).unwrap();
        tally.failed(unit("b"), outage()).unwrap();
        assert!(tally.take().is_empty());
        assert!(tally.failed(unit("c"), outage()).is_err());
        let mut last = Tally::new();
        last.failed(unit("a"), outage()).unwrap();
        assert!(last.finish(async { Err(outage()) }).await.is_err());
    }

    #[tokio::test]
    async fn a_unit_that_fails_while_the_vendor_answers_for_others_is_a_gap() {
        let mut tally = Tally::new();
        tally.failed(unit("a"), outage()).unwrap();
        tally.succeeded();
        tally.failed(unit("b"), outage()).unwrap();
        assert_eq!(names(tally.take()), ["a"]);
        assert_eq!(names(tally.finish(up()).await.unwrap()), ["b"]);
    }

    #[tokio::test]
    async fn units_that_are_known_to_be_missing_are_taken_with_the_others() {
        let mut tally = Tally::new();
        tally.extend(vec![unit("a"), unit("b")]);
        tally.succeeded();
        tally.failed(unit("c"), refusal()).unwrap();
        assert_eq!(names(tally.take()), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn what_concerns_every_unit_is_not_a_gap() {
        for kind in [
            ErrorKind::Unauthenticated,
            ErrorKind::RateLimited,
            ErrorKind::Cancelled,
            ErrorKind::Disk,
            ErrorKind::Unexpected,
        ] {
            let mut tally = Tally::resumed();
            assert_eq!(
                tally
                    .failed(unit("a"), Error::new(kind, "no"))
                    .unwrap_err()
                    .kind(),
                kind
            );
        }
    }
}
