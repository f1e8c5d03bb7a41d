//! Rate-limit headers in every dialect, as a table.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn show(hint: &RateLimitInfo) -> String {
    let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| number.to_string());
    let time = |time: Option<Duration>| {
        time.map_or("-".to_owned(), |time| format!("{}s", time.as_secs_f64()))
    };
    let policy = hint.policy.as_deref().unwrap_or("-");
    let concurrency = if hint.concurrency { " concurrency" } else { "" };
    format!(
        "limit {} left {} reset {} window {} policy {policy}{concurrency}",
        number(hint.limit),
        number(hint.remaining),
        time(hint.reset),
        time(hint.window)
    )
}

/// A name, how the headers are read, and the headers.
type Case = (
    &'static str,
    RateHeaders,
    &'static [(&'static str, &'static str)],
);

#[test]
fn families_of_headers() {
    let auto = RateHeaders::Plain {
        limit: "l",
        remaining: "r",
        reset: "t",
        unit: ResetUnit::Auto,
    };
    let millis = RateHeaders::Plain {
        limit: "l",
        remaining: "r",
        reset: "t",
        unit: ResetUnit::EpochMillis,
    };
    let rfc3339 = RateHeaders::Plain {
        limit: "l",
        remaining: "r",
        reset: "t",
        unit: ResetUnit::Rfc3339,
    };
    // 2026-01-01T00:00:00Z is 1767225600.
    let cases: &[Case] = &[
        (
            "github",
            RateHeaders::GITHUB,
            &[
                ("x-ratelimit-limit", "5000"),
                ("x-ratelimit-remaining", "4999"),
                ("x-ratelimit-reset", "1767229200"),
            ],
        ),
        (
            "gitlab, reset in the past",
            RateHeaders::GITLAB,
            &[
                ("ratelimit-limit", "60"),
                ("ratelimit-remaining", "0"),
                ("ratelimit-reset", "1767225599"),
            ],
        ),
        (
            "twitter",
            RateHeaders::TWITTER,
            &[
                ("x-rate-limit-limit", "15"),
                ("x-rate-limit-remaining", "3"),
                ("x-rate-limit-reset", "1767226500"),
            ],
        ),
        (
            "delta",
            RateHeaders::DELTA,
            &[
                ("x-rate-limit", "700"),
                ("x-rate-limit-remaining", "699"),
                ("ratelimit-reset", "43"),
            ],
        ),
        (
            "delta without reset",
            RateHeaders::DELTA,
            &[("x-rate-limit", "700"), ("x-rate-limit-remaining", "699")],
        ),
        (
            "delta, nonsense",
            RateHeaders::DELTA,
            &[
                ("x-rate-limit", "many"),
                ("x-rate-limit-remaining", "-1"),
                ("ratelimit-reset", "NaN"),
            ],
        ),
        (
            "auto: seconds",
            auto,
            &[("l", "10"), ("r", "1"), ("t", "1.5")],
        ),
        (
            "auto: epoch",
            auto,
            &[("l", "10"), ("r", "1"), ("t", "1767225610")],
        ),
        (
            "auto: epoch ms",
            auto,
            &[("l", "10"), ("r", "1"), ("t", "1767225610500")],
        ),
        (
            "auto: timestamp",
            auto,
            &[("l", "10"), ("r", "1"), ("t", "2026-01-01T01:00:20+01:00")],
        ),
        ("epoch ms", millis, &[("l", "10"), ("t", "1767225601250")]),
        (
            "timestamp",
            rfc3339,
            &[("r", "10"), ("t", "2026-01-01T00:01:00Z")],
        ),
        ("none", RateHeaders::GITHUB, &[("x-other", "1")]),
        (
            "ietf 11, a policy alone",
            RateHeaders::Ietf,
            &[(
                "ratelimit-policy",
                "\"project\";q=240;w=3600, \"at-once\";q=5;qu=\"concurrent-requests\"",
            )],
        ),
        (
            "ietf 7, a policy alone",
            RateHeaders::Ietf,
            &[("ratelimit-policy", "100;w=60")],
        ),
        (
            "ietf 11",
            RateHeaders::Ietf,
            &[
                (
                    "ratelimit-policy",
                    "\"burst\";q=100;w=60, \"daily\";q=1000;w=86400",
                ),
                ("ratelimit", "\"burst\";r=50;t=30, \"daily\";r=900"),
            ],
        ),
        (
            "ietf 11, concurrency and a tripped policy",
            RateHeaders::Ietf,
            &[
                (
                    "ratelimit-policy",
                    "\"p\";q=60;w=3600, \"p-concurrency\";q=5;qu=\"concurrent-requests\"",
                ),
                ("ratelimit", "\"p\";r=0;t=3600, \"p-concurrency\";r=3"),
            ],
        ),
        (
            "ietf 11, several lines, comma in a name",
            RateHeaders::Ietf,
            &[
                ("ratelimit-policy", "\"a,b\";q=1;w=2"),
                ("ratelimit", "\"a,b\";r=0;t=1"),
                ("ratelimit", "\"c\";r=9;pk=:YQ==:"),
            ],
        ),
        (
            "ietf, names under discussion",
            RateHeaders::Ietf,
            &[("ratelimit", "\"p\";a=7;w=8")],
        ),
        (
            "ietf 7",
            RateHeaders::Ietf,
            &[
                ("ratelimit", "limit=100, remaining=80, reset=54"),
                ("ratelimit-policy", "100;w=60"),
            ],
        ),
        (
            "ietf 6",
            RateHeaders::Ietf,
            &[
                ("ratelimit-limit", "100, 100;w=60"),
                ("ratelimit-remaining", "80"),
                ("ratelimit-reset", "54"),
            ],
        ),
        (
            "ietf, nonsense",
            RateHeaders::Ietf,
            &[("ratelimit", ";;;=,\"\";r=x,,")],
        ),
    ];
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut table = String::new();
    for (case, family, pairs) in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in *pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        writeln!(table, "{case}").unwrap();
        for hint in family.parse(&headers, now) {
            writeln!(table, "    {}", show(&hint)).unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn retry_after_in_every_form() {
    let cases = [
        ("120", Some(120.0)),
        ("2.5", Some(2.5)),
        ("0", Some(0.0)),
        ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30.0)),
        ("Thursday, 01-Jan-26 00:00:30 GMT", Some(30.0)),
        ("Thu Jan  1 00:00:30 2026", Some(30.0)),
        ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0.0)),
        ("-5", None),
        ("+5", None),
        ("soon", None),
        ("inf", None),
        ("", None),
    ];
    // Our clock is a day off; the answer's own date decides.
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    for (value, expected) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(
            "date",
            HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"),
        );
        headers.insert("retry-after", value.parse().unwrap());
        assert_eq!(
            retry_after(&headers, now).map(|wait| wait.as_secs_f64()),
            expected,
            "`{value}`"
        );
    }
}

/// What stands in a header of a vendor's that is broken, hostile, or somebody else's.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let absurd = prop::sample::select(vec![
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709549568",
        "9223372036854775807",
        "1e308",
        "1e400",
        "-1",
        "-1e308",
        "0",
        "-0",
        "0.0000000001",
        "NaN",
        "nan",
        "inf",
        "-inf",
        "infinity",
        "1.5.2",
        "0x10",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Thu, 31 Feb 2026 25:61:61 GMT",
        "Thursday, 01-Jan-26 00:00:30 GMT",
        "0000-01-01T00:00:00Z",
        "+262142-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999999Z",
        "limit=0, remaining=NaN, reset=1e19",
        "limit=1e308, remaining=1e308, reset=-1",
        "0;w=0",
        "\"p\";q=0;w=0, \"p\";q=1e308;w=1e19",
        "\"p\";r=0;t=18446744073709551615",
        "100;w=18446744073709551615",
        "\"a\";qu=\"concurrent-requests\";q=0",
        ";;;,,,===\"\"\"",
        "",
    ]);
    prop_oneof![
        absurd.prop_map(|text| text.as_bytes().to_vec()),
        "[ -~]{0,60}".prop_map(String::into_bytes),
        any::<f64>().prop_map(|number| number.to_string().into_bytes()),
        any::<i128>().prop_map(|number| number.to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// Every header that the client, or one of the families of headers, reads.
fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let names = prop::sample::select(vec![
        "retry-after",
        "date",
        "age",
        "content-length",
        "content-encoding",
        "content-type",
        "location",
        "x-request-id",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-rate-limit",
        "x-rate-limit-remaining",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
    ]);
    prop::collection::vec((names, any_value()), 0..8).prop_map(|pairs| {
        let pair = |(name, value): (&'static str, Vec<u8>)| {
            Some((
                HeaderName::from_static(name),
                HeaderValue::from_bytes(&value).ok()?,
            ))
        };
        pairs.into_iter().filter_map(pair).collect()
    })
}

/// Answers once with these headers, then as vendors do.
#[derive(Debug)]
struct Odd {
    status: u16,
    headers: HeaderMap,
    first: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl HttpService for Odd {
    async fn call(&self, _request: Request) -> Result<RawResponse, TransportError> {
        if self.first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return Ok(RawResponse::full(
                StatusCode::from_u16(self.status).unwrap(),
                self.headers.clone(),
                "{}",
            ));
        }
        Ok(RawResponse::full(StatusCode::OK, HeaderMap::new(), "{}"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// A request's task that panics ends in the error of a defect.
    #[test]
    fn a10_no_header_panics_anywhere(headers in any_headers(), status in prop::sample::select(vec![200_u16, 204, 302, 401, 429, 503])) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let transport: Arc<dyn HttpService> = Arc::new(Odd { status, headers, first: true.into() });
            let clock = Arc::new(TokioClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()));
            let context = BuildContext { transport: Some(transport), clock, seed: Some(7), ..BuildContext::default() };
            let mut builder = HttpClient::builder(&context, base()).quota("read", Quota::per_minute(60).published());
            for family in [RateHeaders::GITHUB, RateHeaders::GITLAB, RateHeaders::TWITTER, RateHeaders::DELTA, RateHeaders::Ietf] {
                builder = builder.rate_headers(family.for_bucket("read").share(0.5));
            }
            let client = builder.build().unwrap();
            for _ in 0..3 {
                if let Err(error) = client.send(&request(), &LIMITED).await {
                    assert_ne!(error.kind(), ErrorKind::Unexpected, "{error:?}");
                }
            }
        });
    }
}

#[test]
fn a_header_of_a_mebibyte_is_read_at_once() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    for piece in ["9", "\"a\";q=1;w=1,", "\"", ";", "1;w=60,", "limit=1,"] {
        let value = HeaderValue::try_from(piece.repeat((1 << 20) / piece.len())).unwrap();
        let names = [
            "retry-after",
            "ratelimit",
            "ratelimit-policy",
            "ratelimit-limit",
            "x-ratelimit-reset",
            "date",
        ];
        let headers: HeaderMap = names
            .map(|name| (HeaderName::from_static(name), value.clone()))
            .into_iter()
            .collect();
        assert!(
            RateHeaders::Ietf.parse(&headers, now).len() <= 32,
            "{piece}"
        );
        RateHeaders::GITHUB.parse(&headers, now);
        retry_after(&headers, now);
    }
}

#[test]
fn what_no_limit_can_be_is_left_out_of_a_hint() {
    let hint = |number: f64, reset, window| {
        let hint = RateLimitInfo {
            limit: Some(number),
            remaining: Some(number),
            reset: Some(reset),
            window: Some(window),
            ..RateLimitInfo::default()
        };
        let RateLimitInfo {
            limit,
            remaining,
            reset,
            window,
            ..
        } = hint.plausible();
        (limit, remaining, reset, window)
    };
    let second = Duration::from_secs(1);
    for number in [0.0, 100.0] {
        assert_eq!(
            hint(number, second, second),
            (Some(number), Some(number), Some(second), Some(second))
        );
    }
    for number in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(
            hint(number, second, second),
            (None, None, Some(second), Some(second)),
            "{number}"
        );
    }
    let (.., reset, window) = hint(1.0, Duration::MAX, Duration::MAX);
    let century = Duration::from_hours(876_000);
    assert_eq!(
        (reset, window),
        (Some(century), Some(century)),
        "it can be added to any time"
    );
    let (.., reset, window) = hint(1.0, Duration::ZERO, Duration::ZERO);
    assert_eq!((reset, window), (Some(Duration::ZERO), None));
}

#[test]
fn a_window_is_that_of_the_policy_with_the_same_limit() {
    let window = |pairs: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let hints = RateHeaders::Ietf.parse(&headers, "2026-01-01T00:00:00Z".parse().unwrap());
        hints
            .first()
            .and_then(|hint| hint.window)
            .map(|window| window.as_secs())
    };
    assert_eq!(
        window(&[("ratelimit-limit", "100, 10;w=1, 100;w=60")]),
        Some(60)
    );
    assert_eq!(
        window(&[
            ("ratelimit-limit", "100"),
            ("ratelimit-policy", "10;w=1, 100;w=60")
        ]),
        Some(60)
    );
    assert_eq!(
        window(&[
            ("ratelimit", "limit=100, remaining=80"),
            ("ratelimit-policy", "10;w=1, 100;w=60")
        ]),
        Some(60)
    );
    assert_eq!(
        window(&[
            ("ratelimit", "limit=50, remaining=80"),
            ("ratelimit-policy", "10;w=1, 100;w=60")
        ]),
        None
    );
    assert_eq!(
        window(&[
            ("ratelimit", "remaining=80"),
            ("ratelimit-policy", "\"p\";w=60")
        ]),
        None,
        "it may be of another limit"
    );
}
