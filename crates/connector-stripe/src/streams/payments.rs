//! Payments, money movement, disputes and Radar.

use pipeline_core::RawRecord;
use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use super::{created, kept, list};
use crate::vendor::{Facts, Settles, Slices, Stripe};

/// The lists.
pub(super) const LISTS: &[ListDef<Stripe>] = &[
    created("balance_transactions", "/v1/balance_transactions")
        .streams(&[StreamDef::generated("balance_transactions").note(
            "`status` turns from pending to available without an event, so \
             pending ones are read again on the day of `available_on`",
        )])
        .facts(Facts::of("balance_transaction").settles(Settles {
            is_open: is_pending,
            due: "available_on",
            patience: 6,
            at_most: 90,
        })),
    list("bank_accounts", "/v1/customers/{customer}/sources")
        .streams(&[StreamDef::generated("bank_accounts").note("of customers")])
        .facts(Facts::of("bank_account"))
        .params(&[("object", "bank_account")])
        .child_of(ParentRef::to("customers").include(&[("id", "customer")]))
        .incremental(),
    created("charges", "/v1/charges")
        .streams(&[StreamDef::generated("charges")])
        .facts(Facts::of("charge").expand(&["refunds"])),
    list("charges.refunds", "/v1/charges/{charge}/refunds")
        .embedded_in(ParentRef::to("charges"), "refunds"),
    list(
        "checkout_session_line_items",
        "/v1/checkout/sessions/{session}/line_items",
    )
    .streams(&[
        StreamDef::generated("checkout_session_line_items").key(&["checkout_session_id", "id"])
    ])
    .facts(Facts::of("item").expand(&["discounts", "taxes"]))
    .embedded_in(
        ParentRef::to("checkout_sessions").include(&[("id", "checkout_session_id")]),
        "line_items",
    ),
    created("checkout_sessions", "/v1/checkout/sessions")
        .streams(&[StreamDef::generated("checkout_sessions")])
        .facts(Facts::of("checkout.session").expand(&[
            "line_items",
            "line_items.data.discounts",
            "line_items.data.taxes",
        ])),
    list(
        "customer_balance_transactions",
        "/v1/customers/{customer}/balance_transactions",
    )
    .streams(&[StreamDef::generated("customer_balance_transactions")])
    .facts(Facts::of("customer_balance_transaction"))
    .child_of(ParentRef::to("customers").include(&[("id", "customer")]))
    .incremental(),
    list("customer_cards", "/v1/customers/{customer}/sources")
        .streams(&[StreamDef::generated("customer_cards")])
        .facts(Facts::of("card"))
        .params(&[("object", "card")])
        .child_of(ParentRef::to("customers").include(&[("id", "customer")]))
        .incremental(),
    list(
        "customer_cash_balance_transactions",
        "/v1/customers/{customer}/cash_balance_transactions",
    )
    .streams(&[StreamDef::generated("customer_cash_balance_transactions")])
    .facts(Facts::of("customer_cash_balance_transaction"))
    .child_of(ParentRef::to("customers").include(&[("id", "customer")]))
    .incremental(),
    list("customer_tax_ids", "/v1/customers/{customer}/tax_ids")
        .streams(&[StreamDef::generated("customer_tax_ids")])
        .facts(Facts::of("tax_id"))
        .child_of(ParentRef::to("customers").include(&[("id", "customer")]))
        .incremental(),
    created("customers", "/v1/customers")
        .streams(&[StreamDef::generated("customers")
            .note("deleted customers and those of test clocks are not listed")])
        .facts(
            Facts::of("customer")
                .expand(&["cash_balance", "tax"])
                .spare(&["cash_balance", "tax"])
                .revision(2),
        ),
    created("disputes", "/v1/disputes")
        .streams(&[StreamDef::generated("disputes")])
        .facts(Facts::of("dispute")),
    created("early_fraud_warnings", "/v1/radar/early_fraud_warnings")
        .streams(&[StreamDef::generated("early_fraud_warnings")])
        .facts(Facts::of("radar.early_fraud_warning")),
    created("payment_intents", "/v1/payment_intents")
        .streams(
            &[StreamDef::generated("payment_intents").note("edits of metadata cause no event")],
        )
        .facts(Facts::of("payment_intent")),
    list(
        "payment_link_line_items",
        "/v1/payment_links/{payment_link}/line_items",
    )
    .streams(&[StreamDef::generated("payment_link_line_items").key(&["payment_link_id", "id"])])
    .facts(Facts::of("item"))
    .embedded_in(
        ParentRef::to("payment_links").include(&[("id", "payment_link_id")]),
        "line_items",
    ),
    list("payment_links", "/v1/payment_links")
        .streams(&[StreamDef::generated("payment_links")])
        .facts(Facts::of("payment_link").expand(&["line_items"]))
        .slices(Slices::Once)
        .incremental(),
    list(
        "payment_method_configurations",
        "/v1/payment_method_configurations",
    )
    .streams(&[StreamDef::generated("payment_method_configurations")])
    .facts(Facts::of("payment_method_configuration")),
    list("payment_method_domains", "/v1/payment_method_domains")
        .streams(&[StreamDef::generated("payment_method_domains")])
        .facts(Facts::of("payment_method_domain")),
    list(
        "payment_methods",
        "/v1/customers/{customer}/payment_methods",
    )
    .streams(&[StreamDef::generated("payment_methods").note(
        "of customers, those of type `custom` excepted; detached ones \
         are not listed",
    )])
    .facts(
        Facts::of("payment_method")
            .revision(2)
            .objects("/v1/payment_methods"),
    )
    .child_of(ParentRef::to("customers").include(&[("id", "customer")]))
    .incremental(),
    list("payout_balance_transactions", "/v1/balance_transactions")
        .streams(&[StreamDef::generated("payout_balance_transactions")
            .key(&["payout", "id"])
            .note(
                "of automatic payouts whose reconciliation is complete; Stripe \
                 knows no others",
            )])
        .facts(Facts::of("balance_transaction"))
        .params(&[("payout", "{id}")])
        .child_of(
            ParentRef::to("payouts")
                .filter(is_reconciled)
                .include(&[("id", "payout")]),
        )
        .incremental(),
    created("payouts", "/v1/payouts")
        .streams(&[StreamDef::generated("payouts").note(
            "`trace_id` comes up to ten days after arrival without an \
             event, so those that wait for it are read again daily",
        )])
        .facts(Facts::of("payout").settles(Settles {
            is_open: awaits_trace,
            due: "arrival_date",
            patience: 24,
            at_most: 14,
        })),
    created("refunds", "/v1/refunds")
        .streams(&[StreamDef::generated("refunds")])
        .facts(Facts::of("refund")),
    created("reviews", "/v1/reviews")
        .streams(&[
            StreamDef::generated("reviews").note("only open ones are listed; absence says nothing")
        ])
        .facts(Facts::of("review")),
    list("setup_attempts", "/v1/setup_attempts")
        .streams(&[StreamDef::generated("setup_attempts")])
        .facts(Facts::of("setup_attempt"))
        .params(&[("setup_intent", "{id}")])
        .child_of(
            ParentRef::to("setup_intents")
                .filter(was_attempted)
                .include(&[("id", "setup_intent")]),
        )
        .incremental(),
    created("setup_intents", "/v1/setup_intents")
        .streams(&[StreamDef::generated("setup_intents")])
        .facts(Facts::of("setup_intent")),
    created("top_ups", "/v1/topups")
        .streams(&[StreamDef::generated("top_ups")])
        .facts(Facts::of("topup")),
    list("transfer_reversals", "/v1/transfers/{id}/reversals")
        .streams(&[StreamDef::generated("transfer_reversals")])
        .facts(Facts::of("transfer_reversal"))
        .embedded_in(
            ParentRef::to("transfers").include(&[("id", "transfer")]),
            "reversals",
        ),
    created("transfers", "/v1/transfers")
        .streams(&[StreamDef::generated("transfers")])
        .facts(Facts::of("transfer")),
    list("value_list_items", "/v1/radar/value_list_items")
        .streams(&[StreamDef::generated("value_list_items")])
        .facts(Facts::of("radar.value_list_item"))
        .params(&[("value_list", "{id}")])
        .embedded_in(
            ParentRef::to("value_lists").include(&[("id", "value_list")]),
            "list_items",
        ),
    kept("value_lists", "/v1/radar/value_lists")
        .streams(&[StreamDef::generated("value_lists")])
        .facts(Facts::of("radar.value_list"))
        .full_refresh(),
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
