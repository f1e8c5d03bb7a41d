//! What the Stripe connector holds that follows from Stripe's OpenAPI file and from its own table of streams: the columns,
//! the parameters that its lists take, the table in its README, and a fixture case for every stream.

pub(super) mod columns;
pub(super) mod readme;
mod verify;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use connector_stripe::{API_VERSION, Stream, streams};

use self::columns::{columns, render, verify_seal};
use self::readme::{replace_between, table};
use super::Result;
use super::openapi::Spec;

/// Writes or checks the files.
pub(super) fn run(spec: Option<&Path>, check: bool) -> Result<()> {
    let connector = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("crates").join("connector-stripe");
    let (schemas, readme) = (connector.join("src/schemas.rs"), connector.join("README.md"));
    let streams = sorted();
    let Some(spec) = spec else {
        verify_seal(&fs::read_to_string(&schemas)?)?;
        if let Some(stream) = streams.iter().find(|stream| stream.schema().fields().is_empty()) {
            return Err(format!("the stream `{}` has no columns; run `cargo xtask codegen stripe --spec FILE`", stream.name).into());
        }
        let table = table(&streams, |stream| stream.schema().fields().len());
        let text = fs::read_to_string(&readme)?;
        return compare(&readme, &replace_between(&text, &table)?);
    };
    let spec = Spec::open(spec)?;
    if spec.info.version != API_VERSION {
        return Err(format!("the connector pins the API version {API_VERSION}, but the file is of {}", spec.info.version).into());
    }
    let columns = streams.iter().map(|stream| columns(&spec, stream)).collect::<Result<Vec<_>>>()?;
    let counted =
        |stream: &Stream| streams.iter().zip(&columns).find(|(known, _)| known.name == stream.name).map_or(0, |(_, columns)| columns.len());
    let outputs: [(PathBuf, String); 3] = [
        (schemas, render(&streams, &columns)),
        (connector.join("tests/operations.txt"), operations(&spec, &streams)),
        (readme.clone(), replace_between(&fs::read_to_string(&readme)?, &table(&streams, counted))?),
    ];
    for (path, text) in &outputs {
        if check { compare(path, text)? } else { fs::write(path, text)? }
    }
    Ok(())
}

/// The streams, by name.
fn sorted() -> Vec<&'static Stream> {
    let mut streams: Vec<_> = streams().collect();
    streams.sort_by_key(|stream| stream.name);
    streams
}

fn compare(path: &Path, expected: &str) -> Result<()> {
    if fs::read_to_string(path)? == expected {
        return Ok(());
    }
    Err(format!("{} is stale; run `cargo xtask codegen stripe --spec FILE`", path.display()).into())
}

/// Every list that the connector asks for, and the parameters that it takes: what the requests of fixtures are held against.
fn operations(spec: &Spec, streams: &[&Stream]) -> String {
    let inner = streams.iter().flat_map(|stream| stream.inner.iter().map(|inner| inner.path));
    let paths: BTreeSet<&str> = streams.iter().map(|stream| stream.path).chain(inner).collect();
    let mut text = format!(
        "# Lists and their query parameters in Stripe's OpenAPI file of version {API_VERSION}.\n# Written by `cargo xtask codegen stripe --spec FILE`; do not edit.\n"
    );
    for path in paths {
        let takes: Vec<&str> = spec.get(path).into_iter().flat_map(|get| get.takes()).collect();
        let _ = writeln!(text, "{path} {}", takes.join(" "));
    }
    text
}
