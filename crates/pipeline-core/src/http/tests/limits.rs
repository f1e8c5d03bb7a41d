//! The limits: exactness, utilisation, fairness, and what answers teach.

use std::num::NonZeroU32;

use futures::future::join_all;
use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::*;

mod concurrency;
mod reported;

fn quota(permits: u32, per: Duration, burst: u32) -> Quota {
    Quota {
        permits: f64::from(permits),
        per,
        burst: NonZeroU32::new(burst).unwrap(),
        concurrency: None,
        part: 1.0,
        is_published: false,
    }
}

fn charge(bucket: &str, quota: Quota) -> Reservation {
    Reservation {
        key: BucketKey {
            account: 1,
            bucket: bucket.to_owned(),
        },
        quota,
        pace: quota,
        cost: 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn gcra_agrees_with_governor(interval_ms in 1_u64..2000, burst in 1_u32..50, steps in prop::collection::vec(0_u64..3000, 1..200)) {
        let quota = quota(1, Duration::from_millis(interval_ms), burst);
        let clock = FakeRelativeClock::default();
        let oracle = governor::Quota::with_period(quota.per).unwrap().allow_burst(quota.burst);
        let oracle = governor::RateLimiter::direct_with_clock(oracle, clock.clone());
        let (mut arrival, mut now) = (Duration::ZERO, Duration::ZERO);
        for step in steps {
            clock.advance(Duration::from_millis(step));
            now += Duration::from_millis(step);
            let granted = gcra(arrival, now, &quota, 1);
            prop_assert_eq!(granted.is_ok(), oracle.check().is_ok());
            arrival = granted.unwrap_or(arrival);
        }
    }

    #[test]
    fn gcra_says_exactly_how_long_to_wait(permits in 1_u32..1000, burst in 1_u32..50, costs in prop::collection::vec(1_u32..60, 1..100)) {
        let quota = quota(permits, Duration::from_mins(1), burst);
        let (mut arrival, mut now) = (Duration::ZERO, Duration::ZERO);
        for cost in costs {
            if let Err(wait) = gcra(arrival, now, &quota, cost) {
                prop_assert!(gcra(arrival, now + wait.saturating_sub(Duration::from_nanos(1)), &quota, cost).is_err());
                now += wait;
            }
            arrival = gcra(arrival, now, &quota, cost).unwrap();
        }
    }

    #[test]
    fn a_change_of_the_rate_keeps_what_was_spent(from in 1_u32..1000, to in 1_u32..1000, spent in 1_u32..50) {
        let quota = |permits| quota(permits, Duration::from_secs(1), 50);
        let now = Duration::from_secs(1000);
        let before = (0..spent).fold(Duration::ZERO, |arrival, _| gcra(arrival, now, &quota(from), 1).unwrap());
        let mut arrival = rescale(before, now, &quota(from), &quota(to));
        let mut left = 0;
        while let Ok(next) = gcra(arrival, now, &quota(to), 1) {
            (arrival, left) = (next, left + 1);
        }
        prop_assert!((49 - spent..=50 - spent).contains(&left), "{left} of 50 after {spent}");
    }

    #[test]
    fn no_window_holds_more_than_the_quota(permits in 1_u32..60, burst in 1_u32..80, pauses in prop::collection::vec(0_u64..500, 50..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let quota = quota(permits, Duration::from_secs(1), burst);
        let granted = runtime.block_on(async {
            let store = MemoryLimits::default();
            let mut granted = Vec::new();
            for pause in pauses {
                sleep(Duration::from_millis(pause.saturating_sub(400))).await;
                while let Decision::Wait { wait, .. } = store.reserve(&[charge("a", quota)]).await.unwrap() {
                    sleep(wait).await;
                }
                granted.push(Instant::now());
            }
            granted
        });
        for (first, start) in granted.iter().enumerate() {
            let within = |window: Duration| granted[first..].iter().take_while(|at| **at - *start < window).count();
            prop_assert!(within(quota.per) <= permits as usize);
            for millis in [100_u32, 300, 1700, 5000] {
                let window = Duration::from_millis(millis.into());
                let allowed = f64::from(burst) + quota.rate() * window.as_secs_f64();
                prop_assert!(f64::from(u32::try_from(within(window)).unwrap()) <= allowed + 1e-6);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reservation_charges_all_buckets_or_none() {
    let store = MemoryLimits::default();
    let (wide, narrow) = (
        charge("wide", Quota::per_second(100).burst(2)),
        charge("narrow", Quota::per_second(1)),
    );
    let both = [narrow.clone(), wide.clone()];
    assert_eq!(store.reserve(&both).await.unwrap(), Decision::Granted);
    for _ in 0..10 {
        let Decision::Wait { bucket, .. } = store.reserve(&both).await.unwrap() else {
            panic!("the narrow bucket is empty")
        };
        assert_eq!(bucket, "narrow");
    }
    assert_eq!(
        store.reserve(&[wide]).await.unwrap(),
        Decision::Granted,
        "refused requests cost nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_the_longest_that_was_asked_for() {
    let store = MemoryLimits::default();
    let charge = charge("a", Quota::per_second(100));
    for seconds in [5, 30, 10] {
        store
            .block(&charge.key, Duration::from_secs(seconds))
            .await
            .unwrap();
    }
    let wait = Duration::from_secs(30);
    assert_eq!(
        store.reserve(&[charge]).await.unwrap(),
        Decision::Wait {
            wait,
            bucket: "a".into()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn an_hourly_quota_goes_at_once_and_comes_back_after_an_hour() {
    let store = MemoryLimits::default();
    let charges = [charge("a", Quota::per_hour(60))];
    for _ in 0..60 {
        assert_eq!(store.reserve(&charges).await.unwrap(), Decision::Granted);
    }
    for minutes in [0, 30] {
        sleep(Duration::from_mins(minutes)).await;
        let Decision::Wait { wait, .. } = store.reserve(&charges).await.unwrap() else {
            panic!("61 in an hour")
        };
        assert_eq!(wait, Duration::from_mins(60 - minutes));
    }
}

/// Keeps `callers` busy for a time; gives the requests sent and the most in any second.
async fn saturate(
    client: &HttpClient,
    transport: &Scripted,
    calls: &[Call<'static>],
    callers: usize,
    time: Duration,
) -> (usize, usize) {
    let end = Instant::now() + time;
    let caller = |n: usize| async move {
        while Instant::now() < end {
            client
                .send(&request(), &calls[n % calls.len()])
                .await
                .unwrap();
        }
    };
    join_all((0..callers).map(caller)).await;
    let at: Vec<_> = transport
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(at, _)| *at)
        .filter(|at| *at < end)
        .collect();
    let in_a_second = |first: usize| {
        at[first..]
            .iter()
            .take_while(|later| **later - at[first] < Duration::from_secs(1))
            .count()
    };
    (at.len(), (0..at.len()).map(in_a_second).max().unwrap_or(0))
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_25_a_second_is_used_to_99_percent_and_never_exceeded() {
    let transport = Scripted::slow(Duration::from_millis(387), |_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", Quota::per_second(25))
        .build()
        .unwrap();
    let (sent, peak) = saturate(&client, &transport, &[LIMITED], 40, Duration::from_mins(2)).await;
    assert!(sent >= 25 * 120 * 99 / 100, "{sent} of {}", 25 * 120);
    assert!(peak <= 25, "{peak} in a second");
}

const CHARGES: Call<'static> = Call {
    endpoint: "charges",
    buckets: &[Cow::Borrowed("charges"), Cow::Borrowed("account")],
};

// Named in another order: the limiter waits in its own.
const EVENTS: Call<'static> = Call {
    endpoint: "events",
    buckets: &[Cow::Borrowed("account"), Cow::Borrowed("events")],
};

#[tokio::test(start_paused = true)]
async fn buckets_that_overlap_are_all_kept_busy() {
    let transport = Scripted::slow(Duration::from_millis(200), |_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .quota("charges", Quota::per_second(25))
        .quota("events", Quota::per_second(5))
        .quota("account", Quota::per_second(28))
        .build()
        .unwrap();
    let (sent, peak) = saturate(
        &client,
        &transport,
        &[CHARGES, EVENTS],
        40,
        Duration::from_mins(1),
    )
    .await;
    assert!(sent >= 28 * 60 * 99 / 100, "{sent} of {}", 28 * 60);
    assert!(peak <= 28, "{peak} in a second");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_narrow_bucket_does_not_hold_up_others() {
    let transport = Scripted::new(|_, request| {
        if request.headers.contains_key("x-slow") {
            Reply::status(429, "").header("retry-after", "60")
        } else {
            Reply::json("{}")
        }
    });
    let client = HttpClient::builder(&context(&transport), base())
        .quota("charges", Quota::per_second(10))
        .quota("events", Quota::per_second(5))
        .quota("account", Quota::per_second(20))
        .build()
        .unwrap();
    let mut throttled = request();
    throttled
        .headers
        .insert("x-slow", HeaderValue::from_static("1"));
    let stuck = client.send(&throttled, &EVENTS);
    let others = async {
        sleep(Duration::from_secs(1)).await;
        let started = Instant::now();
        for _ in 0..10 {
            client.send(&request(), &CHARGES).await.unwrap();
        }
        started.elapsed()
    };
    tokio::select! {
        _ = stuck => panic!("the throttled request ends later"),
        elapsed = others => assert!(elapsed <= Duration::from_secs(1), "{elapsed:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_in_order() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", Quota::per_second(10).burst(1))
        .build()
        .unwrap();
    let send = |n: usize| {
        let (client, mut request) = (&client, request());
        request.set_query("n", n.to_string());
        async move { client.send(&request, &LIMITED).await.unwrap() }
    };
    join_all((0..50).map(send)).await;
    let order: Vec<_> = transport
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(_, request)| request.query[0].1.parse::<usize>().unwrap())
        .collect();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn c19_a_quota_that_is_spent_for_long_stops_the_run() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", Quota::per_hour(2))
        .build()
        .unwrap();
    client.send(&request(), &LIMITED).await.unwrap();
    client.send(&request(), &LIMITED).await.unwrap();
    let error = client.send(&request(), &LIMITED).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context_value("resume_at")),
        (ErrorKind::RateLimited, Some("2026-01-01T01:00:00Z"))
    );
    assert_eq!(error.context_value("limit"), Some("read: 2 requests/h"));
}

#[tokio::test(start_paused = true)]
async fn a_forecast_counts_the_windows_that_are_needed() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", Quota::per_hour(60))
        .build()
        .unwrap();
    for (requests, hours) in [(60, 0), (61, 1), (120, 1), (150, 2)] {
        let forecast = client.forecast(&LIMITED, requests).await.unwrap().unwrap();
        assert_eq!(
            forecast,
            (
                "read: 60 requests/h".to_owned(),
                Duration::from_hours(hours)
            ),
            "{requests} requests"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_used_of_a_limit_is_counted() {
    let transport = Scripted::slow(Duration::from_millis(100), |n, _| {
        if n == 1480 {
            Reply::status(429, "")
        } else {
            Reply::json("{}")
        }
    });
    let quotas = |context: &BuildContext| {
        HttpClient::builder(context, base())
            .quota("read", Quota::per_second(25))
            .quota("idle", Quota::per_second(1))
    };
    let client = quotas(&context(&transport)).build().unwrap();
    assert_eq!(client.usage(), []);
    saturate(&client, &transport, &[LIMITED], 40, Duration::from_mins(1)).await;
    let usage = client.usage();
    let [read] = usage.as_slice() else {
        panic!("{usage:?}")
    };
    assert_eq!(
        (read.bucket.as_str(), read.limit.as_str(), read.refused),
        ("read", "25 requests/s", 1)
    );
    assert!(
        (0.97..=1.0).contains(&read.used().unwrap()) && read.waited > Duration::from_mins(30),
        "{read:?}"
    );
    assert!((0.6..0.7).contains(&read.refused_of_1000()), "{read:?}");
}

#[test]
fn quotas_read_well() {
    let shown = [
        Quota::per_second(25).share(0.6),
        Quota::per_minute(700),
        Quota::per_hour(60),
    ]
    .map(|quota| format!("{quota}, burst {}", quota.burst));
    assert_eq!(
        shown,
        [
            "15 requests/s, burst 1",
            "700 requests/min, burst 70",
            "60 requests/h, burst 60"
        ]
    );
}

#[test]
fn another_number_of_permits_changes_the_burst_by_the_same_part() {
    let of = |permits| Quota::per_hour(60).burst(30).of(permits);
    let changed = [120.0, 30.0, 1.0].map(|permits| {
        (
            of(permits).permits,
            of(permits).burst.get(),
            of(permits).per,
        )
    });
    let hour = Duration::from_hours(1);
    assert_eq!(
        changed,
        [(120.0, 60, hour), (30.0, 15, hour), (1.0, 1, hour)]
    );
}

#[test]
fn what_was_spent_stays_as_it_is_where_no_rate_changes_it() {
    let second = Duration::from_secs;
    let (ten, five) = (Quota::per_second(10), Quota::per_second(5));
    let rescaled = |arrival, from, to| rescale(second(arrival), second(100), from, to);
    assert_eq!(rescaled(103, &ten, &five), second(106));
    assert_eq!(rescaled(106, &five, &ten), second(103));
    assert_eq!(rescaled(103, &ten, &ten), second(103));
    assert_eq!(
        rescaled(97, &ten, &five),
        second(97),
        "it is used up no more"
    );
    assert_eq!(
        rescaled(103, &Quota::unknown(), &ten),
        second(103),
        "nothing was spaced before"
    );
}
