//! One name, one type: what a name means does not depend on the module that it is read in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::sources::{is_rust, is_test};
use super::{relative, walk};
use crate::output::Outcome;

/// Crates that only tests and the tasks use. Their public types are written with the crate's name
/// where another crate has one of the same name.
const TEST_CRATES: [&str; 2] = ["pipeline-simulator", "pipeline-testkit"];

/// Names that several types may have, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "Args",
        "each task of xtask has its own, written `bench::Args`",
    ),
    ("Column", "of a batch, and of a table that is generated"),
    (
        "Deletes",
        "what a stream's deletions look like, and what a SQL destination does with them",
    ),
    ("Found", "files on a disk, and one object of a store"),
    ("Key", "of a member in JSON text, while a page is cut"),
    (
        "Metrics",
        "of one run, and of the service, which exports them",
    ),
    ("Options", "of a run, and of a folder of files"),
    ("Pages", "each connector's own word of its `Vendor`"),
    ("Rejection", "of a webhook, and of a record"),
    ("Requires", "each connector's own word of its `Vendor`"),
    (
        "Seen",
        "a record at a boundary, a source on the service's page, and a request at a proxy",
    ),
    ("Slices", "each connector's own word of its `Vendor`"),
    ("Status", "of a destination, and of an alert"),
    (
        "Stream",
        "what a user selects, and an entry in a connector's own table",
    ),
    (
        "Webhooks",
        "each connector verifies its own, written `webhook::Webhooks`",
    ),
    (
        "Written",
        "an entry of a manifest, and a file that is being written",
    ),
];

/// Where a type is declared.
#[derive(Debug)]
struct Declared {
    krate: String,
    /// `pub`, not `pub(crate)`.
    is_public: bool,
    /// Path and line.
    at: String,
}

/// The types of the workspace by name.
#[derive(Debug, Default)]
struct Types(BTreeMap<String, Vec<Declared>>);

/// Checks that within a crate no two public or crate-wide types share a name, and no two public
/// types of any crates do.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let mut types = Types::default();
    for folder in ["crates", "xtask"] {
        for file in walk(&root.join(folder))? {
            let path = relative(&file);
            if is_rust(&path) && path.contains("/src/") && !is_test(&path) {
                types.add(&path, &fs::read_to_string(&file)?);
            }
        }
    }
    Ok(types.problems(EXCEPTIONS))
}

impl Types {
    /// Adds what a file declares outside of its tests.
    fn add(&mut self, path: &str, text: &str) {
        let krate = path.strip_prefix("crates/").unwrap_or(path);
        let krate = krate.split('/').next().unwrap_or_default();
        let lines = text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.starts_with("mod tests {"));
        for (index, line) in lines {
            if let Some((name, is_public)) = declaration(line) {
                self.0.entry(name.to_owned()).or_default().push(Declared {
                    krate: krate.to_owned(),
                    is_public,
                    at: format!("{path}:{}", index + 1),
                });
            }
        }
    }

    /// Each type that has the name of an earlier one.
    fn problems(&self, exceptions: &[(&str, &str)]) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, declared) in &self.0 {
            if exceptions.iter().any(|(known, _)| known == name) {
                continue;
            }
            for (index, later) in declared.iter().enumerate() {
                let earlier = declared[..index]
                    .iter()
                    .find(|earlier| earlier.is_confused_with(later));
                problems.extend(earlier.map(|earlier| {
                    format!(
                        "{}: `{name}` is already the name of a type at {}: give one of them a \
                         name of its own, or a reason in xtask/src/tidy/names.rs",
                        later.at, earlier.at
                    )
                }));
            }
        }
        problems
    }
}

impl Declared {
    fn is_confused_with(&self, other: &Self) -> bool {
        let is_of_tests = |krate: &str| TEST_CRATES.contains(&krate);
        self.krate == other.krate
            || (self.is_public
                && other.is_public
                && !is_of_tests(&self.krate)
                && !is_of_tests(&other.krate))
    }
}

/// The name of the type that a line declares for other modules, and whether it is public. Types
/// inside of functions and modules in a file are indented, and seen by nothing else.
fn declaration(line: &str) -> Option<(&str, bool)> {
    let rest = line.strip_prefix("pub")?;
    let (rest, is_public) = match rest.strip_prefix("(crate)") {
        Some(rest) => (rest, false),
        None => (rest, true),
    };
    let rest = rest.strip_prefix(' ')?;
    let rest = ["struct ", "enum ", "trait ", "type ", "union "]
        .iter()
        .find_map(|kind| rest.strip_prefix(kind))?;
    let end = rest
        .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .unwrap_or(rest.len());
    Some((&rest[..end], is_public))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut types = Types::default();
        for (path, text) in files {
            types.add(path, text);
        }
        types.problems(&[("Args", "each has its own")])
    }

    #[test]
    fn a_name_that_a_crate_uses_twice_is_reported_at_the_later_line() {
        let problems = found(&[
            ("crates/a/src/lib.rs", "pub(crate) struct Window {"),
            ("crates/a/src/b.rs", "\npub enum Window<'a> {"),
        ]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("crates/a/src/b.rs:2: `Window` is already")
                && problems[0].contains("crates/a/src/lib.rs:1"),
            "{problems:?}"
        );
    }

    #[test]
    fn crates_share_no_public_name() {
        let public = "pub trait Secrets: Send {";
        let two = [("crates/a/src/lib.rs", public), ("xtask/src/b.rs", public)];
        assert_eq!(found(&two).len(), 1);
        let inner = "pub(crate) struct Secrets;";
        let own = [
            ("crates/a/src/lib.rs", public),
            ("crates/b/src/b.rs", inner),
        ];
        assert_eq!(found(&own), [""; 0], "one of them is its crate's own");
        let tests = [
            ("crates/a/src/lib.rs", public),
            ("crates/pipeline-testkit/src/b.rs", public),
        ];
        assert_eq!(found(&tests), [""; 0], "written with the crate's name");
    }

    #[test]
    fn what_only_a_module_sees_and_what_has_a_reason_is_not_reported() {
        let text = "pub struct Args;\nstruct Place;\npub(super) struct Place;\nmod inner \
                    {\n    pub struct Place;\n}\npub fn place() {}\npub use a::Place;\nmod tests \
                    {\npub struct Place;\n";
        let files = [("crates/a/src/lib.rs", text), ("crates/a/src/b.rs", text)];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn every_exception_has_a_reason_and_stands_once() {
        let names: Vec<&str> = EXCEPTIONS.iter().map(|(name, _)| *name).collect();
        assert!(names.is_sorted_by(|left, right| left < right), "{names:?}");
        assert!(EXCEPTIONS.iter().all(|(_, reason)| !reason.is_empty()));
    }
}
