//! A vendor API as data: what is requested, how it is walked, and which streams it feeds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use url::Url;

use crate::connector::account::Account;
use crate::connector::nested_list::EmbeddedList;
use crate::connector::paginate::{Paginator, SinglePage};
use crate::connector::slice::{SingleSlice, Slicer, parse_time};
use crate::connector::stream::Stream;
use crate::error::Result;
use crate::http::Method;
use crate::json::lines::{BodyFormat, Lines};
use crate::model::record::{RawRecord, RecordPath, StreamIndex};
use crate::model::schema::{Field, TimeFormat};

/// How an endpoint is read from one sync to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Every sync reads everything into a new generation of the tables, which replaces the old one
    /// when it is complete.
    #[default]
    FullRefresh,
    /// A sync reads what is new since the last.
    Incremental,
}

/// A request shape, its paginator, its slices and its state. Mostly feeds one stream of the same
/// name.
///
/// Clones share what is large: a source of many accounts has a clone for each.
///
/// ```
/// # use pipeline_core::{Endpoint, Schema, Stream, SyncMode, TimeFormat, paginate::AfterLastId, slice::TimeSlicer};
/// let orders = Endpoint::get("orders", "/v1/orders")
///     .records("data")
///     .stream(Stream::new("orders", Schema::default()).primary_key(["id"]))
///     .paginate(AfterLastId { param: "after", more: "has_more", id: "id" })
///     .slices(TimeSlicer::newest_first("created_from", "created_before", TimeFormat::UnixSeconds))
///     .incremental();
/// assert_eq!(orders.mode(), SyncMode::Incremental);
/// ```
#[expect(
    clippy::struct_excessive_bools,
    reason = "none of these facts follows from another"
)]
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) name: Cow<'static, str>,
    pub(crate) method: Method,
    pub(crate) base: Option<Url>,
    pub(crate) path: Cow<'static, str>,
    pub(crate) query: Arc<Vec<(Cow<'static, str>, String)>>,
    /// Where the records of the streams that are added next are.
    pub(crate) records: RecordPath,
    pub(crate) feeds: Arc<Vec<Feed>>,
    /// Which of the feeds somebody wants; none: all of them. Apart from the feeds, so that clones
    /// go on sharing those.
    pub(crate) wanted: Option<Arc<[bool]>>,
    pub(crate) nested: Arc<Vec<EmbeddedList>>,
    pub(crate) paginator: Arc<dyn Paginator>,
    pub(crate) slicer: Arc<dyn Slicer>,
    pub(crate) mode: SyncMode,
    pub(crate) buckets: Arc<Vec<Cow<'static, str>>>,
    pub(crate) next_page_buckets: Option<Vec<Cow<'static, str>>>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) format: BodyFormat,
    /// The query parameter, and how many records a page has unless they are too many.
    pub(crate) page_size: Option<(Cow<'static, str>, u32)>,
    pub(crate) newest_first: bool,
    pub(crate) cache_pages: Option<ParentMap>,
    pub(crate) opt_in: bool,
    pub(crate) found: bool,
    pub(crate) max_concurrent_slices: Option<usize>,
    pub(crate) last: bool,
    pub(crate) corrects: bool,
    pub(crate) full_refresh_interval: Option<TimeDelta>,
    pub(crate) edition: Option<&'static str>,
    pub(crate) settings: BTreeMap<&'static str, String>,
    pub(crate) parent: Option<Arc<Parent>>,
    pub(crate) account_column: Option<&'static str>,
    pub(crate) account: Option<Account>,
}

/// Makes what the lists of a record need of it; none: no list of it is read.
pub type ParentMap = fn(&RawRecord) -> Result<Option<RawRecord>>;

/// The list whose records each have a list of their own, and what they pass on.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) endpoint: Endpoint,
    /// Tells whether a record has such a list at all.
    pub(crate) when: Option<fn(&RawRecord) -> bool>,
    /// Members of the parent, and what they are called in its children.
    pub(crate) inherited: Vec<(&'static str, &'static str)>,
    /// Whether its children go with a parent that is not found.
    pub(crate) owns: bool,
}

impl Parent {
    pub(crate) fn wants(&self, record: &RawRecord) -> bool {
        self.when.is_none_or(|when| when(record))
    }
}

/// A stream fed by an endpoint, and where its records stand.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) stream: Stream,
    pub(crate) path: RecordPath,
    /// The list inside the first stream's records that they stand in, by its index in
    /// [`Endpoint::nested`].
    pub(crate) inside: Option<usize>,
}

/// The member by which records are ordered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The member's name.
    pub field: &'static str,
    /// How it is written.
    pub format: TimeFormat,
}

impl Endpoint {
    /// An endpoint read by GET. The path is relative to the connector's base URL.
    pub fn get(name: impl Into<Cow<'static, str>>, path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::GET, name, path)
    }

    /// An endpoint read by POST, with its parameters in the URL and without a body: where the
    /// vendor wants one, the paginator or the slicer sets
    /// [`Request::body`](crate::message::Request::body) and its content type. Must be safe to
    /// repeat.
    pub fn post(name: impl Into<Cow<'static, str>>, path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::POST, name, path)
    }

    fn new(
        method: Method,
        name: impl Into<Cow<'static, str>>,
        path: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            name: name.into(),
            method,
            base: None,
            path: path.into(),
            query: Arc::default(),
            records: RecordPath::new(""),
            feeds: Arc::default(),
            wanted: None,
            nested: Arc::default(),
            paginator: Arc::new(SinglePage),
            slicer: Arc::new(SingleSlice),
            mode: SyncMode::FullRefresh,
            buckets: Arc::default(),
            next_page_buckets: None,
            cursor: None,
            format: BodyFormat::Json,
            page_size: None,
            newest_first: false,
            cache_pages: None,
            opt_in: false,
            found: false,
            max_concurrent_slices: None,
            last: false,
            corrects: false,
            full_refresh_interval: None,
            edition: None,
            settings: BTreeMap::new(),
            parent: None,
            account_column: None,
            account: None,
        }
    }

    /// Requests this endpoint once for every record of another list, its parents.
    ///
    /// * `{member}` in the path, or as the value of a parameter, stands for that member of the
    ///   parent's record.
    /// * Slices, mode and progress are those of the parents' list, which this endpoint walks by
    ///   itself: a list that may not be read never fails the stream of its parents. Every page of
    ///   every parent is a place to stop.
    /// * A parent that is gone (the classifier ignores the answer) is passed over. One that is
    ///   refused while others can be read is passed over, counted and told; when none can be read,
    ///   the endpoint fails.
    /// * The parents' list must not be cut into lines. Parents can be children themselves.
    pub fn child_of(mut self, parent: Self) -> Self {
        self.slicer = Arc::clone(&parent.slicer);
        self.mode = parent.mode;
        self.parent = Some(Arc::new(Parent {
            endpoint: parent,
            when: None,
            inherited: Vec::new(),
            owns: false,
        }));
        self
    }

    /// Passes over the parents that have no such list. Needs [`child_of`](Self::child_of).
    pub fn parent_filter(mut self, filter: fn(&RawRecord) -> bool) -> Self {
        if let Some(parent) = &mut self.parent {
            Arc::make_mut(parent).when = Some(filter);
        }
        self
    }

    /// Copies a member of the parent into each of its children, unless they have a value of that
    /// name. Needs [`child_of`](Self::child_of).
    pub fn include_from_parent(mut self, member: &'static str, name: &'static str) -> Self {
        if let Some(parent) = &mut self.parent {
            Arc::make_mut(parent).inherited.push((member, name));
        }
        self
    }

    /// A parent whose list is not found is gone, and so is every row that it [passed something
    /// on](Self::include_from_parent) to. Needs [`child_of`](Self::child_of).
    pub fn cascade_delete(mut self) -> Self {
        if let Some(parent) = &mut self.parent {
            Arc::make_mut(parent).owns = true;
        }
        self
    }

    /// Gives it another name, as that of a copy which has a state of its own.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Another host than the connector's base URL. The HTTP client must be told that credentials
    /// may go there.
    pub fn base(mut self, base: Url) -> Self {
        self.base = Some(base);
        self
    }

    /// A parameter of every request.
    pub fn query(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.query).push((name.into(), value.into()));
        self
    }

    /// Where the records are in a response (see [`RecordPath`]), of the streams that are added next;
    /// the response itself unless set.
    pub fn records(mut self, path: &str) -> Self {
        self.records = RecordPath::new(path);
        self
    }

    /// Feeds a stream from the [records](Self::records). The first stream is the one that
    /// paginators see.
    pub fn stream(mut self, stream: Stream) -> Self {
        let path = self.records.clone();
        Arc::make_mut(&mut self.feeds).push(Feed {
            stream,
            path,
            inside: None,
        });
        self
    }

    /// Adds columns to the streams that it feeds: what only the account knows, such as its custom
    /// fields.
    pub fn widen(mut self, columns: &[Field]) -> Self {
        for feed in Arc::make_mut(&mut self.feeds) {
            feed.stream.widen(columns);
        }
        self
    }

    /// Completes a list inside each record of the first stream: one that says that there is more is
    /// read to its end from its own path, and the record gets all of it.
    pub fn complete_embedded(mut self, list: EmbeddedList) -> Self {
        Arc::make_mut(&mut self.nested).push(list);
        self
    }

    /// Feeds a stream from a list inside each record of the first stream, completed. The stream is
    /// the one that the list's own endpoint feeds.
    pub fn stream_embedded(mut self, list: EmbeddedList) -> Self {
        if let (Some(owner), Some(feed)) = (self.feeds.first(), list.list.feeds.first()) {
            let path = RecordPath(
                [
                    &*owner.path.0,
                    &["*".to_owned(), list.member.to_owned()],
                    &*feed.path.0,
                ]
                .concat(),
            );
            let feed = Feed {
                stream: feed.stream.clone(),
                path,
                inside: Some(self.nested.len()),
            };
            Arc::make_mut(&mut self.feeds).push(feed);
        }
        self.complete_embedded(EmbeddedList {
            is_fed: true,
            ..list
        })
    }

    /// How pages follow each other; [`SinglePage`] unless set.
    pub fn paginate(mut self, paginator: impl Paginator + 'static) -> Self {
        self.paginator = Arc::new(paginator);
        self
    }

    /// How the endpoint is cut into slices; one slice unless set.
    pub fn slices(mut self, slicer: impl Slicer + 'static) -> Self {
        self.slicer = Arc::new(slicer);
        self
    }

    /// Reads only what is new since the last sync. Needs a slicer or a paginator that can say where
    /// to go on.
    pub fn incremental(mut self) -> Self {
        self.mode = SyncMode::Incremental;
        self
    }

    /// Marks a change feed: it is read after every other endpoint of the source, as it reports
    /// changes to what they list.
    ///
    /// Its rows go where the rows of the lists go. It never starts a full refresh by itself, and a
    /// stream that is selected later changes nothing for it; but when what it waits for can no
    /// longer be read ([`Slicer::expired`]), the lists of all its streams are read again.
    pub fn change_feed(mut self) -> Self {
        self.last = true;
        self
    }

    /// Is read last, as a [change feed](Self::change_feed), and corrects what the lists have read: whenever all of a stream
    /// that it feeds is read again, it begins again as well, for the lists bring back what it
    /// corrected.
    pub fn corrects(mut self) -> Self {
        self.corrects = true;
        self.change_feed()
    }

    /// Reads everything again, into a next generation, when that was last begun so long ago: what
    /// changed or vanished without the vendor saying so is right again then.
    pub fn full_refresh_interval(mut self, interval: TimeDelta) -> Self {
        self.full_refresh_interval = Some(interval);
        self
    }

    /// Says what records look like, such as the version of the vendor's API. What was read in
    /// another edition is read again, into a next generation; rows of both are never mixed.
    pub fn edition(mut self, edition: &'static str) -> Self {
        self.edition = Some(edition);
        self
    }

    /// Names a setting of the configuration which decides what rows look like, and its value. A
    /// sync that reads on with another value says so, because rows that are stored already stay as
    /// they are until a full refresh.
    pub fn setting(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.insert(name, value.into());
        self
    }

    /// The limits that a request counts against, the narrowest first; names of the client's quotas.
    pub fn buckets(mut self, buckets: impl IntoIterator<Item = &'static str>) -> Self {
        self.buckets = Arc::new(buckets.into_iter().map(Cow::Borrowed).collect());
        self
    }

    /// The limits that the pages after the first count against, where the vendor counts a list only
    /// once.
    pub fn next_page_buckets(mut self, buckets: impl IntoIterator<Item = &'static str>) -> Self {
        self.next_page_buckets = Some(buckets.into_iter().map(Cow::Borrowed).collect());
        self
    }

    /// Adds a limit whose name is made at run time, narrower than those already named.
    pub fn bucket(mut self, bucket: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.buckets).insert(0, bucket.into());
        self
    }

    /// The member that tells how far in time the endpoint is read.
    pub fn cursor(mut self, field: &'static str, format: TimeFormat) -> Self {
        self.cursor = Some(Cursor { field, format });
        self
    }

    /// Asks for pages of this many records. A page that fails with
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) is asked for again with half as many,
    /// and the size grows back later.
    pub fn page_size(mut self, param: impl Into<Cow<'static, str>>, most: u32) -> Self {
        self.page_size = Some((param.into(), most));
        self
    }

    /// The list comes newest first by its cursor and has no filter: a slice ends with the first
    /// page that reaches behind its window.
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// Requests every page of this list once in a run, for itself and for the lists of its records
    /// (see [`child_of`](Self::child_of)). Caches what they need of a record, up to 64 MiB.
    pub fn cache_pages(mut self, keep: ParentMap) -> Self {
        self.cache_pages = Some(keep);
        self
    }

    /// Read only when the configuration names a stream of it: it costs much, or another stream is
    /// better.
    pub fn opt_in(mut self) -> Self {
        self.opt_in = true;
        self
    }

    /// The vendor was asked what there is, and named it: that it may not be read is no failure,
    /// even of streams that are named.
    pub fn found(mut self) -> Self {
        self.found = true;
        self
    }

    /// The body is one JSON document a line.
    pub fn ndjson(mut self, lines: Lines) -> Self {
        self.format = BodyFormat::Ndjson(lines);
        self
    }

    /// Slices read at the same time, where each needs more than memory, such as a response on disk.
    /// Default: as the engine's options say.
    pub fn max_concurrent_slices(mut self, slices: usize) -> Self {
        self.max_concurrent_slices = Some(slices);
        self
    }

    /// The endpoint's name: a key of its state, so it never changes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Path of its requests.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How it is read from one sync to the next.
    pub fn mode(&self) -> SyncMode {
        self.mode
    }

    /// The streams it feeds, in the order of their [`StreamIndex`](crate::StreamIndex).
    pub fn streams(&self) -> impl ExactSizeIterator<Item = &Stream> {
        self.feeds.iter().map(|feed| &feed.stream)
    }

    /// Whether it is read when all others of its source have ended.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Whether it corrects what the lists have read, so that it begins again when they do.
    pub fn is_correcting(&self) -> bool {
        self.corrects
    }

    /// How long a full refresh stays good; none: for ever.
    pub fn refresh_interval(&self) -> Option<TimeDelta> {
        self.full_refresh_interval
    }

    /// What records look like, such as the version of the vendor's API.
    pub fn read_version(&self) -> Option<&'static str> {
        self.edition
    }

    /// The settings that decide what rows look like, with their values.
    pub fn settings(&self) -> &BTreeMap<&'static str, String> {
        &self.settings
    }

    /// Slices that may be read at the same time, where the endpoint says so.
    pub fn most_slices(&self) -> Option<usize> {
        self.max_concurrent_slices
    }

    /// Whether the vendor named it when asked what there is.
    pub fn is_found(&self) -> bool {
        self.found
    }

    /// The column that says which account a record is of, where the source reads several.
    pub fn account_column(&self) -> Option<&'static str> {
        self.account_column
    }

    /// The time of a record, if it has one.
    pub fn cursor_of(&self, record: &RawRecord) -> Option<DateTime<Utc>> {
        let cursor = self.cursor?;
        parse_time(&record.scalar(cursor.field)?, cursor.format)
    }

    /// Whether a stream is selected: what a connector that reads by itself need not ask for. The
    /// engine and the tests say so to the endpoint that they read; every stream is, as declared.
    pub fn wants(&self, stream: StreamIndex) -> bool {
        match &self.wanted {
            Some(wanted) => wanted.get(stream) == Some(&true),
            None => stream < self.feeds.len(),
        }
    }

    /// Whether a stream that is fed from the nested list of this number is selected.
    pub(crate) fn wants_embedded(&self, list: usize) -> bool {
        self.feeds
            .iter()
            .enumerate()
            .any(|(stream, feed)| feed.inside == Some(list) && self.wants(stream))
    }

    /// The endpoint as it is read when only these streams are selected.
    #[must_use]
    pub fn select(mut self, is_selected: impl Fn(&str) -> bool) -> Self {
        self.wanted = Some(
            self.feeds
                .iter()
                .map(|feed| is_selected(feed.stream.name()))
                .collect(),
        );
        self
    }

    /// The member that orders records in time.
    pub fn cursor_field(&self) -> Option<Cursor> {
        self.cursor
    }

    /// True when it is read only if a stream of it is named.
    pub fn is_opt_in(&self) -> bool {
        self.opt_in
    }

    /// The stream whose records hold the lists, or have them, that a stream of this endpoint is
    /// read from.
    pub fn parent_of(&self, stream: &Stream) -> Option<&Stream> {
        let is_inside = self
            .feeds
            .iter()
            .any(|feed| feed.inside.is_some() && feed.stream.name() == stream.name());
        let owner = if is_inside { Some(self) } else { self.parent() };
        owner?.streams().next()
    }

    /// The endpoint whose records each have a list of this one.
    pub fn parent(&self) -> Option<&Endpoint> {
        self.parent.as_ref().map(|parent| &parent.endpoint)
    }

    /// How it is cut into slices.
    pub fn slicer(&self) -> &dyn Slicer {
        &*self.slicer
    }

    /// How its pages follow each other.
    pub fn paginator(&self) -> &dyn Paginator {
        &*self.paginator
    }
}
