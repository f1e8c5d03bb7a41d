//! What belonged to a changed or deleted object goes with it.

use std::time::Duration;

use connector_stripe::tables::stream;
use serde_json::json;

use super::empty_account;
use crate::acceptance::account::SimulatedAccount;

#[tokio::test(start_paused = true)]
async fn entries_that_a_subscription_has_lost_go_whatever_the_event_says_of_them() {
    let simulated = empty_account(&["subscriptions", "subscription_items"]);
    let [id, other] = [(); 2].map(|()| simulated.old("subscriptions", None, json!({})));
    let items: Vec<String> = (0..12)
        .map(|_| {
            simulated.old(
                "subscription_items",
                Some(&id),
                json!({ "subscription": id }),
            )
        })
        .collect();
    simulated.old(
        "subscription_items",
        Some(&other),
        json!({ "subscription": other }),
    );
    simulated.sync().await;
    let kept =
        |simulated: &SimulatedAccount| simulated.rows(stream("subscription_items").unwrap()).len();
    assert_eq!(kept(&simulated), 13);
    // The oldest, which the beginning of the list does not show, and then one that no event names
    // at all.
    for (index, left) in [(0, 12), (5, 11)] {
        simulated.remove("subscription_items", &items[index]);
        simulated.tell(
            "customer.subscription.updated",
            &json!({ "id": id, "object": "subscription" }),
        );
        simulated.later().await;
        assert_eq!(kept(&simulated), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feature_that_a_product_has_lost_goes_with_an_event_of_the_product() {
    let simulated = empty_account(&["products", "product_features"]);
    let product = simulated.old("products", None, json!({}));
    let features = [(); 3].map(|()| simulated.old("product_features", Some(&product), json!({})));
    simulated.sync().await;
    simulated.remove("product_features", &features[0]);
    let before = simulated.requests("GET /v1/products/{product}/features");
    simulated.later().await;
    assert_eq!(
        simulated.requests("GET /v1/products/{product}/features"),
        before,
        "nothing has happened"
    );
    simulated.tell(
        "product.updated",
        &json!({ "id": product, "object": "product" }),
    );
    simulated.later().await;
    assert_eq!(simulated.rows(stream("product_features").unwrap()).len(), 2);
    simulated.remove("product_features", &features[1]);
    simulated.pass(Duration::from_hours(8 * 24));
    simulated.sync().await;
    assert_eq!(
        simulated.rows(stream("product_features").unwrap()).len(),
        1,
        "nobody told of it"
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
    let simulated = empty_account(&lists);
    let customers = [
        simulated.old("customers", None, json!({})),
        simulated.old("customers", None, json!({})),
    ];
    let mut methods = Vec::new();
    for list in lists {
        let of = |customer: &String| {
            simulated.old(list, Some(customer), json!({ "customer": customer }))
        };
        methods = customers.iter().map(of).collect();
    }
    simulated.sync().await;
    let kept = |simulated: &SimulatedAccount| {
        lists.map(|list| simulated.rows(stream(list).unwrap()).len())
    };
    assert_eq!(kept(&simulated), [2; 5]);
    simulated.remove("customers", &customers[0]);
    simulated.remove("payment_methods", &methods[0]);
    simulated.tell(
        "customer.deleted",
        &json!({ "id": customers[0], "object": "customer" }),
    );
    simulated.later().await;
    assert_eq!(kept(&simulated), [1; 5]);
    let requests = simulated.simulator.stats().requests;
    simulated.later().await;
    assert_eq!(
        (
            kept(&simulated),
            simulated.simulator.stats().requests - requests
        ),
        ([1; 5], 7),
        "nothing is asked for again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_detached_payment_method_stays_without_a_customer() {
    let simulated = empty_account(&["payment_methods"]);
    let customer = simulated.old("customers", None, json!({}));
    let method = simulated.old(
        "payment_methods",
        Some(&customer),
        json!({ "customer": customer }),
    );
    simulated.sync().await;
    assert_eq!(
        simulated.row("payment_methods", &method).unwrap()["customer"],
        json!(customer)
    );
    simulated.change("payment_methods", &method, json!({ "customer": null }));
    simulated.tell(
        "payment_method.detached",
        &json!({ "id": method, "object": "payment_method", "customer": null }),
    );
    simulated.later().await;
    let is_kept = |simulated: &SimulatedAccount| {
        simulated.row("payment_methods", &method).unwrap()["customer"].is_null()
    };
    assert!(is_kept(&simulated));
    assert_eq!(simulated.requests("GET /v1/payment_methods/{id}"), 1);
    simulated.tell(
        "customer.deleted",
        &json!({ "id": customer, "object": "customer" }),
    );
    simulated.later().await;
    assert!(is_kept(&simulated), "it belongs to nobody");
}

#[tokio::test(start_paused = true)]
async fn all_lines_of_a_deleted_draft_go_with_it_whoever_is_selected() {
    for streams in [
        &["invoices", "invoice_line_items"][..],
        &["invoice_line_items"],
    ] {
        let simulated = empty_account(streams);
        let drafts = [
            simulated.old("invoices", None, json!({})),
            simulated.old("invoices", None, json!({})),
        ];
        for draft in &drafts {
            (0..25).for_each(|_| {
                drop(simulated.old(
                    "invoice_line_items",
                    Some(draft),
                    json!({ "invoice": draft }),
                ));
            });
        }
        simulated.sync().await;
        let lines = |simulated: &SimulatedAccount| {
            simulated.rows(stream("invoice_line_items").unwrap()).len()
        };
        assert_eq!(lines(&simulated), 50);
        simulated.remove("invoices", &drafts[0]);
        simulated.tell("invoice.deleted", &json!({ "id": drafts[0], "object": "invoice", "lines": { "object": "list", "data": [] } }));
        simulated.later().await;
        assert_eq!(lines(&simulated), 25);
    }
}
