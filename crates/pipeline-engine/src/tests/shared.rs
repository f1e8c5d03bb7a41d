//! Tables that several endpoints feed, and a feed of changes that is read last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::{HttpClient, Request};
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, SliceState};
use pipeline_core::{
    Advance, BuildContext, CheckReport, Connector, DataType, Endpoint, Error, ErrorKind, Event,
    Observer, Page, RawRecord, Result, Schema, Session, Stream, TokioClock, declarative,
};

use super::account::NOW;
use super::fake::{Fake, open};
use super::store::Store;
use crate::destination::{Damage, TableId};
use crate::{Job, Outcome, Selection, Source, Summary, sync};

/// What a list has to give: ids and values, or what it fails with.
type Orders = std::result::Result<Vec<(&'static str, i64)>, ErrorKind>;

/// Shops whose orders go into one table, each from a list of its own, and a feed of changes to all
/// of them.
#[derive(Debug)]
struct Shops {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    lists: Mutex<BTreeMap<&'static str, Orders>>,
    /// The endpoints in the order in which they were read.
    read: Mutex<Vec<String>>,
}

/// What the run said that whoever started it should know.
#[derive(Debug, Default)]
struct Notices(Mutex<Vec<String>>);

impl Observer for Notices {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Notice {
            endpoint, message, ..
        } = event
        {
            self.0
                .lock()
                .unwrap()
                .push(format!("{endpoint}: {message}"));
        }
    }
}

/// One slice a sync; its position says nothing.
#[derive(Clone, Copy, Debug)]
struct Feed {
    expired: bool,
}

impl Slicer for Feed {
    fn plan(
        &self,
        _state: &EndpointState,
        _range: TimeRange,
        _now: DateTime<Utc>,
    ) -> Vec<SliceState> {
        vec![SliceState::default()]
    }

    fn apply(&self, _slice: &SliceState, _request: &mut Request) -> Result<()> {
        Ok(())
    }

    fn expired(&self, state: &EndpointState, _now: DateTime<Utc>) -> bool {
        self.expired && state.plan > 0
    }
}

impl Shops {
    /// `whole`: the lists are read whole by every sync. `expired`: the feed has lost its place from
    /// the second sync on.
    fn new(whole: bool, expired: bool) -> Arc<Self> {
        let orders = || {
            let schema = Schema::default()
                .with("id", DataType::String)
                .with("value", DataType::Int64);
            Stream::new("orders", schema).primary_key(["id"])
        };
        let list = |name| {
            let endpoint = Endpoint::get(name, "/orders")
                .records("data")
                .stream(orders());
            if whole {
                endpoint
            } else {
                endpoint.incremental()
            }
        };
        let feed = Endpoint::get("changes", "/changes")
            .records("data")
            .stream(orders())
            .slices(Feed { expired })
            .incremental()
            .change_feed();
        let context = BuildContext::default().clock(Arc::new(TokioClock::starting_at(NOW)));
        Arc::new(Self {
            client: HttpClient::builder(&context, "https://shops.test".parse().unwrap())
                .build()
                .unwrap(),
            endpoints: vec![feed, list("a"), list("b")],
            lists: Mutex::new(BTreeMap::from([
                ("a", Ok(vec![("a1", 1), ("a2", 1)])),
                ("b", Ok(vec![("b1", 1)])),
                ("changes", Ok(vec![])),
            ])),
            read: Mutex::default(),
        })
    }

    fn has(&self, endpoint: &'static str, orders: &[(&'static str, i64)]) {
        self.lists
            .lock()
            .unwrap()
            .insert(endpoint, Ok(orders.to_vec()));
    }

    fn fails(&self, endpoint: &'static str, kind: ErrorKind) {
        self.lists.lock().unwrap().insert(endpoint, Err(kind));
    }

    async fn sync(self: &Arc<Self>, store: &Arc<Store>) -> (Summary, Vec<String>) {
        self.sync_for(store, &[]).await
    }

    /// Reads what brings the newest records of these streams.
    async fn sync_for(
        self: &Arc<Self>,
        store: &Arc<Store>,
        streams: &[&str],
    ) -> (Summary, Vec<String>) {
        let streams: BTreeSet<String> = streams.iter().map(|name| (*name).to_owned()).collect();
        let targets = if streams.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([("shop".to_owned(), streams)])
        };
        let source = Source {
            name: "shop".to_owned(),
            connector: self.clone(),
            streams: Selection::All,
        };
        let notices = Arc::new(Notices::default());
        let mut job = Job::new("run", store.clone(), vec![source])
            .observer(notices.clone())
            .targets(targets);
        job.clock = Arc::new(TokioClock::starting_at(NOW));
        let summary = sync(job).await.unwrap();
        let mut read = std::mem::take(&mut *self.read.lock().unwrap());
        read.append(&mut notices.0.lock().unwrap());
        (summary, read)
    }
}

#[async_trait]
impl Connector for Shops {
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

impl Fake for Shops {
    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        _slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        self.read.lock().unwrap().push(endpoint.name().to_owned());
        let page = match &self.lists.lock().unwrap()[endpoint.name()] {
            Ok(orders) => {
                let record = |(id, value): &(&str, i64)| {
                    RawRecord::upsert(format!(r#"{{"id":"{id}","value":{value}}}"#))
                };
                Ok(Page::new(
                    vec![orders.iter().map(record).collect()],
                    Some(Advance::End),
                ))
            }
            Err(kind) => Err(Error::new(*kind, "the shop is closed")),
        };
        stream::once(async { page }).boxed()
    }
}

#[tokio::test]
async fn a_table_of_several_lists_is_published_when_all_of_them_are_read() {
    let (store, shops) = (Store::new(), Shops::new(true, false));
    shops.fails("b", ErrorKind::Unavailable);
    shops.sync(&store).await;
    assert_eq!(store.ids("orders"), [""; 0], "half a table is not shown");
    shops.has("b", &[("b1", 1)]);
    let (_, read) = shops.sync(&store).await;
    assert_eq!(store.ids("orders"), ["a1", "a2", "b1"]);
    assert_eq!(
        read,
        ["b", "changes"],
        "what the first run has read is not read again"
    );

    shops.has("a", &[("a2", 1)]);
    let (summary, read) = shops.sync(&store).await;
    assert_eq!(
        store.ids("orders"),
        ["a2", "b1"],
        "what vanished from a list vanishes from the table"
    );
    assert_eq!(read, ["a", "b", "changes"], "the feed comes last");
    let rows: Vec<u64> = summary
        .endpoints
        .iter()
        .map(|endpoint| endpoint.streams[0].rows)
        .collect();
    assert_eq!(rows, [0, 1, 1], "each endpoint's rows are its own");
}

#[tokio::test]
async fn a_targeted_sync_reads_the_feed_alone_and_leaves_the_lists_as_they_are() {
    let (store, shops) = (Store::new(), Shops::new(false, false));
    let (_, read) = shops.sync_for(&store, &["orders"]).await;
    assert_eq!(
        read,
        ["a", "b", "changes"],
        "before the first complete sync everything is read"
    );
    shops.has("changes", &[("a1", 7)]);
    let (summary, read) = shops.sync_for(&store, &["orders"]).await;
    assert_eq!(read, ["changes"]);
    assert_eq!(summary.endpoints.len(), 1);
    assert_eq!(store.ids("orders"), ["a1", "a2", "b1"]);
    let (_, read) = shops.sync_for(&store, &["no such stream"]).await;
    assert_eq!(read, ["a", "b", "changes"], "what cannot be targeted");
    shops.has("a", &[]);
    shops.sync(&store).await;
    assert_eq!(
        store.ids("orders"),
        ["a1", "a2", "b1"],
        "the lists have gone on, and were not begun again"
    );
}

#[tokio::test]
async fn a_targeted_sync_reads_everything_when_less_would_lose_something() {
    // Lists that are always read whole share their table with the feed.
    let (store, shops) = (Store::new(), Shops::new(true, false));
    shops.sync(&store).await;
    shops.has("a", &[("a3", 1)]);
    let (_, read) = shops.sync_for(&store, &["orders"]).await;
    assert_eq!(read, ["a", "b", "changes"]);
    assert_eq!(store.ids("orders"), ["a3", "b1"]);
    // A feed that has lost its place has to be told what the lists say now.
    let (store, shops) = (Store::new(), Shops::new(false, true));
    shops.sync(&store).await;
    let (_, read) = shops.sync_for(&store, &["orders"]).await;
    let lists: Vec<_> = read.iter().filter(|line| !line.contains(':')).collect();
    assert_eq!(lists, ["a", "b", "changes"]);
}

#[tokio::test]
async fn a_list_that_may_not_be_read_holds_up_no_other() {
    let (store, shops) = (Store::new(), Shops::new(true, false));
    shops.sync(&store).await;
    shops.fails("b", ErrorKind::PermissionDenied);
    shops.has("a", &[("a3", 1)]);
    let (summary, _) = shops.sync(&store).await;
    assert_eq!(store.ids("orders"), ["a3"]);
    assert!(
        matches!(summary.endpoints[2].outcome, Outcome::Unavailable { .. }),
        "{summary:?}"
    );
    shops.has("b", &[("b2", 1)]);
    shops.sync(&store).await;
    assert_eq!(store.ids("orders"), ["a3", "b2"]);
    shops.fails("a", ErrorKind::PermissionDenied);
    shops.fails("b", ErrorKind::PermissionDenied);
    shops.sync(&store).await;
    assert_eq!(
        store.ids("orders"),
        ["a3", "b2"],
        "nothing to show is no reason to show nothing"
    );
}

#[tokio::test]
async fn a_feed_writes_into_the_generation_that_the_lists_fill() {
    let (store, shops) = (Store::new(), Shops::new(true, false));
    shops.sync(&store).await;
    shops.has("changes", &[("a1", 7), ("b9", 7)]);
    shops.fails("b", ErrorKind::Unavailable);
    shops.sync(&store).await;
    assert_eq!(
        store.ids("orders"),
        ["a1", "a2", "b1"],
        "the generation is not complete"
    );
    shops.has("changes", &[]);
    shops.has("b", &[("b1", 2)]);
    shops.sync(&store).await;
    assert_eq!(store.ids("orders"), ["a1", "a2", "b1", "b9"]);
    assert_eq!(
        (
            store.value_of("orders", "a1"),
            store.value_of("orders", "b1")
        ),
        (7, 2)
    );
}

#[tokio::test]
async fn lists_are_read_again_when_the_feed_has_a_gap() {
    let (store, shops) = (Store::new(), Shops::new(false, true));
    shops.sync(&store).await;
    shops.has("a", &[("a2", 3)]);
    let (_, read) = shops.sync(&store).await;
    assert_eq!(
        store.ids("orders"),
        ["a2", "b1"],
        "what vanished while nobody listened is gone"
    );
    assert_eq!(store.value_of("orders", "a2"), 3);
    assert_eq!(read[..3], ["a", "b", "changes"]);
    assert!(
        read[3].starts_with("changes: changes since the last sync can no longer be read"),
        "{read:?}"
    );
}

#[tokio::test]
async fn b8_what_shares_a_table_is_read_again_with_what_was_reset() {
    let (store, shops) = (Store::new(), Shops::new(false, false));
    shops.sync(&store).await;
    for (reset, order, before, after) in [
        (
            "changes",
            "a3",
            ["a1", "a2", "a3", "b1"].as_slice(),
            ["a3", "b1"].as_slice(),
        ),
        ("a", "a4", &["a3", "a4", "b1"], &["a4", "b1"]),
        ("b", "a5", &["a4", "a5", "b1"], &["a5", "b1"]),
    ] {
        shops.has("a", &[(order, 3)]);
        shops.sync(&store).await;
        assert_eq!(
            store.ids("orders"),
            before,
            "{reset}: nothing is begun again"
        );
        store.reset(reset);
        shops.sync(&store).await;
        assert_eq!(store.ids("orders"), after, "{reset}: what is gone is gone");
    }
}

#[tokio::test]
async fn a13_a_feed_goes_on_beside_a_damaged_table_unless_its_own_position_is_lost() {
    let (store, shops) = (Store::new(), Shops::new(false, false));
    shops.sync(&store).await;
    let table = TableId {
        source: "shop".to_owned(),
        stream: "orders".to_owned(),
    };
    let damage = Damage {
        table: Some(table),
        what: "rows are missing".to_owned(),
        help: "read it again".to_owned(),
    };
    store.damage(vec![damage]);
    shops.has("changes", &[("a1", 7)]);
    let (summary, read) = shops.sync(&store).await;
    let is_failed = |index: usize| matches!(&summary.endpoints[index].outcome, Outcome::Failed { error } if error.kind == ErrorKind::Destination);
    assert_eq!(
        (is_failed(0), is_failed(1), is_failed(2)),
        (false, true, true),
        "{summary:?}"
    );
    assert_eq!(
        (read[0].as_str(), store.value_of("orders", "a1")),
        ("changes", 7)
    );
    store.forget("changes");
    let (summary, read) = shops.sync(&store).await;
    assert_eq!(
        (summary.failure(), read),
        (Some(ErrorKind::Destination), vec![])
    );
    assert!(
        store.state("changes").is_untouched(),
        "it does not begin anew, as if nothing had happened meanwhile"
    );
}

#[tokio::test]
async fn a13_lists_that_every_sync_reads_whole_repair_their_table() {
    let (store, shops) = (Store::new(), Shops::new(true, false));
    shops.sync(&store).await;
    let table = TableId {
        source: "shop".to_owned(),
        stream: "orders".to_owned(),
    };
    store.damage(vec![Damage {
        table: Some(table),
        what: "rows are missing".to_owned(),
        help: "read it again".to_owned(),
    }]);
    shops.has("a", &[("a2", 3)]);
    let (summary, _) = shops.sync(&store).await;
    assert_eq!(
        (summary.failure(), store.ids("orders")),
        (None, vec!["a2".to_owned(), "b1".to_owned()])
    );
}
