//! The tables of streams in the connector's README.

use std::fmt::Write as _;

use connector_zendesk::{FAMILIES, List, Reads, Stream, is_whole};
use pipeline_core::Deletes;

use super::Result;

/// Where the tables stand.
const MARKERS: [&str; 2] = [
    "<!-- streams: written by `cargo xtask codegen zendesk` -->\n",
    "<!-- end of streams -->\n",
];

/// The README with other tables.
pub(super) fn with_tables(text: &str) -> Result<String> {
    let [begin, end] = MARKERS;
    let parts = text
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts
        .ok_or("the README of the connector has lost the markers around its tables of streams")?;
    let tables: Vec<String> = FAMILIES
        .iter()
        .map(|(family, lists)| table(family, lists))
        .collect();
    Ok(format!(
        "{before}{begin}\n{}\n{end}{after}",
        tables.join("\n")
    ))
}

fn table(family: &str, lists: &[List]) -> String {
    let mut table = format!(
        "### {family}\n\n| Stream | Request | A sync reads | Key | Deletions | Columns | Note |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for list in lists.iter().filter(|list| !list.last) {
        let path = list.path.trim_start_matches("/api/v2/");
        for (index, stream) in list.streams.iter().enumerate() {
            let request = if index == 0 {
                format!("`{path}`")
            } else {
                format!("the same as `{}`", list.streams[0].name)
            };
            let key = stream.key.join(", ");
            let columns = stream.schema().fields().len();
            let (reads, deletions, note) = (reads(list), deletions(list, stream), stream.note);
            let _ = writeln!(
                table,
                "| `{}` | {request} | {reads} | {key} | {deletions} | {columns} | {note} |",
                stream.name
            );
        }
    }
    table
}

fn reads(list: &List) -> String {
    match (list.reads, list.parent) {
        (_, Some(parent)) => format!("for each of `{}`", parent.list),
        (Reads::Everything, _) => "everything".to_owned(),
        _ => "changes".to_owned(),
    }
}

fn deletions(list: &List, stream: &Stream) -> String {
    match &stream.deletes {
        Deletes::Marked { field, value } => format!("`{field}` = `{value}`"),
        Deletes::Stamped { field } => format!("`{field}` is set"),
        _ if is_whole(list) => "removed on the next full refresh".to_owned(),
        _ => "not visible".to_owned(),
    }
}
