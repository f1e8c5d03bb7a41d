//! Pages that are damaged on the way, or in whose place a cache answers with another one: asked for
//! again, until the truth is there. `PIPELINE_DAMAGED_CHARGES=200000` is the large account.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use chrono::DateTime;
use connector_stripe::{StripeConfig, StripeConnector};
use destination_jsonl::JsonlConfig;
use destination_parquet::ParquetConfig;
use destination_sqlite::SqliteConfig;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use pipeline_core::{BuildContext, TokioClock};
use pipeline_engine::{Destination, DestinationConfig, Job, OpenContext, Selection, Source, sync};
use pipeline_simulator::{Simulation, Simulator, StripeWorld};
use pipeline_testkit::acceptance::{UNTIL, setting};
use pipeline_testkit::{InProcess, Pieces};
use rusqlite::Connection;
use serde_json::{Value, json};

/// One page in so many is damaged, of those that can be: the first is the fortieth.
const EVERY: usize = 100;
const FIRST: usize = 40;

/// What becomes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// Bytes in its middle are others.
    Garbled,
    /// The first page of its window comes in its place, as if the cursor had not been sent.
    Repeated,
}

/// The way from the account, which damages pages.
struct Way {
    simulator: Arc<Simulator>,
    damage: Damage,
    /// Pages so far that could be damaged.
    number: AtomicUsize,
    damaged: AtomicUsize,
}

impl Way {
    async fn answer(self: Arc<Self>, request: http::Request<Bytes>) -> http::Response<Pieces> {
        let first = without_cursor(&request).filter(|_| self.damage == Damage::Repeated);
        let is_eligible = request.uri().path() == "/v1/charges"
            && (first.is_some() || self.damage == Damage::Garbled);
        let is_hit = is_eligible && self.number.fetch_add(1, Ordering::Relaxed) % EVERY == FIRST;
        let first = first.filter(|_| is_hit);
        let (parts, body) = self
            .simulator
            .answer(first.unwrap_or(request))
            .await
            .into_parts();
        if !is_hit {
            return http::Response::from_parts(parts, body);
        }
        self.damaged.fetch_add(1, Ordering::Relaxed);
        let mut body = body.try_collect::<Vec<Bytes>>().await.unwrap().concat();
        if self.damage == Damage::Garbled {
            let half = body.len() / 2;
            body[half..half + 3].copy_from_slice(b"}\0{");
        }
        let body: Pieces = stream::once(async move { Ok(body.into()) }).boxed();
        http::Response::from_parts(parts, body)
    }
}

/// The request for the first page of the same window; none when it is that already.
fn without_cursor(request: &http::Request<Bytes>) -> Option<http::Request<Bytes>> {
    let uri = request.uri();
    let kept = uri
        .query()?
        .split('&')
        .filter(|pair| !pair.starts_with("starting_after="))
        .collect::<Vec<_>>()
        .join("&");
    if uri.query() == Some(&*kept) {
        return None;
    }
    let mut first = http::Request::get(format!("{}?{kept}", uri.path()))
        .body(Bytes::new())
        .unwrap();
    first.headers_mut().clone_from(request.headers());
    Some(first)
}

/// A destination in a folder, and how the ids of the charges are read back from there.
type Store = (
    &'static str,
    fn(&Path) -> BoxFuture<'static, Arc<dyn Destination>>,
    fn(&Path) -> Vec<String>,
);

const STORES: [Store; 3] = [
    (
        "sqlite",
        |folder| opened::<SqliteConfig>(&folder.join("stripe.db")),
        sqlite_ids,
    ),
    ("parquet", opened::<ParquetConfig>, |folder| {
        file_ids(folder, parquet_ids)
    }),
    ("jsonl", opened::<JsonlConfig>, |folder| {
        file_ids(folder, jsonl_ids)
    }),
];

fn opened<C: DestinationConfig>(path: &Path) -> BoxFuture<'static, Arc<dyn Destination>> {
    let config: C = serde_json::from_value(json!({ "path": path })).unwrap();
    async move { config.open(OpenContext::default()).await.unwrap() }.boxed()
}

fn sqlite_ids(folder: &Path) -> Vec<String> {
    let database = Connection::open(folder.join("stripe.db")).unwrap();
    let mut select = database.prepare("SELECT id FROM stripe_charges").unwrap();
    select
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn file_ids(folder: &Path, read: fn(&Path) -> Vec<String>) -> Vec<String> {
    std::fs::read_dir(folder.join("stripe/charges"))
        .unwrap()
        .flat_map(|file| read(&file.unwrap().path()))
        .collect()
}

fn parquet_ids(file: &Path) -> Vec<String> {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    let columns = reader
        .metadata()
        .file_metadata()
        .schema_descr()
        .columns()
        .to_vec();
    let id = columns
        .iter()
        .position(|column| column.name() == "id")
        .unwrap();
    reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().get_string(id).unwrap().clone())
        .collect()
}

fn jsonl_ids(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

async fn sync_over(way: &Arc<Way>, destination: Arc<dyn Destination>) {
    let answering = Arc::clone(way);
    let transport = Arc::new(InProcess::new(move |request| {
        Arc::clone(&answering).answer(request)
    }));
    let clock = Arc::new(TokioClock::starting_at(
        DateTime::from_timestamp(UNTIL + 120, 0).unwrap(),
    ));
    let context = BuildContext::default()
        .transport(transport)
        .clock(clock.clone())
        .seed(7);
    let connector =
        Arc::new(StripeConnector::new(StripeConfig::new("sk_live_sim"), context).unwrap());
    let streams = Selection::Named(vec!["charges".to_owned()]);
    let job = Job::new(
        "run",
        destination,
        vec![Source {
            name: "stripe".to_owned(),
            connector,
            streams,
        }],
    )
    .clock(clock);
    let summary = sync(job).await.unwrap();
    assert_eq!(summary.failure(), None, "{summary:#?}");
}

async fn read_the_truth(damage: Damage) {
    let charges = setting("PIPELINE_DAMAGED_CHARGES", 20_000);
    for (name, open, ids) in STORES {
        let stripe = StripeWorld {
            live: true,
            charges,
            ..StripeWorld::default()
        };
        let simulation = Simulation {
            stripe,
            shown_until: Some(UNTIL),
            until: UNTIL,
            ..Simulation::default()
        };
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        let simulated = Arc::clone(&simulator);
        let way = Arc::new(Way {
            simulator: simulated,
            damage,
            number: AtomicUsize::new(0),
            damaged: AtomicUsize::new(0),
        });
        let folder = tempfile::tempdir().unwrap();
        sync_over(&way, open(folder.path()).await).await;
        let found = ids(folder.path());
        let distinct: BTreeSet<&String> = found.iter().collect();
        let damaged = way.damaged.load(Ordering::Relaxed);
        println!(
            "{name}: {damaged} pages {damage:?}, {} rows of {charges} charges",
            found.len()
        );
        assert!(damaged > 0, "no page was damaged");
        assert_eq!(
            (found.len(), distinct.len()),
            (simulator.truth().ids("charges").len(), found.len()),
            "{name}"
        );
        assert!(
            simulator
                .truth()
                .ids("charges")
                .iter()
                .all(|id| distinct.contains(id)),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn d01_a_hundredth_of_the_pages_garbled_costs_nothing() {
    read_the_truth(Damage::Garbled).await;
}

#[tokio::test(start_paused = true)]
async fn b20_a_hundredth_of_the_pages_repeated_costs_and_doubles_nothing() {
    read_the_truth(Damage::Repeated).await;
}
