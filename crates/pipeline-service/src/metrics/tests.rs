//! Names are a promise: dashboards and alerts of others hang on them.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use chrono::DateTime;
use insta::assert_snapshot;
use pipeline_core::http::StatusCode;

use super::*;

fn attempt(endpoint: &str, status: Option<u16>) -> Attempt<'_> {
    Attempt {
        at: DateTime::UNIX_EPOCH,
        source: "payments",
        endpoint,
        path: "/v1/charges",
        attempt: 2,
        status: status.map(|status| StatusCode::from_u16(status).unwrap()),
        latency: Duration::from_millis(120),
        bytes: 4_000,
        limit_wait: Duration::from_millis(1_500),
        limit: Some("read: 25 requests/s"),
        failure: None,
        throttled: status == Some(429),
        request_id: Some("req_1"),
    }
}

fn stream(name: &str, rows: u64) -> StoredStream {
    StoredStream {
        source: "payments".to_owned(),
        stream: name.to_owned(),
        rows,
        state: "complete".to_owned(),
        available: true,
        succeeded: Some(DateTime::UNIX_EPOCH),
        cursor: None,
        missing: Vec::new(),
        error: None,
    }
}

/// Every figure once.
fn all() -> Metrics {
    let metrics = Metrics::new();
    let endpoint = EndpointId::new("payments", "charges");
    for status in [Some(200), Some(429), Some(404), Some(503), None] {
        metrics.observe("payments", &Event::Attempt(&attempt("charges", status)));
    }
    metrics.observe(
        "payments",
        &Event::PageRead {
            endpoint: &endpoint,
            records: 100,
            bytes: 4_000,
        },
    );
    metrics.observe(
        "payments",
        &Event::Committed {
            sequence: 1,
            rows: 100,
            bytes: 4_000,
        },
    );
    metrics.observe(
        "payments",
        &Event::Drift {
            source: "payments",
            stream: "charges",
            field: "new",
            reason: "there is no column for it",
            records: 3,
        },
    );
    let mut ended = Ended::failed(Verdict::Done, 0, "");
    ended.rejected = 2;
    ended.limits = vec![BucketUse {
        bucket: "read".to_owned(),
        limit: "25 requests/s".to_owned(),
        requests: 50,
        allowed: Some(100.0),
        refused: 0,
        waited: Duration::from_secs(1),
    }];
    let now = DateTime::UNIX_EPOCH + Duration::from_secs(90);
    metrics.ended(
        "payments",
        Reason::Schedule,
        &ended,
        Duration::from_secs(42),
        now,
    );
    metrics.webhook("payments", HookResult::Accepted);
    metrics.skipped("payments");
    let seen = Seen {
        next: Some(now),
        phase: Phase::Running,
        paused: false,
        again: false,
    };
    metrics.sources(&BTreeMap::from([("payments".to_owned(), seen)]));
    metrics.stored(&[stream("charges", 100)], now);
    metrics.alert(Channel::Slack, true);
    metrics.reloaded(false);
    metrics
}

#[test]
fn names_types_and_help_are_these() {
    assert_snapshot!(all().listed());
}

#[test]
fn figures_in_both_formats() {
    let metrics = all();
    assert_snapshot!("prometheus", in_order(&metrics.prometheus()));
    assert_snapshot!("openmetrics", in_order(&metrics.openmetrics()));
}

/// The figures with the series of each in order, which differs from process to process.
fn in_order(body: &str) -> String {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in body.lines() {
        match blocks.last_mut() {
            Some(block) if !line.starts_with("# HELP") => block.push(line),
            _ => blocks.push(vec![line]),
        }
    }
    for block in &mut blocks {
        block.sort_by_key(|line| (!line.starts_with('#'), *line));
    }
    blocks.concat().join("\n")
}

/// The folder of the workspace's documents.
fn document(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
    std::fs::read_to_string(format!("{path}{name}")).unwrap()
}

#[test]
fn every_figure_is_documented_and_every_documented_one_exists() {
    let listed = all().listed();
    let real: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let text = document("metrics.md");
    let documented: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(documented, real);
}

#[test]
fn the_dashboard_asks_only_for_figures_that_exist() {
    let listed = all().listed();
    let mut real: BTreeSet<String> = BTreeSet::new();
    for line in listed.lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        real.insert(name.to_owned());
        if rest.starts_with("histogram") {
            real.extend(["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
        }
    }
    let text = document("grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            for word in expression.split(|c| !is_part(c)) {
                if word.starts_with("pipeline_") {
                    assert!(real.contains(word), "{word} in {expression}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 10, "the dashboard asks for {asked} figures only");
}

#[test]
fn an_account_with_many_endpoints_does_not_make_many_series() {
    let metrics = Metrics::new();
    let before = metrics.prometheus().lines().count();
    for number in 0..5_000 {
        let name = format!("custom_object_{number}");
        let endpoint = EndpointId::new("support", &*name);
        let event = Event::PageRead {
            endpoint: &endpoint,
            records: 1,
            bytes: 1,
        };
        metrics.observe("support", &event);
    }
    let body = metrics.prometheus();
    assert!(body.lines().count() - before <= NAMES + 3);
    let others = 5_000 - NAMES;
    let other =
        format!("pipeline_records_read_total{{source=\"support\",endpoint=\"_other\"}} {others}");
    assert!(body.contains(&other), "{other}");
}

/// What Prometheus' own tool says of the names, where that is installed.
#[test]
fn promtool_finds_nothing() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped promtool_finds_nothing: promtool is not installed");
        return;
    };
    let body = all().prometheus();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(body.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}\n{body}");
}
