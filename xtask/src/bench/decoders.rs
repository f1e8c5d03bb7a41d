//! Our decoder beside others. They are built in a workspace of their own, so that other builds do
//! not wait for them who does not compare.

use std::process::Stdio;

use super::report;
use crate::output::{Outcome, cargo, heading, root};

/// Measures our decoder beside others on the same pages and one core.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prints the figures without writing them to BENCHMARKS.md.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let machine = report::machine();
    let (manifest, target) = (
        root().join("benches/decoders/Cargo.toml"),
        root().join("target"),
    );
    heading("decoders");
    let mut command = cargo(&["run", "--release", "--locked", "--manifest-path"]);
    let output = command
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the decoders could not be compared".into());
    }
    let rows = String::from_utf8(output.stdout)?;
    let text = format!(
        "`cargo xtask bench decoders`, medians of 5 rounds on one core: pages of 100 charges as \
         `bench sync` reads them.\n\nMachine: {machine}.\n\n| | MB/s of processor time \
         |\n|---|---|\n{rows}\n{REMARKS}"
    );
    println!("\n{text}");
    if args.dry_run {
        Ok(())
    } else {
        report::write("Decoders compared", &text)
    }
}

/// Why the fastest is not simply taken.
const REMARKS: &str = "A tape is an index that columns have still to be made of. It does not \
                       contain how numbers are written, and one integer beyond 64
bits refuses the \
                       page. `arrow-json` rounds, coerces, and accepts what is not JSON. Ours \
                       finds the same members in the pass that
proves the page, and is held \
                       against `serde_json` by its tests: on hostile texts, on any pieces of JSON, \
                       and on damaged documents.
";
