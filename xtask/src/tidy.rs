//! The workspace's rules. Each message says where and how to put it right.

mod dependencies;
mod documents;
mod fixtures;
mod layers;
mod names;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use crate::output::{Outcome, root};

/// Checks the rules that the compiler does not: dependencies between crates, sources, fixtures, and
/// documents.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {}

/// Runs the task.
pub(crate) fn run(_args: &Args) -> Outcome {
    let mut problems = dependencies::check()?;
    problems.extend(sources::check(root())?);
    problems.extend(layers::check(root())?);
    problems.extend(names::check(root())?);
    problems.extend(fixtures::check(root())?);
    problems.extend(documents::check(root())?);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        eprintln!("tidy: no rule is broken");
        return Ok(());
    }
    Err(format!(
        "{} broken rules; each line above says what to do",
        problems.len()
    )
    .into())
}

/// Files below a folder, sorted, without those that are built.
fn walk(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", relative(&folder)))?;
        for entry in entries {
            let path = entry?.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("target" | ".git") => {}
                _ if path.is_dir() => folders.push(path),
                _ => files.push(path),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A path below the workspace's folder, with `/` on every system.
fn relative(path: &Path) -> String {
    let below = path.strip_prefix(root()).unwrap_or(path);
    below
        .iter()
        .map(|segment| segment.to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}
