//! Mixpanel: the documented exchanges, and what is a configuration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use connector_mixpanel::MixpanelConfig;
use pipeline_core::{BuildContext, Connector, ConnectorConfig, Error, ErrorKind, Registry};
use serde_json::json;

pipeline_testkit::connector_suite!(MixpanelConfig, "fixtures/mixpanel");

fn build(config: serde_json::Value) -> Result<Arc<dyn Connector>, Error> {
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    registry.build(MixpanelConfig::NAME, config, BuildContext::default())
}

/// What is wrong with a configuration, or `ok`.
fn verdict(config: serde_json::Value) -> String {
    match build(config) {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            format!("{error}; {}", error.help().unwrap_or("no help"))
        }
    }
}

/// A working configuration, changed; null removes a member.
fn config(changes: &serde_json::Value) -> serde_json::Value {
    let mut config = json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret" });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            serde_json::Value::Null => drop(config.as_object_mut().unwrap().remove(name)),
            value => config[name] = value.clone(),
        }
    }
    config
}

#[test]
fn a_configuration_has_one_way_to_authenticate_and_sensible_numbers() {
    let changes = [
        json!({}),
        json!({ "username": null, "secret": null, "project_secret": "dummy" }),
        json!({ "username": null, "secret": null }),
        json!({ "secret": null }),
        json!({ "project_secret": "dummy" }),
        json!({ "project_id": null }),
        json!({ "region": "in" }),
        json!({ "region": "mars" }),
        json!({ "start_date": "2026-01-31" }),
        json!({ "start_date": "31.1.2026" }),
        json!({ "start_date": "2999-01-01" }),
        json!({ "start_date": "1999-12-31" }),
        json!({ "export_window_days": 0 }),
        json!({ "export_window_days": 31 }),
        json!({ "lookback_days": 366 }),
        json!({ "include_today": true }),
        json!({ "include_today": true, "lookback_days": 0 }),
        json!({ "rate_share": 0 }),
        json!({ "base_url": "http://[::1]:8080" }),
        json!({ "base_url": "http://mixpanel.example.com" }),
        json!({ "project": 7 }),
    ];
    let table: Vec<_> = changes.into_iter().map(|change| format!("{change}: {}", verdict(config(&change)))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn c55_a_configuration_shows_no_secret() {
    let secrets = json!({ "project_id": 7, "username": "loader", "secret": "sec-1", "project_secret": "sec-2" });
    let shown = format!("{:?}", serde_json::from_value::<MixpanelConfig>(secrets).unwrap());
    insta::assert_snapshot!(shown, @"MixpanelConfig { project_id: 7, region: None, start_date: None, .. }");
}

#[test]
fn the_specification_marks_secrets() {
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    let properties = &registry.spec(MixpanelConfig::NAME).unwrap()["properties"];
    for secret in ["secret", "project_secret"] {
        assert_eq!(properties[secret]["writeOnly"], true, "{secret}");
    }
}

#[test]
fn every_stream_has_a_case() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mixpanel");
    let cases =
        std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("case.json")).ok());
    let cases: Vec<serde_json::Value> = cases.map(|case| serde_json::from_str(&case).unwrap()).collect();
    let read = |stream: &str| {
        let succeeds = |case: &&serde_json::Value| case["expect_error"].is_null();
        cases.iter().filter(succeeds).any(|case| case["streams"].as_array().unwrap().iter().any(|name| name == stream))
    };
    let missing: Vec<_> = connector_mixpanel::STREAMS.iter().map(|stream| stream.name).filter(|name| !read(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
