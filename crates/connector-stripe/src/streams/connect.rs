//! Connected accounts, and what platforms earn with them.

use pipeline_core::RawRecord;
use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};
use serde::Deserialize;

use super::{created, list};
use crate::vendor::{Facts, Pages, Stripe};

/// The lists.
pub(super) const LISTS: &[ListDef<Stripe>] = &[
    list(
        "account_capabilities",
        "/v1/accounts/{account}/capabilities",
    )
    .streams(&[StreamDef::generated("account_capabilities")])
    .facts(Facts::of("capability"))
    .child_of(ParentRef::to("accounts").include(&[("id", "account")]))
    .pages(Pages::One),
    list("accounts", "/v1/accounts")
        .streams(&[StreamDef::generated("accounts").note(
            "connected accounts; old ones have no `created`, so the list is \
             never filtered by it",
        )])
        .facts(Facts::of("account")),
    list(
        "accounts.external_accounts",
        "/v1/accounts/{account}/external_accounts",
    )
    .embedded_in(ParentRef::to("accounts"), "external_accounts"),
    list(
        "application_fee_refunds",
        "/v1/application_fees/{id}/refunds",
    )
    .streams(&[StreamDef::generated("application_fee_refunds")])
    .facts(Facts::of("fee_refund"))
    .embedded_in(
        ParentRef::to("application_fees").include(&[("id", "fee")]),
        "refunds",
    ),
    created("application_fees", "/v1/application_fees")
        .streams(&[StreamDef::generated("application_fees")])
        .facts(Facts::of("application_fee")),
    list(
        "external_account_bank_accounts",
        "/v1/accounts/{account}/external_accounts",
    )
    .streams(&[StreamDef::generated("external_account_bank_accounts")
        .note("where connected accounts are paid out to")])
    .facts(Facts::of("bank_account"))
    .params(&[("object", "bank_account")])
    .child_of(ParentRef::to("accounts").include(&[("id", "account")])),
    list(
        "external_account_cards",
        "/v1/accounts/{account}/external_accounts",
    )
    .streams(&[StreamDef::generated("external_account_cards")
        .note("where connected accounts are paid out to")])
    .facts(Facts::of("card"))
    .params(&[("object", "card")])
    .child_of(ParentRef::to("accounts").include(&[("id", "account")])),
    list("persons", "/v1/accounts/{account}/persons")
        .streams(&[StreamDef::generated("persons").note(
            "of accounts whose requirements the platform collects; the \
             persons of others are not shown to it",
        )])
        .facts(Facts::of("person"))
        .child_of(
            ParentRef::to("accounts")
                .filter(shows_persons)
                .include(&[("id", "account")]),
        ),
];

/// Stripe refuses to tell the persons of accounts from which it collects the requirements itself.
fn shows_persons(account: &RawRecord) -> bool {
    #[derive(Deserialize)]
    struct Controller<'a> {
        #[serde(borrow)]
        requirement_collection: Option<std::borrow::Cow<'a, str>>,
    }
    let controller = account
        .member("controller")
        .and_then(|json| serde_json::from_str::<Controller<'_>>(json).ok());
    controller
        .and_then(|controller| controller.requirement_collection)
        .as_deref()
        != Some("stripe")
}
