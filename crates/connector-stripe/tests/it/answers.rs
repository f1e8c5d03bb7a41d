//! Stripe as it answers ordinary accounts: what it refuses, and what that does to everything else.

use std::collections::BTreeSet;
use std::time::Duration;

use connector_stripe::tables::streams;
use pipeline_core::ErrorKind;
use pipeline_engine::{Outcome, Selection};
use serde_json::{Value, json};

use self::account::{Account, SimulatedAccount, YESTERDAY, object, outcomes, unavailable};
use crate::fake::refusal;

mod account;
mod units;

const UNRECOGNIZED: &str = "Unrecognized request URL (GET: /v1/treasury/financial_accounts). (Hint: Have you onboarded to Treasury?)";

#[tokio::test(start_paused = true)]
async fn what_stripe_refuses_to_ordinary_accounts_is_unavailable_and_not_a_failure() {
    let grant = json!({ "id": "credgr_1", "object": "billing.credit_grant", "created": YESTERDAY, "customer": "cus_1" });
    let account = Account::default()
        .list("/v1/charges", [object("charge", "ch_1", YESTERDAY)])
        .list("/v1/billing/credit_grants", [grant])
        .list(
            "/v1/billing/credit_balance_transactions",
            [object(
                "billing.credit_balance_transaction",
                "cbtxn_1",
                YESTERDAY,
            )],
        )
        .refuse(
            "/v1/test_helpers/test_clocks",
            400,
            "This endpoint is only available in testmode. Try using your test keys instead.",
        )
        .refuse("/v1/treasury/financial_accounts", 400, UNRECOGNIZED)
        .refuse(
            "/v1/issuing/cards",
            400,
            "Your account is not set up to use Issuing. Please visit the dashboard.",
        )
        .refuse(
            "/v1/forwarding/requests",
            404,
            "Unrecognized request URL (GET: /v1/forwarding/requests).",
        )
        .refuse(
            "/v1/exchange_rates",
            400,
            "Exchange rates are not available for your account.",
        )
        .refuse(
            "/v1/sigma/scheduled_query_runs",
            403,
            "Your account is not enabled for Sigma.",
        )
        .refuse("/v1/climate/orders", 402, "Climate is for those who pay.")
        .refuse("/v1/apple_pay/domains", 302, "");
    let simulated = SimulatedAccount::new(account);
    let summary = simulated.sync(Selection::All).await;
    assert_eq!(summary.failure(), None, "{summary:#?}");
    let mut expected: BTreeSet<&str> = streams()
        .map(|stream| stream.name)
        .filter(|name| name.starts_with("treasury_"))
        .collect();
    expected.extend([
        "issuing_cards",
        "issuing_tokens",
        "forwarding_requests",
        "exchange_rates",
        "sigma_scheduled_query_runs",
    ]);
    expected.extend(["climate_orders", "apple_pay_domains"]);
    assert_eq!(unavailable(&summary), expected);
    assert_eq!(
        (
            simulated.ids("charges"),
            simulated.ids("credit_balance_transactions")
        ),
        (vec!["ch_1".to_owned()], vec!["cbtxn_1".to_owned()])
    );
    // A live key does not even ask for what only the test mode has.
    let urls = simulated.fake.urls();
    assert!(
        !urls.iter().any(|url| url.contains("test_clocks"))
            && !outcomes(&summary).contains_key("test_clocks")
    );
    assert!(
        urls.contains(&"GET /v1/billing/credit_balance_transactions?credit_grant=credgr_1&customer=cus_1&limit=100".to_owned()),
        "{urls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_test_account_is_read_without_a_failure() {
    let simulated = SimulatedAccount {
        key: "rk_test_key",
        ..SimulatedAccount::new(Account::default())
    };
    let summary = simulated.sync(Selection::All).await;
    assert_eq!(
        (summary.failure(), unavailable(&summary)),
        (None, BTreeSet::new())
    );
    assert!(outcomes(&summary).contains_key("test_clocks"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_defect_only_when_the_request_is_malformed() {
    let answers = [
        (
            refusal(400, "", "", "There was a problem."),
            ErrorKind::Refused,
        ),
        (refusal(404, "", "", "Something else."), ErrorKind::Refused),
        (refusal(402, "", "", "Pay first."), ErrorKind::Refused),
        (refusal(422, "", "", "No."), ErrorKind::Refused),
        ((302, String::new()), ErrorKind::Refused),
        ((404, "<html></html>".to_owned()), ErrorKind::Refused),
        (
            (
                200,
                r#"{ "error": { "type": "api_error", "message": "There was a problem." } }"#
                    .to_owned(),
            ),
            ErrorKind::Refused,
        ),
        (
            refusal(
                400,
                "parameter_unknown",
                "created",
                "Received unknown parameter: created",
            ),
            ErrorKind::Unexpected,
        ),
        (
            refusal(
                400,
                "",
                "expand[0]",
                "This property cannot be expanded (data.refunds).",
            ),
            ErrorKind::Unexpected,
        ),
    ];
    for (answer, expected) in answers {
        let mut account = Account::default();
        account
            .refused
            .insert("/v1/charges".to_owned(), answer.clone());
        let summary = SimulatedAccount::new(account).sync_of(&["charges"]).await;
        let Some(Outcome::Failed { error }) = outcomes(&summary).remove("charges") else {
            panic!("{answer:?}: {summary:#?}")
        };
        assert_eq!(error.kind, expected, "{answer:?}");
        let words = serde_json::from_str::<Value>(&answer.1)
            .ok()
            .and_then(|body| Some(body["error"]["message"].as_str()?.to_owned()));
        assert!(
            words.is_none_or(|words| error.message.contains(&words)),
            "{}",
            error.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn payment_methods_are_those_of_customers_and_then_those_that_events_tell_of() {
    let methods = |customer: &str| {
        (0..3).map(move |index| json!({ "id": format!("pm_{customer}{index}"), "object": "payment_method", "customer": customer, "created": YESTERDAY })).collect::<Vec<_>>()
    };
    let account = Account::default()
        .list(
            "/v1/customers",
            ["cus_1", "cus_2"].map(|id| object("customer", id, YESTERDAY)),
        )
        .list("/v1/payment_methods", [])
        .list("/v1/customers/cus_1/payment_methods", methods("cus_1"))
        .list("/v1/customers/cus_2/payment_methods", methods("cus_2"));
    let simulated = SimulatedAccount::new(account);
    assert_eq!(
        simulated.sync_of(&["payment_methods"]).await.failure(),
        None
    );
    assert_eq!(simulated.ids("payment_methods").len(), 6);
    let before = simulated.requests();
    tokio::time::sleep(Duration::from_mins(20)).await;
    simulated.sync_of(&["payment_methods"]).await;
    assert_eq!(
        simulated.requests() - before,
        3,
        "the account, new customers and events: {:?}",
        &simulated.fake.urls()[before..]
    );
    simulated
        .change(
            "/v1/customers/cus_1/payment_methods",
            "payment_method.updated",
            |method| method["type"] = json!("card"),
        )
        .await;
    let before = simulated.requests();
    simulated.sync_of(&["payment_methods"]).await;
    assert_eq!(
        simulated
            .destination
            .column("s", "payment_methods", "type")
            .iter()
            .filter(|kind| *kind == "card")
            .count(),
        3
    );
    let urls = simulated.fake.urls();
    assert_eq!(
        urls[before..]
            .iter()
            .filter(|url| url.contains("GET /v1/payment_methods/pm_cus_1"))
            .count(),
        3,
        "{:?}",
        &urls[before..]
    );
}

#[tokio::test(start_paused = true)]
async fn members_that_a_key_may_not_expand_cost_no_stream() {
    let account =
        Account::default().list("/v1/customers", [object("customer", "cus_1", YESTERDAY)]);
    let simulated = SimulatedAccount::new(account);
    simulated.account.lock().unwrap().no_expansion = true;
    assert_eq!(
        simulated
            .sync_of(&["customers", "subscriptions"])
            .await
            .failure(),
        None
    );
    let said = simulated.notices.0.lock().unwrap().join("\n");
    assert!(
        simulated.ids("customers") == ["cus_1"]
            && said.contains("read without `cash_balance`, `tax`"),
        "{said}"
    );
    // What is fetched by itself is not asked for with them either.
    simulated
        .change("/v1/customers", "customer.updated", |customer| {
            customer["name"] = json!("new");
        })
        .await;
    assert_eq!(
        simulated
            .sync_of(&["customers", "subscriptions"])
            .await
            .failure(),
        None
    );
    assert_eq!(
        simulated.destination.column("s", "customers", "name"),
        ["new"]
    );
}

#[tokio::test(start_paused = true)]
async fn archived_tax_rates_are_read_as_well() {
    let rate = |id: &str, active: bool| json!({ "id": id, "object": "tax_rate", "active": active, "created": YESTERDAY });
    let simulated = SimulatedAccount::new(
        Account::default().list("/v1/tax_rates", [rate("txr_1", true), rate("txr_2", false)]),
    );
    assert_eq!(simulated.sync_of(&["tax_rates"]).await.failure(), None);
    assert_eq!(simulated.ids("tax_rates"), ["txr_1", "txr_2"]);
}

#[tokio::test(start_paused = true)]
async fn the_cost_of_a_first_sync_is_said_before_it_is_spent_and_a_later_one_is_cheap() {
    let account = Account::default()
        .list(
            "/v1/customers",
            (0..100).map(|index| object("customer", &format!("cus_{index}"), YESTERDAY + index)),
        )
        .list(
            "/v1/products",
            (0..100).map(|index| object("product", &format!("prod_{index}"), YESTERDAY + index)),
        )
        .list(
            "/v1/charges",
            (0..20).map(|index| object("charge", &format!("ch_{index}"), YESTERDAY + index)),
        );
    let simulated = SimulatedAccount::new(account);
    assert_eq!(simulated.sync(Selection::All).await.failure(), None);
    let first = simulated.requests();
    let said = simulated.notices.0.lock().unwrap().join("\n");
    assert!(
        said.contains("about 700 requests") && said.contains("about 100 requests"),
        "{said}"
    );
    let lists = simulated
        .fake
        .urls()
        .iter()
        .position(|url| url.contains("/v1/customers/"))
        .unwrap();
    assert!(lists > 0);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(simulated.sync(Selection::All).await.failure(), None);
    let idle = simulated.requests() - first;
    // As the README says: a request for each list, and two for some.
    assert_eq!((first, idle), (904, 98));
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_found_by_a_run_that_did_not_read_it() {
    let transaction = json!({ "id": "txn_1", "object": "balance_transaction", "created": YESTERDAY, "available_on": YESTERDAY + 3 * 86_400, "status": "pending" });
    let simulated =
        SimulatedAccount::new(Account::default().list("/v1/balance_transactions", [transaction]));
    simulated.sync_of(&["balance_transactions"]).await;
    // As after an earlier release, or a run that ended before it could be noted.
    simulated.forget("settling").await;
    for days in [1, 4] {
        tokio::time::sleep(Duration::from_hours(24 * days)).await;
        if days == 4 {
            simulated
                .account
                .lock()
                .unwrap()
                .lists
                .get_mut("/v1/balance_transactions")
                .unwrap()[0]["status"] = json!("available");
        }
        assert_eq!(
            simulated.sync_of(&["balance_transactions"]).await.failure(),
            None
        );
    }
    assert_eq!(
        simulated
            .destination
            .column("s", "balance_transactions", "status"),
        ["available"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_is_not_asked_for_what_settles() {
    let account = Account::default()
        .refuse("/v1/balance_transactions", 400, "No.")
        .list("/v1/payouts", [object("payout", "po_1", YESTERDAY)]);
    let simulated = SimulatedAccount::new(account);
    let summary = simulated.sync(Selection::All).await;
    assert_eq!(
        (summary.failure(), unavailable(&summary)),
        (None, BTreeSet::from(["balance_transactions"])),
        "{summary:#?}"
    );
    assert_eq!(
        simulated
            .fake
            .urls()
            .iter()
            .filter(|url| url.contains("/v1/balance_transactions?created"))
            .count(),
        1
    );
}
