//! A platform and the accounts that are connected to it, in one source.
//!
//! `PIPELINE_CONNECT_ACCOUNTS=150 PIPELINE_CONNECT_STREAMS=all cargo test --release -p pipeline-cli --test acceptance connect -- --nocapture --test-threads 1`
//! reads every stream of every account.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use connector_stripe::tables::{stream, streams};
use connector_stripe::{Accounts, StripeConfig};
use pipeline_engine::{Outcome, Summary};
use pipeline_simulator::{Simulation, Simulator, StripeBook, StripeWorld};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::account::setting;
use crate::mixpanel_day::{Cost, Sync};
use crate::stripe::SimulatedAccount;

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

fn platform(connected: u64, streams: &[&str]) -> SimulatedAccount {
    let mut simulated = SimulatedAccount::new(StripeBook {
        objects: 4,
        connected,
        ..StripeBook::default()
    })
    .only(streams);
    simulated.reads(&[]);
    // People choose the same ids in many accounts.
    for account in simulated.accounts.keys() {
        simulated.simulator.stripe().make(
            account,
            "coupons",
            None,
            json!({ "id": "WELCOME", "name": account }),
        );
    }
    simulated.pass(Duration::from_mins(5));
    simulated
}

fn all() -> StripeConfig {
    let mut config = StripeConfig::new("sk_test_sim");
    config.accounts = Some(Accounts::All);
    config
}

impl SimulatedAccount {
    /// Expects the accounts of these names, or those that there are now.
    fn reads(&mut self, names: &[&str]) {
        let names: Vec<String> = if names.is_empty() {
            self.simulator.stripe().accounts()
        } else {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let id = |name: String| {
            if name.is_empty() {
                (name, OWN.to_owned())
            } else {
                (name.clone(), name)
            }
        };
        self.accounts = names.into_iter().map(id).collect();
    }

    async fn sync_all(&self) -> Summary {
        let summary = self.sync_with(all()).await;
        let undone: Vec<_> = summary
            .endpoints
            .iter()
            .filter(|endpoint| !matches!(endpoint.outcome, Outcome::Done))
            .collect();
        assert!(undone.is_empty(), "{:#?}", &undone[..undone.len().min(3)]);
        summary
    }

    fn is_true(&self, when: &str) {
        let differences = self.differences();
        assert!(
            differences.is_empty(),
            "{when}: {} differences:\n{}",
            differences.len(),
            differences[..differences.len().min(20)].join("\n")
        );
    }

    /// The accounts that have rows of a stream.
    fn stored(&self, name: &str) -> BTreeSet<String> {
        let rows = self.rows(stream(name).unwrap());
        rows.into_values()
            .map(|row| row["_account_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The endpoints that were not read to their end, by account, and what is said of it.
fn unread(summary: &Summary) -> BTreeMap<&str, BTreeSet<(&'static str, String)>> {
    let mut unread: BTreeMap<&str, BTreeSet<(&'static str, String)>> = BTreeMap::new();
    for endpoint in &summary.endpoints {
        let told = match &endpoint.outcome {
            Outcome::Done | Outcome::Incomplete => continue,
            Outcome::Interrupted => ("interrupted", String::new()),
            Outcome::Unavailable { reason, .. } => (
                "unavailable",
                reason
                    .split(" (while")
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ),
            Outcome::Failed { error } => (
                "failed",
                error
                    .message
                    .split(" (while")
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ),
        };
        unread
            .entry(endpoint.id.account().unwrap())
            .or_default()
            .insert(told);
    }
    unread
}

#[tokio::test(start_paused = true)]
async fn c43_connected_accounts_are_read_each_by_itself_into_the_same_tables() {
    // Two pages of accounts.
    let mut simulated = platform(setting("PIPELINE_CONNECT_ACCOUNTS", 150), &KINDS);
    let before = simulated.simulator.stats().requests;
    let summary = simulated.sync_all().await;
    println!(
        "the first sync: {} requests, {} commits",
        simulated.simulator.stats().requests - before,
        summary.commits
    );
    simulated.is_true("after the first sync");
    assert_eq!(
        simulated.stored("accounts"),
        BTreeSet::from([OWN.to_owned()]),
        "only the platform has that list"
    );
    assert_eq!(
        simulated
            .rows(stream("coupons").unwrap())
            .keys()
            .filter(|key| key.ends_with("/WELCOME"))
            .count(),
        simulated.accounts.len()
    );

    for things in [400, 0] {
        simulated.happen(things);
        let before = simulated.simulator.stats().requests;
        simulated.sync_all().await;
        println!(
            "{things} things: {} requests",
            simulated.simulator.stats().requests - before
        );
        simulated.is_true("after things have happened");
    }

    simulated.simulator.stripe().connect("acct_late");
    simulated
        .simulator
        .stripe()
        .disconnect("acct_connected0007");
    simulated.happen(100);
    let summary = simulated.sync_with(all()).await;
    let gone = unread(&summary);
    assert_eq!(
        gone.keys().copied().collect::<Vec<_>>(),
        ["acct_connected0007"]
    );
    assert_eq!(summary.failure(), None, "nobody asked for it by name");
    // What was read of it stays, but in tables that every sync reads whole.
    assert!(
        simulated.stored("charges").contains("acct_connected0007")
            && !simulated.stored("quotes").contains("acct_connected0007")
    );
    simulated.reads(&[]);
    let differences = simulated.differences();
    assert!(
        differences
            .iter()
            .all(|difference| difference.contains(": acct_connected0007/")),
        "{differences:#?}"
    );
    assert!(simulated.stored("charges").contains("acct_late"));
}

#[tokio::test(start_paused = true)]
async fn c43_all_streams_of_several_accounts_that_change_while_they_are_read() {
    let names: Vec<&str> = streams().map(|stream| stream.name).collect();
    let mut simulated = SimulatedAccount::new(StripeBook {
        objects: 12,
        connected: 3,
        changes_per_page: 1,
        ..StripeBook::default()
    })
    .only(&names);
    simulated.reads(&[]);
    simulated.sync_all().await;
    simulated.simulator.stripe().changes_per_page(0);
    for things in [300, 30] {
        simulated.happen(things);
        simulated.sync_all().await;
        simulated.is_true("after things have happened");
    }
}

#[tokio::test(start_paused = true)]
async fn c43_accounts_that_are_named_are_read_alone_and_one_that_is_closed_fails_no_other() {
    let mut simulated = platform(5, &["charges", "coupons", "quotes"]);
    simulated
        .simulator
        .stripe()
        .disconnect("acct_connected0002");
    let mut config = all();
    let named = [
        "acct_connected0001",
        "acct_connected0002",
        "acct_connected0004",
    ];
    config.accounts = Some(Accounts::Named(named.map(str::to_owned).to_vec()));
    config.platform = Some(false);
    let summary = simulated.sync_with(config).await;
    simulated.reads(&["acct_connected0001", "acct_connected0004"]);
    simulated.is_true("the platform is left out, and so is who was not named");
    let closed = unread(&summary);
    assert_eq!(
        closed.keys().copied().collect::<Vec<_>>(),
        ["acct_connected0002"]
    );
    assert!(
        closed
            .values()
            .flatten()
            .all(|(outcome, _)| *outcome == "failed"),
        "it was asked for: {closed:?}"
    );
    assert_eq!(
        summary.failure(),
        Some(pipeline_core::ErrorKind::Unsupported)
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_begins_to_read_several_accounts_replaces_what_it_has() {
    let mut simulated = platform(2, &["charges", "coupons", "customers"]);
    let accounts = std::mem::take(&mut simulated.accounts);
    simulated.sync().await;
    simulated.is_true("one account");
    simulated.accounts = accounts.clone();
    simulated.happen(20);
    simulated.sync_all().await;
    simulated.is_true("several accounts");
    simulated.accounts = BTreeMap::new();
    simulated.happen(20);
    simulated.sync().await;
    let stored: BTreeSet<String> = simulated
        .rows(stream("charges").unwrap())
        .into_keys()
        .collect();
    let there = simulated.simulator.stripe().records("", "charges");
    assert_eq!(stored.len(), there.len(), "one account again: {stored:?}");
}

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
