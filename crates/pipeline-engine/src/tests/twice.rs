//! Two syncs with one connector: the second reads what came between them, whatever the first has
//! cached.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pipeline_core::http::{
    HeaderMap, HttpClient, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::paginate::AfterLastId;
use pipeline_core::{
    BuildContext, Connector, DataType, DeclarativeConnector, Deletes, Endpoint, RawRecord, Result,
    Schema, Stream, TokioClock,
};

use super::account::NOW;
use super::store::Store;
use crate::{Job, Outcome, Selection, Source, Summary, sync};

/// A list of customers, one a page, and a card of each.
#[derive(Debug, Default)]
struct Shop {
    customers: Mutex<Vec<&'static str>>,
    requests: Mutex<Vec<String>>,
    /// The largest page that is answered; none: any.
    largest: Mutex<Option<u32>>,
}

#[async_trait]
impl HttpService for Shop {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let url = request.full_url();
        let query = |wanted: &str| {
            url.query_pairs()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
        };
        self.requests.lock().unwrap().push(url.path().to_owned());
        let size = query("limit")
            .and_then(|size| size.parse().ok())
            .unwrap_or(1);
        if self
            .largest
            .lock()
            .unwrap()
            .is_some_and(|largest| size > largest)
        {
            return Ok(RawResponse::full(
                StatusCode::PAYLOAD_TOO_LARGE,
                HeaderMap::new(),
                "{}",
            ));
        }
        let customers = self.customers.lock().unwrap().clone();
        let body = if url.path() == "/customers" {
            let start = query("after").map_or(0, |after| {
                customers.iter().position(|id| *id == after).unwrap() + 1
            });
            let page: Vec<String> = customers
                .iter()
                .skip(start)
                .take(size as usize)
                .map(|id| format!(r#"{{"id":"{id}","value":1}}"#))
                .collect();
            format!(
                r#"{{"data":[{}],"has_more":{}}}"#,
                page.join(","),
                start + page.len() < customers.len()
            )
        } else {
            let owner = url.path().split('/').nth(2).unwrap();
            format!(r#"{{"data":[{{"id":"card_of_{owner}","value":1}}],"has_more":false}}"#)
        };
        Ok(RawResponse::full(StatusCode::OK, HeaderMap::new(), body))
    }
}

fn list(name: &'static str, path: &'static str) -> Endpoint {
    let schema = Schema::default()
        .with("id", DataType::String)
        .with("value", DataType::Int64);
    Endpoint::get(name, path)
        .records("data")
        .stream(
            Stream::new(name, schema)
                .primary_key(["id"])
                .deletes(Deletes::BySnapshot),
        )
        .paginate(AfterLastId {
            param: "after",
            more: "has_more",
            id: "id",
        })
}

#[expect(clippy::unnecessary_wraps, reason = "a `ParentMap`")]
fn keep(record: &RawRecord) -> Result<Option<RawRecord>> {
    Ok(Some(record.clone()))
}

fn connector(shop: &Arc<Shop>, customers: Endpoint) -> Arc<dyn Connector> {
    let context = BuildContext::default()
        .transport(shop.clone())
        .clock(Arc::new(TokioClock::starting_at(NOW)));
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .build()
        .unwrap();
    let cards = list("cards", "/customers/{id}/cards").child_of(customers.clone());
    Arc::new(DeclarativeConnector::new(client, vec![customers, cards]))
}

async fn run(store: &Arc<Store>, connector: &Arc<dyn Connector>, streams: Selection) -> Summary {
    let source = Source {
        name: "shop".to_owned(),
        connector: Arc::clone(connector),
        streams,
    };
    let mut job = Job::new("run", store.clone(), vec![source]);
    job.clock = Arc::new(TokioClock::starting_at(NOW));
    let summary = sync(job).await.unwrap();
    assert!(
        summary
            .endpoints
            .iter()
            .all(|endpoint| matches!(endpoint.outcome, Outcome::Done)),
        "{summary:?}"
    );
    summary
}

#[tokio::test(start_paused = true)]
async fn a_second_sync_reads_the_children_of_parents_that_came_between() {
    let cards = || Selection::Named(vec!["cards".to_owned()]);
    for first in [Selection::All, cards()] {
        for customers in [vec!["a", "b", "c"], vec!["b", "bb", "c"]] {
            for shared in [false, true] {
                let shop = Arc::new(Shop {
                    customers: Mutex::new(vec!["b", "c"]),
                    ..Shop::default()
                });
                let declared = list("customers", "/customers");
                let connector = connector(
                    &shop,
                    if shared {
                        declared.cache_pages(keep)
                    } else {
                        declared
                    },
                );
                let store = Store::new();
                run(&store, &connector, first.clone()).await;
                assert_eq!(store.ids("cards"), ["card_of_b", "card_of_c"]);
                shop.customers.lock().unwrap().clone_from(&customers);
                run(&store, &connector, cards()).await;
                let expected: Vec<String> =
                    customers.iter().map(|id| format!("card_of_{id}")).collect();
                assert_eq!(
                    store.ids("cards"),
                    expected,
                    "shared: {shared}, first sync: {first:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_is_shared_within_a_sync_and_not_with_the_next() {
    let shop = Arc::new(Shop {
        customers: Mutex::new(vec!["b", "c"]),
        ..Shop::default()
    });
    let (connector, store) = (
        connector(&shop, list("customers", "/customers").cache_pages(keep)),
        Store::new(),
    );
    for _ in 0..2 {
        run(&store, &connector, Selection::All).await;
        let requests = std::mem::take(&mut *shop.requests.lock().unwrap());
        assert_eq!(
            requests.iter().filter(|path| *path == "/customers").count(),
            2,
            "{requests:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_sync_asks_for_whole_pages_again() {
    let shop = Arc::new(Shop {
        customers: Mutex::new(vec!["a", "b", "c", "d"]),
        largest: Mutex::new(Some(2)),
        ..Shop::default()
    });
    let customers = list("customers", "/customers").page_size("limit", 4);
    let (connector, store) = (connector(&shop, customers), Store::new());
    let named = || Selection::Named(vec!["customers".to_owned()]);
    run(&store, &connector, named()).await;
    assert_eq!(
        std::mem::take(&mut *shop.requests.lock().unwrap()).len(),
        3,
        "one page that is too large, and two of two"
    );
    *shop.largest.lock().unwrap() = None;
    run(&store, &connector, named()).await;
    assert_eq!(shop.requests.lock().unwrap().len(), 1);
}
