//! Snapshots beside the fixtures, in insta's file format, compared outside of a test as well as
//! within one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fixture::{files, shown};

/// What happens to a snapshot that differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// It is a failure.
    #[default]
    No,
    /// The new contents replace it.
    Always,
}

impl Update {
    /// `Always` when insta's variable `INSTA_UPDATE` is `always`.
    pub fn from_env() -> Self {
        if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
            Self::Always
        } else {
            Self::No
        }
    }
}

/// The snapshots of one connector.
#[derive(Debug)]
pub(crate) struct Snapshots {
    update: Update,
    checked: BTreeSet<PathBuf>,
}

impl Snapshots {
    pub(crate) fn new(update: Update) -> Self {
        Self {
            update,
            checked: BTreeSet::new(),
        }
    }

    /// Compares with the snapshot `name` in `folder`; the error is the first difference.
    pub(crate) fn check(
        &mut self,
        folder: &Path,
        name: &str,
        contents: &str,
    ) -> Result<(), String> {
        let path = folder.join(format!("{name}.snap"));
        self.checked.insert(path.clone());
        let contents = contents.trim_end();
        let known = match insta::Snapshot::from_file(&path) {
            Ok(snapshot) => snapshot.as_text().map(ToString::to_string),
            Err(_) if !path.exists() => None,
            Err(error) => return Err(format!("{}: {error}", shown(&path))),
        };
        let difference = match &known {
            Some(known) if known.trim_end() == contents => return Ok(()),
            Some(known) => first_difference(known.trim_end(), contents),
            None => "there is no snapshot yet".to_owned(),
        };
        match self.update {
            Update::Always => write(&path, contents),
            Update::No => Err(format!("{}: {difference}", shown(&path))),
        }
    }

    /// Snapshots in a folder and its cases that nothing was compared with. Accepting deletes them.
    pub(crate) fn unreferenced(&self, folder: &Path) -> Vec<String> {
        let is_stray = |path: &PathBuf| {
            path.extension()
                .is_some_and(|extension| extension == "snap")
                && !self.checked.contains(path)
        };
        let inner = files(folder).unwrap_or_default();
        let nested = inner
            .iter()
            .filter(|path| path.is_dir())
            .flat_map(|path| files(path).unwrap_or_default());
        let mut stray: Vec<PathBuf> = inner
            .iter()
            .cloned()
            .chain(nested)
            .filter(is_stray)
            .collect();
        if self.update == Update::Always {
            stray.retain(|path| fs::remove_file(path).is_err());
        }
        stray
            .iter()
            .map(|path| {
                format!(
                    "{}: nothing is compared with this snapshot; delete it",
                    shown(path)
                )
            })
            .collect()
    }
}

fn write(path: &Path, contents: &str) -> Result<(), String> {
    let text = format!("---\nsource: crates/pipeline-testkit/src/case.rs\n---\n{contents}\n");
    fs::write(path, text).map_err(|error| format!("{}: {error}", shown(path)))
}

fn first_difference(known: &str, found: &str) -> String {
    let (mut known, mut found) = (known.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (known.next(), found.next()) {
            (Some(was), Some(is)) if was == is => {}
            (None, None) => return "line ends differ".to_owned(),
            (was, is) => {
                let shown = |line: Option<&str>| {
                    line.map_or_else(|| "the end".to_owned(), |line| format!("`{line}`"))
                };
                return format!("line {number} was {} and is now {}", shown(was), shown(is));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn accepted_snapshots_match_and_strays_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let contents = "GET /a\n---\nGET /b";
        assert!(
            Snapshots::new(Update::No)
                .check(folder.path(), "requests", contents)
                .is_err()
        );
        Snapshots::new(Update::Always)
            .check(folder.path(), "requests", contents)
            .unwrap();
        let mut snapshots = Snapshots::new(Update::No);
        snapshots
            .check(folder.path(), "requests", contents)
            .unwrap();
        assert!(snapshots.unreferenced(folder.path()).is_empty());
        let difference = snapshots
            .check(folder.path(), "requests", "GET /a\nGET /c")
            .unwrap_err();
        assert!(
            difference.contains("line 2 was `---` and is now `GET /c`"),
            "{difference}"
        );
        assert_eq!(
            Snapshots::new(Update::No).unreferenced(folder.path()).len(),
            1
        );
    }
}
