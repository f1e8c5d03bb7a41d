//! The connector against its fixtures, and against a transport that answers from a function.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod acceptance;
mod answers;
mod cases;
mod connect;
mod fake;

use std::fmt::Write as _;
use std::time::Duration;

use connector_stripe::StripeConfig;
use connector_stripe::tables::{FAMILIES, Stripe, streams};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::declarative::ListDef;
use pipeline_core::slice::TimeRange;
use pipeline_core::{
    Availability, BuildContext, Connector, ConnectorConfig, DataType, ErrorKind, RawRecord,
    SessionExt,
};
use pipeline_testkit::build;

use self::fake::{Fake, page, param, refusal};

pipeline_testkit::connector_suite!(StripeConfig, "fixtures/stripe");

/// Every stream, by name.
fn sorted() -> Vec<&'static ListDef<Stripe>> {
    let mut streams: Vec<_> = streams().collect();
    streams.sort_by_key(|stream| stream.name);
    streams
}

#[tokio::test]
async fn every_stream_asks_for_its_list() {
    let mut requests = String::new();
    for stream in sorted().into_iter().filter(|list| list.parent.is_none()) {
        let fake = Fake::empty();
        let stripe = fake.open(StripeConfig::new("rk_live_key")).await;
        let records: Vec<RawRecord> = stripe
            .records(stream.name, TimeRange::all())
            .try_collect()
            .await
            .unwrap();
        assert!(records.is_empty());
        writeln!(requests, "{}\n  {}", stream.name, fake.urls().join("\n  ")).unwrap();
    }
    insta::assert_snapshot!(requests);
}

#[tokio::test]
async fn every_request_carries_the_key_and_the_version() {
    let fake = Fake::empty();
    let mut config = StripeConfig::new("rk_live_key");
    config.account = Some("acct_1".to_owned());
    let _: Vec<_> = fake
        .open(config)
        .await
        .records("charges", TimeRange::all())
        .collect()
        .await;
    let sent = fake.sent.lock().unwrap();
    let header = |name: &str| {
        sent[0]
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(header("authorization"), Some("Bearer rk_live_key"));
    assert_eq!(header("stripe-version"), Some("2026-05-27.dahlia"));
    assert_eq!(header("stripe-account"), Some("acct_1"));
    assert_eq!(header("stripe-context"), None);
}

#[tokio::test]
async fn an_organization_key_names_the_account_in_its_context() {
    let fake = Fake::empty();
    let mut config = StripeConfig::new("sk_org_live_key");
    config.account = Some("acct_1".to_owned());
    let _: Vec<_> = fake
        .open(config)
        .await
        .records("charges", TimeRange::all())
        .collect()
        .await;
    let sent = fake.sent.lock().unwrap();
    assert_eq!(sent[0].headers.get("stripe-context").unwrap(), "acct_1");
    assert!(sent[0].headers.get("stripe-account").is_none());
}

#[tokio::test]
async fn a_start_date_bounds_what_happened_and_not_what_is_on_sale() {
    let fake = Fake::empty();
    let stripe = fake.open(StripeConfig::new("rk_live_key")).await;
    let range = TimeRange::since("2026-01-01T00:00:00Z".parse().unwrap());
    for stream in ["charges", "products"] {
        let _: Vec<_> = stripe.records(stream, range).collect().await;
    }
    let urls = fake.urls();
    assert!(
        urls[0].contains("created[gte]=1767225600&created[lt]="),
        "{urls:?}"
    );
    assert!(
        !urls[1].contains("created[gte]") && urls[1].contains("created[lt]="),
        "{urls:?}"
    );
}

#[tokio::test]
async fn c04_pages_follow_the_last_id_and_a_deleted_one_is_stepped_over() {
    let fake = Fake::new(|request| match param(request, "starting_after") {
        None => page(&["ch_5", "ch_4"], true),
        Some("ch_4") => refusal(
            400,
            "resource_missing",
            "starting_after",
            "No such charge: 'ch_4'",
        ),
        Some("ch_5") => page(&["ch_3"], false),
        Some(id) => panic!("unexpected cursor {id}"),
    });
    let stripe = fake.open(StripeConfig::new("rk_live_key")).await;
    let records: Vec<RawRecord> = stripe
        .records("charges", TimeRange::all())
        .try_collect()
        .await
        .unwrap();
    let ids: Vec<_> = records
        .iter()
        .map(|record| record.scalar("id").unwrap())
        .collect();
    assert_eq!(ids, ["ch_5", "ch_4", "ch_3"]);
}

#[tokio::test]
async fn c50_check_tells_what_may_be_read_and_needs_no_permission_for_the_account() {
    let fake = Fake::new(|request| match request.url.path() {
        "/v1/account" => refusal(
            403,
            "more_permissions_required",
            "",
            "The provided key 'rk_test_*****1234' may not.",
        ),
        "/v1/disputes" => refusal(
            403,
            "",
            "",
            "The key 'rk_test_*****1234' lacks the 'rak_dispute_read' permission.",
        ),
        "/v1/issuing/transactions" => {
            refusal(400, "", "", "Your account is not set up to use Issuing.")
        }
        "/v1/payouts" => refusal(
            400,
            "parameter_unknown",
            "limit",
            "Received unknown parameter: limit",
        ),
        _ => page::<&str>(&[], false),
    });
    let stripe = fake.connect(StripeConfig::new("rk_test_key"));
    let report = stripe
        .check(&["disputes", "charges", "payouts", "transactions"])
        .await
        .unwrap();
    insta::assert_json_snapshot!(report);
    assert!(
        fake.urls()
            .iter()
            .all(|url| url.contains("/v1/account?") || url.contains("limit=1")),
        "{:?}",
        fake.urls()
    );
}

#[tokio::test]
async fn a_refused_key_fails_the_check_at_once() {
    let fake = Fake::new(|_| refusal(401, "", "", "Invalid API Key provided: sk_test_*****1234"));
    let error = fake
        .connect(StripeConfig::new("sk_test_1234"))
        .check(&["charges"])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.context_value("request_id")),
        (ErrorKind::Unauthenticated, Some("req_1"))
    );
    assert!(
        error.help().unwrap().contains("API key")
            && !format!("{error:?} {error} {:?}", error.help()).contains("1234")
    );
    assert_eq!(fake.urls().len(), 1);
}

#[tokio::test]
async fn check_reports_every_stream_and_the_account_when_it_may_be_read() {
    let fake = Fake::new(|request| match request.url.path() {
        "/v1/account" => (200, r#"{"id":"acct_1","object":"account"}"#.to_owned()),
        _ => page::<&str>(&[], false),
    });
    let report = fake
        .connect(StripeConfig::new("sk_live_key"))
        .check(&[])
        .await
        .unwrap();
    let facts: Vec<_> = report
        .facts
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        facts,
        [
            "key=secret",
            "mode=live",
            "api_version=2026-05-27.dahlia",
            "account=acct_1",
            "clock=right"
        ]
    );
    let names: Vec<_> = report
        .endpoints
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        sorted()
            .iter()
            .filter(|stream| stream.requires.is_empty())
            .map(|stream| stream.name)
            .collect::<Vec<_>>()
    );
    assert!(
        report
            .endpoints
            .iter()
            .all(|(_, availability)| *availability == Availability::Available)
    );
}

/// Requests per second that get through when many are wanted at once.
async fn pace(key: &str, share: f64, streams: &[&str]) -> f64 {
    const WANTED: usize = 400;
    let fake = Fake::empty();
    let mut config = StripeConfig::new(key);
    config.rate_share = share;
    let stripe = fake.open(config).await;
    let start = tokio::time::Instant::now();
    let wanted = (0..WANTED).map(|index| {
        stripe
            .records(streams[index % streams.len()], TimeRange::all())
            .collect::<Vec<_>>()
    });
    futures::future::join_all(wanted).await;
    f64::from(u32::try_from(WANTED).unwrap())
        / (start.elapsed() + Duration::from_millis(1)).as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn c38_requests_keep_to_the_limits_of_the_key() {
    let five = ["charges", "customers", "invoices", "payouts", "refunds"];
    let cases: [(&str, f64, &[&str], f64); 7] = [
        ("sk_live_key", 1.0, &["charges"], 25.0),
        ("sk_live_key", 1.0, &["files"], 20.0),
        ("sk_live_key", 1.0, &five, 100.0),
        ("sk_test_key", 1.0, &five, 25.0),
        ("rk_test_key", 1.0, &five, 25.0),
        ("rk_live_key", 0.8, &["charges"], 20.0),
        ("rk_live_key", 0.5, &five, 50.0),
    ];
    for (key, share, streams, allowed) in cases {
        let pace = pace(key, share, streams).await;
        assert!(
            pace > 0.9 * allowed && pace < 1.1 * allowed,
            "{key} {share} {streams:?}: {pace}, allowed {allowed}"
        );
    }
}

#[test]
fn wrong_configurations_are_refused_with_the_field_at_fault() {
    let cases = [
        (serde_json::json!({ "api_key": "" }), "api_key"),
        (serde_json::json!({ "api_key": "pk_live_4242" }), "api_key"),
        (serde_json::json!({ "api_key": "whsec_4242" }), "api_key"),
        (
            serde_json::json!({ "api_key": "sk_live_4242\n" }),
            "api_key",
        ),
        (serde_json::json!({ "api_key": "sk_org_4242" }), "account"),
        (
            serde_json::json!({ "api_key": "sk_org_4242", "accounts": "all" }),
            "accounts",
        ),
        (
            serde_json::json!({ "api_key": "sk_org_4242", "accounts": ["acct_1"], "platform": true }),
            "platform",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "account": "" }),
            "account",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "accounts": "some" }),
            "accounts",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "accounts": [] }),
            "accounts",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "accounts": ["acct_1", "cus_1"] }),
            "accounts[1]",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "accounts": ["acct_1", "acct_1"] }),
            "accounts[1]",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "accounts": "all", "account": "acct_1" }),
            "accounts",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "platform": false }),
            "platform",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "rate_share": 0.0 }),
            "rate_share",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "rate_share": 1.5 }),
            "rate_share",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "stream_rps": { "chargse": 5 } }),
            "stream_rps",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "max_concurrency": 0 }),
            "max_concurrency",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "page_size": 0 }),
            "page_size",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "page_size": 101 }),
            "page_size",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "base_url": "stripe" }),
            "base_url",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "start_date": "yesterday" }),
            "start_date",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "start_date": "2962-01-31" }),
            "start_date",
        ),
        (
            serde_json::json!({ "api_key": "sk_live_4242", "api_keys": [] }),
            "api_keys",
        ),
    ];
    let mut errors = String::new();
    for (config, field) in cases {
        let error = build::<StripeConfig>(config).unwrap_err();
        assert_eq!(
            (error.kind(), error.context_value("field")),
            (ErrorKind::ConfigInvalid, Some(field))
        );
        assert!(!format!("{error:?} {:?}", error.help()).contains("4242"));
        writeln!(
            errors,
            "{error}{}",
            error
                .help()
                .map(|help| format!("\n  help: {help}"))
                .unwrap_or_default()
        )
        .unwrap();
    }
    insta::assert_snapshot!(errors);
}

#[test]
fn start_dates_are_days_or_instants() {
    for (text, expected) in [
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
    ] {
        let connector = build::<StripeConfig>(
            serde_json::json!({ "api_key": "sk_live_key", "start_date": text }),
        )
        .unwrap();
        assert_eq!(
            connector.range(),
            TimeRange::since(expected.parse().unwrap())
        );
    }
    assert_eq!(
        build::<StripeConfig>(serde_json::json!({ "api_key": "sk_live_key" }))
            .unwrap()
            .range(),
        TimeRange::all()
    );
}

#[test]
fn nothing_printed_shows_the_key() {
    let config = StripeConfig::new("sk_live_secret");
    assert!(!format!("{config:?}").contains("secret"));
    assert!(
        !format!("{:?}", config.build(BuildContext::default()).unwrap()).contains("sk_live_secret")
    );
}

#[test]
fn every_stream_has_the_columns_of_its_object() {
    let mut schemas = String::new();
    for stream in sorted() {
        writeln!(schemas, "{}", stream.name).unwrap();
        let mut types: Vec<(DataType, Vec<&str>)> = Vec::new();
        let schema = stream.streams[0].schema();
        for field in schema.fields() {
            match types
                .iter_mut()
                .find(|(known, _)| *known == field.data_type)
            {
                Some((_, names)) => names.push(&field.name),
                None => types.push((field.data_type, vec![&field.name])),
            }
        }
        for (data_type, names) in types {
            writeln!(schemas, "  {data_type:?}: {}", names.join(" ")).unwrap();
        }
    }
    insta::assert_snapshot!(schemas);
}

#[test]
fn streams_are_in_order_and_have_key_and_cursor() {
    for family in FAMILIES {
        assert!(family.is_sorted_by(|one, other| one.name < other.name));
    }
    assert!(sorted().is_sorted_by(|one, other| one.name < other.name));
    for list in sorted() {
        let stream = &list.streams[0];
        let schema = stream.schema();
        for member in stream.key {
            assert_eq!(
                schema.field(member).map(|field| field.data_type),
                Some(DataType::String),
                "{} {member}",
                stream.name
            );
        }
        assert!(
            list.cursor.is_none_or(|cursor| matches!(
                schema.field(cursor.field).unwrap().data_type,
                DataType::Timestamp(_)
            )),
            "{}",
            stream.name
        );
    }
}
