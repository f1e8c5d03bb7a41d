//! Everything that continuous integration checks.

use crate::output::{Outcome, all, cargo, cargo_step, has_component, step};
use crate::test;

/// Checks formatting, lints and documentation, then runs `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leaves `cargo xtask test` to the caller.
    #[arg(long)]
    skip_tests: bool,
}

/// Features of the core crate, each checked alone.
const CORE_FEATURES: [&str; 2] = ["", "reqwest"];

/// Runs the task. A check that fails does not keep the others from being run.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut outcomes = Vec::new();
    if has_component("fmt") {
        outcomes.push(cargo_step(&["fmt", "--all", "--check"]));
    }
    if has_component("clippy") {
        outcomes.push(cargo_step(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]));
        for features in CORE_FEATURES {
            let alone = [
                "clippy",
                "--package",
                "pipeline-core",
                "--tests",
                "--no-default-features",
                "--features",
                features,
                "--",
                "-D",
                "warnings",
            ];
            outcomes.push(cargo_step(&alone));
        }
    }
    // Workspaces of their own, whose lock files know what the crates here depend on.
    for manifest in ["benches/decoders/Cargo.toml", "fuzz/Cargo.toml"] {
        outcomes.push(cargo_step(&[
            "update",
            "--workspace",
            "--locked",
            "--manifest-path",
            manifest,
        ]));
    }
    let doc = ["doc", "--workspace", "--all-features", "--no-deps"];
    outcomes.push(step(
        "cargo doc, warnings denied",
        cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"),
    ));
    if !args.skip_tests {
        outcomes.push(test::run(&test::Args::default()));
    }
    all(outcomes)
}
