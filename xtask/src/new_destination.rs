//! Writes a new destination, and registers it with the command.

use crate::output::{Outcome, cargo_step};
use crate::scaffold;
use crate::scaffold::{Entry, Spellings, Template};

/// Writes a destination that compiles and passes the conformance suite, as files of a format of its
/// own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's name: lower case letters and digits, with single hyphens between.
    name: String,
}

const FILES: [Template; 4] = [
    (
        "crates/destination-{{name}}/Cargo.toml",
        include_str!("new_destination/template/Cargo.toml.txt"),
    ),
    (
        "crates/destination-{{name}}/README.md",
        include_str!("new_destination/template/README.md.txt"),
    ),
    (
        "crates/destination-{{name}}/src/lib.rs",
        include_str!("new_destination/template/lib.rs.txt"),
    ),
    (
        "crates/destination-{{name}}/tests/it.rs",
        include_str!("new_destination/template/it.rs.txt"),
    ),
];

/// All that a destination edits outside its crate. No other crate depends on one, so its path is
/// where it is used.
const ENTRIES: [Entry; 2] = [
    Entry {
        file: "crates/pipeline-cli/Cargo.toml",
        list: "destination-",
        line: "destination-{{name}} = { path = \"../destination-{{name}}\", version = \"0.1.0\" }",
    },
    Entry {
        file: "crates/pipeline-cli/src/destinations.rs",
        list: "    registry.add::<destination_",
        line: "    registry.add::<destination_{{ident}}::{{Type}}Config>();",
    },
];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let name = Spellings::new(&args.name)?;
    let package = format!("destination-{}", name.plain);
    scaffold::write(&name, &FILES, &ENTRIES)?;
    scaffold::format(&[&package, "pipeline-cli"])?;
    cargo_step(&["test", "--package", &package])?;
    eprintln!(
        "next: write the store's own format in crates/{package}/src, or its own `Destination`; see CONTRIBUTING.md"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_placeholder_is_left() {
        let name = Spellings::new("acme-lake").unwrap();
        for (path, text) in FILES {
            let (path, text) = (name.fill(path), name.fill(text));
            assert!(!text.contains("{{") && !path.contains("{{"), "{path}");
        }
        assert_eq!(
            name.fill(FILES[0].0),
            "crates/destination-acme-lake/Cargo.toml"
        );
    }

    #[test]
    fn every_list_has_the_destinations_that_there_are() {
        scaffold::assert_known(&ENTRIES, "sqlite");
    }

    /// The template names a version, as no other crate needs this dependency.
    #[test]
    fn the_template_uses_the_workspace_s_arrow() {
        let workspace = std::fs::read_to_string(crate::output::root().join("Cargo.toml")).unwrap();
        let version = |text: &str, name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{name} = ")))
                .unwrap();
            line.split('"').nth(1).unwrap().to_owned()
        };
        assert_eq!(
            version(FILES[0].1, "arrow-ipc"),
            version(&workspace, "arrow-array")
        );
    }
}
