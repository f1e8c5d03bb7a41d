//! The table of streams, by family, and the endpoints that are made of it.

mod help_center;
mod people;
mod rules;
mod talk;
mod tickets;

use std::borrow::Cow;
use std::time::Duration;

use pipeline_core::Endpoint;
use pipeline_core::paginate::Counted;
use url::Url;

pub use self::talk::TALK;
use crate::pages::{LARGEST_PAGE, PER_PAGE, Pages};
use crate::rates::is_help_center;
use crate::slices::{ExportStart, Filter, Filtered};
use crate::table::{List, Parent, Reads, Rows, Walk};
use crate::{brands, forget};

/// Everything that is read, by family, in the order in which it is worth reading: what the scarce
/// budget of exports pays for comes first.
pub const FAMILIES: [(&str, &[List]); 5] = [
    ("Tickets", tickets::LISTS),
    ("People, groups and the account", people::LISTS),
    ("Business rules", rules::LISTS),
    ("Talk", talk::LISTS),
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
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for list in lists().filter(|list| !is_help_center(list.path)) {
        let endpoint = endpoint(list, list.name, list.path, export_page_size);
        endpoints.push(with_parent(endpoint, list, &endpoints));
    }
    endpoints.extend(help_center(None));
    let kinds = custom_objects.iter().map(|key| {
        let list = &people::CUSTOM_OBJECT_RECORDS;
        endpoint(
            list,
            custom_object(key),
            list.path.replace(KIND, key),
            export_page_size,
        )
    });
    endpoints.extend(kinds);
    if let Some(list) = lists().find(|list| list.name == forget::LIST) {
        let export = List {
            streams: &[],
            shared: None,
            cursor: None,
            ..*list
        };
        let forgotten = forget::endpoints(&endpoints, |name| {
            endpoint(&export, name, list.path, export_page_size)
        });
        endpoints.extend(forgotten);
    }
    endpoints
}

/// The host of a brand's Help Center, and the name of the endpoint that reads a list there.
pub(crate) type OfBrand<'a> = (&'a Url, &'a dyn Fn(&str) -> String);

/// Every endpoint of a Help Center: that of the account's host, or a brand's.
pub(crate) fn help_center(brand: Option<OfBrand<'_>>) -> Vec<Endpoint> {
    let read = |list: &List| match brand {
        None => endpoint(list, list.name, list.path, LARGEST_PAGE),
        Some((host, name)) => endpoint(list, name(list.name), list.path, LARGEST_PAGE)
            .base(host.clone())
            .found(),
    };
    let parents: Vec<Endpoint> = help_center::PARENTS.iter().map(read).collect();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for list in help_center::LISTS {
        let known: Vec<Endpoint> = endpoints.iter().chain(&parents).cloned().collect();
        endpoints.push(with_parent(read(list), list, &known));
    }
    endpoints
}

/// Whether an endpoint reads a Help Center.
pub(crate) fn is_of_help_center(endpoint: &Endpoint) -> bool {
    is_help_center(endpoint.path())
}

/// The endpoint as it is read for each record of its parent, if it has one, which is among `known`.
/// A run requests the pages of both once, as they have one name and one path.
fn with_parent(endpoint: Endpoint, list: &List, known: &[Endpoint]) -> Endpoint {
    let Some(parent) = list.parent else {
        return endpoint;
    };
    let is_parent = |known: &&Endpoint| known.name().split(brands::OF).next() == Some(parent.list);
    let parents = known
        .iter()
        .find(is_parent)
        .unwrap_or_else(|| unreachable!("`{}` stands before its children", parent.list));
    child(endpoint, parent, parents.clone())
}

/// The endpoint, and the stream, of one kind of custom object.
pub(crate) fn custom_object(key: &str) -> String {
    format!("custom_object_{key}")
}

/// The list of the fields of one kind of custom object.
pub(crate) fn custom_object_fields(key: &str) -> Endpoint {
    let list = &people::CUSTOM_OBJECT_FIELDS;
    endpoint(
        list,
        format!("custom_object_{key}_fields"),
        list.path.replace(KIND, key),
        LARGEST_PAGE,
    )
}

fn child(endpoint: Endpoint, parent: Parent, parents: Endpoint) -> Endpoint {
    let endpoint = endpoint.for_each(parents);
    let endpoint = match parent.when {
        Some(when) => endpoint.when(when),
        None => endpoint,
    };
    let endpoint = if parent.owns {
        endpoint.cascade_delete()
    } else {
        endpoint
    };
    parent
        .inherit
        .iter()
        .fold(endpoint, |endpoint, (member, name)| {
            endpoint.inherit(member, name)
        })
}

/// An endpoint of a list. Where there is one for each kind of object, its stream has the endpoint's
/// name.
fn endpoint(
    list: &List,
    name: impl Into<Cow<'static, str>>,
    path: impl Into<Cow<'static, str>>,
    export_page_size: u32,
) -> Endpoint {
    let name = name.into();
    let pages = Pages::new(list.walk, lookback(list.reads));
    let endpoint = Endpoint::get(name.clone(), path);
    let mut endpoint = if is_counted(list) {
        endpoint.paginate(Counted::new(pages, COUNT))
    } else {
        endpoint.paginate(pages)
    };
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
        Reads::Created => endpoint
            .slices(Filtered::new(Filter::Created))
            .incremental(),
        Reads::Windows => endpoint
            .slices(Filtered::new(Filter::StartEnd))
            .incremental(),
        Reads::Since => endpoint.slices(Filtered::new(Filter::Since)).incremental(),
        Reads::Search => endpoint.slices(Filtered::new(Filter::Search)).incremental(),
        Reads::NewestFirst => endpoint
            .slices(Filtered::new(Filter::Unfiltered))
            .newest_first()
            .incremental(),
        Reads::Everything | Reads::Parents => endpoint,
    };
    // The narrowest limit comes first.
    endpoint = list
        .limits
        .iter()
        .rev()
        .fold(endpoint, |endpoint, limit| endpoint.bucket(*limit));
    if let Some((field, format)) = list.cursor {
        endpoint = endpoint.cursor(field, format);
    }
    if list.by_name {
        endpoint = endpoint.opt_in();
    }
    if list.last {
        endpoint = endpoint.corrects();
    }
    if let Some(keep) = list.shared {
        endpoint = endpoint.shared(keep);
    }
    list.streams.iter().fold(endpoint, |endpoint, known| {
        let name = if list.path.contains(KIND) {
            name.clone()
        } else {
            Cow::Borrowed(known.name)
        };
        endpoint.feeds(known.definition(name, is_whole(list)), known.records)
    })
}

/// What stands for the kind of object in a path.
const KIND: &str = "{custom_object_key}";

/// The member of an answer that tells how many records the list has.
const COUNT: &str = "count";

/// Whether `count` is that of the whole list: exports count a page. Pages by cursor count nothing,
/// unless the server numbers them after all.
fn is_counted(list: &List) -> bool {
    let is_whole_list = matches!(list.reads, Reads::Everything | Reads::Parents);
    is_whole_list
        && list
            .streams
            .iter()
            .all(|stream| !matches!(stream.rows, Rows::Expand(_)))
}

/// True when every sync reads everything, so that what is missing is gone.
pub fn is_whole(list: &List) -> bool {
    let parent = || {
        lists()
            .chain(help_center::PARENTS)
            .find(|known| list.parent.is_some_and(|parent| parent.list == known.name))
    };
    list.reads == Reads::Everything || parent().is_some_and(is_whole)
}

fn lookback(reads: Reads) -> Duration {
    match reads {
        Reads::Changes(lookback) => lookback,
        _ => Duration::ZERO,
    }
}
