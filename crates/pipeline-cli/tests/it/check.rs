//! `pipeline check`: what it finds, how soon, and what it says meanwhile.

use std::time::Duration;

use pipeline_simulator::Simulator;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{SQLITE, Sandbox, ran, stripe};

/// One source of each connector at a base URL.
fn sources(url: &str) -> String {
    format!(
        "[destination]\n{SQLITE}\n\n[sources.payments]\nconnector = \"stripe\"\napi_key = \
         \"${{STRIPE_API_KEY}}\"\nbase_url = \"{url}\"\n\n[sources.support]\nconnector = \
         \"zendesk\"\nsubdomain = \"acme\"\nemail = \"me@example.com\"\napi_token = \
         \"${{STRIPE_API_KEY}}\"\nbase_url = \"{url}\"\n\n[sources.product]\nconnector = \
         \"mixpanel\"\nproject_id = 1\nusername = \"me\"\nsecret = \
         \"${{STRIPE_API_KEY}}\"\nbase_url = \"{url}\"\n"
    )
}

#[test]
fn d1_check_ends_within_seconds_where_there_is_no_way_to_the_vendor() {
    for (url, cause) in [
        ("http://127.0.0.1:1", "Connection refused"),
        ("https://vendor.invalid", "vendor.invalid"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("pipeline.toml", &sources(url));
        for source in ["payments", "support", "product"] {
            for output in ["human", "json"] {
                let started = Instant::now();
                let ran = sandbox
                    .run(&["check", source, "--output", output])
                    .ended_with(4);
                assert!(
                    started.elapsed() < Duration::from_secs(20),
                    "{source} at {url}: {:?}",
                    started.elapsed()
                );
                assert!(
                    ran.stdout.contains(cause),
                    "{source} at {url}: {}",
                    ran.text()
                );
                assert!(!ran.text().contains("failed too often"), "{}", ran.text());
                assert!(
                    ran.stderr.contains(&format!("checking {source}")),
                    "{}",
                    ran.stderr
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_check_reports_each_endpoint_as_it_is_tried() {
    let simulator = Simulator::start(stripe(10, 10)).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.write(
        "pipeline.toml",
        &sources(&simulator.url()).replace("[sources.support]", "[sources.ignored]"),
    );
    let ran = sandbox.run(&["check", "payments"]).ended_with(0);
    for endpoint in ["charges", "customers", "refunds"] {
        assert_eq!(
            ran.stderr
                .matches(&format!("payments/{endpoint}: available\n"))
                .count(),
            1,
            "{}",
            ran.stderr
        );
    }
    let json = sandbox
        .run(&["check", "payments", "--output", "json"])
        .ended_with(0);
    let checked: Value = serde_json::from_str(&json.stdout).unwrap();
    let listed = checked["sources"][0]["endpoints"].as_array().unwrap().len();
    assert!(
        listed > 50 && json.stderr.matches("payments/").count() >= listed / 2,
        "{}",
        json.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_bad_credentials_are_found_by_one_request() {
    let simulator = Simulator::start(stripe(10, 10)).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges", "customers"]);
    let mut command = sandbox.command(&["check"]);
    command.env("STRIPE_API_KEY", "sk_test_wrong_wrong");
    let refused = ran(command).ended_with(3);
    assert!(!refused.text().contains("sk_test_wrong_wrong"));
    assert_eq!(simulator.stats().requests, 1, "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_the_future_and_an_impossible_user_are_refused_before_anything_is_asked() {
    let sandbox = Sandbox::new();
    let of = |source: &str, member: &str, value: &str| {
        let text = sources("http://127.0.0.1:1");
        let (before, after) = text.split_once(&format!("[sources.{source}]\n")).unwrap();
        let after: Vec<&str> = after
            .split('\n')
            .filter(|line| !line.starts_with(&format!("{member} = ")))
            .collect();
        format!(
            "{before}[sources.{source}]\n{member} = \"{value}\"\n{}",
            after.join("\n")
        )
    };
    let cases = [
        ("payments", "start_date", "9999-12-31", "future"),
        ("support", "start_date", "9999-12-31", "future"),
        ("product", "start_date", "9999-12-31", "future"),
        ("support", "email", "", "email"),
        ("support", "email", "me@example.com:", "email"),
        ("support", "email", "me", "email"),
        ("support", "email", "me @example.com", "email"),
    ];
    for (source, member, value, words) in cases {
        sandbox.write("pipeline.toml", &of(source, member, value));
        for command in ["sync", "check", "discover"] {
            let ran = sandbox.run(&[command, source]).ended_with(2);
            assert!(
                ran.stderr.contains(words) && ran.stderr.contains("pipeline.toml:"),
                "{source}.{member} = {value:?}: {}",
                ran.text()
            );
        }
    }
}
