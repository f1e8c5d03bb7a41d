//! The tables of lists, by product of Stripe's, and the endpoints that are made of them.
//!
//! Each list feeds one stream, which has its name; or none, when it is inside objects and completed
//! in them only.

mod billing;
mod connect;
mod issuing;
mod other;
mod paths;
mod payments;
#[cfg(test)]
mod tests;
mod treasury;

use pipeline_core::Endpoint;
use pipeline_core::TimeFormat::UnixSeconds;
use pipeline_core::declarative::{ListDef, compile};

pub(crate) use self::paths::{belongs_to_record, is_of_account, is_of_one_record, template};
use crate::vendor::{Slices, Stripe};

/// Every list, by product of Stripe's.
pub const FAMILIES: [&[ListDef<Stripe>]; 6] = [
    payments::LISTS,
    billing::LISTS,
    connect::LISTS,
    issuing::LISTS,
    treasury::LISTS,
    other::LISTS,
];

/// A list that every sync reads whole: it is short, people keep it, and its entries change and
/// disappear; or it belongs to an object.
const fn list(name: &'static str, path: &'static str) -> ListDef<Stripe> {
    ListDef::get(name, path).records("data")
}

/// A list of what happens, of which a sync reads what was created since the last.
const fn created(name: &'static str, path: &'static str) -> ListDef<Stripe> {
    list(name, path)
        .slices(Slices::Created)
        .cursor("created", UnixSeconds)
        .incremental()
}

/// A list of what people keep, which is read whatever its age: a subscription of today can have a
/// price of ten years ago.
const fn kept(name: &'static str, path: &'static str) -> ListDef<Stripe> {
    created(name, path).slices(Slices::Ever)
}

/// Every list of the tables.
pub fn lists() -> impl Iterator<Item = &'static ListDef<Stripe>> {
    FAMILIES.into_iter().flatten()
}

/// The lists that feed a stream.
pub fn streams() -> impl Iterator<Item = &'static ListDef<Stripe>> {
    lists().filter(|list| !list.streams.is_empty())
}

/// The list that feeds the stream of that name.
pub fn stream(name: &str) -> Option<&'static ListDef<Stripe>> {
    streams().find(|list| list.name == name)
}

/// The lists inside the objects of a list that feed a stream, and the member that each is in.
pub fn inside(
    list: &ListDef<Stripe>,
) -> impl Iterator<Item = (&'static ListDef<Stripe>, &'static str)> + use<> {
    let owner = list.name;
    let is_of_it =
        move |list: &&ListDef<Stripe>| list.parent.is_some_and(|parent| parent.list == owner);
    streams()
        .filter(is_of_it)
        .filter_map(|list| Some((list, list.embedded?)))
}

/// The list whose records have such a list each, for which one request at least is sent.
pub(crate) fn asked_for_each(list: &ListDef<Stripe>) -> Option<&'static str> {
    let parent = list.parent.filter(|_| list.embedded.is_none())?;
    Some(parent.list)
}

/// The column that names the record that a list belongs to.
pub fn owner(list: &ListDef<Stripe>) -> Option<&'static str> {
    let (_, column) = list.parent?.include.first()?;
    Some(column)
}

/// Path of the list that single objects are fetched from.
pub fn objects(list: &ListDef<Stripe>) -> &'static str {
    list.facts.objects.unwrap_or(list.path)
}

/// The endpoints that read every list, by name. The lists inside the objects of another one are
/// read with that.
pub(crate) fn endpoints(stripe: &Stripe) -> Vec<Endpoint> {
    let mut lists = FAMILIES.concat();
    lists.sort_by_key(|list| list.name);
    compile(&lists, stripe)
}
