//! What source files may not hold.

use std::fs;
use std::path::Path;

use super::{relative, walk};
use crate::output::Outcome;

/// Longest hand-written file, in lines.
const MAX_LINES: usize = 600;

/// Something that a line may not hold.
struct Rule {
    /// Texts that break the rule. Written in two parts where this file would break it itself.
    texts: &'static [&'static str],
    /// Files that it holds for.
    applies: fn(&str) -> bool,
    /// What to do.
    fix: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        texts: &["stripe", "Stripe", "zendesk", "Zendesk", "mixpanel", "Mixpanel"],
        applies: |path| path.starts_with("crates/pipeline-core/src/"),
        fix: "core names no vendor: say what kind of API it is, or move this to the connector",
    },
    Rule {
        texts: &[
            "<serde_json::Value",
            ": serde_json::Value",
            "&serde_json::Value",
            "serde_json::Value;",
            "serde_json::{Value",
            "serde_json::Map",
        ],
        applies: is_record_path,
        fix: "no JSON tree on the record path: read the members you need from RawRecord, or into a type",
    },
    Rule {
        texts: &["Utc::now(", "Local::now(", "SystemTime::now(", "std::time::Instant"],
        applies: |path| is_deterministic(path) && path != "crates/pipeline-core/src/clock.rs",
        fix: "take the time from the Clock that is passed in, and wait with tokio's time",
    },
    Rule {
        texts: &[
            concat!("#[ig", "nore"),
            concat!("```ig", "nore"),
            concat!("to", "do!("),
            concat!("unimpl", "emented!("),
            concat!("db", "g!("),
        ],
        applies: is_rust,
        fix: "finish it, or delete it",
    },
    Rule {
        texts: &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("C:\\", "Users")],
        applies: |_| true,
        fix: "no absolute path: make it relative to the workspace, or take it from the environment",
    },
];

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/examples/") || path.contains("/benches/")
}

/// Where vendors' records pass: in core, all but the registries' configurations and the tokens' endpoint.
fn is_record_path(path: &str) -> bool {
    let is_registry = path.ends_with("/connector.rs") || path.ends_with("/registry.rs");
    let is_core = path.starts_with("crates/pipeline-core/src/") && !is_registry && !path.contains("/http/token");
    let is_connector = path.starts_with("crates/connector-") && path.contains("/src/") && !path.ends_with("/config.rs");
    (is_core || is_connector) && !is_test(path)
}

/// Crates whose time is injected; the simulator and the tasks are not under test themselves.
fn is_deterministic(path: &str) -> bool {
    is_rust(path) && !is_test(path) && !path.starts_with("crates/pipeline-simulator/") && !path.starts_with("xtask/")
}

/// Checks the rules on sources.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    for file in [root.join("crates"), root.join("xtask"), root.join(".cargo")]
        .iter()
        .map(|folder| walk(folder))
        .collect::<Outcome<Vec<_>>>()?
        .concat()
    {
        // What is not text is no source.
        if let Ok(text) = fs::read_to_string(&file) {
            problems.extend(check_file(&relative(&file), &text));
        }
    }
    Ok(problems)
}

fn check_file(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for rule in RULES.iter().filter(|rule| (rule.applies)(path)) {
        let lines = code(text).filter(|(_, line)| rule.texts.iter().any(|text| line.contains(text)));
        problems.extend(lines.map(|(number, _)| format!("{path}:{number}: {}", rule.fix)));
    }
    if is_rust(path) {
        problems.extend(check_shape(path, text));
    }
    if path == ".cargo/config.toml" && (text.contains("[source") || text.contains("[registr")) {
        problems.push(format!("{path}: a registry belongs in the user's own configuration, not in the repository"));
    }
    problems
}

/// Lines with their numbers. The line after one that expects the lint by name is not counted: the reason is written there.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut excused = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let was_excused = std::mem::replace(&mut excused, line.contains("clippy::disallowed_methods"));
        excused |= was_excused && (line.trim().is_empty() || line.trim_start().starts_with("fn "));
        (!was_excused).then(|| (index + 1, line))
    })
}

fn check_shape(path: &str, text: &str) -> Vec<String> {
    let head: Vec<&str> = text.lines().take(5).collect();
    let is_generated = head.iter().any(|line| line.contains("do not edit"));
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES && !is_generated {
        problems.push(format!("{path}: {lines} lines; split it by concern, {MAX_LINES} is the most for a file written by hand"));
    }
    if !is_test(path) && !head.iter().any(|line| line.starts_with("//!") || line.starts_with("#![doc")) {
        problems.push(format!("{path}: begin with a `//!` line that says what the module is for"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        check_file(path, &format!("//! A module.\n{text}\n"))
    }

    #[test]
    fn each_rule_is_told_at_its_line() {
        let cases = [
            ("crates/pipeline-core/src/http/auth.rs", "// as Stripe does", "core names no vendor"),
            ("crates/connector-acme/src/lib.rs", "use serde_json::Value;", "no JSON tree"),
            ("crates/destination-acme/src/lib.rs", "let now = Utc::now();", "take the time from the Clock"),
            ("crates/destination-acme/src/lib.rs", concat!("to", "do!()"), "finish it"),
            ("crates/connector-acme/README.md", concat!("see /ho", "me/me/notes"), "no absolute path"),
        ];
        for (path, text, fix) in cases {
            let problems = broken(path, text);
            assert!(problems.iter().any(|problem| problem.starts_with(&format!("{path}:2: ")) && problem.contains(fix)), "{problems:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_not_told() {
        let cases = [
            ("crates/connector-stripe/src/lib.rs", "// Stripe"),
            ("crates/connector-acme/src/config.rs", "use serde_json::Value;"),
            ("crates/connector-acme/tests/it.rs", "let page = json!({});"),
            ("crates/pipeline-core/src/clock.rs", "Utc::now()"),
            ("crates/pipeline-cli/src/main.rs", "#[expect(clippy::disallowed_methods, reason = \"shown\")]\nlet now = Utc::now();"),
            ("crates/pipeline-core/src/http/limit.rs", "let now = tokio::time::Instant::now();"),
        ];
        for (path, text) in cases {
            assert_eq!(broken(path, text), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn long_files_are_told_unless_they_are_generated() {
        let long = "\n".repeat(MAX_LINES);
        assert_eq!(broken("crates/a/src/lib.rs", &long).len(), 1);
        assert!(broken("crates/a/src/lib.rs", &format!("//! Written by a task; do not edit.{long}")).is_empty());
        assert_eq!(check_file("crates/a/src/lib.rs", "fn main() {}").len(), 1);
    }
}
