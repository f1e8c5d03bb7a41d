//! The hour's use outlasts the process: of two stores on one file the second knows what the first has granted.

use chrono::DateTime;

use super::*;

fn hourly(limit: u32) -> Charge {
    Charge { key: BucketKey { account: 7, bucket: "export".to_owned() }, quota: Quota::per_hour(limit), cost: 1 }
}

fn pace() -> Charge {
    Charge { key: BucketKey { account: 7, bucket: "pace".to_owned() }, quota: Quota::per_second(1), cost: 1 }
}

async fn wait(store: &FileLimits, charges: &[Charge]) -> Option<(u64, String)> {
    match store.reserve(charges).await.unwrap() {
        Grant::Granted => None,
        Grant::Wait { wait, bucket } => Some((wait.as_secs(), bucket)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_successor_knows_what_the_hour_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TokioClock::starting_at(DateTime::UNIX_EPOCH));
    let open = || FileLimits::new(folder.path().join(".pipeline/limits.json"), clock.clone());
    let killed = open();
    for _ in 0..3 {
        assert_eq!(wait(&killed, &[hourly(3)]).await, None);
        sleep(Duration::from_mins(1)).await;
    }
    drop(killed);

    let successor = open();
    assert_eq!(wait(&successor, &[hourly(3), pace()]).await, Some((3600 + 10 - 180, "export".to_owned())));
    sleep(Duration::from_mins(58)).await;
    assert_eq!(wait(&successor, &[hourly(3), pace()]).await, None);
    // The second is what binds now, and costs the hour nothing: it is not granted.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(wait(&successor, &[pace()]).await, None);
    assert_eq!(wait(&successor, &[hourly(3), pace()]).await, Some((1, "pace".to_owned())));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(wait(&open(), &[hourly(3)]).await, None, "the refused request was not counted");

    let text = std::fs::read_to_string(folder.path().join(".pipeline/limits.json")).unwrap();
    assert_eq!(
        text,
        r#"{"version":1,"buckets":{"0000000000000007/export":{"granted":[[120000,1],[3660000,1],[3721000,1]],"blocked_until":0}}}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_an_hour_outlasts_the_process_and_a_short_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TokioClock::starting_at(DateTime::UNIX_EPOCH));
    let open = || FileLimits::new(folder.path().join("limits.json"), clock.clone());
    open().block(&hourly(60).key, Duration::from_hours(1)).await.unwrap();
    open().block(&pace().key, Duration::from_secs(30)).await.unwrap();
    assert_eq!(wait(&open(), &[hourly(60)]).await, Some((3600, "export".to_owned())));
    assert_eq!(wait(&open(), &[pace()]).await, None);
}

#[tokio::test(start_paused = true)]
async fn two_processes_share_the_hour() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TokioClock::starting_at(DateTime::UNIX_EPOCH));
    let open = || FileLimits::new(folder.path().join("limits.json"), clock.clone());
    let (one, other) = (open(), open());
    let charge = [hourly(10)];
    let mut granted = 0;
    for _ in 0..10 {
        let both = tokio::join!(wait(&one, &charge), wait(&other, &charge));
        granted += [both.0, both.1].iter().filter(|wait| wait.is_none()).count();
    }
    assert_eq!(granted, 10);
}
