//! The vocabulary of the table of streams: what is requested, and which quirks of a list must be
//! known to read all of it.

use std::borrow::Cow;
use std::time::Duration;

use pipeline_core::{
    DataType, Deletes, Field, ParentMap, RawRecord, Result, Schema, StreamDef, TimeFormat,
};

use crate::{brands, schemas};

/// One physical read: a list that is requested once, however many streams it feeds.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The endpoint's name, a key of its state.
    pub name: &'static str,
    /// Path of the list. `{member}` is replaced by that member of the parent's record.
    pub path: &'static str,
    /// How its pages follow each other.
    pub walk: Walk,
    /// What a sync reads of it.
    pub reads: Reads,
    /// The limits that it counts against.
    pub limits: &'static [&'static str],
    /// Parameters of every request.
    pub query: &'static [(&'static str, &'static str)],
    /// The member that orders its records in time.
    pub cursor: Option<(&'static str, TimeFormat)>,
    /// The list whose every record has a list of its own.
    pub parent: Option<Parent>,
    /// What the lists of its records need of a record, which makes them share its pages. None for a
    /// record that has no list worth a request.
    pub shared: Option<ParentMap>,
    /// Read only when a stream of it is named in the configuration.
    pub by_name: bool,
    /// Read when everything else is: it corrects what other lists feed into the same streams.
    pub last: bool,
    /// The streams that it feeds.
    pub streams: &'static [Stream],
}

/// How the pages of a list are asked for. What an answer says decides how they follow each other,
/// whatever this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// An incremental export by cursor, up to 1,000 records a page.
    CursorExport,
    /// An incremental export by time, up to 1,000 records a page.
    TimeExport,
    /// An export by time whose pages have a size of their own.
    TimePages,
    /// A feed of changes by a cursor that the first request lacks.
    CursorFeed,
    /// Cursor pages of this many records, 100 at most for nearly all lists.
    Cursor(u32),
    /// Numbered pages of 100 records, 10,000 records at most.
    Numbered,
    /// One answer. If it says that it goes on, the rest is read as well.
    Once,
}

/// What a sync reads of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// What changed since the last sync, from where that ended. Times are read again from this much
    /// earlier.
    Changes(Duration),
    /// What was created, by a range of two values of `filter[created_at][]`.
    Created,
    /// What changed, by windows between `start_time` and `end_time`.
    Windows,
    /// What changed, by `since`.
    Since,
    /// What changed, by a query of the search index.
    Search,
    /// What changed: the list comes newest first, and is read until it is older than the last sync.
    NewestFirst,
    /// Everything, so that what is missing is gone.
    Everything,
    /// What the parent's records ask for.
    Parents,
}

/// The list that a child is read for, and how.
#[derive(Clone, Copy, Debug)]
pub struct Parent {
    /// Name of the parent list.
    pub list: &'static str,
    /// Which of its records have children worth a request.
    pub when: Option<fn(&RawRecord) -> bool>,
    /// The parent's members that every child record gets: the parent's name of it and the child's.
    pub inherit: &'static [(&'static str, &'static str)],
    /// Whether every row of a parent goes when its list is not found.
    pub owns: bool,
}

/// One stream of a list.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// The stream's name.
    pub name: &'static str,
    /// Where its records stand in an answer.
    pub records: &'static str,
    /// Where its columns come from.
    pub columns: Columns,
    /// Columns that the columns' source does not know.
    pub added: &'static [Field],
    /// Members that the vendor sends and nobody gets: copies of others, and secrets.
    pub without: &'static [&'static str],
    /// Members that identify a record.
    pub key: &'static [&'static str],
    /// Whether every brand's Help Center has such records of its own, so that a column says whose
    /// they are.
    pub by_brand: bool,
    /// What a deletion looks like.
    pub deletes: Deletes,
    /// Makes the rows of what stands at `records`.
    pub rows: Rows,
    /// What the endpoint hides, and what a reader of the data must know.
    pub note: &'static str,
}

/// Where the columns of a stream come from.
#[derive(Clone, Copy, Debug)]
pub enum Columns {
    /// The vendor's OpenAPI file describes them with the list.
    Listed,
    /// The vendor's OpenAPI file describes them with another list: its path, and the member that
    /// holds the records.
    Of(&'static str, &'static str),
    /// Written by hand, where the vendor's file is wrong or silent.
    Hand(&'static [Field]),
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// A row as it is.
    Same,
    /// One other record.
    Map(fn(&RawRecord) -> Result<RawRecord>),
    /// Any number of records.
    Expand(fn(&RawRecord) -> Result<Vec<RawRecord>>),
}

/// A list that every sync reads whole, of the family of most: cursor pages of 100 with an `id`.
pub(crate) const fn list(
    name: &'static str,
    path: &'static str,
    streams: &'static [Stream],
) -> List {
    List {
        name,
        path,
        walk: Walk::Cursor(100),
        reads: Reads::Everything,
        limits: &[crate::limits::SUPPORT],
        query: &[],
        cursor: None,
        parent: None,
        shared: None,
        by_name: false,
        last: false,
        streams,
    }
}

/// A stream with an `id`, in the member of its own name.
pub(crate) const fn stream(name: &'static str, records: &'static str) -> Stream {
    Stream {
        name,
        records,
        columns: Columns::Listed,
        added: &[],
        without: &[],
        key: &["id"],
        by_brand: false,
        deletes: Deletes::Invisible,
        rows: Rows::Same,
        note: "",
    }
}

impl List {
    pub(crate) const fn walk(mut self, walk: Walk) -> Self {
        self.walk = walk;
        self
    }

    pub(crate) const fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    pub(crate) const fn limits(mut self, limits: &'static [&'static str]) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    pub(crate) const fn cursor(mut self, field: &'static str, format: TimeFormat) -> Self {
        self.cursor = Some((field, format));
        self
    }

    pub(crate) const fn each(
        mut self,
        list: &'static str,
        when: Option<fn(&RawRecord) -> bool>,
        inherit: &'static [(&'static str, &'static str)],
    ) -> Self {
        self.parent = Some(Parent {
            list,
            when,
            inherit,
            owns: false,
        });
        self.reads = Reads::Parents;
        self
    }

    /// Every row of a parent goes when its list is not found.
    pub(crate) const fn cascade_delete(mut self) -> Self {
        if let Some(parent) = &mut self.parent {
            parent.owns = true;
        }
        self
    }

    pub(crate) const fn shared(mut self, keep: ParentMap) -> Self {
        self.shared = Some(keep);
        self
    }

    pub(crate) const fn last(mut self) -> Self {
        self.last = true;
        self
    }

    pub(crate) const fn opt_in(mut self) -> Self {
        self.by_name = true;
        self
    }
}

impl Stream {
    pub(crate) const fn columns(mut self, columns: Columns) -> Self {
        self.columns = columns;
        self
    }

    pub(crate) const fn added(mut self, added: &'static [Field]) -> Self {
        self.added = added;
        self
    }

    pub(crate) const fn without(mut self, without: &'static [&'static str]) -> Self {
        self.without = without;
        self
    }

    pub(crate) const fn key(mut self, key: &'static [&'static str]) -> Self {
        self.key = key;
        self
    }

    /// Every brand's Help Center has such records of its own.
    pub(crate) const fn by_brand(mut self) -> Self {
        self.by_brand = true;
        self
    }

    /// Deletions show by `field` having `value`.
    pub(crate) const fn marked(mut self, field: &'static str, value: &'static str) -> Self {
        self.deletes = Deletes::Marked { field, value };
        self
    }

    /// Deletions show by `field` holding when.
    pub(crate) const fn stamped(mut self, field: &'static str) -> Self {
        self.deletes = Deletes::Stamped { field };
        self
    }

    pub(crate) const fn map(mut self, map: fn(&RawRecord) -> Result<RawRecord>) -> Self {
        self.rows = Rows::Map(map);
        self
    }

    pub(crate) const fn expand(mut self, expand: fn(&RawRecord) -> Result<Vec<RawRecord>>) -> Self {
        self.rows = Rows::Expand(expand);
        self
    }

    pub(crate) const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// The declared columns.
    pub fn schema(&self) -> Schema {
        let known = match self.columns {
            Columns::Hand(fields) => fields,
            Columns::Listed | Columns::Of(..) => schemas::columns(self.name),
        };
        let brand = Field::new(brands::COLUMN, DataType::Int64);
        let added = self.added.iter().chain(self.by_brand.then_some(&brand));
        added.fold(Schema::from_static(known), |schema, field| {
            schema.with(field.name.clone(), field.data_type)
        })
    }

    /// The stream as core knows it, of a list that is read whole or not.
    pub(crate) fn definition(&self, name: Cow<'static, str>, is_whole: bool) -> StreamDef {
        let def = StreamDef::new(name, self.schema()).note(self.note);
        let def = match *self.key {
            [] => def,
            [one] => def.primary_key([one]),
            [one, two] => def.primary_key([one, two]),
            [one, two, three, ..] => def.primary_key([one, two, three]),
        };
        let def = match self.rows {
            Rows::Same => def,
            Rows::Map(map) => def.map(map),
            Rows::Expand(expand) => def.expand(expand),
        };
        def.deletes(match (&self.deletes, is_whole) {
            (Deletes::Invisible, true) => Deletes::BySnapshot,
            (deletes, _) => *deletes,
        })
    }
}
