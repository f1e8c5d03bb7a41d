//! What the lists of this run have read, so that nothing is fetched again that a list has just
//! brought.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use pipeline_core::http::HttpClient;
use pipeline_core::state::{Position, SliceState, Window};

/// The spans of creation times that lists have read from their start to their end, and when each
/// was begun.
#[derive(Debug, Default)]
pub(super) struct Coverage(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// When the first list of the run was begun.
    started: Option<Moment>,
    /// When slices were begun, by the earlier of both clocks and the end of their window.
    begun: BTreeMap<(String, Option<DateTime<Utc>>), DateTime<Utc>>,
    read: BTreeMap<String, Vec<Span>>,
    /// Lists of which something was read.
    answered: BTreeSet<String>,
}

/// An instant by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Stripe's.
    pub(super) theirs: DateTime<Utc>,
    /// The earlier of Stripe's and ours.
    pub(super) earlier: DateTime<Utc>,
}

impl Moment {
    pub(super) fn now(client: &HttpClient) -> Self {
        Self {
            theirs: client.now(),
            earlier: client.earlier_now(),
        }
    }
}

/// A window that was read; the whole list when it has none.
#[derive(Clone, Copy, Debug)]
struct Span {
    window: Option<Window>,
    begun: DateTime<Utc>,
}

impl Coverage {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slice of a list is about to be read. A slice that is split meanwhile keeps the end of its
    /// window.
    pub(super) fn begin(&self, list: &str, slice: &SliceState, now: Moment) {
        let mut inner = self.inner();
        inner.started.get_or_insert(now);
        if slice.position == Position::Start {
            inner.begun.insert(
                (list.to_owned(), slice.window.map(|window| window.until)),
                now.earlier,
            );
        }
    }

    /// A page of a list was read.
    pub(super) fn page(&self, list: &str) {
        let mut inner = self.inner();
        if !inner.answered.contains(list) {
            inner.answered.insert(list.to_owned());
        }
    }

    /// Whether something of a list was read.
    pub(super) fn has_begun(&self, list: &str) -> bool {
        self.inner().answered.contains(list)
    }

    /// A slice was read to its end. One that an earlier run has begun says nothing, and neither
    /// does a part of a list.
    pub(super) fn end(&self, list: &str, slice: &SliceState) {
        let mut inner = self.inner();
        let begun = inner
            .begun
            .remove(&(list.to_owned(), slice.window.map(|window| window.until)));
        if let (Some(begun), true) = (begun, slice.query.is_empty()) {
            inner.read.entry(list.to_owned()).or_default().push(Span {
                window: slice.window,
                begun,
            });
        }
    }

    /// Whether a list has read, after `time`, what was created at `created`.
    pub(super) fn has_read(
        &self,
        list: &str,
        created: Option<DateTime<Utc>>,
        time: DateTime<Utc>,
    ) -> bool {
        let is_inside = |window: Window| {
            created
                .is_some_and(|at| at < window.until && window.since.is_none_or(|since| at >= since))
        };
        let inner = self.inner();
        let spans = inner.read.get(list).into_iter().flatten();
        spans
            .into_iter()
            .any(|span| span.begun >= time && span.window.is_none_or(is_inside))
    }

    /// When the first list of the run was begun; none when no list was read.
    pub(super) fn started(&self) -> Option<Moment> {
        self.inner().started
    }

    /// Forgets everything, for another run.
    pub(super) fn clear(&self) {
        *self.inner() = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default()
    }

    fn now(seconds: i64) -> Moment {
        Moment {
            theirs: at(seconds + 3_600),
            earlier: at(seconds),
        }
    }

    fn slice(since: i64, until: i64, position: Position) -> SliceState {
        SliceState {
            window: Some(Window {
                since: Some(at(since)),
                until: at(until),
            }),
            position,
            ..SliceState::default()
        }
    }

    #[test]
    fn only_what_was_read_from_start_to_end_counts() {
        let coverage = Coverage::default();
        coverage.begin("charges", &slice(0, 100, Position::Start), now(1_000));
        assert!(
            !coverage.has_read("charges", Some(at(50)), at(900)),
            "it is not read yet"
        );
        coverage.end("charges", &slice(40, 100, Position::At("ch_1".to_owned())));
        assert!(coverage.has_read("charges", Some(at(50)), at(900)));
        assert!(
            !coverage.has_read("charges", Some(at(39)), at(900)),
            "that part was given away"
        );
        assert!(
            !coverage.has_read("charges", Some(at(50)), at(1_001)),
            "it changed later"
        );
        assert!(!coverage.has_read("refunds", Some(at(50)), at(900)));
        coverage.begin(
            "refunds",
            &slice(0, 100, Position::At("re_1".to_owned())),
            now(1_000),
        );
        coverage.end("refunds", &slice(0, 100, Position::End));
        assert!(
            !coverage.has_read("refunds", Some(at(50)), at(900)),
            "an earlier run had begun it"
        );
    }
}
