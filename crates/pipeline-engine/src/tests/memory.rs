//! What is held at once, whatever is sent: lists of large pages, each of several, and lists of the
//! records of one.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use pipeline_core::http::{
    HeaderMap, HttpClient, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::paginate::CursorField;
use pipeline_core::{
    BuildContext, CheckReport, Connector, DataType, Endpoint, ErrorKind, Field, MemoryBudget,
    Result, Schema, Session, Stream, TokioClock, declarative,
};
use tokio::time::{Instant, sleep};

use super::account::NOW;
use super::fake::{Fake, open};
use super::store::Store;
use crate::{Job, Outcome, Selection, Source, Summary, sync};

thread_local! {
    /// The memory of the run that this thread began last.
    pub(in crate) static LAST: RefCell<Option<MemoryBudget>> = const { RefCell::new(None) };
}

const MIB: usize = 1 << 20;

static FIELDS: [Field; 3] = [
    Field::new("id", DataType::String),
    Field::new("value", DataType::Int64),
    Field::new("text", DataType::String),
];

/// Answers every list with so many pages of so many bytes, in pieces, and counts what it was asked
/// for.
#[derive(Debug)]
struct Large {
    pages: usize,
    bytes: usize,
    /// Makes a record with an id.
    record: fn(&str) -> String,
    requests: AtomicUsize,
    seen: Mutex<Vec<String>>,
}

impl Large {
    fn page(&self, path: &str, page: usize) -> String {
        let mut body = String::from("{\"data\":[");
        if path == "/parents" {
            let parents: Vec<_> = (0..1_200)
                .map(|parent| format!("{{\"id\":\"{parent}\",\"text\":\"{}\"}}", "t".repeat(300)))
                .collect();
            return format!("{{\"data\":[{}]}}", parents.join(","));
        }
        // Of the lists of parents one in four hundred is long.
        let bytes =
            if path.starts_with("/children") && !path.ends_with("100") && !path.ends_with("500") {
                100
            } else {
                self.bytes
            };
        while body.len() < bytes {
            body.push_str(if body.ends_with('[') { "" } else { "," });
            body.push_str(&(self.record)(&format!("{path} {page} {}", body.len())));
        }
        let next = if page < self.pages {
            format!("\"{}\"", page + 1)
        } else {
            "null".to_owned()
        };
        body.extend(["],\"next\":", &next, "}"]);
        body
    }
}

#[async_trait]
impl HttpService for Large {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        sleep(Duration::from_millis(50)).await;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let page = request
            .query
            .iter()
            .find(|(name, _)| name == "page")
            .and_then(|(_, page)| page.parse().ok())
            .unwrap_or(1);
        self.seen
            .lock()
            .unwrap()
            .push(format!("{} {page}", request.url.path()));
        let body = Bytes::from(self.page(request.url.path(), page));
        let pieces = (0..body.len().div_ceil(256 << 10))
            .map(move |piece| body.slice(piece << 18..body.len().min((piece + 1) << 18)));
        let body = stream::iter(pieces).then(|piece| async {
            sleep(Duration::from_millis(5)).await;
            Ok(piece)
        });
        Ok(RawResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.boxed(),
        })
    }
}

#[derive(Debug)]
struct Vendor {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
}

#[async_trait]
impl Connector for Vendor {
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

impl Fake for Vendor {}

fn list(name: &str, path: &str) -> Endpoint {
    let stream = Stream::new(name.to_owned(), Schema::from_static(&FIELDS)).primary_key(["id"]);
    let walk = CursorField {
        param: "page",
        token: "next",
        more: None,
        first_page_only: &[],
        resumable: false,
    };
    Endpoint::get(name.to_owned(), path.to_owned())
        .records("data")
        .stream(stream)
        .paginate(walk)
}

/// A sync of lists with a budget of 1 MiB, which is 49 with what a page may take beyond it.
async fn read(large: &Arc<Large>, endpoints: Vec<Endpoint>) -> (Summary, Arc<Store>, MemoryBudget) {
    let context = BuildContext::default()
        .transport(large.clone())
        .clock(Arc::new(TokioClock::starting_at(NOW)));
    let client = HttpClient::builder(&context, "https://shop.test".parse().unwrap())
        .build()
        .unwrap();
    let (store, connector) = (Store::appending(), Arc::new(Vendor { client, endpoints }));
    let source = Source {
        name: "shop".to_owned(),
        connector,
        streams: Selection::All,
    };
    let mut job = Job::new("run", store.clone(), vec![source]);
    job.clock = context.clock;
    job.options.memory_budget = MIB;
    let summary = tokio::time::timeout(Duration::from_hours(1), sync(job)).await;
    let memory = LAST.take().unwrap();
    let Ok(summary) = summary else {
        panic!("it hangs: {memory:?}")
    };
    (summary.unwrap(), store, memory)
}

fn large(pages: usize, bytes: usize, record: fn(&str) -> String) -> Arc<Large> {
    Arc::new(Large {
        pages,
        bytes,
        record,
        requests: AtomicUsize::new(0),
        seen: Mutex::default(),
    })
}

fn usual(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","value":1,"text":"{}"}}"#,
        "words and more of them ".repeat(20)
    )
}

#[tokio::test(start_paused = true)]
async fn a7_lists_of_large_pages_take_turns_within_the_budget() {
    let (large, started) = (large(2, 3 * MIB, usual), Instant::now());
    let names: Vec<String> = (0..8).map(|number| format!("list_{number}")).collect();
    let (summary, store, memory) = read(
        &large,
        names
            .iter()
            .map(|name| list(name, &format!("/{name}")))
            .collect(),
    )
    .await;
    assert!(
        summary
            .endpoints
            .iter()
            .all(|endpoint| matches!(endpoint.outcome, Outcome::Done)),
        "{summary:?}"
    );
    let expected: usize = names.iter().map(|name| store.len(name)).sum();
    let records: u64 = summary
        .endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.streams)
        .map(|stream| stream.records)
        .sum();
    assert_eq!(expected as u64, records);
    // Eight pages of 9 MiB each were asked for at once.
    assert!(
        memory.peak() <= memory.total(),
        "{} of {}",
        memory.peak(),
        memory.total()
    );
    assert!(
        memory.peak() > 9 * MIB,
        "a page was counted: {}",
        memory.peak()
    );
    assert_eq!(memory.held(), 0, "all of it was given back");
    let requests = large.requests.load(Ordering::Relaxed);
    assert!(
        requests <= 16 + 3 * 8,
        "{requests} requests: what gave way is asked for again when there is room"
    );
    assert!(
        started.elapsed() < Duration::from_mins(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a7_lists_that_are_begun_ahead_of_their_turn_give_way_and_are_all_read() {
    let large = large(2, 3 * MIB, usual);
    let children = list("children", "/children/{id}")
        .child_of(list("parents", "/parents"))
        .include_from_parent("id", "parent");
    let (summary, store, memory) = read(&large, vec![children]).await;
    assert!(
        summary
            .endpoints
            .iter()
            .all(|endpoint| matches!(endpoint.outcome, Outcome::Done)),
        "{summary:?}"
    );
    assert!(
        memory.peak() <= memory.total(),
        "{} of {}",
        memory.peak(),
        memory.total()
    );
    assert_eq!(memory.held(), 0);
    let seen = large.seen.lock().unwrap();
    let times = |request: &str| seen.iter().filter(|seen| *seen == request).count();
    assert_eq!(
        (
            times("/parents 1"),
            times("/children/1199 2"),
            times("/children/7 1")
        ),
        (2, 1, 1),
        "two parts of a page of parents"
    );
    assert!(store.len("children") > 1_200 * 2);
}

#[tokio::test(start_paused = true)]
async fn a7_a_page_that_takes_more_than_one_may_is_refused_in_words() {
    // A body that is too long by itself, and one of which the records take most of the memory.
    let many: fn(&str) -> String = |_| "{\"a\":1}".to_owned();
    let cases = [
        ("long", 20 * MIB, usual as fn(&str) -> String),
        ("many", 4 * MIB, many),
    ];
    for (name, bytes, record) in cases {
        let (summary, _, memory) = read(
            &large(1, bytes, record),
            vec![list(name, &format!("/{name}"))],
        )
        .await;
        let Outcome::Failed { error } = &summary.endpoints[0].outcome else {
            panic!("{name}: {summary:?}")
        };
        assert_eq!(error.kind, ErrorKind::TooLarge, "{name}: {error:?}");
        assert!(
            error
                .help
                .as_ref()
                .is_some_and(|help| help.contains("memory_budget_mb")),
            "{error:?}"
        );
        assert!(
            memory.peak() <= memory.total(),
            "{name}: {} of {}",
            memory.peak(),
            memory.total()
        );
        assert_eq!(memory.held(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a7_records_without_a_key_end_a_batch_by_their_bytes() {
    let large = large(12, 2 * MIB, |id| usual(id).replace("\"id\"", "\"no_id\""));
    let (summary, store, memory) = read(&large, vec![list("keyless", "/keyless")]).await;
    let stream = &summary.endpoints[0].streams[0];
    assert_eq!((stream.rows, stream.rejected), (0, stream.records));
    assert!(
        memory.peak() <= memory.total(),
        "{} of {}",
        memory.peak(),
        memory.total()
    );
    // Twenty-four MiB, kept twice until they are written, are more than one batch.
    assert!(
        store.len("_rejected") > 0 && memory.peak() < 40 * MIB,
        "{}",
        memory.peak()
    );
}
