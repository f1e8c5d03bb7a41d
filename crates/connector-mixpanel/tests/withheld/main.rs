//! What Mixpanel withholds, and what of a project is read all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod parts;
mod project;
mod scans;

use std::sync::Arc;

use pipeline_core::{Availability, ErrorKind};
use pipeline_engine::Outcome;
use serde_json::json;

use self::project::{Project, me, ok, refused, value};

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
