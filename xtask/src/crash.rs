//! Kills syncs at random moments.

use std::process::Command;

use crate::output::{Outcome, all, cargo, step};

/// Kills syncs of a simulated account at random moments, resumes them, and compares what is stored
/// with the account: nothing may be lost or doubled.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills for each destination.
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// The only destination; all are if it is not given.
    #[arg(long, value_parser = DESTINATIONS)]
    destination: Option<String>,
    /// What is killed: first syncs, full refreshes, or syncs that pass over what the vendor
    /// refuses; all when it is not given.
    #[arg(long, value_parser = KINDS)]
    of: Option<String>,
    /// Chooses the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kills the program as it is released.
    #[arg(long)]
    release: bool,
}

/// `bucket` is Parquet in an object store; it and `postgres` need the server of that name.
const DESTINATIONS: [&str; 5] = ["sqlite", "parquet", "jsonl", "postgres", "bucket"];
const KINDS: [&str; 3] = ["plain", "refresh", "gaps"];

/// Runs the task, and prints a line of figures for each destination and kind.
pub(crate) fn run(args: &Args) -> Outcome {
    let chosen = |all: &[&'static str], only: &Option<String>| -> Vec<&'static str> {
        all.iter()
            .copied()
            .filter(|one| only.as_deref().is_none_or(|only| only == *one))
            .collect()
    };
    let (kills, seed) = (args.kills.to_string(), args.seed.to_string());
    let mut outcomes = Vec::new();
    for destination in chosen(&DESTINATIONS, &args.destination) {
        for kind in chosen(&KINDS, &args.of) {
            let mut command: Command = cargo(&[
                "test",
                "--quiet",
                "--workspace",
                "--all-features",
                "--test",
                "faults",
            ]);
            command.args(args.release.then_some("--release")).args([
                "--",
                "--crash",
                &kills,
                destination,
                kind,
                &seed,
            ]);
            outcomes.push(step(
                &format!("{kills} kills: {destination}, {kind}"),
                &mut command,
            ));
        }
    }
    all(outcomes)
}
