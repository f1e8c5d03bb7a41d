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
use crate::pages::{LARGEST_PAGE, PER_PAGE, Pages};
use crate::slices::{ExportStart, Filter, Filtered};
use crate::table::{List, Parent, Reads, Walk};

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
    let parents: Vec<Endpoint> = help_center::PARENTS.iter().map(|list| endpoint(list, list.name, list.path, export_page_size)).collect();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for list in lists() {
        let endpoint = endpoint(list, list.name, list.path, export_page_size);
        let endpoint = match list.parent {
            None => endpoint,
            // Clones of an endpoint share its pages, so the parents' list must be the very one that is read for itself.
            Some(parent) => {
                let known = endpoints.iter().chain(&parents).find(|known| known.name() == parent.list);
                child(endpoint, parent, known.unwrap_or_else(|| unreachable!("`{}` stands before its children", parent.list)).clone())
            }
        };
        endpoints.push(endpoint);
    }
    let kinds = custom_objects.iter().map(|key| {
        let list = &people::CUSTOM_OBJECT_RECORDS;
        endpoint(list, custom_object(key), list.path.replace("{custom_object_key}", key), export_page_size)
    });
    endpoints.extend(kinds);
    endpoints
}

/// The endpoint, and the stream, of one kind of custom object.
pub(crate) fn custom_object(key: &str) -> String {
    format!("custom_object_{key}")
}

/// The list of the fields of one kind of custom object.
pub(crate) fn custom_object_fields(key: &str) -> Endpoint {
    let list = &people::CUSTOM_OBJECT_FIELDS;
    endpoint(list, format!("custom_object_{key}_fields"), list.path.replace("{custom_object_key}", key), LARGEST_PAGE)
}

fn child(endpoint: Endpoint, parent: Parent, parents: Endpoint) -> Endpoint {
    let endpoint = endpoint.for_each(parents);
    let endpoint = match parent.when {
        Some(when) => endpoint.when(when),
        None => endpoint,
    };
    let endpoint = if parent.owns { endpoint.gone_with_parent() } else { endpoint };
    parent.inherit.iter().fold(endpoint, |endpoint, (member, name)| endpoint.inherit(member, name))
}

/// An endpoint of a list. Under another name than the list's its stream has that name.
fn endpoint(
    list: &'static List,
    name: impl Into<Cow<'static, str>>,
    path: impl Into<Cow<'static, str>>,
    export_page_size: u32,
) -> Endpoint {
    let name = name.into();
    let mut endpoint = Endpoint::get(name.clone(), path).paginate(Pages::new(list.walk, lookback(list.reads)));
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
    if list.last {
        endpoint = endpoint.last();
    }
    if let Some(keep) = list.shared {
        endpoint = endpoint.shared(keep);
    }
    list.streams.iter().fold(endpoint, |endpoint, known| {
        let name = if name == list.name { Cow::Borrowed(known.name) } else { name.clone() };
        endpoint.feeds(known.definition(name, is_whole(list)), known.records)
    })
}

/// True when every sync reads everything, so that what is missing is gone.
pub fn is_whole(list: &List) -> bool {
    let parent = || lists().chain(help_center::PARENTS).find(|known| list.parent.is_some_and(|parent| parent.list == known.name));
    list.reads == Reads::Everything || parent().is_some_and(is_whole)
}

fn lookback(reads: Reads) -> Duration {
    match reads {
        Reads::Changes(lookback) => lookback,
        _ => Duration::ZERO,
    }
}
