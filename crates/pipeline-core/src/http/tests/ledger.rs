//! What outlives a run: the use of long quotas, and what was learned.

use super::*;
use crate::clock::Clock;

const MINUTES: Duration = Duration::from_mins(1);

fn key(bucket: &str) -> BucketKey {
    BucketKey {
        account: 7,
        bucket: bucket.to_owned(),
    }
}

async fn spend(store: &MemoryLimits, quota: Quota, times: u32) -> Decision {
    let charges = [Reservation {
        key: key("export"),
        quota,
        pace: quota,
        cost: 1,
    }];
    for _ in 0..times {
        assert_eq!(store.reserve(&charges).await.unwrap(), Decision::Granted);
    }
    store.reserve(&charges).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_hourly_quota_is_not_full_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(
        "2026-01-01T00:00:00Z".parse().unwrap(),
    ));
    let start = || MemoryLimits::kept(Arc::new(FileLedger::new(folder.path())), Arc::clone(&clock));
    let quota = Quota::per_hour(60);
    let first = start();
    assert_eq!(spend(&first, quota, 20).await, Decision::Granted);
    drop(first);
    sleep(20 * MINUTES).await;
    let second = start();
    let left = second.left(&key("export"), &quota).await.unwrap();
    assert_eq!((left.permits, left.next), (39, 40 * MINUTES));
    assert_eq!(
        spend(&second, quota, 39).await,
        Decision::Wait {
            wait: 40 * MINUTES,
            bucket: "export".into()
        }
    );
    sleep(40 * MINUTES).await;
    assert_eq!(
        start().left(&key("export"), &quota).await.unwrap().permits,
        21
    );
}

/// Runs of a minute's quota after each other, against a vendor that counts.
#[tokio::test(start_paused = true)]
async fn b7_the_quota_of_a_minute_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(
        "2026-01-01T00:00:00Z".parse().unwrap(),
    ));
    for (quota, requests) in [
        (Quota::per_minute(10).burst(10), 7),
        (Quota::per_minute(10), 10),
        (Quota::per_minute(700).burst(10), 500),
    ] {
        let accepted = Mutex::new(Vec::<Instant>::new());
        let most = quota.ceiling() as usize;
        let transport = Scripted::new(move |_, _| {
            let mut accepted = accepted.lock().unwrap();
            accepted.retain(|at| at.elapsed() < MINUTES);
            if accepted.len() >= most {
                return Reply::status(429, "").header("retry-after", "60");
            }
            accepted.push(Instant::now());
            Reply::json("{}")
        });
        let events = Arc::new(Events::default());
        for _ in 0..3 {
            let limits = Arc::new(MemoryLimits::kept(
                Arc::new(FileLedger::new(folder.path().join(most.to_string()))),
                Arc::clone(&clock),
            ));
            let context = BuildContext {
                observer: Arc::clone(&events) as _,
                limits,
                ..context(&transport)
            };
            let client = HttpClient::builder(&context, base())
                .quota("read", quota)
                .build()
                .unwrap();
            for _ in 0..requests {
                client.send(&request(), &LIMITED).await.unwrap();
            }
            sleep(Duration::from_secs(5)).await;
        }
        let refused = events
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|event| event.contains("status: Some(429)"))
            .count();
        assert_eq!((refused, transport.count()), (0, 3 * requests), "{quota:?}");
    }
}

/// What is written by run after run does not stay for ever.
#[tokio::test(start_paused = true)]
async fn what_was_spent_grows_old_however_often_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(
        "2026-01-01T00:00:00Z".parse().unwrap(),
    ));
    let quota = Quota::per_hour(60);
    for run in 0..200 {
        let store =
            MemoryLimits::kept(Arc::new(FileLedger::new(folder.path())), Arc::clone(&clock));
        assert_eq!(
            spend(&store, quota, 0).await,
            Decision::Granted,
            "run {run}"
        );
        let file = std::fs::read_dir(folder.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        assert!(std::fs::metadata(file).unwrap().len() < 8 << 10);
        sleep(Duration::from_secs(61)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_a_month_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(
        "2026-01-01T00:00:00Z".parse().unwrap(),
    ));
    let start = || MemoryLimits::kept(Arc::new(FileLedger::new(folder.path())), Arc::clone(&clock));
    let days = |days: u64| Duration::from_hours(days * 24);
    let quota = Quota {
        per: days(30),
        ..Quota::per_hour(60)
    };
    assert_eq!(spend(&start(), quota, 19).await, Decision::Granted);
    sleep(days(20)).await;
    let left = start().left(&key("export"), &quota).await.unwrap();
    assert_eq!((left.permits, left.next), (40, days(10)));
}

/// Of 300 a minute what was spent is written down with every third, and to the second.
#[tokio::test(start_paused = true)]
async fn what_is_spent_is_written_down_in_grains() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(
        "2026-01-01T00:00:10.2Z".parse().unwrap(),
    ));
    let ledger = FileLedger::new(folder.path());
    let store = MemoryLimits::kept(Arc::new(ledger.clone()), clock);
    let quota = Quota::per_minute(300).burst(300);
    let mut written = Vec::new();
    for (times, pause) in [(1, 0), (1, 0), (1, 300), (3, 1_000), (2, 0), (1, 0)] {
        let charge = Reservation {
            key: key("export"),
            quota,
            pace: quota,
            cost: 1,
        };
        for _ in 0..times {
            assert_eq!(
                store.reserve(std::slice::from_ref(&charge)).await.unwrap(),
                Decision::Granted
            );
        }
        let spent = ledger
            .load(&key("export"))
            .await
            .unwrap()
            .map_or(vec![], |record| record.spent);
        written.push(
            spent
                .iter()
                .map(|spent| (spent.at.timestamp_millis() % 60_000, spent.permits))
                .collect::<Vec<_>>(),
        );
        sleep(Duration::from_millis(pause)).await;
    }
    let (first, both) = (vec![(10_200, 3)], vec![(10_500, 6)]);
    let last = vec![(10_500, 6), (11_500, 3)];
    assert_eq!(written, [vec![], vec![], first, both.clone(), both, last]);
    let short = Quota::per_second(1);
    store
        .reserve(&[Reservation {
            key: key("short"),
            quota: short,
            pace: short,
            cost: 1,
        }])
        .await
        .unwrap();
    assert_eq!(
        ledger.load(&key("short")).await.unwrap(),
        None,
        "it is forgotten before another process could begin"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_tells_what_is_left_before_a_run() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", Quota::per_hour(60))
        .quota("other", Quota::unknown())
        .build()
        .unwrap();
    for _ in 0..25 {
        client.send(&request(), &LIMITED).await.unwrap();
    }
    assert_eq!(
        client.left("read").await.unwrap().map(|left| left.permits),
        Some(35)
    );
    assert_eq!(
        (
            client.left("other").await.unwrap(),
            client.left("none").await.unwrap()
        ),
        (None, None)
    );
}

#[tokio::test]
async fn the_format_is_versioned_and_what_cannot_be_read_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = FileLedger::new(folder.path());
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    let window = LearnedWindow {
        permits: 700.0,
        seconds: 60.0,
    };
    let record = BucketRecord {
        spent: vec![Spent { at, permits: 2 }],
        learned: Some(Learned {
            at,
            rate: Some(99.5),
            window: Some(window),
            slots: Some(12),
            told: None,
        }),
    };
    ledger.save(&key("read"), &record).await.unwrap();
    let file = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    insta::assert_snapshot!(std::fs::read_to_string(&file).unwrap(), @r#"{"version":1,"bucket":"read","spent":[{"at":"2026-01-01T00:00:00Z","permits":2}],"learned":{"at":"2026-01-01T00:00:00Z","rate":99.5,"window":{"permits":700.0,"seconds":60.0},"slots":12}}"#);
    assert_eq!(ledger.load(&key("read")).await.unwrap(), Some(record));
    assert_eq!(ledger.load(&key("other")).await.unwrap(), None);
    for damaged in [
        "",
        "{\"version\":2,\"bucket\":\"read\"}",
        "{\"version\":1,\"bucket\":\"other\"}",
    ] {
        std::fs::write(&file, damaged).unwrap();
        assert_eq!(ledger.load(&key("read")).await.unwrap(), None, "{damaged}");
    }
}
