//! One list of a vendor's API as data.

use super::stream_def::StreamDef;
use super::vendor::Vendor;
use crate::connector::{Cursor, ParentMap, SyncMode};
use crate::error::Error;
use crate::model::record::RawRecord;
use crate::model::schema::TimeFormat;

/// A list that is requested once, however many streams it feeds: an entry of a connector's table.
///
/// Made of constants alone, so that a table is a `const`. [`compile`](super::compile::compile)
/// makes an [`Endpoint`](crate::Endpoint) of it.
#[derive(Debug)]
pub struct ListDef<V: Vendor> {
    /// The endpoint's name: a key of its state, so it never changes.
    pub name: &'static str,
    /// Path of the list. `{member}` is replaced by that member of the parent's record.
    pub path: &'static str,
    /// Where the records are in a response, see [`RecordPath`](crate::RecordPath). Default: the
    /// response itself.
    pub records: &'static str,
    /// The streams that it feeds.
    pub streams: &'static [StreamDef<V>],
    /// How its pages follow each other. Default: [`Vendor::PAGES`].
    pub pages: V::Pages,
    /// How it is cut into slices. Default: it is one slice.
    pub slices: Option<V::Slices>,
    /// How it is read from one sync to the next. Default: every sync reads all of it, or, where it
    /// is [read for each record](Self::child_of) of another list, as that one is read.
    pub mode: SyncMode,
    /// The member that orders its records in time.
    pub cursor: Option<Cursor>,
    /// Parameters of every request.
    pub params: &'static [(&'static str, &'static str)],
    /// The limits that a request counts against, the narrowest first. Default: what the vendor's
    /// requests have.
    pub cost: &'static [&'static str],
    /// The list whose records have such a list each.
    pub parent: Option<ParentRef>,
    /// The member of the parent's records that holds the beginning of the list. Default: the list
    /// is requested.
    pub embedded: Option<&'static str>,
    /// What the lists of its records need of a record, which makes them share its pages.
    pub cache_pages: Option<ParentMap>,
    /// What must be there before it can be read.
    pub requires: &'static [V::Requires],
    /// Whether it is read only when a stream of it is named in the configuration.
    pub opt_in: bool,
    /// Whether it is read after all others, and corrects what they fed into its streams.
    pub corrects: bool,
    /// What only this vendor's lists have. Default: [`Vendor::LIST`].
    pub facts: V::List,
}

impl<V: Vendor> Clone for ListDef<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: Vendor> Copy for ListDef<V> {}

/// The list that another one belongs to.
#[derive(Clone, Copy, Debug)]
pub struct ParentRef {
    /// Name of the list.
    pub list: &'static str,
    /// Which of its records have a list worth a request. Default: all.
    pub filter: Option<fn(&RawRecord) -> bool>,
    /// Members of the parent that every record of the list gets: the parent's name of it, and the
    /// child's.
    pub include: &'static [(&'static str, &'static str)],
    /// Whether every row of a parent goes when its list is not found.
    pub cascade_delete: bool,
}

impl ParentRef {
    /// The list of this name.
    pub const fn to(list: &'static str) -> Self {
        Self {
            list,
            filter: None,
            include: &[],
            cascade_delete: false,
        }
    }

    /// Passes over the records that have no such list.
    pub const fn filter(mut self, filter: fn(&RawRecord) -> bool) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Copies members of the parent into every record, unless they have a value of that name.
    pub const fn include(mut self, members: &'static [(&'static str, &'static str)]) -> Self {
        self.include = members;
        self
    }

    /// Every row of a parent goes when its list is not found.
    pub const fn cascade_delete(mut self) -> Self {
        self.cascade_delete = true;
        self
    }
}

impl<V: Vendor> ListDef<V> {
    /// A list that every sync reads whole.
    pub const fn get(name: &'static str, path: &'static str) -> Self {
        Self {
            name,
            path,
            records: "",
            streams: &[],
            pages: V::PAGES,
            slices: None,
            mode: SyncMode::FullRefresh,
            cursor: None,
            params: &[],
            cost: &[],
            parent: None,
            embedded: None,
            cache_pages: None,
            requires: &[],
            opt_in: false,
            corrects: false,
            facts: V::LIST,
        }
    }

    /// Where the records are in a response.
    pub const fn records(mut self, path: &'static str) -> Self {
        self.records = path;
        self
    }

    /// The streams that it feeds. Paginators see the records of the first.
    pub const fn streams(mut self, streams: &'static [StreamDef<V>]) -> Self {
        self.streams = streams;
        self
    }

    /// How its pages follow each other.
    pub const fn pages(mut self, pages: V::Pages) -> Self {
        self.pages = pages;
        self
    }

    /// How it is cut into slices.
    pub const fn slices(mut self, slices: V::Slices) -> Self {
        self.slices = Some(slices);
        self
    }

    /// Every sync reads all of it, so that what is missing is gone. The default.
    pub const fn full_refresh(mut self) -> Self {
        self.mode = SyncMode::FullRefresh;
        self
    }

    /// A sync reads what is new since the last.
    pub const fn incremental(mut self) -> Self {
        self.mode = SyncMode::Incremental;
        self
    }

    /// The member that orders its records in time.
    pub const fn cursor(mut self, field: &'static str, format: TimeFormat) -> Self {
        self.cursor = Some(Cursor { field, format });
        self
    }

    /// Parameters of every request.
    pub const fn params(mut self, params: &'static [(&'static str, &'static str)]) -> Self {
        self.params = params;
        self
    }

    /// The limits that a request counts against, the narrowest first.
    pub const fn cost(mut self, buckets: &'static [&'static str]) -> Self {
        self.cost = buckets;
        self
    }

    /// Requests the list once for every record of another one.
    pub const fn child_of(mut self, parent: ParentRef) -> Self {
        self.parent = Some(parent);
        self
    }

    /// The list is in a member of the parent's records, which have its beginning at least: it is
    /// completed from its path, and feeds its streams from the parent's pages. Without streams the
    /// member is completed in the parent's records only; its entries are told apart by `id`.
    pub const fn embedded_in(mut self, parent: ParentRef, member: &'static str) -> Self {
        self.parent = Some(parent);
        self.embedded = Some(member);
        self
    }

    /// Requests every page once in a run, for itself and for the lists of its records, which get
    /// what `keep` makes of a record; none for a record that has no list worth a request.
    pub const fn cache_pages(mut self, keep: ParentMap) -> Self {
        self.cache_pages = Some(keep);
        self
    }

    /// What must be there before it can be read, in the order in which it is reported.
    pub const fn requires(mut self, requires: &'static [V::Requires]) -> Self {
        self.requires = requires;
        self
    }

    /// Read only when a stream of it is named in the configuration.
    pub const fn opt_in(mut self) -> Self {
        self.opt_in = true;
        self
    }

    /// Read after all other lists, as it corrects what they fed into its streams.
    pub const fn corrects(mut self) -> Self {
        self.corrects = true;
        self
    }

    /// What only this vendor's lists have.
    pub const fn facts(mut self, facts: V::List) -> Self {
        self.facts = facts;
        self
    }

    /// Whether every sync reads all of it, as the list does that it belongs to.
    pub fn is_whole(&self, lists: &[Self]) -> bool {
        let parent = || {
            let parent = self.parent?;
            lists.iter().find(|list| list.name == parent.list)
        };
        self.mode == SyncMode::FullRefresh && parent().is_none_or(|list| list.is_whole(lists))
    }

    /// Why it cannot be read as configured; none: it can.
    pub fn unmet(&self, vendor: &V) -> Option<Error> {
        self.requires
            .iter()
            .find_map(|requires| vendor.missing(self, *requires))
    }
}
