//! The table of streams in the Mixpanel connector's README, from the connector's own tables.

use std::fs;

use connector_mixpanel::tables::{Api, FAMILIES, Mixpanel, Slices};
use pipeline_core::declarative::{ListDef, StreamDef};

use super::Result;
use super::readme::{self, Documented};
use crate::output::root;

/// The file that the table is in.
const README: &str = "crates/connector-mixpanel/README.md";

/// Writes the table, or fails when it is not what would be written.
pub(super) fn run(check: bool) -> Result<()> {
    let path = root().join(README);
    let text = fs::read_to_string(&path)?;
    let lists = FAMILIES.concat();
    let current =
        readme::with_tables::<Mixpanel>(&text, &readme::table(&lists, &lists, readme::declared))?;
    if check && current != text {
        return Err(format!("{README} is stale: run `cargo xtask codegen mixpanel`").into());
    }
    if !check {
        fs::write(path, current)?;
    }
    Ok(())
}

impl Documented for Mixpanel {
    const NAME: &'static str = "mixpanel";

    const HEAD: &'static [&'static str] = &["Stream", "Read by", "Key", "Columns", "Costs", "Note"];

    fn cells(
        _lists: &[ListDef<Self>],
        list: &ListDef<Self>,
        stream: &StreamDef<Self>,
        columns: usize,
    ) -> Vec<String> {
        let is_first = stream.name == list.streams[0].name;
        vec![
            format!("`{}`", stream.name),
            match stream.facts.property() {
                Some(property) => format!("`{property}` of `{}`", list.name),
                None if is_first => request(list),
                None => format!("answers to `{}`", list.name),
            },
            if stream.key.is_empty() {
                "none".to_owned()
            } else {
                format!("`{}`", stream.key.join("`, `"))
            },
            columns.to_string(),
            if is_first { cost(list) } else { "nothing" }.to_owned(),
            stream.note.to_owned(),
        ]
    }
}

/// What is requested.
fn request(list: &ListDef<Mixpanel>) -> String {
    let (method, prefix) = (list.pages.method(), list.pages.prefix());
    let each = list.parent.map_or_else(String::new, |parent| {
        format!(", for each of `{}`", parent.list)
    });
    format!("`{method} {prefix}/{}`{each}", list.path)
}

/// What a sync spends on it, of the budgets that Mixpanel counts by the hour.
fn cost(list: &ListDef<Mixpanel>) -> &'static str {
    let is_report = matches!(list.slices, Some(Slices::Reports(_)));
    match list.pages {
        Api::Export => "exports",
        Api::Query | Api::QueryForm | Api::Engage if is_report || list.parent.is_some() => {
            "a query each"
        }
        Api::Query | Api::QueryForm | Api::Engage => "a query",
        Api::App | Api::Lexicon | Api::Ingestion => "nothing",
    }
}
