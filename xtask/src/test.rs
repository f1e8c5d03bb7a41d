//! What must pass before a change is merged.

use crate::output::{Outcome, all, cargo, cargo_step, heading, step};
use crate::{faults, test_fixtures, tidy};

/// Checks the workspace's rules, then runs all tests and the fixtures. Needs nothing but cargo.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only the rules, the unit tests and the fixtures: no integration tests and no documentation
    /// examples.
    #[arg(long)]
    quick: bool,
}

/// Runs the task. A section that fails does not keep the others from being run.
pub(crate) fn run(args: &Args) -> Outcome {
    let sections: [fn(&Args) -> Outcome; 5] = [rules, generated, tests, matrix, fixtures];
    let outcome = all(sections.map(|section| section(args)));
    heading(if outcome.is_ok() {
        "everything passed"
    } else {
        "not everything passed"
    });
    outcome
}

fn rules(_args: &Args) -> Outcome {
    heading("rules of the workspace");
    tidy::run(&tidy::Args::default())
}

fn generated(_args: &Args) -> Outcome {
    cargo_step(&[
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--",
        "codegen",
        "--check",
    ])
}

/// Snapshots that differ are failures and nothing is written. All tests are run, whichever fail.
fn tests(args: &Args) -> Outcome {
    let mut command = cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"]);
    if args.quick {
        command.args(["--lib", "--bins"]);
    }
    step(
        "unit, integration and documentation tests",
        command.env("INSTA_UPDATE", "no"),
    )
}

/// The scenarios were run among the tests; here the tests that the matrix names elsewhere are
/// looked for.
fn matrix(args: &Args) -> Outcome {
    if args.quick {
        return Ok(());
    }
    heading("tests that the fault matrix names");
    faults::run(&faults::Args::check())
}

fn fixtures(_args: &Args) -> Outcome {
    heading("fixtures, killed after every page and with every fault");
    test_fixtures::run(&test_fixtures::Args::default())
}
