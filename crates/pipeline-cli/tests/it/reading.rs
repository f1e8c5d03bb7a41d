//! Commands that only read change nothing, and work where nothing can be written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline_simulator::Simulator;

use crate::support::{SQLITE, Sandbox, stripe};

const DESTINATIONS: [&str; 3] = [
    SQLITE,
    "type = \"parquet\"\npath = \"lake\"",
    "type = \"jsonl\"\npath = \"lake\"",
];

const READING: [&[&str]; 6] = [
    &["status"],
    &["status", "--output", "json"],
    &["runs"],
    &["state", "show"],
    &["state", "gaps"],
    &["state", "reset", "payments"],
];

/// Every file below a folder with its content, and every folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(&path).unwrap()));
        }
    }
    found
}

async fn synced(destination: &str) -> Sandbox {
    let simulator = Simulator::start(stripe(300, 30)).await.unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, destination, &["charges", "customers"]);
    sandbox.run(&["sync"]).ended_with(0);
    sandbox
}

#[tokio::test(flavor = "multi_thread")]
async fn a18_reading_commands_change_nothing() {
    for destination in DESTINATIONS {
        let sandbox = synced(destination).await;
        if sandbox.path("lake").is_dir() {
            // What a person has put there, and what a killed run may have left.
            fs::write(
                sandbox.path("lake/payments/charges/compacted.parquet"),
                "mine",
            )
            .unwrap();
            fs::create_dir_all(sandbox.path("lake/_staging")).unwrap();
            fs::write(sandbox.path("lake/_staging/x"), "mine").unwrap();
        }
        let before = tree(sandbox.folder.path());
        for args in READING {
            sandbox
                .run(args)
                .ended_with(if args.contains(&"reset") { 2 } else { 0 });
            let after = tree(sandbox.folder.path());
            let changed: Vec<_> = after
                .iter()
                .filter(|(path, content)| before.get(*path) != Some(*content))
                .map(|(path, _)| path)
                .collect();
            assert!(
                changed.is_empty(),
                "{args:?} of {destination} changed {changed:?}"
            );
            assert!(
                before.keys().all(|path| after.contains_key(path)),
                "{args:?} of {destination} removed something"
            );
        }
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a18_reading_commands_work_where_nothing_can_be_written() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    for destination in DESTINATIONS {
        let sandbox = synced(destination).await;
        let folder = sandbox.folder.path().to_owned();
        fs::copy(
            env!("CARGO_BIN_EXE_pipeline"),
            folder.join("copy-of-pipeline"),
        )
        .unwrap();
        let mode = |path: &Path, file: u32, of_folder: u32| {
            let mode = if path.is_dir() { of_folder } else { file };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let all: Vec<PathBuf> = tree(&folder).into_keys().chain([folder.clone()]).collect();
        for path in &all {
            mode(path, 0o555, 0o555);
        }
        for args in READING {
            // Permissions do not bind root.
            let mut command = std::process::Command::new(folder.join("copy-of-pipeline"));
            sandbox.prepare(&mut command);
            command.args(args);
            if is_root {
                command.uid(65_534);
            }
            let ran = crate::support::ran(command);
            assert_eq!(
                ran.code,
                if args.contains(&"reset") { 2 } else { 0 },
                "{args:?} of {destination}: {}",
                ran.text()
            );
            if args[0] == "status" {
                assert!(
                    ran.stdout.contains("300"),
                    "{args:?} of {destination}: {}",
                    ran.text()
                );
            }
        }
        for path in &all {
            mode(path, 0o644, 0o755);
        }
    }
}

#[cfg(unix)]
#[test]
fn a18_what_cannot_be_looked_at_is_not_taken_for_nothing() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("closed")).unwrap();
    fs::copy(
        env!("CARGO_BIN_EXE_pipeline"),
        sandbox.path("copy-of-pipeline"),
    )
    .unwrap();
    sandbox.write(
        "pipeline.toml",
        "[destination]\ntype = \"sqlite\"\npath = \
         \"closed/warehouse.db\"\n[sources.payments]\nconnector = \"stripe\"\napi_key = \
         \"${KEY}\"\n",
    );
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(sandbox.folder.path(), 0o755);
    for closed in [true, false] {
        mode(&sandbox.path("closed"), if closed { 0o000 } else { 0o755 });
        for args in [&["status"][..], &["runs"], &["state", "show"]] {
            let mut command = std::process::Command::new(sandbox.path("copy-of-pipeline"));
            sandbox.prepare(&mut command);
            command.args(args);
            if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
                command.uid(65_534);
            }
            let ran = crate::support::ran(command).ended_with(if closed { 5 } else { 0 });
            assert_eq!(
                ran.text().contains("permission denied"),
                closed,
                "{args:?}: {}",
                ran.text()
            );
        }
    }
}
