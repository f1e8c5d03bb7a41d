//! `pipeline.toml`: where data goes, which sources are read, and how.
//!
//! Loading checks the file's shape; references to variables and secret files are replaced only for
//! the sources that a command asks for, so that `status` works without any credential.

mod bounded;
mod contract;
mod destination;
mod document;
mod harmless;
mod quality;
mod reference;
mod rejected;
mod resolver;
mod service;
mod source;
mod tree;
mod webhook;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline_engine::DestinationRegistry;
use serde_json::Value as Json;

use self::destination::DestinationTable;
use self::document::{Document, closest};
pub(crate) use self::document::{Problem, suggest, suggest_or};
use self::harmless::shown_name;
pub(crate) use self::reference::reason;
use self::service::{ServiceTables, duration_of};
pub(crate) use self::source::{SourceConfig, build_all, stream_names};
use self::tree::{Node, Span, Table, Value};
use crate::exit::{Failure, Result};
use crate::{connectors, destinations};

/// Largest configuration, in bytes.
const BYTES: u64 = 4 << 20;

const MEMBERS: [&str; 5] = ["destination", "sources", "sync", "run", "alerts"];
const SYNC_MEMBERS: [&str; 4] = [
    "memory_budget_mb",
    "max_slices",
    "commit_interval",
    "commit_bytes",
];

/// A loaded configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The folder that relative paths start from.
    pub(crate) folder: PathBuf,
    /// Where data goes.
    pub(crate) destination: DestinationTable,
    /// What is read, in the order of the file.
    pub(crate) sources: Vec<SourceConfig>,
    /// How.
    pub(crate) sync: SyncConfig,
    /// What runs by itself.
    service: ServiceTables,
    document: Document,
    /// True when every user of the machine can read the file.
    is_exposed: bool,
}

/// The table `[sync]`; what is not set is the engine's default.
#[derive(Clone, Debug, Default)]
pub(crate) struct SyncConfig {
    /// Bytes of pages in memory at once.
    pub(crate) memory_budget: Option<usize>,
    /// Slices read at the same time.
    pub(crate) max_slices: Option<usize>,
    /// Longest time between commits.
    pub(crate) commit_interval: Option<Duration>,
    /// Bytes of records after which a commit is made.
    pub(crate) commit_bytes: Option<u64>,
}

impl Config {
    /// Reads and checks a file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = bounded::read(path, BYTES).map_err(|error| {
            let message = format!(
                "the configuration {} cannot be read: {}",
                path.display(),
                reason(&error)
            );
            Failure::usage(
                message,
                "create one with `pipeline init`, choose another with --config FILE, or try \
                 `pipeline demo`",
            )
        })?;
        let (connectors, destinations) = (connectors::registry(), destinations::registry());
        let mut document = Document {
            name: path.display().to_string(),
            text,
            marks: None,
            names: harmless::known_names(&connectors, &destinations),
        };
        let root = tree::parse(&document.text).map_err(|(message, span)| {
            document.failure(&Problem::new(
                span,
                format!("invalid TOML: {}", message.replace('\n', ", ")),
            ))
        })?;
        document.marks = Some(harmless::marks(&root, &connectors, &destinations));
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::read(
            document,
            &root,
            &destinations,
            folder,
            bounded::is_readable_by_others(path),
        )
    }

    fn read(
        document: Document,
        root: &Table,
        destinations: &DestinationRegistry,
        folder: PathBuf,
        is_exposed: bool,
    ) -> Result<Self> {
        let shown = |problem: Problem| document.failure(&problem);
        known_members(root, "the configuration", &MEMBERS).map_err(shown)?;
        let destination = DestinationTable::parse(root, destinations).map_err(shown)?;
        let sync = sync(root).map_err(shown)?;
        let service = ServiceTables::parse(root, &folder).map_err(shown)?;
        let sources = match root.get("sources") {
            Some(member) => {
                let tables = table(&member.node, "sources").map_err(shown)?;
                tables
                    .0
                    .iter()
                    .map(SourceConfig::parse)
                    .collect::<Result<_, Problem>>()
                    .map_err(shown)?
            }
            None => Vec::new(),
        };
        if sources.is_empty() {
            let problem = Problem::new(0..0, "no source configured")
                .help("add one: [sources.NAME] with connector = \"stripe\" and its settings");
            return Err(shown(problem));
        }
        Ok(Self {
            folder,
            destination,
            sources,
            sync,
            service,
            document,
            is_exposed,
        })
    }

    /// The sources of these names, all when none are named.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<&SourceConfig>> {
        let known = || self.sources.iter().map(|source| source.name.as_str());
        if let Some(unknown) = names
            .iter()
            .find(|name| !known().any(|source| source == *name))
        {
            return Err(Failure::usage(
                format!(
                    "unknown source `{unknown}`: it is not in {}",
                    self.document.name
                ),
                &suggest(unknown, "sources", known().collect::<Vec<_>>()),
            ));
        }
        Ok(self
            .sources
            .iter()
            .filter(|source| names.is_empty() || names.contains(&source.name))
            .collect())
    }

    /// The failure that shows a problem in this file.
    pub(crate) fn failure(&self, problem: &Problem) -> Failure {
        self.document.failure(problem)
    }

    /// True when the value at a place of this file may be shown.
    fn is_harmless(&self, span: &Span) -> bool {
        self.document.is_harmless(span)
    }

    /// The warning that shows a problem in this file.
    pub(crate) fn warning(&self, problem: &Problem) -> String {
        self.document.warning(problem)
    }
}

fn sync(root: &Table) -> Result<SyncConfig, Problem> {
    let Some(member) = root.get("sync") else {
        return Ok(SyncConfig::default());
    };
    let inner = table(&member.node, "sync")?;
    known_members(inner, "sync", &SYNC_MEMBERS)?;
    let count = |name: &str| {
        inner
            .get(name)
            .map(|member| positive(&member.node, name))
            .transpose()
    };
    let commit_interval = inner
        .get("commit_interval")
        .map(|member| duration_of(&member.node, "commit_interval"));
    let size = |value: Option<u64>| value.map(|value| usize::try_from(value).unwrap_or(usize::MAX));
    Ok(SyncConfig {
        memory_budget: size(count("memory_budget_mb")?.map(|mb| mb.saturating_mul(1 << 20))),
        max_slices: size(count("max_slices")?),
        commit_interval: commit_interval.transpose()?,
        commit_bytes: count("commit_bytes")?,
    })
}

fn positive(node: &Node, name: &str) -> Result<u64, Problem> {
    let number = match &node.value {
        Value::Plain(Json::Number(number)) => number.as_u64().filter(|number| *number > 0),
        _ => None,
    };
    number.ok_or_else(|| {
        Problem::new(
            node.span.clone(),
            format!("`{name}` must be a whole number above zero"),
        )
    })
}

fn table<'a>(node: &'a Node, name: &str) -> Result<&'a Table, Problem> {
    match &node.value {
        Value::Table(table) => Ok(table),
        other => Err(Problem::new(
            node.span.clone(),
            format!("`{name}` must be a table, not {}", other.kind()),
        )
        .help(format!("write [{name}]"))),
    }
}

fn text<'a>(node: &'a Node, name: &str) -> Result<&'a str, Problem> {
    match &node.value {
        Value::Text(text) => Ok(text),
        other => Err(Problem::new(
            node.span.clone(),
            format!("`{name}` must be a string, not {}", other.kind()),
        )
        .help("put it in double quotes")),
    }
}

fn known_members(table: &Table, owner: &str, known: &[&str]) -> Result<(), Problem> {
    match table
        .0
        .iter()
        .find(|member| !known.contains(&member.name.as_str()))
    {
        Some(unknown) => {
            let problem = Problem::new(
                unknown.span.clone(),
                format!("unknown setting `{}` in {owner}", shown_name(&unknown.name)),
            );
            Err(problem.help(suggest(&unknown.name, "settings", known.iter().copied())))
        }
        None => Ok(()),
    }
}

/// The message for a word that is not a known one. It repeats only a word that resembles one:
/// others may be secrets.
fn unknown<'a>(what: &str, word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match closest(word, known) {
        Some(_) => format!("unknown {what} `{word}`"),
        None => format!("unknown {what}"),
    }
}

/// A message of the configuration's reader without the value that it quotes.
fn without_value(message: &str) -> String {
    for kind in ["invalid type", "invalid value", "unknown variant"] {
        if let Some(expected) = message
            .strip_prefix(kind)
            .and_then(|rest| rest.rsplit_once(", expected "))
        {
            return format!("{kind}: expected {}", expected.1);
        }
    }
    message.to_owned()
}
