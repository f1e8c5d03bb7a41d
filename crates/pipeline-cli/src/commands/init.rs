//! `pipeline init`: a commented `pipeline.toml`, written from the specifications of connectors and
//! destinations.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, BufRead, ErrorKind as IoErrorKind, IsTerminal as _, Write as _};

use pipeline_core::Registry;
use pipeline_engine::DestinationRegistry;
use serde_json::Value;

use crate::config::{reason, suggest};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::schema::Property;
use crate::{args, connectors, destinations, schema};

const HEAD: &str = "\
# Where data goes, which sources are read, and how.
#
# Strings may refer to values outside this file:
#   \"${NAME}\"            an environment variable
#   \"${NAME:-default}\"   the same, with a default
#   \"file:PATH\"          a file, relative to this one; its trailing newline is removed

";

const SYNC: &str = "
# [sync]
# memory_budget_mb = 256   # pages and rows in memory at once
# max_slices = 48          # slices of one source read at the same time
# commit_interval = \"10s\"  # longest time between commits
";

pub(super) fn run(args: &args::Init, console: &Console) -> Result<Exit> {
    let registry = connectors::registry();
    let destination = destination(&destinations::registry(), &args.destination)?;
    let wanted = match &*args.connectors {
        [] if io::stdin().is_terminal() && Console::is_watched() => {
            vec![ask(&registry, &mut io::stdin().lock(), console)?]
        }
        named => named.to_vec(),
    };
    let text = HEAD.to_owned() + &destination.text + SYNC + &sources(&registry, &wanted)?;
    let path = &args.config;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        IoErrorKind::AlreadyExists => Failure::usage(
            format!("{} already exists", path.display()),
            "nothing was changed; choose another file with --config FILE",
        ),
        _ => Failure::usage(
            format!("{} cannot be written: {}", path.display(), reason(&error)),
            "choose another file with --config FILE",
        ),
    })?;
    let data = destination
        .path
        .map_or_else(String::new, |path| format!("\n  /{path}*"));
    console.print(&format!(
        "Wrote {}. Next: set {}, then run `pipeline check` and `pipeline sync`.\n\
         Keep data and tokens out of version control; for .gitignore:{data}\n  /.pipeline/",
        path.display(),
        variables(&text).join(", ")
    ));
    Ok(Exit::Done)
}

/// Asks a person for one connector, by number or by name. An empty answer takes the first.
fn ask(registry: &Registry, answers: &mut dyn BufRead, console: &Console) -> Result<String> {
    let known: Vec<&str> = registry.names().collect();
    let mut question = "Which connector?\n".to_owned();
    for (index, name) in known.iter().enumerate() {
        let _ = writeln!(
            question,
            "  {}  {name:<10} {}",
            index + 1,
            registry.reads(name)?
        );
    }
    console.note(&format!("{question}Number or name [1]:"));
    let mut answer = String::new();
    answers.read_line(&mut answer).map_err(|error| {
        Failure::usage(
            format!("the answer cannot be read: {}", reason(&error)),
            "name a connector with --connector NAME",
        )
    })?;
    let answer = match answer.trim() {
        "" => "1",
        answer => answer,
    };
    let numbered = answer
        .parse::<usize>()
        .ok()
        .and_then(|number| known.get(number.checked_sub(1)?));
    Ok((*numbered.unwrap_or(&answer)).to_owned())
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
    let spec = registry.spec(name).map_err(|_| {
        Failure::usage(
            format!("unknown destination `{name}`"),
            &suggest(name, "destinations", known.iter().copied()),
        )
    })?;
    let mut text = format!(
        "[destination]\ntype = \"{name}\"    # {}\n",
        known.join(" | ")
    );
    let properties = schema::properties(spec);
    for property in &properties {
        let mark = if property.required { "" } else { "# " };
        let _ = writeln!(
            text,
            "# {}\n{mark}{} = {}",
            comment(property),
            property.name,
            property.example(name)
        );
    }
    let mut paths = properties.iter().filter_map(|property| {
        property.schema["examples"][0]
            .as_str()
            .filter(|text| property.is_path(text))
    });
    Ok(Destination {
        text,
        path: paths.next().map(str::to_owned),
    })
}

/// A source for each named connector. When none is named, the first connector has one, and the
/// sources of the others are comments.
fn sources(registry: &Registry, wanted: &[String]) -> Result<String> {
    let known: Vec<&str> = registry.names().collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::usage(
            format!("unknown connector `{unknown}`"),
            &suggest(unknown, "connectors", known),
        ));
    }
    let mut text = String::new();
    if let Some((first, others)) = known.split_first().filter(|_| wanted.is_empty()) {
        text.push_str(&source(first, registry.spec(first)?));
        for name in others {
            let _ = writeln!(
                text,
                "\n# All settings of this source: `pipeline init --connector {name} --config FILE`."
            );
            for line in start(name, registry.spec(name)?).lines() {
                let _ = writeln!(text, "# {line}");
            }
        }
        return Ok(text);
    }
    for name in known
        .into_iter()
        .filter(|name| wanted.iter().any(|wanted| wanted == name))
    {
        text.push_str(&source(name, registry.spec(name)?));
    }
    Ok(text)
}

/// A source with what it cannot do without, and with every other setting as a comment.
fn source(name: &str, spec: &Value) -> String {
    let mut text = format!("\n{}", start(name, spec));
    let _ = writeln!(
        text,
        "# streams = [\"…\"]   # default: all that the credentials may read; see `pipeline \
         discover`"
    );
    let mut others: Vec<_> = schema::properties(spec)
        .into_iter()
        .filter(|property| first_value(name, spec, property).is_none())
        .collect();
    // Credentials and choices first, settings that have a good default last.
    others.sort_by_key(|property| !property.schema["default"].is_null());
    for property in others {
        let _ = writeln!(
            text,
            "# {}\n# {} = {}",
            comment(&property),
            property.name,
            property.example(name)
        );
    }
    text
}

/// The table of a source with the members of the first example of its specification, or else with
/// those that are required.
fn start(name: &str, spec: &Value) -> String {
    let mut text = format!("[sources.{name}]\nconnector = \"{name}\"\n");
    let mut properties = schema::properties(spec);
    properties.sort_by_key(|property| !property.required);
    for property in properties {
        if let Some(value) = first_value(name, spec, &property) {
            let _ = writeln!(
                text,
                "# {}\n{} = {value}",
                comment(&property),
                property.name
            );
        }
    }
    text
}

/// What a new source has for a member; none: it is left out.
fn first_value(name: &str, spec: &Value, property: &Property<'_>) -> Option<String> {
    match &spec["examples"][0] {
        Value::Object(example) => example.get(property.name).map(Value::to_string),
        _ if !property.required => None,
        _ if property.schema["default"].is_null() && property.choices().is_empty() => {
            Some(property.variable(name))
        }
        _ => Some(property.example(name)),
    }
}

/// The variables that the active lines of a configuration refer to.
fn variables(text: &str) -> Vec<&str> {
    let active = text.lines().filter(|line| !line.starts_with('#'));
    active
        .filter_map(|line| Some(line.split_once("= \"${")?.1.split_once('}')?.0))
        .collect()
}

fn comment(property: &Property<'_>) -> String {
    let (summary, choices) = (property.summary().replace('\n', " "), property.choices());
    if choices.is_empty() {
        summary
    } else {
        format!("{summary}: {}", choices.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_answers_with_a_number_a_name_or_nothing() {
        let registry = connectors::registry();
        let known: Vec<&str> = registry.names().collect();
        let last = known.len().to_string();
        let cases = [
            ("\n", known[0]),
            ("", known[0]),
            (&*last, known[known.len() - 1]),
            (" stripe \n", "stripe"),
            ("0\n", "0"),
        ];
        for (answer, chosen) in cases {
            assert_eq!(
                ask(&registry, &mut answer.as_bytes(), &Console::default())
                    .ok()
                    .as_deref(),
                Some(chosen),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_connector_without_an_example_starts_with_what_it_requires() {
        let spec = serde_json::json!({
            "properties": {"api_key": {"writeOnly": true, "description": "The key."}, "site": {"type": "string"}, "lag": {"type": "integer"}},
            "required": ["api_key", "site"],
        });
        let text = source("acme", &spec);
        assert_eq!(variables(&text), ["ACME_API_KEY", "ACME_SITE"]);
        assert!(text.contains("\n# lag = 0\n"), "{text}");
    }
}
