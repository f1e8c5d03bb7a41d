//! Issuing: cards that the account gives out.

use super::Stream;

/// The streams.
pub(super) const STREAMS: &[Stream] = &[
    Stream::new(
        "authorizations",
        "/v1/issuing/authorizations",
        "issuing.authorization",
    )
    .note("needs Issuing"),
    Stream::new(
        "cardholders",
        "/v1/issuing/cardholders",
        "issuing.cardholder",
    )
    .note("needs Issuing"),
    Stream::new("issuing_cards", "/v1/issuing/cards", "issuing.card")
        .note("needs Issuing; number and cvc are never asked for"),
    Stream::new(
        "issuing_disputes",
        "/v1/issuing/disputes",
        "issuing.dispute",
    )
    .note("needs Issuing"),
    Stream::new(
        "issuing_personalization_designs",
        "/v1/issuing/personalization_designs",
        "issuing.personalization_design",
    )
    .unfiltered()
    .note("needs Issuing"),
    Stream::new(
        "issuing_physical_bundles",
        "/v1/issuing/physical_bundles",
        "issuing.physical_bundle",
    )
    .unfiltered()
    .note("needs Issuing"),
    Stream::new("issuing_tokens", "/v1/issuing/tokens", "issuing.token")
        .each("issuing_cards")
        .owner("card")
        .expand(&["network_data"])
        .revision(2)
        .query(&[("card", "{id}")])
        .note("needs Issuing"),
    Stream::new(
        "transactions",
        "/v1/issuing/transactions",
        "issuing.transaction",
    )
    .note("needs Issuing"),
];
