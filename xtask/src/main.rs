//! Development tasks: `cargo xtask --help`.

mod bench;
mod ci;
mod codegen;
mod crash;
mod faults;
mod fuzz;
mod mutants;
mod new_connector;
mod new_destination;
mod output;
mod scaffold;
mod test;
mod test_fixtures;
mod tidy;
mod try_generators;

use std::process::ExitCode;

use clap::Parser;

/// Development tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Test(test::Args),
    Ci(ci::Args),
    Codegen(codegen::Args),
    TestFixtures(test_fixtures::Args),
    Tidy(tidy::Args),
    NewConnector(new_connector::Args),
    NewDestination(new_destination::Args),
    TryGenerators(try_generators::Args),
    Bench(bench::Args),
    Faults(faults::Args),
    Fuzz(fuzz::Args),
    Crash(crash::Args),
    Mutants(mutants::Args),
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Test(args) => test::run(&args),
        Task::Ci(args) => ci::run(&args),
        Task::Codegen(args) => codegen::run(&args),
        Task::TestFixtures(args) => test_fixtures::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::NewConnector(args) => new_connector::run(&args),
        Task::NewDestination(args) => new_destination::run(&args),
        Task::TryGenerators(args) => try_generators::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Faults(args) => faults::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Crash(args) => crash::run(&args),
        Task::Mutants(args) => mutants::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
