//! What the documents say about the output.

use std::collections::BTreeSet;
use std::fs;

use pipeline_simulator::{Simulator, StripeWorld};
use serde_json::Value;

use crate::support::{SQLITE, Sandbox, stripe};

/// The words in backticks of a document.
fn documented(name: &str) -> BTreeSet<String> {
    let text =
        fs::read_to_string(format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(ToOwned::to_owned)
        .collect()
}

/// Names of the members, and of members of members.
fn members(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                members(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| members(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_the_output_is_documented() {
    let world = stripe(150, 20);
    let stripe = StripeWorld {
        forbidden: vec!["refunds".to_owned()],
        ..world.stripe.clone()
    };
    let simulator = Simulator::start(pipeline_simulator::Simulation { stripe, ..world })
        .await
        .unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges", "refunds"]);
    let synced = sandbox
        .run(&[
            "sync",
            "--output",
            "json",
            "--log-requests",
            "requests.jsonl",
        ])
        .ended_with(3);
    let mut found = BTreeSet::new();
    let requests = fs::read_to_string(sandbox.path("requests.jsonl")).unwrap();
    for line in synced.stdout.lines().chain(requests.lines()) {
        let event: Value = serde_json::from_str(line).unwrap();
        found.extend(event["event"].as_str().map(ToOwned::to_owned));
        members(&event, &mut found);
    }
    for command in [&["runs"][..], &["status"]] {
        let printed = sandbox
            .run(&[command, &["--output", "json"]].concat())
            .ended_with(0)
            .stdout;
        members(&serde_json::from_str(&printed).unwrap(), &mut found);
    }
    let documented = documented("output.md");
    let missing: Vec<&String> = found.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "docs/output.md says nothing about {missing:?}"
    );
    assert!(found.len() > 60, "the run has shown too little: {found:?}");
}

#[test]
fn every_exit_code_is_documented_everywhere() {
    let help = Sandbox::new().run(&["--help"]).ended_with(0).stdout;
    let operations = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/operations.md"
    ))
    .unwrap();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let codes: Vec<&str> = help
        .lines()
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split_once("  ")
                .map(|(code, _)| code)
        })
        .collect();
    let codes: Vec<&str> = codes
        .into_iter()
        .filter(|code| code.parse::<u8>().is_ok())
        .collect();
    assert!(codes.len() >= 9, "{help}");
    for code in codes {
        for text in [&operations, &readme] {
            assert!(text.contains(&format!("\n| {code} | ")), "{code}");
        }
    }
}
