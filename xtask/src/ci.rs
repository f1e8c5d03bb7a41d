//! Everything that continuous integration checks.

use crate::output::{Outcome, cargo, cargo_step, has_component, step};
use crate::test;

/// Checks formatting, lints and documentation, then runs `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leaves `cargo xtask test` to the caller.
    #[arg(long)]
    skip_tests: bool,
}

/// Features of the core crate, each checked alone.
const CORE_FEATURES: [&str; 3] = ["", "reqwest", "engine"];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    if has_component("fmt") {
        cargo_step(&["fmt", "--all", "--check"])?;
    }
    if has_component("clippy") {
        cargo_step(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])?;
        for features in CORE_FEATURES {
            let alone = ["clippy", "--package", "pipeline-core", "--no-default-features", "--features", features, "--", "-D", "warnings"];
            cargo_step(&alone)?;
        }
    }
    let doc = ["doc", "--workspace", "--all-features", "--no-deps"];
    step("cargo doc, warnings denied", cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    if args.skip_tests { Ok(()) } else { test::run(&test::Args::default()) }
}
