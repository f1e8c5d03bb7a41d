//! A project that is read over a server of a few lines: regions, limits, and what a sync leaves in
//! the tables.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use connector_mixpanel::MixpanelConfig;
use futures::TryStreamExt;
use pipeline_core::http::{
    HeaderMap, HeaderName, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::slice::TimeRange;
use pipeline_core::{
    BuildContext, Connector, ConnectorConfig, Error, ErrorKind, Registry, SessionExt, Skipped,
    TokioClock, Unread,
};
use pipeline_engine::{Job, Outcome, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;
use tokio::time::Instant;

/// What the server says: a status, headers, a body.
type Said = (u16, Vec<(&'static str, String)>, String);

type Answer = dyn Fn(&str, usize) -> Said + Send + Sync;

/// A Mixpanel that remembers what it was asked, and when.
struct Server {
    asked: Mutex<Vec<(Instant, String)>>,
    answer: Box<Answer>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Answers by the request (host, path and form), and how many were made before.
    fn new(answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            answer: Box::new(answer),
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(_, asked)| asked.clone())
            .collect()
    }

    /// Seconds between the first request and the second.
    fn pause(&self) -> f64 {
        let asked = self.asked.lock().unwrap();
        (asked[1].0 - asked[0].0).as_secs_f64()
    }

    fn count(&self, part: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.contains(part))
            .count()
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let line = format!(
            "{}{} {form}",
            request.url.host_str().unwrap_or_default(),
            request.url.path()
        );
        let before = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((Instant::now(), line.clone()));
            asked.len() - 1
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, headers, body) = (self.answer)(&line, before);
        let header = |(name, value): (&str, String)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let headers: HeaderMap = headers.into_iter().map(header).collect();
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            headers,
            body,
        ))
    }
}

fn ok(body: impl Into<String>) -> Said {
    (200, Vec::new(), body.into())
}

fn refused(status: u16, body: &str) -> Said {
    (status, Vec::new(), body.to_owned())
}

fn connector(server: &Arc<Server>, changes: &serde_json::Value) -> Arc<dyn Connector> {
    let mut config = json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret", "region": "us", "start_date": "2026-11-20" });
    config
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    config
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z")
        .unwrap()
        .to_utc();
    let context = BuildContext::default()
        .transport(server.clone())
        .clock(Arc::new(TokioClock::starting_at(now)))
        .seed(7);
    registry
        .build(MixpanelConfig::NAME, config, context)
        .unwrap()
}

async fn records(connector: &Arc<dyn Connector>, stream: &str) -> Result<usize, Error> {
    let run = Arc::clone(connector).open(&[stream]).await?;
    let records: Vec<_> = run.records(stream, TimeRange::all()).try_collect().await?;
    Ok(records.len())
}

async fn read_all(
    connector: &Arc<dyn Connector>,
    streams: &[&str],
    destination: &Arc<MemoryDestination>,
) -> Summary {
    let streams = Selection::Named(streams.iter().map(ToString::to_string).collect());
    let source = Source {
        name: "product".to_owned(),
        connector: Arc::clone(connector),
        streams,
    };
    sync(Job::new("run", destination.clone(), vec![source]))
        .await
        .unwrap()
}

const ME: &str =
    r#"{"status":"ok","results":{"projects":{"7":{"name":"Shop","timezone":"Pacific/Auckland"}}}}"#;

#[tokio::test(start_paused = true)]
async fn c54_a_region_has_its_own_hosts() {
    let hosts = |region: &'static str| async move {
        let server = Server::new(|_, _| ok(""));
        let connector = connector(&server, &json!({ "region": region, "time_zone": "UTC" }));
        let _ = records(&connector, "cohorts").await;
        let _ = records(&connector, "export").await;
        let _ = records(&connector, "lookup_tables").await;
        let mut hosts: Vec<String> = server
            .asked()
            .iter()
            .filter_map(|asked| Some(asked.split_once('/')?.0.to_owned()))
            .collect();
        hosts.sort();
        hosts.dedup();
        hosts.join(" ")
    };
    assert_eq!(
        hosts("us").await,
        "api.mixpanel.com data.mixpanel.com mixpanel.com"
    );
    assert_eq!(
        hosts("eu").await,
        "api-eu.mixpanel.com data-eu.mixpanel.com eu.mixpanel.com"
    );
    assert_eq!(
        hosts("in").await,
        "api-in.mixpanel.com data-in.mixpanel.com in.mixpanel.com"
    );
}

#[tokio::test(start_paused = true)]
async fn c54_the_region_is_the_first_that_knows_the_account() {
    let server = Server::new(|asked, _| match asked {
        asked if asked.starts_with("mixpanel.com") => {
            refused(401, r#"{"status":"error","error":"unknown"}"#)
        }
        asked if asked.contains("/api/app/me") => ok(ME),
        _ => ok("[]"),
    });
    let connector = connector(&server, &json!({ "region": "auto" }));
    let report = connector.check(&["cohorts"]).await.unwrap();
    insta::assert_debug_snapshot!(report.facts);
    records(&connector, "cohorts").await.unwrap();
    insta::assert_snapshot!(server.asked().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn c54_credentials_that_no_region_knows_are_refused_once_in_each() {
    let server = Server::new(|_, _| refused(401, "{}"));
    let error = connector(&server, &json!({ "region": "auto" }))
        .open(&["cohorts"])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (ErrorKind::Unauthenticated, 3)
    );
    // A region that does not work may be the right one.
    let server = Server::new(|_, _| refused(403, r#"{"status":"error","error":"no"}"#));
    let error = connector(&server, &json!({ "region": "auto" }))
        .open(&["cohorts"])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), server.asked().len()),
        (ErrorKind::PermissionDenied, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn the_zone_is_asked_for_only_where_days_are_those_of_the_project() {
    let server = Server::new(|asked, _| {
        if asked.contains("/me") {
            ok(ME)
        } else {
            ok(r#"{"status":"ok","results":{}}"#)
        }
    });
    let report = json!([{ "name": "r", "stream": "segmentation_sum", "parameters": { "event": "e", "on": "x" }, "days": 1 }]);
    let connector = connector(&server, &json!({ "reports": report }));
    connector.open(&["cohorts", "export"]).await.unwrap();
    assert_eq!(server.asked().len(), 0);
    let connector = self::connector(&server, &json!({ "reports": report }));
    let run = connector.open(&["segmentation_sum"]).await.unwrap();
    assert_eq!(server.count("/api/app/me"), 1);
    let slices = run
        .plan()
        .endpoints
        .iter()
        .find(|endpoint| endpoint.name() == "segmentation_sum")
        .unwrap()
        .slicer()
        .plan(
            &pipeline_core::state::EndpointState::default(),
            TimeRange::all(),
            run.client().now(),
        );
    assert_eq!(
        slices[0].window.unwrap().until.to_string(),
        "2026-11-24 00:00:00 UTC",
        "it is the 23rd in Auckland"
    );
}

#[tokio::test(start_paused = true)]
async fn a_project_that_stores_local_times_must_have_a_zone() {
    let server = Server::new(|asked, _| {
        if asked.contains("/me") {
            ok(r#"{"status":"ok","results":{"projects":{"7":{}}}}"#)
        } else {
            ok("[]")
        }
    });
    let connector = connector(&server, &json!({ "time_storage": "project_local" }));
    let run = Arc::clone(&connector)
        .open(&["export", "cohorts"])
        .await
        .unwrap();
    let [Skipped { what, reason }] = &run.plan().skipped[..] else {
        panic!("{:?}", run.plan().skipped)
    };
    assert_eq!(*what, Unread::Endpoint("export".to_owned()));
    assert_eq!(
        (reason.kind(), reason.context_value("field")),
        (ErrorKind::ConfigInvalid, Some("time_zone"))
    );
    assert_eq!(
        records(&connector, "cohorts").await.unwrap(),
        0,
        "what needs no zone is read"
    );
}

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
async fn c37_a_plan_without_queries_still_exports() {
    let server = Server::new(|asked, _| match asked {
        asked if asked.contains("/export") => {
            ok("{\"event\":\"A\",\"properties\":{\"time\":1763630101,\"$insert_id\":\"i\"}}\n")
        }
        _ => refused(402, r#"{"error":"Your plan does not allow API calls"}"#),
    });
    let connector = connector(&server, &json!({}));
    let source = Source {
        name: "product".to_owned(),
        connector,
        streams: Selection::All,
    };
    let destination = Arc::new(MemoryDestination::default());
    let summary = sync(Job::new("run", destination.clone(), vec![source]))
        .await
        .unwrap();
    let outcome = |name: &str| {
        &summary
            .endpoints
            .iter()
            .find(|endpoint| endpoint.id.endpoint == name)
            .unwrap()
            .outcome
    };
    assert!(
        matches!(outcome("export"), Outcome::Done),
        "{:?}",
        outcome("export")
    );
    assert!(
        matches!(outcome("engage"), Outcome::Unavailable { reason, .. } if reason.contains("plan")),
        "{:?}",
        outcome("engage")
    );
    assert_eq!(destination.rows("product", "export").len(), 1);
}

/// Profiles in two pages of a session that has expired when the second is asked for, once.
fn expiring(asked: &str, before: usize) -> Said {
    let page = |number: usize, session: &str, ids: &str| {
        let total = if number == 0 { r#""total":3,"# } else { "" };
        ok(format!(
            r#"{{"page":{number},"page_size":2,{total}"session_id":"{session}","status":"ok","results":[{ids}]}}"#
        ))
    };
    let profile = |id: &str| format!(r#"{{"$distinct_id":"{id}","$properties":{{}}}}"#);
    match (asked.contains("session_id="), before) {
        (false, 0) => page(0, "s1", &format!("{},{}", profile("a"), profile("b"))),
        (true, 1) => refused(400, "request for page in uncached query for params"),
        (false, _) => page(0, "s2", &format!("{},{}", profile("a"), profile("b"))),
        (true, _) => page(1, "s2", &profile("c")),
    }
}

#[tokio::test(start_paused = true)]
async fn c46_a_scan_whose_session_expired_begins_again() {
    let server = Server::new(expiring);
    let destination = Arc::new(MemoryDestination::default());
    let summary = read_all(&connector(&server, &json!({})), &["engage"], &destination).await;
    assert!(
        matches!(summary.endpoints[0].outcome, Outcome::Done),
        "{summary:?}"
    );
    assert_eq!(
        destination.column("product", "engage", "distinct_id"),
        ["a", "b", "c"]
    );
    insta::assert_snapshot!(server.asked().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn c48_a_member_who_left_is_gone_after_the_next_sync() {
    let left = Arc::new(Mutex::new(false));
    let has_left = Arc::clone(&left);
    let server = Server::new(move |asked, _| {
        if asked.contains("cohorts/list") {
            return ok(r#"[{"id":1001,"name":"Buyers","count":2,"is_visible":1}]"#);
        }
        let (total, members) = if *has_left.lock().unwrap() {
            (1, r#"{"$distinct_id":"b","$properties":{}}"#)
        } else {
            (
                2,
                r#"{"$distinct_id":"a","$properties":{}},{"$distinct_id":"b","$properties":{}}"#,
            )
        };
        ok(format!(
            r#"{{"page":0,"page_size":1000,"total":{total},"session_id":"s","status":"ok","results":[{members}]}}"#
        ))
    });
    let destination = Arc::new(MemoryDestination::default());
    read_all(
        &connector(&server, &json!({})),
        &["cohort_members"],
        &destination,
    )
    .await;
    assert_eq!(
        destination.column("product", "cohort_members", "distinct_id"),
        ["a", "b"]
    );
    *left.lock().unwrap() = true;
    read_all(
        &connector(&server, &json!({})),
        &["cohort_members"],
        &destination,
    )
    .await;
    assert_eq!(
        destination.column("product", "cohort_members", "distinct_id"),
        ["b"]
    );
    assert_eq!(
        destination.column("product", "cohort_members", "cohort_id"),
        ["1001"]
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

#[tokio::test(start_paused = true)]
async fn days_that_a_report_no_longer_covers_stay_as_they_were() {
    let later = Arc::new(Mutex::new(false));
    let is_later = Arc::clone(&later);
    let server = Server::new(move |asked, _| {
        let days = if *is_later.lock().unwrap() {
            [("2026-11-21", 5), ("2026-11-22", 6)]
        } else {
            [("2026-11-20", 1), ("2026-11-21", 2)]
        };
        let of_days = |shown: fn(i32) -> String| {
            days.map(|(day, n)| format!("\"{day}\":{}", shown(n)))
                .join(",")
        };
        ok(match asked {
            asked if asked.contains("funnels/list") => r#"[{"funnel_id":7,"name":"F"}]"#.to_owned(),
            asked if asked.contains("funnels") => {
                let day = |n| format!(r#"{{"steps":[{n}],"analysis":{{}}}}"#);
                format!(r#"{{"meta":{{}},"data":{{{}}}}}"#, of_days(day))
            }
            _ => format!(
                r#"{{"status":"ok","results":{{{}}}}}"#,
                of_days(|n| n.to_string())
            ),
        })
    });
    let report = json!([{ "name": "r", "stream": "segmentation_sum", "parameters": { "event": "e", "on": "x" }, "days": 2 }]);
    let config = json!({ "reports": report, "time_zone": "UTC" });
    let streams = ["funnels", "segmentation_sum"];
    let destination = Arc::new(MemoryDestination::default());
    read_all(&connector(&server, &config), &streams, &destination).await;
    *later.lock().unwrap() = true;
    let again = read_all(&connector(&server, &config), &streams, &destination).await;
    assert!(again.failure().is_none(), "{again:?}");
    assert_eq!(
        destination.column("product", "funnels", "date"),
        ["2026-11-20", "2026-11-21", "2026-11-22"]
    );
    assert_eq!(
        destination.column("product", "funnels", "steps"),
        ["[1]", "[5]", "[6]"]
    );
    assert_eq!(
        destination.column("product", "segmentation_sum", "value"),
        ["1.0", "5.0", "6.0"]
    );
    assert_eq!(server.count("/funnels "), 2, "one request each time");
}

#[tokio::test(start_paused = true)]
async fn a_report_by_weeks_or_months_begins_with_a_whole_one() {
    let begins = |unit: &'static str| async move {
        let server = Server::new(|_, _| ok("{}"));
        let parameters = json!({ "event": "e", "on": "x", "unit": unit });
        let report = json!([{ "name": "r", "stream": "segmentation_sum", "parameters": parameters, "days": 10 }]);
        let connector = connector(&server, &json!({ "reports": report, "time_zone": "UTC" }));
        let run = connector.open(&["segmentation_sum"]).await.unwrap();
        let endpoint = run
            .plan()
            .endpoints
            .iter()
            .find(|endpoint| endpoint.name() == "segmentation_sum")
            .unwrap();
        let now = run.client().now();
        let slices = endpoint.slicer().plan(
            &pipeline_core::state::EndpointState::default(),
            TimeRange::all(),
            now,
        );
        slices[0]
            .window
            .unwrap()
            .since
            .unwrap()
            .date_naive()
            .to_string()
    };
    assert_eq!(begins("day").await, "2026-11-13");
    assert_eq!(begins("week").await, "2026-11-09", "a Monday");
    assert_eq!(begins("month").await, "2026-11-01");
}

const SCHEMAS: &str = r#"{"status":"ok","results":[
    {"entityType":"event","name":"Buy","schemaJson":{"properties":{"Plan":{"type":"string"},"mixed":{"type":"string"},"$city":{"type":"string"}}}},
    {"entityType":"event","name":"Sell","schemaJson":{"properties":{"mixed":{"type":"number"},"count":{"type":"integer"}}}},
    {"entityType":"profile","name":"$user","schemaJson":{"properties":{"seats":{"type":"integer"},"Tags":{"type":"array"}}}}]}"#;

fn with_properties(asked: &str) -> Said {
    match asked {
        asked if asked.contains("/schemas") => ok(SCHEMAS),
        asked if asked.contains("/properties/top") => ok(
            r#"{"plan":{"count":5},"Amount":{"count":3},"error":{"count":1},"Plan":{"count":1}}"#,
        ),
        asked if asked.contains("/export") => ok(
            r#"{"event":"Buy","properties":{"time":1795219200000,"$insert_id":"i","$city":"Porto","Plan":"pro","plan":2,"Amount":9.50,"count":3}}"#,
        ),
        _ => ok(
            r#"{"page":0,"page_size":10,"total":1,"session_id":"s","status":"ok","results":[{"$distinct_id":"u","$properties":{"seats":4,"Tags":["x"]}}]}"#,
        ),
    }
}

/// The columns of a stream's only row that are not those of every project.
fn own_columns(destination: &MemoryDestination, stream: &str) -> String {
    let is_own = |(name, _): &(&String, &String)| {
        !name.starts_with('_')
            && ![
                "event_key",
                "event",
                "time",
                "time_raw",
                "export_day",
                "insert_id",
                "city",
                "distinct_id",
                "properties",
            ]
            .contains(&name.as_str())
    };
    let rows = destination.rows("product", stream);
    rows[0]
        .iter()
        .filter(is_own)
        .map(|(name, value)| format!("{name} = {value}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(start_paused = true)]
async fn all_properties_that_mixpanel_tells_of_become_columns() {
    let server = Server::new(|asked, _| with_properties(asked));
    let config = json!({
        "flatten": ["events", "profiles"], "start_date": "2026-11-21",
        "event_columns": [{ "property": "Amount", "column": "amount", "type": "decimal" }],
    });
    let connector = connector(&server, &config);
    let notes = Arc::clone(&connector)
        .open(&["export", "engage"])
        .await
        .unwrap()
        .plan()
        .notices
        .clone();
    insta::assert_snapshot!(notes.join("\n"), @"export: property `Plan` is column `plan__f63dd9`, `plan` is column `plan`");
    let destination = Arc::new(MemoryDestination::default());
    let summary = read_all(&connector, &["export", "engage"], &destination).await;
    assert!(summary.failure().is_none(), "{summary:?}");
    insta::assert_snapshot!(own_columns(&destination, "export"), @"
    amount = 9.500000000
    count = 3
    plan = 2
    plan__f63dd9 = pro
    ");
    insta::assert_snapshot!(own_columns(&destination, "engage"), @r#"
    seats = 4
    tags__b1feba = ["x"]
    "#);
    assert_eq!(
        (server.count("/schemas"), server.count("/properties/top")),
        (2, 2),
        "asked once in each run"
    );
    assert_eq!(
        connector
            .client()
            .left("query")
            .await
            .unwrap()
            .unwrap()
            .permits,
        45,
        "a query for them in each run, and one for the profiles"
    );
}

#[tokio::test(start_paused = true)]
async fn properties_that_may_not_be_asked_for_are_told_and_the_rest_is_used() {
    let server = Server::new(|asked, _| {
        if asked.contains("/properties/top") {
            refused(402, "{}")
        } else {
            with_properties(asked)
        }
    });
    let connector = connector(
        &server,
        &json!({ "flatten": ["events"], "start_date": "2026-11-21" }),
    );
    let notes = Arc::clone(&connector)
        .open(&["export"])
        .await
        .unwrap()
        .plan()
        .notices
        .clone();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("the list of properties may not be read")),
        "{notes:?}"
    );
    let destination = Arc::new(MemoryDestination::default());
    read_all(&connector, &["export"], &destination).await;
    assert_eq!(destination.column("product", "export", "count"), ["3"]);
    // A project secret may not read the Lexicon, and nobody who wants neither is asked for
    // anything.
    let server = Server::new(|asked, _| with_properties(asked));
    let secret = json!({ "flatten": ["events"], "username": null, "secret": null, "project_secret": "dummy" });
    let by_secret = self::connector(&server, &secret);
    Arc::clone(&by_secret).open(&["export"]).await.unwrap();
    by_secret.open(&["cohorts"]).await.unwrap();
    assert_eq!(
        (server.count("/schemas"), server.count("/properties/top")),
        (0, 1)
    );
}
