//! Stripe accounts that change, synchronised into a database: what is stored is what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use connector_stripe::StripeConfig;
use connector_stripe::tables::{Stripe, streams};
use pipeline_core::ErrorKind;
use pipeline_core::declarative::ListDef;
use pipeline_engine::Outcome;
use pipeline_simulator::{Stats, StripeBook};
use serde_json::Value;

use super::account::{KEYS, SimulatedAccount};

/// What a sync has asked for.
struct Cost {
    requests: u64,
    pages_of_events: u64,
    /// Requests for single objects.
    objects: u64,
}

impl SimulatedAccount {
    async fn cost_of_a_sync(&self) -> Cost {
        let before = self.simulator.stats();
        self.sync().await;
        let after = self.simulator.stats();
        let count = |is_wanted: fn(&str) -> bool| {
            let accepted = |stats: &Stats| -> u64 {
                let wanted = stats.operations.iter().filter(|(name, _)| is_wanted(name));
                wanted
                    .map(|(_, operation)| operation.accepted.len() as u64)
                    .sum()
            };
            accepted(&after) - accepted(&before)
        };
        if std::env::var_os("PIPELINE_STRIPE_OPERATIONS").is_some() {
            let of = |stats: &Stats, name: &str| {
                stats
                    .operations
                    .get(name)
                    .map_or(0, |operation| operation.accepted.len())
            };
            let mut all: Vec<(usize, &String)> = after
                .operations
                .keys()
                .map(|name| (of(&after, name) - of(&before, name), name))
                .collect();
            all.sort();
            all.iter()
                .rev()
                .take_while(|(count, _)| *count > 1)
                .for_each(|(count, name)| println!("  {count:5} {name}"));
        }
        Cost {
            requests: after.requests - before.requests,
            pages_of_events: count(|name| name == "GET /v1/events"),
            objects: count(|name| name.ends_with("/{id}")),
        }
    }

    /// How many lists belong to objects that were made since.
    fn lists_of_new_objects(&self, since: i64) -> u64 {
        let made = |parent: &str| {
            let created = |record: &&Value| {
                record["created"]
                    .as_i64()
                    .is_some_and(|created| created >= since)
            };
            self.simulator
                .stripe()
                .records("", parent)
                .iter()
                .filter(created)
                .count() as u64
        };
        let asked_for_each = streams().filter(|list| list.embedded.is_none());
        let parents = asked_for_each.filter_map(|list| list.parent);
        parents.map(|parent| made(parent.list)).sum()
    }

    /// How many lists of records have to be asked for at every sync.
    fn lists_that_nothing_tells_of(&self) -> u64 {
        let lists = [
            ("accounts", 4),
            ("credit_grants", 1),
            ("financial_connections_accounts", 1),
            ("treasury_financial_accounts", 2),
        ];
        lists
            .map(|(parent, lists)| lists * self.simulator.stripe().records("", parent).len() as u64)
            .iter()
            .sum()
    }

    fn truths(&self) -> Truth {
        streams()
            .filter(|stream| stream.name != "events")
            .map(|stream| (stream.name, self.truth(stream)))
            .collect()
    }

    /// What is stored is what there is.
    fn assert_truth(&self, when: &str) {
        let differences = self.differences();
        let shown = differences[..differences.len().min(30)].join("\n");
        assert!(
            differences.is_empty(),
            "{when}: {} differences:\n{shown}",
            differences.len()
        );
    }

    /// The key expires while a sync is under way. The sync says so, and a new key goes on where it
    /// stopped.
    async fn key_expires(&self) {
        self.simulator.stripe().expire(KEYS[0], 60);
        let summary = self.sync_with(StripeConfig::new(KEYS[0])).await;
        assert_eq!(summary.failure(), Some(ErrorKind::Unauthenticated));
        let failed = summary
            .endpoints
            .iter()
            .find_map(|endpoint| match &endpoint.outcome {
                Outcome::Failed { error } if error.kind == ErrorKind::Unauthenticated => {
                    error.help.clone()
                }
                _ => None,
            });
        assert_eq!(
            failed.as_deref(),
            Some("stripe says `api_key_expired`: make a new key in its dashboard")
        );
        assert!(
            summary
                .endpoints
                .iter()
                .any(|endpoint| matches!(endpoint.outcome, Outcome::Done)),
            "some was read before"
        );
        assert!(!self.differences().is_empty(), "and some was not");
    }
}

/// All streams and everything that there is of them, by key.
type Truth = Vec<(&'static str, BTreeMap<String, Value>)>;

/// The streams of which objects were made, changed and deleted.
#[derive(Debug, Default)]
struct Happened([BTreeSet<&'static str>; 3]);

impl Happened {
    fn note(&mut self, before: &Truth, after: &Truth) {
        let [made, changed, deleted] = &mut self.0;
        for ((name, before), (_, after)) in before.iter().zip(after) {
            made.extend(
                after
                    .keys()
                    .any(|key| !before.contains_key(key))
                    .then_some(*name),
            );
            changed.extend(
                after
                    .iter()
                    .any(|(key, record)| before.get(key).is_some_and(|old| old != record))
                    .then_some(*name),
            );
            deleted.extend(
                before
                    .keys()
                    .any(|key| !after.contains_key(key))
                    .then_some(*name),
            );
        }
    }

    /// All streams of which none was made, changed, deleted are those that Stripe lets nobody make,
    /// change, delete.
    fn assert_everywhere(&self) {
        let [made, changed, deleted] = &self.0;
        let without =
            |happened: &BTreeSet<&str>, is_meant: fn(&ListDef<Stripe>) -> bool| -> Vec<&str> {
                let meant = streams()
                    .filter(|stream| stream.name != "events" && is_meant(stream))
                    .map(|stream| stream.name);
                meant.filter(|name| !happened.contains(name)).collect()
            };
        println!(
            "made in {}, changed in {}, deleted in {} streams",
            made.len(),
            changed.len(),
            deleted.len()
        );
        assert_eq!(without(made, |_| true), ["accounts"]);
        assert_eq!(
            without(changed, |stream| !FINAL.contains(&stream.name)),
            [""; 0]
        );
        assert_eq!(
            without(deleted, |stream| DELETED.contains(&stream.name)),
            [""; 0]
        );
    }
}

/// What is never changed, or says so in no event but the one of something else.
const FINAL: [&str; 16] = [
    "active_entitlements",
    "balance_transactions",
    "credit_balance_transactions",
    "credit_grants",
    "customer_balance_transactions",
    "customer_cash_balance_transactions",
    "exchange_rates",
    "files",
    "forwarding_requests",
    "identity_verification_reports",
    "invoice_items",
    "payout_balance_transactions",
    "product_features",
    "setup_attempts",
    "sigma_scheduled_query_runs",
    "treasury_received_debits",
];

/// What has an event of its end, or is a list inside an object, of which entries go. What else goes
/// with those depends on chance.
const DELETED: [&str; 16] = [
    "active_entitlements",
    "bank_accounts",
    "coupons",
    "customer_cards",
    "customer_tax_ids",
    "customers",
    "external_account_bank_accounts",
    "external_account_cards",
    "invoice_items",
    "invoice_line_items",
    "invoices",
    "persons",
    "plans",
    "prices",
    "products",
    "subscription_items",
];

/// `PIPELINE_STRIPE_OPERATIONS=1` shows what the requests of each sync were for.
#[tokio::test(start_paused = true)]
async fn c51_an_account_that_changes_while_it_is_read_is_stored_as_it_is() {
    let simulated = SimulatedAccount::new(StripeBook {
        objects: 40,
        changes_per_page: 2,
        ..StripeBook::default()
    });
    simulated.sync().await;
    assert!(
        simulated.simulator.stripe().events() > 100,
        "much has happened meanwhile"
    );
    simulated.simulator.stripe().changes_per_page(0);
    simulated.happen(0);
    simulated.sync().await;
    simulated.assert_truth("after the backfill");
    let mut happened = Happened::default();
    for (round, things) in [0, 400, 40].into_iter().enumerate() {
        // So long that no sync reads again what the one before has read.
        simulated.pass(Duration::from_mins(20));
        simulated.sync().await;
        let (events, since) = (
            simulated.simulator.stripe().events(),
            simulated.simulator.stripe().now(),
        );
        let before = simulated.truths();
        if round == 0 {
            simulated.simulator.stripe().happen_everywhere();
        }
        simulated.happen(things);
        happened.note(&before, &simulated.truths());
        if round == 1 {
            simulated.key_expires().await;
        }
        let cost = simulated.cost_of_a_sync().await;
        simulated.assert_truth(&format!("after round {round}"));
        simulated.pass(Duration::from_mins(20));
        let idle = simulated.cost_of_a_sync().await;
        let objects = simulated.simulator.stripe().named_since(events) as u64;
        let lists = simulated.lists_of_new_objects(since);
        println!(
            "round {round}: {things} things, {objects} objects named by events, {lists} lists of \
             new ones: {} requests, {} of them for events, {} for objects; {} when nothing happens",
            cost.requests, cost.pages_of_events, cost.objects, idle.requests
        );
        // A request for each list, or two, and each list of a record that no event tells of. Lists
        // of what is new are read again.
        let most = 112 + simulated.lists_that_nothing_tells_of() + lists;
        assert!(
            idle.requests <= most,
            "{} requests when nothing happens, at most {most}",
            idle.requests
        );
        assert!(
            cost.objects <= 2 * objects,
            "each once, and once what it is part of: {} requests for {objects}",
            cost.objects
        );
        // New objects share a request for each hundred; each list of a new one takes one. An object
        // that was fetched can take one more for a list that changed with it.
        let most =
            idle.requests + cost.pages_of_events + objects.div_ceil(100) + lists + 3 * objects;
        assert!(
            cost.requests <= most,
            "{} requests, at most {most}",
            cost.requests
        );
    }
    happened.assert_everywhere();
}

#[test]
fn every_stream_of_the_table_is_simulated() {
    let account = SimulatedAccount::new(StripeBook::default());
    let simulated = account.simulator.stripe().streams();
    let missing: Vec<_> = streams()
        .map(|stream| stream.name)
        .filter(|name| *name != "events" && !simulated.iter().any(|known| known == name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let empty: Vec<_> = streams()
        .filter(|stream| {
            stream.name != "events"
                && account
                    .simulator
                    .stripe()
                    .records("", stream.name)
                    .is_empty()
        })
        .map(|stream| stream.name)
        .collect();
    assert!(empty.is_empty(), "{empty:?}");
    assert!(streams().any(|stream| stream.embedded.is_some()));
}
