use std::io::Read as _;

use pipeline_simulator::{Limits, MixpanelWorld, Simulation};
use serde_json::{Value, json};

use crate::{Answer, Api, ids, send, sorted};

const DAY: i64 = 86_400_000;
/// Midnight after the last day of events.
const END: i64 = 1_793_491_200_000;

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn insert_ids(events: &[Value]) -> Vec<String> {
    sorted(
        events
            .iter()
            .map(|event| {
                event["properties"]["$insert_id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect(),
    )
}

fn export(days: &str) -> String {
    format!("/api/2.0/export?project_id=2000001&{days}")
}

#[tokio::test]
async fn a_day_is_exactly_a_day() {
    let api = Api::start(Simulation::default()).await;
    let answer = api
        .mixpanel(&export(
            "from_date=2026-10-30&to_date=2026-10-31&time_in_ms=true",
        ))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, Some("text/plain"))
    );
    let events = lines(&answer.text());
    assert_eq!(events.len(), 1_000);
    assert_eq!(
        insert_ids(&events),
        api.simulator
            .truth()
            .ids_between("export", END - 2 * DAY..END)
    );
    let time = |event: &Value| event["properties"]["time"].as_i64().unwrap();
    assert!(
        events
            .iter()
            .all(|event| (END - 2 * DAY..END).contains(&time(event)))
    );
    let seconds = lines(
        &api.mixpanel(&export("from_date=2026-10-30&to_date=2026-10-31"))
            .await
            .text(),
    );
    assert_eq!(time(&seconds[999]), time(&events[999]) / 1000);
    let all = lines(
        &api.mixpanel(&export("from_date=2026-01-01&to_date=2026-11-01"))
            .await
            .text(),
    );
    assert_eq!(insert_ids(&all), api.simulator.truth().ids("export"));
    let profile = all[0]["properties"]["distinct_id"].as_str().unwrap();
    assert!(api.simulator.truth().record("engage", profile).is_some());
}

#[tokio::test]
async fn filters_limit_and_gzip() {
    let api = Api::start(Simulation::default()).await;
    let some = api
        .mixpanel(&export(
            "from_date=2026-10-01&to_date=2026-10-31&event=%5B%22Checkout%20Done%22%5D",
        ))
        .await;
    let some = lines(&some.text());
    assert!(!some.is_empty() && some.iter().all(|event| event["event"] == "Checkout Done"));
    let few = api
        .mixpanel(&export("from_date=2026-10-01&to_date=2026-10-31&limit=7"))
        .await;
    assert_eq!(lines(&few.text()).len(), 7);
    let zipped = async |days: &str| {
        let request = api
            .get(&export(days))
            .basic_auth("sim.service-account", Some("sim_secret"));
        send(request.header("accept-encoding", "gzip")).await
    };
    let big: Answer = zipped("from_date=2026-10-02&to_date=2026-10-31").await;
    assert_eq!(big.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(big.body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(lines(&text).len(), 15_000);
    let small = zipped("from_date=2026-10-31&to_date=2026-10-31&limit=1").await;
    assert_eq!(
        (small.header("content-encoding"), lines(&small.text()).len()),
        (None, 1)
    );
    let none = zipped("from_date=2020-01-01&to_date=2020-01-01").await;
    assert_eq!((none.status.as_u16(), none.body.len()), (200, 0));
}

#[tokio::test]
async fn profiles_in_a_session() {
    let api = Api::start(Simulation::default()).await;
    let ask = async |path: &str, body: &str| {
        send(
            api.post(path)
                .basic_auth("sim.service-account", Some("sim_secret"))
                .body(body.to_owned()),
        )
        .await
    };
    let first = ask("/api/query/engage?project_id=2000001", "page_size=200")
        .await
        .json();
    assert_eq!(
        (&first["total"], &first["page_size"], &first["status"]),
        (&json!(500), &json!(200), &json!("ok"))
    );
    let mut found = ids(&first["results"], "$distinct_id");
    for page in 1..3 {
        let body = json!({ "page": page, "page_size": 200, "session_id": first["session_id"] });
        let next = ask("/api/query/engage?project_id=2000001", &body.to_string())
            .await
            .json();
        assert!(next.get("total").is_none());
        found.extend(ids(&next["results"], "$distinct_id"));
    }
    assert_eq!(sorted(found), api.simulator.truth().ids("engage"));
    let refused = ask("/api/query/engage?project_id=2000001", "page=1").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]),
        (400, &json!("request for page in uncached query for params"))
    );
    let cohorts = ask("/api/query/cohorts/list?project_id=2000001", "")
        .await
        .json();
    assert_eq!(
        (cohorts.as_array().unwrap().len(), &cohorts[0]["project_id"]),
        (4, &json!(2_000_001))
    );
    assert_eq!(
        sorted(ids(&cohorts, "id")),
        api.simulator.truth().ids("cohorts")
    );
    let me = api.mixpanel("/api/app/me").await.json();
    assert_eq!(me["results"]["projects"]["2000001"]["timezone"], "UTC");
}

#[tokio::test]
async fn only_the_first_page_costs_quota() {
    let limits = Limits {
        mixpanel_query_hour: Some(1),
        mixpanel_export_second: Some(1),
        ..Limits::default()
    };
    let api = Api::start(Simulation {
        limits,
        ..Simulation::default()
    })
    .await;
    let ask = async |body: String| {
        let path = "/api/query/engage?project_id=2000001";
        send(
            api.post(path)
                .basic_auth("sim.service-account", Some("sim_secret"))
                .body(body),
        )
        .await
    };
    let session = ask(String::new()).await.json()["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        ask(format!("page=1&session_id={session}")).await.status,
        200
    );
    let spent = ask(String::new()).await;
    assert_eq!(spent.status, 429);
    assert_eq!(
        spent.header("ratelimit-policy"),
        Some("\"project\";q=1;w=3600")
    );
    assert!(
        spent
            .header("ratelimit")
            .unwrap()
            .starts_with("\"project\";r=0;t=")
    );
    assert!(
        spent.header("retry-after").is_some() && spent.text().contains("Query rate limit exceeded")
    );
    let days = export("from_date=2026-10-31&to_date=2026-10-31");
    assert_eq!(api.mixpanel(&days).await.status, 200);
    assert_eq!(api.mixpanel(&days).await.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn only_so_many_are_answered_at_once() {
    let limits = Limits {
        mixpanel_query_hour: Some(60),
        mixpanel_queries_at_once: Some(2),
        mixpanel_exports_at_once: Some(1),
        ..Limits::default()
    };
    let latency = std::time::Duration::from_millis(200);
    let api = Api::start(Simulation {
        limits,
        latency,
        ..Simulation::default()
    })
    .await;
    let statuses = async |path: &str| {
        let answers = futures::future::join_all((0..3).map(|_| api.mixpanel(path))).await;
        let refused: Vec<Answer> = answers
            .into_iter()
            .filter(|answer| answer.status != 200)
            .collect();
        assert!(
            refused
                .iter()
                .all(|answer| answer.status == 429 && answer.header("retry-after") == Some("10"))
        );
        refused
    };
    let queries = statuses("/api/query/events/names?project_id=2000001&type=general").await;
    assert_eq!(queries.len(), 1);
    let policy = "\"project\";q=60;w=3600, \"project-concurrency\";q=2;qu=\"concurrent-requests\"";
    assert_eq!(queries[0].header("ratelimit-policy"), Some(policy));
    assert_eq!(
        queries[0].header("ratelimit"),
        Some("\"project\";r=60, \"project-concurrency\";r=0;t=10")
    );
    assert!(queries[0].text().contains("3/2 concurrent queries"));
    assert_eq!(
        statuses(&export("from_date=2026-10-31&to_date=2026-10-31"))
            .await
            .len(),
        2
    );
    assert_eq!(
        api.mixpanel(&export("from_date=2026-10-31&to_date=2026-10-31"))
            .await
            .status,
        200,
        "the places are free again"
    );
}

#[tokio::test]
async fn refusals() {
    let api = Api::start(Simulation::default()).await;
    let future = api
        .mixpanel(&export("from_date=2026-10-31&to_date=2199-01-01"))
        .await;
    assert_eq!(future.status, 400);
    assert!(future.text().contains("to_date cannot be later than today"));
    assert_eq!(
        api.mixpanel(&export("from_date=yesterday&to_date=2026-10-31"))
            .await
            .status,
        400
    );
    assert_eq!(
        api.mixpanel("/api/2.0/export?from_date=2026-10-31&to_date=2026-10-31")
            .await
            .status,
        400
    );
    assert_eq!(
        api.mixpanel("/api/2.0/export?project_id=1&from_date=2026-10-31&to_date=2026-10-31")
            .await
            .status,
        404
    );
    assert_eq!(send(api.get("/api/app/me")).await.status, 401);
}

#[tokio::test]
async fn reports_and_lists() {
    let api = Api::start(Simulation::default()).await;
    let ask = async |path: &str| api.mixpanel(path).await.json();
    let funnels = ask("/api/query/funnels/list?project_id=2000001").await;
    let days = "project_id=2000001&from_date=2026-10-01&to_date=2026-10-03";
    let funnel = ask(&format!(
        "/api/query/funnels?funnel_id={}&{days}",
        funnels[0]["funnel_id"]
    ))
    .await;
    assert_eq!(
        (
            funnel["meta"]["dates"].as_array().unwrap().len(),
            funnel["data"].as_object().unwrap().len()
        ),
        (3, 3)
    );
    assert_eq!(
        api.mixpanel(&format!("/api/query/funnels?funnel_id=1&{days}"))
            .await
            .status,
        404
    );
    let counts = ask(&format!(
        "/api/query/segmentation?event=Checkout%20Done&{days}"
    ))
    .await;
    assert_eq!(
        counts["data"]["values"]["Checkout Done"]
            .as_object()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        ask("/api/app/projects/2000001/annotations").await["results"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        api.mixpanel("/api/app/projects/1/annotations").await.status,
        404
    );
    assert_eq!(ask("/lookup-tables?project_id=2000001").await["code"], 200);
    let cohort = async |id: u64| {
        let body = format!("filter_by_cohort=%7B%22id%22%3A{id}%7D");
        let path = "/api/query/engage?project_id=2000001";
        send(
            api.post(path)
                .basic_auth("sim.service-account", Some("sim_secret"))
                .body(body),
        )
        .await
        .json()
    };
    let (one, other) = (cohort(1001).await, cohort(1002).await);
    assert_eq!(
        one["results"].as_array().unwrap().len() as u64,
        one["total"].as_u64().unwrap()
    );
    assert!(one["total"] != json!(500) && one["results"] != other["results"]);
}

#[tokio::test]
async fn late_events_merged_users_and_wall_clocks() {
    let world = MixpanelWorld {
        days: 10,
        late: 0.2,
        very_late: 0.05,
        merged: 0.3,
        ..MixpanelWorld::default()
    };
    let shown_until = Some(END / 1000);
    let api = Api::start(Simulation {
        mixpanel: world.clone(),
        shown_until,
        ..Simulation::default()
    })
    .await;
    let all = export("from_date=2026-10-01&to_date=2026-10-31&time_in_ms=true");
    let events = lines(&api.mixpanel(&all).await.text());
    let truth = api.simulator.truth().events(END / 1000 + 120);
    assert_eq!(events.len(), truth.len());
    let identified = events
        .iter()
        .filter(|event| event["event"] == "$identify")
        .count();
    assert!(
        identified > 100 && events.len() < 5_000 + identified,
        "{identified} of {} events",
        events.len()
    );
    let text = |event: &Value, name: &str| {
        event["properties"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let shown = events
        .iter()
        .map(|event| (text(event, "$insert_id"), text(event, "distinct_id")));
    assert_eq!(sorted(shown.map(|pair| format!("{pair:?}")).collect()), {
        sorted(
            truth
                .into_iter()
                .map(|event| format!("{:?}", (event.insert_id, event.distinct_id)))
                .collect(),
        )
    });
    let merged: Vec<&Value> = events
        .iter()
        .filter(|event| event["properties"]["$is_reshuffled"] == true)
        .collect();
    assert!(
        !merged.is_empty()
            && merged
                .iter()
                .all(|event| text(event, "$distinct_id_before_identity")
                    != text(event, "distinct_id"))
    );
    // A quarter of a day, half open.
    let second = END / 1000 - 86_400;
    let part = format!(
        "properties%5B%22%24time%22%5D%20%3E%3D%20datetime({})%20and%20properties%5B%22%24time%22%5D%20%3C%20datetime({})",
        second,
        second + 21_600
    );
    let quarter = lines(
        &api.mixpanel(&export(&format!(
            "from_date=2026-10-31&to_date=2026-10-31&where={part}"
        )))
        .await
        .text(),
    );
    assert!(quarter.iter().all(|event| {
        (second..second + 21_600).contains(&event["properties"]["time"].as_i64().unwrap())
    }));

    let local = MixpanelWorld {
        late: 0.0,
        very_late: 0.0,
        merged: 0.0,
        local_zone: "Pacific/Auckland".parse().ok(),
        ..world
    };
    let api = Api::start(Simulation {
        mixpanel: local,
        ..Simulation::default()
    })
    .await;
    let day = lines(
        &api.mixpanel(&export(
            "from_date=2026-10-25&to_date=2026-10-25&time_in_ms=true",
        ))
        .await
        .text(),
    );
    assert_eq!(day.len(), 500, "a day of the wall clock");
    let first = &day[0]["properties"];
    assert_eq!(
        first["time"].as_i64().unwrap() - first["mp_processing_time_ms"].as_i64().unwrap(),
        13 * 3_600_000 - 1_300
    );
}
