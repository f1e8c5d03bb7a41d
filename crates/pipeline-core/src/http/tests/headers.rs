//! Rate-limit headers in every dialect, as a table.

use std::fmt::Write;

use super::*;

fn show(hint: &RateHint) -> String {
    let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| number.to_string());
    let time = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{}s", time.as_secs_f64()));
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
type Case = (&'static str, RateHeaders, &'static [(&'static str, &'static str)]);

#[test]
fn families_of_headers() {
    let auto = RateHeaders::Plain { limit: "l", remaining: "r", reset: "t", unit: ResetUnit::Auto };
    let millis = RateHeaders::Plain { limit: "l", remaining: "r", reset: "t", unit: ResetUnit::EpochMillis };
    let rfc3339 = RateHeaders::Plain { limit: "l", remaining: "r", reset: "t", unit: ResetUnit::Rfc3339 };
    // 2026-01-01T00:00:00Z is 1767225600.
    let cases: &[Case] = &[
        (
            "github",
            RateHeaders::GITHUB,
            &[("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "1767229200")],
        ),
        (
            "gitlab, reset in the past",
            RateHeaders::GITLAB,
            &[("ratelimit-limit", "60"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "1767225599")],
        ),
        (
            "twitter",
            RateHeaders::TWITTER,
            &[("x-rate-limit-limit", "15"), ("x-rate-limit-remaining", "3"), ("x-rate-limit-reset", "1767226500")],
        ),
        ("delta", RateHeaders::DELTA, &[("x-rate-limit", "700"), ("x-rate-limit-remaining", "699"), ("ratelimit-reset", "43")]),
        ("delta without reset", RateHeaders::DELTA, &[("x-rate-limit", "700"), ("x-rate-limit-remaining", "699")]),
        ("delta, nonsense", RateHeaders::DELTA, &[("x-rate-limit", "many"), ("x-rate-limit-remaining", "-1"), ("ratelimit-reset", "NaN")]),
        ("auto: seconds", auto, &[("l", "10"), ("r", "1"), ("t", "1.5")]),
        ("auto: epoch", auto, &[("l", "10"), ("r", "1"), ("t", "1767225610")]),
        ("auto: epoch ms", auto, &[("l", "10"), ("r", "1"), ("t", "1767225610500")]),
        ("auto: timestamp", auto, &[("l", "10"), ("r", "1"), ("t", "2026-01-01T01:00:20+01:00")]),
        ("epoch ms", millis, &[("l", "10"), ("t", "1767225601250")]),
        ("timestamp", rfc3339, &[("r", "10"), ("t", "2026-01-01T00:01:00Z")]),
        ("none", RateHeaders::GITHUB, &[("x-other", "1")]),
        (
            "ietf 11, a policy alone",
            RateHeaders::Ietf,
            &[("ratelimit-policy", "\"project\";q=240;w=3600, \"at-once\";q=5;qu=\"concurrent-requests\"")],
        ),
        ("ietf 7, a policy alone", RateHeaders::Ietf, &[("ratelimit-policy", "100;w=60")]),
        (
            "ietf 11",
            RateHeaders::Ietf,
            &[
                ("ratelimit-policy", "\"burst\";q=100;w=60, \"daily\";q=1000;w=86400"),
                ("ratelimit", "\"burst\";r=50;t=30, \"daily\";r=900"),
            ],
        ),
        (
            "ietf 11, concurrency and a tripped policy",
            RateHeaders::Ietf,
            &[
                ("ratelimit-policy", "\"p\";q=60;w=3600, \"p-concurrency\";q=5;qu=\"concurrent-requests\""),
                ("ratelimit", "\"p\";r=0;t=3600, \"p-concurrency\";r=3"),
            ],
        ),
        (
            "ietf 11, several lines, comma in a name",
            RateHeaders::Ietf,
            &[("ratelimit-policy", "\"a,b\";q=1;w=2"), ("ratelimit", "\"a,b\";r=0;t=1"), ("ratelimit", "\"c\";r=9;pk=:YQ==:")],
        ),
        ("ietf, names under discussion", RateHeaders::Ietf, &[("ratelimit", "\"p\";a=7;w=8")]),
        ("ietf 7", RateHeaders::Ietf, &[("ratelimit", "limit=100, remaining=80, reset=54"), ("ratelimit-policy", "100;w=60")]),
        ("ietf 6", RateHeaders::Ietf, &[("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "80"), ("ratelimit-reset", "54")]),
        ("ietf, nonsense", RateHeaders::Ietf, &[("ratelimit", ";;;=,\"\";r=x,,")]),
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
        headers.insert("date", HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
        headers.insert("retry-after", value.parse().unwrap());
        assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs_f64()), expected, "`{value}`");
    }
}
