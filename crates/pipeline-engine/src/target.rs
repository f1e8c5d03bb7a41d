//! What of a plan is read when somebody waits for single streams.

use std::collections::BTreeSet;

use pipeline_core::{Stream, SyncMode};

use super::plan::{EndpointPlan, Request};
use crate::destination::Generation;

/// Leaves of a source's plan what brings the newest of these streams: the feeds of changes that
/// they have, or else their lists. What is left out keeps its state as if there had been no run.
///
/// Everything is read as usual when less would lose something: when a feed cannot go on where it
/// stopped, when a list is to be read again, and before the first complete sync.
pub(super) fn targeted<'r, 'e>(
    streams: Option<&BTreeSet<String>>,
    requests: &'r [Request<'e>],
    plans: Vec<EndpointPlan>,
) -> impl Iterator<Item = (&'r Request<'e>, EndpointPlan)> {
    let included = streams.and_then(|streams| included(streams, requests, &plans));
    let pairs = requests.iter().zip(plans).enumerate();
    pairs
        .filter(move |(index, _)| included.as_ref().is_none_or(|them| them.contains(index)))
        .map(|(_, pair)| pair)
}

/// The numbers of the endpoints to be read; none: all.
fn included(
    streams: &BTreeSet<String>,
    requests: &[Request<'_>],
    plans: &[EndpointPlan],
) -> Option<BTreeSet<usize>> {
    let all = || requests.iter().zip(plans);
    // A feed that moves on must not leave behind lists that wait for it to be read again.
    if all().any(|(request, plan)| plan.gap || is_read_again(request, plan)) {
        return None;
    }
    let feeds = |(_, (request, _)): &(usize, (&Request<'_>, &EndpointPlan))| {
        request.refused.is_none() && !request.wanted.streams.is_disjoint(streams)
    };
    let wanted: Vec<_> = all().enumerate().filter(feeds).collect();
    let is_feed =
        |request: &Request<'_>| request.endpoint.is_last() && !request.endpoint.is_correcting();
    let has_feed = wanted.iter().any(|(_, (request, _))| is_feed(request));
    let mut included: BTreeSet<usize> = wanted
        .iter()
        .filter(|(_, (request, _))| !has_feed || is_feed(request))
        .map(|(index, _)| *index)
        .collect();
    let is_new = |index: &usize| {
        let request = &requests[*index];
        request.stored.is_untouched() && request.endpoint.mode() != SyncMode::FullRefresh
    };
    if included.is_empty() || included.iter().any(is_new) {
        return None;
    }
    // A table that is filled anew is filled by all that feed it, and published then.
    loop {
        let filled: BTreeSet<&str> = included
            .iter()
            .flat_map(|index| filled(&requests[*index], &plans[*index]))
            .collect();
        let before = included.len();
        included.extend(all().enumerate().filter_map(|(index, (request, _))| {
            let streams = &request.wanted.streams;
            streams
                .iter()
                .any(|stream| filled.contains(stream.as_str()))
                .then_some(index)
        }));
        if included.len() == before {
            return Some(included);
        }
    }
}

/// True for a list that is read as a whole for another reason than that it always is.
fn is_read_again(request: &Request<'_>, plan: &EndpointPlan) -> bool {
    plan.refresh
        && request.refused.is_none()
        && (request.wanted.full_refresh || request.endpoint.mode() != SyncMode::FullRefresh)
}

/// The streams whose next generation an endpoint fills.
fn filled<'r>(request: &'r Request<'_>, plan: &'r EndpointPlan) -> impl Iterator<Item = &'r str> {
    let streams = request.endpoint.streams().map(Stream::name);
    streams
        .zip(&plan.generations)
        .filter(|(stream, generation)| {
            **generation == Generation::Next && request.wanted.streams.contains(*stream)
        })
        .map(|(stream, _)| stream)
}
