//! The table of streams in the connector's README.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use connector_stripe::{Place, Stream, Stripe, StripeConfig};
use pipeline_core::{BuildContext, Catalog, Connector};

use super::super::Result;

/// Where the table stands in the README.
const MARKERS: [&str; 2] = [
    "<!-- streams: written by `cargo xtask codegen stripe` -->\n",
    "<!-- end of streams -->\n",
];

/// What the connector, as it is built, does with a stream.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) columns: usize,
    /// What a sync reads of the list.
    pub(crate) reads: &'static str,
    /// What a deletion looks like.
    pub(crate) deletes: String,
}

/// The facts of every stream, with so many columns each.
pub(super) fn facts(
    streams: &[&'static Stream],
    columns: impl Fn(&Stream) -> usize,
) -> Result<BTreeMap<&'static str, Facts>> {
    let stripe = Stripe::new(
        StripeConfig::new("sk_test_fixture"),
        BuildContext::default(),
    )?;
    let catalog = Catalog::of(stripe.endpoints()).streams;
    let mut facts = BTreeMap::new();
    for stream in streams {
        let described = catalog
            .iter()
            .find(|entry| entry.name == stream.name)
            .ok_or_else(|| format!("nothing feeds `{}`", stream.name))?;
        // Besides its list, the feed of changes.
        let feeding = stripe
            .endpoints()
            .iter()
            .filter(|endpoint| endpoint.streams().any(|fed| fed.name() == stream.name))
            .count();
        let reads = match (described.mode, feeding) {
            ("full refresh", _) => "everything",
            (_, 1) => "new",
            _ => "new and changed",
        };
        facts.insert(
            stream.name,
            Facts {
                columns: columns(stream),
                reads,
                deletes: described.deletes.clone(),
            },
        );
    }
    Ok(facts)
}

/// The README's table of streams.
pub(crate) fn table(streams: &[&Stream], facts: &BTreeMap<&'static str, Facts>) -> String {
    let mut table =
        "| Stream | List | Key | Columns | A sync reads | Deletions | Note |\n| --- | --- | --- | --- | --- | --- | --- |\n".to_owned();
    for stream in streams {
        let Some(Facts {
            columns,
            reads,
            deletes,
        }) = facts.get(stream.name)
        else {
            continue;
        };
        let (name, path, key) = (stream.name, stream.path, stream.key.join("`, `"));
        let place = place(stream);
        let _ = writeln!(
            table,
            "| `{name}` | `{path}` | `{key}` | {columns} | {reads}{place} | {deletes} | {} |",
            stream.note
        );
    }
    table
}

/// Where a stream is read from, if the account has not one list of it.
fn place(stream: &Stream) -> String {
    match stream.place {
        Place::Account => String::new(),
        Place::Each { parent, when: None } => format!(", one list for each of the `{parent}`"),
        Place::Each {
            parent,
            when: Some(_),
        } => format!(", one list for each of the `{parent}` that have one"),
        Place::Inside { parent, member } => format!(", `{member}` of the `{parent}`, completed"),
    }
}

/// The README with another table.
pub(crate) fn replace_between(text: &str, table: &str) -> Result<String> {
    let [begin, end] = MARKERS;
    let parts = text
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let (before, after) =
        parts.ok_or("the README has lost the markers around its table of streams")?;
    Ok(format!("{before}{begin}\n{table}\n{end}{after}"))
}
