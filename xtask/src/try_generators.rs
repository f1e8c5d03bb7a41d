//! Runs both generators in a copy of the workspace, and checks what they write.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;

use crate::output::{Outcome, all, cargo, has_component, heading, root, step};

/// Writes a connector and a destination into a copy of the workspace, and runs their suites, lints,
/// the rules, and the tests of the command with them.
///
/// The copy and what is built of it stay in the target folder, so that the next run builds only
/// what has changed.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {}

/// The name of what is written: of no vendor and no store.
const NAME: &str = "acme";

/// Runs the task. A check that fails does not keep the others from being run.
pub(crate) fn run(_args: &Args) -> Outcome {
    let Some(files) = files()? else {
        heading("SKIPPED: try-generators needs git and a clone");
        return Ok(());
    };
    let folder = MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()?
        .target_directory
        .into_std_path_buf()
        .join("generators");
    let copy = Copy {
        workspace: folder.join("workspace"),
        target: folder.join("target"),
    };
    copy.refresh(root(), &files)?;
    copy.task(&["new-connector", NAME])?;
    copy.task(&["new-destination", NAME])?;
    let (connector, destination) = (format!("connector-{NAME}"), format!("destination-{NAME}"));
    let packages = ["--package", &connector, "--package", &destination];
    let mut outcomes = vec![
        copy.task(&["tidy"]),
        copy.cargo(&["test", "--package", "pipeline-cli", "--test", "it"], &[]),
    ];
    if has_component("fmt") {
        outcomes.push(copy.cargo(&["fmt", "--check"], &packages));
    }
    if has_component("clippy") {
        outcomes.push(copy.cargo(
            &["clippy", "--all-targets"],
            &[&packages[..], &["--", "-D", "warnings"]].concat(),
        ));
    }
    all(outcomes)
}

/// The files of the workspace, changed and new ones too; none outside of a clone.
fn files() -> Outcome<Option<BTreeSet<PathBuf>>> {
    let mut command = Command::new("git");
    command
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root());
    let Some(output) = command
        .output()
        .ok()
        .filter(|output| output.status.success())
    else {
        return Ok(None);
    };
    let names = String::from_utf8(output.stdout)?;
    Ok(Some(
        names
            .split_terminator('\0')
            .map(PathBuf::from)
            .filter(|path| root().join(path).is_file())
            .collect(),
    ))
}

/// A copy of the workspace, with a target folder of its own: what is built has the workspace's path
/// in it.
struct Copy {
    workspace: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes the copy what the workspace is. Files that are the same already stay untouched, so
    /// that they are not built again.
    fn refresh(&self, from: &Path, files: &BTreeSet<PathBuf>) -> Outcome {
        fs::create_dir_all(&self.workspace)?;
        for file in below(&self.workspace)? {
            if !files.contains(file.strip_prefix(&self.workspace)?) {
                fs::remove_file(file)?;
            }
        }
        remove_empty(&self.workspace)?;
        for file in files {
            let (source, copy) = (from.join(file), self.workspace.join(file));
            let bytes = fs::read(&source)?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                fs::create_dir_all(copy.parent().unwrap_or(&self.workspace))?;
                fs::write(copy, bytes)?;
            }
        }
        Ok(())
    }

    /// Runs a task of the copy.
    fn task(&self, args: &[&str]) -> Outcome {
        self.cargo(&["run", "--quiet", "--package", "xtask", "--"], args)
    }

    fn cargo(&self, args: &[&str], more: &[&str]) -> Outcome {
        let args = [args, more].concat();
        let title = format!("in the copy: cargo {}", args.join(" "));
        step(
            &title,
            cargo(&args)
                .current_dir(&self.workspace)
                .env("CARGO_TARGET_DIR", &self.target)
                .env("INSTA_UPDATE", "no"),
        )
    }
}

/// All files below a folder.
fn below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Removes the folders below a folder that hold no file.
fn remove_empty(folder: &Path) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_empty(&path)?;
            if fs::read_dir(&path)?.next().is_none() {
                fs::remove_dir(path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_copy_becomes_what_the_workspace_is_and_keeps_what_is_the_same() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copy = Copy {
            workspace: to.path().join("workspace"),
            target: to.path().join("target"),
        };
        for (path, text) in [("same", "a"), ("folder/changed", "new"), ("added", "b")] {
            fs::create_dir_all(from.path().join(path).parent().unwrap()).unwrap();
            fs::write(from.path().join(path), text).unwrap();
        }
        for (path, text) in [
            ("same", "a"),
            ("folder/changed", "old"),
            ("crates/connector-acme/lib.rs", "generated"),
        ] {
            fs::create_dir_all(copy.workspace.join(path).parent().unwrap()).unwrap();
            fs::write(copy.workspace.join(path), text).unwrap();
        }
        let written = fs::metadata(copy.workspace.join("same"))
            .unwrap()
            .modified()
            .unwrap();
        copy.refresh(
            from.path(),
            &["same", "folder/changed", "added"]
                .map(PathBuf::from)
                .into(),
        )
        .unwrap();
        let text = |path| fs::read_to_string(copy.workspace.join(path)).unwrap();
        assert_eq!(
            (text("same"), text("folder/changed"), text("added")),
            ("a".to_owned(), "new".to_owned(), "b".to_owned())
        );
        assert!(!copy.workspace.join("crates").exists());
        assert_eq!(
            fs::metadata(copy.workspace.join("same"))
                .unwrap()
                .modified()
                .unwrap(),
            written
        );
    }

    #[test]
    fn a_clone_lists_its_files() {
        let Some(files) = files().unwrap() else {
            return;
        };
        assert!(
            files.contains(Path::new("xtask/Cargo.toml"))
                && !files.iter().any(|path| path.starts_with("target"))
        );
    }
}
