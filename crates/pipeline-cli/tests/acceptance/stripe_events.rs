//! The feed of changes, case by case: what happens to one object, and what is stored and requested
//! because of it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use connector_stripe::stream;
use connector_stripe::webhook::Webhooks;
use pipeline_simulator::StripeBook;
use serde_json::{Value, json};

use crate::stripe::Town;

/// An account without anything, of which these streams are read.
pub(crate) fn town(streams: &[&str]) -> Town {
    Town::new(StripeBook {
        objects: 0,
        ..StripeBook::default()
    })
    .only(streams)
}

impl Town {
    /// Makes an object that is older than any lookback.
    pub(crate) fn old(&self, list: &str, parent: Option<&str>, members: Value) -> String {
        let stripe = self.simulator.stripe();
        let mut members = members;
        members["created"] = json!(stripe.now() - 100 * 86_400);
        stripe.make("", list, parent, members).unwrap()
    }

    pub(crate) fn change(&self, list: &str, id: &str, members: Value) {
        self.simulator.stripe().change("", list, id, Some(members));
    }

    pub(crate) fn remove(&self, list: &str, id: &str) {
        self.simulator.stripe().change("", list, id, None);
    }

    /// Tells of an object in a way that must not be stored.
    pub(crate) fn tell(&self, kind: &str, object: &Value) {
        let mut object = object.clone();
        object["metadata"] = json!({ "revision": "of an event" });
        self.simulator.stripe().tell("", kind, object, 0);
    }

    pub(crate) fn requests(&self, operation: &str) -> usize {
        self.simulator
            .stats()
            .operations
            .get(operation)
            .map_or(0, |operation| operation.accepted.len())
    }

    pub(crate) fn row(&self, name: &str, key: &str) -> Option<BTreeMap<String, Value>> {
        self.rows(stream(name).unwrap()).remove(key)
    }

    pub(crate) async fn later(&self) {
        self.pass(Duration::from_mins(5));
        self.sync().await;
    }
}

pub(crate) fn metadata(row: Option<BTreeMap<String, Value>>) -> Value {
    serde_json::from_str(row.unwrap()["metadata"].as_str().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn c17_c18_events_of_one_second_fetch_the_object_once_and_are_never_stored() {
    let town = town(&["invoices"]);
    let id = town.old("invoices", None, json!({}));
    town.sync().await;
    town.change("invoices", &id, json!({ "metadata": { "revision": "2" } }));
    for kind in [
        "invoice.paid",
        "invoice.updated",
        "invoice.payment_succeeded",
    ] {
        town.tell(kind, &json!({ "id": id, "object": "invoice" }));
    }
    town.later().await;
    assert_eq!(
        metadata(town.row("invoices", &id)),
        json!({ "revision": "2" })
    );
    assert_eq!(town.requests("GET /v1/invoices/{id}"), 1);
}

#[tokio::test(start_paused = true)]
async fn c19_a_deleted_customer_is_a_tombstone_that_nulls_nothing() {
    let mut town = town(&["customers"]);
    town.marks = true;
    let id = town.old("customers", None, json!({ "email": "a@example.com" }));
    town.sync().await;
    town.remove("customers", &id);
    town.tell(
        "customer.deleted",
        &json!({ "id": id, "object": "customer" }),
    );
    town.later().await;
    let row = town.row("customers", &id).unwrap();
    assert_eq!(
        (&row["_deleted"], &row["email"]),
        (&json!(1), &json!("a@example.com"))
    );
    assert_eq!(
        town.requests("GET /v1/customers/{id}"),
        0,
        "nobody has to ask"
    );
}

#[tokio::test(start_paused = true)]
async fn c19_the_stub_of_a_deleted_customer_is_a_tombstone_too() {
    let town = town(&["customers"]);
    let id = town.old("customers", None, json!({}));
    town.sync().await;
    town.remove("customers", &id);
    town.tell(
        "customer.updated",
        &json!({ "id": id, "object": "customer" }),
    );
    town.later().await;
    assert_eq!(town.row("customers", &id), None);
}

#[tokio::test(start_paused = true)]
async fn c20_a_cancelled_subscription_is_a_row_and_no_tombstone() {
    let town = town(&["subscriptions"]);
    let id = town.old("subscriptions", None, json!({ "status": "active" }));
    town.sync().await;
    town.change("subscriptions", &id, json!({ "status": "canceled" }));
    town.tell(
        "customer.subscription.deleted",
        &json!({ "id": id, "object": "subscription" }),
    );
    town.later().await;
    assert_eq!(
        town.row("subscriptions", &id).unwrap()["status"],
        json!("canceled")
    );
}

#[tokio::test(start_paused = true)]
async fn c21_a_coupon_deleted_and_made_again_is_what_stripe_says_that_it_is() {
    let town = town(&["coupons"]);
    let id = town.old("coupons", None, json!({ "id": "50% off/now" }));
    town.sync().await;
    town.change("coupons", &id, json!({ "metadata": { "revision": "2" } }));
    for kind in ["coupon.deleted", "coupon.created"] {
        town.tell(kind, &json!({ "id": id, "object": "coupon" }));
    }
    town.later().await;
    assert_eq!(
        metadata(town.row("coupons", &id)),
        json!({ "revision": "2" })
    );
    assert_eq!(town.requests("GET /v1/coupons/{id}"), 1);
    town.remove("coupons", &id);
    for kind in ["coupon.deleted", "coupon.created", "coupon.deleted"] {
        town.tell(kind, &json!({ "id": id, "object": "coupon" }));
    }
    town.later().await;
    assert_eq!(town.row("coupons", &id), None);
}

#[tokio::test(start_paused = true)]
async fn c22_an_event_goes_where_its_object_belongs() {
    let town = town(&["refunds", "charges"]);
    let charge = town.old("charges", None, json!({}));
    let refund = town.old("refunds", Some(&charge), json!({}));
    town.sync().await;
    town.change(
        "refunds",
        &refund,
        json!({ "metadata": { "revision": "2" } }),
    );
    town.tell(
        "charge.refund.updated",
        &json!({ "id": refund, "object": "refund", "charge": charge }),
    );
    town.later().await;
    assert_eq!(
        metadata(town.row("refunds", &refund)),
        json!({ "revision": "2" })
    );
    assert_eq!(
        town.rows(stream("charges").unwrap())
            .into_keys()
            .collect::<Vec<_>>(),
        [charge]
    );
    assert_eq!(
        town.requests("GET /v1/charges/{id}"),
        1,
        "the charge holds its refunds"
    );
}

#[tokio::test(start_paused = true)]
async fn c23_a_card_goes_to_the_cards_of_whom_it_belongs_to() {
    let town = town(&["customer_cards", "bank_accounts", "external_account_cards"]);
    let customer = town.old("customers", None, json!({}));
    town.sync().await;
    let account = town.old("accounts", None, json!({}));
    let paid_out_to = town.old("external_account_cards", Some(&account), json!({}));
    town.tell(
        "account.external_account.created",
        &json!({ "id": paid_out_to, "object": "card", "account": account }),
    );
    town.later().await;
    let cards = |town: &Town| {
        ["customer_cards", "external_account_cards"].map(|name| {
            town.rows(stream(name).unwrap())
                .into_keys()
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(cards(&town), [vec![], vec![paid_out_to.clone()]]);
    let card = town.old("customer_cards", Some(&customer), json!({}));
    town.tell(
        "customer.source.created",
        &json!({ "id": card, "object": "card", "customer": customer }),
    );
    town.later().await;
    assert_eq!(cards(&town), [vec![card.clone()], vec![paid_out_to]]);
    assert!(town.rows(stream("bank_accounts").unwrap()).is_empty());
    town.remove("customer_cards", &card);
    town.tell(
        "customer.source.deleted",
        &json!({ "id": card, "object": "card", "customer": customer }),
    );
    town.later().await;
    assert_eq!(town.row("customer_cards", &card), None);
}

#[tokio::test(start_paused = true)]
async fn c24_c25_an_object_without_id_is_passed_over_and_an_unknown_event_is_understood() {
    let town = town(&["invoices", "charges"]);
    let charge = town.old("charges", None, json!({}));
    town.sync().await;
    town.change(
        "charges",
        &charge,
        json!({ "metadata": { "revision": "2" } }),
    );
    town.tell("invoice.upcoming", &json!({ "object": "invoice" }));
    town.tell(
        "charge.vaporised",
        &json!({ "id": charge, "object": "charge" }),
    );
    town.later().await;
    assert_eq!(
        town.notices(),
        "events of the type `charge.vaporised` are new: understood by the type of their object"
    );
    assert_eq!(
        metadata(town.row("charges", &charge)),
        json!({ "revision": "2" })
    );
}

#[tokio::test(start_paused = true)]
async fn c26_events_are_read_in_one_pass_for_all_streams() {
    let town = town(&[
        "charges",
        "refunds",
        "invoices",
        "customers",
        "products",
        "prices",
        "payouts",
        "disputes",
        "coupons",
        "subscriptions",
    ]);
    let charge = town.old("charges", None, json!({}));
    town.sync().await;
    for _ in 0..250 {
        town.tell(
            "charge.updated",
            &json!({ "id": charge, "object": "charge" }),
        );
    }
    town.later().await;
    assert_eq!(
        (
            town.requests("GET /v1/events"),
            town.requests("GET /v1/charges/{id}")
        ),
        (3, 1)
    );
    town.later().await;
    assert_eq!(
        (
            town.requests("GET /v1/events"),
            town.requests("GET /v1/charges/{id}")
        ),
        (6, 1),
        "known events are not followed again"
    );
}

#[tokio::test(start_paused = true)]
async fn c27_c28_a_state_older_than_the_events_leads_to_the_lists_and_to_no_gap() {
    for hours in [31 * 24, 29 * 24 + 12] {
        let town = town(&["customers", "coupons"]);
        let (kept, lost) = (
            town.old("customers", None, json!({})),
            town.old("customers", None, json!({})),
        );
        town.sync().await;
        town.remove("customers", &lost);
        town.change(
            "customers",
            &kept,
            json!({ "metadata": { "revision": "2" } }),
        );
        town.pass(Duration::from_hours(hours));
        let before = town.requests("GET /v1/customers");
        town.sync().await;
        assert_eq!(
            town.row("customers", &lost),
            None,
            "vanished while nobody listened"
        );
        assert_eq!(
            metadata(town.row("customers", &kept)),
            json!({ "revision": "2" })
        );
        assert_eq!(
            (
                town.requests("GET /v1/events"),
                town.requests("GET /v1/customers") - before
            ),
            (0, 1)
        );
        town.change(
            "customers",
            &kept,
            json!({ "metadata": { "revision": "3" } }),
        );
        town.tell(
            "customer.updated",
            &json!({ "id": kept, "object": "customer" }),
        );
        town.later().await;
        assert_eq!(
            metadata(town.row("customers", &kept)),
            json!({ "revision": "3" }),
            "the feed goes on"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c29_an_event_that_shows_late_is_found_and_no_event_is_followed_twice() {
    let town = town(&["customers"]);
    let id = town.old("customers", None, json!({}));
    town.sync().await;
    town.later().await;
    town.change("customers", &id, json!({ "metadata": { "revision": "2" } }));
    town.simulator.stripe().tell(
        "",
        "customer.updated",
        json!({ "id": id, "object": "customer" }),
        100,
    );
    town.later().await;
    assert_eq!(
        metadata(town.row("customers", &id)),
        json!({ "revision": "2" })
    );
    town.later().await;
    assert_eq!(town.requests("GET /v1/customers/{id}"), 1);
}

#[tokio::test(start_paused = true)]
async fn c05_what_is_made_during_the_walk_is_in_the_next_sync() {
    let town = town(&["charges"]);
    for _ in 0..250 {
        town.old("charges", None, json!({}));
    }
    town.pass(Duration::from_mins(2));
    let new = town
        .simulator
        .stripe()
        .make("", "charges", None, json!({}))
        .unwrap();
    town.sync().await;
    assert_eq!(
        town.row("charges", &new),
        None,
        "it is younger than the lag"
    );
    town.later().await;
    assert!(town.row("charges", &new).is_some());
}

#[tokio::test(start_paused = true)]
async fn c07_a_second_with_many_objects_is_read_page_by_page() {
    let town = town(&["charges"]);
    for _ in 0..350 {
        town.old("charges", None, json!({}));
    }
    town.sync().await;
    assert_eq!(town.rows(stream("charges").unwrap()).len(), 350);
    // Four pages, one question for the time, and the rest of the account's life, which nobody knows
    // to be empty.
    assert!(
        (4..=8).contains(&town.requests("GET /v1/charges")),
        "{}",
        town.requests("GET /v1/charges")
    );
}

#[tokio::test(start_paused = true)]
async fn c40_a_transaction_is_read_again_when_it_is_available_however_late() {
    let town = town(&["balance_transactions"]);
    let now = town.simulator.stripe().now();
    for days in [2, 14, 30] {
        let members = json!({ "created": now - 3_600 * days, "available_on": now + 86_400 * days, "status": "pending" });
        town.simulator
            .stripe()
            .make("", "balance_transactions", None, members)
            .unwrap();
    }
    town.sync().await;
    let of = |id: &str| {
        town.row("balance_transactions", id).unwrap()["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let all: Vec<String> = town
        .rows(stream("balance_transactions").unwrap())
        .into_keys()
        .collect();
    for day in 1..=32 {
        town.pass(Duration::from_hours(24));
        for record in town.simulator.stripe().records("", "balance_transactions") {
            let is_available =
                record["available_on"].as_i64().unwrap() <= town.simulator.stripe().now();
            let status = if is_available { "available" } else { "pending" };
            town.change(
                "balance_transactions",
                record["id"].as_str().unwrap(),
                json!({ "status": status }),
            );
        }
        let before = town.requests("GET /v1/balance_transactions");
        town.sync().await;
        let asked = town.requests("GET /v1/balance_transactions") - before;
        let available = all.iter().filter(|id| of(id) == "available").count();
        let expected = [2, 14, 30].iter().filter(|due| day >= **due).count();
        assert_eq!(available, expected, "on day {day}");
        // The list, and what is due on that day and on no other.
        let due = usize::from([2, 14, 30].contains(&day));
        assert!(asked <= 1 + due, "{asked} requests on day {day}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_payout_is_read_again_until_its_trace_id_is_known() {
    let town = town(&["payouts"]);
    let now = town.simulator.stripe().now();
    let trace = |status: &str| json!({ "status": status, "value": null });
    let members = json!({ "created": now - 86_400, "arrival_date": now - 3_600, "trace_id": trace("pending") });
    let id = town
        .simulator
        .stripe()
        .make("", "payouts", None, members)
        .unwrap();
    town.sync().await;
    town.pass(Duration::from_hours(9 * 24));
    town.change(
        "payouts",
        &id,
        json!({ "trace_id": { "status": "supported", "value": "T1" } }),
    );
    town.sync().await;
    assert!(
        town.row("payouts", &id).unwrap()["trace_id"]
            .as_str()
            .unwrap()
            .contains("T1")
    );
    let before = town.requests("GET /v1/payouts");
    town.pass(Duration::from_hours(48));
    town.sync().await;
    assert_eq!(town.requests("GET /v1/payouts") - before, 1, "it is final");
}

#[tokio::test(start_paused = true)]
async fn entries_that_a_subscription_has_lost_go_whatever_the_event_says_of_them() {
    let town = town(&["subscriptions", "subscription_items"]);
    let [id, other] = [(); 2].map(|()| town.old("subscriptions", None, json!({})));
    let items: Vec<String> = (0..12)
        .map(|_| {
            town.old(
                "subscription_items",
                Some(&id),
                json!({ "subscription": id }),
            )
        })
        .collect();
    town.old(
        "subscription_items",
        Some(&other),
        json!({ "subscription": other }),
    );
    town.sync().await;
    let kept = |town: &Town| town.rows(stream("subscription_items").unwrap()).len();
    assert_eq!(kept(&town), 13);
    // The oldest, which the beginning of the list does not show, and then one that no event names
    // at all.
    for (index, left) in [(0, 12), (5, 11)] {
        town.remove("subscription_items", &items[index]);
        town.tell(
            "customer.subscription.updated",
            &json!({ "id": id, "object": "subscription" }),
        );
        town.later().await;
        assert_eq!(kept(&town), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feature_that_a_product_has_lost_goes_with_an_event_of_the_product() {
    let town = town(&["products", "product_features"]);
    let product = town.old("products", None, json!({}));
    let features = [(); 3].map(|()| town.old("product_features", Some(&product), json!({})));
    town.sync().await;
    town.remove("product_features", &features[0]);
    let before = town.requests("GET /v1/products/{product}/features");
    town.later().await;
    assert_eq!(
        town.requests("GET /v1/products/{product}/features"),
        before,
        "nothing has happened"
    );
    town.tell(
        "product.updated",
        &json!({ "id": product, "object": "product" }),
    );
    town.later().await;
    assert_eq!(town.rows(stream("product_features").unwrap()).len(), 2);
    town.remove("product_features", &features[1]);
    town.pass(Duration::from_hours(8 * 24));
    town.sync().await;
    assert_eq!(
        town.rows(stream("product_features").unwrap()).len(),
        1,
        "nobody told of it"
    );
}

#[tokio::test(start_paused = true)]
async fn ids_that_people_choose_are_found_as_they_are() {
    let town = town(&["plans"]);
    let ids = [
        "Professional+",
        "Pro plan $699/month",
        "735*%24",
        "a?b#c",
        "50% off",
        "é ☃",
    ];
    for id in &ids {
        town.old("plans", None, json!({ "id": id }));
    }
    town.sync().await;
    for id in ids {
        town.change("plans", id, json!({ "metadata": { "revision": "2" } }));
        town.tell("plan.updated", &json!({ "id": id, "object": "plan" }));
    }
    town.later().await;
    for id in ids {
        assert_eq!(
            metadata(town.row("plans", id)),
            json!({ "revision": "2" }),
            "{id}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c41_a_checkout_session_appears_without_an_event_and_is_updated_by_one() {
    let town = town(&["checkout_sessions"]);
    town.sync().await;
    let id = town
        .simulator
        .stripe()
        .make("", "checkout_sessions", None, json!({ "status": "open" }))
        .unwrap();
    town.later().await;
    assert_eq!(
        town.row("checkout_sessions", &id).unwrap()["status"],
        json!("open")
    );
    town.pass(Duration::from_hours(20));
    town.sync().await;
    town.change("checkout_sessions", &id, json!({ "status": "complete" }));
    town.tell(
        "checkout.session.completed",
        &json!({ "id": id, "object": "checkout.session" }),
    );
    town.later().await;
    assert_eq!(
        town.row("checkout_sessions", &id).unwrap()["status"],
        json!("complete")
    );
    assert_eq!(town.requests("GET /v1/checkout/sessions/{id}"), 1);
}

#[tokio::test(start_paused = true)]
async fn c42_a_review_that_is_listed_no_more_stays_as_it_was() {
    let mut town = town(&["reviews"]);
    town.marks = true;
    let [closed, open] = [(); 2].map(|()| town.old("reviews", None, json!({})));
    town.remove("reviews", &closed);
    town.sync().await;
    town.remove("reviews", &open);
    town.later().await;
    let rows = town.rows(stream("reviews").unwrap());
    assert_eq!(
        rows.into_iter()
            .map(|(id, row)| (id, row["_deleted"].clone()))
            .collect::<Vec<_>>(),
        [(open, json!(0))]
    );
}

#[tokio::test(start_paused = true)]
async fn what_belonged_to_a_deleted_customer_goes_with_it() {
    let lists = [
        "customer_cards",
        "bank_accounts",
        "customer_tax_ids",
        "customer_balance_transactions",
        "payment_methods",
    ];
    let town = town(&lists);
    let customers = [
        town.old("customers", None, json!({})),
        town.old("customers", None, json!({})),
    ];
    let mut methods = Vec::new();
    for list in lists {
        let of =
            |customer: &String| town.old(list, Some(customer), json!({ "customer": customer }));
        methods = customers.iter().map(of).collect();
    }
    town.sync().await;
    let kept = |town: &Town| lists.map(|list| town.rows(stream(list).unwrap()).len());
    assert_eq!(kept(&town), [2; 5]);
    town.remove("customers", &customers[0]);
    town.remove("payment_methods", &methods[0]);
    town.tell(
        "customer.deleted",
        &json!({ "id": customers[0], "object": "customer" }),
    );
    town.later().await;
    assert_eq!(kept(&town), [1; 5]);
    let requests = town.simulator.stats().requests;
    town.later().await;
    assert_eq!(
        (kept(&town), town.simulator.stats().requests - requests),
        ([1; 5], 7),
        "nothing is asked for again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_detached_payment_method_stays_without_a_customer() {
    let town = town(&["payment_methods"]);
    let customer = town.old("customers", None, json!({}));
    let method = town.old(
        "payment_methods",
        Some(&customer),
        json!({ "customer": customer }),
    );
    town.sync().await;
    assert_eq!(
        town.row("payment_methods", &method).unwrap()["customer"],
        json!(customer)
    );
    town.change("payment_methods", &method, json!({ "customer": null }));
    town.tell(
        "payment_method.detached",
        &json!({ "id": method, "object": "payment_method", "customer": null }),
    );
    town.later().await;
    let is_kept = |town: &Town| town.row("payment_methods", &method).unwrap()["customer"].is_null();
    assert!(is_kept(&town));
    assert_eq!(town.requests("GET /v1/payment_methods/{id}"), 1);
    town.tell(
        "customer.deleted",
        &json!({ "id": customer, "object": "customer" }),
    );
    town.later().await;
    assert!(is_kept(&town), "it belongs to nobody");
}

#[tokio::test(start_paused = true)]
async fn c49_a_webhook_that_is_delivered_twice_is_applied_once() {
    let town = town(&["invoices"]);
    let id = town.old("invoices", None, json!({}));
    town.sync().await;
    town.change("invoices", &id, json!({ "metadata": { "revision": "2" } }));
    town.tell("invoice.paid", &json!({ "id": id, "object": "invoice" }));
    let webhooks = Webhooks::new(["whsec_new".into()]).unwrap();
    let body = br#"{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{"id":"in_1","object":"invoice"}}}"#;
    let signature =
        "t=1900000000,v1=6655fb8e4c8109b0fbc041344cfc0ecc0c95504aa8ba28667e83eb563c181b07";
    let written = |town: &Town| -> Vec<i64> {
        let database = town.database();
        let mut select = database
            .prepare(
                "SELECT rows FROM _pipeline_commits WHERE rows LIKE '%invoices%' ORDER BY sequence",
            )
            .unwrap();
        let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|rows| {
            serde_json::from_str::<Value>(&rows.unwrap()).unwrap()[0][1]
                .as_i64()
                .unwrap()
        })
        .collect()
    };
    assert_eq!(written(&town), [1]);
    for delivered in [1_900_000_000, 1_900_000_120] {
        let told = webhooks
            .verify(
                signature,
                body,
                DateTime::from_timestamp(delivered, 0).unwrap(),
            )
            .unwrap();
        assert_eq!(
            (&*told.id, &*told.kind, told.account),
            ("evt_1", "invoice.paid", None)
        );
        town.later().await;
        assert_eq!(
            metadata(town.row("invoices", &id)),
            json!({ "revision": "2" })
        );
        assert_eq!(town.rows(stream("invoices").unwrap()).len(), 1);
        assert_eq!(
            written(&town),
            [1, 1],
            "when it was first listed, and when it was paid"
        );
        assert_eq!(town.requests("GET /v1/invoices/{id}"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn all_lines_of_a_deleted_draft_go_with_it_whoever_is_selected() {
    for streams in [
        &["invoices", "invoice_line_items"][..],
        &["invoice_line_items"],
    ] {
        let town = town(streams);
        let drafts = [
            town.old("invoices", None, json!({})),
            town.old("invoices", None, json!({})),
        ];
        for draft in &drafts {
            (0..25).for_each(|_| {
                drop(town.old(
                    "invoice_line_items",
                    Some(draft),
                    json!({ "invoice": draft }),
                ));
            });
        }
        town.sync().await;
        let lines = |town: &Town| town.rows(stream("invoice_line_items").unwrap()).len();
        assert_eq!(lines(&town), 50);
        town.remove("invoices", &drafts[0]);
        town.tell("invoice.deleted", &json!({ "id": drafts[0], "object": "invoice", "lines": { "object": "list", "data": [] } }));
        town.later().await;
        assert_eq!(lines(&town), 25);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_selected_later_starts_nothing_again() {
    let mut town = town(&["customers"]);
    let customer = town.old("customers", None, json!({}));
    town.old("charges", None, json!({}));
    town.sync().await;
    let before = town.requests("GET /v1/customers");
    town = town.only(&["customers", "charges"]);
    town.change(
        "customers",
        &customer,
        json!({ "metadata": { "revision": "2" } }),
    );
    town.tell(
        "customer.updated",
        &json!({ "id": customer, "object": "customer" }),
    );
    town.later().await;
    assert_eq!(
        metadata(town.row("customers", &customer)),
        json!({ "revision": "2" })
    );
    assert_eq!(
        town.requests("GET /v1/customers") - before,
        1,
        "only what is new is listed"
    );
    assert_eq!(town.rows(stream("charges").unwrap()).len(), 1);
}
