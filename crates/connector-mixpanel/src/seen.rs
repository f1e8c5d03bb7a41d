//! What the events of a run say of events that were stored before and are not read again: what a
//! run should not keep to itself.
//!
//! Mixpanel rewrites `distinct_id` of all events of a user who turns out to be another. Days that
//! are read again are stored as they are then; those before keep what they had. That a user was
//! merged shows within the days that are read again, by the event that merged the two or by events
//! of before it, so it is told for as many syncs as those days are read.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, Utc};
use pipeline_core::state::SliceState;

use crate::export::Days;
use crate::json::{Members, elements, find};

/// Merged users that are told apart; a few megabytes of them.
const MAX_USERS: usize = 200_000;

/// Events that merge users, and the properties that name those.
const MERGES: [(&str, &[&str]); 3] = [
    ("\"$identify\"", &["$identified_id", "$anon_id"]),
    ("\"$create_alias\"", &["alias"]),
    ("\"$merge\"", &["$distinct_ids"]),
];

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The first instant that was read.
    since: Option<DateTime<Utc>>,
    /// The longest time from an event to its processing, in milliseconds.
    latest: i64,
    /// Former ids of merged users, as hashes.
    merged: HashSet<u64>,
}

impl Seen {
    /// Takes note of how late an event was processed, in milliseconds.
    pub(crate) fn late(&mut self, millis: i64) {
        self.latest = self.latest.max(millis);
    }

    /// Takes note of the users who an event shows to be others: all that it names beside the one
    /// that it counts for.
    pub(crate) fn users(
        &mut self,
        event: &str,
        properties: &Members<'_>,
        user: Option<&str>,
        former: Option<&str>,
    ) {
        if let Some(former) = former.filter(|_| former != user) {
            self.merged(former);
        }
        let Some((_, named)) = MERGES.iter().find(|(name, _)| *name == event) else {
            return;
        };
        for value in named.iter().filter_map(|name| find(properties, name)) {
            let several = elements(value).unwrap_or_else(|_| vec![value]);
            for other in several.into_iter().filter(|other| Some(*other) != user) {
                self.merged(other);
            }
        }
    }

    fn merged(&mut self, user: &str) {
        if self.merged.len() < MAX_USERS {
            let mut hasher = DefaultHasher::new();
            user.trim_matches('"').hash(&mut hasher);
            self.merged.insert(hasher.finish());
        }
    }

    /// Adds what was seen while a slice was read.
    pub(crate) fn add(&mut self, slice: &SliceState, seen: &Self) {
        let since = slice.window.and_then(|window| window.since);
        self.since = self.since.into_iter().chain(since).min();
        self.late(seen.latest);
        let room = MAX_USERS.saturating_sub(self.merged.len());
        self.merged.extend(seen.merged.iter().take(room));
    }

    /// What is to be told when the run is over. The first day of all that is stored is `first`.
    pub(crate) fn remarks(&self, days: &Days, first: DateTime<Utc>) -> Vec<String> {
        // A run that read everything has left nothing as it was.
        let since = self
            .since
            .filter(|since| *since != first && !self.merged.is_empty());
        let merged = since.map(|since| {
            let many = if self.merged.len() < MAX_USERS { "" } else { "more than " };
            format!(
                "{many}{} merged users are among the events that were read: events of theirs from before {} that were stored earlier keep \
                 the id that they had until they are read again{}",
                self.merged.len(),
                since.format("%Y-%m-%d"),
                days.how_read_again()
            )
        });
        days.too_late(self.latest)
            .into_iter()
            .chain(merged)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::members;

    /// How many users are known to be merged after these events of user `"u"`.
    fn merged(events: &[(&str, &str)]) -> usize {
        let mut seen = Seen::default();
        for (event, properties) in events {
            let properties = members(properties).unwrap();
            let (user, former) = (
                find(&properties, "distinct_id"),
                find(&properties, "$distinct_id_before_identity"),
            );
            seen.users(&format!("\"{event}\""), &properties, user, former);
        }
        seen.merged.len()
    }

    #[test]
    fn merges_show_by_the_event_that_makes_them_and_by_events_of_before() {
        let identify = (
            "$identify",
            r#"{"distinct_id":"u","$identified_id":"u","$anon_id":"a"}"#,
        );
        let before = (
            "Buy",
            r#"{"distinct_id":"u","$distinct_id_before_identity":"a","$is_reshuffled":true}"#,
        );
        assert_eq!(merged(&[identify]), 1);
        assert_eq!(
            merged(&[before]),
            1,
            "a project with simplified merge has no event that makes one"
        );
        assert_eq!(
            merged(&[identify, before, identify]),
            1,
            "one user is counted once"
        );
        assert_eq!(
            merged(&[("$create_alias", r#"{"distinct_id":"u","alias":"b"}"#)]),
            1
        );
        assert_eq!(
            merged(&[(
                "$merge",
                r#"{"distinct_id":"u","$distinct_ids":["u","c","d"]}"#
            )]),
            2
        );
        assert_eq!(
            merged(&[(
                "Buy",
                r#"{"distinct_id":"u","$distinct_id_before_identity":"u"}"#
            )]),
            0,
            "it was nobody else before"
        );
        assert_eq!(
            merged(&[("Buy", r#"{"distinct_id":"u","$anon_id":"a","alias":"b"}"#)]),
            0,
            "properties of one's own"
        );
        assert_eq!(
            merged(&[("$identify", r#"{"distinct_id":"u","$identified_id":"u"}"#)]),
            0
        );
    }
}
