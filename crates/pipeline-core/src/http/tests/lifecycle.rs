//! The order of the steps, and what a request looks like on the wire.

use super::*;

type Log = Arc<Mutex<Vec<&'static str>>>;

#[derive(Debug)]
struct Logging(Log);

impl Logging {
    fn note(&self, step: &'static str) {
        self.0.lock().unwrap().push(step);
    }
}

#[async_trait]
impl RateLimitStore for Logging {
    async fn reserve(&self, _charges: &[Reservation]) -> crate::Result<Decision> {
        self.note("limits");
        Ok(Decision::Granted)
    }

    async fn block(&self, _key: &BucketKey, _wait: Duration) -> crate::Result<()> {
        self.note("block");
        Ok(())
    }
}

#[async_trait]
impl Authenticator for Logging {
    async fn authenticate(&self, _request: &mut Request) -> crate::Result<CredentialGeneration> {
        self.note("auth");
        Ok(0)
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> crate::Result<bool> {
        self.note("refresh");
        Ok(true)
    }
}

impl RateLimitParser for Logging {
    fn read(&self, _answer: &ResponseView<'_>, _now: chrono::DateTime<chrono::Utc>) -> Vec<Hint> {
        self.note("observe");
        Vec::new()
    }
}

impl Classifier for Logging {
    fn classify(&self, _answer: &ResponseView<'_>) -> Option<ResponseAction> {
        self.note("classify");
        None
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_takes_the_steps_in_order() {
    let log = Log::default();
    let sent = Arc::clone(&log);
    let transport = Scripted::new(move |n, _| {
        sent.lock().unwrap().push("send");
        match n {
            0 => Reply::status(429, "").header("retry-after", "1"),
            1 => Reply::status(401, ""),
            _ => Reply::json("{}"),
        }
    });
    let logging = || Logging(Arc::clone(&log));
    let context = BuildContext {
        limits: Arc::new(logging()),
        ..context(&transport)
    };
    let client = HttpClient::builder(&context, base())
        .authenticator(logging())
        .rate_headers(logging())
        .classifier(logging())
        .quota("read", Quota::per_second(10))
        .build()
        .unwrap();
    client.send(&request(), &LIMITED).await.unwrap();
    let attempt = ["limits", "auth", "send", "observe", "classify"];
    let expected: Vec<_> = attempt
        .iter()
        .chain(&["block"])
        .chain(&attempt)
        .chain(&["refresh"])
        .chain(&attempt)
        .copied()
        .collect();
    assert_eq!(*log.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_comes_before_limits_and_credentials() {
    let log = Log::default();
    let transport = Scripted::new(|_, _| Reply::refused());
    let context = BuildContext {
        limits: Arc::new(Logging(Arc::clone(&log))),
        ..context(&transport)
    };
    let retry = RetryPolicy {
        max_attempts: 10,
        max_elapsed: Duration::from_secs(20),
        max_delay: Duration::from_millis(500),
        ..RetryPolicy::default()
    };
    let client = HttpClient::builder(&context, base())
        .quota("read", Quota::per_second(10))
        .retry(retry)
        .build()
        .unwrap();
    client.send(&request(), &LIMITED).await.unwrap_err();
    let reserved = log.lock().unwrap().len();
    let error = client.send(&request(), &LIMITED).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.status(), crate::ErrorStatus::Persistent);
    assert_eq!(
        (log.lock().unwrap().len(), transport.count()),
        (reserved, 10)
    );
}

#[tokio::test(start_paused = true)]
async fn default_headers_do_not_replace_those_of_the_request() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .default_header("api-version", "1")
        .default_header("x-a", "a")
        .build()
        .unwrap();
    let mut request = request();
    request
        .headers
        .insert("api-version", HeaderValue::from_static("2"));
    client.send(&request, &NO_LIMIT).await.unwrap();
    let seen = transport.seen.lock().unwrap();
    let headers = &seen[0].1.headers;
    assert_eq!(
        (&headers["api-version"], &headers["x-a"]),
        (
            &HeaderValue::from_static("2"),
            &HeaderValue::from_static("a")
        )
    );
    assert_eq!(
        (&headers["accept"], &headers["accept-encoding"]),
        (
            &HeaderValue::from_static("application/json"),
            &HeaderValue::from_static("gzip, zstd")
        )
    );
}

#[tokio::test]
async fn plain_http_is_for_this_machine_only() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let build =
        |url: &str| HttpClient::builder(&context(&transport), Url::parse(url).unwrap()).build();
    for url in [
        "http://api.test",
        "http://10.0.0.1",
        "ftp://api.test",
        "https://user:password@api.test",
        "http://localhost.test",
        "https://api.test/?key=1",
        "https://api.test/#a",
    ] {
        let error = build(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{url}");
        assert!(!format!("{error:?}").contains("password@"), "{error:?}");
    }
    for url in [
        "https://api.test",
        "http://127.0.0.1:8080",
        "http://localhost:1",
        "http://[::1]:1",
    ] {
        build(url).unwrap();
    }
}

#[tokio::test]
async fn credentials_go_to_declared_origins_only() {
    let transport = Scripted::new(|_, _| Reply::json("{}"));
    let client = HttpClient::builder(&context(&transport), base())
        .origin(Url::parse("https://data.test").unwrap())
        .build()
        .unwrap();
    let get = |url: &str| Request::new(Method::GET, Url::parse(url).unwrap());
    client
        .send(&get("https://data.test/x"), &NO_LIMIT)
        .await
        .unwrap();
    for url in [
        "https://evil.test/v1/things",
        "https://api.test:8443/v1",
        "http://api.test/v1/things",
        "https://169.254.169.254/",
    ] {
        assert_eq!(
            client.send(&get(url), &NO_LIMIT).await.unwrap_err().kind(),
            ErrorKind::Unexpected,
            "{url}"
        );
    }
    assert_eq!(transport.count(), 1);
    client
        .add_origin(Url::parse("https://part.test").unwrap())
        .unwrap();
    client
        .clone()
        .send(&get("https://part.test/x"), &NO_LIMIT)
        .await
        .unwrap();
    assert_eq!(
        client
            .add_origin(Url::parse("http://part.test").unwrap())
            .unwrap_err()
            .kind(),
        ErrorKind::ConfigInvalid
    );
    assert_eq!(
        client
            .send(&get("http://part.test/x"), &NO_LIMIT)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Unexpected
    );
    assert_eq!(transport.count(), 2);
}

/// A gateway keeps its own path before the vendor's, which is all that errors, classifiers and
/// links see.
#[tokio::test]
async fn the_path_of_the_base_url_comes_before_those_of_requests() {
    for (base, path, sent) in [
        ("https://api.test", "/v1/things", "/v1/things"),
        ("https://api.test/", "v1/things", "/v1/things"),
        ("https://api.test/shop", "/v1/things", "/shop/v1/things"),
        ("https://api.test/a/b/", "v1/things", "/a/b/v1/things"),
        (
            "https://api.test/v1",
            "/v1/things/a%2Fb%2Bc",
            "/v1/v1/things/a%2Fb%2Bc",
        ),
    ] {
        let transport = Scripted::new(|_, _| Reply::status(404, "{}"));
        let base = Url::parse(base).unwrap();
        let other = Url::parse("https://data.test/own").unwrap();
        let client = HttpClient::builder(&context(&transport), base.clone())
            .origin(other.clone())
            .build()
            .unwrap();
        let request = client.request(Method::GET, &base, path).unwrap();
        let error = client.send(&request, &NO_LIMIT).await.unwrap_err();
        assert_eq!(
            error.context_value("path"),
            Some(&*format!("/{}", path.trim_start_matches('/')))
        );
        client
            .send(
                &client.request(Method::GET, &other, path).unwrap(),
                &NO_LIMIT,
            )
            .await
            .unwrap_err();
        let seen: Vec<String> = transport
            .seen
            .lock()
            .unwrap()
            .iter()
            .map(|(_, request)| request.url.to_string())
            .collect();
        let path = path.trim_start_matches('/');
        assert_eq!(
            seen,
            [
                format!("https://api.test{sent}"),
                format!("https://data.test/own/{path}")
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn now_is_the_vendors_time_when_the_clocks_differ() {
    for (date, expected) in [
        ("Thu, 01 Jan 2026 02:00:00 GMT", "2026-01-01T02:00:00Z"),
        ("Wed, 31 Dec 2025 23:59:59 GMT", "2026-01-01T00:00:00Z"),
    ] {
        let transport = Scripted::new(move |_, _| Reply::json("{}").header("date", date));
        let client = client(&transport);
        client.send(&request(), &NO_LIMIT).await.unwrap();
        assert_eq!(
            client.now(),
            expected.parse::<chrono::DateTime<chrono::Utc>>().unwrap(),
            "{date}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn observers_see_each_attempt_and_the_waits() {
    let transport = Scripted::sequence(vec![
        || {
            Reply::status(503, "")
                .header("request-id", "r1")
                .header("retry-after", "2")
        },
        || Reply::json("{}").header("request-id", "r2"),
    ]);
    let events = Arc::new(Events::default());
    let context = BuildContext {
        observer: Arc::clone(&events) as _,
        ..context(&transport)
    };
    let client = HttpClient::builder(&context, base())
        .request_id_header("request-id")
        .quota("read", Quota::per_minute(60).burst(1))
        .build()
        .unwrap();
    client.send(&request(), &LIMITED).await.unwrap();
    insta::assert_snapshot!(events.0.lock().unwrap().join("\n"));
}
