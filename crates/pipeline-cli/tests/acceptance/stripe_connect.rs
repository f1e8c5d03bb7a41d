//! A platform and the accounts that are connected to it, in one source: the real
//! binary, over a socket.
//!
//! `PIPELINE_CONNECT_ACCOUNTS=150 PIPELINE_CONNECT_STREAMS=all cargo test --release -p pipeline-cli --test acceptance connect -- --nocapture --test-threads 1`
//! reads every stream of every account.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use connector_stripe::tables::stream;
use pipeline_simulator::{Simulation, Simulator, StripeBook, StripeWorld};
use pipeline_testkit::acceptance::setting;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::mixpanel_day::{Cost, Sync};

/// The id of the platform's own account.
const OWN: &str = "acct_own";

/// Lists of every kind: by time, whole, of each object, inside objects, and of the platform alone.
const KINDS: [&str; 9] = [
    "accounts",
    "charges",
    "coupons",
    "customer_balance_transactions",
    "customers",
    "events",
    "invoice_line_items",
    "invoices",
    "quotes",
];

/// Where a sync of a real process stands: its folder, and the simulator that it reads.
struct Site {
    folder: TempDir,
    simulator: Simulator,
}

impl Site {
    /// `pace`: milliseconds that each of four requests at a time takes.
    async fn new(connected: u64, pace: Option<u64>) -> Site {
        let stripe = StripeWorld {
            book: Some(StripeBook {
                objects: 4,
                connected,
                ..StripeBook::default()
            }),
            ..StripeWorld::default()
        };
        let latency = pace.map_or(Duration::ZERO, Duration::from_millis);
        let (at_once, interval) = if pace.is_some() {
            (4, "50ms")
        } else {
            (64, "1s")
        };
        let simulator = Simulator::start(Simulation {
            stripe,
            days: 200,
            latency,
            ..Simulation::default()
        })
        .await
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = format!(
            "[destination]\ntype = \"sqlite\"\npath = \"simulated.db\"\n\n[sync]\ncommit_interval \
             = \"{interval}\"\n\n[sources.s]\nconnector = \"stripe\"\napi_key = \
             \"sk_test_sim\"\nbase_url = \"{}\"\naccounts = \"all\"\nrate_share = 1.0\naccount_rps \
             = 100000\nlist_rps = 100000\nmax_concurrency = {at_once}\n",
            simulator.url()
        );
        if std::env::var("PIPELINE_CONNECT_STREAMS").is_err() {
            let _ = writeln!(config, "streams = {KINDS:?}");
        }
        fs::write(folder.path().join("pipeline.toml"), config).unwrap();
        Site { folder, simulator }
    }

    async fn sync(&self) -> Cost {
        let (cost, ended) = Sync::start(self.folder.path()).end().await;
        assert!(ended, "the sync failed");
        cost
    }

    /// Keys of the rows of a table, account first.
    fn keys(&self, table: &str) -> Vec<String> {
        let database = Connection::open(self.folder.path().join("simulated.db")).unwrap();
        if !database
            .table_exists(None, format!("s_{table}").as_str())
            .unwrap()
        {
            return Vec::new();
        }
        let mut select = database
            .prepare(&format!(
                "SELECT _account_id || '/' || id FROM s_{table} ORDER BY 1"
            ))
            .unwrap();
        select
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    /// Fails unless what is stored is what there is.
    fn is_true(&self) {
        let stripe = self.simulator.stripe();
        let names = KINDS.iter().filter(|name| {
            **name != "events"
                && stream(name).is_some_and(|list| matches!(list.streams[0].key, ["id"]))
        });
        for name in names {
            let of = |account: String| {
                let id = if account.is_empty() {
                    OWN.to_owned()
                } else {
                    account.clone()
                };
                stripe
                    .records(&account, name)
                    .into_iter()
                    .map(move |record| format!("{id}/{}", record["id"].as_str().unwrap()))
            };
            let mut truth: Vec<String> = stripe.accounts().into_iter().flat_map(of).collect();
            truth.sort_unstable();
            assert!(
                self.keys(name) == truth,
                "{name}: {} rows instead of {}",
                self.keys(name).len(),
                truth.len()
            );
        }
    }
}

fn number(folder: &Path, query: &str) -> u64 {
    Connection::open(folder.join("simulated.db"))
        .unwrap()
        .query_row(query, [], |row| row.get::<_, i64>(0))
        .unwrap()
        .unsigned_abs()
}

/// The most that an endpoint of an account adds to a sync's memory, in KiB: its states, and the
/// commit of all plans at once.
const MEMORY_OF_ENDPOINT: u64 = 24;

/// What a sync of few accounts does not fill: the rows staged, and the pages that the database
/// keeps. In KiB.
const MEMORY_OF_ROWS: u64 = 24 << 10;

/// The memory is that of the process that syncs; the simulator is in this one.
#[tokio::test(flavor = "multi_thread")]
async fn c43_connected_accounts_cost_the_memory_of_their_states_and_no_more() {
    let many = setting("PIPELINE_CONNECT_ACCOUNTS", 150);
    let mut peaks = Vec::new();
    for accounts in [30, many] {
        let place = Site::new(accounts, None).await;
        let mut peak = 0;
        for sync in ["first", "next"] {
            let before = place.simulator.stats().requests;
            let cost = place.sync().await;
            let log = number(
                place.folder.path(),
                "SELECT sum(length(changes)) FROM _pipeline_commits",
            );
            let state = number(
                place.folder.path(),
                "SELECT sum(length(state)) FROM _pipeline_state",
            );
            println!(
                "{accounts} accounts, {sync} sync: {} requests, {:.1} s, {:.1} s of processor, {} \
                 MiB at most; {} commits, {} KiB of log, {} KiB of state",
                place.simulator.stats().requests - before,
                cost.wall.as_secs_f64(),
                cost.processor,
                cost.memory >> 10,
                number(
                    place.folder.path(),
                    "SELECT count(*) FROM _pipeline_commits"
                ),
                log >> 10,
                state >> 10,
            );
            peak = cost.memory.max(peak);
        }
        peaks.push((
            peak,
            number(place.folder.path(), "SELECT count(*) FROM _pipeline_state"),
        ));
        place.is_true();
        place.simulator.stop().await;
    }
    let [(few, of_few), (many, of_many)] = peaks[..] else {
        unreachable!()
    };
    let endpoints = of_many - of_few;
    println!(
        "{endpoints} endpoints more take {} KiB each",
        many.saturating_sub(few) / endpoints
    );
    assert!(
        many < few + MEMORY_OF_ROWS + endpoints * MEMORY_OF_ENDPOINT,
        "{few} KiB, and {many} KiB with {endpoints} endpoints more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_killed_on_the_way_goes_on_where_each_account_was() {
    let place = Site::new(30, Some(10)).await;
    let stored = || {
        place.keys("charges").len() + place.keys("customers").len() + place.keys("invoices").len()
    };
    let mut killed = 0;
    while killed < 6 {
        let mut sync = Sync::start(place.folder.path());
        let (before, mut waited) = (stored(), 0);
        while stored() == before && waited < 1_000 {
            sleep(Duration::from_millis(5)).await;
            waited += 1;
        }
        if !sync.kill() {
            break;
        }
        killed += 1;
    }
    assert!(killed > 2, "killed {killed} times");
    println!(
        "killed {killed} times, {} rows and {} requests on the way",
        stored(),
        place.simulator.stats().requests
    );
    place.sync().await;
    println!("{} requests in all", place.simulator.stats().requests);
    place.is_true();
    place.simulator.stop().await;
}
