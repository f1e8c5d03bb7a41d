//! Events lead to objects, which are fetched and stored where they belong.

use connector_stripe::tables::stream;
use serde_json::json;

use super::{empty_account, metadata};
use crate::acceptance::account::SimulatedAccount;

#[tokio::test(start_paused = true)]
async fn c17_c18_events_of_one_second_fetch_the_object_once_and_are_never_stored() {
    let simulated = empty_account(&["invoices"]);
    let id = simulated.old("invoices", None, json!({}));
    simulated.sync().await;
    simulated.change("invoices", &id, json!({ "metadata": { "revision": "2" } }));
    for kind in [
        "invoice.paid",
        "invoice.updated",
        "invoice.payment_succeeded",
    ] {
        simulated.tell(kind, &json!({ "id": id, "object": "invoice" }));
    }
    simulated.later().await;
    assert_eq!(
        metadata(simulated.row("invoices", &id)),
        json!({ "revision": "2" })
    );
    assert_eq!(simulated.requests("GET /v1/invoices/{id}"), 1);
}

#[tokio::test(start_paused = true)]
async fn c19_a_deleted_customer_is_a_tombstone_that_nulls_nothing() {
    let mut simulated = empty_account(&["customers"]);
    simulated.marks = true;
    let id = simulated.old("customers", None, json!({ "email": "a@example.com" }));
    simulated.sync().await;
    simulated.remove("customers", &id);
    simulated.tell(
        "customer.deleted",
        &json!({ "id": id, "object": "customer" }),
    );
    simulated.later().await;
    let row = simulated.row("customers", &id).unwrap();
    assert_eq!(
        (&row["_deleted"], &row["email"]),
        (&json!(1), &json!("a@example.com"))
    );
    assert_eq!(
        simulated.requests("GET /v1/customers/{id}"),
        0,
        "nobody has to ask"
    );
}

#[tokio::test(start_paused = true)]
async fn c19_the_stub_of_a_deleted_customer_is_a_tombstone_too() {
    let simulated = empty_account(&["customers"]);
    let id = simulated.old("customers", None, json!({}));
    simulated.sync().await;
    simulated.remove("customers", &id);
    simulated.tell(
        "customer.updated",
        &json!({ "id": id, "object": "customer" }),
    );
    simulated.later().await;
    assert_eq!(simulated.row("customers", &id), None);
}

#[tokio::test(start_paused = true)]
async fn c20_a_cancelled_subscription_is_a_row_and_no_tombstone() {
    let simulated = empty_account(&["subscriptions"]);
    let id = simulated.old("subscriptions", None, json!({ "status": "active" }));
    simulated.sync().await;
    simulated.change("subscriptions", &id, json!({ "status": "canceled" }));
    simulated.tell(
        "customer.subscription.deleted",
        &json!({ "id": id, "object": "subscription" }),
    );
    simulated.later().await;
    assert_eq!(
        simulated.row("subscriptions", &id).unwrap()["status"],
        json!("canceled")
    );
}

#[tokio::test(start_paused = true)]
async fn c21_a_coupon_deleted_and_made_again_is_what_stripe_says_that_it_is() {
    let simulated = empty_account(&["coupons"]);
    let id = simulated.old("coupons", None, json!({ "id": "50% off/now" }));
    simulated.sync().await;
    simulated.change("coupons", &id, json!({ "metadata": { "revision": "2" } }));
    for kind in ["coupon.deleted", "coupon.created"] {
        simulated.tell(kind, &json!({ "id": id, "object": "coupon" }));
    }
    simulated.later().await;
    assert_eq!(
        metadata(simulated.row("coupons", &id)),
        json!({ "revision": "2" })
    );
    assert_eq!(simulated.requests("GET /v1/coupons/{id}"), 1);
    simulated.remove("coupons", &id);
    for kind in ["coupon.deleted", "coupon.created", "coupon.deleted"] {
        simulated.tell(kind, &json!({ "id": id, "object": "coupon" }));
    }
    simulated.later().await;
    assert_eq!(simulated.row("coupons", &id), None);
}

#[tokio::test(start_paused = true)]
async fn c22_an_event_goes_where_its_object_belongs() {
    let simulated = empty_account(&["refunds", "charges"]);
    let charge = simulated.old("charges", None, json!({}));
    let refund = simulated.old("refunds", Some(&charge), json!({}));
    simulated.sync().await;
    simulated.change(
        "refunds",
        &refund,
        json!({ "metadata": { "revision": "2" } }),
    );
    simulated.tell(
        "charge.refund.updated",
        &json!({ "id": refund, "object": "refund", "charge": charge }),
    );
    simulated.later().await;
    assert_eq!(
        metadata(simulated.row("refunds", &refund)),
        json!({ "revision": "2" })
    );
    assert_eq!(
        simulated
            .rows(stream("charges").unwrap())
            .into_keys()
            .collect::<Vec<_>>(),
        [charge]
    );
    assert_eq!(
        simulated.requests("GET /v1/charges/{id}"),
        1,
        "the charge holds its refunds"
    );
}

#[tokio::test(start_paused = true)]
async fn c23_a_card_goes_to_the_cards_of_whom_it_belongs_to() {
    let simulated = empty_account(&["customer_cards", "bank_accounts", "external_account_cards"]);
    let customer = simulated.old("customers", None, json!({}));
    simulated.sync().await;
    let account = simulated.old("accounts", None, json!({}));
    let paid_out_to = simulated.old("external_account_cards", Some(&account), json!({}));
    simulated.tell(
        "account.external_account.created",
        &json!({ "id": paid_out_to, "object": "card", "account": account }),
    );
    simulated.later().await;
    let cards = |simulated: &SimulatedAccount| {
        ["customer_cards", "external_account_cards"].map(|name| {
            simulated
                .rows(stream(name).unwrap())
                .into_keys()
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(cards(&simulated), [vec![], vec![paid_out_to.clone()]]);
    let card = simulated.old("customer_cards", Some(&customer), json!({}));
    simulated.tell(
        "customer.source.created",
        &json!({ "id": card, "object": "card", "customer": customer }),
    );
    simulated.later().await;
    assert_eq!(cards(&simulated), [vec![card.clone()], vec![paid_out_to]]);
    assert!(simulated.rows(stream("bank_accounts").unwrap()).is_empty());
    simulated.remove("customer_cards", &card);
    simulated.tell(
        "customer.source.deleted",
        &json!({ "id": card, "object": "card", "customer": customer }),
    );
    simulated.later().await;
    assert_eq!(simulated.row("customer_cards", &card), None);
}

#[tokio::test(start_paused = true)]
async fn c24_c25_an_object_without_id_is_passed_over_and_an_unknown_event_is_understood() {
    let simulated = empty_account(&["invoices", "charges"]);
    let charge = simulated.old("charges", None, json!({}));
    simulated.sync().await;
    simulated.change(
        "charges",
        &charge,
        json!({ "metadata": { "revision": "2" } }),
    );
    simulated.tell("invoice.upcoming", &json!({ "object": "invoice" }));
    simulated.tell(
        "charge.vaporised",
        &json!({ "id": charge, "object": "charge" }),
    );
    simulated.later().await;
    assert_eq!(
        simulated.notices(),
        "events of the type `charge.vaporised` are new: understood by the type of their object"
    );
    assert_eq!(
        metadata(simulated.row("charges", &charge)),
        json!({ "revision": "2" })
    );
}

#[tokio::test(start_paused = true)]
async fn ids_that_people_choose_are_found_as_they_are() {
    let simulated = empty_account(&["plans"]);
    let ids = [
        "Professional+",
        "Pro plan $699/month",
        "735*%24",
        "a?b#c",
        "50% off",
        "é ☃",
    ];
    for id in &ids {
        simulated.old("plans", None, json!({ "id": id }));
    }
    simulated.sync().await;
    for id in ids {
        simulated.change("plans", id, json!({ "metadata": { "revision": "2" } }));
        simulated.tell("plan.updated", &json!({ "id": id, "object": "plan" }));
    }
    simulated.later().await;
    for id in ids {
        assert_eq!(
            metadata(simulated.row("plans", id)),
            json!({ "revision": "2" }),
            "{id}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_selected_later_starts_nothing_again() {
    let mut simulated = empty_account(&["customers"]);
    let customer = simulated.old("customers", None, json!({}));
    simulated.old("charges", None, json!({}));
    simulated.sync().await;
    let before = simulated.requests("GET /v1/customers");
    simulated = simulated.only(&["customers", "charges"]);
    simulated.change(
        "customers",
        &customer,
        json!({ "metadata": { "revision": "2" } }),
    );
    simulated.tell(
        "customer.updated",
        &json!({ "id": customer, "object": "customer" }),
    );
    simulated.later().await;
    assert_eq!(
        metadata(simulated.row("customers", &customer)),
        json!({ "revision": "2" })
    );
    assert_eq!(
        simulated.requests("GET /v1/customers") - before,
        1,
        "only what is new is listed"
    );
    assert_eq!(simulated.rows(stream("charges").unwrap()).len(), 1);
}
