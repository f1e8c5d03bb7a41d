//! Runs mutation tests of the parts of core on which exactness rests.

use crate::output::{Outcome, cargo, has_component, step};

/// Changes the limiter, checkpoints, retries, redaction, the classifier and gaps one operator at a
/// time, and looks whether a test fails. `.cargo/mutants.toml` names the files.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files among those of the configuration, such as `gap.rs`; all when none are named.
    files: Vec<String>,
    /// Options of cargo-mutants itself, such as `--iterate`, which leaves out what was noticed
    /// before.
    #[arg(last = true)]
    options: Vec<String>,
}

/// Runs the task. A mutant takes about a minute; survivors are listed in `mutants.out/missed.txt`.
pub(crate) fn run(args: &Args) -> Outcome {
    if !has_component("mutants") {
        return Err("install it: cargo install cargo-mutants".into());
    }
    let mut command = cargo(&["mutants", "--package", "pipeline-core"]);
    for file in &args.files {
        // Names of mutants begin with their file; `--file` would add to the files of the
        // configuration.
        command.args(["--re", &format!("/{}:", file.replace('.', r"\."))]);
    }
    command.args(&args.options);
    step("mutants", &mut command)
}
