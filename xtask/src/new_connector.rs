//! Writes a new connector, and registers it with the command and with these tasks.

use std::fs;

use crate::output::{Outcome, cargo_step, has_component, root};

/// Writes a connector that compiles and passes its suite, with one stream and one fixture case.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The vendor's name: lower case letters and digits, with single hyphens between.
    name: String,
}

/// Files of a connector: where they go and what they hold. `{{name}}` and so on are replaced in both.
const FILES: [(&str, &str); 8] = [
    ("crates/connector-{{name}}/Cargo.toml", include_str!("new_connector/template/Cargo.toml.txt")),
    ("crates/connector-{{name}}/README.md", include_str!("new_connector/template/README.md.txt")),
    ("crates/connector-{{name}}/src/lib.rs", include_str!("new_connector/template/lib.rs.txt")),
    ("crates/connector-{{name}}/src/streams.rs", include_str!("new_connector/template/streams.rs.txt")),
    ("crates/connector-{{name}}/tests/it.rs", include_str!("new_connector/template/it.rs.txt")),
    ("fixtures/{{name}}/first/case.json", include_str!("new_connector/template/case.json.txt")),
    ("fixtures/{{name}}/first/001.json", include_str!("new_connector/template/001.json.txt")),
    ("fixtures/{{name}}/first/002.json", include_str!("new_connector/template/002.json.txt")),
];

/// One line to add to a file that lists connectors.
struct Entry {
    file: &'static str,
    /// The list is the lines that begin so, in order.
    list: &'static str,
    line: &'static str,
}

const ENTRIES: [Entry; 5] = [
    Entry {
        file: "Cargo.toml",
        list: "connector-",
        line: "connector-{{name}} = { path = \"crates/connector-{{name}}\", version = \"0.1.0\" }",
    },
    Entry { file: "crates/pipeline-cli/Cargo.toml", list: "connector-", line: "connector-{{name}}.workspace = true" },
    Entry { file: "crates/pipeline-cli/src/connectors.rs", list: "use connector_", line: "use connector_{{ident}}::{{Type}}Config;" },
    Entry { file: "xtask/Cargo.toml", list: "connector-", line: "connector-{{name}}.workspace = true" },
    Entry { file: "xtask/src/connectors.rs", list: "use connector_", line: "use connector_{{ident}}::{{Type}}Config;" },
];

/// A list within a statement that a connector is added to at the end.
struct Statement {
    file: &'static str,
    /// What its last element begins and ends with.
    element: (&'static str, &'static str),
    addition: &'static str,
}

const STATEMENTS: [Statement; 2] = [
    Statement { file: "crates/pipeline-cli/src/connectors.rs", element: (".add::<", "()"), addition: ".add::<{{Type}}Config>()" },
    Statement {
        file: "xtask/src/connectors.rs",
        element: ("run_suite::<", ")"),
        addition: ", (\"{{name}}\", run_suite::<{{Type}}Config>)",
    },
];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let name = Spellings::new(&args.name)?;
    let changes = changes(&name)?;
    for (file, text) in &changes {
        let path = root().join(file);
        fs::create_dir_all(path.parent().unwrap_or(root()))?;
        fs::write(&path, text)?;
        eprintln!("wrote {file}");
    }
    if has_component("fmt") {
        cargo_step(&["fmt", "--package", "xtask", "--package", "pipeline-cli"])?;
    }
    cargo_step(&["run", "--package", "xtask", "--", "test-fixtures", &name.plain, "--accept"])?;
    eprintln!("next: fill crates/connector-{0}/src, then the exchanges in fixtures/{0}; see CONTRIBUTING.md", name.plain);
    Ok(())
}

/// A connector's name in its spellings.
struct Spellings {
    /// `acme-desk`
    plain: String,
    /// `acme_desk`
    snake: String,
    /// `AcmeDesk`
    camel: String,
}

impl Spellings {
    fn new(name: &str) -> Outcome<Self> {
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.split('-').all(is_part) {
            return Err(
                format!("`{name}` is no name for a connector: use lower case letters and digits, with single hyphens between").into()
            );
        }
        let capital = |part: &str| part[..1].to_uppercase() + &part[1..];
        Ok(Self { plain: name.to_owned(), snake: name.replace('-', "_"), camel: name.split('-').map(capital).collect() })
    }

    fn fill(&self, template: &str) -> String {
        template.replace("{{name}}", &self.plain).replace("{{ident}}", &self.snake).replace("{{Type}}", &self.camel)
    }
}

/// Every file to write, new or changed, with its whole text. Nothing is written when one of them does not fit.
fn changes(name: &Spellings) -> Outcome<Vec<(String, String)>> {
    let mut changes: Vec<(String, String)> = FILES.iter().map(|(path, text)| (name.fill(path), name.fill(text))).collect();
    if let Some((path, _)) = changes.iter().find(|(path, _)| root().join(path).exists()) {
        return Err(format!("{path} is there already").into());
    }
    for entry in &ENTRIES {
        let text = current(&mut changes, entry.file)?;
        *text = insert(text, entry.list, &name.fill(entry.line)).ok_or_else(|| format!("{}: found no list of connectors", entry.file))?;
    }
    for statement in &STATEMENTS {
        let text = current(&mut changes, statement.file)?;
        let longer = append(text, statement.element, &name.fill(statement.addition));
        *text = longer.ok_or_else(|| format!("{}: found no `{}`", statement.file, statement.element.0))?;
    }
    Ok(changes)
}

/// The text of a file as changed so far.
fn current<'a>(changes: &'a mut Vec<(String, String)>, file: &str) -> Outcome<&'a mut String> {
    let known = changes.iter().position(|(path, _)| path == file);
    if known.is_none() {
        let text = fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
        changes.push((file.to_owned(), text));
    }
    let index = known.unwrap_or(changes.len() - 1);
    Ok(&mut changes[index].1)
}

/// Adds a line to the lines that begin with `list`, in its place by the alphabet.
fn insert(text: &str, list: &str, line: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let end = lines.iter().rposition(|known| known.starts_with(list))?;
    let after = lines.iter().position(|known| known.starts_with(list) && *known > line);
    lines.insert(after.unwrap_or(end + 1), line);
    Some(lines.join("\n") + "\n")
}

/// Adds to a list after its last element, which is told by what it begins and ends with.
fn append(text: &str, (begin, end): (&str, &str), addition: &str) -> Option<String> {
    let start = text.rfind(begin)?;
    let at = start + text[start..].find(end)? + end.len();
    Some(format!("{}{addition}{}", &text[..at], &text[at..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pipeline_testkit::{Exchange, Fixture};

    use super::*;

    #[test]
    fn names_have_three_spellings() {
        let name = Spellings::new("acme-desk2").unwrap();
        assert_eq!((&*name.snake, &*name.camel), ("acme_desk2", "AcmeDesk2"));
        for wrong in ["", "Acme", "acme_desk", "-acme", "acme--desk", "2acme", "acme/desk"] {
            assert!(Spellings::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_placeholder_is_left_and_the_fixture_can_be_read() {
        let name = Spellings::new("acme-desk").unwrap();
        let folder = std::env::temp_dir().join(format!("new-connector-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (path, text) in FILES {
            let (path, text) = (name.fill(path), name.fill(text));
            assert!(!text.contains("{{") && !path.contains("{{"), "{path}");
            if path.starts_with("fixtures/") {
                fs::write(folder.join(path.rsplit('/').next().unwrap()), &text).unwrap();
            }
        }
        let fixture = Fixture::load(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(fixture.exchanges.iter().map(|Exchange { response, .. }| response.status).collect::<Vec<_>>(), [200, 200]);
    }

    #[test]
    fn lists_stay_in_order() {
        let text = "a = 1\nconnector-beta = 2\nconnector-zeta = 3\nd = 4\n";
        let with = |line| insert(text, "connector-", line).unwrap();
        assert_eq!(with("connector-acme = 0"), "a = 1\nconnector-acme = 0\nconnector-beta = 2\nconnector-zeta = 3\nd = 4\n");
        assert_eq!(with("connector-zzz = 0"), "a = 1\nconnector-beta = 2\nconnector-zeta = 3\nconnector-zzz = 0\nd = 4\n");
        assert_eq!(insert("a = 1\n", "connector-", "connector-b = 1"), None);
    }

    #[test]
    fn a_connector_is_added_to_the_end_of_a_statement() {
        let tasks = include_str!("connectors.rs");
        let found = append(tasks, STATEMENTS[1].element, ", (\"acme\", run_suite::<AcmeConfig>)").unwrap();
        assert_eq!(found.matches(">), (\"acme\", run_suite::<AcmeConfig>)").count(), 1, "{found}");
        assert_eq!(
            append("r.add::<B>().add::<C>();", STATEMENTS[0].element, ".add::<A>()").unwrap(),
            "r.add::<B>().add::<C>().add::<A>();"
        );
    }
}
