//! Connected accounts, and what platforms earn with them.

use pipeline_core::RawRecord;
use serde::Deserialize;

use super::{Inner, Stream};

/// The streams.
pub(super) const STREAMS: &[Stream] = &[
    Stream::new("account_capabilities", "/v1/accounts/{account}/capabilities", "capability").each("accounts").owner("account").one_page(),
    Stream::new("accounts", "/v1/accounts", "account")
        .unfiltered()
        .inner(&[Inner { member: "external_accounts", path: "/v1/accounts/{account}/external_accounts", query: &[] }])
        .note("connected accounts; old ones have no `created`, so the list is never filtered by it"),
    Stream::new("application_fee_refunds", "/v1/application_fees/{id}/refunds", "fee_refund")
        .inside("application_fees", "refunds")
        .owner("fee"),
    Stream::new("application_fees", "/v1/application_fees", "application_fee"),
    Stream::new("external_account_bank_accounts", "/v1/accounts/{account}/external_accounts", "bank_account")
        .each("accounts")
        .owner("account")
        .query(&[("object", "bank_account")])
        .note("where connected accounts are paid out to"),
    Stream::new("external_account_cards", "/v1/accounts/{account}/external_accounts", "card")
        .each("accounts")
        .owner("account")
        .query(&[("object", "card")])
        .note("where connected accounts are paid out to"),
    Stream::new("persons", "/v1/accounts/{account}/persons", "person")
        .each_when("accounts", shows_persons)
        .owner("account")
        .note("of accounts whose requirements the platform collects; the persons of others are not shown to it"),
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
