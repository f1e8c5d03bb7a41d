//! The circuit breaker.

use super::*;
use crate::http::client::breaker::{Breaker, RequestFailure, StaysOpen};

const HOST: &str = "api.test";

fn far() -> Instant {
    Instant::now() + Duration::from_hours(10)
}

async fn fail(breaker: &Breaker, times: u32) -> Vec<u64> {
    fail_with(breaker, &[RequestFailure::Way], times).await
}

/// Failures in turn.
async fn fail_with(breaker: &Breaker, failures: &[RequestFailure], times: u32) -> Vec<u64> {
    let mut pauses = Vec::new();
    for failure in failures.iter().cycle().take(times as usize) {
        pauses.extend(
            breaker
                .admit(HOST, far())
                .await
                .unwrap()
                .failed(*failure)
                .map(|pause| pause.as_secs()),
        );
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
async fn a_server_that_fails_at_what_it_is_asked_for_is_there() {
    let few = [RequestFailure::Gateway(1), RequestFailure::Gateway(2)];
    let many = [
        RequestFailure::Gateway(1),
        RequestFailure::Gateway(2),
        RequestFailure::Gateway(3),
    ];
    assert!(
        fail_with(&Breaker::default(), &[RequestFailure::Answer], 100)
            .await
            .is_empty()
    );
    assert!(
        fail_with(&Breaker::default(), &few, 100).await.is_empty(),
        "two things that cannot be had"
    );
    assert_eq!(
        fail_with(&Breaker::default(), &many, 11).await,
        [30, 60],
        "nothing can be had"
    );
    assert_eq!(
        fail_with(
            &Breaker::default(),
            &[RequestFailure::Answer, RequestFailure::Way],
            20
        )
        .await,
        [30],
        "ten on the way"
    );
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    let opened = Instant::now();
    assert!(
        fail_with(&breaker, &[RequestFailure::Answer], 2)
            .await
            .is_empty(),
        "a probe that is answered closes it"
    );
    assert_eq!(opened.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn two_things_that_fail_for_ever_do_not_wait_for_the_host() {
    for status in [500, 503] {
        let transport = Scripted::new(move |_, _| Reply::status(status, ""));
        let events = Arc::new(Events::default());
        let context = BuildContext {
            observer: Arc::clone(&events) as _,
            ..context(&transport)
        };
        let client = HttpClient::builder(&context, base()).build().unwrap();
        let started = Instant::now();
        let ask = async |path: &str| {
            let request = Request::new(Method::GET, base().join(path).unwrap());
            client.send(&request, &NO_LIMIT).await.unwrap_err().kind()
        };
        assert_eq!(
            tokio::join!(ask("v1/a"), ask("v1/b")),
            (ErrorKind::Unavailable, ErrorKind::Unavailable)
        );
        assert_eq!(transport.count(), 16, "eight attempts each");
        assert!(
            started.elapsed() < Duration::from_mins(3),
            "{:?}",
            started.elapsed()
        );
        let events = events.0.lock().unwrap().join("\n");
        assert!(!events.contains("BreakerOpened"), "{events}");
    }
}

#[tokio::test(start_paused = true)]
async fn lets_one_probe_through_and_closes_when_it_is_answered() {
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    let probe = breaker.admit(HOST, far()).await.unwrap();
    let second = breaker.admit(HOST, far());
    tokio::pin!(second);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), &mut second)
            .await
            .is_err(),
        "it waits for the probe"
    );
    probe.answered();
    second.await.unwrap().answered();
    assert!(fail(&breaker, 9).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_leaves_its_place_to_the_next() {
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    drop(breaker.admit(HOST, far()).await.unwrap());
    breaker
        .admit(HOST, Instant::now())
        .await
        .unwrap()
        .answered();
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_beyond_the_deadline_and_knows_hosts_apart() {
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    assert_eq!(
        breaker
            .admit(HOST, Instant::now() + Duration::from_secs(29))
            .await
            .unwrap_err(),
        StaysOpen
    );
    breaker
        .admit("other.test", Instant::now())
        .await
        .unwrap()
        .answered();
}

#[tokio::test(start_paused = true)]
async fn what_the_server_answers_is_not_one_of_ten_failures_on_the_way() {
    let breaker = Breaker::default();
    fail_with(&breaker, &[RequestFailure::Answer], 9).await;
    assert!(fail(&breaker, 9).await.is_empty());
    assert_eq!(fail(&breaker, 1).await, [30]);
}

#[tokio::test(start_paused = true)]
async fn waits_until_the_very_deadline() {
    let breaker = Breaker::default();
    fail(&breaker, 10).await;
    breaker
        .admit(HOST, Instant::now() + Duration::from_secs(30))
        .await
        .unwrap()
        .answered();
}

#[tokio::test(start_paused = true)]
async fn is_opened_by_one_request_of_those_that_fail_together() {
    let breaker = Breaker::default();
    fail(&breaker, 9).await;
    let together = [
        breaker.admit(HOST, far()).await.unwrap(),
        breaker.admit(HOST, far()).await.unwrap(),
    ];
    let pauses = together.map(|admission| {
        admission
            .failed(RequestFailure::Way)
            .map(|pause| pause.as_secs())
    });
    assert_eq!(pauses, [Some(30), None]);
}
