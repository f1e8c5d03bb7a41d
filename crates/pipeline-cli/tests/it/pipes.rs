//! Standard output that nobody reads, and that cannot be written.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use pipeline_simulator::Simulator;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{SQLITE, Sandbox, stripe};

/// How a program ends that writes to a pipe which nobody reads.
const CLOSED: i32 = 141;

async fn account(destination: &str) -> (Sandbox, Simulator) {
    let simulator = Simulator::start(stripe(3_000, 10)).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, destination, &["charges"]);
    (sandbox, simulator)
}

/// Runs a command of which somebody reads one line and leaves: the line, the exit code and what
/// standard error has.
fn head(sandbox: &Sandbox, args: &[&str]) -> (String, Option<i32>, String) {
    let mut child = sandbox
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let left = Instant::now();
    let status = child.wait().unwrap();
    assert!(
        left.elapsed() < Duration::from_secs(5),
        "it went on for {:?}",
        left.elapsed()
    );
    let mut stderr = String::new();
    child.stderr.unwrap().read_to_string(&mut stderr).unwrap();
    (line, status.code(), stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_reader_of_rows_that_leaves_ends_the_sync_quietly_and_loses_nothing() {
    let (sandbox, simulator) = account("type = \"jsonl\"\npath = \"-\"").await;
    let id = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["record"]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (line, code, stderr) = head(&sandbox, &["sync"]);
    assert_eq!(code, Some(CLOSED), "{stderr}");
    assert!(
        !stderr.contains("error") && !stderr.contains("help"),
        "{stderr}"
    );
    let rest = sandbox.run(&["sync"]).ended_with(0);
    let mut ids: BTreeSet<String> = rest.stdout.lines().map(id).collect();
    assert!(
        ids.len() > 1_000,
        "what nobody read was committed: only {} of 3000 came again",
        ids.len()
    );
    // What was delivered before the reader left may be what was committed; everything else comes
    // again.
    ids.insert(id(&line));
    let truth: BTreeSet<String> = simulator.truth().ids("charges").into_iter().collect();
    assert!(ids.is_subset(&truth));
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_reader_of_events_that_leaves_ends_the_sync_quietly() {
    let (sandbox, simulator) = account(SQLITE).await;
    let (_, code, stderr) = head(&sandbox, &["sync", "--output", "json"]);
    assert_eq!(code, Some(CLOSED), "{stderr}");
    assert_eq!(stderr, "");
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_result_that_nobody_reads_ends_quietly() {
    let (sandbox, _simulator) = account(SQLITE).await;
    sandbox.run(&["sync"]).ended_with(0);
    for args in [
        &["status"][..],
        &["status", "--output", "json"],
        &["runs"],
        &["state", "show"],
        &["discover"],
        &["sync"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = sandbox
            .command(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(CLOSED), "{args:?}: {stderr}");
        assert!(!stderr.contains("error"), "{args:?}: {stderr}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_behind_an_output_or_a_log_is_reported() {
    let (sandbox, simulator) = account(SQLITE).await;
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let log = sandbox
        .run(&["sync", "--log-requests", "/dev/full"])
        .ended_with(5);
    assert!(
        log.stderr
            .contains("the request log /dev/full cannot be written: no space left on device"),
        "{}",
        log.stderr
    );
    assert!(
        log.stdout.contains("Done:"),
        "the data is not affected: {}",
        log.stdout
    );
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
    for args in [
        &["sync", "--output", "json"][..],
        &["status"],
        &["status", "--output", "json"],
        &["spec", "stripe"],
    ] {
        let output = sandbox
            .command(args)
            .stdout(full())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{args:?}: {stderr}");
        assert_eq!(
            stderr
                .matches("standard output cannot be written: no space left on device")
                .count(),
            1,
            "{args:?}: {stderr}"
        );
    }
}
