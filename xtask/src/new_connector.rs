//! Writes a new connector.

use crate::output::Outcome;

/// Writes a connector that compiles and passes, with one stream and one fixture case.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The vendor's name: lower case letters, digits and hyphens.
    name: String,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    Err(args.name.clone().into())
}
