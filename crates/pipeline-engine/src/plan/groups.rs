//! Endpoints that fill the same tables, which are refreshed together.

use std::collections::BTreeMap;

use super::{Request, Start};

/// Numbers the endpoints so that those which fill the same table, directly or through others, have
/// the same number.
pub(super) fn groups(requests: &[Request<'_>]) -> Vec<usize> {
    let mut joined: Vec<usize> = (0..requests.len()).collect();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, request) in requests
        .iter()
        .enumerate()
        .filter(|(_, request)| !request.endpoint.is_last())
    {
        for stream in request.streams() {
            let (one, other) = (
                root(&mut joined, *first.entry(stream).or_insert(index)),
                root(&mut joined, index),
            );
            joined[one.max(other)] = one.min(other);
        }
    }
    (0..requests.len())
        .map(|index| root(&mut joined, index))
        .collect()
}

/// The endpoint that stands for all that an endpoint is joined with; the way to it becomes shorter.
fn root(joined: &mut [usize], mut index: usize) -> usize {
    while joined[index] != index {
        joined[index] = joined[joined[index]];
        index = joined[index];
    }
    index
}

/// Lets the endpoints of a group refresh together, or none of them.
pub(super) fn agree(requests: &[Request<'_>], groups: &[usize], starts: &mut [Start]) {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, group) in groups
        .iter()
        .enumerate()
        .filter(|(index, _)| starts[*index] != Start::Never)
    {
        members.entry(*group).or_default().push(index);
    }
    for members in members.values() {
        if members
            .iter()
            .all(|member| starts[*member] == Start::Continue)
        {
            continue;
        }
        // What a member has put into the next generation for other streams than those wanted now is
        // of no use.
        let is_spoiled = members
            .iter()
            .any(|member| requests[*member].stored.refreshing && starts[*member] != Start::Resume);
        let is_begun = !is_spoiled
            && members
                .iter()
                .any(|member| starts[*member] == Start::Resume);
        for member in members {
            starts[*member] = match starts[*member] {
                Start::Resume if is_begun => Start::Resume,
                _ if is_begun => Start::Join,
                _ => Start::Refresh,
            };
        }
    }
}
