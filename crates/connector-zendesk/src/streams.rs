//! The tables of lists, by family, and the endpoints that are made of them.

mod help_center;
mod people;
mod rules;
mod talk;
mod tickets;

use pipeline_core::Endpoint;
use pipeline_core::declarative::{ListDef, compile};
use url::Url;

pub use self::help_center::PARENTS;
pub use self::talk::TALK;
use crate::forget;
use crate::pages::LARGEST_PAGE;
use crate::rates::is_help_center;
use crate::vendor::Zendesk;

/// Everything that is read, by family, in the order in which it is worth reading: what the scarce
/// budget of exports pays for comes first.
pub const FAMILIES: &[(&str, &[ListDef<Zendesk>])] = &[
    ("Tickets", tickets::LISTS),
    ("People, groups and the account", people::LISTS),
    ("Business rules", rules::LISTS),
    ("Talk", talk::LISTS),
    ("Help Center and Community", help_center::LISTS),
];

/// Lists that have a kind of object each: one more for every kind that is configured.
pub const BY_KIND: &[ListDef<Zendesk>] = &[people::CUSTOM_OBJECT_RECORDS];

/// Every list of the tables.
pub(crate) fn lists() -> impl Iterator<Item = &'static ListDef<Zendesk>> {
    FAMILIES.iter().flat_map(|(_, lists)| *lists)
}

/// Every endpoint, and one for each kind of custom object whose records are wanted.
pub(crate) fn endpoints(export_page_size: u32, custom_objects: &[String]) -> Vec<Endpoint> {
    let account = Zendesk::account(export_page_size);
    let (help_center, support): (Vec<_>, Vec<_>) =
        lists().copied().partition(|list| is_help_center(list.path));
    let mut endpoints = compile(&support, &account);
    endpoints.extend(of_help_center(&help_center, &account));
    let kinds = custom_objects.iter();
    endpoints.extend(kinds.flat_map(|key| compile(BY_KIND, &account.clone().kind(key))));
    let export = tickets::LISTS
        .iter()
        .filter(|list| list.name == forget::LIST);
    let export: Vec<_> = export.map(without_streams).collect();
    for export in compile(&export, &account) {
        endpoints.extend(forget::endpoints(&endpoints, &export));
    }
    endpoints
}

/// The requests of a list, and nothing that is kept of their answers.
fn without_streams(list: &ListDef<Zendesk>) -> ListDef<Zendesk> {
    ListDef {
        streams: &[],
        cache_pages: None,
        cursor: None,
        ..*list
    }
}

/// Every endpoint of the Help Center of a brand, on its own host.
pub(crate) fn help_center(brand: String, host: Url) -> Vec<Endpoint> {
    of_help_center(help_center::LISTS, &Zendesk::brand(brand, host))
}

/// The endpoints of a Help Center, without those that are read for their children only. A run
/// requests the pages of a list and of its children's walk once, as they have one name and path.
fn of_help_center(lists: &[ListDef<Zendesk>], zendesk: &Zendesk) -> Vec<Endpoint> {
    let known = [PARENTS, lists].concat();
    compile(&known, zendesk).split_off(PARENTS.len())
}

/// Whether an endpoint reads a Help Center.
pub(crate) fn is_of_help_center(endpoint: &Endpoint) -> bool {
    is_help_center(endpoint.path())
}

/// The endpoint, and the stream, of one kind of custom object.
pub(crate) fn custom_object(key: &str) -> String {
    format!("custom_object_{key}")
}

/// The list of the fields of one kind of custom object.
pub(crate) fn custom_object_fields(key: &str) -> Endpoint {
    let zendesk = Zendesk::account(LARGEST_PAGE).kind(key);
    compile(&[people::CUSTOM_OBJECT_FIELDS], &zendesk).remove(0)
}
