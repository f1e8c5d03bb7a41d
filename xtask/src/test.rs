//! What must pass before a change is merged.

use crate::output::{Outcome, cargo, cargo_step, heading, step};
use crate::{test_fixtures, tidy};

/// Checks the workspace's rules, then runs all tests and the fixtures. Needs nothing but cargo.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only the rules, the unit tests and the fixtures: no integration tests and no documentation examples.
    #[arg(long)]
    quick: bool,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    heading("rules of the workspace");
    tidy::run(&tidy::Args::default())?;
    heading("generated files");
    cargo_step(&["run", "--quiet", "--package", "xtask", "--", "codegen", "stripe", "--check"])?;
    if args.quick {
        tests(&["test", "--workspace", "--all-features", "--lib", "--bins"])?;
    } else {
        tests(&["test", "--workspace", "--all-features"])?;
    }
    heading("fixtures");
    test_fixtures::run(&test_fixtures::Args::default())
}

/// Runs tests; snapshots that differ are failures and nothing is written.
fn tests(args: &[&str]) -> Outcome {
    step(&format!("cargo {}", args.join(" ")), cargo(args).env("INSTA_UPDATE", "no"))
}
