//! Lists whose records cannot be rows any more.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::HttpClient;
use pipeline_core::state::{Position, SliceState};
use pipeline_core::{
    Advance, BuildContext, CheckReport, Connector, DataType, Endpoint, ErrorKind, Page, RawRecord,
    Result, Schema, Session, Stream, TokioClock, declarative,
};

use super::account::NOW;
use super::fake::{Fake, open};
use super::store::Store;
use crate::destination::Destination;
use crate::{ErrorBudget, Job, Outcome, Selection, Source, Summary, sync};

/// A list of pages of records; every page boundary is a place to stop.
#[derive(Debug)]
pub(super) struct List {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    pages: Mutex<Vec<Vec<String>>>,
    /// True when its pages are parts of one response, which has no place to stop inside.
    is_response: bool,
    /// Pages of a walk after which it stands still.
    pub(super) hang_after: Mutex<Option<usize>>,
}

impl List {
    pub(super) fn new(incremental: bool) -> Arc<Self> {
        Self::build(incremental, &["id"], false)
    }

    /// A list that is read on, whose records have no key.
    pub(super) fn without_key() -> Arc<Self> {
        Self::build(true, &[], false)
    }

    /// The same, in one response that has no place to stop inside.
    pub(super) fn response() -> Arc<Self> {
        Self::build(true, &[], true)
    }

    fn build(incremental: bool, key: &'static [&'static str], is_response: bool) -> Arc<Self> {
        let schema = Schema::default()
            .with("id", DataType::String)
            .with("value", DataType::Int64);
        let taxes = Endpoint::get("taxes", "/taxes")
            .records("data")
            .stream(Stream::new("taxes", schema).primary_key(key.iter().copied()));
        let context = BuildContext::default().clock(Arc::new(TokioClock::starting_at(NOW)));
        let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
            .build()
            .unwrap();
        Arc::new(Self {
            client,
            endpoints: vec![if incremental {
                taxes.incremental()
            } else {
                taxes
            }],
            pages: Mutex::default(),
            is_response,
            hang_after: Mutex::default(),
        })
    }

    /// Has records in pages of so many.
    pub(super) fn set(&self, records: impl IntoIterator<Item = String>, page: usize) {
        let records: Vec<String> = records.into_iter().collect();
        *self.pages.lock().unwrap() = records.chunks(page).map(<[String]>::to_vec).collect();
    }

    async fn sync(self: &Arc<Self>, store: &Arc<Store>, budget: Option<&str>) -> Summary {
        let mut job = self.job(store);
        if let Some(share) = budget {
            let budget = ErrorBudget {
                streams: [("taxes".to_owned(), share.parse().unwrap())].into(),
                ..ErrorBudget::default()
            };
            job.budgets.insert("shop".to_owned(), budget);
        }
        sync(job).await.unwrap()
    }

    /// A sync of the list, as the source `shop`.
    pub(super) fn job(self: &Arc<Self>, store: &Arc<Store>) -> Job {
        let source = Source {
            name: "shop".to_owned(),
            connector: self.clone(),
            streams: Selection::All,
        };
        let mut job = Job::new(
            "run",
            Arc::clone(store) as Arc<dyn Destination>,
            vec![source],
        );
        job.clock = Arc::new(TokioClock::starting_at(NOW));
        job
    }
}

#[async_trait::async_trait]
impl Connector for List {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(&self.client, &self.endpoints, endpoints).await
    }

    async fn open(self: Arc<Self>, _endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        Ok(open(self))
    }
}

impl Fake for List {
    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        let pages = self.pages.lock().unwrap().clone();
        let start = match &slice.position {
            Position::At(at) => at.parse().unwrap(),
            _ => 0,
        };
        let (count, is_whole) = (
            pages.len(),
            endpoint.mode() == pipeline_core::SyncMode::FullRefresh,
        );
        let is_response = self.is_response;
        let end = move || {
            if is_whole {
                Advance::End
            } else {
                Advance::CaughtUp(count.to_string())
            }
        };
        let page = move |(index, records): (usize, Vec<String>)| {
            let advance = if index + 1 < count {
                (!is_response).then(|| Advance::Next((index + 1).to_string()))
            } else {
                Some(end())
            };
            Ok(Page::new(
                vec![records.into_iter().map(RawRecord::upsert).collect()],
                advance,
            ))
        };
        let nothing = (start >= count).then(|| Ok(Page::new(vec![Vec::new()], Some(end()))));
        let hang_after = *self.hang_after.lock().unwrap();
        let pages = stream::iter(
            pages
                .into_iter()
                .enumerate()
                .skip(start)
                .map(page)
                .chain(nothing),
        );
        let paced = pages.enumerate().then(move |(read, page)| async move {
            // A commit falls between any two pages.
            tokio::time::sleep(std::time::Duration::from_secs(11)).await;
            if hang_after == Some(read) {
                std::future::pending::<()>().await;
            }
            page
        });
        paced.boxed()
    }
}

fn good(index: usize) -> String {
    format!(r#"{{"id":"tx_{index}","value":{index}}}"#)
}

/// Ways in which a list stops being what it was.
fn bad(kind: &str, index: usize) -> String {
    match kind {
        "renamed" => format!(r#"{{"uid":"tx_{index}","value":{index}}}"#),
        "retyped" => format!(r#"{{"id":{{"value":"tx_{index}"}},"value":{index}}}"#),
        "a list" => format!(r#"{{"id":["tx_{index}"],"value":{index}}}"#),
        "null" => format!(r#"{{"id":null,"value":{index}}}"#),
        "repeated" => format!(r#"{{"id":"tx_{index}","value":{index},"id":null}}"#),
        "a string" => format!(r#""tx_{index}""#),
        _ => unreachable!("unknown kind {kind}"),
    }
}

fn failure(summary: &Summary) -> String {
    match &summary.endpoints[0].outcome {
        Outcome::Failed { error } => format!(
            "{}: {}\n{}",
            error.kind,
            error.message,
            error.help.clone().unwrap_or_default()
        ),
        other => format!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a5_a_list_whose_records_are_all_rejected_does_not_replace_its_table() {
    for kind in [
        "renamed", "retyped", "a list", "null", "repeated", "a string",
    ] {
        for (count, page) in [(50, 100), (50, 7), (50, 1), (4, 100), (1, 100)] {
            let (store, list) = (Store::new(), List::new(false));
            list.set((0..count).map(good), page);
            list.sync(&store, None).await;
            list.set((0..count).map(|index| bad(kind, index)), page);
            for attempt in 0..3 {
                let summary = list.sync(&store, None).await;
                assert_eq!(
                    summary.failure(),
                    Some(ErrorKind::Rejected),
                    "{kind}, {count} in pages of {page}, attempt {attempt}: {summary:?}"
                );
                assert_eq!(
                    store.len("taxes"),
                    count,
                    "{kind}, {count} in pages of {page}"
                );
            }
            list.set((0..=count).map(good), page);
            assert_eq!(list.sync(&store, None).await.failure(), None);
            assert_eq!(
                store.len("taxes"),
                count + 1,
                "{kind}: a list that is right again is read whole"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a5_a_refresh_that_failed_or_was_killed_is_not_complete_where_the_next_one_would_go_on() {
    // The bad records come first, so that what is left is a good list.
    for (count, bad_ones, page) in [(5_usize, 3, 2), (50, 45, 5), (300, 100, 20)] {
        for pages in 1..=count.div_ceil(page) {
            let (store, list) = (Store::new(), List::new(false));
            list.set((0..count).map(good), page);
            list.sync(&store, None).await;
            list.set(
                (0..count).map(|index| {
                    if index < bad_ones {
                        bad("renamed", index)
                    } else {
                        good(index)
                    }
                }),
                page,
            );
            *list.hang_after.lock().unwrap() = Some(pages);
            let killed =
                tokio::time::timeout(std::time::Duration::from_hours(1), list.sync(&store, None))
                    .await;
            *list.hang_after.lock().unwrap() = None;
            let summary = list.sync(&store, None).await;
            let what = format!(
                "{bad_ones} of {count}, killed after {pages} pages: {}",
                killed.is_err()
            );
            assert_eq!(
                (summary.failure(), store.len("taxes")),
                (Some(ErrorKind::Rejected), count),
                "{what}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a5_an_incremental_stream_does_not_pass_over_records_that_are_rejected_en_masse() {
    let (store, list) = (Store::new(), List::new(true));
    list.set((0..300).map(good), 100);
    list.sync(&store, None).await;
    assert_eq!(store.len("taxes"), 300);
    let records = |renamed: bool| {
        (0..500).map(move |index| {
            if renamed && index >= 400 {
                bad("renamed", index)
            } else {
                good(index)
            }
        })
    };
    list.set(records(true), 100);
    for _ in 0..3 {
        let summary = list.sync(&store, None).await;
        assert_eq!(summary.failure(), Some(ErrorKind::Rejected), "{summary:?}");
        assert_eq!(
            store.len("taxes"),
            400,
            "what could be read before is there"
        );
        assert!(
            store.len("_rejected") >= 100,
            "what could not be read can be looked at"
        );
    }
    list.set(records(false), 100);
    assert_eq!(list.sync(&store, None).await.failure(), None);
    assert_eq!(store.len("taxes"), 500);
}

#[tokio::test(start_paused = true)]
async fn a5_the_share_decides_and_can_be_set_for_a_stream() {
    // (rejected of 1,000, share, fails)
    for (rejected, share, fails) in [
        (40, None, false),
        (60, None, true),
        (60, Some("10%"), false),
        (110, Some("10%"), true),
        (1, Some("0%"), true),
        (1_000, Some("100%"), false),
    ] {
        for first in [true, false] {
            let (store, list) = (Store::new(), List::new(false));
            let is_bad = |index| {
                if first {
                    index < rejected
                } else {
                    index % 1_000 >= 1_000 - rejected
                }
            };
            list.set(
                (0..1_000).map(|index| {
                    if is_bad(index) {
                        bad("renamed", index)
                    } else {
                        good(index)
                    }
                }),
                100,
            );
            let summary = list.sync(&store, share).await;
            assert_eq!(
                summary.failure().is_some(),
                fails,
                "{rejected}, {share:?}, first: {first}: {summary:?}"
            );
            assert_eq!(store.len("taxes"), if fails { 0 } else { 1_000 - rejected });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a5_the_failure_says_how_many_why_where_and_what_to_do() {
    let (store, list) = (Store::new(), List::new(false));
    list.set(
        (0..50).map(|index| bad(if index < 5 { "retyped" } else { "renamed" }, index)),
        100,
    );
    let summary = list.sync(&store, None).await;
    insta::assert_snapshot!(failure(&summary), @r"
    rejected: 50 of 50 records of `taxes` cannot be rows; the most frequent reason: the record has no primary key
    the table keeps its earlier rows; compare the records in the table `_rejected` with the vendor's documentation, and raise `max_rejected` of the source (5 % now) only if the other rows are right without them
    ");
    assert_eq!(summary.endpoints[0].streams[0].rejected, 50);
}

/// A rule that somebody added to the destination, such as a unique index, refuses rows of a stream
/// that is read on: the sync stops before their page, and reads them when the rule is gone.
#[tokio::test(start_paused = true)]
async fn f4_an_incremental_stream_does_not_pass_over_rows_that_the_destination_refuses_en_masse() {
    let (store, list) = (Store::new(), List::new(true));
    list.set((0..300).map(good), 100);
    list.sync(&store, None).await;
    list.set((0..500).map(good), 100);
    (400..439).for_each(|index| store.refuse(&format!("tx_{index}")));
    for _ in 0..3 {
        let summary = list.sync(&store, None).await;
        assert_eq!(summary.failure(), Some(ErrorKind::Rejected), "{summary:?}");
        assert!(summary.lasts());
        assert_eq!(store.len("taxes"), 461, "what is not refused is there");
        assert_eq!(summary.endpoints[0].streams[0].rejected, 39);
    }
    assert!(failure(&list.sync(&store, None).await).contains("run again"));
    (400..439).for_each(|index| store.accept(&format!("tx_{index}")));
    assert_eq!(list.sync(&store, None).await.failure(), None);
    assert_eq!(store.len("taxes"), 500, "nothing was passed over");
    let summary = list.sync(&store, None).await;
    assert_eq!(
        (summary.failure(), summary.endpoints[0].streams[0].records),
        (None, 0),
        "and it goes on behind them"
    );
}

/// As few as may be rejected are passed over, and can be looked at.
#[tokio::test(start_paused = true)]
async fn f4_a_few_refused_rows_are_rejected_records() {
    for (refused, budget, failure) in [
        (9, None, None),
        (10, None, Some(ErrorKind::Rejected)),
        (1, Some("0%"), Some(ErrorKind::Rejected)),
    ] {
        let (store, list) = (Store::new(), List::new(true));
        list.set((0..100).map(good), 100);
        (0..refused).for_each(|index| store.refuse(&format!("tx_{index}")));
        assert_eq!(
            list.sync(&store, budget).await.failure(),
            failure,
            "{refused}, {budget:?}"
        );
        assert_eq!(
            (store.len("taxes"), store.len("_rejected")),
            (100 - refused, refused),
            "{refused}, {budget:?}"
        );
        let next = list.sync(&store, budget).await;
        assert_eq!(
            next.failure(),
            failure,
            "{refused}, {budget:?}: the same as before"
        );
    }
}

/// A refresh of which the destination refuses too much is not published, whenever it was
/// interrupted, and begins anew.
#[tokio::test(start_paused = true)]
async fn f4_a_refresh_that_the_destination_refuses_keeps_the_table() {
    for (page, killed_after) in [(100, None), (20, None), (20, Some(4)), (20, Some(14))] {
        let (store, list) = (Store::new(), List::new(false));
        list.set((0..300).map(good), page);
        list.sync(&store, None).await;
        list.set((0..310).map(good), page);
        (0..40).for_each(|index| store.refuse(&format!("tx_{index}")));
        *list.hang_after.lock().unwrap() = killed_after;
        let _ =
            tokio::time::timeout(std::time::Duration::from_hours(1), list.sync(&store, None)).await;
        *list.hang_after.lock().unwrap() = None;
        for _ in 0..3 {
            let summary = list.sync(&store, None).await;
            let what = format!("pages of {page}, killed after {killed_after:?}");
            assert_eq!(
                (summary.failure(), store.len("taxes")),
                (Some(ErrorKind::Rejected), 300),
                "{what}"
            );
        }
        (0..40).for_each(|index| store.accept(&format!("tx_{index}")));
        assert_eq!(list.sync(&store, None).await.failure(), None);
        assert_eq!(store.len("taxes"), 310);
    }
}
