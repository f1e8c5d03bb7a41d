//! Files: a version is stored once, and what is deleted can be removed from the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipeline_core::{Clock as _, SystemClock};
use serde_json::Value;

use crate::support::{SQLITE, Sandbox};
use crate::vendor::{Vendor, list};

const DESTINATIONS: [&str; 3] = [
    SQLITE,
    "type = \"jsonl\"\npath = \"lines\"",
    "type = \"parquet\"\npath = \"lake\"\ncompression = \"none\"",
];

fn sandbox(vendor: &Vendor, destination: &str, streams: &str) -> Sandbox {
    let sandbox = vendor.sandbox(&format!("streams = {streams}"));
    let config = fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    sandbox.write("pipeline.toml", &config.replace(SQLITE, destination));
    sandbox
}

fn now() -> u64 {
    SystemClock.now().timestamp().unsigned_abs()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// The files that a text is in.
fn holding(sandbox: &Sandbox, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        fs::read(path)
            .unwrap()
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    files(sandbox.folder.path())
        .into_iter()
        .filter(holds)
        .collect()
}

/// Two customers, of whom one is deleted once the switch is on.
fn account() -> (Vendor, Arc<AtomicBool>) {
    let deleted = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&deleted);
    let created = now() - 100;
    let customer = move |id, email| {
        format!(r#"{{"id":"{id}","object":"customer","email":"{email}","created":{created}}}"#)
    };
    let vendor = Vendor::stripe(move |path, _| {
        let is_deleted = switch.load(Ordering::Relaxed);
        match path {
            "/v1/customers" if is_deleted => {
                Some((200, list(&[customer("cus_2", "stays@example.com")])))
            }
            "/v1/customers" => Some((
                200,
                list(&[
                    customer("cus_2", "stays@example.com"),
                    customer("cus_1", "forget@example.com"),
                ]),
            )),
            "/v1/customers/cus_1" => Some((
                200,
                r#"{"id":"cus_1","object":"customer","deleted":true}"#.to_owned(),
            )),
            "/v1/events" if is_deleted => {
                let object = customer("cus_1", "forget@example.com");
                let event = format!(
                    r#"{{"id":"evt_1","object":"event","type":"customer.deleted","created":{},"data":{{"object":{object}}}}}"#,
                    now() - 1
                );
                Some((200, list(&[event])))
            }
            _ => None,
        }
    });
    (vendor, deleted)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the next process has to start in a later second"
)]
fn nothing_of_what_was_deleted_is_on_the_disk_after_a_purge() {
    for destination in DESTINATIONS {
        let (vendor, deleted) = account();
        let sandbox = sandbox(&vendor, destination, "[\"customers\"]");
        sandbox.run(&["sync"]).ended_with(0);
        assert!(
            !holding(&sandbox, "forget@example.com").is_empty(),
            "{destination}"
        );
        deleted.store(true, Ordering::Relaxed);
        // The feed of changes starts with the second in which the first sync began.
        std::thread::sleep(Duration::from_millis(2_100));
        sandbox.run(&["sync"]).ended_with(0);
        let counted: Value = serde_json::from_str(
            &sandbox
                .run(&["purge", "--dry-run", "--output", "json"])
                .ended_with(0)
                .stdout,
        )
        .unwrap();
        let rows = counted["purged"]["tables"][0]["rows"].as_u64();
        assert_eq!(
            (&counted["dry_run"], rows),
            (
                &true.into(),
                Some(if destination == SQLITE { 0 } else { 2 })
            ),
            "{counted}"
        );
        let purged = sandbox.run(&["purge", "payments/customers"]).ended_with(0);
        assert!(purged.stdout.contains("Removed"), "{purged:?}");
        assert_eq!(
            holding(&sandbox, "forget@example.com"),
            Vec::<PathBuf>::new(),
            "{destination}"
        );
        assert!(
            !holding(&sandbox, "stays@example.com").is_empty(),
            "{destination}"
        );
        sandbox.run(&["sync"]).ended_with(0);
        assert!(
            sandbox
                .run(&["purge", "--versions"])
                .ended_with(0)
                .stdout
                .contains("Removed 0 rows.")
        );
        assert!(
            !holding(&sandbox, "stays@example.com").is_empty(),
            "{destination}"
        );
    }
}

#[test]
fn a_purge_names_what_is_there() {
    let (vendor, _) = account();
    let sandbox = sandbox(&vendor, SQLITE, "[\"customers\"]");
    sandbox.run(&["purge"]).ended_with(0);
    sandbox.run(&["sync"]).ended_with(0);
    let unknown = sandbox.run(&["purge", "payments/customer"]).ended_with(2);
    assert!(
        unknown
            .stderr
            .contains("did you mean `payments/customers`?"),
        "{unknown:?}"
    );
    let config = fs::read_to_string(sandbox.path("pipeline.toml")).unwrap();
    sandbox.write(
        "pipeline.toml",
        &config.replace(SQLITE, "type = \"jsonl\"\npath = \"-\""),
    );
    sandbox.run(&["purge"]).ended_with(2);
}

#[test]
fn what_is_read_again_and_is_the_same_is_not_stored_again() {
    let start = now();
    let vendor = Vendor::stripe(move |path, _| {
        let transaction = |n: u64| {
            let created = start - 86_400 * n - 100;
            format!(
                r#"{{"id":"txn_{n}","object":"balance_transaction","created":{created},"status":"available"}}"#
            )
        };
        (path == "/v1/balance_transactions")
            .then(|| (200, list(&(0..10).map(transaction).collect::<Vec<_>>())))
    });
    for destination in &DESTINATIONS[1..] {
        let sandbox = sandbox(&vendor, destination, "[\"balance_transactions\"]");
        let first = sandbox
            .run(&["sync", "--output", "json"])
            .ended_with(0)
            .finished();
        assert_eq!(
            (
                &first["streams"][0]["rows"],
                &first["streams"][0]["unchanged"]
            ),
            (&10.into(), &0.into()),
            "{first}"
        );
        for run in 0..5 {
            if run == 2 {
                // What is remembered is made again from the files.
                let folder = destination.split('"').nth(3).unwrap();
                fs::remove_dir_all(sandbox.path(folder).join("_known")).unwrap();
            }
            let again = sandbox
                .run(&["sync", "--output", "json"])
                .ended_with(0)
                .finished();
            let stream = &again["streams"][0];
            assert_eq!(
                (&stream["rows"], &stream["records"]),
                (&0.into(), &stream["unchanged"]),
                "{again}"
            );
        }
        let status: Value = serde_json::from_str(
            &sandbox
                .run(&["status", "--output", "json"])
                .ended_with(0)
                .stdout,
        )
        .unwrap();
        assert_eq!(status["streams"][0]["rows"], 10, "{status}");
    }
}
