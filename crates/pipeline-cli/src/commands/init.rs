//! `pipeline init`: a commented `pipeline.toml`, written from the connectors' own specifications.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind as IoErrorKind, Write as _};

use pipeline_core::Registry;

use crate::args;
use crate::config::{reason, suggest};
use crate::connectors;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::schema::{self, Property};

const HEAD: &str = "\
# Where data goes, which sources are read, and how.
#
# Strings may refer to what does not belong in this file:
#   \"${NAME}\"            an environment variable
#   \"${NAME:-default}\"   the same, with a default
#   \"file:PATH\"          a file, relative to this one; the newline at its end is dropped

[destination]
type = \"sqlite\"          # sqlite | parquet | jsonl
path = \"warehouse.db\"    # a file; a folder for parquet and jsonl; \"-\" with jsonl: standard output

# [sync]
# memory_budget_mb = 256   # pages in memory at once
# max_slices = 48          # parts of one source read at once, at most
# commit_interval = \"10s\"  # longest time between commits
";

pub(super) fn run(args: &args::Init, console: &Console) -> Result<Exit> {
    let registry = connectors::registry();
    let text = template(&registry, &args.connectors)?;
    let path = &args.config;
    let written = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        IoErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already", path.display()), "nothing was changed; name another file with --config FILE")
        }
        _ => Failure::usage(format!("{} cannot be written: {}", path.display(), reason(&error)), "choose another place with --config FILE"),
    })?;
    console.print(&format!(
        "Wrote {}. Next: fill it in, then `pipeline check`, then `pipeline sync`.\n\
         Keep data and tokens out of version control; for .gitignore:\n  /warehouse.db*\n  /.pipeline/",
        path.display()
    ));
    Ok(Exit::Done)
}

/// The file's text, for the named connectors or for all.
fn template(registry: &Registry, wanted: &[String]) -> Result<String> {
    let known: Vec<&str> = registry.names().collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::usage(format!("unknown connector `{unknown}`"), &suggest(unknown, "connectors", known)));
    }
    let mut text = HEAD.to_owned();
    for name in known.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)) {
        let _ = write!(text, "\n[sources.{name}]\nconnector = \"{name}\"\n");
        let properties = schema::properties(registry.spec(name)?);
        let (required, mut optional): (Vec<_>, Vec<_>) = properties.into_iter().partition(|property| property.required);
        // Credentials and choices first, settings that have a good default last.
        optional.sort_by_key(|property| !property.schema["default"].is_null());
        for property in required {
            let _ = writeln!(text, "# {}\n{} = {}", comment(&property), property.name, property.example(name));
        }
        let _ = writeln!(text, "# streams = [\"…\"]   # default: all that the credentials may read; see `pipeline discover`");
        for property in optional {
            let _ = writeln!(text, "# {}\n# {} = {}", comment(&property), property.name, property.example(name));
        }
    }
    Ok(text)
}

fn comment(property: &Property<'_>) -> String {
    let (summary, choices) = (property.summary().replace('\n', " "), property.choices());
    if choices.is_empty() { summary } else { format!("{summary}: {}", choices.join(", ")) }
}
