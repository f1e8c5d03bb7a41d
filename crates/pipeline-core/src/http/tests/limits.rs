//! The limits: exactness, utilisation, fairness, and what answers teach.

use std::num::NonZeroU32;

use futures::future::join_all;
use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::*;

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

/// Counts how many requests are under way at once.
#[derive(Debug, Default)]
struct Gauge {
    now: Mutex<(u32, u32)>,
    limit: u32,
}

#[async_trait]
impl HttpService for Gauge {
    async fn call(&self, _request: Request) -> Result<RawResponse, TransportError> {
        let under_way = {
            let mut now = self.now.lock().unwrap();
            now.0 += 1;
            now.1 = now.1.max(now.0);
            now.0
        };
        sleep(Duration::from_millis(100)).await;
        self.now.lock().unwrap().0 -= 1;
        let status = if under_way > self.limit {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::OK
        };
        Ok(RawResponse::full(status, HeaderMap::new(), "{}"))
    }
}

#[derive(Debug)]
struct TooManyAtOnce;

impl Classifier for TooManyAtOnce {
    fn classify(&self, answer: &Answer<'_>) -> Option<ResponseAction> {
        let throttled = answer.status == StatusCode::TOO_MANY_REQUESTS;
        throttled.then_some(ResponseAction::Throttled {
            scope: Throttle::Concurrency("read".into()),
            after: None,
        })
    }
}

async fn peak(quota: Quota, limit: u32) -> (u32, Duration) {
    let gauge = Arc::new(Gauge {
        limit,
        ..Gauge::default()
    });
    let context = BuildContext {
        transport: Some(Arc::clone(&gauge) as _),
        seed: Some(1),
        ..BuildContext::default()
    };
    let client = HttpClient::builder(&context, base())
        .classifier(TooManyAtOnce)
        .quota("read", quota)
        .build()
        .unwrap();
    let started = Instant::now();
    join_all((0..100).map(|_| async { client.send(&request(), &LIMITED).await.unwrap() })).await;
    let peak = gauge.now.lock().unwrap().1;
    (peak, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_under_way_than_allowed() {
    let (peak, elapsed) = peak(Quota::per_second(1000).burst(1000).concurrency(5), 1000).await;
    assert_eq!((peak, elapsed.as_millis()), (5, 100 / 5 * 100));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_looks_at_holds_up_no_other() {
    let transport = Scripted::slow(Duration::from_millis(100), |_, _| Reply::json("{}"));
    let one_at_once = Quota::per_second(1000).burst(1000).concurrency(1);
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", one_at_once)
        .build()
        .unwrap();
    let request = request();
    let mut begun: Vec<_> = (0..3)
        .map(|_| Box::pin(client.send(&request, &LIMITED)))
        .collect();
    for send in &mut begun {
        assert!(futures::poll!(send.as_mut()).is_pending());
    }
    let last = tokio::time::timeout(Duration::from_secs(10), client.send(&request, &LIMITED)).await;
    last.expect("the requests begun before it hold the line")
        .unwrap();
    assert!(join_all(begun).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn c20_too_many_at_once_cuts_the_concurrency() {
    let (peak, elapsed) = peak(Quota::per_second(1000).burst(1000).concurrency(40), 10).await;
    assert!(
        peak == 40 && elapsed < Duration::from_secs(20),
        "{peak} {elapsed:?}"
    );
}

async fn rate_after(reply: fn() -> Reply, reader: RateHeaders, quota: Quota) -> usize {
    let transport = Scripted::new(move |_, _| reply());
    let reader = reader.for_bucket("read").share(0.5);
    let client = HttpClient::builder(&context(&transport), base())
        .rate_headers(reader)
        .quota("read", quota)
        .build()
        .unwrap();
    client.send(&request(), &LIMITED).await.unwrap();
    saturate(&client, &transport, &[LIMITED], 5, Duration::from_secs(10))
        .await
        .0
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_in_the_headers_is_adopted_and_a_higher_one_is_not() {
    let minute = Quota::per_minute(600).burst(1);
    let lower = rate_after(
        || Reply::json("{}").header("x-rate-limit", "240"),
        RateHeaders::DELTA,
        minute,
    )
    .await;
    assert!(
        (20..=22).contains(&lower),
        "half of 240 a minute for 10 s: {lower}"
    );
    let higher = rate_after(
        || Reply::json("{}").header("x-rate-limit", "6000"),
        RateHeaders::DELTA,
        minute,
    )
    .await;
    assert!((100..=101).contains(&higher), "{higher}");
    let left = || {
        Reply::json("{}")
            .header("x-rate-limit", "6000")
            .header("x-rate-limit-remaining", "3100")
            .header("ratelimit-reset", "51")
    };
    let daily = || {
        Reply::json("{}")
            .header("ratelimit-policy", "\"day\";q=900;w=86400")
            .header("ratelimit", "\"day\";r=800;t=80000")
    };
    let unhurried = rate_after(daily, RateHeaders::Ietf, minute).await;
    assert!(
        (100..=101).contains(&unhurried),
        "a daily quota sets no pace: {unhurried}"
    );
    let shared = rate_after(left, RateHeaders::DELTA, minute).await;
    assert!(
        (20..=22).contains(&shared),
        "what is left beside the half of others lasts until the reset: {shared}"
    );
}

/// Requests of the first hour where the answers tell a policy of so many an hour, half of which may
/// be used.
async fn in_an_hour(policy: u32, quota: Quota, store: &Arc<MemoryLimits>) -> usize {
    let transport = Scripted::slow(Duration::from_millis(100), move |_, _| {
        Reply::json("{}").header(
            "ratelimit-policy",
            format!("\"project\";q={policy};w=3600, \"at-once\";q=5;qu=\"concurrent-requests\""),
        )
    });
    let context = BuildContext {
        limits: Arc::clone(store) as _,
        ..context(&transport)
    };
    let reader = RateHeaders::Ietf.for_bucket("read").share(0.5);
    let client = HttpClient::builder(&context, base())
        .rate_headers(reader)
        .quota("read", quota.share(0.5))
        .build()
        .unwrap();
    let caller = || async { while client.send(&request(), &LIMITED).await.is_ok() {} };
    join_all((0..5).map(|_| caller())).await;
    transport.count()
}

#[tokio::test(start_paused = true)]
async fn a_policy_corrects_a_published_quota_both_ways_and_no_configured_one_upwards() {
    let fresh = || Arc::new(MemoryLimits::default());
    assert_eq!(
        in_an_hour(240, Quota::per_hour(60).published(), &fresh()).await,
        120
    );
    assert_eq!(
        in_an_hour(20, Quota::per_hour(60).published(), &fresh()).await,
        10
    );
    assert_eq!(in_an_hour(240, Quota::per_hour(60), &fresh()).await, 30);
    assert_eq!(in_an_hour(20, Quota::per_hour(60), &fresh()).await, 10);
}

#[tokio::test(start_paused = true)]
async fn the_next_run_begins_with_the_quota_that_this_one_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TokioClock::starting_at(
        "2026-01-01T00:00:00Z".parse().unwrap(),
    ));
    let store = || {
        Arc::new(MemoryLimits::kept(
            Arc::new(FileLedger::new(folder.path())),
            clock.clone(),
        ))
    };
    assert_eq!(
        in_an_hour(240, Quota::per_hour(60).published(), &store()).await,
        120
    );
    // What was spent is forgotten by then, what was told is not.
    sleep(Duration::from_mins(61)).await;
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let left = async |part: f64, quota: Quota| {
        let context = BuildContext {
            limits: store() as _,
            ..context(&transport)
        };
        let client = HttpClient::builder(&context, base())
            .quota("read", quota.share(part))
            .build()
            .unwrap();
        client.left("read").await.unwrap().unwrap().permits
    };
    assert_eq!(left(0.5, Quota::per_hour(60).published()).await, 120);
    assert_eq!(
        left(0.25, Quota::per_hour(60).published()).await,
        60,
        "another share of the same quota"
    );
    assert_eq!(
        left(0.5, Quota::per_hour(60)).await,
        30,
        "what is configured holds"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_left_pauses_the_bucket_until_the_reset() {
    let transport = Scripted::new(|n, _| {
        let left = if n == 0 { "0" } else { "9" };
        Reply::json("{}")
            .header("x-rate-limit", "10")
            .header("x-rate-limit-remaining", left)
            .header("ratelimit-reset", "40")
    });
    let client = HttpClient::builder(&context(&transport), base())
        .rate_headers(RateHeaders::DELTA.for_bucket("read"))
        .quota("read", Quota::per_minute(600))
        .build()
        .unwrap();
    let started = Instant::now();
    client.send(&request(), &LIMITED).await.unwrap();
    client.send(&request(), &LIMITED).await.unwrap();
    assert_eq!(
        started.elapsed(),
        Duration::from_secs(41),
        "seconds are told whole: one more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tripped_concurrency_policy_does_not_pause_the_rate() {
    let transport = Scripted::new(|n, _| {
        let policy = "\"p\";q=60;w=60, \"c\";q=5;qu=\"concurrent-requests\"";
        let (status, left) = if n == 0 {
            (429, "\"p\";r=50, \"c\";r=0;t=10")
        } else {
            (200, "\"p\";r=50, \"c\";r=3")
        };
        let reply = Reply::status(status, "{}")
            .header("ratelimit-policy", policy)
            .header("ratelimit", left);
        if n == 0 {
            reply.header("retry-after", "10")
        } else {
            reply
        }
    });
    let client = HttpClient::builder(&context(&transport), base())
        .rate_headers(RateHeaders::Ietf.for_bucket("read"))
        .quota("read", Quota::per_minute(60))
        .build()
        .unwrap();
    let started = Instant::now();
    let other = async {
        sleep(Duration::from_secs(2)).await;
        client.send(&request(), &LIMITED).await.unwrap();
        started.elapsed()
    };
    let (request, limited) = (request(), LIMITED);
    let (first, other) = tokio::join!(client.send(&request, &limited), other);
    first.unwrap();
    assert_eq!(other, Duration::from_secs(2));
    assert!(started.elapsed() >= Duration::from_secs(10));
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
