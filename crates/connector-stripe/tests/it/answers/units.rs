//! What cannot be read is named, and holds up nothing else.

use std::time::Duration;

use pipeline_core::ErrorKind;
use serde_json::{Value, json};

use super::account::{Account, SimulatedAccount, YESTERDAY, gaps, object};
use crate::fake::refusal;

#[tokio::test(start_paused = true)]
async fn one_change_that_cannot_be_fetched_holds_up_no_other_and_heals() {
    for status in [400, 500] {
        let account = Account::default()
            .list(
                "/v1/charges",
                (0..5).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
            )
            .list("/v1/customers", [object("customer", "cus_1", YESTERDAY)]);
        let (simulated, streams) = (SimulatedAccount::new(account), ["charges", "customers"]);
        simulated.sync_of(&streams).await;
        simulated.account.lock().unwrap().refused.insert(
            "/v1/charges/ch_2".to_owned(),
            refusal(status, "", "", "There was a problem."),
        );
        simulated
            .change("/v1/charges", "charge.updated", |charge| {
                charge["status"] = json!("succeeded");
            })
            .await;
        simulated
            .change("/v1/customers", "customer.updated", |customer| {
                customer["name"] = json!("new");
            })
            .await;
        let statuses =
            |simulated: &SimulatedAccount| simulated.destination.column("s", "charges", "status");
        for _ in 0..2 {
            let summary = simulated.sync_of(&streams).await;
            assert_eq!(gaps(&summary), ["changes charge ch_2"], "{status}");
            assert_eq!(
                statuses(&simulated),
                ["succeeded", "succeeded", "", "succeeded", "succeeded"]
            );
            assert_eq!(
                simulated.destination.column("s", "customers", "name"),
                ["new"]
            );
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
        simulated.account.lock().unwrap().refused.clear();
        let before = simulated.requests();
        let summary = simulated.sync_of(&streams).await;
        assert_eq!((gaps(&summary), summary.failure()), (Vec::new(), None));
        assert_eq!(statuses(&simulated), ["succeeded"; 5]);
        // The account, two lists, events, and what was missing.
        assert_eq!(
            simulated.requests() - before,
            5,
            "{:?}",
            &simulated.fake.urls()[before..]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_fetched_for_long_comes_with_its_list() {
    let account = Account::default()
        .list(
            "/v1/charges",
            (0..3).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
        )
        .refuse("/v1/charges/ch_1", 400, "There was a problem.");
    let simulated = SimulatedAccount::new(account);
    simulated.sync_of(&["charges"]).await;
    simulated
        .change("/v1/charges", "charge.updated", |charge| {
            charge["status"] = json!("succeeded");
        })
        .await;
    let mut syncs = 0;
    while simulated.destination.column("s", "charges", "status")[1] != "succeeded" {
        syncs += 1;
        assert!(syncs < 8, "it is never read");
        simulated.sync_of(&["charges"]).await;
        tokio::time::sleep(Duration::from_hours(3)).await;
    }
    let summary = simulated.sync_of(&["charges"]).await;
    assert_eq!((gaps(&summary), summary.failure()), (Vec::new(), None));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_taken_for_objects_that_cannot_be_fetched() {
    let account = Account::default().list(
        "/v1/charges",
        (0..9).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
    );
    let simulated = SimulatedAccount::new(account);
    simulated.sync_of(&["charges"]).await;
    simulated
        .change("/v1/charges", "charge.updated", |charge| {
            charge["status"] = json!("succeeded");
        })
        .await;
    for index in 0..9 {
        simulated
            .account
            .lock()
            .unwrap()
            .refused
            .insert(format!("/v1/charges/ch_{index}"), (503, String::new()));
    }
    let summary = simulated.sync_of(&["charges"]).await;
    assert_eq!(
        (gaps(&summary), summary.failure()),
        (Vec::new(), Some(ErrorKind::Unavailable))
    );
    simulated.account.lock().unwrap().refused.clear();
    simulated.sync_of(&["charges"]).await;
    assert_eq!(
        simulated.destination.column("s", "charges", "status"),
        ["succeeded"; 9]
    );
}

#[tokio::test(start_paused = true)]
async fn one_parent_whose_list_cannot_be_read_is_named_and_holds_up_no_other() {
    let mut account = Account::default().list(
        "/v1/customers",
        (0..5).map(|index| object("customer", &format!("cus_{index}"), YESTERDAY + index)),
    );
    for index in 0..5 {
        let tax_id = json!({ "id": format!("txi_{index}"), "object": "tax_id", "customer": format!("cus_{index}"), "created": YESTERDAY });
        account = account.list(&format!("/v1/customers/cus_{index}/tax_ids"), [tax_id]);
    }
    let simulated = SimulatedAccount::new(account.refuse("/v1/customers/cus_2/tax_ids", 400, ""));
    let summary = simulated.sync_of(&["customer_tax_ids"]).await;
    assert_eq!(gaps(&summary), ["customer_tax_ids cus_2"]);
    assert_eq!(
        simulated.ids("customer_tax_ids"),
        ["txi_0", "txi_1", "txi_3", "txi_4"]
    );
    simulated.account.lock().unwrap().refused.clear();
    let summary = simulated.sync_of(&["customer_tax_ids"]).await;
    assert_eq!(
        (
            gaps(&summary).len(),
            simulated.ids("customer_tax_ids").len()
        ),
        (0, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn one_record_whose_list_cannot_be_completed_is_named_and_holds_up_no_other() {
    let lines = |more| json!({ "object": "list", "has_more": more, "data": [{ "id": "il_1", "object": "line_item" }] });
    let invoice = |index: i64| json!({ "id": format!("in_{index}"), "object": "invoice", "created": YESTERDAY + index, "lines": lines(index == 1) });
    let account = Account::default()
        .list("/v1/invoices", (0..3).map(invoice))
        .refuse("/v1/invoices/in_1/lines", 400, "Too many lines.");
    let simulated = SimulatedAccount::new(account.list(
        "/v1/invoices/in_1/lines",
        [
            object("line_item", "il_1", 2),
            object("line_item", "il_2", 1),
        ],
    ));
    let streams = ["invoices", "invoice_line_items"];
    let summary = simulated.sync_of(&streams).await;
    assert_eq!(
        (gaps(&summary), simulated.ids("invoices").len()),
        (vec!["invoices in_1".to_owned()], 3),
        "{summary:#?}"
    );
    simulated.account.lock().unwrap().refused.clear();
    let summary = simulated.sync_of(&streams).await;
    assert_eq!(
        (gaps(&summary), simulated.ids("invoice_line_items").len()),
        (Vec::new(), 4)
    );
}

#[tokio::test(start_paused = true)]
async fn c16_lines_that_do_not_add_up_are_named_and_hold_up_no_other() {
    let lines = |more, total: usize| json!({ "has_more": more, "total_count": total, "data": [{ "id": "il_1", "object": "line_item" }] });
    let invoice = |index: i64, lines: Value| json!({ "id": format!("in_{index}"), "object": "invoice", "created": YESTERDAY + index, "lines": lines });
    let account = Account::default()
        .list(
            "/v1/invoices",
            [
                invoice(1, lines(false, 1)),
                invoice(2, lines(true, 3)),
                invoice(3, lines(false, 1)),
            ],
        )
        .list(
            "/v1/invoices/in_2/lines",
            [
                object("line_item", "il_1", 2),
                object("line_item", "il_2", 1),
            ],
        );
    let simulated = SimulatedAccount::new(account);
    let summary = simulated.sync_of(&["invoices", "invoice_line_items"]).await;
    assert_eq!(gaps(&summary), ["invoices in_2"]);
    assert!(
        summary.endpoints.iter().any(|endpoint| endpoint
            .gaps
            .iter()
            .any(|gap| gap.reason.contains("2 of 3"))),
        "{summary:#?}"
    );
    assert_eq!(simulated.ids("invoices").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_invoice_with_odd_lines_fails_no_other() {
    let odd = [
        json!({}),
        json!(null),
        json!([]),
        json!({ "data": null }),
        json!({ "data": [] }),
        json!({ "data": 7, "has_more": true }),
        json!("x"),
    ];
    let invoice = |(index, lines): (i64, Value)| json!({ "id": format!("in_{index}"), "object": "invoice", "created": YESTERDAY + index, "lines": lines });
    let whole = json!({ "object": "list", "has_more": false, "data": [{ "id": "il_1", "object": "line_item" }] });
    let mut invoices: Vec<Value> = (0..)
        .zip(odd.into_iter().chain([whole]))
        .map(invoice)
        .collect();
    invoices.push(object("invoice", "in_without", YESTERDAY));
    let simulated = SimulatedAccount::new(Account::default().list("/v1/invoices", invoices));
    let summary = simulated.sync_of(&["invoices", "invoice_line_items"]).await;
    assert_eq!(
        (
            simulated.ids("invoices").len(),
            simulated.ids("invoice_line_items").len()
        ),
        (9, 1),
        "{summary:#?}"
    );
}
