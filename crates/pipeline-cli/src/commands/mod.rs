//! One module per command.

mod check;
mod connectors;
mod demo;
mod discover;
mod init;
mod purge;
mod run;
mod runs;
mod simulate;
mod spec;
mod state;
mod status;
mod sync;

use std::sync::Arc;

use crate::args::{Cli, Command};
use crate::console::Console;
use crate::exit::{Exit, Result};

/// Runs the command.
pub(crate) async fn run(cli: Cli, console: &Arc<Console>) -> Result<Exit> {
    match cli.command {
        Command::Init(args) => init::run(&args, console),
        Command::Connectors => Ok(connectors::run(console)),
        Command::Spec(args) => spec::run(&args, console),
        Command::Check(args) => check::run(&args, console).await,
        Command::Discover(args) => discover::run(&args, console),
        Command::Sync(args) => sync::run(&args, console).await,
        Command::Run(args) => run::run(&args, console).await,
        Command::Status(args) => status::run(&args, console).await,
        Command::Runs(args) => runs::run(&args, console).await,
        Command::State(args) => state::run(&args, console).await,
        Command::Purge(args) => purge::run(&args, console).await,
        Command::Simulate(args) => simulate::run(&args, console).await,
        Command::Demo(args) => demo::run(&args, console).await,
    }
}
