//! `pipeline init`: a commented `pipeline.toml`, written from the specifications of connectors and destinations.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind as IoErrorKind, Write as _};

use pipeline_core::{DestinationRegistry, Registry};
use serde_json::Value;

use crate::config::{reason, suggest};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::schema::{self, Property};
use crate::{args, connectors, destinations};

const HEAD: &str = "\
# Where data goes, which sources are read, and how.
#
# Strings may refer to what does not belong in this file:
#   \"${NAME}\"            an environment variable
#   \"${NAME:-default}\"   the same, with a default
#   \"file:PATH\"          a file, relative to this one; the newline at its end is dropped

";

const SYNC: &str = "
# [sync]
# memory_budget_mb = 256   # pages in memory at once
# max_slices = 48          # parts of one source read at once, at most
# commit_interval = \"10s\"  # longest time between commits
";

pub(super) fn run(args: &args::Init, console: &Console) -> Result<Exit> {
    let destination = destination(&destinations::registry(), &args.destination)?;
    let text = HEAD.to_owned() + &destination.text + SYNC + &sources(&connectors::registry(), &args.connectors)?;
    let path = &args.config;
    let written = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        IoErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already", path.display()), "nothing was changed; name another file with --config FILE")
        }
        _ => Failure::usage(format!("{} cannot be written: {}", path.display(), reason(&error)), "choose another place with --config FILE"),
    })?;
    let data = destination.path.map_or_else(String::new, |path| format!("\n  /{path}*"));
    console.print(&format!(
        "Wrote {}. Next: fill it in, then `pipeline check`, then `pipeline sync`.\n\
         Keep data and tokens out of version control; for .gitignore:{data}\n  /.pipeline/",
        path.display()
    ));
    Ok(Exit::Done)
}

/// A table of a destination.
struct Destination {
    text: String,
    /// Where it keeps data, if that is a file or a folder.
    path: Option<String>,
}

/// The table of the named destination.
fn destination(registry: &DestinationRegistry, name: &str) -> Result<Destination> {
    let known: Vec<&str> = registry.names().collect();
    let spec = registry
        .spec(name)
        .map_err(|_| Failure::usage(format!("unknown destination `{name}`"), &suggest(name, "destinations", known.iter().copied())))?;
    let mut text = format!("[destination]\ntype = \"{name}\"    # {}\n", known.join(" | "));
    members(spec, name, "", &mut text);
    let properties = schema::properties(spec);
    let mut paths = properties.iter().filter_map(|property| property.schema["examples"][0].as_str().filter(|text| property.is_path(text)));
    Ok(Destination { text, path: paths.next().map(str::to_owned) })
}

/// The tables of sources, for the named connectors or for all.
fn sources(registry: &Registry, wanted: &[String]) -> Result<String> {
    let known: Vec<&str> = registry.names().collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::usage(format!("unknown connector `{unknown}`"), &suggest(unknown, "connectors", known)));
    }
    let mut text = String::new();
    for name in known.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)) {
        let _ = write!(text, "\n[sources.{name}]\nconnector = \"{name}\"\n");
        let streams = "# streams = [\"…\"]   # default: all that the credentials may read; see `pipeline discover`\n";
        members(registry.spec(name)?, name, streams, &mut text);
    }
    Ok(text)
}

/// Every member that a specification has: those that are required, some lines, and the others as comments.
fn members(spec: &Value, name: &str, between: &str, text: &mut String) {
    let (required, mut optional): (Vec<_>, Vec<_>) = schema::properties(spec).into_iter().partition(|property| property.required);
    // Credentials and choices first, settings that have a good default last.
    optional.sort_by_key(|property| !property.schema["default"].is_null());
    for property in required {
        let _ = writeln!(text, "# {}\n{} = {}", comment(&property), property.name, property.example(name));
    }
    text.push_str(between);
    for property in optional {
        let _ = writeln!(text, "# {}\n# {} = {}", comment(&property), property.name, property.example(name));
    }
}

fn comment(property: &Property<'_>) -> String {
    let (summary, choices) = (property.summary().replace('\n', " "), property.choices());
    if choices.is_empty() { summary } else { format!("{summary}: {}", choices.join(", ")) }
}
