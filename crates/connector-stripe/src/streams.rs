//! The table of streams: which list each is read from, and which quirks of the list must be known
//! to read all of it.

mod billing;
mod connect;
mod endpoints;
mod issuing;
mod other;
mod payments;
mod treasury;

use std::borrow::Cow;

use pipeline_core::{RawRecord, Schema, SyncMode};

pub(crate) use self::endpoints::{Reading, endpoints, plain_endpoint};
use crate::{API_VERSION, schemas};

/// The bucket that every request of an account counts against.
pub(crate) const ACCOUNT: &str = "account";

/// Requests per second that Stripe allows for a list unless it says otherwise.
pub(crate) const LIST_RATE: u32 = 25;

/// The edition of streams whose rows look different since their version of the API was pinned.
const REVISED: &str = "2026-05-27.dahlia, revision 2";

/// Every stream, by product of Stripe's.
pub const FAMILIES: [&[Stream]; 6] = [
    payments::STREAMS,
    billing::STREAMS,
    connect::STREAMS,
    issuing::STREAMS,
    treasury::STREAMS,
    other::STREAMS,
];

/// Every stream.
pub fn streams() -> impl Iterator<Item = &'static Stream> {
    FAMILIES.into_iter().flatten()
}

/// The stream of that name.
pub fn stream(name: &str) -> Option<&'static Stream> {
    streams().find(|stream| stream.name == name)
}

/// One stream as data.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// The stream's name.
    pub name: &'static str,
    /// Path of the list, as Stripe's OpenAPI file has it.
    pub path: &'static str,
    /// The object's name in Stripe's OpenAPI file, which its columns come from.
    pub object: &'static str,
    /// Where such a list is found.
    pub place: Place,
    /// The members that identify a record.
    pub key: &'static [&'static str],
    /// The column that holds the id of the record that the list belongs to, where the objects do
    /// not say it themselves.
    pub parent_id: Option<&'static str>,
    /// How it is read from one sync to the next.
    pub mode: SyncMode,
    /// True when the start date of the configuration does not bound it: what is on sale may be
    /// older than what happened.
    pub ageless: bool,
    /// The member that the filter `created` looks at; none: the list is read without that filter,
    /// as one slice.
    pub cursor: Option<&'static str>,
    /// How an object shows that it will still change without a trace outside it; none: it does not.
    pub settles: Option<Settles>,
    /// The column that names the record that the list belongs to, where one does.
    pub owner: Option<&'static str>,
    /// Path of the list that single objects are fetched from, where it is another one.
    pub objects: Option<&'static str>,
    /// True when only the test mode has the list.
    pub test_only: bool,
    /// Raised when rows look different, or are others, although the version of the API is the same.
    pub revision: u8,
    /// Days after which the list is read again as a whole, unless the configuration says otherwise;
    /// 0: never.
    pub again_after: u32,
    /// Parameters of every request: those without which the list hides objects, and those that name
    /// the parent, whose value is `{id}`.
    pub query: &'static [(&'static str, &'static str)],
    /// A parameter whose values are read one after the other, because no single request lists all
    /// objects.
    pub partition: Option<(&'static str, &'static [&'static str])>,
    /// Members that Stripe leaves out unless they are asked for.
    pub expand: &'static [&'static str],
    /// Those of them without which the list is read when Stripe refuses to expand them.
    pub spare: &'static [&'static str],
    /// Lists inside the object that are no stream, and of which Stripe sends the first ten entries.
    pub inner: &'static [Inner],
    /// False when the list comes in one response, and takes no page size.
    pub paged: bool,
    /// Requests per second that Stripe allows for the list.
    pub rate: u32,
    /// What a reader of the data must know.
    pub note: &'static str,
}

/// What shows that an object will still change although no event tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Settles {
    /// True of an object that is not final yet.
    pub is_open: fn(&RawRecord) -> bool,
    /// The member that holds when it is expected to become final.
    pub due: &'static str,
    /// Hours until an object that is not final by then is looked at again.
    pub patience: i64,
    /// Days after it was due for which it is looked at.
    pub at_most: i64,
}

/// Where the list of a stream is found.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// The account has one.
    Account,
    /// Every record of another stream has one, for which one request at least is sent.
    Each {
        /// The other stream.
        parent: &'static str,
        /// Tells from the record whether it has such a list; none: every record has.
        when: Option<fn(&RawRecord) -> bool>,
    },
    /// Every record of another stream holds the beginning of one; only what is missing is
    /// requested.
    Inside {
        /// The other stream.
        parent: &'static str,
        /// The member that holds it.
        member: &'static str,
    },
}

/// A list inside an object that is completed although it feeds no stream.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    /// The member that holds it.
    pub member: &'static str,
    /// Path of the whole list.
    pub path: &'static str,
    /// Parameters that name the object, whose value is `{id}`.
    pub query: &'static [(&'static str, &'static str)],
}

impl Stream {
    const fn new(name: &'static str, path: &'static str, object: &'static str) -> Self {
        Self {
            name,
            path,
            object,
            place: Place::Account,
            key: &["id"],
            parent_id: None,
            mode: SyncMode::Incremental,
            ageless: false,
            cursor: Some("created"),
            settles: None,
            owner: None,
            objects: None,
            test_only: false,
            revision: 1,
            again_after: 0,
            query: &[],
            partition: None,
            expand: &[],
            spare: &[],
            inner: &[],
            paged: true,
            rate: LIST_RATE,
            note: "",
        }
    }

    /// Read as a whole by every sync: short lists that people keep, whose entries change and
    /// disappear.
    const fn whole(mut self) -> Self {
        self.mode = SyncMode::FullRefresh;
        self.ageless()
    }

    /// Read whatever its age, as what people keep: a subscription of today can have a price of ten
    /// years ago.
    const fn ageless(mut self) -> Self {
        self.ageless = true;
        self
    }

    /// Read as a whole, from a list that cannot be filtered by time.
    const fn unfiltered(self) -> Self {
        self.whole().cursor(None)
    }

    /// Read once as a whole, from a list that cannot be filtered by time: from then on events tell
    /// of all that is made.
    const fn once(self) -> Self {
        self.ageless().cursor(None)
    }

    const fn each(mut self, parent: &'static str) -> Self {
        self.place = Place::Each { parent, when: None };
        self.cursor = None;
        self
    }

    const fn each_when(mut self, parent: &'static str, when: fn(&RawRecord) -> bool) -> Self {
        self.place = Place::Each {
            parent,
            when: Some(when),
        };
        self.cursor = None;
        self
    }

    const fn inside(mut self, parent: &'static str, member: &'static str) -> Self {
        self.place = Place::Inside { parent, member };
        self.cursor = None;
        self
    }

    const fn key(mut self, key: &'static [&'static str]) -> Self {
        self.key = key;
        self
    }

    /// Objects do not name the record that they belong to, so a column does.
    const fn parent_id(mut self, column: &'static str) -> Self {
        self.parent_id = Some(column);
        self.owner = Some(column);
        self
    }

    const fn cursor(mut self, cursor: Option<&'static str>) -> Self {
        self.cursor = cursor;
        self
    }

    const fn settles(mut self, settles: Settles) -> Self {
        self.settles = Some(settles);
        self
    }

    const fn owner(mut self, column: &'static str) -> Self {
        self.owner = Some(column);
        self
    }

    const fn objects(mut self, path: &'static str) -> Self {
        self.objects = Some(path);
        self
    }

    const fn test_only(mut self) -> Self {
        self.test_only = true;
        self
    }

    /// Rows look different than those that were read before this was raised.
    const fn revision(mut self, number: u8) -> Self {
        self.revision = number;
        self
    }

    const fn again_after(mut self, days: u32) -> Self {
        self.again_after = days;
        self
    }

    const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    const fn partition(mut self, name: &'static str, values: &'static [&'static str]) -> Self {
        self.partition = Some((name, values));
        self
    }

    const fn expand(mut self, expand: &'static [&'static str]) -> Self {
        self.expand = expand;
        self
    }

    const fn spare(mut self, members: &'static [&'static str]) -> Self {
        self.spare = members;
        self
    }

    const fn inner(mut self, inner: &'static [Inner]) -> Self {
        self.inner = inner;
        self
    }

    const fn one_page(mut self) -> Self {
        self.paged = false;
        self
    }

    const fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// The declared columns, as Stripe's OpenAPI file has them.
    pub fn schema(&self) -> Schema {
        Schema::from_static(schemas::columns(self.name))
    }

    /// The stream whose records have such a list each; none when the account has one.
    pub fn parent(&self) -> Option<&'static str> {
        match self.place {
            Place::Account => None,
            Place::Each { parent, .. } | Place::Inside { parent, .. } => Some(parent),
        }
    }

    /// Path of the list that single objects are fetched from.
    pub fn object_list(&self) -> &'static str {
        self.objects.unwrap_or(self.path)
    }

    /// The streams inside its objects, and the member that each is in.
    pub fn inside_it(&self) -> impl Iterator<Item = (&'static Stream, &'static str)> + use<> {
        let name = self.name;
        streams().filter_map(move |inner| match inner.place {
            Place::Inside { parent, member } if parent == name => Some((inner, member)),
            _ => None,
        })
    }

    /// What rows look like: the version of the API, and what was changed since that it does not
    /// tell.
    pub(crate) fn edition(&self) -> &'static str {
        if self.revision == 1 {
            API_VERSION
        } else {
            REVISED
        }
    }

    /// The limits that a request of the list counts against, the narrowest first.
    pub(crate) fn buckets(&self) -> [Cow<'static, str>; 2] {
        [operation(self.path).into(), ACCOUNT.into()]
    }

    /// The parameters that every request of the list carries, besides the page size.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        let expand = self
            .expand
            .iter()
            .enumerate()
            .map(|(index, member)| (format!("expand[{index}]"), format!("data.{member}")));
        self.query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .chain(expand)
    }
}

/// The limit of a list alone: Stripe counts a method and a path template together, for all ids.
pub(crate) fn operation(path: &str) -> String {
    format!("GET {path}")
}

/// The template that a request's path was made from: one of the table, or that of a single object
/// of a list; the path itself when there is none.
pub(crate) fn template(path: &str) -> Cow<'_, str> {
    let of_list = || path.rsplit_once('/').and_then(|(list, _)| listed(list));
    listed(path)
        .map(Cow::Borrowed)
        .or_else(|| Some(format!("{}/{{id}}", of_list()?).into()))
        .unwrap_or(path.into())
}

/// The template of the table that a list's path was made from.
fn listed(path: &str) -> Option<&'static str> {
    let paths = |stream: &'static Stream| {
        [stream.path, stream.object_list()]
            .into_iter()
            .chain(stream.inner.iter().map(|inner| inner.path))
    };
    let known = streams().flat_map(paths);
    let fits = |template: &&str| {
        let (mut template, mut path) = (template.split('/'), path.split('/'));
        loop {
            match (template.next(), path.next()) {
                (None, None) => return true,
                (Some(expected), Some(found)) if expected == found || expected.starts_with('{') => {
                }
                _ => return false,
            }
        }
    };
    known.into_iter().find(fits)
}

/// Whether a path is that of a list which the account has.
pub(crate) fn is_of_account(path: &str) -> bool {
    listed(path).is_some_and(|template| !template.contains('{'))
}

/// Whether a request asks a list that records share for the part of one of them.
pub(crate) fn is_of_one_record(path: &str, parameters: &[(String, String)]) -> bool {
    let names_record = |(name, template): &(&'static str, &'static str)| {
        template.contains('{') && parameters.iter().any(|(known, _)| known == name)
    };
    streams()
        .filter(|stream| stream.path == path)
        .any(|stream| stream.query.iter().any(names_record))
}

/// Whether a path is that of a list which belongs to a record.
pub(crate) fn belongs_to_record(path: &str) -> bool {
    listed(path).is_some_and(|template| template.contains('{'))
}
