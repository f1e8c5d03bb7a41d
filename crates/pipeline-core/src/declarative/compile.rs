//! Makes endpoints of a connector's table.

use super::list_def::{ListDef, ParentRef};
use super::stream_def::StreamDef;
use super::vendor::Vendor;
use crate::connector::{Deletes, EmbeddedList, Endpoint, Stream, SyncMode};
use crate::model::schema::Schema;

/// The endpoints that read the lists, in their order. A list that is embedded in the records of
/// another is read with that one.
///
/// # Panics
/// When a list names a parent that is not among the lists.
pub fn compile<V: Vendor>(lists: &[ListDef<V>], vendor: &V) -> Vec<Endpoint> {
    let compiler = Compiler { lists, vendor };
    let requested = lists.iter().filter(|list| list.embedded.is_none());
    requested
        .map(|list| compiler.complete(list, compiler.endpoint(list)))
        .collect()
}

/// Reads the entries of a table with the vendor's words.
struct Compiler<'a, V: Vendor> {
    lists: &'a [ListDef<V>],
    vendor: &'a V,
}

impl<V: Vendor> Compiler<'_, V> {
    /// The endpoint of a list that is requested, without the lists inside its records.
    fn endpoint(&self, list: &ListDef<V>) -> Endpoint {
        let endpoint = self.request(list);
        let endpoint = match list.slices {
            Some(slices) => self.vendor.slices(list, slices, endpoint),
            None => endpoint,
        };
        let endpoint = match list.cursor {
            Some(cursor) => endpoint.cursor(cursor.field, cursor.format),
            None => endpoint,
        };
        let endpoint = match list.cache_pages {
            Some(keep) => endpoint.cache_pages(keep),
            None => endpoint,
        };
        let endpoint = match list.parent {
            Some(parent) => self.child(list, parent, endpoint),
            None => endpoint,
        };
        let endpoint = match list.mode {
            SyncMode::Incremental => endpoint.incremental(),
            SyncMode::FullRefresh => endpoint,
        };
        let endpoint = self.vendor.finish(list, ordered(list, endpoint));
        self.fed(list, endpoint.mode(), endpoint)
    }

    /// The requests of a list.
    fn request(&self, list: &ListDef<V>) -> Endpoint {
        let params = list.params.iter();
        let endpoint = params.fold(self.vendor.request(list), |endpoint, (name, value)| {
            endpoint.query(*name, *value)
        });
        if list.cost.is_empty() {
            endpoint
        } else {
            endpoint.buckets(list.cost.iter().copied())
        }
    }

    /// The endpoint as it is read for each record of its parent.
    fn child(&self, list: &ListDef<V>, parent: ParentRef, endpoint: Endpoint) -> Endpoint {
        let walked = self.vendor.parent(list, *self.find(list, parent));
        let endpoint = endpoint.child_of(self.endpoint(&walked));
        let endpoint = match parent.filter {
            Some(filter) => endpoint.parent_filter(filter),
            None => endpoint,
        };
        let endpoint = if parent.cascade_delete {
            endpoint.cascade_delete()
        } else {
            endpoint
        };
        let included = parent.include.iter();
        included.fold(endpoint, |endpoint, (member, name)| {
            endpoint.include_from_parent(member, name)
        })
    }

    fn find(&self, list: &ListDef<V>, parent: ParentRef) -> &ListDef<V> {
        let found = self.lists.iter().find(|known| known.name == parent.list);
        found.unwrap_or_else(|| {
            unreachable!(
                "`{}` belongs to the unknown list `{}`",
                list.name, parent.list
            )
        })
    }

    /// Feeds the streams of a list that is read in this mode.
    fn fed(&self, list: &ListDef<V>, mode: SyncMode, endpoint: Endpoint) -> Endpoint {
        list.streams.iter().fold(endpoint, |endpoint, def| {
            endpoint
                .records(def.records.unwrap_or(list.records))
                .stream(self.stream(list, def, mode))
        })
    }

    fn stream(&self, list: &ListDef<V>, def: &StreamDef<V>, mode: SyncMode) -> Stream {
        let deletes = def.deletes.unwrap_or(match mode {
            SyncMode::FullRefresh => Deletes::BySnapshot,
            SyncMode::Incremental => Deletes::Invisible,
        });
        let stream = Stream::new(def.name, def.schema())
            .primary_key(def.key.iter().copied())
            .transform(def.transform)
            .deletes(deletes);
        self.vendor.stream(list, def, stream)
    }

    /// Adds the lists inside the records of a list.
    fn complete(&self, owner: &ListDef<V>, endpoint: Endpoint) -> Endpoint {
        self.lists.iter().fold(endpoint, |endpoint, list| {
            match (list.parent, list.embedded) {
                (Some(parent), Some(member)) if parent.list == owner.name => {
                    self.embed(owner, list, (parent, member), endpoint)
                }
                _ => endpoint,
            }
        })
    }

    fn embed(
        &self,
        owner: &ListDef<V>,
        list: &ListDef<V>,
        (parent, member): (ParentRef, &'static str),
        endpoint: Endpoint,
    ) -> Endpoint {
        let rest = self.vendor.finish(list, self.request(list));
        let rest = if list.streams.is_empty() {
            let entries = Stream::new(list.name, Schema::default()).primary_key(["id"]);
            rest.records(list.records).stream(entries)
        } else {
            self.fed(list, endpoint.mode(), rest)
        };
        let embedded = self.vendor.embedded(owner, list, member, rest);
        let included = parent.include.iter();
        let embedded = included.fold(embedded, |embedded: EmbeddedList, (member, name)| {
            embedded.include_from_parent(member, name)
        });
        if list.streams.is_empty() {
            endpoint.complete_embedded(embedded)
        } else {
            endpoint.stream_embedded(embedded)
        }
    }
}

/// Says when the endpoint is read.
fn ordered<V: Vendor>(list: &ListDef<V>, endpoint: Endpoint) -> Endpoint {
    let endpoint = if list.opt_in {
        endpoint.opt_in()
    } else {
        endpoint
    };
    if list.corrects {
        endpoint.corrects()
    } else {
        endpoint
    }
}

#[cfg(test)]
mod tests;
