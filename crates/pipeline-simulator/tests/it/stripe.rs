use pipeline_simulator::{Limits, Simulation, StripeWorld};
use serde_json::json;

use crate::{Api, ids, send, sorted};

/// Walks a list to its end.
async fn walk(api: &Api, path: &str) -> Vec<serde_json::Value> {
    let mut records: Vec<serde_json::Value> = Vec::new();
    loop {
        let mut page = format!(
            "{path}{}limit=100",
            if path.contains('?') { '&' } else { '?' }
        );
        if let Some(last) = records.last() {
            page = format!("{page}&starting_after={}", last["id"].as_str().unwrap());
        }
        let answer = api.stripe(&page).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.text());
        let body = answer.json();
        assert_eq!(body["object"], "list");
        records.extend(body["data"].as_array().unwrap().iter().cloned());
        if body["has_more"] == false {
            return records;
        }
        assert_eq!(body["data"].as_array().unwrap().len(), 100);
    }
}

fn record_ids(records: &[serde_json::Value]) -> Vec<String> {
    ids(&json!(records), "id")
}

#[tokio::test]
async fn every_list_walks_to_exactly_the_truth() {
    let api = Api::start(Simulation::default()).await;
    let spec = include_str!("../../data/stripe.json");
    let streams: Vec<serde_json::Value> = serde_json::from_str(spec).unwrap();
    assert_eq!(streams.len(), 37, "36 lists and the account");
    for stream in streams.iter().filter(|stream| stream["name"] != "account") {
        let (name, path) = (
            stream["name"].as_str().unwrap(),
            stream["path"].as_str().unwrap(),
        );
        let all = if name == "subscriptions" {
            format!("{path}?status=all")
        } else {
            path.to_owned()
        };
        let records = walk(&api, &all).await;
        let times: Vec<i64> = records
            .iter()
            .map(|r| {
                r.get("created")
                    .or(r.get("date"))
                    .unwrap()
                    .as_i64()
                    .unwrap()
            })
            .collect();
        assert!(
            times.is_sorted_by(|newer, older| newer >= older),
            "{name} is newest first"
        );
        let truth = api.simulator.truth();
        assert_eq!(sorted(record_ids(&records)), truth.ids(name), "{name}");
        let first = records.first().unwrap();
        assert_eq!(
            truth.record(name, first["id"].as_str().unwrap()).as_ref(),
            Some(first)
        );
    }
}

#[tokio::test]
async fn a_charge_looks_like_a_charge() {
    let api = Api::start(Simulation::default()).await;
    let page = api.stripe("/v1/charges?limit=100").await;
    let charges = page.json();
    let size = page.body.len() / 100;
    assert!((3_600..3_800).contains(&size), "{size} bytes a charge");
    assert!(page.text().starts_with(
        "{\n  \"object\": \"list\",\n  \"url\": \"/v1/charges\",\n  \"has_more\": true,\n  \"data\": [\n    {\n      \"id\": \"ch_"
    ));
    assert!(page.text().ends_with("\n    }\n  ]\n}\n"));
    for charge in charges["data"].as_array().unwrap() {
        assert_eq!(
            charge["amount"],
            charge["payment_method_details"]["card"]["amount_authorized"]
        );
        assert_eq!(charge["paid"] == true, charge["status"] == "succeeded");
        assert_eq!(charge["paid"] == true, charge["failure_code"].is_null());
        assert_eq!(charge["livemode"], false);
        // What a charge says of its customer is what the customer says of itself.
        let customer = api
            .simulator
            .truth()
            .record("customers", charge["customer"].as_str().unwrap())
            .unwrap();
        assert_eq!(charge["billing_details"]["email"], customer["email"]);
    }
    let id = charges["data"][0]["id"].as_str().unwrap();
    let one = api.stripe(&format!("/v1/charges/{id}")).await;
    assert_eq!(one.json(), charges["data"][0]);
    assert!(one.text().starts_with("{\n  \"id\""));
    let none = api.stripe("/v1/charges/ch_nope").await;
    assert_eq!(
        (none.status.as_u16(), &none.json()["error"]["code"]),
        (404, &json!("resource_missing"))
    );
}

#[tokio::test]
async fn created_bounds_are_exact() {
    let stripe = StripeWorld {
        recent_share: 0.9,
        ..StripeWorld::default()
    };
    let api = Api::start(Simulation {
        stripe,
        ..Simulation::default()
    })
    .await;
    let all = walk(&api, "/v1/charges").await;
    let created = |record: &serde_json::Value| record["created"].as_i64().unwrap();
    let (low, high) = (created(&all[1500]), created(&all[400]));
    let truth = api.simulator.truth();
    for (query, range) in [
        (
            format!("created%5Bgte%5D={low}&created%5Blt%5D={high}"),
            low..high,
        ),
        (
            format!("created[gt]={low}&created[lte]={high}"),
            low + 1..high + 1,
        ),
        (format!("created={high}"), high..high + 1),
        (format!("created[lt]={low}"), i64::MIN..low),
    ] {
        let found = sorted(record_ids(
            &walk(&api, &format!("/v1/charges?{query}")).await,
        ));
        assert_eq!(found, truth.ids_between("charges", range), "{query}");
    }
    // Some second holds more than a page.
    let mut seconds = std::collections::HashMap::<i64, u32>::new();
    for charge in &all {
        *seconds.entry(created(charge)).or_default() += 1;
    }
    assert!(seconds.values().any(|count| *count > 100), "no hot second");
    // Nine tenths of the charges lie in the last twentieth of the time.
    let recent = truth
        .ids_between("charges", 1_793_491_200 - 730 * 86_400 / 20..i64::MAX)
        .len();
    assert!((1_700..=1_900).contains(&recent), "{recent}");
}

#[tokio::test]
async fn cursors_go_both_ways() {
    let api = Api::start(Simulation::default()).await;
    let first = api.stripe("/v1/customers?limit=5").await.json();
    let first = ids(&first["data"], "id");
    let second = api
        .stripe(&format!(
            "/v1/customers?limit=5&starting_after={}",
            first[4]
        ))
        .await
        .json();
    let second = ids(&second["data"], "id");
    let back = api
        .stripe(&format!(
            "/v1/customers?limit=5&ending_before={}",
            second[0]
        ))
        .await
        .json();
    assert_eq!(
        (ids(&back["data"], "id"), &back["has_more"]),
        (first, &json!(false))
    );
    assert_eq!(
        api.stripe("/v1/customers").await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
}

#[tokio::test]
async fn filters_and_expansion() {
    let api = Api::start(Simulation::default()).await;
    let all = walk(&api, "/v1/subscriptions?status=all").await;
    let shown = walk(&api, "/v1/subscriptions").await;
    let kept: Vec<_> = all
        .iter()
        .filter(|subscription| subscription["status"] != "canceled")
        .cloned()
        .collect();
    assert!(shown == kept && kept.len() < all.len());
    let active = walk(&api, "/v1/prices?active=true").await;
    let inactive = walk(&api, "/v1/prices?active=false").await;
    assert_eq!(active.len() + inactive.len(), 120);
    assert!(!inactive.is_empty());
    let events = walk(
        &api,
        "/v1/events?types[]=charge.succeeded&types[]=charge.captured",
    )
    .await;
    assert!(!events.is_empty() && events.iter().all(|event| event["type"] != "charge.updated"));
    let charge = &events[0]["data"]["object"];
    assert_eq!(
        api.simulator
            .truth()
            .record("charges", charge["id"].as_str().unwrap())
            .as_ref(),
        Some(charge)
    );
    let expanded = api
        .stripe("/v1/charges?expand[]=data.customer&expand[]=data.refunds&limit=1")
        .await
        .json();
    assert_eq!(expanded["data"][0]["customer"]["object"], "customer");
    assert_eq!(expanded["data"][0]["refunds"]["object"], "list");
}

#[tokio::test]
async fn refusals() {
    let stripe = StripeWorld {
        forbidden: vec!["invoices".into()],
        not_enabled: vec!["issuing_cards".into()],
        ..StripeWorld::default()
    };
    let api = Api::start(Simulation {
        stripe,
        ..Simulation::default()
    })
    .await;
    for (path, status, code, param) in [
        (
            "/v1/charges?colour=red",
            400,
            json!("parameter_unknown"),
            json!("colour"),
        ),
        (
            "/v1/charges?starting_after=ch_gone",
            400,
            json!("resource_missing"),
            json!("starting_after"),
        ),
        (
            "/v1/charges?limit=101",
            400,
            json!("parameter_invalid_integer"),
            json!("limit"),
        ),
        (
            "/v1/charges?created[gte]=noon",
            400,
            json!("parameter_invalid_integer"),
            json!("created[gte]"),
        ),
        (
            "/v1/charges?expand[]=data.amount",
            400,
            json!(null),
            json!("expand"),
        ),
        (
            "/v1/invoices",
            403,
            json!("more_permissions_required"),
            json!(null),
        ),
        ("/v1/issuing/cards", 400, json!(null), json!(null)),
        ("/v1/sandwiches", 404, json!(null), json!(null)),
    ] {
        let answer = api.stripe(path).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status.as_u16(), &error["code"], &error["param"]),
            (status, &code, &param),
            "{path}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert!(answer.header("request-id").unwrap().starts_with("req_"));
    }
    assert!(
        api.stripe("/v1/issuing/cards")
            .await
            .text()
            .contains("not set up to use Issuing")
    );
    assert!(
        api.stripe("/v1/invoices")
            .await
            .text()
            .contains("rak_invoice_read")
    );
    for key in ["", "sk_test_wrong", "sk_live_sim"] {
        assert_eq!(
            send(api.get("/v1/charges").bearer_auth(key)).await.status,
            401,
            "{key}"
        );
    }
    let basic = send(
        api.get("/v1/charges")
            .basic_auth("rk_test_sim", None::<&str>)
            .header("stripe-version", "x"),
    )
    .await;
    assert_eq!(
        (basic.status.as_u16(), basic.header("stripe-version")),
        (200, Some("x"))
    );
    assert_eq!(api.stripe("/v1/account").await.json()["object"], "account");
}

#[tokio::test]
async fn a_cursor_that_the_filter_leaves_out_is_missing() {
    let api = Api::start(Simulation::default()).await;
    let all = walk(&api, "/v1/subscriptions?status=all").await;
    let canceled = all
        .iter()
        .find(|subscription| subscription["status"] == "canceled")
        .unwrap();
    let path = format!(
        "/v1/subscriptions?starting_after={}",
        canceled["id"].as_str().unwrap()
    );
    let answer = api.stripe(&path).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (400, &json!("resource_missing"))
    );
}

#[tokio::test]
async fn limits_name_their_reason() {
    let limits = Limits {
        stripe_operation: Some(5),
        stripe_global: Some(8),
        ..Limits::default()
    };
    let api = Api::start(Simulation {
        limits,
        ..Simulation::default()
    })
    .await;
    let mut reasons = Vec::new();
    for path in ["/v1/charges"; 6].into_iter().chain(["/v1/customers"; 5]) {
        let answer = api.stripe(&format!("{path}?limit=1")).await;
        if answer.status == 429 {
            assert_eq!(answer.json()["error"]["code"], "rate_limit");
            reasons.push(
                answer
                    .header("stripe-rate-limited-reason")
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    assert_eq!(reasons.first().map(String::as_str), Some("endpoint-rate"));
    assert_eq!(reasons.last().map(String::as_str), Some("global-rate"));
    let stats = api.simulator.stats();
    assert_eq!(stats.requests, 11);
    assert_eq!(stats.rejected.values().sum::<u64>(), reasons.len() as u64);
    let charges = &stats.operations["GET /v1/charges"];
    assert_eq!((charges.accepted.len(), charges.rejected.len()), (5, 1));
    assert_eq!(charges.per_second().iter().sum::<u64>(), 5);
}

#[tokio::test]
async fn a_million_charges_cost_nothing() {
    let stripe = StripeWorld {
        charges: 1_000_000,
        ..StripeWorld::default()
    };
    let api = Api::start(Simulation {
        stripe,
        ..Simulation::default()
    })
    .await;
    let newest = api.stripe("/v1/charges?limit=1").await.json();
    let created = newest["data"][0]["created"].as_i64().unwrap();
    let middle = api
        .stripe(&format!(
            "/v1/charges?limit=100&created[lt]={}",
            created - 86_400 * 300
        ))
        .await;
    assert_eq!(middle.json()["data"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn new_records_appear_when_time_moves_on() {
    let end = Simulation::default().until;
    let api = Api::start(Simulation {
        shown_until: Some(end - 86_400 * 20),
        ..Simulation::default()
    })
    .await;
    let before = record_ids(&walk(&api, "/v1/charges").await);
    assert_eq!(sorted(before.clone()), api.simulator.truth().ids("charges"));
    let date = api
        .stripe("/v1/account")
        .await
        .header("date")
        .unwrap()
        .to_owned();
    assert!(date.starts_with("Mon, 12 Oct 2026 00:02:"), "{date}");
    api.simulator.show_until(end);
    let after = record_ids(&walk(&api, "/v1/charges").await);
    assert_eq!(after.len(), 2_000);
    assert!(after.ends_with(&before) && after.len() > before.len());
}
