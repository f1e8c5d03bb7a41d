//! Issuing: cards that the account gives out.

use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use super::{created, list};
use crate::vendor::{Facts, Stripe};

/// The lists.
pub(super) const LISTS: &[ListDef<Stripe>] = &[
    created("authorizations", "/v1/issuing/authorizations")
        .streams(&[StreamDef::generated("authorizations").note("needs Issuing")])
        .facts(Facts::of("issuing.authorization")),
    created("cardholders", "/v1/issuing/cardholders")
        .streams(&[StreamDef::generated("cardholders").note("needs Issuing")])
        .facts(Facts::of("issuing.cardholder")),
    created("issuing_cards", "/v1/issuing/cards")
        .streams(&[StreamDef::generated("issuing_cards")
            .note("needs Issuing; number and cvc are never asked for")])
        .facts(Facts::of("issuing.card")),
    created("issuing_disputes", "/v1/issuing/disputes")
        .streams(&[StreamDef::generated("issuing_disputes").note("needs Issuing")])
        .facts(Facts::of("issuing.dispute")),
    list(
        "issuing_personalization_designs",
        "/v1/issuing/personalization_designs",
    )
    .streams(&[StreamDef::generated("issuing_personalization_designs").note("needs Issuing")])
    .facts(Facts::of("issuing.personalization_design")),
    list("issuing_physical_bundles", "/v1/issuing/physical_bundles")
        .streams(&[StreamDef::generated("issuing_physical_bundles").note("needs Issuing")])
        .facts(Facts::of("issuing.physical_bundle")),
    list("issuing_tokens", "/v1/issuing/tokens")
        .streams(&[StreamDef::generated("issuing_tokens").note("needs Issuing")])
        .facts(
            Facts::of("issuing.token")
                .expand(&["network_data"])
                .revision(2),
        )
        .params(&[("card", "{id}")])
        .child_of(ParentRef::to("issuing_cards").include(&[("id", "card")]))
        .incremental(),
    created("transactions", "/v1/issuing/transactions")
        .streams(&[StreamDef::generated("transactions").note("needs Issuing")])
        .facts(Facts::of("issuing.transaction")),
];
