//! Stripe accounts that change, synchronised into a database: what is stored is what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use connector_stripe::{Place, Stream, Stripe, StripeConfig, streams};
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_core::{BuildContext, ErrorKind, Event, Observer, TokioClock};
use pipeline_engine::{
    CancellationToken, Destination, Job, Outcome, Selection, Source, Summary, sync,
};
use pipeline_simulator::{Simulation, Simulator, Stats, StripeBook, StripeWorld};
use pipeline_testkit::InProcess;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;
use tempfile::TempDir;

use crate::clocks::Clocks;

/// A key that may expire, and the one that is made then.
const KEYS: [&str; 2] = ["rk_test_sim", "sk_test_sim"];

/// A simulated account and the database that it is synchronised into.
pub(crate) struct Town {
    pub(crate) simulator: Arc<Simulator>,
    directory: TempDir,
    selection: Selection,
    /// Whether the database keeps the values of deleted rows.
    pub(crate) marks: bool,
    /// Time that passes when a request is sent whose URL contains this text.
    pub(crate) passes: Option<(&'static str, Duration)>,
    /// What clocks say.
    pub(crate) clocks: Clocks,
    /// The accounts that are read, by the simulator's names, with their ids; the key's own alone
    /// when there are none.
    pub(crate) accounts: BTreeMap<String, String>,
    notices: Arc<Notices>,
}

/// What the last syncs said that whoever runs them should know.
#[derive(Debug, Default)]
struct Notices(Mutex<Vec<String>>);

impl Observer for Notices {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Notice { message, .. } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}

impl Town {
    pub(crate) fn new(book: StripeBook) -> Town {
        let stripe = StripeWorld {
            book: Some(book),
            ..StripeWorld::default()
        };
        let simulation = Simulation {
            stripe,
            days: 200,
            ..Simulation::default()
        };
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        Town {
            simulator,
            directory: tempfile::tempdir().unwrap(),
            selection: Selection::All,
            marks: false,
            accounts: BTreeMap::new(),
            passes: None,
            clocks: Clocks::default(),
            notices: Arc::default(),
        }
    }

    pub(crate) fn only(mut self, streams: &[&str]) -> Town {
        self.selection = Selection::Named(streams.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    fn destination(&self) -> Arc<dyn Destination> {
        let path = self.directory.path().join("town.db");
        let deletes = if self.marks { "mark" } else { "remove" };
        Arc::new(
            SqliteDestination::open(
                serde_json::from_value::<SqliteConfig>(
                    serde_json::json!({ "path": path, "deletes": deletes }),
                )
                .unwrap(),
            )
            .unwrap(),
        )
    }

    pub(crate) async fn sync_with(&self, config: StripeConfig) -> Summary {
        self.sync_until(config, CancellationToken::new()).await
    }

    pub(crate) async fn sync_until(
        &self,
        config: StripeConfig,
        cancel: CancellationToken,
    ) -> Summary {
        let simulator = Arc::clone(&self.simulator);
        let (passes, clocks) = (self.passes, self.clocks);
        let transport = InProcess::new(move |request| {
            if let Some((_, time)) =
                passes.filter(|(text, _)| request.uri().to_string().contains(text))
            {
                simulator.advance(time);
            }
            let ahead = clocks.ahead(&request);
            clocks.dated(ahead, simulator.stripe().now(), simulator.answer(request))
        });
        let now =
            DateTime::from_timestamp(self.simulator.stripe().now() + clocks.machine, 0).unwrap();
        let clock = Arc::new(TokioClock::starting_at(now));
        let observer = Arc::clone(&self.notices) as Arc<dyn Observer>;
        let context = BuildContext::new("s")
            .transport(Arc::new(transport))
            .clock(clock.clone())
            .observer(Arc::clone(&observer));
        let connector = Arc::new(Stripe::new(config, context).unwrap());
        let source = Source {
            name: "s".to_owned(),
            connector,
            streams: self.selection.clone(),
        };
        let mut job = Job::new("run", self.destination(), vec![source]);
        (job.clock, job.observer, job.cancel) = (clock, observer, cancel);
        sync(job).await.unwrap()
    }

    /// Reads everything, or fails.
    pub(crate) async fn sync(&self) -> Summary {
        let summary = self.sync_with(StripeConfig::new(KEYS[1])).await;
        let undone: Vec<_> = summary
            .endpoints
            .iter()
            .filter(|endpoint| !matches!(endpoint.outcome, Outcome::Done))
            .collect();
        assert!(undone.is_empty(), "{undone:#?}");
        summary
    }

    /// What the syncs since the last question said that whoever runs them should know.
    pub(crate) fn notices(&self) -> String {
        std::mem::take(&mut *self.notices.0.lock().unwrap()).join("\n")
    }

    pub(crate) fn database(&self) -> Connection {
        Connection::open(self.directory.path().join("town.db")).unwrap()
    }

    /// Lets things happen, and as much time pass as lists and events may be late.
    pub(crate) fn happen(&self, things: u64) {
        self.simulator.stripe().happen(things);
        self.pass(Duration::from_mins(3));
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.simulator.advance(time);
    }

    pub(crate) fn rows(&self, stream: &Stream) -> BTreeMap<String, BTreeMap<String, Value>> {
        let database = self.database();
        let Ok(mut select) = database.prepare(&format!("SELECT * FROM s_{}", stream.name)) else {
            return BTreeMap::new();
        };
        let names: Vec<String> = select.column_names().map(str::to_owned).collect();
        let mut rows = select.query([]).unwrap();
        let mut found = BTreeMap::new();
        while let Some(row) = rows.next().unwrap() {
            let cell = |index: usize| match row.get_ref(index).unwrap() {
                ValueRef::Null | ValueRef::Blob(_) => Value::Null,
                ValueRef::Integer(number) => Value::from(number),
                ValueRef::Real(number) => Value::from(number),
                ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text)),
            };
            let row: BTreeMap<String, Value> = names
                .iter()
                .enumerate()
                .map(|(index, name)| (name.clone(), cell(index)))
                .collect();
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let account = row.get("_account_id").map(|_| text("_account_id"));
            let key: Vec<String> = account
                .into_iter()
                .chain(stream.key.iter().map(|name| text(name)))
                .collect();
            assert!(
                found.insert(key.join("/"), row).is_none(),
                "a row is there twice"
            );
        }
        found
    }

    /// Everything that there is of a stream, by the key that its rows have.
    fn truth(&self, stream: &Stream) -> BTreeMap<String, Value> {
        let stripe = self.simulator.stripe();
        let records = |account: &str| {
            stripe
                .records(account, stream.name)
                .into_iter()
                .map(|record| (key(stream, &record), record))
        };
        if self.accounts.is_empty() {
            return records("").collect();
        }
        let of = |(name, id): (&String, &String)| {
            records(name)
                .map(|(key, record)| (format!("{id}/{key}"), record))
                .collect::<Vec<_>>()
        };
        self.accounts.iter().flat_map(of).collect()
    }

    /// What differs between what is stored and what there is.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for stream in streams().filter(|stream| stream.name != "events") {
            if matches!(&self.selection, Selection::Named(names) if !names.iter().any(|name| name == stream.name))
            {
                continue;
            }
            let truth = self.truth(stream);
            let rows = self.rows(stream);
            differences.extend(
                truth
                    .keys()
                    .filter(|key| !rows.contains_key(*key))
                    .map(|key| format!("{}: {key} is missing", stream.name)),
            );
            differences.extend(
                rows.keys()
                    .filter(|key| !truth.contains_key(*key))
                    .map(|key| format!("{}: {key} is gone but stored", stream.name)),
            );
            for (key, record) in &truth {
                let Some(row) = rows.get(key) else { continue };
                let members = record
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(name, value)| !equals(row.get(*name), value));
                differences.extend(members.map(|(name, value)| {
                    format!(
                        "{}: {key}: {name} is {value}, stored {:?}",
                        stream.name,
                        row.get(name)
                    )
                }));
            }
        }
        differences
    }
}

fn key(stream: &Stream, record: &Value) -> String {
    let member = |name: &&str| {
        record
            .get(*name)
            .filter(|_| *name == "id")
            .or(record.get("_parent"))
            .and_then(Value::as_str)
    };
    stream
        .key
        .iter()
        .map(|name| member(name).unwrap_or_default())
        .collect::<Vec<_>>()
        .join("/")
}

/// Whether a cell holds a member's value. Times are stored in a form of their own, and so are
/// members without a column.
fn equals(cell: Option<&Value>, member: &Value) -> bool {
    match (cell, member) {
        (None, _) | (Some(Value::String(_)), Value::Number(_)) => true,
        (Some(cell), Value::Bool(flag)) => cell.as_i64() == Some(i64::from(*flag)),
        (Some(Value::String(text)), Value::Object(_) | Value::Array(_)) => {
            serde_json::from_str::<Value>(text).ok().as_ref() == Some(member)
        }
        (Some(cell), Value::Object(_) | Value::Array(_)) => *cell == *member,
        (Some(Value::Number(cell)), Value::Number(number)) => {
            cell.as_f64() == number.as_f64()
                || number.as_i64().is_some_and(|number| number > 1_000_000_000)
        }
        (Some(cell), member) => cell == member,
    }
}

/// What a sync has asked for.
struct Cost {
    requests: u64,
    pages_of_events: u64,
    /// Requests for single objects.
    objects: u64,
}

impl Town {
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
        let parents = streams().filter_map(|stream| {
            if let Place::Each { parent, .. } = stream.place {
                Some(parent)
            } else {
                None
            }
        });
        parents.map(made).sum()
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
        let without = |happened: &BTreeSet<&str>, is_meant: fn(&Stream) -> bool| -> Vec<&str> {
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
    let town = Town::new(StripeBook {
        objects: 40,
        changes_per_page: 2,
        ..StripeBook::default()
    });
    town.sync().await;
    assert!(
        town.simulator.stripe().events() > 100,
        "much has happened meanwhile"
    );
    town.simulator.stripe().changes_per_page(0);
    town.happen(0);
    town.sync().await;
    town.assert_truth("after the backfill");
    let mut happened = Happened::default();
    for (round, things) in [0, 400, 40].into_iter().enumerate() {
        // So long that no sync reads again what the one before has read.
        town.pass(Duration::from_mins(20));
        town.sync().await;
        let (events, since) = (
            town.simulator.stripe().events(),
            town.simulator.stripe().now(),
        );
        let before = town.truths();
        if round == 0 {
            town.simulator.stripe().happen_everywhere();
        }
        town.happen(things);
        happened.note(&before, &town.truths());
        if round == 1 {
            town.key_expires().await;
        }
        let cost = town.cost_of_a_sync().await;
        town.assert_truth(&format!("after round {round}"));
        town.pass(Duration::from_mins(20));
        let idle = town.cost_of_a_sync().await;
        let objects = town.simulator.stripe().named_since(events) as u64;
        let lists = town.lists_of_new_objects(since);
        println!(
            "round {round}: {things} things, {objects} objects named by events, {lists} lists of new ones: {} requests, {} of them for events, {} for \
             objects; {} when nothing happens",
            cost.requests, cost.pages_of_events, cost.objects, idle.requests
        );
        // A request for each list, or two, and each list of a record that no event tells of. Lists
        // of what is new are read again.
        let most = 112 + town.lists_that_nothing_tells_of() + lists;
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
    let town = Town::new(StripeBook::default());
    let simulated = town.simulator.stripe().streams();
    let missing: Vec<_> = streams()
        .map(|stream| stream.name)
        .filter(|name| *name != "events" && !simulated.iter().any(|known| known == name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let empty: Vec<_> = streams()
        .filter(|stream| {
            stream.name != "events" && town.simulator.stripe().records("", stream.name).is_empty()
        })
        .map(|stream| stream.name)
        .collect();
    assert!(empty.is_empty(), "{empty:?}");
    assert!(streams().any(|stream| matches!(stream.place, Place::Inside { .. })));
}
