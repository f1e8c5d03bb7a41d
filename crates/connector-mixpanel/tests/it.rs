//! Mixpanel, from configuration to records.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use connector_mixpanel::MixpanelConfig;
use futures::StreamExt;
use pipeline_core::http::{HeaderName, HeaderValue, HttpService, RawResponse, Request, StatusCode, TransportError};
use pipeline_core::state::EndpointState;
use pipeline_core::{Advance, BuildContext, Connector, ConnectorConfig, Error, ErrorKind, RawRecord, Registry, TokioClock};
use serde_json::json;

const VENDOR: &str = "mixpanel";

fn build(config: serde_json::Value, context: BuildContext) -> Result<Arc<dyn Connector>, Error> {
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    registry.build(VENDOR, config, context)
}

/// What is wrong with a configuration, or `ok`.
fn verdict(config: serde_json::Value) -> String {
    match build(config, BuildContext::default()) {
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
fn a_configuration_shows_no_secret() {
    let secrets = json!({ "project_id": 7, "username": "loader", "secret": "sec-1", "project_secret": "sec-2" });
    let shown = format!("{:?}", serde_json::from_value::<MixpanelConfig>(secrets).unwrap());
    insta::assert_snapshot!(shown, @"MixpanelConfig { project_id: 7, region: Us, start_date: None, .. }");
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

/// Answers from a folder of exchanges, in their order.
#[derive(Debug)]
struct Replay(Mutex<VecDeque<serde_json::Value>>);

impl Replay {
    fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[async_trait]
impl HttpService for Replay {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let sent: BTreeMap<_, _> = request.full_url().query_pairs().into_owned().collect();
        let exchange = self.0.lock().unwrap().pop_front().expect("no more exchanges");
        let expected = &exchange["request"];
        assert_eq!(expected["method"], request.method.as_str());
        assert_eq!(expected["path"], request.url.path());
        assert_eq!(expected["query"], json!(sent));
        if let Some(body) = expected.get("body") {
            assert_eq!(body.as_str().unwrap(), std::str::from_utf8(&request.body).unwrap());
        }
        let answer = &exchange["response"];
        let headers = serde_json::from_value::<BTreeMap<String, String>>(answer["headers"].clone()).unwrap();
        let headers = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()));
        let status = StatusCode::from_u16(u16::try_from(answer["status"].as_u64().unwrap()).unwrap()).unwrap();
        let body = answer.get("body_text").map_or_else(|| answer["body"].to_string(), |text| text.as_str().unwrap().to_owned());
        Ok(RawResponse::full(status, headers.collect(), body))
    }
}

/// What a case's first endpoint gave: the records of each of its streams, and how its last slice ended.
#[derive(Debug)]
struct Outcome {
    records: Vec<Vec<RawRecord>>,
    advance: Option<Advance>,
    error: Option<Error>,
}

async fn run(case: &Path) -> Outcome {
    let read = |path: &Path| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json") && !path.ends_with("case.json"));
    files.sort();
    let replay = Arc::new(Replay(Mutex::new(files.iter().map(|path| read(path)).collect())));
    let facts = read(&case.join("case.json"));
    let now: DateTime<Utc> = facts["now"].as_str().unwrap().parse().unwrap();
    let context =
        BuildContext { transport: Some(replay.clone()), clock: Arc::new(TokioClock::starting_at(now)), ..BuildContext::default() };
    let connector = build(facts["config"].clone(), context).unwrap();

    let wanted = facts["streams"][0].as_str().unwrap();
    let endpoint = connector.endpoints().iter().find(|endpoint| endpoint.streams().any(|stream| stream.name() == wanted)).unwrap();
    let mut outcome = Outcome { records: vec![Vec::new(); endpoint.streams().len()], advance: None, error: None };
    'slices: for slice in endpoint.slicer().plan(&EndpointState::default(), connector.range(), now) {
        let mut pages = connector.read(endpoint, slice);
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => {
                    outcome.records.iter_mut().zip(page.records).for_each(|(all, new)| all.extend(new));
                    outcome.advance = page.advance;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    break 'slices;
                }
            }
        }
    }
    let expected = facts.get("expect_error").map(|kind| kind.as_str().unwrap().to_owned());
    let kind = outcome.error.as_ref().map(|error| snake_case(&format!("{:?}", error.kind())));
    assert_eq!(kind, expected, "{}: {:?}", case.display(), outcome.error);
    assert_eq!(replay.left(), 0, "{}: exchanges were not asked for", case.display());
    outcome
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(VENDOR).join(name)
}

#[tokio::test(start_paused = true)]
async fn every_documented_case_replays_to_its_end() {
    let mut cases: Vec<_> = std::fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 6);
    for case in cases {
        run(&case).await;
    }
}

fn scalars(records: &[RawRecord], member: &str) -> Vec<String> {
    records.iter().map(|record| record.scalar(member).unwrap_or_else(|| "-".to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn days_are_read_one_by_one() {
    let outcome = run(&fixture("export_two_days")).await;
    let events = &outcome.records[0];
    assert_eq!(scalars(events, "event"), ["Checkout Done", "Page View", "Page View"]);
    assert_eq!(scalars(events, "time"), ["1795252501123", "1795252501000", "1795166101000"]);
    assert_eq!(scalars(events, "distinct_id"), ["u-17", "u-18", "2033513821949367296"]);
    assert_eq!(scalars(events, "insert_id"), ["3f0c9a1be2d7", "77aa", "-"]);
    assert!(events[0].member("properties").unwrap().contains("line\u{2028}sep"), "odd line separators are data");
    assert_eq!(outcome.advance, Some(Advance::End));
}

#[tokio::test(start_paused = true)]
async fn a_broken_export_counts_for_nothing() {
    let outcome = run(&fixture("export_terminated_early")).await;
    assert_eq!(scalars(&outcome.records[0], "insert_id"), ["3f0c9a1be2d7", "77aa"], "each event once");
}

#[tokio::test(start_paused = true)]
async fn profiles_keep_their_ids_exact() {
    let outcome = run(&fixture("engage_session_pages")).await;
    assert_eq!(scalars(&outcome.records[0], "distinct_id"), ["u-17", "42", "u-18", "9007199254740993", "u-19"]);
    assert_eq!(scalars(&outcome.records[0], "name"), ["Ana Reis", "-", "Bo", "-", "-"]);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_point_at_expiry_and_region() {
    let error = run(&fixture("bad_credentials")).await.error.unwrap();
    assert!(error.help().unwrap().contains("expired") && error.help().unwrap().contains("region"));
}
