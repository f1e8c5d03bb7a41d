//! An account behind a fake of Stripe, the syncs of it, and what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use connector_stripe::{StripeConfig, StripeConnector};
use pipeline_core::http::Request;
use pipeline_core::state::{CheckpointDelta, EndpointState};
use pipeline_core::{BuildContext, Clock, Event, Observer, TokioClock};
use pipeline_engine::{Commit, Destination, Job, Outcome, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, param, refusal};

/// When the account is looked at first.
const NOW: &str = "2026-01-31T00:00:00Z";

/// An account: its lists by path, and answers of another kind.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) lists: BTreeMap<String, Vec<Value>>,
    /// By path.
    pub(super) refused: BTreeMap<String, (u16, String)>,
    /// Whether every request is refused that expands something.
    pub(super) no_expansion: bool,
}

impl Account {
    pub(super) fn list(mut self, path: &str, objects: impl IntoIterator<Item = Value>) -> Self {
        self.lists
            .insert(path.to_owned(), objects.into_iter().collect());
        self
    }

    pub(super) fn refuse(mut self, path: &str, status: u16, message: &str) -> Self {
        self.refused
            .insert(path.to_owned(), refusal(status, "", "", message));
        self
    }

    fn answer(&self, request: &Request) -> (u16, String) {
        let path = request.url.path();
        if path == "/v1/account" {
            return (200, r#"{"id":"acct_1"}"#.to_owned());
        }
        if self.no_expansion && param(request, "expand[0]").is_some() {
            return refusal(
                403,
                "more_permissions_required",
                "",
                "This key may not expand it.",
            );
        }
        if let Some(refused) = self.refused.get(path) {
            return refused.clone();
        }
        if path == "/v1/billing/credit_balance_transactions" && param(request, "customer").is_none()
        {
            return refusal(
                400,
                "parameter_missing",
                "customer",
                "Must provide customer or customer_account.",
            );
        }
        if let Some(objects) = self.lists.get(path) {
            return listed(request, objects);
        }
        let object = path.rsplit_once('/').and_then(|(list, id)| {
            let of_customers = self
                .lists
                .iter()
                .filter(|(path, _)| path.starts_with("/v1/customers/"))
                .flat_map(|(_, objects)| objects);
            let objects = self
                .lists
                .get(list)
                .into_iter()
                .flatten()
                .chain(of_customers);
            objects
                .into_iter()
                .find(|object| object["id"] == id)
                .cloned()
        });
        match object {
            Some(object) => (200, object.to_string()),
            None => (
                200,
                json!({ "object": "list", "data": [], "has_more": false }).to_string(),
            ),
        }
    }
}

/// A page of what is in the request's window, the newest first.
fn listed(request: &Request, objects: &[Value]) -> (u16, String) {
    let second = |name: &str| param(request, name).and_then(|text| text.parse::<i64>().ok());
    let is_inside = |object: &&Value| {
        let created = object["created"].as_i64().unwrap_or_default();
        second("created[gte]").is_none_or(|since| created >= since)
            && second("created[lt]").is_none_or(|until| created < until)
    };
    let is_active = |object: &&Value| {
        param(request, "active")
            .is_none_or(|active| object["active"].as_bool().unwrap_or(true).to_string() == active)
    };
    let mut found: Vec<&Value> = objects.iter().filter(is_inside).filter(is_active).collect();
    found.sort_by_key(|object| std::cmp::Reverse(object["created"].as_i64()));
    let start = param(request, "starting_after")
        .and_then(|id| Some(found.iter().position(|object| object["id"] == id)? + 1))
        .unwrap_or(0);
    let limit = param(request, "limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(10);
    let page: Vec<&Value> = found[start..].iter().take(limit).copied().collect();
    (
        200,
        json!({ "object": "list", "has_more": start + page.len() < found.len(), "data": page })
            .to_string(),
    )
}

/// An account, what is read of it, and what was said meanwhile.
pub(super) struct SimulatedAccount {
    pub(super) account: Arc<Mutex<Account>>,
    pub(super) fake: Arc<Fake>,
    pub(super) clock: Arc<TokioClock>,
    pub(super) destination: Arc<MemoryDestination>,
    pub(super) notices: Arc<Notices>,
    pub(super) key: &'static str,
}

#[derive(Default)]
pub(super) struct Notices(pub(super) Mutex<Vec<String>>);

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}

impl Observer for Notices {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Notice { message, .. } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}

impl SimulatedAccount {
    pub(super) fn new(account: Account) -> Self {
        let account = Arc::new(Mutex::new(account));
        let start: DateTime<Utc> = NOW.parse().unwrap();
        let clock = Arc::new(TokioClock::starting_at(start));
        let (shared, time) = (Arc::clone(&account), Arc::clone(&clock));
        let fake = Fake::new(move |request| {
            let date = time.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            Reply::from(shared.lock().unwrap().answer(request)).header("date", &date)
        });
        Self {
            account,
            fake,
            clock,
            destination: Arc::default(),
            notices: Arc::default(),
            key: "rk_live_key",
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp()
    }

    pub(super) async fn sync(&self, streams: Selection) -> Summary {
        let observer = Arc::clone(&self.notices) as Arc<dyn Observer>;
        let context = BuildContext::new("s")
            .transport(self.fake.clone())
            .clock(self.clock.clone())
            .observer(Arc::clone(&observer))
            .seed(7);
        let connector =
            Arc::new(StripeConnector::new(StripeConfig::new(self.key), context).unwrap());
        let mut job = Job::new(
            "run",
            self.destination.clone(),
            vec![Source {
                name: "s".to_owned(),
                connector,
                streams,
            }],
        );
        (job.clock, job.observer) = (self.clock.clone(), observer);
        sync(job).await.unwrap()
    }

    pub(super) async fn sync_of(&self, streams: &[&str]) -> Summary {
        self.sync(Selection::Named(
            streams.iter().map(|name| (*name).to_owned()).collect(),
        ))
        .await
    }

    /// Resets the state of an endpoint.
    pub(super) async fn forget(&self, endpoint: &str) {
        let states = self.destination.states("s").await.unwrap();
        let (id, from) = states
            .into_iter()
            .find(|(id, _)| id.endpoint == endpoint)
            .unwrap();
        let to = EndpointState {
            plan: from.plan + 1,
            ..EndpointState::default()
        };
        let commit = Commit {
            changes: vec![CheckpointDelta::Replace {
                endpoint: id,
                from,
                to,
            }],
            ..Commit::default()
        };
        self.destination
            .begin()
            .await
            .unwrap()
            .commit(&commit)
            .await
            .unwrap();
    }

    pub(super) fn ids(&self, stream: &str) -> Vec<String> {
        self.destination.column("s", stream, "id")
    }

    pub(super) fn requests(&self) -> usize {
        self.fake.sent.lock().unwrap().len()
    }

    /// Objects have changed: events tell of them, and time goes by.
    pub(super) async fn change(&self, list: &str, kind: &str, change: impl Fn(&mut Value)) {
        tokio::time::sleep(Duration::from_mins(15)).await;
        let at = self.now();
        {
            let mut account = self.account.lock().unwrap();
            let objects = account.lists.get_mut(list).unwrap();
            objects.iter_mut().for_each(&change);
            let event = |(index, object): (usize, &Value)| json!({ "id": format!("evt_{kind}_{at}_{index}"), "object": "event", "type": kind, "created": at, "data": { "object": object } });
            let events: Vec<Value> = objects.iter().enumerate().map(event).collect();
            account
                .lists
                .entry("/v1/events".to_owned())
                .or_default()
                .extend(events);
        }
        tokio::time::sleep(Duration::from_mins(5)).await;
    }
}

pub(super) fn outcomes(summary: &Summary) -> BTreeMap<&str, &Outcome> {
    summary
        .endpoints
        .iter()
        .map(|endpoint| (&*endpoint.id.endpoint, &endpoint.outcome))
        .collect()
}

pub(super) fn unavailable(summary: &Summary) -> BTreeSet<&str> {
    outcomes(summary)
        .into_iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Unavailable { .. }))
        .map(|(name, _)| name)
        .collect()
}

pub(super) fn gaps(summary: &Summary) -> Vec<String> {
    summary
        .endpoints
        .iter()
        .flat_map(|endpoint| {
            endpoint
                .gaps
                .iter()
                .map(|gap| format!("{} {}", endpoint.id.endpoint, gap.name))
        })
        .collect()
}

pub(super) fn object(kind: &str, id: &str, created: i64) -> Value {
    json!({ "id": id, "object": kind, "created": created })
}

/// A second of the day before.
pub(super) const YESTERDAY: i64 = 1_769_730_000;
