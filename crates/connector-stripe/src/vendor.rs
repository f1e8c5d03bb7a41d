//! What Stripe adds to the language of declarations: how lists are paged and cut, and what else
//! must be known of a list to read all of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::TimeDelta;
use pipeline_core::declarative::{ListDef, StreamDef, Vendor};
use pipeline_core::paginate::AfterLastId;
use pipeline_core::slice::TimeSlicer;
use pipeline_core::{Deletes, EmbeddedList, Endpoint, Field, RawRecord, Stream, TimeFormat};

use crate::config::{Key, StripeConfig};
use crate::limits::{ACCOUNT, LIST_RATE, operation};
use crate::slices::{Everything, Once, Values};
use crate::streams::{inside, streams};
use crate::{API_VERSION, change_feed, schema};

/// The edition of lists whose rows look different since their version of the API was pinned.
const REVISED: &str = "2026-05-27.dahlia, revision 2";

/// An account's lists, as the configuration wants them.
#[derive(Clone, Debug)]
pub struct Stripe {
    reading: Reading,
    /// Whether the key is one of the test mode.
    is_test: bool,
    /// After which time lists are read again as a whole, by name.
    intervals: BTreeMap<&'static str, TimeDelta>,
    /// Whether lists are asked for their [spare](Facts::spare) members.
    asks_for_spare: bool,
}

/// What the user decides about all lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) page_size: u8,
    pub(crate) lag: TimeDelta,
    pub(crate) lookback: TimeDelta,
}

/// How the pages of a list follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// After the id of the last object, up to 100 objects a page.
    AfterLast,
    /// The list comes in one response, and takes no page size.
    One,
}

/// How a list is cut into slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slices {
    /// By windows of creation, from the start date of the configuration on.
    Created,
    /// By windows of creation, whatever the start date: what is on sale may be older than what
    /// happened.
    Ever,
    /// As [`Ever`](Self::Ever), for one value of a parameter after the other, because no single
    /// request lists all objects.
    EverBy(&'static str, &'static [&'static str]),
    /// For one value of a parameter after the other, of a list that cannot be filtered by time.
    By(&'static str, &'static [&'static str]),
    /// The whole list, once: from then on events tell of all that is made.
    Once,
}

/// What an account must have before a list can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    /// Only the test mode has the list. A live key asks for it when a stream of it is named.
    TestMode,
}

/// What else must be known of a list.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The object's name in Stripe's OpenAPI file, which the columns of the stream come from.
    pub object: &'static str,
    /// Path of the list that single objects are fetched from, where it is another one.
    pub objects: Option<&'static str>,
    /// How an object shows that it will still change without a trace outside it; none: it does not.
    pub settles: Option<Settles>,
    /// Raised when rows look different, or are others, although the version of the API is the same.
    pub revision: u8,
    /// Days after which the list is read again as a whole, unless the configuration says otherwise;
    /// 0: never.
    pub again_after: u32,
    /// Members that Stripe leaves out unless they are asked for.
    pub expand: &'static [&'static str],
    /// Those of them without which the list is read when Stripe refuses to expand them.
    pub spare: &'static [&'static str],
    /// Requests per second that Stripe allows for the list.
    pub rate: u32,
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

impl Facts {
    /// Objects of this name, and nothing else that is particular.
    pub const fn of(object: &'static str) -> Self {
        Self {
            object,
            objects: None,
            settles: None,
            revision: 1,
            again_after: 0,
            expand: &[],
            spare: &[],
            rate: LIST_RATE,
        }
    }

    /// Path of the list that single objects are fetched from.
    pub const fn objects(mut self, path: &'static str) -> Self {
        self.objects = Some(path);
        self
    }

    /// How an object shows that it will still change.
    pub const fn settles(mut self, settles: Settles) -> Self {
        self.settles = Some(settles);
        self
    }

    /// Rows look different than those that were read before this was raised.
    pub const fn revision(mut self, number: u8) -> Self {
        self.revision = number;
        self
    }

    /// Days after which the list is read again as a whole.
    pub const fn again_after(mut self, days: u32) -> Self {
        self.again_after = days;
        self
    }

    /// Members to ask for.
    pub const fn expand(mut self, members: &'static [&'static str]) -> Self {
        self.expand = members;
        self
    }

    /// Those of the members that the list is read without if need be.
    pub const fn spare(mut self, members: &'static [&'static str]) -> Self {
        self.spare = members;
        self
    }

    /// Requests per second that Stripe allows for the list.
    pub const fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }
}

/// The parameters by which a list gives these members of its objects.
pub(crate) fn expansions(
    members: impl Iterator<Item = &'static str>,
) -> impl Iterator<Item = (String, String)> {
    members
        .enumerate()
        .map(|(index, member)| (format!("expand[{index}]"), format!("data.{member}")))
}

impl Stripe {
    /// The lists as a key of this kind reads them.
    pub(crate) fn new(config: &StripeConfig, key: Key) -> Self {
        let interval = |list: &'static ListDef<Self>| {
            let fed = inside(list).map(|(inside, _)| inside.name);
            let intervals = fed
                .chain([list.name])
                .filter_map(|stream| config.full_refresh_interval(stream));
            Some((list.name, intervals.min()?))
        };
        Self {
            reading: Reading {
                page_size: config.page_size,
                lag: TimeDelta::seconds(config.lag_seconds.into()),
                lookback: TimeDelta::seconds(config.lookback_seconds.into()),
            },
            is_test: key.is_test(),
            intervals: streams().filter_map(interval).collect(),
            asks_for_spare: true,
        }
    }

    /// The lists without their [spare](Facts::spare) members.
    pub(crate) fn without_spare(&self) -> Self {
        Self {
            asks_for_spare: false,
            ..self.clone()
        }
    }

    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    fn windows(&self) -> TimeSlicer {
        TimeSlicer {
            lag: self.reading.lag,
            lookback: self.reading.lookback,
            ..TimeSlicer::newest_first("created[gte]", "created[lt]", TimeFormat::UnixSeconds)
        }
    }

    /// What concerns the account's lists alone, and not those inside their objects.
    fn requested(&self, list: &ListDef<Self>, endpoint: Endpoint) -> Endpoint {
        let endpoint = endpoint.edition(edition(list));
        let endpoint = match self.intervals.get(list.name) {
            Some(interval) => endpoint.full_refresh_interval(*interval),
            None => endpoint,
        };
        if !self.is_test && list.requires.contains(&Requires::TestMode) {
            endpoint.opt_in()
        } else {
            endpoint
        }
    }
}

impl Vendor for Stripe {
    type Pages = Pages;
    type Slices = Slices;
    type Requires = Requires;
    type List = Facts;
    type Stream = ();

    const PAGES: Pages = Pages::AfterLast;
    const LIST: Facts = Facts::of("");
    const STREAM: () = ();

    fn request(&self, list: &ListDef<Self>) -> Endpoint {
        let endpoint = Endpoint::get(list.name, with_id(list.path))
            .buckets([ACCOUNT])
            .bucket(operation(list.path));
        match list.pages {
            Pages::AfterLast => endpoint
                .page_size("limit", self.reading.page_size.into())
                .paginate(AFTER_LAST),
            Pages::One => endpoint,
        }
    }

    fn slices(&self, _list: &ListDef<Self>, slices: Slices, endpoint: Endpoint) -> Endpoint {
        match slices {
            Slices::Created => endpoint.slices(self.windows()),
            Slices::Ever => endpoint.slices(Everything(self.windows())),
            Slices::EverBy(name, values) => endpoint.slices(Everything(TimeSlicer {
                partition: Some((name, values)),
                ..self.windows()
            })),
            Slices::By(name, values) => endpoint.slices(Values { name, values }),
            Slices::Once => endpoint.slices(Once),
        }
    }

    fn finish(&self, list: &ListDef<Self>, endpoint: Endpoint) -> Endpoint {
        let Facts { expand, spare, .. } = list.facts;
        let members = expand.iter().copied();
        let asked = members.filter(|member| self.asks_for_spare || !spare.contains(member));
        let endpoint = expansions(asked).fold(endpoint, |endpoint, (name, value)| {
            endpoint.query(name, value)
        });
        if list.embedded.is_some() {
            endpoint
        } else {
            self.requested(list, endpoint)
        }
    }

    /// Events tell of deletions from some of the lists that a sync does not read whole. Those from
    /// a list inside objects are told by the events of the objects.
    fn stream(&self, list: &ListDef<Self>, _def: &StreamDef<Self>, stream: Stream) -> Stream {
        let owner = list.parent.filter(|_| list.embedded.is_some());
        let heard = owner.map_or(list.name, |owner| owner.list);
        if *stream.deletion() == Deletes::Invisible && change_feed::tells_deletions(heard) {
            stream.deletes(Deletes::Announced)
        } else {
            stream
        }
    }

    /// Nothing of the parents is stored, so nothing in them is expanded. Those that are new have
    /// lists to be read, where events tell of what changes in the lists of the others.
    fn parent(&self, child: &ListDef<Self>, parent: ListDef<Self>) -> ListDef<Self> {
        ListDef {
            facts: parent.facts.expand(&[]),
            mode: child.mode,
            ..parent
        }
    }

    /// A list that feeds a stream and is expanded is not in every kind of object. The others are
    /// documented to be always there.
    fn embedded(
        &self,
        owner: &ListDef<Self>,
        list: &ListDef<Self>,
        member: &'static str,
        rest: Endpoint,
    ) -> EmbeddedList {
        let embedded = EmbeddedList::new(member, "has_more", rest).total("total_count");
        if owner.facts.expand.contains(&member) && !list.streams.is_empty() {
            embedded.optional()
        } else {
            embedded
        }
    }

    fn columns(stream: &str) -> &'static [Field] {
        schema::columns(stream)
    }
}

/// How all lists of Stripe's are paged.
pub(crate) const AFTER_LAST: AfterLastId = AfterLastId {
    param: "starting_after",
    more: "has_more",
    id: "id",
};

/// What a path of Stripe's names in braces is always the id of the record that the list is of.
fn with_id(template: &'static str) -> Cow<'static, str> {
    match (template.split_once('{'), template.split_once('}')) {
        (Some((before, _)), Some((_, after))) => format!("{before}{{id}}{after}").into(),
        _ => Cow::Borrowed(template),
    }
}

/// What rows look like: the version of the API, and what was changed since that it does not tell.
fn edition(list: &ListDef<Stripe>) -> &'static str {
    if list.facts.revision == 1 {
        API_VERSION
    } else {
        REVISED
    }
}
