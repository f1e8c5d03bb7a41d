//! An account of the simulator, the syncs of it, and how what is stored differs from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use connector_stripe::tables::{Stripe, streams};
use connector_stripe::{StripeConfig, StripeConnector};
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_core::declarative::ListDef;
use pipeline_core::{BuildContext, Event, Observer, TokioClock};
use pipeline_engine::{
    CancellationToken, Destination, Job, Outcome, Selection, Source, Summary, sync,
};
use pipeline_simulator::{Simulation, Simulator, StripeBook, StripeWorld};
use pipeline_testkit::InProcess;
use pipeline_testkit::acceptance::Clocks;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;
use tempfile::TempDir;

/// A key that may expire, and the one that is made then.
pub(super) const KEYS: [&str; 2] = ["rk_test_sim", "sk_test_sim"];

/// A simulated account and the database that it is synchronised into.
pub(crate) struct SimulatedAccount {
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

impl SimulatedAccount {
    pub(crate) fn new(book: StripeBook) -> SimulatedAccount {
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
        SimulatedAccount {
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

    pub(crate) fn only(mut self, streams: &[&str]) -> SimulatedAccount {
        self.selection = Selection::Named(streams.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    fn destination(&self) -> Arc<dyn Destination> {
        let path = self.directory.path().join("simulated.db");
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
        let connector = Arc::new(StripeConnector::new(config, context).unwrap());
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
        Connection::open(self.directory.path().join("simulated.db")).unwrap()
    }

    /// Lets things happen, and as much time pass as lists and events may be late.
    pub(crate) fn happen(&self, things: u64) {
        self.simulator.stripe().happen(things);
        self.pass(Duration::from_mins(3));
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.simulator.advance(time);
    }

    pub(crate) fn rows(
        &self,
        stream: &ListDef<Stripe>,
    ) -> BTreeMap<String, BTreeMap<String, Value>> {
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
                .chain(stream.streams[0].key.iter().map(|name| text(name)))
                .collect();
            assert!(
                found.insert(key.join("/"), row).is_none(),
                "a row is there twice"
            );
        }
        found
    }

    /// Everything that there is of a stream, by the key that its rows have.
    pub(super) fn truth(&self, stream: &ListDef<Stripe>) -> BTreeMap<String, Value> {
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

pub(super) fn key(stream: &ListDef<Stripe>, record: &Value) -> String {
    let member = |name: &&str| {
        record
            .get(*name)
            .filter(|_| *name == "id")
            .or(record.get("_parent"))
            .and_then(Value::as_str)
    };
    let key = stream.streams[0].key.iter();
    key.map(|name| member(name).unwrap_or_default())
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
