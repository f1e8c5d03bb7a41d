//! The tables of lists, in the order in which they are worth reading: what costs the hourly budget
//! least comes first.

mod app;
mod events;
mod queries;
mod reports;

use pipeline_core::declarative::ListDef;

use crate::vendor::Mixpanel;

/// Everything that is read.
pub const FAMILIES: &[&[ListDef<Mixpanel>]] =
    &[events::LISTS, queries::LISTS, reports::LISTS, app::LISTS];

/// Every list of the tables.
pub(crate) fn lists() -> impl Iterator<Item = &'static ListDef<Mixpanel>> {
    FAMILIES.iter().copied().flatten()
}

/// A list by its name, which is that of its endpoint.
pub(crate) fn list(name: &str) -> Option<&'static ListDef<Mixpanel>> {
    lists().find(|list| list.name == name)
}
