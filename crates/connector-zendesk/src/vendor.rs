//! What Zendesk adds to the language of declarations: how lists are paged, what of them is asked
//! for, and whose they are.

use std::borrow::Cow;
use std::time::Duration;

use pipeline_core::declarative::{ListDef, StreamDef, Vendor};
use pipeline_core::paginate::Counted;
use pipeline_core::{Endpoint, Field, Stream, SyncMode, Transform};
use url::Url;

use crate::limits::SUPPORT;
use crate::pages::{AnyPages, LARGEST_PAGE, PER_PAGE};
use crate::slices::{ExportStart, Filter, Filtered};
use crate::{brands, schema};

/// What stands for the kind of object in names and paths.
const KIND: &str = "{custom_object_key}";

/// The member of an answer that tells how many records the list has.
const COUNT: &str = "count";

/// An account's lists, as the configuration wants them.
#[derive(Clone, Debug)]
pub struct Zendesk {
    /// Records of a page of an export.
    export_page_size: u32,
    of: Of,
}

/// Whose lists they are.
#[derive(Clone, Debug)]
enum Of {
    Account,
    /// A brand, by its id, whose Help Center is on a host of its own.
    Brand(String, Url),
    /// One kind of custom object.
    Kind(String),
}

/// How the pages of a list are asked for. What an answer says decides how they follow each other,
/// whatever this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
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

/// What a sync asks for of a list that it does not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slices {
    /// What changed since the last sync, from where that ended. Times are read again from this much
    /// earlier.
    Changes(Duration),
    /// What was created, by a range of two values of `filter[created_at][]`.
    Created,
    /// What changed, by windows between `start_time` and `end_time`.
    Windows,
    /// What changed, by a query of the search index.
    Search,
    /// What changed: the list comes newest first, and is read until it is older than the last sync.
    NewestFirst,
}

/// Where Zendesk's OpenAPI files describe the records of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Described {
    /// With the list.
    Here,
    /// With another list: its path, and the member that holds the records.
    With(&'static str, &'static str),
}

impl Zendesk {
    /// The lists of the account.
    pub(crate) fn account(export_page_size: u32) -> Self {
        Self {
            export_page_size,
            of: Of::Account,
        }
    }

    /// The lists of a brand's Help Center.
    pub(crate) fn brand(id: String, host: Url) -> Self {
        Self {
            export_page_size: LARGEST_PAGE,
            of: Of::Brand(id, host),
        }
    }

    /// The lists of one kind of custom object.
    pub(crate) fn kind(self, key: &str) -> Self {
        Self {
            of: Of::Kind(key.to_owned()),
            ..self
        }
    }

    fn name(&self, list: &str) -> String {
        match &self.of {
            Of::Account => list.to_owned(),
            Of::Brand(id, _) => format!("{list}{}{id}", brands::OF),
            Of::Kind(key) => list.replace(KIND, key),
        }
    }

    /// Asks for pages of a size, where a list takes one.
    fn sized(&self, pages: Pages, endpoint: Endpoint) -> Endpoint {
        match pages {
            Pages::CursorExport | Pages::TimeExport => {
                endpoint.page_size(PER_PAGE, self.export_page_size)
            }
            Pages::Cursor(size) => endpoint.page_size("page[size]", size),
            Pages::Numbered => endpoint.page_size(PER_PAGE, 100),
            Pages::TimePages | Pages::CursorFeed | Pages::Once => endpoint,
        }
    }
}

impl Vendor for Zendesk {
    type Pages = Pages;
    type Slices = Slices;
    /// What a plan or a role lacks, an answer says: nothing is required beforehand.
    type Requires = ();
    type List = ();
    type Stream = Described;

    const PAGES: Pages = Pages::Cursor(100);
    const LIST: () = ();
    const STREAM: Described = Described::Here;

    fn request(&self, list: &ListDef<Self>) -> Endpoint {
        let lookback = match list.slices {
            Some(Slices::Changes(lookback)) => lookback,
            _ => Duration::ZERO,
        };
        let pages = AnyPages::new(list.pages, lookback);
        let path = match &self.of {
            Of::Kind(key) => list.path.replace(KIND, key).into(),
            Of::Account | Of::Brand(..) => Cow::Borrowed(list.path),
        };
        let endpoint = Endpoint::get(self.name(list.name), path).buckets([SUPPORT]);
        let endpoint = if is_counted(list) {
            endpoint.paginate(Counted::new(pages, COUNT))
        } else {
            endpoint.paginate(pages)
        };
        let endpoint = self.sized(list.pages, endpoint);
        match &self.of {
            Of::Brand(_, host) => endpoint.base(host.clone()).found(),
            Of::Account | Of::Kind(_) => endpoint,
        }
    }

    fn slices(&self, _list: &ListDef<Self>, slices: Slices, endpoint: Endpoint) -> Endpoint {
        match slices {
            Slices::Changes(_) => endpoint.slices(ExportStart::new()),
            Slices::Created => endpoint.slices(Filtered::new(Filter::Created)),
            Slices::Windows => endpoint.slices(Filtered::new(Filter::StartEnd)),
            Slices::Search => endpoint.slices(Filtered::new(Filter::Search)),
            Slices::NewestFirst => endpoint
                .slices(Filtered::new(Filter::Unfiltered))
                .newest_first(),
        }
    }

    /// Where there is a list for each kind of object, its stream has the endpoint's name.
    fn stream(&self, list: &ListDef<Self>, def: &StreamDef<Self>, stream: Stream) -> Stream {
        let stream = stream.note(def.note);
        match &self.of {
            Of::Kind(_) => stream.named(self.name(list.name)),
            Of::Account | Of::Brand(..) => stream,
        }
    }

    fn columns(stream: &str) -> &'static [Field] {
        schema::columns(stream)
    }
}

/// Whether `count` is that of the whole list: exports count a page. Pages by cursor count nothing,
/// unless the server numbers them after all.
fn is_counted(list: &ListDef<Zendesk>) -> bool {
    let expands = |def: &StreamDef<Zendesk>| matches!(def.transform, Transform::Expand(_));
    list.mode == SyncMode::FullRefresh && !list.streams.iter().any(expands)
}
