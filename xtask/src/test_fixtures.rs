//! Runs the connectors' suites on their fixtures.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::output::{Outcome, cargo, root, step};

/// Runs every case in `fixtures/`, killed after every page and with every fault, and compares with
/// the snapshots.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The connector; all unless given.
    connector: Option<String>,
    /// Writes snapshots that differ and deletes those that nothing is compared with.
    #[arg(long)]
    accept: bool,
}

impl Args {
    /// One connector, whose snapshots are written.
    pub(crate) fn accepting(connector: &str) -> Self {
        Self {
            connector: Some(connector.to_owned()),
            accept: true,
        }
    }
}

/// Runs the task: the test `connector_suite` of every connector, which prints the report.
pub(crate) fn run(args: &Args) -> Outcome {
    let known = connectors(root())?;
    let is_wanted = |name: &&String| args.connector.as_ref().is_none_or(|wanted| wanted == *name);
    let wanted: Vec<&String> = known.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        let name = args.connector.as_deref().unwrap_or_default();
        return Err(format!("unknown connector `{name}`; known are {}", known.join(", ")).into());
    }
    let packages = wanted
        .iter()
        .map(|name| format!("--package=connector-{name}"));
    let mut suites = cargo(&["test", "--quiet", "--no-fail-fast", "--test", "it"]);
    suites
        .args(packages)
        .args(["connector_suite", "--", "--exact", "--nocapture"]);
    if args.accept {
        suites.env("INSTA_UPDATE", "always");
    }
    // The reports are on standard error. Cargo's own lines would count each suite as a test once
    // more.
    step("suites of the connectors", suites.stdout(Stdio::null()))
}

/// The connectors that have a folder of fixtures.
fn connectors(root: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fixtures"))? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_connector_has_a_suite_that_the_task_finds() {
        let packages = fs::read_dir(root().join("crates")).unwrap();
        let mut crates: Vec<String> = packages
            .filter_map(|entry| {
                Some(
                    entry
                        .unwrap()
                        .file_name()
                        .to_str()?
                        .strip_prefix("connector-")?
                        .to_owned(),
                )
            })
            .collect();
        crates.sort();
        assert_eq!(connectors(root()).unwrap(), crates);
        for name in crates {
            let tests = root().join(format!("crates/connector-{name}/tests"));
            let main = [tests.join("it.rs"), tests.join("it/main.rs")]
                .into_iter()
                .find_map(|path| fs::read_to_string(path).ok());
            assert!(
                main.is_some_and(|text| text.contains("connector_suite!(")),
                "{name}"
            );
        }
    }
}
