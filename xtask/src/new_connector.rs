//! Writes a new connector, and registers it with the command.

use crate::output::Outcome;
use crate::scaffold::{Entry, Spellings, Template};
use crate::{scaffold, test_fixtures};

/// Writes a connector that compiles and passes its suite, with one stream and one fixture case.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The vendor's name: lower case letters and digits, with single hyphens between.
    name: String,
}

const FILES: [Template; 9] = [
    (
        "crates/connector-{{name}}/Cargo.toml",
        include_str!("new_connector/template/Cargo.toml.txt"),
    ),
    (
        "crates/connector-{{name}}/README.md",
        include_str!("new_connector/template/README.md.txt"),
    ),
    (
        "crates/connector-{{name}}/src/lib.rs",
        include_str!("new_connector/template/lib.rs.txt"),
    ),
    (
        "crates/connector-{{name}}/src/streams.rs",
        include_str!("new_connector/template/streams.rs.txt"),
    ),
    (
        "crates/connector-{{name}}/src/vendor.rs",
        include_str!("new_connector/template/vendor.rs.txt"),
    ),
    (
        "crates/connector-{{name}}/tests/it.rs",
        include_str!("new_connector/template/it.rs.txt"),
    ),
    (
        "fixtures/{{name}}/first/case.json",
        include_str!("new_connector/template/case.json.txt"),
    ),
    (
        "fixtures/{{name}}/first/001.json",
        include_str!("new_connector/template/001.json.txt"),
    ),
    (
        "fixtures/{{name}}/first/002.json",
        include_str!("new_connector/template/002.json.txt"),
    ),
];

/// All that a connector edits outside its crate and its fixtures. No other crate depends on one, so
/// its path is where it is used.
const ENTRIES: [Entry; 2] = [
    Entry {
        file: "crates/pipeline-cli/Cargo.toml",
        list: "connector-",
        line: "connector-{{name}} = { path = \"../connector-{{name}}\", version = \"0.1.0\" }",
    },
    Entry {
        file: "crates/pipeline-cli/src/connectors.rs",
        list: "    registry.add::<connector_",
        line: "    registry.add::<connector_{{ident}}::{{Type}}Config>();",
    },
];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Outcome {
    let name = Spellings::new(&args.name)?;
    scaffold::write(&name, &FILES, &ENTRIES)?;
    scaffold::format(&[&format!("connector-{}", name.plain), "pipeline-cli"])?;
    test_fixtures::run(&test_fixtures::Args::accepting(&name.plain))?;
    eprintln!(
        "next: fill crates/connector-{0}/src, then the exchanges in fixtures/{0}; see \
         CONTRIBUTING.md",
        name.plain
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use pipeline_testkit::{Exchange, Fixture};

    use super::*;

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
        assert_eq!(
            fixture
                .exchanges
                .iter()
                .map(|Exchange { response, .. }| response.status)
                .collect::<Vec<_>>(),
            [200, 200]
        );
    }

    #[test]
    fn every_list_has_the_connectors_that_there_are() {
        scaffold::assert_known(&ENTRIES, "stripe");
    }
}
