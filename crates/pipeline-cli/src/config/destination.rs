//! The table `[destination]`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::tree::{Member, Node, Span, Table, Value};
use super::{Config, Problem, known_members, reason, reference, suggest, table, text, unknown};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::{schema, setup};

pub(super) const KINDS: [&str; 3] = ["sqlite", "parquet", "jsonl"];

/// The path that means standard output.
const STDOUT: &str = "-";

/// Where data goes.
#[derive(Clone, Debug)]
pub(crate) struct DestinationConfig {
    /// What it is.
    pub(crate) kind: DestinationKind,
    /// Where it is.
    pub(crate) path: PathBuf,
    folder: PathBuf,
    header: Span,
    members: Table,
}

/// The kinds of destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestinationKind {
    /// One database file.
    Sqlite,
    /// A folder of Parquet files.
    Parquet,
    /// A folder of JSON Lines files.
    Jsonl,
    /// JSON Lines on standard output.
    Stdout,
}

impl DestinationConfig {
    pub(super) fn parse(root: &Table, folder: &Path) -> Result<Self, Problem> {
        let example = "add [destination] with type = \"sqlite\" and path = \"warehouse.db\"";
        let member = root.get("destination").ok_or_else(|| Problem::new(0..0, "no destination configured").help(example))?;
        let inner = table(&member.node, "destination")?;
        let required = |name: &str, example: &str| {
            let missing =
                || Problem::new(member.span.clone(), format!("destination has no `{name}`")).help(format!("add {name} = \"{example}\""));
            inner.get(name).ok_or_else(missing)
        };
        let (kind, path) = (required("type", "sqlite")?, required("path", "warehouse.db")?);
        let path = resolved(&path.node, "path", folder)?;
        let kind = match text(&kind.node, "type")? {
            "sqlite" => DestinationKind::Sqlite,
            "parquet" => DestinationKind::Parquet,
            "jsonl" if path == STDOUT => DestinationKind::Stdout,
            "jsonl" => DestinationKind::Jsonl,
            other => {
                let problem = Problem::new(kind.node.span.clone(), unknown("destination type", other, KINDS));
                return Err(problem.help(suggest(other, "types", KINDS)));
            }
        };
        let own = |member: &&Member| member.name != "type" && member.name != "path";
        let members = Table(inner.0.iter().filter(own).cloned().collect());
        Ok(Self { kind, path: folder.join(path), folder: folder.to_owned(), header: member.span.clone(), members })
    }

    /// The destination's own configuration: the path and every member that is not read here.
    pub(crate) fn parse_as<T: DeserializeOwned + JsonSchema>(&self, config: &Config) -> Result<T, Failure> {
        let spec = schemars::schema_for!(T).to_value();
        let known: Vec<&str> = schema::members(&spec).into_iter().chain(["type"]).collect();
        known_members(&self.members, "destination", &known).map_err(|problem| config.failure(&problem))?;
        let mut object = Map::new();
        for Member { name, node, .. } in &self.members.0 {
            object.insert(name.clone(), json(node, name, &config.folder).map_err(|problem| config.failure(&problem))?);
        }
        object.insert("path".to_owned(), Json::String(self.path.display().to_string()));
        serde_path_to_error::deserialize(Json::Object(object)).map_err(|error| {
            let span = self.members.locate(&error.path().to_string()).unwrap_or_else(|| self.header.clone());
            let message = error.inner().to_string();
            let message = if config.is_harmless(&span) { message } else { super::without_value(&message) };
            config.failure(&Problem::new(span, format!("destination: {message}")))
        })
    }

    /// True when there is something to read at all, without creating it.
    ///
    /// # Errors
    /// When that cannot be found out: nothing may be taken for missing that cannot be looked at.
    pub(crate) fn exists(&self) -> Result<bool, Failure> {
        self.path_of_state().try_exists().map_err(|error| {
            let message = format!("the destination {} cannot be read: {}", self.shown(), reason(&error));
            Failure::new(Exit::Destination, message, Some("check that this user may read it, and that its disk is there"))
        })
    }

    /// Its path as it may be shown.
    pub(crate) fn shown(&self) -> String {
        self.path_of_state().display().to_string()
    }

    /// Where checkpoints are: beside the configuration, when rows go to standard output.
    fn path_of_state(&self) -> PathBuf {
        match self.kind {
            DestinationKind::Stdout => self.folder.join(setup::PRIVATE).join(setup::CHECKPOINTS),
            _ => self.path.clone(),
        }
    }

    /// Keeps standard output for rows, when they go there.
    pub(crate) fn announce(&self, console: &Console) {
        if self.kind == DestinationKind::Stdout {
            console.leave_stdout_to_rows();
        }
    }
}

fn json(node: &Node, name: &str, folder: &Path) -> Result<Json, Problem> {
    match &node.value {
        Value::Text(_) => resolved(node, name, folder).map(Json::String),
        Value::Plain(value) => Ok(value.clone()),
        other => Err(Problem::new(node.span.clone(), format!("`{name}` cannot be {}", other.kind()))),
    }
}

fn resolved(node: &Node, name: &str, folder: &Path) -> Result<String, Problem> {
    let value = reference::resolve(text(node, name)?, folder, |name| std::env::var(name).ok());
    value.map(|value| value.text).map_err(|error| Problem::new(node.span.clone(), error.message).help(error.help))
}
