//! What the network and the vendor do wrong, and what must come of it.

use super::*;
use crate::error::ErrorStatus;

/// Sends one request to a transport that answers in sequence; gives the outcome, the requests made
/// and the time taken.
async fn run(replies: Vec<fn() -> Reply>) -> (crate::Result<Response>, usize, Duration) {
    let transport = Scripted::sequence(replies);
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", Quota::per_second(100))
        .build()
        .unwrap();
    let started = Instant::now();
    let result = client.send(&request(), &LIMITED).await;
    (result, transport.count(), started.elapsed())
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn b01_retry_after_pauses_everybody_who_shares_the_bucket() {
    let transport = Scripted::new(|n, _| {
        if n == 0 {
            Reply::status(429, "").header("retry-after", "30")
        } else {
            Reply::json("{}")
        }
    });
    let context = context(&transport);
    let build = |account| {
        HttpClient::builder(&context, base())
            .account(&[account])
            .quota("read", Quota::per_second(100))
            .build()
            .unwrap()
    };
    let (first, second, other) = (build("a"), build("a"), build("b"));
    let started = Instant::now();
    let (request, late) = (request(), async { sleep(secs(1)).await });
    let same_bucket = async {
        late.await;
        second.send(&request, &LIMITED).await.unwrap();
        started.elapsed()
    };
    let other_bucket = async {
        sleep(secs(1)).await;
        other.send(&request, &LIMITED).await.unwrap();
        started.elapsed()
    };
    let (result, same, unaffected) =
        tokio::join!(first.send(&request, &LIMITED), same_bucket, other_bucket);
    result.unwrap();
    assert!(same >= secs(30) && same <= secs(33), "{same:?}");
    assert_eq!(unaffected, secs(1));
    assert_eq!(transport.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn b02_a_date_counts_from_the_servers_clock_and_not_from_ours() {
    // The local clock says 2026-01-01 00:00, an hour behind.
    let late = || {
        Reply::status(429, "")
            .header("date", "Thu, 01 Jan 2026 01:00:00 GMT")
            .header("retry-after", "Thu, 01 Jan 2026 01:00:20 GMT")
    };
    let (result, count, elapsed) = run(vec![late, || Reply::json("{}")]).await;
    result.unwrap();
    assert_eq!(count, 2);
    assert!(elapsed >= secs(20) && elapsed <= secs(22), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn b03_a_429_without_headers_slows_the_bucket_down() {
    let transport = Scripted::new(|n, _| {
        if n == 0 {
            Reply::status(429, "")
        } else {
            Reply::json("{}")
        }
    });
    let client = HttpClient::builder(&context(&transport), base())
        .quota("read", Quota::per_second(10).burst(1))
        .build()
        .unwrap();
    for _ in 0..11 {
        client.send(&request(), &LIMITED).await.unwrap();
    }
    let seen = transport.seen.lock().unwrap();
    let ten = seen[11].0 - seen[1].0;
    assert!(
        ten > Duration::from_millis(1200) && ten < Duration::from_millis(1800),
        "15 % less, and a gap first: {ten:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn b04_nonsense_in_retry_after_is_bounded() {
    for nonsense in ["0", "-1", "abc", "Inf", "NaN", ""] {
        let transport = Scripted::new(move |n, _| {
            if n == 0 {
                Reply::status(429, "").header("retry-after", nonsense)
            } else {
                Reply::json("{}")
            }
        });
        let started = Instant::now();
        client(&transport)
            .send(&request(), &NO_LIMIT)
            .await
            .unwrap();
        let elapsed = started.elapsed();
        assert!(
            elapsed >= Duration::from_millis(500) && elapsed <= Duration::from_millis(1500),
            "`{nonsense}`: {elapsed:?}"
        );
    }
    for absurd in [
        "18446744073709551616",
        "1e300",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        for status in [429, 503] {
            let transport =
                Scripted::new(move |_, _| Reply::status(status, "").header("retry-after", absurd));
            let error = client(&transport)
                .send(&request(), &NO_LIMIT)
                .await
                .unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::RateLimited,
                "{status} {absurd}: {error:?}"
            );
        }
    }
    let (result, count, elapsed) = run(vec![|| {
        Reply::status(429, "").header("retry-after", "1000000000")
    }])
    .await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), count),
        (ErrorKind::RateLimited, ErrorStatus::Persistent, 1)
    );
    assert!(elapsed < secs(1), "it does not sleep for years");
    assert!(
        error
            .context_value("resume_at")
            .is_some_and(|at| at.starts_with("205")),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn b05_maintenance_waits_as_told_and_counts_as_an_outage() {
    let (result, count, elapsed) = run(vec![
        || Reply::status(503, "").header("retry-after", "60"),
        || Reply::json("{}"),
    ])
    .await;
    result.unwrap();
    assert_eq!(count, 2);
    assert!(elapsed >= secs(60) && elapsed <= secs(67), "{elapsed:?}");
    let (result, count, _) = run(vec![|| Reply::status(503, "").header("retry-after", "1")]).await;
    assert_eq!(
        (result.unwrap_err().kind(), count),
        (ErrorKind::Unavailable, 8)
    );
}

#[tokio::test(start_paused = true)]
async fn b06_server_errors_are_retried_and_then_persistent() {
    for status in [500, 502, 504, 520] {
        let transport = Scripted::new(move |n, _| {
            if n == 0 {
                Reply::status(status, "")
            } else {
                Reply::json("{}")
            }
        });
        client(&transport)
            .send(&request(), &NO_LIMIT)
            .await
            .unwrap();
        assert_eq!(transport.count(), 2, "{status}");
    }
    let (result, count, elapsed) = run(vec![|| Reply::status(500, "")]).await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), count),
        (ErrorKind::Unavailable, ErrorStatus::Persistent, 8)
    );
    assert!(elapsed > secs(5) && elapsed < secs(180), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn b07_timeouts_of_the_server_are_retried() {
    for status in [408, 425] {
        let transport = Scripted::new(move |n, _| {
            if n == 0 {
                Reply::status(status, "")
            } else {
                Reply::json("{}")
            }
        });
        client(&transport)
            .send(&request(), &NO_LIMIT)
            .await
            .unwrap();
        assert_eq!(transport.count(), 2, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn b08_refusals_are_not_retried_and_say_why() {
    let kinds = [
        (302, ErrorKind::Refused),
        (400, ErrorKind::Refused),
        (402, ErrorKind::Refused),
        (403, ErrorKind::PermissionDenied),
        (404, ErrorKind::NotFound),
        (405, ErrorKind::Refused),
        (409, ErrorKind::Refused),
        (410, ErrorKind::NotFound),
        (422, ErrorKind::Refused),
        (423, ErrorKind::Refused),
        (451, ErrorKind::Refused),
    ];
    let mut shown = Vec::new();
    for (status, kind) in kinds {
        let transport = Scripted::new(move |_, _| {
            let body = format!(
                "{{\"error\": \"no such\\nfield\", \"url\": \"/v1/things?token=abc\", \"pad\": \"{}\"}}",
                "x".repeat(4000)
            );
            Reply::status(status, body).header("x-request-id", "req_1")
        });
        let error = client(&transport)
            .send(&request(), &NO_LIMIT)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.status(), transport.count()),
            (kind, ErrorStatus::Permanent, 1),
            "{status}"
        );
        let excerpt = error.context_value("answer").unwrap();
        assert!(
            excerpt.len() <= 1024 && !excerpt.contains("abc"),
            "{excerpt}"
        );
        let help = error
            .help()
            .map(|help| format!("\n help: {help}"))
            .unwrap_or_default();
        shown.push(error.to_string().replace(&"x".repeat(100), "") + &help);
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[derive(Debug, Default)]
struct Refreshable(Mutex<u64>);

#[async_trait]
impl Authenticator for Refreshable {
    async fn authenticate(&self, _request: &mut Request) -> crate::Result<CredentialGeneration> {
        Ok(*self.0.lock().unwrap())
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> crate::Result<bool> {
        *self.0.lock().unwrap() += 1;
        Ok(true)
    }
}

#[tokio::test(start_paused = true)]
async fn b09_a_second_401_is_final() {
    let transport = Scripted::new(|_, _| Reply::status(401, ""));
    let fixed = client(&transport)
        .send(&request(), &NO_LIMIT)
        .await
        .unwrap_err();
    assert_eq!(
        (fixed.kind(), transport.count()),
        (ErrorKind::Unauthenticated, 1),
        "a fixed key has nothing newer"
    );
    let client = HttpClient::builder(&context(&transport), base())
        .authenticator(Refreshable::default())
        .build()
        .unwrap();
    let error = client.send(&request(), &NO_LIMIT).await.unwrap_err();
    assert_eq!(
        (error.kind(), transport.count()),
        (ErrorKind::Unauthenticated, 3),
        "one refresh, one retry"
    );
}

#[tokio::test(start_paused = true)]
async fn b12_redirects_are_named_and_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let transport = Scripted::new(move |_, _| {
            Reply::status(status, "").header("location", "https://elsewhere.test/login?token=abc")
        });
        let error = client(&transport)
            .send(&request(), &NO_LIMIT)
            .await
            .unwrap_err();
        assert_eq!(transport.count(), 1);
        assert_eq!(error.context_value("redirect_host"), Some("elsewhere.test"));
        assert!(!format!("{error:?}").contains("login"), "{error:?}");
    }
}

#[derive(Debug)]
struct ErrorInSuccess;

impl Classifier for ErrorInSuccess {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        answer.body.starts_with(b"{\"error\"").then(|| {
            ResponseAction::Fail(ErrorKind::PermissionDenied, Some("buy the plan".to_owned()))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn b14_a_success_that_is_none_is_never_an_empty_page() {
    let (result, count, _) = run(vec![|| Reply::json("<html>log in</html>")]).await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), count, error.message()),
        (
            ErrorKind::Refused,
            1,
            "answered with a web page (proxy or captive portal)"
        )
    );
    let (result, count, _) = run(vec![|| {
        Reply::json("log in").header("content-type", "text/html; charset=utf-8")
    }])
    .await;
    assert_eq!((result.unwrap_err().kind(), count), (ErrorKind::Refused, 1));
    let (result, _, _) = run(vec![|| {
        Reply::json("{\"data\": []}").header("content-type", "text/html")
    }])
    .await;
    result.expect("the content decides over a content type that lies");
    for cut in [
        || Reply::json(""),
        || Reply::json("{\"data\": [1, 2"),
        || Reply::json("["),
    ] {
        let (result, count, _) = run(vec![cut, || Reply::json("{\"data\": []}")]).await;
        result.unwrap();
        assert_eq!(count, 2, "a response that is cut off is asked for again");
    }
    let (result, _, _) = run(vec![|| Reply::status(204, "")]).await;
    assert_eq!(result.unwrap().status, 204);
    let transport = Scripted::new(|_, _| Reply::json("{\"error\": 1}"));
    let client = HttpClient::builder(&context(&transport), base())
        .classifier(ErrorInSuccess)
        .build()
        .unwrap();
    let error = client.send(&request(), &NO_LIMIT).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.help()),
        (ErrorKind::PermissionDenied, Some("buy the plan"))
    );
    assert_eq!(
        error.context_value("answer"),
        Some("{\"error\": 1}"),
        "the vendor's words are lost"
    );
}

#[tokio::test(start_paused = true)]
async fn a03_a07_a_connection_that_breaks_gives_no_part_of_a_page() {
    let breaks: [fn() -> Reply; 3] = [
        || Reply::Broken(TransportError::Interrupted("reset".into())),
        || Reply::pieces(vec![Piece::Break]),
        || {
            Reply::pieces(vec![
                Piece::Data(Bytes::from_static(b"{\"data\": []}")),
                Piece::Break,
            ])
        },
    ];
    for broken in breaks {
        let (result, count, _) = run(vec![broken, || Reply::json("{\"whole\": 1}")]).await;
        assert_eq!(
            (result.unwrap().body, count),
            (Bytes::from_static(b"{\"whole\": 1}"), 2)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a04_a05_silence_is_ended_and_retried() {
    let silent: [fn() -> Reply; 2] = [
        || Reply::Hang,
        || {
            Reply::pieces(vec![
                Piece::Data(Bytes::from_static(b"{")),
                Piece::Pause(Duration::from_hours(1)),
            ])
        },
    ];
    for silence in silent {
        let (result, count, elapsed) = run(vec![silence, || Reply::json("{}")]).await;
        result.unwrap();
        assert_eq!(count, 2);
        assert!(elapsed >= secs(60) && elapsed < secs(63), "{elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a06_a_body_that_trickles_is_ended() {
    let trickle = || {
        Reply::pieces(
            (0..3600)
                .flat_map(|_| {
                    [
                        Piece::Pause(Duration::from_secs(1)),
                        Piece::Data(Bytes::from_static(b" ")),
                    ]
                })
                .collect(),
        )
    };
    let (result, count, elapsed) = run(vec![trickle, || Reply::json("{}")]).await;
    result.unwrap();
    assert_eq!(count, 2);
    assert!(elapsed >= secs(60) && elapsed < secs(63), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a10_a_refused_certificate_is_final() {
    let (result, count, _) = run(vec![|| {
        Reply::Broken(TransportError::Tls {
            host: "api.test".into(),
            fault: TlsFault::Expired,
            source: "expired".into(),
        })
    }])
    .await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), count),
        (ErrorKind::Untrusted, ErrorStatus::Permanent, 1)
    );
    assert!(error.message().contains("api.test"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a14_an_outage_of_half_a_minute_is_waited_out() {
    let down = Instant::now() + secs(30);
    let transport = Scripted::new(move |_, _| {
        if Instant::now() < down {
            Reply::refused()
        } else {
            Reply::json("{}")
        }
    });
    let client = client(&transport);
    let sends = (0..20).map(|_| async { client.send(&request(), &NO_LIMIT).await });
    let results = futures::future::join_all(sends).await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 0);
    assert!(
        transport.count() < 60,
        "the breaker spares the host: {}",
        transport.count()
    );
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_failures_spends_the_retry_budget_and_ends() {
    let transport = Scripted::new(|_, request| {
        if request.url.path().ends_with("bad") {
            Reply::status(500, "")
        } else {
            Reply::json("{}")
        }
    });
    let client = client(&transport);
    let (good, mut bad) = (request(), request());
    bad.url = base().join("v1/bad").unwrap();
    for round in 0..200 {
        // The failures never come in a row, so the breaker stays closed.
        let sends =
            futures::future::join(client.send(&good, &NO_LIMIT), client.send(&good, &NO_LIMIT));
        let pair =
            futures::future::join(client.send(&bad, &NO_LIMIT), client.send(&bad, &NO_LIMIT));
        let (_, (first, second)) = Box::pin(futures::future::join(sends, pair)).await;
        assert!(first.is_err() && second.is_err(), "{round}");
    }
    let failed = transport
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, request)| request.url.path().ends_with("bad"))
        .count();
    let retries = failed - 400;
    // Without a budget: 400 requests times 7 retries.
    assert!(retries < 1600, "{retries}");
}

#[tokio::test(start_paused = true)]
async fn a_lone_failing_request_has_all_its_attempts() {
    let (result, count, _) = run(vec![|| Reply::status(500, "")]).await;
    assert_eq!(
        (result.unwrap_err().kind(), count),
        (ErrorKind::Unavailable, 8)
    );
}

#[derive(Debug)]
struct Vendor;

impl Classifier for Vendor {
    fn classify(&self, answer: &ResponseView<'_>) -> Option<ResponseAction> {
        match answer.status.as_u16() {
            400 => Some(ResponseAction::ResetPagination),
            404 => Some(ResponseAction::Ignore),
            409 => Some(ResponseAction::Retry {
                throttled: false,
                after: None,
            }),
            _ => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_vendors_reading_comes_first() {
    let transport = Scripted::sequence(vec![
        || Reply::status(409, ""),
        || Reply::status(404, "gone"),
        || Reply::status(400, ""),
    ]);
    let client = HttpClient::builder(&context(&transport), base())
        .classifier(Vendor)
        .build()
        .unwrap();
    assert_eq!(
        client.send(&request(), &NO_LIMIT).await.unwrap().status,
        404
    );
    assert_eq!(
        client.send(&request(), &NO_LIMIT).await.unwrap_err().kind(),
        ErrorKind::CursorExpired
    );
}

#[tokio::test(start_paused = true)]
async fn throttling_is_bounded_by_time_and_not_by_attempts() {
    let (result, count, elapsed) =
        run(vec![|| Reply::status(429, "").header("retry-after", "30")]).await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::RateLimited, ErrorStatus::Persistent)
    );
    assert!(
        count > 20 && elapsed <= Duration::from_mins(15),
        "{count} in {elapsed:?}"
    );
}
