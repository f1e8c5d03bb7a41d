//! A source of several accounts: each is read by itself, and all of them into the same tables.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::HttpClient;
use pipeline_core::state::SliceState;
use pipeline_core::{
    Account, Advance, BuildContext, Catalog, CheckReport, Connector, DataType, Endpoint, Error,
    ErrorKind, Page, Plan, RawRecord, Result, Schema, Session, Stream, TokioClock, declarative,
};

use super::account::NOW;
use super::fake::{Fake, open, open_as};
use super::store::Store;
use crate::{Job, Options, Outcome, Selection, Source, Summary, sync};

/// Companies that all have an order of the same id.
#[derive(Debug)]
struct Companies {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    accounts: Mutex<Vec<Account>>,
    closed: Mutex<Vec<&'static str>>,
    /// An account whose list is refused while it is read.
    refused: Mutex<Option<&'static str>>,
    /// The endpoints in the order in which they were read.
    read: Mutex<Vec<String>>,
}

impl Companies {
    /// `whole`: the lists are read whole by every sync. Without `column` there is one account.
    fn new(whole: bool, column: Option<&'static str>) -> Arc<Self> {
        let orders = || {
            let schema = Schema::default()
                .with("id", DataType::String)
                .with("value", DataType::Int64);
            Stream::new("orders", schema).primary_key(["id"])
        };
        let list = Endpoint::get("orders", "/orders")
            .records("data")
            .stream(orders());
        let list = if whole { list } else { list.incremental() };
        let feed = Endpoint::get("changes", "/changes")
            .records("data")
            .stream(orders())
            .incremental()
            .change_feed();
        let told = |endpoint: Endpoint| column.into_iter().fold(endpoint, Endpoint::by_account);
        let context = BuildContext::default().clock(Arc::new(TokioClock::starting_at(NOW)));
        Arc::new(Self {
            client: HttpClient::builder(&context, "https://companies.test".parse().unwrap())
                .build()
                .unwrap(),
            endpoints: vec![told(feed), told(list)],
            accounts: Mutex::default(),
            closed: Mutex::default(),
            refused: Mutex::default(),
            read: Mutex::default(),
        })
    }

    fn found(&self, ids: &[&str]) {
        self.accounts(ids, false);
    }

    fn accounts(&self, ids: &[&str], named: bool) {
        *self.accounts.lock().unwrap() = ids
            .iter()
            .map(|id| Account {
                id: (*id).into(),
                named,
            })
            .collect();
    }

    async fn sync(
        self: &Arc<Self>,
        store: &Arc<Store>,
        streams: Selection,
    ) -> (Summary, Vec<String>) {
        let source = Source {
            name: "shop".to_owned(),
            connector: self.clone(),
            streams,
        };
        let mut job = Job::new("run", store.clone(), vec![source]);
        job.options = Options::default().max_slices(1);
        job.clock = Arc::new(TokioClock::starting_at(NOW));
        let summary = sync(job).await.unwrap();
        (summary, std::mem::take(&mut *self.read.lock().unwrap()))
    }
}

#[async_trait]
impl Connector for Companies {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        declarative::check(&self.client, &self.endpoints, endpoints).await
    }

    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        let accounts = self.accounts.lock().unwrap().clone();
        if accounts.is_empty() {
            return Ok(open(self));
        }
        let wanted = || {
            self.endpoints
                .iter()
                .filter(|endpoint| endpoints.contains(&endpoint.name()))
        };
        let of = |account: Account| {
            wanted().map(move |endpoint| endpoint.clone().of_account(account.clone()))
        };
        let mut plan = Plan {
            endpoints: accounts.into_iter().flat_map(of).collect(),
            ..Plan::default()
        };
        for id in self.closed.lock().unwrap().iter() {
            plan.skip_account(
                *id,
                Error::new(ErrorKind::PermissionDenied, "the company has left"),
            );
        }
        Ok(open_as(self, plan))
    }
}

impl Fake for Companies {
    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        _slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        self.read.lock().unwrap().push(endpoint.id("").endpoint);
        let account = endpoint.account().map(|account| account.id.to_string());
        let page = if account.is_some() && account.as_deref() == *self.refused.lock().unwrap() {
            Err(Error::new(ErrorKind::PermissionDenied, "refused"))
        } else {
            let order = RawRecord::upsert(r#"{"id":"o1","value":1}"#);
            let records = if endpoint.is_last() {
                Vec::new()
            } else {
                vec![order]
            };
            Ok(Page::new(vec![records], Some(Advance::End)))
        };
        stream::once(async { page }).boxed()
    }
}

#[tokio::test]
async fn accounts_are_read_one_after_the_other_into_the_same_tables() {
    let (store, companies) = (Store::new(), Companies::new(false, Some("company")));
    assert_eq!(
        Catalog::of(companies.endpoints()).streams[0].primary_key,
        ["company", "id"]
    );
    companies.found(&["a", "b"]);
    let (summary, read) = companies.sync(&store, Selection::All).await;
    assert_eq!(
        store.ids("orders"),
        ["a/o1", "b/o1"],
        "the same id is two orders"
    );
    assert_eq!(
        read,
        ["orders@a", "changes@a", "orders@b", "changes@b"],
        "a feed waits for the lists of its account alone"
    );
    assert!(
        summary
            .endpoints
            .iter()
            .all(|endpoint| matches!(endpoint.outcome, Outcome::Done))
    );
    assert!(store.state("orders").is_untouched() && !store.state("orders@a").is_untouched());
    companies.found(&["a", "b", "c"]);
    companies.sync(&store, Selection::All).await;
    assert_eq!(
        store.ids("orders"),
        ["a/o1", "b/o1", "c/o1"],
        "an account that is new starts nothing again"
    );
}

#[tokio::test]
async fn an_account_that_is_gone_or_closed_is_told_and_fails_no_other() {
    for whole in [false, true] {
        let (store, companies) = (Store::new(), Companies::new(whole, Some("company")));
        companies.found(&["a", "b", "c", "d"]);
        let named = || Selection::Named(vec!["orders".to_owned()]);
        companies.sync(&store, named()).await;
        companies.found(&["a", "b", "c"]);
        companies.closed.lock().unwrap().push("b");
        *companies.refused.lock().unwrap() = Some("c");
        let (summary, _) = companies.sync(&store, named()).await;
        let unavailable = summary
            .endpoints
            .iter()
            .filter(|endpoint| matches!(endpoint.outcome, Outcome::Unavailable { .. }));
        let mut refused: Vec<_> = unavailable
            .map(|endpoint| endpoint.id.endpoint.as_str())
            .collect();
        refused.sort_unstable();
        assert_eq!(
            refused,
            [
                "changes@b",
                "changes@c",
                "changes@d",
                "orders@b",
                "orders@c",
                "orders@d"
            ]
        );
        assert_eq!(
            summary.failure(),
            None,
            "nobody asked for these accounts by name"
        );
        let expected: &[&str] = if whole {
            &["a/o1"]
        } else {
            &["a/o1", "b/o1", "c/o1", "d/o1"]
        };
        assert_eq!(store.ids("orders"), expected);
    }
}

#[tokio::test]
async fn an_account_that_was_asked_for_and_is_closed_is_a_failure() {
    let (store, companies) = (Store::new(), Companies::new(true, Some("company")));
    companies.accounts(&["a", "b", "c"], true);
    companies.closed.lock().unwrap().push("b");
    *companies.refused.lock().unwrap() = Some("c");
    let (summary, _) = companies.sync(&store, Selection::All).await;
    let failed = summary
        .endpoints
        .iter()
        .filter(|endpoint| matches!(endpoint.outcome, Outcome::Failed { .. }));
    let failed: Vec<_> = failed
        .map(|endpoint| endpoint.id.account().unwrap())
        .collect();
    assert_eq!(
        failed,
        ["b", "b"],
        "a stream of another that may not be read is none"
    );
    assert_eq!(store.ids("orders"), ["a/o1"]);
}

#[tokio::test]
async fn a_source_that_begins_to_tell_accounts_apart_replaces_its_rows() {
    let store = Store::new();
    Companies::new(false, None)
        .sync(&store, Selection::All)
        .await;
    assert_eq!(store.ids("orders"), ["o1"]);
    let companies = Companies::new(false, Some("company"));
    companies.found(&["a", "b"]);
    companies.sync(&store, Selection::All).await;
    assert_eq!(store.ids("orders"), ["a/o1", "b/o1"]);
    assert!(store.state("orders").is_untouched());
    let (summary, read) = Companies::new(false, None)
        .sync(&store, Selection::All)
        .await;
    assert_eq!(
        (store.ids("orders"), summary.endpoints.len()),
        (vec!["o1".to_owned()], 2),
        "{read:?}"
    );
}
