#![doc = include_str!("../README.md")]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;
mod args;
mod commands;
mod config;
mod connectors;
mod console;
mod destinations;
mod exit;
mod interrupt;
mod job;
mod output;
mod schema;
mod setup;
mod units;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::args::Cli;
use crate::console::Console;
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    allocator::give_back_what_is_free();
    let cli = Cli::parse();
    let console = Arc::new(Console::default());
    explain_panics(Arc::clone(&console));
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            console.note(&format!(
                "error: the program's threads cannot be started: {error}"
            ));
            return ExitCode::from(Exit::Destination.code());
        }
    };
    let exit = runtime.block_on(async {
        interrupt::survive_file_limit();
        let task = tokio::spawn({
            let console = Arc::clone(&console);
            async move { commands::run(cli, &console).await }
        });
        match task.await {
            Ok(Ok(exit)) => exit,
            Ok(Err(Failure { exit, .. })) if console.is_closed() => exit,
            Ok(Err(Failure { text, exit })) => {
                console.note(&text);
                exit
            }
            Err(_panic) => Exit::Bug,
        }
    });
    // A download that does not end must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(console.exit(exit).code())
}

/// Reports a panic as a defect, with its location, and that the data is safe.
fn explain_panics(console: Arc<Console>) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map(|place| format!(" at {}:{}", place.file(), place.line()))
            .unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        console.note(&format!(
            "error: a defect of this program{place}: {message}\n help: committed data is safe, and \
             the next run resumes from it; please report this"
        ));
    }));
}
