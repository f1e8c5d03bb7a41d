//! What the commands print when all is well.

use std::collections::BTreeSet;
use std::fs;

use pipeline_simulator::Simulator;
use serde_json::Value;

use crate::support::{SQLITE, Sandbox, stripe};

async fn synced() -> (Sandbox, Simulator) {
    let simulator = Simulator::start(stripe(1_000, 100)).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges", "customers"]);
    (sandbox, simulator)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_event_tells_everything_about_every_stream() {
    let (sandbox, _simulator) = synced().await;
    let ran = sandbox.run(&["sync", "--output", "json"]).ended_with(0);
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: BTreeSet<&str> = events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    for kind in [
        "sync_started",
        "endpoint_started",
        "request",
        "page_read",
        "committed",
        "endpoint_finished",
        "sync_finished",
    ] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
    assert!(events.iter().all(|event| event["time"].is_string()));
    let last = ran.finished();
    assert_eq!(
        (&last["status"], &last["exit_code"], &last["delivery"]),
        (&"done".into(), &0.into(), &"exactly_once".into())
    );
    assert_eq!(last["totals"]["rows"], 1_100);
    let limits = last["limits"].as_array().unwrap();
    let is_told = |limit: &Value| {
        limit["source"] == "payments"
            && limit["requests"].as_u64() > Some(0)
            && limit["used"].is_number()
    };
    assert!(
        !limits.is_empty() && limits.iter().all(is_told),
        "{limits:?}"
    );
    let charges = last["streams"]
        .as_array()
        .unwrap()
        .iter()
        .find(|stream| stream["stream"] == "charges")
        .unwrap();
    let members: Vec<&str> = charges
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    insta::assert_snapshot!("sync_finished_stream", members.join("\n"));
    assert_eq!(
        (&charges["records"], &charges["rows"], &charges["status"]),
        (&1_000.into(), &1_000.into(), &"done".into())
    );
    assert!(charges["requests"].as_u64() >= Some(10) && charges["resume"]["cursor"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_facts_and_every_selected_endpoint() {
    let mut simulation = stripe(10, 10);
    simulation.stripe.forbidden = vec!["customers".to_owned()];
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges", "customers"]);
    let checked: Value = serde_json::from_str(
        &sandbox
            .run(&["check", "--output", "json"])
            .ended_with(3)
            .stdout,
    )
    .unwrap();
    let results: Vec<_> = checked["sources"][0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (&e["endpoint"], &e["result"]))
        .collect();
    assert_eq!(
        results,
        [
            (&"charges".into(), &"available".into()),
            (&"customers".into(), &"unavailable".into())
        ]
    );
    assert_eq!(checked["sources"][0]["facts"]["mode"], "test");
    assert_eq!(checked["destination"]["delivery"], "exactly_once");
    sandbox.configure(&simulator, SQLITE, &["charges"]);
    assert!(
        sandbox
            .run(&["check"])
            .ended_with(0)
            .stdout
            .contains("1 of 1 endpoints can be read")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_neither_reads_nor_writes() {
    let (sandbox, simulator) = synced().await;
    let dry = sandbox.run(&["sync", "--dry-run"]).ended_with(0);
    assert!(
        dry.stdout.contains("planned") && dry.stdout.contains("nothing was read or written"),
        "{}",
        dry.text()
    );
    assert_eq!(
        simulator.stats().requests,
        1,
        "what time it is at the vendor's, which planning needs"
    );
    assert!(
        sandbox
            .run(&["status"])
            .ended_with(0)
            .stdout
            .contains("No data yet")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_state_need_no_credential() {
    let (sandbox, _simulator) = synced().await;
    assert!(
        sandbox
            .run(&["status"])
            .ended_with(0)
            .stdout
            .contains("Run `pipeline sync`")
    );
    let synced = sandbox.run(&["sync"]).ended_with(0);
    assert!(
        synced.stdout.contains("429 OF 1,000"),
        "how much of the limits was used is told: {}",
        synced.stdout
    );
    let without_key = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env_remove("STRIPE_API_KEY");
        crate::support::ran(command).ended_with(0).stdout
    };
    let status: Value =
        serde_json::from_str(&without_key(&["status", "--output", "json"])).unwrap();
    let rows: Vec<_> = status["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| (&stream["stream"], &stream["rows"]))
        .collect();
    assert_eq!(
        rows,
        [
            (&"charges".into(), &1_000.into()),
            (&"customers".into(), &100.into())
        ]
    );
    assert!(
        status["streams"][0]["last_commit"].is_string()
            && status["streams"][0]["lag_seconds"].is_i64()
    );
    let state: Value =
        serde_json::from_str(&without_key(&["state", "show", "payments/charges"])).unwrap();
    assert!(state["payments/charges"]["cursor"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_checkpoint_is_read_again_without_duplicates() {
    let (sandbox, simulator) = synced().await;
    sandbox.run(&["sync"]).ended_with(0);
    let asked = sandbox
        .run(&["state", "reset", "payments/charges"])
        .ended_with(2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    let nothing_new = sandbox
        .run(&["sync", "--output", "json"])
        .ended_with(0)
        .finished();
    assert!(nothing_new["totals"]["records"].as_u64() < Some(100));
    sandbox
        .run(&["state", "reset", "payments/charges", "--yes"])
        .ended_with(0);
    let again = sandbox
        .run(&["sync", "--output", "json"])
        .ended_with(0)
        .finished();
    assert!(again["totals"]["records"].as_u64() >= Some(1_000));
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
    sandbox
        .run(&["state", "reset", "payments/chargs", "--yes"])
        .ended_with(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_standard_output_are_alone_there() {
    let (sandbox, simulator) = synced().await;
    sandbox.configure(&simulator, "type = \"jsonl\"\npath = \"-\"", &["charges"]);
    let ran = sandbox.run(&["sync"]).ended_with(0);
    assert!(ran.stderr.contains("Done:"), "{}", ran.stderr);
    let rows: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 1_000);
    let again = sandbox.run(&["sync"]).ended_with(0);
    assert!(
        again.stdout.lines().count() < 100,
        "the checkpoint is kept beside the configuration"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_log_has_a_line_per_attempt() {
    let (sandbox, simulator) = synced().await;
    sandbox
        .run(&["sync", "--log-requests", "requests.log"])
        .ended_with(0);
    let log = fs::read_to_string(sandbox.path("requests.log")).unwrap();
    assert_eq!(log.lines().count() as u64, simulator.stats().requests);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["source"], &line["status"], &line["failure"]),
            (&"payments".into(), &200.into(), &Value::Null)
        );
        assert!(
            line["request_id"].is_string() && line["latency_ms"].is_u64(),
            "{line}"
        );
    }
}
