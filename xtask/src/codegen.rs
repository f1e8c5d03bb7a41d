//! Writes source files from the API descriptions that vendors publish.

mod columns;
mod mixpanel;
mod openapi;
mod readme;
mod stripe;
#[cfg(test)]
mod tests;
mod zendesk;

use std::error::Error;
use std::path::PathBuf;

/// Nobody decides on these errors: they are read.
type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Writes, or checks, the files that are generated from vendors' API descriptions.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Writes nothing and fails when a generated file of any vendor is stale, as far as it can be
    /// told without their API descriptions.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    vendor: Option<Vendor>,
}

#[derive(Debug, clap::Subcommand)]
enum Vendor {
    /// The table of streams in the Mixpanel connector's README.
    Mixpanel {
        /// Writes nothing and fails when the table is stale.
        #[arg(long)]
        check: bool,
    },
    /// The columns of the Stripe connector's streams, the parameters of its lists, and the table of
    /// streams in its README.
    Stripe {
        /// Stripe's openapi.spec3.json of the version that the connector pins, plain or gzipped.
        #[arg(long, required_unless_present = "check")]
        spec: Option<PathBuf>,
        /// Writes nothing and fails when a file is not what would be written. Without a
        /// specification it can tell only whether the files were edited and whether every stream
        /// has its columns.
        #[arg(long)]
        check: bool,
    },
    /// The columns of the Zendesk connector's streams, its plain fixture cases, and the tables in
    /// its README.
    Zendesk(zendesk::Args),
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.vendor {
        Some(Vendor::Stripe { spec, check }) => stripe::run(spec.as_deref(), *check),
        Some(Vendor::Mixpanel { check }) => mixpanel::run(*check),
        Some(Vendor::Zendesk(args)) => zendesk::run(args),
        None if args.check => {
            stripe::run(None, true)?;
            mixpanel::run(true)?;
            zendesk::run(&zendesk::Args::check())
        }
        None => Err("name a vendor, or check all with `--check`".into()),
    }
}
