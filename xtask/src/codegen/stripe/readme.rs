//! The table of streams in the connector's README.

use std::fmt::Write as _;

use connector_stripe::{Place, Stream};
use pipeline_core::SyncMode;

use super::super::Result;

/// Where the table stands in the README.
const MARKERS: [&str; 2] = ["<!-- streams: written by `cargo xtask codegen stripe` -->\n", "<!-- end of streams -->\n"];

/// The README's table of streams.
pub(crate) fn table(streams: &[&Stream], columns: impl Fn(&Stream) -> usize) -> String {
    let mut table = "| Stream | List | Key | Columns | A sync reads | Note |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for stream in streams {
        let (name, path, key) = (stream.name, stream.path, stream.key.join("`, `"));
        let _ = writeln!(table, "| `{name}` | `{path}` | `{key}` | {} | {} | {} |", columns(stream), reads(stream), stream.note);
    }
    table
}

/// What a sync reads of a stream.
fn reads(stream: &Stream) -> String {
    match (stream.place, stream.mode) {
        (Place::Account, SyncMode::Incremental) => "new objects".to_owned(),
        (Place::Account, SyncMode::FullRefresh) => "everything".to_owned(),
        (Place::Each { parent, when: None }, _) => format!("one list for each of the `{parent}` read"),
        (Place::Each { parent, when: Some(_) }, _) => format!("one list for each of the `{parent}` read that have one"),
        (Place::Inside { parent, member }, _) => format!("`{member}` of the `{parent}` read, completed"),
    }
}

/// The README with another table.
pub(crate) fn replace_between(text: &str, table: &str) -> Result<String> {
    let [begin, end] = MARKERS;
    let parts = text.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts.ok_or("the README has lost the markers around its table of streams")?;
    Ok(format!("{before}{begin}\n{table}\n{end}{after}"))
}
