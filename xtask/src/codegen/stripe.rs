//! What the Stripe connector holds that follows from Stripe's OpenAPI file and from its own table
//! of streams: the columns, the parameters that its lists take, the table in its README, and a
//! fixture case for every stream.

pub(super) mod columns;
mod examples;
mod fixtures;
pub(super) mod readme;
mod verify;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connector_stripe::API_VERSION;
use connector_stripe::tables::{Stripe, lists, objects, streams};
use pipeline_core::declarative::{ListDef, StreamDef};

use self::columns::{columns, render, verify_seal};
use self::readme::with_table;
use super::openapi::Spec;
use super::{Result, readme as tables};

/// Writes or checks the files.
pub(super) fn run(spec: Option<&Path>, check: bool) -> Result<()> {
    let places = Places::new();
    match spec {
        Some(spec) => {
            let spec = Spec::open(spec)?;
            if spec.info.version != API_VERSION {
                return Err(format!(
                    "the connector pins the API version {API_VERSION}, but the file is of {}",
                    spec.info.version
                )
                .into());
            }
            generate(&places, &Arc::new(spec), check)
        }
        None => check_without_specification(&places),
    }
}

/// What is written to.
struct Places {
    schema: PathBuf,
    operations: PathBuf,
    readme: PathBuf,
    fixtures: PathBuf,
}

impl Places {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
        let connector = root.join("crates/connector-stripe");
        Self {
            schema: connector.join("src/schema.rs"),
            operations: connector.join("tests/operations.txt"),
            readme: connector.join("README.md"),
            fixtures: root.join("fixtures/stripe"),
        }
    }
}

fn generate(places: &Places, spec: &Arc<Spec>, check: bool) -> Result<()> {
    verify::verify_events(spec)?;
    let streams = sorted();
    let columns = streams
        .iter()
        .map(|stream| columns(spec, stream))
        .collect::<Result<Vec<_>>>()?;
    let counted = |stream: &StreamDef<Stripe>| {
        streams
            .iter()
            .zip(&columns)
            .find(|(known, _)| known.name == stream.name)
            .map_or(0, |(_, columns)| columns.len())
    };
    let mut outputs = vec![
        (places.schema.clone(), render(&streams, &columns)),
        (places.operations.clone(), operations(spec)),
        (
            places.readme.clone(),
            with_table(&fs::read_to_string(&places.readme)?, counted)?,
        ),
    ];
    let cases = fixtures::cases(spec)?;
    for stale in fixtures::stale(&places.fixtures, &cases)? {
        if check {
            return Err(stale_error(&stale));
        }
        fs::remove_file(stale)?;
    }
    outputs.extend(
        cases
            .into_iter()
            .map(|(file, text)| (places.fixtures.join(file), text)),
    );
    for (path, text) in &outputs {
        if check {
            compare(path, text)?;
        } else {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            fs::write(path, text)?;
        }
    }
    Ok(())
}

/// What can be told without the specification: nothing was edited by hand, and nothing that the
/// table names is missing.
fn check_without_specification(places: &Places) -> Result<()> {
    verify_seal(&fs::read_to_string(&places.schema)?)?;
    let streams = sorted();
    let fed = streams.iter().flat_map(|list| list.streams);
    if let Some(stream) = fed.into_iter().find(|stream| tables::declared(stream) == 0) {
        return Err(format!(
            "the stream `{}` has no columns; run `cargo xtask codegen stripe --spec FILE`",
            stream.name
        )
        .into());
    }
    for stream in &streams {
        verify::verify_columns(stream)
            .map_err(|what| format!("stream `{}`: {what}", stream.name))?;
    }
    if let Some(stream) = fixtures::without_case(&places.fixtures).first() {
        return Err(format!("the stream `{stream}` has no fixture case; run `cargo xtask codegen stripe --spec FILE`").into());
    }
    let readme = fs::read_to_string(&places.readme)?;
    compare(&places.readme, &with_table(&readme, tables::declared)?)
}

/// The lists that feed a stream, by name.
fn sorted() -> Vec<&'static ListDef<Stripe>> {
    let mut streams: Vec<_> = streams().collect();
    streams.sort_by_key(|stream| stream.name);
    streams
}

fn compare(path: &Path, expected: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|text| text == expected) {
        return Ok(());
    }
    Err(stale_error(path))
}

fn stale_error(path: &Path) -> Box<dyn Error> {
    format!(
        "{} is stale; run `cargo xtask codegen stripe --spec FILE`",
        path.display()
    )
    .into()
}

/// Every list that the connector asks for, each with its objects, and the parameters that it takes:
/// what the requests of fixtures are held against.
fn operations(spec: &Spec) -> String {
    let of_objects: BTreeSet<&str> = lists()
        .flat_map(|list| [list.path, objects(list)])
        .collect();
    let lists: BTreeSet<&str> = lists().map(|list| list.path).collect();
    let is_object = |path: &str| {
        path.rsplit_once('/')
            .is_some_and(|(list, last)| last.starts_with('{') && of_objects.contains(list))
    };
    let objects: Vec<&str> = spec
        .paths
        .keys()
        .map(String::as_str)
        .filter(|path| is_object(path) && spec.get(path).is_some())
        .collect();
    let paths: BTreeSet<&str> = lists
        .iter()
        .copied()
        .chain(objects)
        .chain(["/v1/account"])
        .collect();
    let mut text = format!(
        "# Lists, objects and their query parameters in Stripe's OpenAPI file of version {API_VERSION}.\n# Written by `cargo xtask codegen stripe --spec FILE`; do not edit.\n"
    );
    for path in paths {
        let takes: Vec<&str> = spec
            .get(path)
            .into_iter()
            .flat_map(super::openapi::Operation::takes)
            .collect();
        let _ = writeln!(text, "{path} {}", takes.join(" "));
    }
    text
}
