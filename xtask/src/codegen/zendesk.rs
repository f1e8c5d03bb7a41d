//! The Zendesk connector's columns, one list for each stream of its table, and the table in its
//! README.

mod api;
mod readme;
mod samples;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use connector_zendesk::tables::{BY_KIND, Described, FAMILIES, Zendesk};
use pipeline_core::declarative::{ListDef, StreamDef};

use self::api::{Api, Property};
use super::Result;
use super::columns::{self, Column, verify_seal};
use crate::output::root;

/// Writes the files.
const COMMAND: &str = "cargo xtask codegen zendesk --spec FILES";

/// Members that are for writing, although the files do not always say so.
const WRITE_ONLY: [&str; 5] = [
    "safe_update",
    "updated_stamp",
    "voice_comment",
    "system_metadata",
    "remote_photo_url",
];

/// Files to read, and whether to write.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Zendesk's OpenAPI files, of Support and of Help Center, plain or gzipped. Without them only
    /// the README is written.
    #[arg(long, num_args = 1..)]
    spec: Vec<PathBuf>,
    /// Writes the fixture cases of plain lists as well: the answers that the files describe.
    #[arg(long)]
    fixtures: bool,
    /// Writes nothing and fails when a file is not what would be written. Without the
    /// specifications it can tell only whether the files were edited and whether every stream has
    /// its columns.
    #[arg(long)]
    check: bool,
}

impl Args {
    /// To check without the specifications.
    pub(super) fn check() -> Self {
        Self {
            spec: Vec::new(),
            fixtures: false,
            check: true,
        }
    }
}

/// Writes or checks the files.
pub(super) fn run(args: &Args) -> Result<()> {
    let connector = root().join("crates/connector-zendesk");
    let (schemas, readme) = (connector.join("src/schema.rs"), connector.join("README.md"));
    let mut outputs = vec![(
        readme.clone(),
        readme::with_tables(&fs::read_to_string(&readme)?)?,
    )];
    if args.spec.is_empty() {
        verify_seal(&fs::read_to_string(&schemas)?, COMMAND)?;
        if let Some((_, stream)) = streams().find(|(_, stream)| stream.schema().fields().is_empty())
        {
            return Err(format!(
                "the stream `{}` has no columns; run `{COMMAND}`",
                stream.name
            )
            .into());
        }
    } else {
        let api = Api::open(&args.spec)?;
        let columns = generated()
            .map(|(list, stream)| columns(&api, list, stream))
            .collect::<Result<Vec<_>>>()?;
        let names = generated().map(|(_, stream)| stream.name);
        let streams: Vec<_> = names.zip(columns.iter().map(Vec::as_slice)).collect();
        outputs.push((schemas, SCHEMA.render(&streams)));
        if args.fixtures {
            outputs.extend(samples::cases(&api)?);
        }
    }
    for (path, text) in &outputs {
        if args.check {
            compare(path, text)?;
        } else {
            write(path, text)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}

fn compare(path: &Path, expected: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|text| text == expected) {
        return Ok(());
    }
    Err(format!("{} is stale; run `{COMMAND}`", path.display()).into())
}

/// A stream with its list.
type Entry = (&'static ListDef<Zendesk>, &'static StreamDef<Zendesk>);

/// Every list of the tables.
fn lists() -> impl Iterator<Item = &'static ListDef<Zendesk>> {
    FAMILIES.iter().flat_map(|(_, lists)| *lists)
}

/// Every stream with its list.
fn streams() -> impl Iterator<Item = Entry> {
    // What is read last corrects the streams of other lists.
    lists()
        .chain(BY_KIND)
        .filter(|list| !list.corrects)
        .flat_map(|list| list.streams.iter().map(move |stream| (list, stream)))
}

/// The streams whose columns are generated.
fn generated() -> impl Iterator<Item = Entry> {
    streams().filter(|(_, stream)| stream.is_generated())
}

/// Where the files describe a stream: the path of a list, and the member that holds the records.
fn described(list: &ListDef<Zendesk>, stream: &StreamDef<Zendesk>) -> (&'static str, &'static str) {
    match stream.facts {
        Described::With(path, records) => (path, records),
        Described::Here => (list.path, stream.records.unwrap_or(list.records)),
    }
}

/// The columns of a stream, after its list was found to exist and to hold what the table says.
fn columns(api: &Api, list: &ListDef<Zendesk>, stream: &StreamDef<Zendesk>) -> Result<Vec<Column>> {
    let wrong = |what: String| format!("stream `{}`: {what}", stream.name);
    let (path, records) = described(list, stream);
    let item = api
        .item(path, records)
        .map_err(|error| wrong(error.to_string()))?;
    let mut columns = Vec::new();
    for (name, property) in api.properties(&item) {
        if property.write_only
            || WRITE_ONLY.contains(&name.as_str())
            || stream.hidden.contains(&name.as_str())
        {
            continue;
        }
        let data_type =
            data_type(&name, &property).map_err(|what| wrong(format!("`{name}`: {what}")))?;
        columns.push(Column { name, data_type });
    }
    if let Some(key) = stream
        .key
        .iter()
        .find(|key| !columns.iter().any(|column| column.name == **key))
    {
        return Err(wrong(format!("the object has no member `{key}`")).into());
    }
    columns.sort_by_key(|column| column.name != stream.key[0]);
    Ok(columns)
}

const TIMESTAMP: &str = "Timestamp(Rfc3339)";

/// The column that holds a member. Everything that is no scalar is JSON. Half of the times are not
/// declared as such.
fn data_type(name: &str, property: &Property) -> Result<&'static str, String> {
    match (property.kind.as_deref(), property.format.as_deref()) {
        (Some("boolean"), _) => Ok("Bool"),
        (Some("integer"), _) => Ok("Int64"),
        (Some("number"), _) => Ok("Float64"),
        (Some("string"), Some("date-time")) => Ok(TIMESTAMP),
        (Some("string"), None) if name.ends_with("_at") => Ok(TIMESTAMP),
        // Both are said to be text, and are what their examples show.
        (Some("string"), None) if matches!(name, "permissions" | "app_installation") => Ok("Json"),
        (Some("string"), _) => Ok("String"),
        (Some("array" | "object") | None, _) => Ok("Json"),
        (Some(kind), _) => Err(format!("there is no column for the type `{kind}`")),
    }
}

/// The file `schema.rs`.
const SCHEMA: columns::File<'_> = columns::File {
    head: "//! The columns of most streams, from Zendesk's OpenAPI files of Support and Help Center.\n\
           //!\n\
           //! Written by `cargo xtask codegen zendesk --spec FILES`; do not edit.\n",
    time: "Rfc3339",
    empty: "when they are written by hand",
};
