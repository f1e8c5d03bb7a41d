//! The circuit breaker.

use super::super::breaker::{Breaker, StaysOpen};
use super::*;

const HOST: &str = "api.test";

fn far() -> Instant {
    Instant::now() + Duration::from_hours(10)
}

async fn fail(breaker: &Breaker, times: u32) -> Vec<u64> {
    let mut pauses = Vec::new();
    for _ in 0..times {
        pauses.extend(breaker.admit(HOST, far()).await.unwrap().failed().map(|pause| pause.as_secs()));
    }
    pauses
}

#[tokio::test(start_paused = true)]
async fn opens_after_ten_failures_in_a_row_and_doubles_its_pause() {
    let breaker = Breaker::default();
    assert!(fail(&breaker, 9).await.is_empty());
    breaker.admit(HOST, far()).await.unwrap().answered();
    assert!(fail(&breaker, 9).await.is_empty());
    let started = Instant::now();
    assert_eq!(fail(&breaker, 7).await, [30, 60, 120, 240, 300, 300, 300]);
    assert_eq!(started.elapsed().as_secs(), 30 + 60 + 120 + 240 + 300 + 300);
}

#[tokio::test(start_paused = true)]
async fn lets_one_probe_through_and_closes_when_it_is_answered() {
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    let probe = breaker.admit(HOST, far()).await.unwrap();
    let second = breaker.admit(HOST, far());
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_secs(5), &mut second).await.is_err(), "it waits for the probe");
    probe.answered();
    second.await.unwrap().answered();
    assert!(fail(&breaker, 9).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_leaves_its_place_to_the_next() {
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    drop(breaker.admit(HOST, far()).await.unwrap());
    breaker.admit(HOST, Instant::now()).await.unwrap().answered();
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_beyond_the_deadline_and_knows_hosts_apart() {
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    assert_eq!(breaker.admit(HOST, Instant::now() + Duration::from_secs(29)).await.unwrap_err(), StaysOpen);
    breaker.admit("other.test", Instant::now()).await.unwrap().answered();
}
