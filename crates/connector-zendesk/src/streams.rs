//! The table of streams, by family, and the endpoints that are made of it.

mod help_center;
mod people;
mod rules;
mod talk;
mod tickets;

use std::borrow::Cow;
use std::time::Duration;

use pipeline_core::Endpoint;

pub use self::talk::TALK;
use crate::pages::{PER_PAGE, Pages};
use crate::slices::{ExportStart, Filter, Filtered};
use crate::table::{List, Reads, Walk};

/// Everything that is read, by family, in the order in which it is worth reading: what the scarce budget of exports pays
/// for comes first.
pub const FAMILIES: [(&str, &[List]); 4] = [
    ("Tickets", tickets::LISTS),
    ("People, groups and the account", people::LISTS),
    ("Business rules", rules::LISTS),
    ("Help Center and Community", help_center::LISTS),
];

/// Lists that have a kind of object each: one more for every kind that is configured.
pub const BY_KIND: &[List] = &[people::CUSTOM_OBJECT_RECORDS];

/// Every list of the table.
pub fn lists() -> impl Iterator<Item = &'static List> {
    FAMILIES.into_iter().flat_map(|(_, lists)| lists)
}

/// Every endpoint, and one for each kind of custom object whose records are wanted.
pub(crate) fn endpoints(export_page_size: u32, custom_objects: &[String]) -> Vec<Endpoint> {
    let records = custom_objects.iter().map(|key| {
        let name = format!("custom_object_{key}");
        let path = people::CUSTOM_OBJECT_RECORDS.path.replace("{custom_object_key}", key);
        endpoint(&people::CUSTOM_OBJECT_RECORDS, name.clone(), path, Some(name), export_page_size)
    });
    lists().filter(|list| list.parent.is_none()).map(|list| of(list, export_page_size)).chain(records).collect()
}

/// The endpoint of a list in the table.
fn of(list: &'static List, export_page_size: u32) -> Endpoint {
    let endpoint = endpoint(list, list.name, list.path, None, export_page_size);
    let Some(parent) = list.parent else { return endpoint };
    let known = || lists().chain(help_center::PARENTS).find(|known| known.name == parent.list);
    let parents = of(known().unwrap_or_else(|| unreachable!("`{}` is a list of the table", parent.list)), export_page_size);
    let _ = parents;
    endpoint
}

/// An endpoint of a list, possibly under another name.
fn endpoint(
    list: &'static List,
    name: impl Into<Cow<'static, str>>,
    path: impl Into<Cow<'static, str>>,
    stream: Option<String>,
    export_page_size: u32,
) -> Endpoint {
    let mut endpoint = Endpoint::get(name, path).paginate(Pages::new(list.walk, lookback(list.reads)));
    for (name, value) in list.query {
        endpoint = endpoint.query(*name, *value);
    }
    endpoint = match list.walk {
        Walk::CursorExport | Walk::TimeExport => endpoint.page_size(PER_PAGE, export_page_size),
        Walk::Cursor(size) => endpoint.page_size("page[size]", size),
        Walk::Numbered => endpoint.page_size(PER_PAGE, 100),
        Walk::TimePages | Walk::CursorFeed | Walk::Once => endpoint,
    };
    endpoint = match list.reads {
        Reads::Changes(_) if list.walk == Walk::CursorFeed => endpoint.incremental(),
        Reads::Changes(_) => endpoint.slices(ExportStart::new()).incremental(),
        Reads::Created => endpoint.slices(Filtered::new(Filter::Created)).incremental(),
        Reads::Windows => endpoint.slices(Filtered::new(Filter::StartEnd)).incremental(),
        Reads::Since => endpoint.slices(Filtered::new(Filter::Since)).incremental(),
        Reads::Search => endpoint.slices(Filtered::new(Filter::Search)).incremental(),
        Reads::NewestFirst => endpoint.slices(Filtered::new(Filter::Unfiltered)).newest_first().incremental(),
        Reads::Everything | Reads::Parents => endpoint,
    };
    // The narrowest limit comes first.
    endpoint = list.limits.iter().rev().fold(endpoint, |endpoint, limit| endpoint.bucket(*limit));
    if let Some((field, format)) = list.cursor {
        endpoint = endpoint.cursor(field, format);
    }
    if list.by_name {
        endpoint = endpoint.by_name();
    }
    list.streams.iter().fold(endpoint, |endpoint, known| {
        let name = stream.clone().map_or(Cow::Borrowed(known.name), Cow::Owned);
        endpoint.feeds(known.definition(name, list.reads), known.records)
    })
}

fn lookback(reads: Reads) -> Duration {
    match reads {
        Reads::Changes(lookback) => lookback,
        _ => Duration::ZERO,
    }
}
