//! A platform and the accounts that are connected to it, in one source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use connector_stripe::tables::{stream, streams};
use connector_stripe::{Accounts, StripeConfig};
use pipeline_engine::{Outcome, Summary};
use pipeline_simulator::StripeBook;
use pipeline_testkit::acceptance::setting;
use serde_json::json;

use super::account::SimulatedAccount;

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
    assert_eq!(summary.failure(), None, "it was not selected by name");
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
