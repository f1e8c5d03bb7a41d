//! What documents may not claim.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::sources::is_rust;
use super::{relative, walk};
use crate::output::Outcome;

const MAP: &str = "ARCHITECTURE.md";

/// Folders that the paths in the map begin in.
const MAPPED: [&str; 3] = ["", "crates/pipeline-core/src", "crates/pipeline-engine/src"];

const GLOSSARY: &str = "docs/glossary.md";

/// Folders of the documents whose links are followed.
const DOCUMENTS: [&str; 3] = ["docs", "examples", "crates"];

/// Checks that the glossary names types that exist, in order, that the map names files that exist,
/// and that links between documents lead somewhere.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let mut types = BTreeSet::new();
    for file in walk(&root.join("crates"))?
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
    {
        types.extend(defined(&fs::read_to_string(file)?).map(ToOwned::to_owned));
    }
    let mut problems = glossary(&fs::read_to_string(root.join(GLOSSARY))?, &types);
    let map = fs::read_to_string(root.join(MAP))?;
    let lost = source_files(&map).filter(|file| {
        !MAPPED
            .iter()
            .any(|folder| root.join(folder).join(file).exists())
    });
    problems.extend(
        lost.map(|file| format!("{MAP}: `{file}` does not exist; name the file that holds it now")),
    );
    let mut documents: Vec<_> = fs::read_dir(root)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    for folder in DOCUMENTS {
        documents.extend(walk(&root.join(folder))?);
    }
    documents.sort();
    for document in documents.iter().filter(|document| {
        document
            .extension()
            .is_some_and(|extension| extension == "md")
    }) {
        let text = fs::read_to_string(document)?;
        let folder = document.parent().unwrap_or(root);
        let broken = links(&text).filter(|target| !folder.join(target).exists());
        problems.extend(broken.map(|target| {
            format!(
                "{}: the link to {target} leads nowhere; correct its path",
                relative(document)
            )
        }));
    }
    Ok(problems)
}

/// Names of the types that a source file defines.
fn defined(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let item = line.trim_start().strip_prefix("pub ")?;
        let name = ["struct ", "enum ", "trait ", "type "]
            .iter()
            .find_map(|keyword| item.strip_prefix(keyword))?;
        name.split(|character: char| !character.is_alphanumeric())
            .next()
    })
}

fn glossary(text: &str, types: &BTreeSet<String>) -> Vec<String> {
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    let entries: Vec<(&str, &str)> = rows
        .filter_map(|row| {
            let word = row.trim_start_matches("| ").split(" |").next()?;
            Some((word, row.rsplit('`').nth(1)?))
        })
        .collect();
    let mut problems = Vec::new();
    if entries.is_empty() {
        problems.push(format!(
            "{GLOSSARY}: no entry was found; write `| word | meaning | \u{60}Type\u{60} |`"
        ));
    }
    for (word, name) in entries.iter().filter(|(_, name)| !types.contains(*name)) {
        problems.push(format!(
            "{GLOSSARY}: `{word}` names the type {name}, which no crate defines; name the type \
             that holds it now"
        ));
    }
    for pair in entries.windows(2).filter(|pair| pair[0].0 >= pair[1].0) {
        problems.push(format!(
            "{GLOSSARY}: `{}` stands before `{}`; keep the words in order",
            pair[0].0, pair[1].0
        ));
    }
    problems
}

/// Rust files that a text names in backticks.
fn source_files(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|code| is_rust(code) && !code.contains(' '))
}

/// Paths of the links to files, without the part of a page that they lead to.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_where_they_are_defined() {
        let text = "pub struct Page<'a> \
                    {\n    pub enum Op {\nstruct Hidden;\npub type Claim = Box<dyn Any>;\npub fn page() {}\npub trait Slicer: Send {";
        assert!(defined(text).eq(["Page", "Op", "Claim", "Slicer"]));
    }

    #[test]
    fn a_glossary_that_disagrees_with_the_code_is_reported() {
        let types = BTreeSet::from(["Page".to_owned(), "Slicer".to_owned()]);
        let table = |rows: &str| {
            glossary(
                &format!("| Word | Meaning | Type |\n| --- | --- | --- |\n{rows}"),
                &types,
            )
        };
        assert_eq!(
            table("| page | one response | `Page` |\n| slicer | plans | `Slicer` |\n"),
            [""; 0]
        );
        assert!(table("| page | one response | `Sheet` |\n")[0].contains("Sheet"));
        assert!(
            table("| slicer | plans | `Slicer` |\n| page | one response | `Page` |\n")[0]
                .contains("keep the words in order")
        );
        assert_eq!(table("").len(), 1);
    }

    #[test]
    fn the_files_of_the_map_are_found() {
        let text = "| how | `model/state.rs`, `Slicer` |\n`lib.rs` and `cargo run x.rs`";
        assert!(source_files(text).eq(["model/state.rs", "lib.rs"]));
    }

    #[test]
    fn only_links_to_files_are_followed() {
        let text = "[a](docs/a.md#part) [b](https://example.com) [c](#here) [d](../b.md)";
        assert!(links(text).eq(["docs/a.md", "../b.md"]));
    }
}
