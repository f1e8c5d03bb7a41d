//! The Zendesk connector's columns, one list for each stream of its table, and the table in its
//! README.

mod api;
mod readme;
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use connector_zendesk::{BY_KIND, Columns, List, Stream, lists};

use self::api::{Api, Property};
use super::Result;
use crate::output::root;

/// Starts the header's line with the hash of the rest of the file.
const SEAL: &str = "//! Seal: ";

/// Members that are for writing, although the files do not always say so.
const WRITE_ONLY: [&str; 5] = [
    "safe_update",
    "updated_stamp",
    "voice_comment",
    "system_metadata",
    "remote_photo_url",
];

/// One column: its name and its type as Rust.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) data_type: &'static str,
}

/// Files to read, and whether to write.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Zendesk's OpenAPI files, of Support and of Help Center, plain or gzipped.
    #[arg(long, num_args = 1.., required_unless_present = "check")]
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
    let (schemas, readme) = (
        connector.join("src/schemas.rs"),
        connector.join("README.md"),
    );
    let mut outputs = vec![(
        readme.clone(),
        readme::with_tables(&fs::read_to_string(&readme)?)?,
    )];
    if args.spec.is_empty() {
        verify_seal(&fs::read_to_string(&schemas)?)?;
        if let Some((_, stream)) = streams().find(|(_, stream)| stream.schema().fields().is_empty())
        {
            return Err(format!(
                "the stream `{}` has no columns; run `cargo xtask codegen zendesk --spec FILES`",
                stream.name
            )
            .into());
        }
    } else {
        let api = Api::open(&args.spec)?;
        let columns = generated()
            .map(|(list, stream)| columns(&api, list, stream))
            .collect::<Result<Vec<_>>>()?;
        outputs.push((schemas, render(&columns)));
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
    Err(format!(
        "{} is stale; run `cargo xtask codegen zendesk --spec FILES`",
        path.display()
    )
    .into())
}

/// Every stream with its list.
fn streams() -> impl Iterator<Item = (&'static List, &'static Stream)> {
    // What is read last corrects the streams of other lists.
    lists()
        .chain(BY_KIND)
        .filter(|list| !list.last)
        .flat_map(|list| list.streams.iter().map(move |stream| (list, stream)))
}

/// The streams whose columns are generated.
fn generated() -> impl Iterator<Item = (&'static List, &'static Stream)> {
    streams().filter(|(_, stream)| !matches!(stream.columns, Columns::Hand(_)))
}

/// Where the files describe a stream: the path of a list, and the member that holds the records.
fn described(list: &List, stream: &Stream) -> (&'static str, &'static str) {
    match stream.columns {
        Columns::Of(path, records) => (path, records),
        Columns::Listed | Columns::Hand(_) => (list.path, stream.records),
    }
}

/// The columns of a stream, after its list was found to exist and to hold what the table says.
fn columns(api: &Api, list: &List, stream: &Stream) -> Result<Vec<Column>> {
    let wrong = |what: String| format!("stream `{}`: {what}", stream.name);
    let (path, records) = described(list, stream);
    let item = api
        .item(path, records)
        .map_err(|error| wrong(error.to_string()))?;
    let mut columns = Vec::new();
    for (name, property) in api.properties(&item) {
        if property.write_only
            || WRITE_ONLY.contains(&name.as_str())
            || stream.without.contains(&name.as_str())
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

/// The text of `schemas.rs`.
fn render(columns: &[Vec<Column>]) -> String {
    let used: BTreeSet<&str> = columns
        .iter()
        .flatten()
        .map(|column| column.data_type.split('(').next().unwrap_or_default())
        .collect();
    let used: Vec<&str> = used.into_iter().collect();
    let mut body = format!(
        "use pipeline_core::DataType::{{{}}};\nuse pipeline_core::Field;\nuse pipeline_core::TimeFormat::Rfc3339;\n\n",
        used.join(", ")
    );
    body.push_str("/// Columns of a stream; empty when they are written by hand.\npub(crate) fn columns(stream: &str) -> &'static [Field] {\n    match stream {\n");
    for (_, stream) in generated() {
        let _ = writeln!(
            body,
            "        \"{}\" => {},",
            stream.name,
            stream.name.to_uppercase()
        );
    }
    body.push_str("        _ => &[],\n    }\n}\n");
    for ((_, stream), columns) in generated().zip(columns) {
        let _ = writeln!(
            body,
            "\nconst {}: &[Field] = &[",
            stream.name.to_uppercase()
        );
        for column in columns {
            let _ = writeln!(
                body,
                "    Field::new(\"{}\", {}),",
                column.name, column.data_type
            );
        }
        body.push_str("];\n");
    }
    let head = "//! The columns of most streams, from Zendesk's OpenAPI files of Support and Help Center.\n//!\n//! Written by `cargo xtask \
                codegen zendesk --spec FILES`; do not edit.\n";
    let seal = seal(head, &body);
    format!("{head}{SEAL}{seal}\n\n{body}")
}

/// A hash of the file without the line that holds it.
fn seal(head: &str, body: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes()).update(body.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Fails when the file is not as it was written.
fn verify_seal(text: &str) -> Result<()> {
    let intact = text.split_once(SEAL).and_then(|(head, rest)| {
        let (known, body) = rest.split_once("\n\n")?;
        Some(known == seal(head, body))
    });
    match intact {
        Some(true) => Ok(()),
        _ => Err("the generated columns were edited by hand; run `cargo xtask codegen zendesk --spec FILES`".into()),
    }
}
