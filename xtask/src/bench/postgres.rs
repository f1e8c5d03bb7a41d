//! How fast Postgres is loaded beside a bare `COPY`, and how much a refresh writes. The test that
//! measures it starts the server itself.

use std::process::Stdio;

use super::report;
use crate::output::{Outcome, cargo, heading};

/// Measures the Postgres destination beside a bare `COPY` into the same server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prints the figures without writing them to BENCHMARKS.md.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let machine = report::machine();
    heading("postgres");
    let output = cargo(&[
        "test",
        "--release",
        "--package",
        "destination-postgres",
        "--test",
        "it",
    ])
    .args(["figures", "--", "--nocapture"])
    .env("PIPELINE_FIGURES_ROWS", "200000")
    .stderr(Stdio::inherit())
    .output()?;
    let printed = String::from_utf8(output.stdout)?;
    let rows: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    if !output.status.success() || rows.is_empty() {
        return Err("nothing was measured; a server has to be installed".into());
    }
    let text = format!(
        "`cargo xtask bench postgres`: 200,000 charges of about 0.8 KB in one transaction, `fsync = off`, without the time that it \
         takes to make the rows.\n\nMachine: {machine}.\n\n| | | |\n|---|---|---|\n{}\n",
        rows.join("\n")
    );
    println!("\n{text}");
    if args.dry_run {
        Ok(())
    } else {
        report::write("Postgres", &text)
    }
}
