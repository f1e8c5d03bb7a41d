//! Development tasks: `cargo xtask --help`.

mod codegen;

use std::process::ExitCode;

use clap::Parser;

/// Development tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Codegen(codegen::Args),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Codegen(args) => codegen::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
