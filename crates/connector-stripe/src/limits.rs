//! The limits that requests count against.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use pipeline_core::rate_limit::Quota;

use crate::config::StripeConfig;
use crate::streams::{lists, stream};
use crate::{change_feed, streams};

/// The bucket that every request of an account counts against.
pub(crate) const ACCOUNT: &str = "account";

/// Requests per second that Stripe allows for a list unless it says otherwise.
pub(crate) const LIST_RATE: u32 = 25;

/// The limit of a list alone: Stripe counts a method and a path template together, for all ids.
pub(crate) fn operation(path: &str) -> String {
    format!("GET {path}")
}

/// The operation that fetches one object of a list.
pub(crate) fn retrieve_operation(path: &str) -> String {
    operation(&format!("{path}/{{id}}"))
}

/// What the configuration allows for each operation: the lists, and the retrieval of the single
/// objects that the feed of changes fetches.
pub(crate) fn quotas(config: &StripeConfig) -> BTreeMap<String, Quota> {
    let allowed = |rate| {
        Quota::per_second(config.list_rps.map_or(rate, NonZeroU32::get)).share(config.rate_share)
    };
    let mut quotas: BTreeMap<String, Quota> = lists()
        .map(|list| (operation(list.path), allowed(list.facts.rate)))
        .collect();
    for (name, rate) in &config.stream_rps {
        let list = stream(name);
        quotas.extend(list.map(|list| (operation(list.path), Quota::per_second(rate.get()))));
    }
    let retrieved = change_feed::heard().into_iter().filter_map(stream);
    quotas.extend(retrieved.map(|list| {
        let operation = retrieve_operation(streams::objects(list));
        (operation, allowed(LIST_RATE))
    }));
    quotas
}
