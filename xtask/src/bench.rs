//! Measures, and writes what was measured to `BENCHMARKS.md`: one section for each bench.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "prints figures, which no loss of precision shows in"
)]

mod decoders;
mod floors;
mod limits;
mod memory;
mod postgres;
mod process;
mod report;
mod sync;

use crate::output::Outcome;

/// Measures the workspace and writes the figures to BENCHMARKS.md.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    Sync(sync::Args),
    Limits(limits::Args),
    Memory(memory::Args),
    Decoders(decoders::Args),
    Postgres(postgres::Args),
    /// Serves charges that were written beforehand, until it is ended.
    #[command(hide = true)]
    Serve(floors::Serve),
    /// Measures one floor in a process of its own.
    #[command(hide = true)]
    Floor(floors::Args),
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    match &args.bench {
        Bench::Sync(args) => sync::run(args),
        Bench::Limits(args) => limits::run(args),
        Bench::Memory(args) => memory::run(args),
        Bench::Decoders(args) => decoders::run(args),
        Bench::Postgres(args) => postgres::run(args),
        Bench::Serve(args) => floors::serve(args),
        Bench::Floor(args) => floors::run(args),
    }
}
