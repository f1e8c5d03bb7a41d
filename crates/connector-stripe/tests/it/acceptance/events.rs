//! The feed of changes, case by case: what happens to one object, and what is stored and requested
//! because of it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use connector_stripe::tables::stream;
use connector_stripe::webhook::Webhooks;
use pipeline_simulator::StripeBook;
use serde_json::{Value, json};

use super::account::SimulatedAccount;

mod children;
mod objects;

/// An account without anything, of which these streams are read.
pub(crate) fn empty_account(streams: &[&str]) -> SimulatedAccount {
    SimulatedAccount::new(StripeBook {
        objects: 0,
        ..StripeBook::default()
    })
    .only(streams)
}

impl SimulatedAccount {
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
async fn c26_events_are_read_in_one_pass_for_all_streams() {
    let simulated = empty_account(&[
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
    let charge = simulated.old("charges", None, json!({}));
    simulated.sync().await;
    for _ in 0..250 {
        simulated.tell(
            "charge.updated",
            &json!({ "id": charge, "object": "charge" }),
        );
    }
    simulated.later().await;
    assert_eq!(
        (
            simulated.requests("GET /v1/events"),
            simulated.requests("GET /v1/charges/{id}")
        ),
        (3, 1)
    );
    simulated.later().await;
    assert_eq!(
        (
            simulated.requests("GET /v1/events"),
            simulated.requests("GET /v1/charges/{id}")
        ),
        (6, 1),
        "known events are not followed again"
    );
}

#[tokio::test(start_paused = true)]
async fn c27_c28_a_state_older_than_the_events_leads_to_the_lists_and_to_no_gap() {
    for hours in [31 * 24, 29 * 24 + 12] {
        let simulated = empty_account(&["customers", "coupons"]);
        let (kept, lost) = (
            simulated.old("customers", None, json!({})),
            simulated.old("customers", None, json!({})),
        );
        simulated.sync().await;
        simulated.remove("customers", &lost);
        simulated.change(
            "customers",
            &kept,
            json!({ "metadata": { "revision": "2" } }),
        );
        simulated.pass(Duration::from_hours(hours));
        let before = simulated.requests("GET /v1/customers");
        simulated.sync().await;
        assert_eq!(
            simulated.row("customers", &lost),
            None,
            "vanished while nobody listened"
        );
        assert_eq!(
            metadata(simulated.row("customers", &kept)),
            json!({ "revision": "2" })
        );
        assert_eq!(
            (
                simulated.requests("GET /v1/events"),
                simulated.requests("GET /v1/customers") - before
            ),
            (0, 1)
        );
        simulated.change(
            "customers",
            &kept,
            json!({ "metadata": { "revision": "3" } }),
        );
        simulated.tell(
            "customer.updated",
            &json!({ "id": kept, "object": "customer" }),
        );
        simulated.later().await;
        assert_eq!(
            metadata(simulated.row("customers", &kept)),
            json!({ "revision": "3" }),
            "the feed goes on"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c29_an_event_that_shows_late_is_found_and_no_event_is_followed_twice() {
    let simulated = empty_account(&["customers"]);
    let id = simulated.old("customers", None, json!({}));
    simulated.sync().await;
    simulated.later().await;
    simulated.change("customers", &id, json!({ "metadata": { "revision": "2" } }));
    simulated.simulator.stripe().tell(
        "",
        "customer.updated",
        json!({ "id": id, "object": "customer" }),
        100,
    );
    simulated.later().await;
    assert_eq!(
        metadata(simulated.row("customers", &id)),
        json!({ "revision": "2" })
    );
    simulated.later().await;
    assert_eq!(simulated.requests("GET /v1/customers/{id}"), 1);
}

#[tokio::test(start_paused = true)]
async fn c05_what_is_made_during_the_walk_is_in_the_next_sync() {
    let simulated = empty_account(&["charges"]);
    for _ in 0..250 {
        simulated.old("charges", None, json!({}));
    }
    simulated.pass(Duration::from_mins(2));
    let new = simulated
        .simulator
        .stripe()
        .make("", "charges", None, json!({}))
        .unwrap();
    simulated.sync().await;
    assert_eq!(
        simulated.row("charges", &new),
        None,
        "it is younger than the lag"
    );
    simulated.later().await;
    assert!(simulated.row("charges", &new).is_some());
}

#[tokio::test(start_paused = true)]
async fn c07_a_second_with_many_objects_is_read_page_by_page() {
    let simulated = empty_account(&["charges"]);
    for _ in 0..350 {
        simulated.old("charges", None, json!({}));
    }
    simulated.sync().await;
    assert_eq!(simulated.rows(stream("charges").unwrap()).len(), 350);
    // Four pages, one question for the time, and the rest of the account's life, which nobody knows
    // to be empty.
    assert!(
        (4..=8).contains(&simulated.requests("GET /v1/charges")),
        "{}",
        simulated.requests("GET /v1/charges")
    );
}

#[tokio::test(start_paused = true)]
async fn c40_a_transaction_is_read_again_when_it_is_available_however_late() {
    let simulated = empty_account(&["balance_transactions"]);
    let now = simulated.simulator.stripe().now();
    for days in [2, 14, 30] {
        let members = json!({ "created": now - 3_600 * days, "available_on": now + 86_400 * days, "status": "pending" });
        simulated
            .simulator
            .stripe()
            .make("", "balance_transactions", None, members)
            .unwrap();
    }
    simulated.sync().await;
    let of = |id: &str| {
        simulated.row("balance_transactions", id).unwrap()["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let all: Vec<String> = simulated
        .rows(stream("balance_transactions").unwrap())
        .into_keys()
        .collect();
    for day in 1..=32 {
        simulated.pass(Duration::from_hours(24));
        for record in simulated
            .simulator
            .stripe()
            .records("", "balance_transactions")
        {
            let is_available =
                record["available_on"].as_i64().unwrap() <= simulated.simulator.stripe().now();
            let status = if is_available { "available" } else { "pending" };
            simulated.change(
                "balance_transactions",
                record["id"].as_str().unwrap(),
                json!({ "status": status }),
            );
        }
        let before = simulated.requests("GET /v1/balance_transactions");
        simulated.sync().await;
        let asked = simulated.requests("GET /v1/balance_transactions") - before;
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
    let simulated = empty_account(&["payouts"]);
    let now = simulated.simulator.stripe().now();
    let trace = |status: &str| json!({ "status": status, "value": null });
    let members = json!({ "created": now - 86_400, "arrival_date": now - 3_600, "trace_id": trace("pending") });
    let id = simulated
        .simulator
        .stripe()
        .make("", "payouts", None, members)
        .unwrap();
    simulated.sync().await;
    simulated.pass(Duration::from_hours(9 * 24));
    simulated.change(
        "payouts",
        &id,
        json!({ "trace_id": { "status": "supported", "value": "T1" } }),
    );
    simulated.sync().await;
    assert!(
        simulated.row("payouts", &id).unwrap()["trace_id"]
            .as_str()
            .unwrap()
            .contains("T1")
    );
    let before = simulated.requests("GET /v1/payouts");
    simulated.pass(Duration::from_hours(48));
    simulated.sync().await;
    assert_eq!(
        simulated.requests("GET /v1/payouts") - before,
        1,
        "it is final"
    );
}

#[tokio::test(start_paused = true)]
async fn c41_a_checkout_session_appears_without_an_event_and_is_updated_by_one() {
    let simulated = empty_account(&["checkout_sessions"]);
    simulated.sync().await;
    let id = simulated
        .simulator
        .stripe()
        .make("", "checkout_sessions", None, json!({ "status": "open" }))
        .unwrap();
    simulated.later().await;
    assert_eq!(
        simulated.row("checkout_sessions", &id).unwrap()["status"],
        json!("open")
    );
    simulated.pass(Duration::from_hours(20));
    simulated.sync().await;
    simulated.change("checkout_sessions", &id, json!({ "status": "complete" }));
    simulated.tell(
        "checkout.session.completed",
        &json!({ "id": id, "object": "checkout.session" }),
    );
    simulated.later().await;
    assert_eq!(
        simulated.row("checkout_sessions", &id).unwrap()["status"],
        json!("complete")
    );
    assert_eq!(simulated.requests("GET /v1/checkout/sessions/{id}"), 1);
}

#[tokio::test(start_paused = true)]
async fn c42_a_review_that_is_listed_no_more_stays_as_it_was() {
    let mut simulated = empty_account(&["reviews"]);
    simulated.marks = true;
    let [closed, open] = [(); 2].map(|()| simulated.old("reviews", None, json!({})));
    simulated.remove("reviews", &closed);
    simulated.sync().await;
    simulated.remove("reviews", &open);
    simulated.later().await;
    let rows = simulated.rows(stream("reviews").unwrap());
    assert_eq!(
        rows.into_iter()
            .map(|(id, row)| (id, row["_deleted"].clone()))
            .collect::<Vec<_>>(),
        [(open, json!(0))]
    );
}

#[tokio::test(start_paused = true)]
async fn c49_a_webhook_that_is_delivered_twice_is_applied_once() {
    let simulated = empty_account(&["invoices"]);
    let id = simulated.old("invoices", None, json!({}));
    simulated.sync().await;
    simulated.change("invoices", &id, json!({ "metadata": { "revision": "2" } }));
    simulated.tell("invoice.paid", &json!({ "id": id, "object": "invoice" }));
    let webhooks = Webhooks::new(["whsec_new".into()]).unwrap();
    let body = br#"{"id":"evt_1","object":"event","type":"invoice.paid","data":{"object":{"id":"in_1","object":"invoice"}}}"#;
    let signature =
        "t=1900000000,v1=6655fb8e4c8109b0fbc041344cfc0ecc0c95504aa8ba28667e83eb563c181b07";
    let written = |simulated: &SimulatedAccount| -> Vec<i64> {
        let database = simulated.database();
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
    assert_eq!(written(&simulated), [1]);
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
        simulated.later().await;
        assert_eq!(
            metadata(simulated.row("invoices", &id)),
            json!({ "revision": "2" })
        );
        assert_eq!(simulated.rows(stream("invoices").unwrap()).len(), 1);
        assert_eq!(
            written(&simulated),
            [1, 1],
            "when it was first listed, and when it was paid"
        );
        assert_eq!(simulated.requests("GET /v1/invoices/{id}"), 1);
    }
}
