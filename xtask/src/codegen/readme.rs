//! The tables of streams in the connectors' READMEs, from the connectors' own tables of lists.

use std::fmt::Write as _;

use pipeline_core::Vendor;
use pipeline_core::declarative::{ListDef, StreamDef};

use super::Result;

/// A vendor whose README has a row for each stream.
pub(super) trait Documented: Vendor {
    /// The vendor's name as `cargo xtask codegen` takes it.
    const NAME: &'static str;

    /// The heads of the columns.
    const HEAD: &'static [&'static str];

    /// The cells of a row: of a stream of a list, which is among `lists`, with so many columns.
    fn cells(
        lists: &[ListDef<Self>],
        list: &ListDef<Self>,
        stream: &StreamDef<Self>,
        columns: usize,
    ) -> Vec<String>;
}

/// How many columns a stream has, as the connector declares it.
pub(super) fn declared<V: Documented>(stream: &StreamDef<V>) -> usize {
    stream.schema().fields().len()
}

/// The table of the streams that the lists feed, whose columns are counted by `columns`: they may
/// be newer than what is declared. What is read last corrects the streams of other lists, and has
/// no row.
pub(super) fn table<V: Documented>(
    known: &[ListDef<V>],
    lists: &[ListDef<V>],
    columns: impl Fn(&StreamDef<V>) -> usize,
) -> String {
    let mut table = row(V::HEAD.iter().copied());
    table.push_str(&row(V::HEAD.iter().map(|_| "---")));
    for list in lists.iter().filter(|list| !list.corrects) {
        for stream in list.streams {
            table.push_str(&row(V::cells(known, list, stream, columns(stream))
                .iter()
                .map(String::as_str)));
        }
    }
    table
}

fn row<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut row = String::from("|");
    for cell in cells {
        let _ = write!(row, " {cell} |");
    }
    row.push('\n');
    row
}

/// The README with other tables between its markers.
pub(super) fn with_tables<V: Documented>(text: &str, tables: &str) -> Result<String> {
    let begin = format!(
        "<!-- streams: written by `cargo xtask codegen {}` -->\n",
        V::NAME
    );
    let end = "<!-- end of streams -->\n";
    let parts = text
        .split_once(&*begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        format!(
            "the README of the connector of {} has lost the markers around its streams",
            V::NAME
        )
    })?;
    Ok(format!("{before}{begin}\n{tables}\n{end}{after}"))
}
