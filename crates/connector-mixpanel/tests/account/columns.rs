//! Properties that become columns.

use std::sync::Arc;

use pipeline_testkit::MemoryDestination;
use serde_json::json;

use crate::server::{Said, Server, connector, ok, read_all, refused};

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
