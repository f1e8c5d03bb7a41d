//! Payments, money movement, disputes and Radar.

use pipeline_core::RawRecord;

use super::{Inner, Settles, Stream};

/// The streams.
pub(super) const STREAMS: &[Stream] = &[
    Stream::new("balance_transactions", "/v1/balance_transactions", "balance_transaction")
        .settles(Settles { is_open: is_pending, due: "available_on", patience: 6, at_most: 90 })
        .note("`status` turns from pending to available without an event, so pending ones are read again on the day of `available_on`"),
    Stream::new("bank_accounts", "/v1/customers/{customer}/sources", "bank_account")
        .each("customers")
        .owner("customer")
        .query(&[("object", "bank_account")])
        .note("of customers"),
    Stream::new("charges", "/v1/charges", "charge").expand(&["refunds"]).inner(&[Inner {
        member: "refunds",
        path: "/v1/charges/{charge}/refunds",
        query: &[],
    }]),
    Stream::new("checkout_session_line_items", "/v1/checkout/sessions/{session}/line_items", "item")
        .inside("checkout_sessions", "line_items")
        .expand(&["discounts", "taxes"])
        .key(&["checkout_session_id", "id"])
        .parent_id("checkout_session_id"),
    Stream::new("checkout_sessions", "/v1/checkout/sessions", "checkout.session").expand(&[
        "line_items",
        "line_items.data.discounts",
        "line_items.data.taxes",
    ]),
    Stream::new("customer_balance_transactions", "/v1/customers/{customer}/balance_transactions", "customer_balance_transaction")
        .each("customers")
        .owner("customer"),
    Stream::new("customer_cards", "/v1/customers/{customer}/sources", "card")
        .each("customers")
        .owner("customer")
        .query(&[("object", "card")]),
    Stream::new(
        "customer_cash_balance_transactions",
        "/v1/customers/{customer}/cash_balance_transactions",
        "customer_cash_balance_transaction",
    )
    .each("customers")
    .owner("customer"),
    Stream::new("customer_tax_ids", "/v1/customers/{customer}/tax_ids", "tax_id").each("customers").owner("customer"),
    Stream::new("customers", "/v1/customers", "customer")
        .expand(&["cash_balance", "tax"])
        .spare(&["cash_balance", "tax"])
        .revision(2)
        .note("deleted customers and those of test clocks are not listed"),
    Stream::new("disputes", "/v1/disputes", "dispute"),
    Stream::new("early_fraud_warnings", "/v1/radar/early_fraud_warnings", "radar.early_fraud_warning"),
    Stream::new("payment_intents", "/v1/payment_intents", "payment_intent").note("edits of metadata cause no event"),
    Stream::new("payment_link_line_items", "/v1/payment_links/{payment_link}/line_items", "item")
        .inside("payment_links", "line_items")
        .key(&["payment_link_id", "id"])
        .parent_id("payment_link_id"),
    Stream::new("payment_links", "/v1/payment_links", "payment_link").once().expand(&["line_items"]),
    Stream::new("payment_method_configurations", "/v1/payment_method_configurations", "payment_method_configuration").unfiltered(),
    Stream::new("payment_method_domains", "/v1/payment_method_domains", "payment_method_domain").unfiltered(),
    Stream::new("payment_methods", "/v1/customers/{customer}/payment_methods", "payment_method")
        .each("customers")
        .owner("customer")
        .objects("/v1/payment_methods")
        .revision(2)
        .note("of customers, those of type `custom` excepted; detached ones are not listed"),
    Stream::new("payout_balance_transactions", "/v1/balance_transactions", "balance_transaction")
        .each_when("payouts", is_reconciled)
        .query(&[("payout", "{id}")])
        .key(&["payout", "id"])
        .parent_id("payout")
        .note("of automatic payouts whose reconciliation is complete; Stripe knows no others"),
    Stream::new("payouts", "/v1/payouts", "payout")
        .settles(Settles { is_open: awaits_trace, due: "arrival_date", patience: 24, at_most: 14 })
        .note("`trace_id` comes up to ten days after arrival without an event, so those that wait for it are read again daily"),
    Stream::new("refunds", "/v1/refunds", "refund"),
    Stream::new("reviews", "/v1/reviews", "review").note("only open ones are listed; absence says nothing"),
    Stream::new("setup_attempts", "/v1/setup_attempts", "setup_attempt")
        .each_when("setup_intents", was_attempted)
        .owner("setup_intent")
        .query(&[("setup_intent", "{id}")]),
    Stream::new("setup_intents", "/v1/setup_intents", "setup_intent"),
    Stream::new("top_ups", "/v1/topups", "topup"),
    Stream::new("transfer_reversals", "/v1/transfers/{id}/reversals", "transfer_reversal")
        .inside("transfers", "reversals")
        .owner("transfer"),
    Stream::new("transfers", "/v1/transfers", "transfer"),
    Stream::new("value_list_items", "/v1/radar/value_list_items", "radar.value_list_item")
        .inside("value_lists", "list_items")
        .owner("value_list")
        .query(&[("value_list", "{id}")]),
    Stream::new("value_lists", "/v1/radar/value_lists", "radar.value_list").whole(),
];

/// Stripe assigns transactions to automatic payouts only, and not all of them before it says so.
fn is_reconciled(payout: &RawRecord) -> bool {
    payout.member("automatic") == Some("true")
        && payout.scalar("reconciliation_status").as_deref() == Some("completed")
}

/// The money is not at the account's disposal yet.
fn is_pending(transaction: &RawRecord) -> bool {
    transaction.scalar("status").as_deref() == Some("pending")
}

/// The bank has not said yet by what the payout can be traced.
fn awaits_trace(payout: &RawRecord) -> bool {
    let trace = payout
        .member("trace_id")
        .map(|json| RawRecord::upsert(json.to_owned()));
    trace.is_some_and(|trace| trace.scalar("status").as_deref() == Some("pending"))
}

/// A setup intent that nobody tried has no attempt.
fn was_attempted(setup_intent: &RawRecord) -> bool {
    setup_intent
        .member("latest_attempt")
        .is_some_and(|attempt| attempt != "null")
}
