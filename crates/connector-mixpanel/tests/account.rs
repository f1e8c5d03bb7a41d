//! A project that is read over a server of a few lines: regions, limits, and what a sync leaves in the tables.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use connector_mixpanel::MixpanelConfig;
use futures::TryStreamExt;
use pipeline_core::engine::{Job, Outcome, Selection, Source, Summary, sync};
use pipeline_core::http::{HeaderMap, HeaderName, HttpService, RawResponse, Request, StatusCode, TransportError};
use pipeline_core::slice::TimeRange;
use pipeline_core::{BuildContext, Connector, ConnectorConfig, ConnectorExt, Error, ErrorKind, Registry, TokioClock};
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
        Arc::new(Self { asked: Mutex::default(), answer: Box::new(answer) })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, asked)| asked.clone()).collect()
    }

    /// Seconds between the first request and the second.
    fn pause(&self) -> f64 {
        let asked = self.asked.lock().unwrap();
        (asked[1].0 - asked[0].0).as_secs_f64()
    }

    fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.contains(part)).count()
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let line = format!("{}{} {form}", request.url.host_str().unwrap_or_default(), request.url.path());
        let before = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((Instant::now(), line.clone()));
            asked.len() - 1
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, headers, body) = (self.answer)(&line, before);
        let header = |(name, value): (&str, String)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let headers: HeaderMap = headers.into_iter().map(header).collect();
        Ok(RawResponse::full(StatusCode::from_u16(status).unwrap(), headers, body))
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
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z").unwrap().to_utc();
    let context = BuildContext {
        transport: Some(server.clone()),
        clock: Arc::new(TokioClock::starting_at(now)),
        seed: Some(7),
        ..BuildContext::default()
    };
    registry.build(MixpanelConfig::NAME, config, context).unwrap()
}

async fn records(connector: &Arc<dyn Connector>, stream: &str) -> Result<usize, Error> {
    let connector: &dyn Connector = &**connector;
    connector.prepare(&[stream]).await?;
    let records: Vec<_> = connector.records(stream, TimeRange::all()).try_collect().await?;
    Ok(records.len())
}

async fn read_all(connector: &Arc<dyn Connector>, streams: &[&str], destination: &Arc<MemoryDestination>) -> Summary {
    let streams = Selection::Named(streams.iter().map(ToString::to_string).collect());
    let source = Source { name: "product".to_owned(), connector: Arc::clone(connector), streams };
    sync(Job::new("run", destination.clone(), vec![source])).await.unwrap()
}

const ME: &str = r#"{"status":"ok","results":{"projects":{"7":{"name":"Shop","timezone":"Pacific/Auckland"}}}}"#;

#[tokio::test(start_paused = true)]
async fn c54_a_region_has_its_own_hosts() {
    let hosts = |region: &'static str| async move {
        let server = Server::new(|_, _| ok(""));
        let connector = connector(&server, &json!({ "region": region, "time_zone": "UTC" }));
        let _ = records(&connector, "cohorts").await;
        let _ = records(&connector, "export").await;
        let _ = records(&connector, "lookup_tables").await;
        let mut hosts: Vec<String> = server.asked().iter().filter_map(|asked| Some(asked.split_once('/')?.0.to_owned())).collect();
        hosts.sort();
        hosts.dedup();
        hosts.join(" ")
    };
    assert_eq!(hosts("us").await, "api.mixpanel.com data.mixpanel.com mixpanel.com");
    assert_eq!(hosts("eu").await, "api-eu.mixpanel.com data-eu.mixpanel.com eu.mixpanel.com");
    assert_eq!(hosts("in").await, "api-in.mixpanel.com data-in.mixpanel.com in.mixpanel.com");
}

#[tokio::test(start_paused = true)]
async fn c54_the_region_is_the_first_that_knows_the_account() {
    let server = Server::new(|asked, _| match asked {
        asked if asked.starts_with("mixpanel.com") => refused(401, r#"{"status":"error","error":"unknown"}"#),
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
    let error = connector(&server, &json!({ "region": "auto" })).prepare(&["cohorts"]).await.unwrap_err();
    assert_eq!((error.kind(), server.asked().len()), (ErrorKind::Unauthenticated, 3));
    // A region that does not work may be the right one.
    let server = Server::new(|_, _| refused(403, r#"{"status":"error","error":"no"}"#));
    let error = connector(&server, &json!({ "region": "auto" })).prepare(&["cohorts"]).await.unwrap_err();
    assert_eq!((error.kind(), server.asked().len()), (ErrorKind::PermissionDenied, 1));
}

#[tokio::test(start_paused = true)]
async fn the_zone_is_asked_for_only_where_days_are_those_of_the_project() {
    let server = Server::new(|asked, _| if asked.contains("/me") { ok(ME) } else { ok(r#"{"status":"ok","results":{}}"#) });
    let report = json!([{ "name": "r", "stream": "segmentation_sum", "parameters": { "event": "e", "on": "x" }, "days": 1 }]);
    let connector = connector(&server, &json!({ "reports": report }));
    connector.prepare(&["cohorts", "export"]).await.unwrap();
    assert_eq!(server.asked().len(), 0);
    let connector = self::connector(&server, &json!({ "reports": report }));
    let learned = connector.prepare(&["segmentation_sum"]).await.unwrap().endpoints.unwrap();
    assert_eq!(server.count("/api/app/me"), 1);
    let slices = learned[0].slicer().plan(&pipeline_core::state::EndpointState::default(), TimeRange::all(), connector.client().now());
    assert_eq!(slices[0].window.unwrap().until.to_string(), "2026-11-24 00:00:00 UTC", "it is the 23rd in Auckland");
}

#[tokio::test(start_paused = true)]
async fn a_project_that_stores_local_times_must_have_a_zone() {
    let server = Server::new(|_, _| ok(r#"{"status":"ok","results":{"projects":{}}}"#));
    let connector = connector(&server, &json!({ "time_storage": "project_local" }));
    let error = connector.prepare(&["export"]).await.unwrap_err();
    assert_eq!((error.kind(), error.context_value("field")), (ErrorKind::ConfigInvalid, Some("time_zone")));
}

const POLICY: &str = r#""project";q=60;w=3600, "project-concurrency";q=5;qu="concurrent-requests""#;

/// Seconds that pass before a query is asked again whose first answer is 429 with these headers.
async fn pause_after(headers: &'static [(&'static str, &'static str)]) -> Result<f64, Error> {
    let server = Server::new(move |_, before| match before {
        0 => (429, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), "{}".to_owned()),
        _ => ok("[]"),
    });
    records(&connector(&server, &json!({})), "cohorts").await?;
    Ok(server.pause())
}

#[tokio::test(start_paused = true)]
async fn c33_the_headers_tell_the_hour_from_requests_at_once() {
    let quota = [("ratelimit-policy", POLICY), ("ratelimit", r#""project";r=0;t=3600, "project-concurrency";r=3"#)];
    let error = pause_after(Box::leak(Box::new(quota))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "an hour is longer than a run waits by default: {error}");
    assert!(error.context_value("resume_at").is_some_and(|at| at.starts_with("2026-11-22T13:0")), "{error}");
    let at_once = [("ratelimit-policy", POLICY), ("ratelimit", r#""project";r=12, "project-concurrency";r=0;t=10"#)];
    let pause = pause_after(Box::leak(Box::new(at_once))).await.unwrap();
    assert!((10.0..12.0).contains(&pause), "{pause}");
}

#[tokio::test(start_paused = true)]
async fn c35_retry_after_is_read_leniently() {
    let date = pause_after(&[("date", "Sun, 22 Nov 2026 12:00:00 GMT"), ("retry-after", "Sun, 22 Nov 2026 12:01:00 GMT")]).await.unwrap();
    assert!((59.0..70.0).contains(&date), "{date}");
    for nonsense in [&[("retry-after", "-5")], &[("retry-after", "soon")]] {
        let pause = pause_after(nonsense).await.unwrap();
        assert!((0.1..70.0).contains(&pause), "{nonsense:?}: {pause}");
    }
    let error = pause_after(&[("retry-after", "999999")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
}

#[tokio::test(start_paused = true)]
async fn c36_without_headers_everything_of_the_project_pauses() {
    let server = Server::new(|_, before| if before == 0 { refused(429, "Query rate limit exceeded") } else { ok("[]") });
    let connector = connector(&server, &json!({}));
    let other = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        records(&connector, "funnels_list").await
    };
    let (cohorts, funnels) = tokio::join!(records(&connector, "cohorts"), other);
    cohorts.unwrap();
    funnels.unwrap();
    let asked = server.asked.lock().unwrap();
    assert!(asked[1].0 - asked[0].0 >= Duration::from_millis(500), "nobody asks before the pause is over: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn c37_a_plan_without_queries_still_exports() {
    let server = Server::new(|asked, _| match asked {
        asked if asked.contains("/export") => ok("{\"event\":\"A\",\"properties\":{\"time\":1763630101,\"$insert_id\":\"i\"}}\n"),
        _ => refused(402, r#"{"error":"Your plan does not allow API calls"}"#),
    });
    let connector = connector(&server, &json!({}));
    let source = Source { name: "product".to_owned(), connector, streams: Selection::All };
    let destination = Arc::new(MemoryDestination::default());
    let summary = sync(Job::new("run", destination.clone(), vec![source])).await.unwrap();
    let outcome = |name: &str| &summary.endpoints.iter().find(|endpoint| endpoint.id.endpoint == name).unwrap().outcome;
    assert!(matches!(outcome("export"), Outcome::Done), "{:?}", outcome("export"));
    assert!(matches!(outcome("engage"), Outcome::Unavailable { reason, .. } if reason.contains("plan")), "{:?}", outcome("engage"));
    assert_eq!(destination.rows("product", "export").len(), 1);
}

/// Profiles in two pages of a session that has expired when the second is asked for, once.
fn expiring(asked: &str, before: usize) -> Said {
    let page = |number: usize, session: &str, ids: &str| {
        let total = if number == 0 { r#""total":3,"# } else { "" };
        ok(format!(r#"{{"page":{number},"page_size":2,{total}"session_id":"{session}","status":"ok","results":[{ids}]}}"#))
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
    assert!(matches!(summary.endpoints[0].outcome, Outcome::Done), "{summary:?}");
    assert_eq!(destination.column("product", "engage", "distinct_id"), ["a", "b", "c"]);
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
        let members = if *has_left.lock().unwrap() {
            r#"{"$distinct_id":"b","$properties":{}}"#
        } else {
            r#"{"$distinct_id":"a","$properties":{}},{"$distinct_id":"b","$properties":{}}"#
        };
        ok(format!(r#"{{"page":0,"page_size":1000,"total":2,"session_id":"s","status":"ok","results":[{members}]}}"#))
    });
    let destination = Arc::new(MemoryDestination::default());
    read_all(&connector(&server, &json!({})), &["cohort_members"], &destination).await;
    assert_eq!(destination.column("product", "cohort_members", "distinct_id"), ["a", "b"]);
    *left.lock().unwrap() = true;
    read_all(&connector(&server, &json!({})), &["cohort_members"], &destination).await;
    assert_eq!(destination.column("product", "cohort_members", "distinct_id"), ["b"]);
    assert_eq!(destination.column("product", "cohort_members", "cohort_id"), ["1001"]);
}

#[tokio::test(start_paused = true)]
async fn c41_only_the_first_page_of_a_scan_is_charged() {
    let server = Server::new(|asked, _| {
        let page: usize = asked.split_once("page=").map_or(0, |(_, rest)| rest.split('&').next().unwrap().parse().unwrap());
        let profile = if page < 300 { format!(r#"{{"$distinct_id":"{page}","$properties":{{}}}}"#) } else { String::new() };
        ok(format!(r#"{{"page":{page},"page_size":1,"total":300,"session_id":"s","status":"ok","results":[{profile}]}}"#))
    });
    let connector = connector(&server, &json!({}));
    let started = Instant::now();
    assert_eq!(records(&connector, "engage").await.unwrap(), 300);
    assert!(started.elapsed() < Duration::from_mins(3), "300 pages at 3 a second, not at 60 an hour: {:?}", started.elapsed());
    assert_eq!(connector.client().left("query").await.unwrap().unwrap().permits, 47, "one of 48");
}

#[tokio::test(start_paused = true)]
async fn c34_a_quota_of_its_own_is_configured() {
    let server = Server::new(|_, _| ok("[]"));
    let left = |changes: serde_json::Value| {
        let connector = connector(&server, &changes);
        async move { connector.client().left("query").await.unwrap().unwrap().permits }
    };
    assert_eq!(left(json!({})).await, 48);
    assert_eq!(left(json!({ "queries_per_hour": 240 })).await, 192);
    assert_eq!(left(json!({ "queries_per_hour": 240, "rate_share": 1.0 })).await, 240);
}
