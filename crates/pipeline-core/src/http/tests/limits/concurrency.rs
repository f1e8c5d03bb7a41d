//! How many requests are under way at once.

use futures::future::join_all;

use super::*;

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
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        let throttled = answer.status == StatusCode::TOO_MANY_REQUESTS;
        throttled.then_some(ResponseAction::Throttled {
            scope: Throttle::Concurrency("read".into()),
            after: None,
        })
    }
}

pub(super) async fn peak(quota: Quota, limit: u32) -> (u32, Duration) {
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
