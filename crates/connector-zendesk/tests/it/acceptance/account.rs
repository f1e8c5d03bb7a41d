//! A simulated Zendesk account, and syncs of it that can be killed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use connector_zendesk::ZendeskConfig;
use destination_sqlite::{SqliteConfig, SqliteDestination};
use futures::FutureExt;
use futures::future::BoxFuture;
use pipeline_core::http::{FileTokens, HttpService};
use pipeline_core::{BuildContext, Clock, Connector, Observer, Registry, TokioClock};
use pipeline_engine::{CancellationToken, Job, Metrics, Options, Selection, Source, Summary};
use pipeline_simulator::{Simulation, Simulator};
use pipeline_testkit::acceptance::UNTIL;
use pipeline_testkit::{InProcess, Pieces};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

/// When the clocks begin.
pub(crate) const NOW: i64 = UNTIL + 3600;

/// What stands before the simulator: it may answer in its place, or never.
pub(crate) type Gate = dyn Fn(http::Request<Bytes>, Arc<Simulator>) -> BoxFuture<'static, http::Response<Pieces>>
    + Send
    + Sync;

/// An account, its destination, and where tokens are kept.
pub(crate) struct Account {
    pub(crate) simulator: Arc<Simulator>,
    pub(crate) folder: TempDir,
    pub(crate) config: Value,
    /// Whether syncs read everything again.
    pub(crate) full_refresh: bool,
    /// The largest body that a process holds in memory.
    pub(crate) max_body: u64,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    notices: Mutex<Vec<String>>,
}

impl Account {
    /// Starts the account; it authenticates with an API token until `config` is changed.
    pub(crate) fn new(simulation: Simulation) -> Account {
        let simulation = Simulation {
            until: UNTIL,
            ..simulation
        };
        let zendesk = simulation.zendesk.clone();
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        let config = json!({
            "subdomain": "sim", "base_url": simulator.url(), "email": zendesk.email, "api_token": zendesk.token,
        });
        Account {
            simulator,
            folder: tempfile::tempdir().unwrap(),
            config,
            full_refresh: false,
            max_body: BuildContext::default().max_body,
            gate: Arc::new(|request, simulator: Arc<Simulator>| simulator.answer(request).boxed()),
            notices: Mutex::default(),
            clock: Arc::new(TokioClock::starting_at(
                chrono::DateTime::from_timestamp(NOW, 0).unwrap(),
            )),
        }
    }

    /// Puts something between the connector and the account.
    pub(crate) fn behind(&mut self, gate: Arc<Gate>) {
        self.gate = gate;
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("support.db")
    }

    /// Sets the machine's clock.
    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    /// The connector, as a process of its own has it: nothing but the destination and the tokens
    /// outlives it.
    pub(crate) fn connector(&self, observer: Arc<dyn Observer>) -> Arc<dyn Connector> {
        let (gate, simulator) = (Arc::clone(&self.gate), Arc::clone(&self.simulator));
        let transport: Arc<dyn HttpService> = Arc::new(InProcess::new(move |request| {
            gate(request, Arc::clone(&simulator))
        }));
        let context = BuildContext::new("support")
            .transport(transport)
            .clock(Arc::clone(&self.clock))
            .tokens(Arc::new(FileTokens::new(self.tokens())))
            .observer(observer)
            .max_body(self.max_body)
            .seed(7);
        let mut registry = Registry::default();
        registry.add::<ZendeskConfig>();
        registry
            .build("zendesk", self.config.clone(), context)
            .unwrap()
    }

    /// The folder of tokens.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Reads the streams, all if none are named, until they are read or the run is cancelled.
    pub(crate) async fn sync_until(&self, streams: &[&str], cancel: CancellationToken) -> Summary {
        let metrics = Arc::new(Metrics::default());
        let connector = self.connector(Arc::clone(&metrics) as _);
        let config: SqliteConfig =
            serde_json::from_value(json!({ "path": self.database() })).unwrap();
        let destination = Arc::new(SqliteDestination::open(config).unwrap());
        let streams: Vec<String> = streams.iter().map(ToString::to_string).collect();
        let streams = if streams.is_empty() {
            Selection::All
        } else {
            Selection::Named(streams)
        };
        let source = Source {
            name: "support".to_owned(),
            connector,
            streams,
        };
        let options = Options::default()
            .commit_interval(Duration::from_secs(1))
            .full_refresh(self.full_refresh);
        let observer = Arc::clone(&metrics) as _;
        let job = Job::new("run", destination, vec![source])
            .options(options)
            .observer(observer)
            .cancel(cancel)
            .clock(Arc::clone(&self.clock));
        let summary = pipeline_engine::sync(job).await.unwrap();
        *self.notices.lock().unwrap() = metrics
            .notices()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        summary
    }

    /// Reads the streams.
    pub(crate) async fn sync(&self, streams: &[&str]) -> Summary {
        self.sync_until(streams, CancellationToken::new()).await
    }

    /// Reads the streams to their end, and fails unless everything was read.
    pub(crate) async fn complete(&self, streams: &[&str]) -> Summary {
        let summary = self.sync(streams).await;
        assert!(summary.failure().is_none(), "{summary:#?}");
        summary
    }

    /// What the last sync said that whoever runs it should know.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap().clone()
    }

    /// A member of every row of a table, by id; `null` where it has none.
    pub(crate) fn rows(
        &self,
        table: &str,
        id: &str,
        member: &str,
    ) -> std::collections::BTreeMap<String, String> {
        let database = Connection::open(self.database()).unwrap();
        // What the vendor sends as seconds is an instant here.
        let value = if member == "generated_timestamp" {
            "strftime('%s', generated_timestamp)"
        } else {
            member
        };
        let query =
            format!("SELECT CAST({id} AS TEXT), CAST({value} AS TEXT) FROM support_{table}");
        let mut statement = database.prepare(&query).unwrap();
        let rows = statement.query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get::<_, Option<String>>(1)?
                    .unwrap_or_else(|| "null".to_owned()),
            ))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The ids of the audits that can be read: a deleted ticket has no lists any more.
    pub(crate) fn audits_of_live_tickets(&self) -> Vec<String> {
        let truth = self.simulator.truth();
        let status = truth.members("tickets", "status");
        let is_live = |ticket: &String| {
            status
                .get(ticket)
                .is_some_and(|status| status != "\"deleted\"")
        };
        truth
            .members("ticket_audits", "ticket_id")
            .into_iter()
            .filter(|(_, ticket)| is_live(ticket))
            .map(|(id, _)| id)
            .collect()
    }

    /// The times, since the start, at which requests of these routes were let through, in order.
    pub(crate) fn accepted(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Duration> {
        let stats = self.simulator.stats();
        let wanted = stats
            .operations
            .iter()
            .filter(|(route, _)| is_wanted(route));
        let mut times: Vec<Duration> = wanted
            .flat_map(|(_, operation)| operation.accepted.iter().copied())
            .collect();
        times.sort();
        times
    }

    /// Requests that the vendor refused because of a limit.
    pub(crate) fn refused(&self) -> usize {
        self.simulator
            .stats()
            .operations
            .values()
            .map(|operation| operation.rejected.len())
            .sum()
    }

    /// How many pages an export has, walked from its start without any limit.
    pub(crate) async fn pages(&self, path: &str, page_size: u64) -> usize {
        let credentials = base64_of(&format!(
            "{}/token:{}",
            self.config["email"].as_str().unwrap(),
            self.config["api_token"].as_str().unwrap()
        ));
        let mut next = format!("/api/v2/incremental/{path}&per_page={page_size}&start_time=0");
        let mut pages = 0;
        loop {
            let request =
                http::Request::get(&next).header("authorization", format!("Basic {credentials}"));
            let answer = self
                .simulator
                .answer(request.body(Bytes::new()).unwrap())
                .await;
            let body: Vec<Bytes> = futures::TryStreamExt::try_collect(answer.into_body())
                .await
                .unwrap();
            let page: Value = serde_json::from_slice(&body.concat()).unwrap();
            pages += 1;
            if page["end_of_stream"] == true {
                return pages;
            }
            let link = page["after_url"]
                .as_str()
                .or(page["next_page"].as_str())
                .unwrap();
            next = link.replace(&self.simulator.url(), "");
        }
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(text)
}
