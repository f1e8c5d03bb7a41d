//! Limits that answers report.

use futures::future::join_all;

use super::*;

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
