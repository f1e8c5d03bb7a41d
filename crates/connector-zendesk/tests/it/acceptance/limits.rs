//! Zendesk's limits and failures, case by case.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pipeline_core::ErrorKind;
use pipeline_engine::CancellationToken;
use pipeline_simulator::{Faults, Limits, Simulation, Simulator, Throttle, Vendor, ZendeskWorld};
use pipeline_testkit::acceptance::{busiest_minute, reply};
use tokio::time::Instant;

use super::account::{Account, Gate};

fn small() -> Simulation {
    let zendesk = ZendeskWorld {
        tickets: 300,
        users: 60,
        groups: 40,
        others: 4,
        ..ZendeskWorld::default()
    };
    Simulation {
        zendesk,
        latency: Duration::from_millis(500),
        ..Simulation::default()
    }
}

/// When each path was asked for, since the start.
type Times = Arc<Mutex<BTreeMap<String, Vec<Duration>>>>;

/// Notes when a path is asked for, and may answer in the simulator's place: by path and how often
/// it was asked for.
fn noting(
    times: &Times,
    answer: impl Fn(&str, usize) -> Option<http::Response<pipeline_testkit::Pieces>>
    + Send
    + Sync
    + 'static,
) -> Arc<Gate> {
    let (times, started) = (Arc::clone(times), Instant::now());
    Arc::new(
        move |request: http::Request<Bytes>, simulator: Arc<Simulator>| {
            let path = request.uri().path().to_owned();
            let asked = {
                let mut times = times.lock().unwrap();
                let of_path = times.entry(path.clone()).or_default();
                of_path.push(started.elapsed());
                of_path.len()
            };
            match answer(&path, asked) {
                Some(answer) => async move { answer }.boxed(),
                None => simulator.answer(request).boxed(),
            }
        },
    )
}

fn is_export(path: &str) -> bool {
    path.starts_with("/api/v2/incremental/")
}

fn all(times: &Times, wanted: impl Fn(&str) -> bool) -> Vec<Duration> {
    let times = times.lock().unwrap();
    let mut found: Vec<Duration> = times
        .iter()
        .filter(|(path, _)| wanted(path))
        .flat_map(|(_, times)| times.iter().copied())
        .collect();
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn c28_a_throttled_export_pauses_all_exports_and_nothing_else() {
    let mut account = Account::new(small());
    account.config["export_page_size"] = 20.into();
    let (times, throttled) = (Times::default(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&throttled);
    account.behind(noting(&times, move |path, _| {
        let body =
            r#"{"error":"APIRateLimitExceeded","description":"Number of allowed incremental export API requests per minute exceeded"}"#;
        let is_first = is_export(path) && count.fetch_add(1, Ordering::Relaxed) == 3;
        is_first.then(|| reply(429, &[("retry-after", "7"), ("content-type", "application/json")], body))
    }));
    account
        .complete(&["tickets", "users", "organizations", "groups"])
        .await;
    let exports = all(&times, is_export);
    let pause = exports[3] + Duration::from_millis(500)..exports[3] + Duration::from_secs(7);
    let during: Vec<&Duration> = exports.iter().filter(|time| pause.contains(time)).collect();
    assert!(during.is_empty(), "{during:?} after {:?}", exports[3]);
    assert!(!all(&times, |path| !is_export(path)).is_empty());
    assert_eq!(account.rows("tickets", "id", "id").len(), 300);
}

/// The text of the refusal tells which limit it was: here the account's, although an export hit it.
#[tokio::test(start_paused = true)]
async fn an_export_that_hits_the_limit_of_the_account_pauses_lists_as_well() {
    let mut account = Account::new(small());
    account.config["export_page_size"] = 20.into();
    let (times, throttled) = (Times::default(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&throttled);
    account.behind(noting(&times, move |path, _| {
        let is_first = is_export(path) && count.fetch_add(1, Ordering::Relaxed) == 3;
        is_first.then(|| {
            reply(
                429,
                &[("retry-after", "7"), ("content-type", "text/plain")],
                "Number of allowed API requests per minute exceeded",
            )
        })
    }));
    account
        .complete(&[
            "tickets",
            "users",
            "group_memberships",
            "macros",
            "triggers",
            "side_conversations",
        ])
        .await;
    let (exports, any) = (all(&times, is_export), all(&times, |_| true));
    let pause = exports[3] + Duration::from_millis(500)..exports[3] + Duration::from_secs(7);
    let during: Vec<&Duration> = any.iter().filter(|time| pause.contains(time)).collect();
    assert!(during.is_empty(), "{during:?} after {:?}", exports[3]);
    let lists = any.iter().filter(|time| **time >= pause.end).count()
        - exports.iter().filter(|time| **time >= pause.end).count();
    assert!(lists > 10, "lists were under way: {lists}");
}

#[tokio::test(start_paused = true)]
async fn c29_a_limit_that_does_not_say_how_long_is_waited_for_a_minute() {
    let mut account = Account::new(small());
    let times = Times::default();
    account.behind(noting(&times, |path, asked| {
        let text = "Number of allowed API requests per minute exceeded";
        (path.ends_with("/groups") && asked == 1)
            .then(|| reply(429, &[("content-type", "text/plain")], text))
    }));
    account.complete(&["groups"]).await;
    let asked = all(&times, |path| path.ends_with("/groups"));
    assert!(
        asked[1] - asked[0] >= Duration::from_mins(1)
            && asked[1] - asked[0] < Duration::from_secs(90),
        "{asked:?}"
    );
    assert_eq!(account.rows("groups", "id", "id").len(), 40);
}

#[tokio::test(start_paused = true)]
async fn c30_exports_share_ten_requests_a_minute_and_none_starves() {
    let zendesk = ZendeskWorld {
        tickets: 3_000,
        users: 3_000,
        organizations: 3_000,
        others: 4,
        ..ZendeskWorld::default()
    };
    let limits = Limits {
        zendesk_account: Some(700),
        zendesk_export: Some(10),
        ..Limits::default()
    };
    let mut account = Account::new(Simulation {
        zendesk,
        limits,
        latency: Duration::from_millis(500),
        ..Simulation::default()
    });
    account.config["export_page_size"] = 20.into();
    let times = Times::default();
    account.behind(noting(&times, |_, _| None));
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(179)).await;
        stop.cancel();
    });
    let summary = account
        .sync_until(&["tickets", "users", "organizations"], cancel)
        .await;
    assert_eq!(summary.failure(), Some(ErrorKind::Cancelled));
    let exports = all(&times, is_export);
    assert!((28..=30).contains(&exports.len()), "{}", exports.len());
    assert!(busiest_minute(&exports) <= 10 && account.refused() == 0);
    for (path, times) in times
        .lock()
        .unwrap()
        .iter()
        .filter(|(path, _)| is_export(path))
    {
        assert!(
            times.len() >= 6,
            "{path} was asked for {} times of {}",
            times.len(),
            exports.len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c33_failures_that_pass_are_tried_again_and_nothing_is_missing() {
    let faults = Faults {
        only: Some(Vendor::Zendesk),
        error_every: 5,
        cut_every: 7,
        throttle: Throttle {
            every: 40,
            length: 1,
            retry_after: 2,
        },
        ..Faults::default()
    };
    let zendesk = ZendeskWorld {
        backpressure_every: 6,
        ..small().zendesk
    };
    let mut account = Account::new(Simulation {
        zendesk,
        faults,
        ..small()
    });
    account.config["export_page_size"] = 10.into();
    account
        .complete(&["tickets", "users", "organizations", "groups"])
        .await;
    for table in ["tickets", "users", "organizations", "groups"] {
        assert_eq!(
            account
                .rows(table, "id", "id")
                .into_keys()
                .collect::<Vec<_>>(),
            account.simulator.truth().ids(table),
            "{table}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c56_a_cancelled_wait_for_a_limit_ends_at_once_with_everything_committed() {
    let limits = Limits {
        zendesk_export: Some(10),
        ..Limits::default()
    };
    let mut account = Account::new(Simulation { limits, ..small() });
    account.config["export_page_size"] = 10.into();
    let cancel = CancellationToken::new();
    let (stop, cancelled) = (cancel.clone(), Arc::new(Mutex::new(None)));
    let when = Arc::clone(&cancelled);
    tokio::spawn(async move {
        // All ten exports of the first minute are sent by then.
        tokio::time::sleep(Duration::from_secs(20)).await;
        *when.lock().unwrap() = Some(Instant::now());
        stop.cancel();
    });
    let summary = account.sync_until(&["tickets"], cancel).await;
    let cancelled = cancelled.lock().unwrap().unwrap();
    assert!(
        cancelled.elapsed() < Duration::from_secs(1),
        "{:?}",
        cancelled.elapsed()
    );
    assert_eq!(summary.failure(), Some(ErrorKind::Cancelled));
    assert_eq!(account.rows("tickets", "id", "id").len(), 100);
    account.complete(&["tickets"]).await;
    assert_eq!(account.rows("tickets", "id", "id").len(), 300);
    assert_eq!(
        account.accepted(is_tickets).len(),
        30,
        "no page was read twice"
    );
}

fn is_tickets(route: &str) -> bool {
    route.ends_with("/incremental/tickets/cursor")
}
