//! The Stripe connector's columns, one list for each stream of its table, and the table in its README.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use connector_stripe::{API_VERSION, STREAMS, Stream};
use pipeline_core::SyncMode;

use super::Result;
use super::openapi::{Component, Property, Spec};

/// Where the table stands in the README.
const MARKERS: [&str; 2] = ["<!-- streams: written by `cargo xtask codegen stripe` -->\n", "<!-- end of streams -->\n"];

/// Starts the header's line with the hash of the rest of the file.
const SEAL: &str = "//! Seal: ";

/// Members that objects have only when a request expands them. The specification does not tell them from others.
const INCLUDABLE: &[(&str, &[&str])] = &[
    ("charge", &["refunds"]),
    ("checkout.session", &["line_items"]),
    ("coupon", &["applies_to"]),
    ("customer", &["sources", "subscriptions", "tax_ids"]),
    ("invoice", &["payments"]),
    ("issuing.card", &["cvc", "number"]),
    ("plan", &["tiers"]),
    ("price", &["currency_options", "tiers"]),
];

/// Members that hold seconds since 1970 although the specification does not say so.
const UNTAGGED_TIMES: &[(&str, &str)] = &[("topup", "expected_availability_date")];

/// One column: its name and its type as Rust.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) data_type: &'static str,
}

/// Writes or checks both files.
pub(super) fn run(spec: Option<&Path>, check: bool) -> Result<()> {
    let connector = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("crates").join("connector-stripe");
    let (schemas, readme) = (connector.join("src/schemas.rs"), connector.join("README.md"));
    let Some(spec) = spec else {
        verify_seal(&fs::read_to_string(&schemas)?)?;
        if let Some(stream) = STREAMS.iter().find(|stream| stream.schema().fields().is_empty()) {
            return Err(format!("the stream `{}` has no columns; run `cargo xtask codegen stripe --spec FILE`", stream.name).into());
        }
        let table = table(STREAMS, |stream| stream.schema().fields().len());
        let text = fs::read_to_string(&readme)?;
        return compare(&readme, &replace_between(&text, &table)?);
    };
    let spec = Spec::open(spec)?;
    if spec.info.version != API_VERSION {
        return Err(format!("the connector pins the API version {API_VERSION}, but the file is of {}", spec.info.version).into());
    }
    let columns = STREAMS.iter().map(|stream| columns(&spec, stream)).collect::<Result<Vec<_>>>()?;
    let counted =
        |stream: &Stream| STREAMS.iter().zip(&columns).find(|(known, _)| known.name == stream.name).map_or(0, |(_, columns)| columns.len());
    let outputs: [(PathBuf, String); 2] =
        [(schemas, render(STREAMS, &columns)), (readme.clone(), replace_between(&fs::read_to_string(&readme)?, &table(STREAMS, counted))?)];
    for (path, text) in &outputs {
        if check { compare(path, text)? } else { fs::write(path, text)? }
    }
    Ok(())
}

fn compare(path: &Path, expected: &str) -> Result<()> {
    if fs::read_to_string(path)? == expected {
        return Ok(());
    }
    Err(format!("{} is stale; run `cargo xtask codegen stripe --spec FILE`", path.display()).into())
}

/// The columns of a stream, after everything that the table says about it was found to be true.
pub(super) fn columns(spec: &Spec, stream: &Stream) -> Result<Vec<Column>> {
    let wrong = |what: String| format!("stream `{}`: {what}", stream.name);
    let component = spec.components.schemas.get(stream.object).ok_or_else(|| wrong(format!("there is no object `{}`", stream.object)))?;
    verify_request(spec, stream).map_err(wrong)?;
    verify_object(component, stream).map_err(wrong)?;
    let absent = INCLUDABLE.iter().find(|(object, _)| *object == stream.object).map_or(&[][..], |(_, members)| members);
    let mut columns = Vec::new();
    for (name, property) in &component.properties {
        if absent.contains(&name.as_str()) && !stream.expand.contains(&name.as_str()) {
            continue;
        }
        let is_time = UNTAGGED_TIMES.contains(&(stream.object, name));
        let data_type = if is_time { Ok(TIMESTAMP) } else { data_type(property) };
        columns.push(Column { name: name.clone(), data_type: data_type.map_err(|what| wrong(format!("`{name}`: {what}")))? });
    }
    columns.sort_by_key(|column| column.name != "id");
    Ok(columns)
}

/// The list exists, takes what we send and needs nothing else.
fn verify_request(spec: &Spec, stream: &Stream) -> Result<(), String> {
    let get =
        spec.paths.get(stream.path).and_then(|path| path.get.as_ref()).ok_or_else(|| format!("GET {} does not exist", stream.path))?;
    if let Some(required) = get.parameters.iter().find(|parameter| parameter.required) {
        return Err(format!("the list requires the parameter `{}`", required.name));
    }
    let filter = stream.cursor.map(|_| "created");
    let expand = (!stream.expand.is_empty()).then_some("expand");
    let fixed = stream.query.map(|(name, _)| name);
    let partition = stream.partition.map(|(name, _)| name);
    let sent = ["limit", "starting_after"].into_iter().chain(filter).chain(expand).chain(fixed).chain(partition);
    for name in sent {
        if !get.parameters.iter().any(|parameter| parameter.name == name) {
            return Err(format!("the list does not take the parameter `{name}`"));
        }
    }
    Ok(())
}

/// The object has an id, its cursor is a time, and what is expanded can be.
fn verify_object(component: &Component, stream: &Stream) -> Result<(), String> {
    let property = |name: &str| component.properties.get(name).ok_or_else(|| format!("the object has no member `{name}`"));
    property("id")?;
    if property("object")?.values != [stream.object] {
        return Err(format!("the object does not call itself `{}`", stream.object));
    }
    if let Some(cursor) = stream.cursor
        && data_type(property(cursor)?)? != TIMESTAMP
    {
        return Err(format!("the cursor `{cursor}` is not a time"));
    }
    match stream.expand.iter().find(|member| !component.expandable.iter().any(|known| known == *member)) {
        Some(member) => Err(format!("`{member}` cannot be expanded")),
        None => Ok(()),
    }
}

const TIMESTAMP: &str = "Timestamp(UnixSeconds)";

/// The column that holds a member. Ids that could be expanded are text; everything that is no scalar is JSON.
pub(super) fn data_type(property: &Property) -> Result<&'static str, String> {
    if !property.any_of.is_empty() {
        let is_text = |alternative: &Property| alternative.kind.as_deref() == Some("string");
        let is_id = property.expansion.is_some() && property.any_of.iter().any(is_text);
        return Ok(if is_id || property.any_of.iter().all(is_text) { "String" } else { "Json" });
    }
    let Some(kind) = property.kind.as_deref() else { return Ok("Json") };
    match (kind, property.format.as_deref()) {
        ("boolean", None) => Ok("Bool"),
        ("integer", Some("unix-time")) => Ok(TIMESTAMP),
        ("integer", None) => Ok("Int64"),
        ("number", None) => Ok("Float64"),
        ("string", None | Some("currency" | "decimal")) => Ok("String"),
        ("array" | "object", _) => Ok("Json"),
        (kind, format) => Err(format!("there is no column for the type `{kind}` with the format `{}`", format.unwrap_or_default())),
    }
}

/// The text of `schemas.rs`.
pub(super) fn render(streams: &[Stream], columns: &[Vec<Column>]) -> String {
    let used: BTreeSet<&str> = columns.iter().flatten().map(|column| column.data_type.split('(').next().unwrap_or_default()).collect();
    let used: Vec<&str> = used.into_iter().collect();
    let mut body = format!(
        "use pipeline_core::DataType::{{{}}};\nuse pipeline_core::Field;\nuse pipeline_core::TimeFormat::UnixSeconds;\n\n",
        used.join(", ")
    );
    body.push_str("/// Columns of a stream; empty when it is not known.\npub(crate) fn columns(stream: &str) -> &'static [Field] {\n    match stream {\n");
    for stream in streams {
        let _ = writeln!(body, "        \"{}\" => {},", stream.name, stream.name.to_uppercase());
    }
    body.push_str("        _ => &[],\n    }\n}\n");
    for (stream, columns) in streams.iter().zip(columns) {
        let _ = writeln!(body, "\nconst {}: &[Field] = &[", stream.name.to_uppercase());
        for column in columns {
            let _ = writeln!(body, "    Field::new(\"{}\", {}),", column.name, column.data_type);
        }
        body.push_str("];\n");
    }
    let head = format!(
        "//! The columns of every stream, from Stripe's OpenAPI file.\n//!\n//! Written by `cargo xtask codegen stripe --spec FILE`; do \
         not edit.\n//!\n//! API version: {API_VERSION}\n//! Specification: stripe/openapi, openapi.spec3.json of that version\n"
    );
    let seal = seal(&head, &body);
    format!("{head}{SEAL}{seal}\n\n{body}")
}

/// A hash of the file without the line that holds it.
fn seal(head: &str, body: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes()).update(body.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Fails when the file is not as it was written.
pub(super) fn verify_seal(text: &str) -> Result<()> {
    let intact = text.split_once(SEAL).and_then(|(head, rest)| {
        let (known, body) = rest.split_once("\n\n")?;
        Some(known == seal(head, body))
    });
    match intact {
        Some(true) => Ok(()),
        _ => Err("the generated columns were edited by hand; run `cargo xtask codegen stripe --spec FILE`".into()),
    }
}

/// The README's table of streams.
pub(super) fn table(streams: &[Stream], columns: impl Fn(&Stream) -> usize) -> String {
    let mut table = "| Stream | List | Columns | A sync reads | Note |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for stream in streams {
        let reads = match stream.mode {
            SyncMode::Incremental => "new objects",
            SyncMode::FullRefresh => "everything",
        };
        let _ = writeln!(table, "| `{}` | `{}` | {} | {reads} | {} |", stream.name, stream.path, columns(stream), stream.note);
    }
    table
}

/// The README with another table.
pub(super) fn replace_between(text: &str, table: &str) -> Result<String> {
    let [begin, end] = MARKERS;
    let parts = text.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts.ok_or("the README has lost the markers around its table of streams")?;
    Ok(format!("{before}{begin}\n{table}\n{end}{after}"))
}
