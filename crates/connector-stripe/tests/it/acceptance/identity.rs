//! Whose data a source has, and from when on: another account is refused, and an earlier start
//! reads what is older, exactly once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use connector_stripe::{StripeConfig, StripeConnector};
use destination_jsonl::JsonlConfig;
use destination_parquet::ParquetConfig;
use destination_sqlite::SqliteConfig;
use futures::FutureExt;
use pipeline_core::http::HttpService;
use pipeline_core::{BuildContext, ErrorKind, TokioClock};
use pipeline_engine::{
    Destination, DestinationConfig, Failure, Job, OpenContext, Outcome, Selection, Source, Summary,
    sync,
};
use pipeline_testkit::acceptance::reply;
use pipeline_testkit::{InProcess, Pieces};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-11-30.
const NOW: i64 = 1_796_000_000;

/// A Stripe account with charges.
#[derive(Clone, Debug)]
struct Shop {
    /// None: the key may not tell it.
    id: Option<&'static str>,
    /// Their times, oldest first.
    charges: Vec<i64>,
}

impl Shop {
    fn new(id: &'static str, charges: impl Iterator<Item = i64>) -> Self {
        Self {
            id: Some(id),
            charges: charges.collect(),
        }
    }

    fn answer(&self, request: &http::Request<Bytes>) -> http::Response<Pieces> {
        let url = url::Url::parse(&format!("http://shop{}", request.uri())).unwrap();
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let body = match (url.path(), self.id) {
            ("/v1/account", Some(id)) => json!({ "id": id, "object": "account" }),
            ("/v1/account", None) => {
                let error = json!({ "error": { "type": "invalid_request_error", "message": "The provided key does not have access." } });
                return reply(
                    403,
                    &[("content-type", "application/json")],
                    error.to_string(),
                );
            }
            ("/v1/charges", _) => self.list(&query),
            _ => json!({ "object": "list", "data": [], "has_more": false }),
        };
        reply(
            200,
            &[("content-type", "application/json")],
            body.to_string(),
        )
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Value {
        let number = |name: &str, default| {
            query
                .get(name)
                .map_or(default, |text| text.parse::<i64>().unwrap())
        };
        let (since, until) = (
            number("created[gte]", i64::MIN),
            number("created[lt]", i64::MAX),
        );
        let id = |time: &i64| format!("ch_{}_{time}", self.id.unwrap_or("hidden"));
        let after = query.get("starting_after");
        let found: Vec<&i64> = self
            .charges
            .iter()
            .rev()
            .filter(|time| (since..until).contains(*time))
            .collect();
        let start = after.map_or(0, |after| {
            1 + found.iter().position(|time| id(time) == *after).unwrap()
        });
        let limit = usize::try_from(number("limit", 10)).unwrap();
        let page = found[start..].iter().take(limit);
        let data: Vec<Value> = page
            .map(|time| json!({ "id": id(time), "object": "charge", "created": time }))
            .collect();
        json!({ "object": "list", "has_more": start + data.len() < found.len(), "data": data })
    }
}

/// Where rows go.
async fn opened<C: DestinationConfig>(path: &Path) -> Arc<dyn Destination> {
    let config: C = serde_json::from_value(json!({ "path": path })).unwrap();
    config.open(OpenContext::default()).await.unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sqlite,
    Jsonl,
    Parquet,
}

const KINDS: [Kind; 3] = [Kind::Sqlite, Kind::Jsonl, Kind::Parquet];

impl Kind {
    async fn open(self, folder: &Path) -> Arc<dyn Destination> {
        match self {
            Self::Sqlite => opened::<SqliteConfig>(&folder.join("shop.db")).await,
            Self::Jsonl => opened::<JsonlConfig>(&folder.join("lake")).await,
            Self::Parquet => opened::<ParquetConfig>(&folder.join("lake")).await,
        }
    }

    /// Rows of the table of charges as they stand there, repetitions included.
    fn rows(self, folder: &Path) -> usize {
        let files = || {
            let entries = std::fs::read_dir(folder.join("lake/pay/charges"))
                .into_iter()
                .flatten();
            entries
                .map(|entry| entry.unwrap().path())
                .collect::<Vec<_>>()
        };
        match self {
            Self::Sqlite => {
                let database = rusqlite::Connection::open(folder.join("shop.db")).unwrap();
                database
                    .query_row("SELECT count(*) FROM pay_charges", [], |row| {
                        row.get::<_, u32>(0)
                    })
                    .unwrap() as usize
            }
            Self::Jsonl => files()
                .iter()
                .map(|file| std::fs::read_to_string(file).unwrap().lines().count())
                .sum(),
            Self::Parquet => {
                use parquet::file::reader::{FileReader, SerializedFileReader};
                let rows = |path: &std::path::PathBuf| {
                    let reader =
                        SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
                    usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap()
                };
                files().iter().map(rows).sum()
            }
        }
    }
}

/// Reads the charges of a shop as a process of its own does.
async fn read(shop: &Shop, config: Value, kind: Kind, folder: &Path, at: i64) -> Summary {
    read_into(shop, config, kind.open(folder).await, at, false).await
}

async fn read_into(
    shop: &Shop,
    config: Value,
    destination: Arc<dyn Destination>,
    at: i64,
    full_refresh: bool,
) -> Summary {
    let shop = shop.clone();
    let transport = InProcess::new(move |request| {
        let answer = shop.answer(&request);
        async move { answer }.boxed()
    });
    let clock = Arc::new(TokioClock::starting_at(
        chrono::DateTime::from_timestamp(at, 0).unwrap(),
    ));
    let context = BuildContext::new("pay")
        .transport(Arc::new(transport) as Arc<dyn HttpService>)
        .clock(clock.clone());
    let config: StripeConfig = serde_json::from_value(config).unwrap();
    let source = Source {
        name: "pay".to_owned(),
        connector: Arc::new(StripeConnector::new(config, context).unwrap()),
        streams: Selection::Named(vec!["charges".to_owned()]),
    };
    let mut job = Job::new("run", destination, vec![source]);
    (job.clock, job.options.full_refresh) = (clock, full_refresh);
    sync(job).await.unwrap()
}

fn failure(summary: &Summary) -> &Failure {
    match &summary.endpoints[0].outcome {
        Outcome::Failed { error } => error,
        other => panic!("{other:?}"),
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A test key first, and then the live one: nothing of the other account comes into the tables, and
/// none of its history is passed over.
#[tokio::test(start_paused = true)]
async fn a1_another_stripe_account_is_refused_in_every_destination() {
    let test = Shop::new("acct_TEST", (1..=30).map(|index| NOW - index * 60).rev());
    let live = Shop::new("acct_LIVE", (1..=50).map(|index| NOW - index * 3_600).rev());
    for kind in KINDS {
        let folder = folder();
        read(
            &test,
            json!({ "api_key": "sk_test_a" }),
            kind,
            folder.path(),
            NOW,
        )
        .await;
        assert_eq!(kind.rows(folder.path()), 30);
        for full_refresh in [false, true] {
            let summary = read_into(
                &live,
                json!({ "api_key": "sk_live_b" }),
                kind.open(folder.path()).await,
                NOW + 600,
                full_refresh,
            )
            .await;
            assert_eq!(
                summary.failure(),
                Some(ErrorKind::ConfigInvalid),
                "{kind:?}"
            );
            assert_eq!(
                failure(&summary).message,
                "source `pay` was read from account acct_TEST (test mode), and now its credentials \
                 belong to account acct_LIVE (live mode)"
            );
            assert_eq!(kind.rows(folder.path()), 30, "{kind:?}");
        }
        // With a new key of the same account the sync resumes.
        let summary = read(
            &test,
            json!({ "api_key": "rk_test_c" }),
            kind,
            folder.path(),
            NOW + 600,
        )
        .await;
        assert_eq!(summary.failure(), None);
    }
}

/// Restricted keys often may not tell their account. The mode of the key and the host are known all
/// the same.
#[tokio::test(start_paused = true)]
async fn a1_a_key_that_may_not_tell_its_account_is_refused_by_its_mode_alone() {
    let known = Shop::new("acct_1", (1..=5).map(|index| NOW - index * 60).rev());
    let hidden = Shop {
        id: None,
        ..known.clone()
    };
    let other = Shop::new("acct_2", (1..=5).map(|index| NOW - index * 60).rev());
    let cases = [
        (&hidden, "rk_test_a", &hidden, "rk_test_b", true),
        (&hidden, "rk_test_a", &hidden, "rk_live_b", false),
        (&hidden, "rk_test_a", &known, "sk_test_b", true),
        (&known, "sk_test_a", &hidden, "rk_test_b", true),
        (&known, "sk_test_a", &hidden, "rk_live_b", false),
        (&known, "sk_test_a", &other, "sk_test_b", false),
    ];
    for (before, first, now, second, is_read) in cases {
        let folder = folder();
        read(
            before,
            json!({ "api_key": first }),
            Kind::Sqlite,
            folder.path(),
            NOW,
        )
        .await;
        let summary = read(
            now,
            json!({ "api_key": second }),
            Kind::Sqlite,
            folder.path(),
            NOW + 600,
        )
        .await;
        assert_eq!(
            summary.failure().is_none(),
            is_read,
            "{first} {:?}, {second} {:?}",
            before.id,
            now.id
        );
    }
}

/// The account that a source names is the one that it reads, whatever the key's own is.
#[tokio::test(start_paused = true)]
async fn a1_another_connected_account_is_refused() {
    let shop = Shop {
        id: None,
        charges: vec![NOW - 60],
    };
    let folder = folder();
    let config = |account: &str| json!({ "api_key": "sk_test_a", "account": account });
    assert_eq!(
        read(&shop, config("acct_1"), Kind::Sqlite, folder.path(), NOW)
            .await
            .failure(),
        None
    );
    assert_eq!(
        read(
            &shop,
            config("acct_2"),
            Kind::Sqlite,
            folder.path(),
            NOW + 600
        )
        .await
        .failure(),
        Some(ErrorKind::ConfigInvalid)
    );
    assert_eq!(
        read(
            &shop,
            config("acct_1"),
            Kind::Sqlite,
            folder.path(),
            NOW + 600
        )
        .await
        .failure(),
        None
    );
}

/// Every start in turn, in destinations that keep every row which is written.
#[tokio::test(start_paused = true)]
async fn a2_a_stripe_start_moved_back_reads_the_older_part_exactly_once() {
    let charges = (0..40)
        .map(|index| 1_609_459_200 + index * 86_400)
        .chain((0..30).map(|index| 1_767_225_600 + index * 86_400));
    let shop = Shop::new("acct_1", charges);
    let steps: [(Option<&str>, usize); 8] = [
        (Some("2026-01-11"), 20),
        (Some("2026-01-01"), 30),
        (Some("2026-01-21"), 30),
        (Some("2026-01-06"), 30),
        (Some("2021-01-31"), 40),
        (Some("2020-01-01"), 70),
        (None, 70),
        (Some("2026-01-01"), 70),
    ];
    for kind in KINDS {
        let folder = folder();
        for (step, (start, rows)) in (0..).zip(steps) {
            let config = start.map_or(
                json!({ "api_key": "sk_test_a" }),
                |start| json!({ "api_key": "sk_test_a", "start_date": start }),
            );
            let summary = read(&shop, config, kind, folder.path(), NOW + step * 3_600).await;
            assert_eq!(
                (summary.failure(), kind.rows(folder.path())),
                (None, rows),
                "{kind:?}, {start:?}"
            );
        }
        // A full refresh leaves out what is older than the start.
        let config = json!({ "api_key": "sk_test_a", "start_date": "2026-01-11" });
        read_into(
            &shop,
            config,
            kind.open(folder.path()).await,
            NOW + 40_000,
            true,
        )
        .await;
        assert_eq!(kind.rows(folder.path()), 20, "{kind:?}");
    }
}
