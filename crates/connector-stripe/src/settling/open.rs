//! When objects that are not final are due, and when they were created.

use std::collections::BTreeMap;

use pipeline_core::RawRecord;
use serde::{Deserialize, Serialize};

use crate::vendor::Settles;

/// What is due within so many seconds is read again together.
const TOGETHER: i64 = 3_600;

/// Spans of creation times that lie so near to each other are one.
const NEAR: i64 = 3 * 3_600;

/// Spans that are remembered for one time, and times that are.
const MOST_SPANS: usize = 16;
const MOST_TIMES: usize = 500;

/// Seconds in which objects were created, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(i64, i64)", into = "(i64, i64)")]
pub(super) struct Span {
    pub(super) begin: i64,
    pub(super) end: i64,
}

impl From<(i64, i64)> for Span {
    fn from((begin, end): (i64, i64)) -> Self {
        Self { begin, end }
    }
}

impl From<Span> for (i64, i64) {
    fn from(span: Span) -> Self {
        (span.begin, span.end)
    }
}

/// What is due at about the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    /// It is not asked for earlier.
    at: i64,
    /// In order, and apart from each other.
    spans: Vec<Span>,
}

/// Objects that are not final: when they are due, and when they were created. Bounded, whatever the
/// account holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Open(BTreeMap<i64, Group>);

impl Open {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes the records that are not final, but for those that were due too long ago. What is due
    /// already has just been read, and waits for another while.
    pub(super) fn add(&mut self, records: &[RawRecord], settles: Settles, now: i64) {
        let second = |record: &RawRecord, member: &str| record.scalar(member)?.parse::<i64>().ok();
        for record in records.iter().filter(|record| (settles.is_open)(record)) {
            let (Some(due), Some(created)) =
                (second(record, settles.due), second(record, "created"))
            else {
                continue;
            };
            if now - due <= settles.at_most * 86_400 {
                let at = if due > now {
                    due
                } else {
                    now + settles.patience * 3_600
                };
                self.insert(
                    due.div_euclid(TOGETHER) * TOGETHER,
                    at,
                    Span {
                        begin: created,
                        end: created,
                    },
                );
            }
        }
    }

    fn insert(&mut self, key: i64, at: i64, span: Span) {
        // What is due latest can wait for each other when there is too much.
        let latest = self
            .0
            .last_key_value()
            .map(|(latest, _)| *latest)
            .filter(|_| self.0.len() >= MOST_TIMES);
        let key = latest.filter(|_| !self.0.contains_key(&key)).unwrap_or(key);
        let group = self.0.entry(key).or_insert(Group {
            at,
            spans: Vec::new(),
        });
        group.at = group.at.max(at);
        group.insert(span);
    }

    /// Adds what another one has.
    pub(super) fn join(&mut self, other: Self) {
        for (key, Group { at, spans }) in other.0 {
            for span in spans {
                self.insert(key, at, span);
            }
        }
    }

    /// Something that is due, with the time that it is known by.
    pub(super) fn first_due(&self, now: i64) -> Option<(i64, Span)> {
        let due = self.0.iter().filter(|(_, group)| group.at <= now);
        due.flat_map(|(key, group)| group.spans.iter().map(|span| (*key, *span)))
            .next()
    }

    /// Forgets a span that was read again.
    pub(super) fn remove(&mut self, key: i64, span: Span) {
        if let Some(group) = self.0.get_mut(&key) {
            group.spans.retain(|known| *known != span);
            if group.spans.is_empty() {
                self.0.remove(&key);
            }
        }
    }
}

impl Group {
    fn insert(&mut self, span: Span) {
        self.spans.push(span);
        self.spans.sort_unstable();
        self.spans.dedup_by(|later, earlier| {
            let touches = later.begin - earlier.end <= NEAR;
            if touches {
                earlier.end = earlier.end.max(later.end);
            }
            touches
        });
        while self.spans.len() > MOST_SPANS {
            let gap = |index: &usize| self.spans[*index].begin - self.spans[*index - 1].end;
            let Some(nearest) = (1..self.spans.len()).min_by_key(gap) else {
                return;
            };
            self.spans[nearest - 1].end = self.spans.remove(nearest).end;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::streams::stream;

    const DAY: i64 = 86_400;

    fn transaction(created: i64, available_on: i64, status: &str) -> RawRecord {
        RawRecord::upsert(format!(
            r#"{{"id":"txn_1","created":{created},"available_on":{available_on},"status":"{status}"}}"#
        ))
    }

    fn settles() -> Settles {
        stream("balance_transactions")
            .unwrap()
            .facts
            .settles
            .unwrap()
    }

    #[test]
    fn only_what_is_open_is_noted_and_comes_when_it_is_due() {
        let mut open = Open::default();
        let records = [
            transaction(100, 7 * DAY, "pending"),
            transaction(50, 7 * DAY, "pending"),
            transaction(60, 7 * DAY, "available"),
        ];
        open.add(&records, settles(), 200);
        assert_eq!(open.first_due(7 * DAY - 1), None);
        let (key, span) = open.first_due(7 * DAY).unwrap();
        assert_eq!(
            span,
            Span {
                begin: 50,
                end: 100
            }
        );
        open.remove(key, span);
        assert!(open.is_empty());
    }

    #[test]
    fn what_was_due_long_ago_is_given_up_and_what_is_still_open_waits() {
        let mut open = Open::default();
        open.add(&[transaction(1, DAY, "pending")], settles(), 92 * DAY);
        assert!(open.is_empty());
        open.add(&[transaction(1, DAY, "pending")], settles(), 2 * DAY);
        let again = 2 * DAY + settles().patience * 3_600;
        assert_eq!(
            (open.first_due(again - 1), open.first_due(again).is_some()),
            (None, true)
        );
    }

    #[test]
    fn it_stays_small_and_loses_nothing() {
        let mut open = Open::default();
        for number in 0..20_000 {
            open.insert(
                number % 700 * TOGETHER,
                number % 700 * TOGETHER,
                Span {
                    begin: number * DAY,
                    end: number * DAY,
                },
            );
        }
        assert!(
            open.0.len() <= MOST_TIMES
                && open.0.values().all(|group| group.spans.len() <= MOST_SPANS)
        );
        let is_held = |second: i64| {
            open.0.values().any(|group| {
                group
                    .spans
                    .iter()
                    .any(|span| (span.begin..=span.end).contains(&second))
            })
        };
        assert!((0..20_000).all(|number| is_held(number * DAY)));
        let again: Open = serde_json::from_str(&serde_json::to_string(&open).unwrap()).unwrap();
        assert_eq!(again, open);
    }
}
