//! The table of streams in the Mixpanel connector's README, from the connector's own table.

use std::fmt::Write as _;
use std::fs;

use connector_mixpanel::{STREAMS, Stream};

use super::Result;
use crate::output::root;

/// The file that the table is in.
const README: &str = "crates/connector-mixpanel/README.md";

/// Where the table stands in it.
const MARKERS: [&str; 2] = [
    "<!-- streams: written by `cargo xtask codegen mixpanel` -->\n",
    "<!-- end of streams -->\n",
];

/// Writes the table, or fails when it is not what would be written.
pub(super) fn run(check: bool) -> Result<()> {
    let path = root().join(README);
    let text = fs::read_to_string(&path)?;
    let [begin, end] = MARKERS;
    let parts = text
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts
        .ok_or_else(|| format!("{README} has lost the markers around its table of streams"))?;
    let current = format!("{before}{begin}\n{}\n{end}{after}", table(STREAMS));
    if check && current != text {
        return Err(format!("{README} is stale: run `cargo xtask codegen mixpanel`").into());
    }
    if !check {
        fs::write(path, current)?;
    }
    Ok(())
}

fn table(streams: &[Stream]) -> String {
    let mut table = "| Stream | Read by | Key | Columns | Costs | Note |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for stream in streams {
        let key = if stream.key.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", stream.key.join("`, `"))
        };
        let (name, request, columns, cost) = (
            stream.name,
            stream.request(),
            stream.columns.len(),
            stream.cost(),
        );
        let _ = writeln!(
            table,
            "| `{name}` | {request} | {key} | {columns} | {cost} | {} |",
            stream.note
        );
    }
    table
}
