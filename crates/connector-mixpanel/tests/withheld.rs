//! What Mixpanel withholds, and what of a project is read all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use connector_mixpanel::MixpanelConfig;
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::{
    Availability, BuildContext, Clock, Connector, ConnectorConfig, ErrorKind, Registry, TokioClock,
};
use pipeline_engine::{
    EndpointSummary, Job, Metrics, Options, Outcome, Selection, Source, Summary, sync,
};
use pipeline_testkit::MemoryDestination;
use serde_json::json;

/// A request as `path query form`, decoded.
type Answer = dyn Fn(&str) -> (u16, String) + Send + Sync;

/// A Mixpanel of a few lines, and the runs that read it into one destination.
struct Project {
    server: Arc<Server>,
    destination: Arc<MemoryDestination>,
    config: serde_json::Value,
}

struct Server {
    asked: Mutex<Vec<String>>,
    answer: Mutex<Box<Answer>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let pair = |(name, value): (String, String)| format!(" {name}={value}");
        let form = url::form_urlencoded::parse(&request.body).into_owned();
        let asked = request
            .query
            .into_iter()
            .chain(form)
            .map(pair)
            .fold(request.url.path().to_owned(), |line, pair| line + &pair);
        self.asked.lock().unwrap().push(asked.clone());
        let (status, body) = (self.answer.lock().unwrap())(&asked);
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            body,
        ))
    }
}

/// What a run did.
struct Run {
    summary: Summary,
    notices: Vec<String>,
}

impl Project {
    fn new(
        config: serde_json::Value,
        answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let mut all = json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret", "region": "us", "start_date": "2026-11-20" });
        all.as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        all.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let server = Arc::new(Server {
            asked: Mutex::default(),
            answer: Mutex::new(Box::new(answer)),
        });
        Self {
            server,
            destination: Arc::new(MemoryDestination::default()),
            config: all,
        }
    }

    fn answers(&self, answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) {
        *self.server.answer.lock().unwrap() = Box::new(answer);
    }

    fn connector(&self, metrics: Arc<Metrics>) -> (Arc<dyn Connector>, Arc<dyn Clock>) {
        let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z")
            .unwrap()
            .to_utc();
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now));
        let context = BuildContext::default()
            .transport(self.server.clone())
            .clock(Arc::clone(&clock))
            .observer(metrics)
            .seed(7);
        let mut registry = Registry::default();
        registry.add::<MixpanelConfig>();
        (
            registry
                .build(MixpanelConfig::NAME, self.config.clone(), context)
                .unwrap(),
            clock,
        )
    }

    async fn sync(&self, streams: &[&str]) -> Run {
        self.sync_with(streams, Options::default()).await
    }

    async fn sync_with(&self, streams: &[&str], options: Options) -> Run {
        let metrics = Arc::new(Metrics::default());
        let (connector, clock) = self.connector(metrics.clone());
        let streams = match streams {
            [] => Selection::All,
            named => Selection::Named(named.iter().map(ToString::to_string).collect()),
        };
        let source = Source {
            name: "product".to_owned(),
            connector,
            streams,
        };
        let summary = sync(
            Job::new("run", self.destination.clone(), vec![source])
                .clock(clock)
                .options(options)
                .observer(metrics.clone()),
        )
        .await
        .unwrap();
        Run {
            summary,
            notices: metrics
                .notices()
                .into_iter()
                .map(|(_, text)| text)
                .collect(),
        }
    }

    fn column(&self, stream: &str, column: &str) -> Vec<String> {
        let mut values = self.destination.column("product", stream, column);
        values.sort();
        values
    }

    fn count(&self, part: &str) -> usize {
        self.server
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| asked.contains(part))
            .count()
    }

    fn asked(&self, part: &str) -> Vec<String> {
        self.server
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| asked.contains(part))
            .cloned()
            .collect()
    }
}

impl Run {
    fn endpoint(&self, name: &str) -> &EndpointSummary {
        self.summary
            .endpoints
            .iter()
            .find(|endpoint| endpoint.id.endpoint == name)
            .unwrap()
    }

    fn gaps(&self, endpoint: &str) -> Vec<&str> {
        self.endpoint(endpoint)
            .gaps
            .iter()
            .map(|gap| gap.name.as_str())
            .collect()
    }
}

fn ok(body: impl Into<String>) -> (u16, String) {
    (200, body.into())
}

fn refused(text: &str) -> (u16, String) {
    (400, format!(r#"{{"error":"{text}"}}"#))
}

fn value<'a>(asked: &'a str, name: &str) -> Option<&'a str> {
    asked
        .split(' ')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// A page of profiles.
fn profiles(page: usize, size: usize, total: Option<usize>, ids: &[&str]) -> (u16, String) {
    let total = total.map_or(String::new(), |total| format!(r#""total":{total},"#));
    let ids: Vec<String> = ids
        .iter()
        .map(|id| format!(r#"{{"$distinct_id":"{id}","$properties":{{}}}}"#))
        .collect();
    ok(format!(
        r#"{{"page":{page},"page_size":{size},{total}"session_id":"s","status":"ok","results":[{}]}}"#,
        ids.join(",")
    ))
}

fn me(project: &str) -> (u16, String) {
    ok(format!(
        r#"{{"status":"ok","results":{{"projects":{{{project}}}}}}}"#
    ))
}

#[tokio::test(start_paused = true)]
async fn every_query_that_names_days_begins_with_those_that_the_project_keeps() {
    // Ten days are kept: from the 12th on.
    let answer = |asked: &str| {
        let since = value(asked, "from_date").or(value(asked, "fromDate"));
        if since.is_some_and(|since| since < "2026-11-12") {
            return (
                403,
                r#"{"error":"Date range exceeds 10 days into the past","status":"error"}"#
                    .to_owned(),
            );
        }
        match asked {
            asked if asked.contains("/funnels/list") => {
                ok(r#"[{"funnel_id":1,"name":"F"},{"funnel_id":2,"name":"G"}]"#)
            }
            asked if asked.contains("/funnels") => {
                ok(r#"{"meta":{},"data":{"2026-11-21":{"steps":[],"analysis":{}}}}"#)
            }
            asked if asked.contains("/segmentation/sum") => {
                ok(r#"{"status":"ok","results":{"2026-11-21":4}}"#)
            }
            asked if asked.contains("/revenue") => {
                ok(r#"{"status":"ok","results":{"2026-11-21":{"amount":1}}}"#)
            }
            asked if asked.contains("/annotations") => {
                ok(r#"{"status":"ok","results":[{"id":1,"date":"2026-11-21 12:00:00"}]}"#)
            }
            _ => ok(""),
        }
    };
    let report = |name: &str, unit: &str| json!({ "name": name, "stream": "segmentation_sum", "parameters": { "event": "e", "on": "x", "unit": unit } });
    let config = json!({
        "start_date": "2026-09-01", "time_zone": "UTC", "legacy_revenue": true, "reports": [report("days", "day"), report("weeks", "week")],
    });
    let streams = [
        "export",
        "annotations",
        "funnels",
        "revenue",
        "segmentation_sum",
    ];
    let project = Project::new(config.clone(), answer);
    let run = project.sync(&streams).await;
    for endpoint in &run.summary.endpoints {
        assert!(
            matches!(endpoint.outcome, Outcome::Done),
            "{}: {:?}",
            endpoint.id,
            endpoint.outcome
        );
        let told = "the project's plan keeps no days before 2026-11-12: they are left out";
        assert!(
            run.notices.iter().any(|notice| notice == told),
            "{:?}",
            run.notices
        );
    }
    assert_eq!(project.column("annotations", "id"), ["1"]);
    assert_eq!(project.column("funnels", "funnel_id"), ["1", "2"]);
    assert_eq!(
        project.column("segmentation_sum", "report"),
        ["days", "weeks"]
    );
    assert_eq!(
        project.asked("/annotations ").last().map(String::as_str),
        Some("/api/app/projects/7/annotations fromDate=2026-11-12")
    );
    assert!(
        project
            .asked("unit=week")
            .last()
            .unwrap()
            .contains("from_date=2026-11-16"),
        "a Monday: {:?}",
        project.asked("unit=week")
    );
    assert!(
        project.count("exceeds") == 0 && project.count("from_date=2026-08-25") <= 4,
        "{:?}",
        project.asked("from_date")
    );
    // Whether they can be read does not depend on it.
    let project = Project::new(config, answer);
    let report = project
        .connector(Arc::default())
        .0
        .check(&streams)
        .await
        .unwrap();
    assert!(
        report
            .endpoints
            .iter()
            .all(|(_, found)| *found == Availability::Available),
        "{:?}",
        report.endpoints
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_spends_one_export_whatever_the_answer() {
    let check = |status: u16, body: &'static str| async move {
        let project = Project::new(json!({}), move |_| (status, body.to_owned()));
        let found = project
            .connector(Arc::default())
            .0
            .check(&["export"])
            .await
            .map(|report| report.endpoints[0].1.clone());
        assert_eq!(project.count("/export"), 1, "{status} {body}");
        assert!(
            project.asked("/export")[0].contains("from_date=2026-11-21 to_date=2026-11-21"),
            "{:?}",
            project.asked("")
        );
        found
    };
    for fine in [
        "",
        "\n",
        r#"{"event":"e","properties":{}}"#,
        r#"{"event":"x"}"#,
    ] {
        assert_eq!(
            check(200, fine).await.unwrap(),
            Availability::Available,
            "{fine}"
        );
    }
    let old = r#"{"error":"Date range exceeds 0 days into the past"}"#;
    assert_eq!(check(403, old).await.unwrap(), Availability::Available);
    for (status, body) in [
        (402, r#"{"error":"Your plan"}"#),
        (403, r#"{"error":"no role"}"#),
        (400, r#"{"error":"bad"}"#),
    ] {
        let found = check(status, body).await.unwrap();
        assert!(
            matches!(&found, Availability::Unavailable(text) if text.contains("answer")),
            "{found:?}"
        );
    }
    assert_eq!(
        check(500, "{}").await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(
        check(401, "{}").await.unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_not_known_stops_nothing_that_needs_none() {
    let unknown = [
        me(r#""7":{"timezone":"Mars/Base"}"#),
        me(r#""7":{"timezone":""}"#),
        me(r#""7":{"name":"x"}"#),
        (403, r#"{"status":"error","error":"no role"}"#.to_owned()),
        (
            400,
            r#"{"status":"error","error":"not for you"}"#.to_owned(),
        ),
        ok("[]"),
        ok(r#"{"status":"error","error":"not today"}"#),
    ];
    for answer in unknown {
        let said = answer.clone();
        let project = Project::new(json!({}), move |asked| match asked {
            asked if asked.contains("/me") => said.clone(),
            asked if asked.contains("/export") => {
                ok(r#"{"event":"e","properties":{"time":1795219200000,"$insert_id":"i"}}"#)
            }
            asked if asked.contains("/funnels/list") => ok(r#"[{"funnel_id":1,"name":"F"}]"#),
            // No day that has not begun in the project's zone.
            asked if value(asked, "to_date") > Some("2026-11-22") => {
                refused("to_date cannot be later than today")
            }
            asked if asked.contains("/funnels") => {
                ok(r#"{"meta":{},"data":{"2026-11-21":{"steps":[],"analysis":{}}}}"#)
            }
            _ => {
                ok(r#"{"events":[{"event":"e","amount":1,"percent_change":0.1}],"type":"general"}"#)
            }
        });
        let run = project.sync(&["export", "top_events", "funnels"]).await;
        assert!(
            run.summary.failure().is_none(),
            "{answer:?}: {:?}",
            run.summary
        );
        assert_eq!(
            (
                project.column("export", "insert_id").len(),
                project.column("top_events", "date")
            ),
            (1, vec!["2026-11-22".to_owned()])
        );
        assert!(
            run.notices
                .iter()
                .any(|notice| notice.contains("time zone is not known")),
            "{:?}",
            run.notices
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_project_that_the_account_does_not_see_is_an_error() {
    let project = Project::new(json!({}), |asked| {
        if asked.contains("/me") {
            me(r#""8":{"timezone":"UTC"},"9":{}"#)
        } else {
            ok("[]")
        }
    });
    let error = project
        .connector(Arc::default())
        .0
        .check(&["top_events"])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error
            .to_string()
            .contains("does not see the project (project: 7, sees: 8, 9)"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_ends_short_of_its_total_removes_nobody() {
    const IDS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
    let pages = |asked: &str, pages: &[&[&str]]| {
        let page: usize = value(asked, "page").map_or(0, |page| page.parse().unwrap());
        profiles(
            page,
            2,
            (page == 0).then_some(7),
            pages.get(page).copied().unwrap_or_default(),
        )
    };
    let whole = move |asked: &str| {
        if asked.contains("/me") {
            me(r#""7":{"timezone":"UTC"}"#)
        } else {
            pages(asked, &[&IDS[..2], &IDS[2..4], &IDS[4..6], &IDS[6..]])
        }
    };
    let project = Project::new(json!({ "group_ids": [5] }), whole);
    for streams in [["engage"], ["group_profiles"]] {
        let (stream, requests) = (streams[0], |project: &Project| project.count("/engage "));
        project.answers(whole);
        assert!(matches!(
            project.sync(&streams).await.endpoint(stream).outcome,
            Outcome::Done
        ));
        assert_eq!(project.column(stream, "distinct_id").len(), 7);
        // One scan that was cut short is begun anew.
        let first = Mutex::new(true);
        project.answers(move |asked| {
            let mut first = first.lock().unwrap();
            if value(asked, "page") == Some("1") && std::mem::take(&mut *first) {
                profiles(1, 2, None, &[])
            } else {
                whole(asked)
            }
        });
        let before = requests(&project);
        assert!(matches!(
            project.sync(&streams).await.endpoint(stream).outcome,
            Outcome::Done
        ));
        assert_eq!(
            (
                project.column(stream, "distinct_id").len(),
                requests(&project) - before
            ),
            (7, 4 + 4),
            "{stream}"
        );
        // Two are a failure.
        project.answers(move |asked| pages(asked, &[&IDS[..2], &IDS[2..3]]));
        let run = project.sync(&streams).await;
        assert!(
            matches!(
                run.endpoint(stream).outcome,
                Outcome::Failed { .. } | Outcome::Incomplete
            ),
            "{:?}",
            run.endpoint(stream).outcome
        );
        assert_eq!(project.column(stream, "distinct_id").len(), 7, "{stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_repeats_profiles_removes_nobody() {
    const PAGES: [&[&str]; 4] = [&["a", "b"], &["c", "d"], &["e", "f"], &["g", "h"]];
    let scan = |asked: &str, pages: [&[&str]; 4]| {
        if asked.contains("/me") {
            return me(r#""7":{"timezone":"UTC"}"#);
        }
        let page: usize = value(asked, "page").map_or(0, |page| page.parse().unwrap());
        profiles(
            page,
            2,
            (page == 0).then_some(8),
            pages.get(page).copied().unwrap_or_default(),
        )
    };
    let repeated = [
        [PAGES[0], PAGES[1], PAGES[1], PAGES[3]],
        [PAGES[0], PAGES[1], PAGES[2], PAGES[0]],
        [PAGES[0]; 4],
        // Not a whole page, but as many records as are counted.
        [PAGES[0], &["b", "c"], PAGES[2], PAGES[3]],
    ];
    for stream in ["engage", "group_profiles"] {
        for pages in repeated {
            let project =
                Project::new(json!({ "group_ids": [5] }), move |asked| scan(asked, PAGES));
            for healthy in [true, false, false, true] {
                project.answers(move |asked| scan(asked, if healthy { PAGES } else { pages }));
                let run = project.sync(&[stream]).await;
                assert_eq!(
                    matches!(run.endpoint(stream).outcome, Outcome::Done),
                    healthy,
                    "{pages:?}: {:?}",
                    run.endpoint(stream).outcome
                );
                assert_eq!(
                    project.column(stream, "distinct_id").len(),
                    8,
                    "{stream}: {pages:?}"
                );
            }
        }
    }
}

/// The pages of scans that end before they should.
const ENDED_EARLY: [&[&[&str]]; 2] = [&[&["a", "b"]], &[]];

#[tokio::test(start_paused = true)]
async fn a_scan_without_a_total_ends_with_a_short_page_and_not_with_an_empty_one() {
    let scan = |asked: &str, pages: &[&[&str]]| {
        if asked.contains("/me") {
            return me(r#""7":{"timezone":"UTC"}"#);
        }
        let page: usize = value(asked, "page").map_or(0, |page| page.parse().unwrap());
        profiles(page, 2, None, pages.get(page).copied().unwrap_or_default())
    };
    let project = Project::new(json!({}), move |asked| {
        scan(asked, &[&["a", "b"], &["c", "d"], &["e"]])
    });
    assert!(matches!(
        project.sync(&["engage"]).await.endpoint("engage").outcome,
        Outcome::Done
    ));
    for pages in ENDED_EARLY {
        project.answers(move |asked| scan(asked, pages));
        let run = project.sync(&["engage"]).await;
        assert!(
            matches!(run.endpoint("engage").outcome, Outcome::Failed { .. }),
            "{:?}",
            run.endpoint("engage").outcome
        );
        assert_eq!(
            project.column("engage", "distinct_id").len(),
            5,
            "nothing shows that the others are gone"
        );
    }
    project.answers(move |asked| scan(asked, &[&["a", "b"], &["c"]]));
    assert!(matches!(
        project.sync(&["engage"]).await.endpoint("engage").outcome,
        Outcome::Done
    ));
    assert_eq!(project.column("engage", "distinct_id").len(), 3);
}

/// Four cohorts of two members, four funnels, two reports and two kinds of groups; what
/// `is_refused` names cannot be computed.
fn of_four(
    is_refused: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> impl Fn(&str) -> (u16, String) + Send + Sync + 'static {
    move |asked| match asked {
        asked if asked.contains("/cohorts/list") => {
            let cohort = |id: u8| format!(r#"{{"id":{id},"name":"c","count":2,"is_visible":1}}"#);
            ok(format!("[{}]", [1, 2, 3, 4].map(cohort).join(",")))
        }
        asked if asked.contains("/funnels/list") => ok(format!(
            "[{}]",
            [1, 2, 3, 4]
                .map(|id| format!(r#"{{"funnel_id":{id},"name":"f{id}"}}"#))
                .join(",")
        )),
        asked if is_refused(asked) => refused("Unable to compute"),
        asked if asked.contains("/engage") => profiles(0, 1000, Some(2), &["u", "v"]),
        asked if asked.contains("/funnels") => {
            ok(r#"{"meta":{},"data":{"2026-11-21":{"steps":[],"analysis":{}}}}"#)
        }
        asked if asked.contains("/segmentation/sum") => {
            ok(r#"{"status":"ok","results":{"2026-11-21":4}}"#)
        }
        asked if asked.contains("/segmentation") => {
            ok(r#"{"data":{"series":[],"values":{"x":{"2026-11-21":1}}}}"#)
        }
        _ => ok("[]"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_computed_leaves_the_rest_and_its_own_rows() {
    let report = |stream: &str, name: &str| json!({ "name": name, "stream": stream, "parameters": { "event": name, "on": "x" } });
    let reports = [
        report("segmentation_sum", "one"),
        report("segmentation_sum", "two"),
        report("segmentation", "one"),
        report("segmentation", "two"),
    ];
    let config = json!({ "time_zone": "UTC", "group_ids": [5, 6], "reports": reports });
    let streams = [
        "cohort_members",
        "funnels",
        "segmentation_sum",
        "segmentation",
        "group_profiles",
    ];
    let units = [
        (
            "cohort_members",
            "cohort_id",
            r#"filter_by_cohort={"id":2}"#,
            "2",
            8,
        ),
        ("funnels", "funnel_id", "funnel_id=2", "2", 4),
        ("segmentation_sum", "report", "event=two", "report two", 2),
        ("segmentation", "report", "event=two", "report two", 2),
        (
            "group_profiles",
            "data_group_id",
            "data_group_id=6",
            "group 6",
            4,
        ),
    ];
    let refuse = move |asked: &str| {
        units
            .iter()
            .any(|(_, _, part, ..)| asked.split(' ').any(|pair| pair == *part))
            && !asked.contains("where=")
    };
    // Refused from the start: the others are there.
    let project = Project::new(config.clone(), of_four(refuse));
    let run = project.sync(&streams).await;
    for (stream, column, _, name, rows) in units {
        assert!(
            matches!(run.endpoint(stream).outcome, Outcome::Incomplete),
            "{stream}: {:?}",
            run.endpoint(stream).outcome
        );
        assert_eq!(run.gaps(stream), [name], "{stream}");
        assert!(
            run.endpoint(stream).gaps[0]
                .reason
                .contains("Unable to compute"),
            "{:?}",
            run.endpoint(stream).gaps
        );
        let each = if ["cohort_members", "group_profiles"].contains(&stream) {
            2
        } else {
            1
        };
        assert_eq!(
            project.column(stream, column).len(),
            rows - each,
            "{stream}"
        );
    }
    assert_eq!(
        run.summary.failure(),
        Some(ErrorKind::Unavailable),
        "exit 4"
    );
    // It heals, and is filled once.
    project.answers(of_four(|_| false));
    let run = project.sync(&streams).await;
    assert!(run.summary.failure().is_none(), "{:?}", run.summary);
    for (stream, column, _, _, rows) in units {
        assert_eq!(project.column(stream, column).len(), rows, "{stream}");
    }
    // It is refused again: what was there of it stays, in a refresh too.
    project.answers(of_four(refuse));
    for options in [Options::default(), Options::default().full_refresh(true)] {
        let run = project.sync_with(&streams, options).await;
        for (stream, column, _, name, rows) in units {
            assert_eq!(run.gaps(stream), [name], "{stream}");
            assert_eq!(project.column(stream, column).len(), rows, "{stream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_that_cannot_be_exported_keeps_its_events_in_a_refresh() {
    let events = |asked: &str| {
        let since = value(asked, "from_date")
            .unwrap()
            .parse::<chrono::NaiveDate>()
            .unwrap();
        let last = value(asked, "to_date")
            .unwrap()
            .parse::<chrono::NaiveDate>()
            .unwrap();
        let line = |day: chrono::NaiveDate| {
            let time = day
                .and_hms_opt(12, 0, 0)
                .unwrap()
                .and_utc()
                .timestamp_millis();
            format!(r#"{{"event":"e","properties":{{"time":{time},"$insert_id":"{day}"}}}}"#) + "\n"
        };
        since
            .iter_days()
            .take_while(|day| *day <= last)
            .map(line)
            .collect::<String>()
    };
    let project = Project::new(json!({ "start_date": "2026-11-12" }), move |asked| {
        ok(events(asked))
    });
    project.sync(&["export"]).await;
    assert_eq!(project.column("export", "export_day").len(), 10);
    project.answers(move |asked| {
        let events = events(asked);
        if events.contains("2026-11-15") {
            refused("not this day")
        } else {
            ok(events)
        }
    });
    let run = project
        .sync_with(&["export"], Options::default().full_refresh(true))
        .await;
    assert_eq!(run.gaps("export"), ["2026-11-15"]);
    let days: BTreeSet<String> = project.column("export", "export_day").into_iter().collect();
    assert_eq!(days.len(), 10, "{days:?}");
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_refused_to_an_ordinary_project_is_unavailable_and_not_a_failure() {
    for said in [
        (400, r#"{"error":"not enabled"}"#),
        (402, r#"{"error":"Your plan does not allow API calls"}"#),
        (403, r#"{"error":"no role"}"#),
        (404, r#"{"error":"not found"}"#),
        (412, r#"{"message":"not set up"}"#),
        (302, ""),
        (200, r#"{"status":"error","error":"not for this project"}"#),
    ] {
        let project = Project::new(
            json!({ "time_zone": "UTC", "workspace_id": 3 }),
            move |asked| match asked {
                asked if asked.contains("/export") => {
                    ok(r#"{"event":"e","properties":{"time":1795219200000,"$insert_id":"i"}}"#)
                }
                _ => (said.0, said.1.to_owned()),
            },
        );
        let run = project.sync(&[]).await;
        assert!(
            run.summary.failure().is_none(),
            "{said:?}: {:?}",
            run.summary.failure()
        );
        assert_eq!(project.column("export", "insert_id").len(), 1);
        // A stream that is named fails with the reason.
        let kind = project.sync(&["annotations"]).await.summary.failure();
        assert!(
            matches!(
                kind,
                Some(ErrorKind::Refused | ErrorKind::PermissionDenied | ErrorKind::NotFound)
            ),
            "{said:?}: {kind:?}"
        );
    }
}

/// When nothing is heard of the vendor any more after the first web page, somebody else may be
/// answering.
#[tokio::test(start_paused = true)]
async fn web_pages_in_the_place_of_all_later_answers_are_a_failure() {
    let project = Project::new(
        json!({ "time_zone": "UTC", "workspace_id": 3 }),
        |asked| match asked {
            asked if asked.contains("/export") => {
                ok(r#"{"event":"e","properties":{"time":1795219200000,"$insert_id":"i"}}"#)
            }
            _ => (200, "<html>sign in</html>".to_owned()),
        },
    );
    assert_eq!(
        project.sync(&[]).await.summary.failure(),
        Some(ErrorKind::Refused)
    );
    assert_eq!(project.column("export", "insert_id").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lists_of_the_app_api_are_read_to_their_last_page() {
    let project = Project::new(json!({}), |asked| {
        ok(match value(asked, "cursor") {
            None => {
                r#"{"status":"ok","results":[{"id":1}],"pagination":{"page_size":1,"next_cursor":"x"}}"#
            }
            Some("x") => {
                r#"{"status":"ok","results":[{"id":2}],"pagination":{"page_size":1,"next_cursor":"y"}}"#
            }
            Some(_) => {
                r#"{"status":"ok","results":[{"id":3}],"pagination":{"page_size":1,"next_cursor":null}}"#
            }
        })
    });
    project.sync(&["annotations"]).await;
    assert_eq!(project.column("annotations", "id"), ["1", "2", "3"]);
}
