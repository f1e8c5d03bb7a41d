//! Several accounts in one source: whom requests are for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use connector_stripe::{Accounts, StripeConfig};
use futures::TryStreamExt;
use pipeline_core::http::Request;
use pipeline_core::slice::TimeRange;
use pipeline_core::state::EndpointState;
use pipeline_core::{
    Availability, Connector, Endpoint, Error, ErrorKind, Plan, Session, Skipped, Unread,
};

use crate::fake::{Fake, Reply, page, param, refusal};

fn config(accounts: Accounts) -> StripeConfig {
    let mut config = StripeConfig::new("rk_test_key");
    config.accounts = Some(accounts);
    config
}

fn named(ids: &[&str]) -> Accounts {
    Accounts::Named(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn account(request: &Request) -> &str {
    request
        .headers
        .get("stripe-account")
        .map_or("", |value| value.to_str().unwrap())
}

/// A platform with three connected accounts, listed two at a time, each with customers and lists of
/// theirs.
fn platform(request: &Request) -> Reply {
    match request.url.path() {
        "/v1/account" if account(request) == "acct_9" => refusal(
            403,
            "account_invalid",
            "",
            "The provided key does not have access to account 'acct_9'.",
        )
        .into(),
        "/v1/account" => (200, r#"{"id":"acct_own","object":"account"}"#.to_owned()).into(),
        "/v1/accounts" if param(request, "starting_after").is_none() => {
            page(&["acct_1", "acct_2"], true).into()
        }
        "/v1/accounts" => page(&["acct_3"], false).into(),
        path if path.ends_with("/balance_transactions") => {
            page(&[format!("cbtxn_{}", account(request))], false).into()
        }
        _ => page(&[format!("x_{}", account(request))], false).into(),
    }
}

/// Reads an endpoint as a first sync does. Gives the ids.
async fn read(stripe: &dyn Session, endpoint: &Endpoint) -> Result<Vec<String>, Error> {
    let slices = endpoint.slicer().plan(
        &EndpointState::default(),
        TimeRange::all(),
        stripe.client().now(),
    );
    let mut ids = Vec::new();
    for slice in slices {
        let mut pages = stripe.read(endpoint, slice);
        while let Some(page) = pages.try_next().await? {
            ids.extend(
                page.records
                    .iter()
                    .flatten()
                    .filter_map(|record| record.scalar("id")),
            );
        }
    }
    Ok(ids)
}

#[tokio::test(start_paused = true)]
async fn c43_every_account_of_every_page_is_read_with_its_own_header() {
    let fake = Fake::new(platform);
    let stripe = Arc::new(fake.connect(config(Accounts::All)));
    let run = stripe
        .open(&["charges", "customer_balance_transactions", "accounts"])
        .await
        .unwrap();
    assert!(run.plan().skipped.is_empty());
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for endpoint in &run.plan().endpoints {
        let before = fake.sent.lock().unwrap().len();
        let ids = read(&*run, endpoint).await.unwrap();
        let of = &endpoint.account().unwrap().id;
        let expected = if **of == *"acct_own" { "" } else { of };
        let sent = fake.sent.lock().unwrap();
        assert!(
            sent[before..]
                .iter()
                .all(|request| account(request) == expected),
            "{of}: lists of objects are theirs as well"
        );
        found.insert(endpoint.id("s").endpoint, ids);
    }
    let found: Vec<String> = found
        .into_iter()
        .map(|(endpoint, ids)| format!("{endpoint}: {}", ids.join(" ")))
        .collect();
    let expected = [
        "accounts@acct_own: acct_1 acct_2 acct_3",
        "charges@acct_1: x_acct_1",
        "charges@acct_2: x_acct_2",
        "charges@acct_3: x_acct_3",
        "charges@acct_own: x_",
        "customer_balance_transactions@acct_1: cbtxn_acct_1",
        "customer_balance_transactions@acct_2: cbtxn_acct_2",
        "customer_balance_transactions@acct_3: cbtxn_acct_3",
        "customer_balance_transactions@acct_own: cbtxn_",
    ];
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn an_organization_key_names_the_way_to_the_account() {
    let fake = Fake::new(platform);
    let mut config = StripeConfig::new("sk_org_live_key");
    config.accounts = Some(named(&["acct_1"]));
    config.account = Some("acct_platform".to_owned());
    let run = Arc::new(fake.connect(config))
        .open(&["charges"])
        .await
        .unwrap();
    for endpoint in &run.plan().endpoints {
        read(&*run, endpoint).await.unwrap();
    }
    let sent = fake.sent.lock().unwrap();
    let charges = sent
        .iter()
        .filter(|request| request.url.path() == "/v1/charges");
    let contexts: Vec<_> = charges
        .map(|request| {
            request
                .headers
                .get("stripe-context")
                .unwrap()
                .to_str()
                .unwrap()
        })
        .collect();
    assert_eq!(contexts, ["acct_platform", "acct_platform/acct_1"]);
    assert!(
        sent.iter()
            .all(|request| !request.headers.contains_key("stripe-account"))
    );
}

#[tokio::test(start_paused = true)]
async fn accounts_of_an_organization_are_read_beside_each_other() {
    let fake = Fake::new(platform);
    let mut config = StripeConfig::new("sk_org_live_key");
    config.accounts = Some(named(&["acct_1", "acct_2"]));
    let stripe = fake.connect(config);
    let report = stripe.check(&["charges"]).await.unwrap();
    let told: Vec<_> = report
        .endpoints
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(told, ["charges@acct_1"]);
    let run = Arc::new(stripe)
        .open(&["charges", "accounts"])
        .await
        .unwrap();
    let endpoints = &run.plan().endpoints;
    let names: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint.id("s").endpoint)
        .collect();
    assert_eq!(
        names,
        [
            "accounts@acct_1",
            "charges@acct_1",
            "accounts@acct_2",
            "charges@acct_2"
        ]
    );
    assert!(run.plan().skipped.is_empty());
    for endpoint in endpoints {
        read(&*run, endpoint).await.unwrap();
    }
    let sent = fake.sent.lock().unwrap();
    // Not one request without a context, which Stripe refuses.
    let contexts: BTreeSet<_> = sent
        .iter()
        .map(|request| {
            request
                .headers
                .get("stripe-context")
                .unwrap()
                .to_str()
                .unwrap()
        })
        .collect();
    assert_eq!(contexts, BTreeSet::from(["acct_1", "acct_2"]));
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_closed_and_a_platform_without_a_name_are_told_and_not_read() {
    let fake = Fake::new(|request| match (request.url.path(), account(request)) {
        ("/v1/account", "") => refusal(
            403,
            "",
            "",
            "The key lacks the 'rak_accounts_kyc_basic_read' permission.",
        )
        .into(),
        _ => platform(request),
    });
    let run = Arc::new(fake.connect(config(named(&["acct_1", "acct_9"]))))
        .open(&["charges"])
        .await
        .unwrap();
    let Plan {
        endpoints, skipped, ..
    } = run.plan();
    let ids: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint.id("s").endpoint)
        .collect();
    assert_eq!(
        ids,
        ["charges@platform", "charges@acct_1", "charges@acct_9"]
    );
    let closed: Vec<_> = skipped
        .iter()
        .map(|Skipped { what, reason }| (what.clone(), reason.kind()))
        .collect();
    let account = |id: &str| Unread::Account(id.to_owned());
    assert_eq!(
        closed,
        [
            (account("platform"), ErrorKind::PermissionDenied),
            (account("acct_9"), ErrorKind::Unsupported)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_not_list_accounts_reads_none_rather_than_some() {
    let fake = Fake::new(|request| match request.url.path() {
        "/v1/accounts" => refusal(
            403,
            "",
            "",
            "The key lacks the 'rak_connected_account_read' permission.",
        )
        .into(),
        _ => platform(request),
    });
    let error = Arc::new(fake.connect(config(Accounts::All)))
        .open(&["charges"])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.context_value("field")),
        (ErrorKind::ConfigInvalid, Some("accounts"))
    );
}

#[tokio::test(start_paused = true)]
async fn check_tells_of_every_account_and_asks_one_of_them_for_its_lists() {
    let fake = Fake::new(platform);
    let report = fake
        .connect(config(named(&["acct_9", "acct_1", "acct_2"])))
        .check(&["charges", "persons"])
        .await
        .unwrap();
    let is_failed = |(_, availability): &&(String, Availability)| {
        matches!(availability, Availability::Failed(_))
    };
    let told: Vec<_> = report
        .endpoints
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(told, ["charges", "persons", "acct_9", "charges@acct_1"]);
    assert_eq!(report.endpoints.iter().filter(is_failed).count(), 1);
    let facts: Vec<_> = report
        .facts
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        facts[3..],
        [
            "account=acct_own",
            "clock=right",
            "connected accounts=3",
            "acct_9=cannot be read",
            "acct_1=can be read",
            "acct_2=can be read"
        ]
    );
    // Each list once or twice, and each account for its name: not every list of every account.
    assert_eq!(fake.sent.lock().unwrap().len(), 3 + 4);
}
