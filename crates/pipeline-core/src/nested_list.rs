//! A list inside a record, and where the rest of it is.

use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::record::RecordPath;

/// A list inside a record, of which the vendor sends the beginning only.
#[derive(Clone, Debug)]
pub struct NestedList {
    pub(crate) member: &'static str,
    pub(crate) more: &'static str,
    pub(crate) list: Endpoint,
    pub(crate) total: Option<&'static str>,
    pub(crate) inherited: Vec<(&'static str, &'static str)>,
}

impl NestedList {
    /// The list in `member` of a record, which goes on when its own member `more` is true.
    ///
    /// `list` is where all of it can be read: in its path and its parameters `{member}` stands for that member of the
    /// record, its paginator goes on behind the entries that are there, and the stream that it feeds tells where in the
    /// list entries stand, such as `data`, and what tells them apart. Entries that cannot be told apart are read again from
    /// the start.
    pub fn new(member: &'static str, more: &'static str, list: Endpoint) -> Self {
        Self { member, more, list, total: None, inherited: Vec::new() }
    }

    /// The list's member that tells how many entries it has: another number of them is an error.
    pub fn total(mut self, member: &'static str) -> Self {
        self.total = Some(member);
        self
    }

    /// Copies a member of the record into each entry, unless it has a value of that name.
    pub fn inherit(mut self, member: &'static str, name: &'static str) -> Self {
        self.inherited.push((member, name));
        self
    }

    /// Where entries stand in the list.
    pub(crate) fn entries(&self) -> Result<&RecordPath> {
        let path = self.list.feeds.first().map(|feed| &feed.path).filter(|path| path.name().is_some());
        path.ok_or_else(|| Error::new(ErrorKind::Unexpected, "the endpoint of a nested list feeds no stream from one of its members"))
    }
}
