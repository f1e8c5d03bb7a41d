//! The endpoints of a run as people want to see them: those of several accounts together.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_core::state::EndpointId;
use pipeline_engine::{EndpointSummary, Outcome, QualitySummary, StreamSummary, Summary};

/// What a run did with an endpoint, of all accounts if there are several.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    pub(super) source: &'a str,
    pub(super) name: &'a str,
    pub(super) endpoints: Vec<&'a EndpointSummary>,
    pub(super) streams: Vec<StreamSummary>,
    pub(super) skipped: u64,
    pub(super) unfinished: usize,
}

/// Joins the endpoints of accounts, in the order in which they first occur.
pub(super) fn merged(summary: &Summary) -> Vec<Merged<'_>> {
    let mut all: Vec<Merged<'_>> = Vec::new();
    let mut known: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for endpoint in &summary.endpoints {
        let (source, name) = (&*endpoint.id.source, endpoint.id.name());
        let next = all.len();
        let index = *known.entry((source, name)).or_insert(next);
        if index == next {
            all.push(Merged {
                source,
                name,
                endpoints: Vec::new(),
                streams: Vec::new(),
                skipped: 0,
                unfinished: 0,
            });
        }
        all[index].add(endpoint);
    }
    all
}

impl<'a> Merged<'a> {
    fn add(&mut self, endpoint: &'a EndpointSummary) {
        self.endpoints.push(endpoint);
        self.skipped += endpoint.skipped;
        self.unfinished += endpoint.unfinished;
        for stream in &endpoint.streams {
            match self
                .streams
                .iter_mut()
                .find(|known| known.name == stream.name)
            {
                Some(known) => add(known, stream),
                None => self.streams.push(stream.clone()),
            }
        }
    }

    /// The endpoints' ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = &'a EndpointId> {
        self.endpoints.iter().map(|endpoint| &endpoint.id)
    }

    /// How far all of them are read that can be.
    pub(super) fn cursor(&self) -> Option<DateTime<Utc>> {
        let readable = self
            .endpoints
            .iter()
            .filter(|endpoint| !matches!(endpoint.outcome, Outcome::Unavailable { .. }));
        readable.filter_map(|endpoint| endpoint.cursor).min()
    }

    /// How they ended: the word that `of` has for all of them, or for the worst, which has the
    /// lowest rank, and how many.
    pub(super) fn status(&self, of: impl Fn(&Outcome) -> (u8, &'static str)) -> String {
        let Some((rank, word)) = self
            .endpoints
            .iter()
            .map(|endpoint| of(&endpoint.outcome))
            .min()
        else {
            return String::new();
        };
        let count = self
            .endpoints
            .iter()
            .filter(|endpoint| of(&endpoint.outcome).0 == rank)
            .count();
        if count == self.endpoints.len() {
            word.to_owned()
        } else {
            format!("{count} of {} {word}", self.endpoints.len())
        }
    }
}

fn add(to: &mut StreamSummary, other: &StreamSummary) {
    to.records += other.records;
    to.bytes += other.bytes;
    to.rows += other.rows;
    to.unchanged += other.unchanged;
    to.rejected += other.rejected;
    for quality in &other.quality {
        let is_same = |known: &&mut QualitySummary| {
            known.reason == quality.reason && known.on_failure == quality.on_failure
        };
        match to.quality.iter_mut().find(is_same) {
            Some(known) => known.records += quality.records,
            None => to.quality.push(quality.clone()),
        }
    }
    for drift in &other.drift {
        match to
            .drift
            .iter_mut()
            .find(|known| known.field == drift.field && known.reason == drift.reason)
        {
            Some(known) => known.records += drift.records,
            None => to.drift.push(drift.clone()),
        }
    }
}

/// Endpoints by name, all of them; of an account with several of them the account.
pub(super) fn names(ids: &[&EndpointId]) -> String {
    let mut accounts: BTreeMap<(&str, &str), Vec<&EndpointId>> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for id in ids {
        match id.account() {
            Some(account) => accounts.entry((&*id.source, account)).or_default().push(id),
            None => names.push(id.to_string()),
        }
    }
    names.extend(
        accounts
            .into_iter()
            .map(|((source, account), ids)| match &*ids {
                [id] => id.to_string(),
                ids => format!("{source}@{account} ({} endpoints)", ids.len()),
            }),
    );
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_named_and_their_endpoints_are_counted() {
        let id = |endpoint: &str| EndpointId::new("s", endpoint);
        let ids = [
            id("charges@acct_2"),
            id("charges@acct_1"),
            id("refunds@acct_1"),
            id("charges"),
        ];
        assert_eq!(
            names(&ids.iter().collect::<Vec<_>>()),
            "s/charges, s@acct_1 (2 endpoints), s/charges@acct_2"
        );
        for id in [
            &|number: usize| id(&format!("list{number}")) as EndpointId,
            &|number: usize| id(&format!("charges@acct_{number}")),
        ] as [&dyn Fn(usize) -> EndpointId; 2]
        {
            let many: Vec<EndpointId> = (0..150).map(id).collect();
            assert_eq!(
                names(&many.iter().collect::<Vec<_>>())
                    .matches(", ")
                    .count(),
                149,
                "none is dropped for lack of room"
            );
        }
    }
}
