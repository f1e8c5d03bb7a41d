//! A list inside a record, and where the rest of it is.

use crate::connector::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::model::record::{Op, RawRecord, RecordPath};

/// A list inside a record, of which the vendor sends the beginning only.
#[derive(Clone, Debug)]
pub struct EmbeddedList {
    pub(crate) member: &'static str,
    pub(crate) more: &'static str,
    pub(crate) list: Endpoint,
    pub(crate) total: Option<&'static str>,
    pub(crate) inherited: Vec<(&'static str, &'static str)>,
    /// True when a stream is fed from it: then a record without it would take the stored entries
    /// for gone.
    pub(crate) is_fed: bool,
    pub(crate) is_optional: bool,
}

impl EmbeddedList {
    /// The list in `member` of a record, which has more entries when its own member `more` is true.
    ///
    /// `list` is where all of it can be read: in its path and its parameters `{member}` stands for
    /// that member of the record, its paginator continues behind the entries that are there, and
    /// the stream that it feeds declares where in the list entries are, such as `data`, and what
    /// distinguishes them. Entries that cannot be distinguished are read again from the start.
    pub fn new(member: &'static str, more: &'static str, list: Endpoint) -> Self {
        Self {
            member,
            more,
            list,
            total: None,
            inherited: Vec::new(),
            is_fed: false,
            is_optional: false,
        }
    }

    /// The list's member with the number of its entries: another number of them is an error.
    pub fn total(mut self, member: &'static str) -> Self {
        self.total = Some(member);
        self
    }

    /// Takes a record without the member for one that has no such entries. Null is an error all the
    /// same, and so is, unless this is said, a record without the list that a stream is fed from:
    /// none of them says that the entries are gone.
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// Copies a member of the record into each entry, unless it has a value of that name.
    pub fn include_from_parent(mut self, member: &'static str, name: &'static str) -> Self {
        self.inherited.push((member, name));
        self
    }

    /// True when a record has, in the place of the list, what the vendor does not document.
    pub(crate) fn is_missing(&self, record: &RawRecord) -> bool {
        let is_list = |list: &str| {
            let entries = self.list.feeds.first().and_then(|feed| feed.path.name());
            entries.is_some_and(|entries| {
                RawRecord::upsert(list.to_owned())
                    .member(entries)
                    .is_some_and(|entries| entries.starts_with('['))
            })
        };
        self.is_fed
            && record.op() == Op::Upsert
            && !record.member(self.member).map_or(self.is_optional, is_list)
    }

    /// Where entries are in the list.
    pub(crate) fn entries(&self) -> Result<&RecordPath> {
        let path = self
            .list
            .feeds
            .first()
            .map(|feed| &feed.path)
            .filter(|path| path.name().is_some());
        path.ok_or_else(|| {
            Error::new(
                ErrorKind::Unexpected,
                "the endpoint of a nested list feeds no stream from one of its members",
            )
        })
    }
}
