//! What the connector's README says of a stream.

use connector_stripe::tables::{FAMILIES, Stripe, heard, tells_deletions};
use pipeline_core::declarative::{ListDef, StreamDef};

use super::super::Result;
use super::super::readme::{self, Documented};

/// The README with another table, of streams by name with so many columns each.
pub(crate) fn with_table(
    text: &str,
    columns: impl Fn(&StreamDef<Stripe>) -> usize,
) -> Result<String> {
    let mut lists = FAMILIES.concat();
    lists.sort_by_key(|list| list.name);
    readme::with_tables::<Stripe>(text, &readme::table(&lists, &lists, columns))
}

impl Documented for Stripe {
    const NAME: &'static str = "stripe";

    const HEAD: &'static [&'static str] = &[
        "Stream",
        "List",
        "Key",
        "Columns",
        "A sync reads",
        "Deletions",
        "Note",
    ];

    fn cells(
        lists: &[ListDef<Self>],
        list: &ListDef<Self>,
        stream: &StreamDef<Self>,
        columns: usize,
    ) -> Vec<String> {
        vec![
            format!("`{}`", stream.name),
            format!("`{}`", list.path),
            format!("`{}`", stream.key.join("`, `")),
            columns.to_string(),
            format!("{}{}", reads(lists, list), place(list)),
            deletions(lists, list).to_owned(),
            stream.note.to_owned(),
        ]
    }
}

/// What a sync reads of a list: besides it, there are the feed of changes, and what is looked at
/// again until it is final.
fn reads(lists: &[ListDef<Stripe>], list: &ListDef<Stripe>) -> &'static str {
    if list.is_whole(lists) {
        "everything"
    } else if heard().contains(list.name) || list.facts.settles.is_some() {
        "new and changed"
    } else {
        "new"
    }
}

/// Where a stream is read from, if the account has not one list of it.
fn place(list: &ListDef<Stripe>) -> String {
    let Some(parent) = list.parent else {
        return String::new();
    };
    match list.embedded {
        Some(member) => format!(", `{member}` of the `{}`, completed", parent.list),
        None if parent.filter.is_none() => format!(", one list for each of the `{}`", parent.list),
        None => format!(", one list for each of the `{}` that have one", parent.list),
    }
}

fn deletions(lists: &[ListDef<Stripe>], list: &ListDef<Stripe>) -> &'static str {
    let owner = list.parent.filter(|_| list.embedded.is_some());
    let told = owner.map_or(list.name, |owner| owner.list);
    if list.is_whole(lists) {
        "removed on the next full refresh"
    } else if tells_deletions(told) {
        "reported by the feed of changes"
    } else {
        "not visible"
    }
}
