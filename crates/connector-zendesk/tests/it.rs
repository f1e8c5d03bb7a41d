//! Zendesk, from configuration to records.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use connector_zendesk::ZendeskConfig;
use futures::StreamExt;
use pipeline_core::http::{HeaderName, HeaderValue, HttpService, RawResponse, Request, StatusCode, TransportError};
use pipeline_core::state::EndpointState;
use pipeline_core::{Advance, BuildContext, Connector, ConnectorConfig, Error, ErrorKind, RawRecord, Registry, TokioClock};
use serde_json::json;

const VENDOR: &str = "zendesk";

fn build(config: serde_json::Value, context: BuildContext) -> Result<Arc<dyn Connector>, Error> {
    let mut registry = Registry::default();
    registry.add::<ZendeskConfig>();
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
    let mut config = json!({ "subdomain": "acme", "client_id": "pipeline", "client_secret": "dummy-secret" });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            serde_json::Value::Null => drop(config.as_object_mut().unwrap().remove(name)),
            value => config[name] = value.clone(),
        }
    }
    config
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
    let table: Vec<_> = texts.iter().map(|text| format!("{text:?}: {}", verdict(config(&json!({ "subdomain": text }))))).collect();
    insta::assert_snapshot!(table.join("\n"));
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
        json!({ "sub_domain": "acme" }),
    ];
    let table: Vec<_> = changes.into_iter().map(|change| format!("{change}: {}", verdict(config(&change)))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_configuration_shows_no_secret() {
    let secrets =
        json!({ "subdomain": "acme", "email": "a@acme.test", "api_token": "tok-1", "client_secret": "sec-2", "refresh_token": "ref-3" });
    let shown = format!("{:?}", serde_json::from_value::<ZendeskConfig>(secrets).unwrap());
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

#[tokio::test(start_paused = true)]
async fn one_export_feeds_tickets_and_their_metrics() {
    let outcome = run(&fixture("tickets_two_pages")).await;
    let [tickets, metrics] = &outcome.records[..] else { panic!("two streams") };
    let ids = |records: &[RawRecord]| records.iter().filter_map(|record| record.scalar("id")).collect::<Vec<_>>();
    assert_eq!(ids(tickets), ["101", "102", "103"]);
    assert_eq!(ids(metrics), ["9101", "9102"], "a deleted ticket has no metrics");
    assert_eq!(tickets[2].scalar("status").as_deref(), Some("deleted"));
    assert_eq!(tickets[1].scalar("assignee_id").as_deref(), Some("9007199254740993"), "ids above 2^53 survive");
    assert!(tickets.iter().all(|ticket| ticket.member("fields").is_none() && ticket.member("metric_set").is_none()));
    assert!(matches!(&outcome.advance, Some(Advance::CaughtUp(cursor)) if !cursor.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn an_export_without_news_goes_on_at_its_start() {
    let outcome = run(&fixture("users_caught_up")).await;
    assert_eq!(outcome.advance, Some(Advance::CaughtUp("@1793491200".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_time_based_export_ends_at_its_last_second() {
    let outcome = run(&fixture("organizations_boundary")).await;
    assert_eq!(outcome.advance, Some(Advance::CaughtUp("1794491290".to_owned())));
    assert_eq!(outcome.records[0].len(), 4, "the boundary record comes twice");
}

#[tokio::test(start_paused = true)]
async fn a_refused_export_names_the_missing_role() {
    let error = run(&fixture("export_forbidden")).await.error.unwrap();
    assert_eq!(error.help(), Some("incremental exports may be read by administrators only; use the credentials of one"));
}
