//! What the connector's README says of a stream.

use connector_zendesk::tables::{FAMILIES, PARENTS, Zendesk};
use pipeline_core::declarative::{ListDef, StreamDef};
use pipeline_core::{Deletes, SyncMode};

use super::super::Result;
use super::super::readme::{self, Documented};

/// The README with other tables, one for each family.
pub(super) fn with_tables(text: &str) -> Result<String> {
    let known = FAMILIES.iter().map(|(_, lists)| *lists).chain([PARENTS]);
    let known = known.collect::<Vec<_>>().concat();
    let tables: Vec<String> = FAMILIES
        .iter()
        .map(|(family, lists)| {
            format!(
                "### {family}\n\n{}",
                readme::table(&known, lists, readme::declared)
            )
        })
        .collect();
    readme::with_tables::<Zendesk>(text, &tables.join("\n"))
}

impl Documented for Zendesk {
    const NAME: &'static str = "zendesk";

    const HEAD: &'static [&'static str] = &[
        "Stream",
        "Request",
        "A sync reads",
        "Key",
        "Deletions",
        "Columns",
        "Note",
    ];

    fn cells(
        lists: &[ListDef<Self>],
        list: &ListDef<Self>,
        stream: &StreamDef<Self>,
        columns: usize,
    ) -> Vec<String> {
        let first = list.streams[0].name;
        let request = if stream.name == first {
            format!("`{}`", list.path.trim_start_matches("/api/v2/"))
        } else {
            format!("the same as `{first}`")
        };
        vec![
            format!("`{}`", stream.name),
            request,
            reads(list),
            stream.key.join(", "),
            deletions(lists, list, stream),
            columns.to_string(),
            stream.note.to_owned(),
        ]
    }
}

fn reads(list: &ListDef<Zendesk>) -> String {
    match (list.parent, list.mode) {
        (Some(parent), _) => format!("for each of `{}`", parent.list),
        (None, SyncMode::FullRefresh) => "everything".to_owned(),
        (None, SyncMode::Incremental) => "changes".to_owned(),
    }
}

fn deletions(
    lists: &[ListDef<Zendesk>],
    list: &ListDef<Zendesk>,
    stream: &StreamDef<Zendesk>,
) -> String {
    match stream.deletes {
        Some(Deletes::Marked { field, value }) => format!("`{field}` = `{value}`"),
        Some(Deletes::Stamped { field }) => format!("`{field}` is set"),
        _ if list.is_whole(lists) => "removed on the next full refresh".to_owned(),
        _ => "not visible".to_owned(),
    }
}
