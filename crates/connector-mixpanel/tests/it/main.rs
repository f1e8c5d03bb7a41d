//! Mixpanel: the documented exchanges, and what is a configuration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod acceptance;

use connector_mixpanel::MixpanelConfig;
use pipeline_core::{ConnectorConfig, Registry};
use pipeline_testkit::verdicts;
use serde_json::json;

pipeline_testkit::connector_suite!(MixpanelConfig, "fixtures/mixpanel");

/// A configuration that works.
fn config() -> serde_json::Value {
    json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret" })
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
    insta::assert_snapshot!(verdicts::<MixpanelConfig>(&config(), changes));
}

#[test]
fn c55_a_configuration_shows_no_secret() {
    let secrets = json!({ "project_id": 7, "username": "loader", "secret": "sec-1", "project_secret": "sec-2" });
    let shown = format!(
        "{:?}",
        serde_json::from_value::<MixpanelConfig>(secrets).unwrap()
    );
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
