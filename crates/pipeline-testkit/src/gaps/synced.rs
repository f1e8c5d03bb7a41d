//! One sync of a case, and how it differs from one of a healthy vendor.

use std::collections::BTreeSet;

use pipeline_core::ErrorKind;
use pipeline_engine::{EndpointSummary, Outcome, Summary};

use super::Rows;
use crate::memory::TextRow;

/// What a sync did, and the rows that are there after it.
pub(super) struct Synced {
    /// None when it was killed.
    pub(super) summary: Option<Summary>,
    pub(super) rows: Rows,
    /// How many requests met the trouble.
    pub(super) met: usize,
    /// How many asked for something that was not recorded.
    pub(super) unanswered: usize,
    /// The notices of the sync.
    pub(super) told: Vec<String>,
}

impl Synced {
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &EndpointSummary> {
        self.summary.iter().flat_map(|summary| &summary.endpoints)
    }

    /// The names of what is missing, by endpoint.
    pub(super) fn gaps(&self) -> BTreeSet<(String, String)> {
        let of = |endpoint: &EndpointSummary| {
            endpoint
                .gaps
                .iter()
                .map(|gap| (endpoint.id.endpoint.clone(), gap.name.clone()))
                .collect::<Vec<_>>()
        };
        self.endpoints().flat_map(of).collect()
    }

    pub(super) fn failed(&self) -> Option<ErrorKind> {
        self.endpoints()
            .find_map(|endpoint| match &endpoint.outcome {
                Outcome::Failed { error } => Some(error.kind),
                Outcome::Interrupted => Some(ErrorKind::Cancelled),
                _ => None,
            })
    }

    pub(super) fn fails_without_a_record(&self) -> bool {
        let fails = |endpoint: &EndpointSummary| matches!(endpoint.outcome, Outcome::Failed { .. });
        self.endpoints().any(|endpoint| {
            fails(endpoint) && endpoint.streams.iter().all(|stream| stream.records == 0)
        })
    }

    pub(super) fn is_all_done(&self) -> bool {
        self.endpoints()
            .all(|endpoint| matches!(endpoint.outcome, Outcome::Done))
    }

    pub(super) fn outcomes(&self) -> String {
        let outcomes = self.endpoints().map(|endpoint| {
            format!(
                "{} {:?} {:?}",
                endpoint.id.endpoint, endpoint.outcome, endpoint.gaps
            )
        });
        outcomes.collect::<Vec<_>>().join(", ")
    }

    /// What is wrong when it should have gaps besides those of a vendor without trouble, and
    /// nothing else.
    pub(super) fn names_a_gap_besides(&self, healthy: &Synced) -> Option<String> {
        if self.failed().is_some()
            || self
                .endpoints()
                .any(|endpoint| matches!(endpoint.outcome, Outcome::Unavailable { .. }))
        {
            return Some(format!(
                "the unit takes its endpoint with it: {}",
                self.outcomes()
            ));
        }
        let mut gaps = self.endpoints().flat_map(|endpoint| &endpoint.gaps);
        if self.gaps().is_subset(&healthy.gaps()) {
            return Some(format!(
                "nothing says that the unit is missing: {}",
                self.outcomes()
            ));
        }
        let is_named = gaps.all(|gap| !gap.name.is_empty() && !gap.reason.is_empty());
        (!is_named).then(|| format!("a gap has no name or no reason: {}", self.outcomes()))
    }

    /// What differs from a vendor that never had any trouble.
    pub(super) fn is_as(&self, healthy: &Synced) -> Option<String> {
        if self.failed().is_some() || self.gaps() != healthy.gaps() {
            return Some(format!("it does not heal: {}", self.outcomes()));
        }
        difference(&healthy.rows, &self.rows).map(|problem| format!("healed, {problem}"))
    }
}

/// The first stream whose rows differ.
pub(super) fn difference(expected: &Rows, found: &Rows) -> Option<String> {
    expected.iter().find_map(|(stream, expected)| {
        let found = found.get(stream).map_or(&[][..], Vec::as_slice);
        let other = || {
            expected
                .iter()
                .find(|row| !found.contains(row))
                .or_else(|| found.iter().find(|row| !expected.contains(row)))
        };
        (expected != found).then(|| {
            format!(
                "{stream} has {} rows instead of {}, such as {:?}",
                found.len(),
                expected.len(),
                other()
            )
        })
    })
}

/// A row that is missing although it has nothing to do with the unit.
pub(super) fn loss(expected: &Rows, found: &Rows, unit: &str) -> Option<String> {
    let names = |row: &TextRow| {
        row.values()
            .any(|value| value == unit || (unit.len() > 3 && value.contains(unit)))
    };
    expected.iter().find_map(|(stream, expected)| {
        let lost = expected.iter().find(|row| {
            !names(row) && !found.get(stream).is_some_and(|found| found.contains(row))
        })?;
        Some(format!(
            "{stream} lost a row that has nothing to do with the unit: {lost:?}"
        ))
    })
}
