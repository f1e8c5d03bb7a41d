//! How many queries an hour has, and how long a refused one waits.

use std::time::Duration;

use pipeline_core::{Error, ErrorKind};
use serde_json::json;
use tokio::time::Instant;

use crate::server::{Server, connector, ok, records, refused};

const POLICY: &str = r#""project";q=60;w=3600, "project-concurrency";q=5;qu="concurrent-requests""#;

/// Seconds that pass before a query is asked again whose first answer is 429 with these headers.
async fn pause_after(headers: &'static [(&'static str, &'static str)]) -> Result<f64, Error> {
    let server = Server::new(move |_, before| match before {
        0 => (
            429,
            headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            "{}".to_owned(),
        ),
        _ => ok("[]"),
    });
    records(&connector(&server, &json!({})), "cohorts").await?;
    Ok(server.pause())
}

#[tokio::test(start_paused = true)]
async fn c33_the_headers_tell_the_hour_from_requests_at_once() {
    let quota = [
        ("ratelimit-policy", POLICY),
        (
            "ratelimit",
            r#""project";r=0;t=3600, "project-concurrency";r=3"#,
        ),
    ];
    let error = pause_after(Box::leak(Box::new(quota))).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::RateLimited,
        "an hour is longer than a run waits by default: {error}"
    );
    assert!(
        error
            .context_value("resume_at")
            .is_some_and(|at| at.starts_with("2026-11-22T13:0")),
        "{error}"
    );
    let at_once = [
        ("ratelimit-policy", POLICY),
        (
            "ratelimit",
            r#""project";r=12, "project-concurrency";r=0;t=10"#,
        ),
    ];
    let pause = pause_after(Box::leak(Box::new(at_once))).await.unwrap();
    assert!((10.0..12.0).contains(&pause), "{pause}");
}

#[tokio::test(start_paused = true)]
async fn c35_retry_after_is_read_leniently() {
    let date = pause_after(&[
        ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
        ("retry-after", "Sun, 22 Nov 2026 12:01:00 GMT"),
    ])
    .await
    .unwrap();
    assert!((59.0..70.0).contains(&date), "{date}");
    for nonsense in [&[("retry-after", "-5")], &[("retry-after", "soon")]] {
        let pause = pause_after(nonsense).await.unwrap();
        assert!((0.1..70.0).contains(&pause), "{nonsense:?}: {pause}");
    }
    for too_long in ["999999", "1e300", "Fri, 22 Nov 2030 12:00:00 GMT"] {
        let headers = [
            ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
            ("retry-after", too_long),
        ];
        let error = pause_after(Box::leak(Box::new(headers))).await.unwrap_err();
        let resume = error.context_value("resume_at").unwrap();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert!(
            resume.starts_with("2026-11-22T13:"),
            "no limit lasts longer than an hour: {resume}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c36_without_headers_everything_of_the_project_pauses() {
    let server = Server::new(|_, before| {
        if before == 0 {
            refused(429, "Query rate limit exceeded")
        } else {
            ok("[]")
        }
    });
    let connector = connector(&server, &json!({}));
    let other = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        records(&connector, "funnels_list").await
    };
    let (cohorts, funnels) = tokio::join!(records(&connector, "cohorts"), other);
    cohorts.unwrap();
    funnels.unwrap();
    let asked = server.asked.lock().unwrap();
    assert!(
        asked[1].0 - asked[0].0 >= Duration::from_millis(500),
        "nobody asks before the pause is over: {asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c41_only_the_first_page_of_a_scan_is_charged() {
    let server = Server::new(|asked, _| {
        let page: usize = asked.split_once("page=").map_or(0, |(_, rest)| {
            rest.split('&').next().unwrap().parse().unwrap()
        });
        let profile = if page < 300 {
            format!(r#"{{"$distinct_id":"{page}","$properties":{{}}}}"#)
        } else {
            String::new()
        };
        ok(format!(
            r#"{{"page":{page},"page_size":1,"total":300,"session_id":"s","status":"ok","results":[{profile}]}}"#
        ))
    });
    let connector = connector(&server, &json!({}));
    let started = Instant::now();
    assert_eq!(records(&connector, "engage").await.unwrap(), 300);
    assert!(
        started.elapsed() < Duration::from_mins(3),
        "300 pages at 3 a second, not at 60 an hour: {:?}",
        started.elapsed()
    );
    assert_eq!(
        connector
            .client()
            .left("query")
            .await
            .unwrap()
            .unwrap()
            .permits,
        47,
        "one of 48"
    );
}

/// Queries of the first hour of a project whose answers tell such a policy, and what is left after
/// the first.
async fn queries_in_an_hour(policy: &'static str, changes: serde_json::Value) -> (usize, u32) {
    let server = Server::new(move |_, _| {
        (
            200,
            vec![("ratelimit-policy", policy.to_owned())],
            "[]".to_owned(),
        )
    });
    let connector = connector(&server, &changes);
    records(&connector, "cohorts").await.unwrap();
    let left = connector
        .client()
        .left("query")
        .await
        .unwrap()
        .unwrap()
        .permits;
    while records(&connector, "cohorts").await.is_ok() {}
    (server.asked().len(), left)
}

#[tokio::test(start_paused = true)]
async fn c34_the_policy_of_a_project_is_adopted_unless_a_number_is_configured() {
    const MORE: &str =
        r#""project";q=240;w=3600, "project-concurrency";q=5;qu="concurrent-requests""#;
    const FEWER: &str = r#""project";q=30;w=3600"#;
    const OTHER: &str = r#""endpoint";q=5;w=60"#;
    assert_eq!(
        queries_in_an_hour(MORE, json!({})).await,
        (192, 191),
        "80 % of 240"
    );
    assert_eq!(
        queries_in_an_hour(MORE, json!({ "rate_share": 1.0 })).await,
        (240, 239)
    );
    assert_eq!(queries_in_an_hour(FEWER, json!({})).await, (24, 23));
    assert_eq!(
        queries_in_an_hour(OTHER, json!({})).await,
        (48, 47),
        "a policy of a minute is none of an hour"
    );
    // What is configured is never exceeded.
    assert_eq!(
        queries_in_an_hour(MORE, json!({ "queries_per_hour": 100 })).await,
        (80, 79)
    );
    assert_eq!(
        queries_in_an_hour(MORE, json!({ "queries_per_hour": 60, "rate_share": 1.0 })).await,
        (60, 59)
    );
    assert_eq!(
        queries_in_an_hour(FEWER, json!({ "queries_per_hour": 60 })).await,
        (24, 23),
        "less is allowed than is configured"
    );
}

#[tokio::test(start_paused = true)]
async fn c34_a_refusal_tells_of_a_higher_quota_too() {
    // Other programs used the hour up; what comes after it is what the policy says.
    let server = Server::new(|_, before| match before {
        0 => (
            429,
            vec![
                ("ratelimit-policy", r#""project";q=240;w=3600"#.to_owned()),
                ("ratelimit", r#""project";r=0;t=20"#.to_owned()),
                ("retry-after", "20".to_owned()),
            ],
            "{}".to_owned(),
        ),
        _ => ok("[]"),
    });
    let connector = connector(&server, &json!({}));
    records(&connector, "cohorts").await.unwrap();
    assert!((20.0..23.0).contains(&server.pause()), "{}", server.pause());
    while records(&connector, "cohorts").await.is_ok() {}
    assert_eq!(server.asked().len(), 192);
}
