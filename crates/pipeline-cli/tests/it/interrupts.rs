//! Ctrl-C, deadlines: a quick end, a commit, and a run that goes on.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::time::Duration;

use pipeline_simulator::Simulator;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{SQLITE, Sandbox, stripe};

/// Starts a sync and returns once its first rows are committed.
pub(crate) fn after_a_commit(sandbox: &Sandbox) -> Child {
    let mut child = sandbox.spawn_sync();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(
            events.read_line(&mut line).unwrap(),
            0,
            "the sync ended without a commit of rows"
        );
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["event"] == "committed" && event["rows"].as_u64() > Some(0) {
            break;
        }
    }
    // The rest of the events must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut events, &mut std::io::sink()));
    child
}

async fn slow() -> (Sandbox, Simulator) {
    let mut simulation = stripe(20_000, 100);
    simulation.latency = Duration::from_millis(100);
    let simulator = Simulator::start(simulation).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, SQLITE, &["charges"]);
    (sandbox, simulator)
}

/// Sends a signal to a process.
pub(crate) fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .args([name, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_within_two_seconds_with_4_and_the_next_run_goes_on() {
    let (sandbox, simulator) = slow().await;
    for name in ["-INT", "-TERM"] {
        let child = after_a_commit(&sandbox);
        let before = sandbox.ids("payments_charges").len();
        let interrupted = Instant::now();
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert!(
            interrupted.elapsed() < Duration::from_secs(2),
            "{name}: {:?}",
            interrupted.elapsed()
        );
        assert_eq!(
            output.status.code(),
            Some(4),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(sandbox.ids("payments_charges").len() >= before);
    }
    let requests = simulator.stats().requests;
    sandbox.run(&["sync"]).ended_with(0);
    assert_eq!(
        sandbox.ids("payments_charges"),
        simulator.truth().ids("charges")
    );
    assert!(
        simulator.stats().requests - requests < 200,
        "the last run read everything again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_with_4_and_says_how_to_go_on() {
    let (sandbox, _simulator) = slow().await;
    let started = Instant::now();
    let stopped = sandbox.run(&["sync", "--max-duration", "1s"]).ended_with(4);
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(
        stopped.stdout.contains("Run the same command again"),
        "{}",
        stopped.text()
    );
    let status = sandbox.run(&["status"]).ended_with(0).stdout;
    assert!(status.contains("left"), "{status}");
}
