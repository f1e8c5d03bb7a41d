//! Where a project is: its region, and the zone of its days.

use std::sync::Arc;

use pipeline_core::slice::TimeRange;
use pipeline_core::{ErrorKind, Skipped, Unread};
use serde_json::json;

use crate::server::{Server, connector, ok, records, refused};

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
