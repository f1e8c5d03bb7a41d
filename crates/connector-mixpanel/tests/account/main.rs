//! A project that is read over a server of a few lines: regions, limits, and what a sync leaves in
//! the tables.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod columns;
mod limits;
mod regions;
mod server;

use std::sync::{Arc, Mutex};

use pipeline_core::slice::TimeRange;
use pipeline_engine::{Job, Outcome, Selection, Source, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;

use self::server::{Said, Server, connector, ok, read_all, refused};

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
