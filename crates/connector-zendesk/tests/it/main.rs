//! Zendesk: the documented exchanges, and what is a configuration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod acceptance;
mod brands;

use connector_zendesk::ZendeskConfig;
use pipeline_core::{ConnectorConfig, Registry};
use pipeline_testkit::verdicts;
use serde_json::json;

pipeline_testkit::connector_suite!(ZendeskConfig, "fixtures/zendesk");

/// A configuration that works.
fn config() -> serde_json::Value {
    json!({ "subdomain": "acme", "client_id": "pipeline", "client_secret": "dummy-secret" })
}

#[test]
fn only_one_dns_label_is_a_subdomain() {
    let texts = [
        "acme",
        " ACME ",
        "a-1",
        "ab",
        "-acme",
        "acme-",
        "acme.evil.com",
        "acme/x",
        "a@b",
        "acme#",
        "ac me",
        "acmé",
        "",
        "https://acme.zendesk.com/agent",
        "acme.zendesk.com",
        "https://a@acme.zendesk.com",
        "evil.com/x.zendesk.com",
    ];
    let changes = texts.map(|text| json!({ "subdomain": text }));
    insta::assert_snapshot!(verdicts::<ZendeskConfig>(&config(), changes));
}

#[test]
fn a_configuration_has_one_way_to_authenticate_and_sensible_numbers() {
    let token = json!({ "client_id": null, "client_secret": null, "email": "a@acme.test", "api_token": "dummy" });
    let changes = [
        json!({}),
        json!({ "refresh_token": "dummy" }),
        token.clone(),
        json!({ "client_secret": null }),
        json!({ "client_id": null, "client_secret": null }),
        json!({ "email": "a@acme.test" }),
        json!({ "client_id": null, "client_secret": null, "email": "a@acme.test" }),
        json!({ "email": "a@acme.test", "api_token": "dummy" }),
        json!({ "start_date": "2026-01-31" }),
        json!({ "start_date": "2026-01-31T10:00:00Z" }),
        json!({ "start_date": "last week" }),
        json!({ "start_date": "2999-01-01" }),
        json!({ "start_date": "1969-01-01" }),
        json!({ "rate_share": 0 }),
        json!({ "rate_share": 1.5 }),
        json!({ "export_rpm": 31 }),
        json!({ "export_page_size": 1001 }),
        json!({ "base_url": "http://127.0.0.1:8080" }),
        json!({ "base_url": "http://acme.example.com" }),
        json!({ "base_url": "ftp://127.0.0.1" }),
        json!({ "brand_urls": { "acme-pro": "https://pro.example.com" } }),
        json!({ "brand_urls": { "acme-pro": "http://pro.example.com" } }),
        json!({ "sub_domain": "acme" }),
    ];
    insta::assert_snapshot!(verdicts::<ZendeskConfig>(&config(), changes));
}

#[test]
fn a_configuration_shows_no_secret() {
    let secrets = json!({ "subdomain": "acme", "email": "a@acme.test", "api_token": "tok-1", "client_secret": "sec-2", "refresh_token": "ref-3" });
    let shown = format!(
        "{:?}",
        serde_json::from_value::<ZendeskConfig>(secrets).unwrap()
    );
    insta::assert_snapshot!(shown, @r#"ZendeskConfig { subdomain: "acme", start_date: None, .. }"#);
}

#[test]
fn the_specification_marks_secrets() {
    let mut registry = Registry::default();
    registry.add::<ZendeskConfig>();
    let properties = &registry.spec(ZendeskConfig::NAME).unwrap()["properties"];
    for secret in ["client_secret", "refresh_token", "api_token"] {
        assert_eq!(properties[secret]["writeOnly"], true, "{secret}");
    }
}
