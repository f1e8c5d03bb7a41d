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

/// What changes behind a shared reference.
const INTERIOR_MUTABILITY: &[&str] = &[
    "Mutex", "RwLock", "OnceLock", "OnceCell", "RefCell", "Atomic",
];

const RULES: &[Rule] = &[
    Rule {
        texts: &[
            "stripe", "Stripe", "zendesk", "Zendesk", "mixpanel", "Mixpanel",
        ],
        applies: |path| {
            path.starts_with("crates/pipeline-core/src/")
                || path.starts_with("crates/pipeline-engine/src/")
        },
        fix: "core and the engine name no vendor: say what kind of API it is, or move this to the \
              connector",
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
        fix: "no JSON tree on the record path: read the members you need from RawRecord, or into a \
              type",
    },
    Rule {
        texts: INTERIOR_MUTABILITY,
        applies: is_declaration,
        fix: "declarations are data that outlives runs: keep what lives for one run in the \
              Session, or in its Reader",
    },
    Rule {
        texts: &[
            "struct List ",
            "struct List<",
            "struct Stream ",
            "struct Stream<",
            "struct Parent ",
            "enum Reads ",
            "enum Place ",
        ],
        applies: declares_lists,
        fix: "lists and streams are declared with ListDef and StreamDef: put the vendor's own words into its Vendor",
    },
    Rule {
        texts: &[
            "Utc::now(",
            "Local::now(",
            "SystemTime::now(",
            "std::time::Instant",
        ],
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
        texts: &[
            concat!("/ho", "me/"),
            concat!("/ro", "ot/"),
            concat!("C:\\", "Users"),
        ],
        applies: |_| true,
        fix: "no absolute path: make it relative to the workspace, or take it from the environment",
    },
];

/// The modules that declare what a connector is.
fn is_connector_module(path: &str) -> bool {
    let connector = path.strip_prefix("crates/pipeline-core/src/connector");
    connector.is_some_and(|rest| rest == ".rs" || rest.starts_with('/')) && !is_test(path)
}

/// Those, and the tables of connectors.
fn is_declaration(path: &str) -> bool {
    let table = path
        .strip_prefix("crates/connector-")
        .and_then(|path| path.split_once("/src/"));
    let is_table = |file: &str| {
        ["streams", "schema", "columns", "vendor"]
            .iter()
            .any(|table| file.starts_with(table))
    };
    is_connector_module(path) || table.is_some_and(|(_, file)| is_table(file) && !is_test(path))
}

/// Sources of a connector, which declares its lists in the language that all of them share.
fn declares_lists(path: &str) -> bool {
    let connector = path.strip_prefix("crates/connector-");
    connector.is_some_and(|path| path.contains("/src/")) && !is_test(path)
}

/// True for a Rust file.
pub(super) fn is_rust(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "rs")
}

/// True for a file of tests, examples, or benchmarks.
pub(super) fn is_test(path: &str) -> bool {
    path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/examples/")
        || path.contains("/benches/")
}

/// Sources of core and the engine through which no record passes: configurations, and answers of
/// token endpoints.
const OFF_THE_RECORD_PATH: [&str; 3] = [
    "crates/pipeline-core/src/connector/registry.rs",
    "crates/pipeline-core/src/http/auth/",
    "crates/pipeline-engine/src/destination/registry.rs",
];

/// Where vendors' records pass.
fn is_record_path(path: &str) -> bool {
    let is_library = ["crates/pipeline-core/src/", "crates/pipeline-engine/src/"]
        .iter()
        .any(|folder| path.starts_with(folder));
    let is_connector = path.starts_with("crates/connector-")
        && path.contains("/src/")
        && !path.ends_with("/config.rs");
    let is_off = OFF_THE_RECORD_PATH.iter().any(|off| path.starts_with(off));
    (is_library || is_connector) && !is_off && !is_test(path)
}

/// Crates whose time is injected; the simulator and the tasks are not under test themselves.
fn is_deterministic(path: &str) -> bool {
    is_rust(path)
        && !is_test(path)
        && !path.starts_with("crates/pipeline-simulator/")
        && !path.starts_with("xtask/")
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
        // What is not text is not a source.
        if let Ok(text) = fs::read_to_string(&file) {
            problems.extend(check_file(&relative(&file), &text));
        }
    }
    Ok(problems)
}

fn check_file(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for rule in RULES.iter().filter(|rule| (rule.applies)(path)) {
        let lines =
            code(text).filter(|(_, line)| rule.texts.iter().any(|text| line.contains(text)));
        problems.extend(lines.map(|(number, _)| format!("{path}:{number}: {}", rule.fix)));
    }
    if is_rust(path) {
        problems.extend(check_shape(path, text));
        problems.extend(check_connector(path, text));
    }
    if path == ".cargo/config.toml" && (text.contains("[source") || text.contains("[registr")) {
        problems.push(format!(
            "{path}: a registry belongs in the user's own configuration, not in the repository"
        ));
    }
    problems
}

/// Lines with their numbers. The line after one that expects the lint by name is not counted: the
/// reason is written there.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut excused = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let was_excused =
            std::mem::replace(&mut excused, line.contains("clippy::disallowed_methods"));
        excused |= was_excused && (line.trim().is_empty() || line.trim_start().starts_with("fn "));
        (!was_excused).then(|| (index + 1, line))
    })
}

/// A connector outlives its runs: none of its own fields may change.
fn check_connector(path: &str, text: &str) -> Vec<String> {
    if !path.starts_with("crates/connector-") || is_test(path) {
        return Vec::new();
    }
    let Some((_, rest)) = text.split_once("impl Connector for ") else {
        return Vec::new();
    };
    let name = rest.split([' ', '{']).next().unwrap_or_default();
    let head = format!("struct {name} {{");
    let fields = text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| !line.ends_with(head.as_str()))
        .take_while(|(_, line)| *line != "}");
    let changes = |line: &str| INTERIOR_MUTABILITY.iter().any(|text| line.contains(text));
    fields
        .filter(|(_, line)| changes(line))
        .map(|(index, _)| {
            format!(
                "{path}:{}: a connector is immutable: move this to the Session that it opens",
                index + 1
            )
        })
        .collect()
}

fn check_shape(path: &str, text: &str) -> Vec<String> {
    let head: Vec<&str> = text.lines().take(5).collect();
    let is_generated = head.iter().any(|line| line.contains("do not edit"));
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES && !is_generated {
        problems.push(format!(
            "{path}: {lines} lines; split it by concern, {MAX_LINES} is the most for a file \
             written by hand"
        ));
    }
    if !is_test(path)
        && !head
            .iter()
            .any(|line| line.starts_with("//!") || line.starts_with("#![doc"))
    {
        problems.push(format!(
            "{path}: begin with a `//!` line that says what the module is for"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_exists() {
        for path in OFF_THE_RECORD_PATH {
            assert!(crate::output::root().join(path).exists(), "{path}");
        }
    }

    fn broken(path: &str, text: &str) -> Vec<String> {
        check_file(path, &format!("//! A module.\n{text}\n"))
    }

    #[test]
    fn each_rule_is_told_at_its_line() {
        let cases = [
            (
                "crates/pipeline-core/src/http/auth.rs",
                "// as Stripe does",
                "core and the engine name no vendor",
            ),
            (
                "crates/connector-acme/src/lib.rs",
                "use serde_json::Value;",
                "no JSON tree",
            ),
            (
                "crates/pipeline-core/src/connector.rs",
                "use serde_json::Value;",
                "no JSON tree",
            ),
            (
                "crates/pipeline-engine/src/decode.rs",
                "tree: &serde_json::Value,",
                "no JSON tree",
            ),
            (
                "crates/pipeline-core/src/connector/endpoint.rs",
                "pages: Arc<Mutex<Pages>>,",
                "keep what lives for one run in the Session",
            ),
            (
                "crates/connector-acme/src/streams/orders.rs",
                "static KNOWN: OnceLock<u8>;",
                "keep what lives for one run in the Session",
            ),
            (
                "crates/connector-acme/src/table.rs",
                "pub struct Stream {",
                "declared with ListDef and StreamDef",
            ),
            (
                "crates/destination-acme/src/lib.rs",
                "let now = Utc::now();",
                "take the time from the Clock",
            ),
            (
                "crates/destination-acme/src/lib.rs",
                concat!("to", "do!()"),
                "finish it",
            ),
            (
                "crates/connector-acme/README.md",
                concat!("see /ho", "me/me/notes"),
                "no absolute path",
            ),
        ];
        for (path, text, fix) in cases {
            let problems = broken(path, text);
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.starts_with(&format!("{path}:2: "))
                        && problem.contains(fix)),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn what_is_allowed_is_not_told() {
        let cases = [
            ("crates/connector-stripe/src/lib.rs", "// Stripe"),
            (
                "crates/connector-acme/src/config.rs",
                "use serde_json::Value;",
            ),
            (
                "crates/pipeline-core/src/connector/registry.rs",
                "schema: serde_json::Value,",
            ),
            (
                "crates/pipeline-core/src/http/auth/token_endpoint.rs",
                "fn members() -> serde_json::Map<String, String> {}",
            ),
            (
                "crates/pipeline-engine/src/destination/registry.rs",
                "schema: serde_json::Value,",
            ),
            ("crates/connector-acme/tests/it.rs", "let page = json!({});"),
            ("crates/connector-acme/src/changes.rs", "seen: Mutex<Seen>,"),
            (
                "crates/pipeline-core/src/declarative/reader.rs",
                "learned: Arc<Mutex<Learned>>,",
            ),
            ("crates/pipeline-core/src/clock.rs", "Utc::now()"),
            (
                "crates/pipeline-cli/src/main.rs",
                "#[expect(clippy::disallowed_methods, reason = \"shown\")]\nlet now = Utc::now();",
            ),
            (
                "crates/pipeline-core/src/http/limit.rs",
                "let now = tokio::time::Instant::now();",
            ),
        ];
        for (path, text) in cases {
            assert_eq!(broken(path, text), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn a_connector_has_no_field_that_changes_and_its_runs_may() {
        let text = |connector: &str, run: &str| {
            format!(
                "//! A vendor.\nstruct Run {{\n    {run},\n}}\nstruct Acme \
                 {{\n    {connector},\n}}\nimpl Connector for Acme {{\n}}\n"
            )
        };
        let check =
            |connector, run| check_file("crates/connector-acme/src/lib.rs", &text(connector, run));
        assert_eq!(
            check("client: HttpClient", "seen: Mutex<u8>"),
            Vec::<String>::new()
        );
        let problems = check("seen: Mutex<u8>", "client: HttpClient");
        assert!(
            problems.len() == 1 && problems[0].starts_with("crates/connector-acme/src/lib.rs:6: "),
            "{problems:?}"
        );
    }

    #[test]
    fn long_files_are_told_unless_they_are_generated() {
        let long = "\n".repeat(MAX_LINES);
        assert_eq!(broken("crates/a/src/lib.rs", &long).len(), 1);
        assert!(
            broken(
                "crates/a/src/lib.rs",
                &format!("//! Written by a task; do not edit.{long}")
            )
            .is_empty()
        );
        assert_eq!(check_file("crates/a/src/lib.rs", "fn main() {}").len(), 1);
    }
}
