//! The behavioural cases of `TESTS.md` that no fixture shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use connector_stripe::StripeConfig;
use futures::{StreamExt, TryStreamExt};
use pipeline_core::slice::TimeRange;
use pipeline_core::state::{Position, SliceState, Window};
use pipeline_core::{
    BuildContext, Catalog, Connector, Endpoint, ErrorKind, RawRecord, Result, SessionExt, SyncMode,
};
use pipeline_engine::Metrics;
use tokio::time::{Duration, Instant};

use crate::fake::{Fake, Reply, page, param, refusal};

mod members;
mod pages;

async fn read(fake: &std::sync::Arc<Fake>, stream: &str) -> Result<Vec<RawRecord>> {
    fake.open(StripeConfig::new("rk_live_key"))
        .await
        .records(stream, TimeRange::all())
        .try_collect()
        .await
}

fn ids(records: &[RawRecord]) -> BTreeSet<String> {
    records
        .iter()
        .map(|record| record.scalar("id").unwrap())
        .collect()
}

#[tokio::test]
async fn c07_a_second_is_never_cut() {
    let stripe = Fake::empty().connect(StripeConfig::new("rk_live_key"));
    let at = |second| chrono::DateTime::from_timestamp(second, 0);
    let slice = |since: i64, until: i64, watermark: i64| SliceState {
        window: at(until).map(|until| Window {
            since: at(since),
            until,
        }),
        position: Position::At("ch_1".to_owned()),
        watermark: at(watermark),
        ..SliceState::default()
    };
    let slicer = endpoint(&stripe, "charges").slicer();
    assert_eq!(slicer.split(&slice(1_000, 1_001, 1_000)), None);
    let (kept, given) = slicer.split(&slice(1_000, 1_010, 1_008)).unwrap();
    assert_eq!(
        (kept.window.unwrap().since, given.window.unwrap()),
        (
            at(1_004),
            Window {
                since: at(1_000),
                until: at(1_004).unwrap()
            }
        )
    );
}

#[tokio::test]
async fn c08_what_is_older_than_the_account_is_read_as_well() {
    let fake = Fake::empty();
    read(&fake, "charges").await.unwrap();
    assert!(
        fake.sent
            .lock()
            .unwrap()
            .iter()
            .all(|request| param(request, "created[gte]").is_none()),
        "{:?}",
        fake.urls()
    );
}

#[tokio::test(start_paused = true)]
async fn c30_windows_end_by_stripes_clock_and_not_by_ours() {
    for answer in [
        || (200, r#"{"id":"acct_1"}"#.to_owned()),
        || refusal(403, "more_permissions_required", "", "No."),
    ] {
        let fake = Fake::new(move |request| {
            let reply = Reply::from(if request.url.path() == "/v1/account" {
                answer()
            } else {
                page::<&str>(&[], false)
            });
            reply.header("date", "Fri, 30 Jan 2026 23:50:00 GMT")
        });
        let stripe = std::sync::Arc::new(fake.connect(StripeConfig::new("rk_live_key")));
        let run = std::sync::Arc::clone(&stripe)
            .open(&["charges"])
            .await
            .unwrap();
        let _: Vec<RawRecord> = run
            .records("charges", TimeRange::all())
            .try_collect()
            .await
            .unwrap();
        // A minute before ten to twelve, that second included.
        assert_eq!(
            param(&fake.sent.lock().unwrap()[1], "created[lt]"),
            Some("1769816941")
        );
        let facts = stripe.check(&["charges"]).await.unwrap().facts;
        assert!(
            facts.contains(&("clock".to_owned(), "600 s ahead of Stripe's".to_owned())),
            "{facts:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c31_a_limit_of_one_operation_slows_down_that_operation_alone() {
    const OTHERS: usize = 100;
    let throttled = AtomicUsize::new(0);
    let fake = Fake::new(move |request| {
        let is_throttled =
            request.url.path() == "/v1/charges" && throttled.fetch_add(1, Ordering::Relaxed) < 3;
        let reply = if is_throttled {
            refusal(429, "rate_limit", "", "Too many requests")
        } else {
            page(&["x_1"], false)
        };
        let reply = Reply::from(reply);
        if is_throttled {
            reply.header("stripe-rate-limited-reason", "endpoint-rate")
        } else {
            reply
        }
    });
    let mut config = StripeConfig::new("rk_live_key");
    config.rate_share = 1.0;
    let stripe = fake.open(config).await;
    let start = Instant::now();
    let others = async {
        let lists = (0..OTHERS).map(|_| {
            stripe
                .records("customers", TimeRange::all())
                .collect::<Vec<_>>()
        });
        futures::future::join_all(lists).await;
        start.elapsed()
    };
    let charges = async {
        let charges: Vec<RawRecord> = stripe
            .records("charges", TimeRange::all())
            .try_collect()
            .await
            .unwrap();
        (charges.len(), start.elapsed())
    };
    let (others, (charges, waited)) = tokio::join!(others, charges);
    assert_eq!(charges, 1);
    assert!(
        waited > Duration::from_secs(1),
        "three pauses took {waited:?}"
    );
    // 25 a second, as if nobody had been throttled.
    assert!(
        others < Duration::from_millis(4_400),
        "{OTHERS} lists of customers took {others:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c32_a_throttled_page_without_a_reason_is_asked_for_again_after_a_while() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => page(&["ch_2"], true),
        1 | 2 => refusal(429, "rate_limit", "", "Too many requests"),
        _ => page(&["ch_1"], false),
    });
    let start = Instant::now();
    let records = read(&fake, "charges").await.unwrap();
    assert_eq!((records.len(), fake.urls().len()), (2, 4));
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "two pauses took {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn c33_retries_that_stripe_advises_against_are_few_and_the_error_names_the_request() {
    let attempts = |advice: Option<&'static str>| async move {
        let fake = Fake::new(move |_| {
            let reply = Reply::from(refusal(500, "", "", "Something went wrong"));
            advice.into_iter().fold(reply, |reply, advice| {
                reply.header("stripe-should-retry", advice)
            })
        });
        let error = read(&fake, "charges").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.context_value("request_id")),
            (ErrorKind::Unavailable, Some("req_1"))
        );
        assert!(error.to_string().contains("req_1"), "{error}");
        fake.urls().len()
    };
    assert_eq!(attempts(Some("false")).await, 2);
    let unadvised = attempts(None).await;
    assert!(
        unadvised > 2 && unadvised == attempts(Some("true")).await,
        "{unadvised}"
    );
}

#[tokio::test(start_paused = true)]
async fn c34_a_body_that_is_cut_is_asked_for_again_and_none_of_it_is_taken() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::new(move |_| {
        let (status, body) = page(&["ch_2", "ch_1"], false);
        let is_cut = asked.fetch_add(1, Ordering::Relaxed) == 0;
        (
            status,
            if is_cut {
                body[..body.len() / 2].to_owned()
            } else {
                body
            },
        )
    });
    let records = read(&fake, "charges").await.unwrap();
    assert_eq!((records.len(), fake.urls().len()), (2, 2));
}

#[tokio::test]
async fn c35_a_refused_key_is_tried_once() {
    let fake = Fake::new(|_| {
        refusal(
            401,
            "api_key_expired",
            "",
            "Expired API Key provided: rk_live_*****",
        )
    });
    let error = read(&fake, "charges").await.unwrap_err();
    assert_eq!(
        (error.kind(), fake.urls().len()),
        (ErrorKind::Unauthenticated, 1)
    );
}

#[tokio::test]
async fn c36_a_missing_permission_is_named_and_concerns_one_stream() {
    for status in [401, 403] {
        let fake = Fake::new(move |request| match request.url.path() {
            "/v1/disputes" => refusal(
                status,
                "",
                "",
                "Having the 'rak_dispute_read' permission would allow this request.",
            ),
            _ => page(&["ch_1"], false),
        });
        let error = read(&fake, "disputes").await.unwrap_err();
        assert_eq!(
            (error.kind(), fake.urls().len()),
            (ErrorKind::PermissionDenied, 1)
        );
        assert!(
            error.help().unwrap().contains("`rak_dispute_read`"),
            "{:?}",
            error.help()
        );
        assert_eq!(read(&fake, "charges").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn c37_a_product_that_is_not_enabled_is_not_a_failure_of_the_stream() {
    for message in [
        "Your account is not set up to use Issuing.",
        "Treasury is not enabled for this account.",
    ] {
        let fake = Fake::new(move |_| refusal(400, "", "", message));
        let error = read(&fake, "cardholders").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(
            error.help().unwrap().contains("enable it in the dashboard"),
            "{:?}",
            error.help()
        );
    }
}

fn endpoint<'c>(stripe: &'c dyn Connector, name: &str) -> &'c Endpoint {
    stripe
        .endpoints()
        .iter()
        .find(|endpoint| endpoint.name() == name)
        .unwrap()
}

#[tokio::test]
async fn c42_a_closed_review_that_is_not_listed_is_not_taken_for_deleted() {
    let stripe = Fake::empty().connect(StripeConfig::new("rk_live_key"));
    assert_eq!(endpoint(&stripe, "reviews").mode(), SyncMode::Incremental);
    let catalog = Catalog::of(stripe.endpoints());
    let reviews = catalog
        .streams
        .iter()
        .find(|stream| stream.name == "reviews")
        .unwrap();
    assert_eq!(reviews.deletes, "not visible");
}

/// The parameters of every list and object, by the segments of its path.
fn operations() -> Vec<(Vec<&'static str>, BTreeSet<&'static str>)> {
    let lines = include_str!("../operations.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let mut words = line.split(' ');
        (words.next().unwrap().split('/').collect(), words.collect())
    });
    parsed.collect()
}

#[test]
fn c53_no_request_of_a_fixture_has_a_parameter_that_the_specification_lacks() {
    let operations = operations();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/stripe");
    let cases = fs::read_dir(folder)
        .unwrap()
        .map(|case| case.unwrap().path())
        .filter(|path| path.is_dir());
    let mut checked = 0;
    for file in cases
        .flat_map(|case| fs::read_dir(case).unwrap())
        .map(|file| file.unwrap().path())
    {
        let is_exchange = file
            .extension()
            .is_some_and(|extension| extension == "json")
            && !file.ends_with("case.json");
        if !is_exchange {
            continue;
        }
        let exchange: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let path: Vec<&str> = exchange["request"]["path"]
            .as_str()
            .unwrap()
            .split('/')
            .collect();
        let is_path = |known: &[&str]| {
            known.len() == path.len()
                && known
                    .iter()
                    .zip(&path)
                    .all(|(known, segment)| known == segment || known.starts_with('{'))
        };
        let exact = operations.iter().find(|(known, _)| *known == path);
        let (_, takes) = exact
            .or_else(|| operations.iter().find(|(known, _)| is_path(known)))
            .unwrap_or_else(|| panic!("{}", file.display()));
        let query = &exchange["request"]["query"];
        let pairs = query.as_array().map(|pairs| {
            pairs
                .iter()
                .map(|pair| pair[0].as_str().unwrap())
                .collect::<Vec<_>>()
        });
        let names = pairs
            .or_else(|| Some(query.as_object()?.keys().map(String::as_str).collect()))
            .unwrap_or_default();
        for name in names.iter().map(|name| name.split('[').next().unwrap()) {
            assert!(takes.contains(name), "{}: `{name}`", file.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

#[tokio::test(start_paused = true)]
async fn c18_another_version_than_asked_for_is_told_once() {
    let fake =
        Fake::new(|_| Reply::from(page(&["ch_1"], false)).header("stripe-version", "2011-01-01"));
    let notices = std::sync::Arc::new(Metrics::default());
    let context = BuildContext::default().observer(notices.clone());
    let stripe = fake
        .open_in(StripeConfig::new("rk_live_key"), context)
        .await;
    for stream in ["charges", "charges", "customers"] {
        stripe
            .records(stream, TimeRange::all())
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
    }
    let told: Vec<String> = notices
        .notices()
        .into_iter()
        .map(|(_, message)| message)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("2011-01-01") && told[0].contains(connector_stripe::API_VERSION),
        "{told:?}"
    );
}
