//! Running commands, and printing what happens.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A task's outcome; the error is printed.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Prints a section's heading.
pub(crate) fn heading(text: &str) {
    eprintln!("\n=== {text} ===");
}

/// `cargo` as it runs this task, with these arguments, in the workspace's folder.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(
        std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from),
    );
    command.args(args).current_dir(root());
    command
}

/// Runs a command under a heading that shows it; its output is the caller's.
pub(crate) fn step(title: &str, command: &mut Command) -> Outcome {
    heading(title);
    let status = command
        .status()
        .map_err(|error| format!("`{title}` cannot be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{title}` failed").into())
    }
}

/// Runs `cargo` with these arguments under a heading.
pub(crate) fn cargo_step(args: &[&str]) -> Outcome {
    step(&format!("cargo {}", args.join(" ")), &mut cargo(args))
}

/// One outcome of several: every failure.
pub(crate) fn all(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let failures: Vec<String> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; ").into())
    }
}

/// Whether a cargo component such as `fmt` is installed; says so when it is not.
pub(crate) fn has_component(name: &str) -> bool {
    let found = cargo(&[name, "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        heading(&format!("SKIPPED: cargo {name} is not installed"));
    }
    found
}
