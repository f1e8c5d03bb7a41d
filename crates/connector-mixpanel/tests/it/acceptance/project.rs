//! A project of the simulator, the syncs of it, and what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use connector_mixpanel::MixpanelConfig;
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_core::http::RetryPolicy;
use pipeline_core::{BuildContext, Clock, Event, Observer, Observers, Registry};
use pipeline_engine::{Job, Metrics, Selection, Source, Summary};
use pipeline_simulator::{Simulation, Simulator, TrueEvent};
use pipeline_testkit::InProcess;
use pipeline_testkit::acceptance::Clocks;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) const DAY: i64 = 86_400;

/// Midnight after the last day of the simulated events.
pub(super) const UNTIL: i64 = 1_793_491_200;

/// A project, and the database that it is read into.
pub(super) struct Project {
    pub(super) simulator: Arc<Simulator>,
    pub(super) folder: TempDir,
    pub(super) config: Value,
    pub(super) clock: Arc<dyn Clock>,
    /// What the last run told.
    pub(super) notices: std::sync::Mutex<Vec<String>>,
    pub(super) planned: Arc<Planned>,
    /// What clocks say.
    pub(super) clocks: Clocks,
}

/// What a run said about the requests that it planned.
#[derive(Debug, Default)]
pub(super) struct Planned(pub(super) std::sync::Mutex<Vec<String>>);

impl Observer for Planned {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Planned {
            requests,
            limit,
            until,
            ..
        } = event
        {
            self.0.lock().unwrap().push(format!(
                "{requests} requests planned ({limit}), the last of them by {until}"
            ));
        }
    }
}

/// A wall clock that stands still until it is set.
#[derive(Debug)]
pub(super) struct SetClock(pub(super) AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0.load(Ordering::Relaxed), 0).unwrap()
    }
}

impl Project {
    pub(super) fn new(simulation: Simulation, clock: Arc<dyn Clock>, config: &Value) -> Project {
        let world = simulation.mixpanel.clone();
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        let mut all = json!({
            "project_id": world.project_id, "username": world.username, "secret": world.secret, "base_url": simulator.url(),
            "rate_share": 1.0,
        });
        all.as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        let folder = tempfile::tempdir().unwrap();
        Project {
            simulator,
            folder,
            config: all,
            clock,
            notices: std::sync::Mutex::default(),
            planned: Arc::default(),
            clocks: Clocks::default(),
        }
    }

    /// Reads the export as a process of its own does.
    pub(super) async fn sync(&self) -> Summary {
        self.sync_of(Selection::Named(vec!["export".to_owned()]))
            .await
    }

    pub(super) async fn sync_of(&self, streams: Selection) -> Summary {
        let summary = self.run(streams).await;
        assert!(summary.failure().is_none(), "{summary:#?}");
        summary
    }

    pub(super) async fn run(&self, streams: Selection) -> Summary {
        let (simulator, clocks) = (Arc::clone(&self.simulator), self.clocks);
        let metrics = Arc::new(Metrics::default());
        let observer: Arc<dyn Observer> = Arc::new(Observers(vec![
            Arc::clone(&metrics) as _,
            Arc::clone(&self.planned) as _,
        ]));
        let patient = Duration::from_hours(2);
        let context = BuildContext::new("web")
            .transport(Arc::new(InProcess::new(move |request| {
                let ahead = clocks.ahead(&request);
                clocks.dated(ahead, simulator.now(), simulator.answer(request))
            })))
            .clock(Arc::clone(&self.clock))
            .observer(Arc::clone(&observer))
            .retry(
                RetryPolicy::default()
                    .max_server_delay(patient)
                    .max_elapsed(patient),
            )
            .seed(7);
        let mut registry = Registry::default();
        registry.add::<MixpanelConfig>();
        let connector = registry
            .build("mixpanel", self.config.clone(), context)
            .unwrap();
        let config: SqliteConfig =
            serde_json::from_value(json!({ "path": self.folder.path().join("web.db") })).unwrap();
        let destination = Arc::new(SqliteDestination::open(config).unwrap());
        let source = Source {
            name: "web".to_owned(),
            connector,
            streams,
        };
        let job = Job::new("run", destination, vec![source])
            .observer(observer)
            .clock(Arc::clone(&self.clock));
        let summary = pipeline_engine::sync(job).await.unwrap();
        *self.notices.lock().unwrap() = metrics
            .notices()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        summary
    }

    /// How many merged users the last run told of whose older events it left alone.
    pub(super) fn merged(&self) -> usize {
        let notices = self.notices.lock().unwrap();
        let told = notices
            .iter()
            .find_map(|text| text.split_once(" merged users are among"));
        told.map_or(0, |(number, _)| number.parse().unwrap())
    }

    pub(super) fn told(&self, part: &str) -> bool {
        self.notices
            .lock()
            .unwrap()
            .iter()
            .any(|text| text.contains(part))
    }

    /// The user of every stored event, by its insert id.
    pub(super) fn stored(&self) -> BTreeMap<String, String> {
        let database = Connection::open(self.folder.path().join("web.db")).unwrap();
        let mut statement = database
            .prepare("SELECT insert_id, distinct_id FROM web_export")
            .unwrap();
        let mut stored = BTreeMap::new();
        for row in statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
        {
            let (event, user): (String, String) = row.unwrap();
            assert!(
                stored.insert(event.clone(), user).is_none(),
                "{event} is stored twice"
            );
        }
        stored
    }

    /// The times, since the start, at which exports were let through.
    pub(super) fn exports(&self) -> Vec<Duration> {
        self.simulator.stats().operations["GET /api/2.0/export"]
            .accepted
            .clone()
    }

    pub(super) fn refused(&self) -> usize {
        self.simulator
            .stats()
            .operations
            .values()
            .map(|operation| operation.rejected.len())
            .sum()
    }
}

pub(super) fn day_of(event: &TrueEvent) -> i64 {
    event.time.div_euclid(1000 * DAY)
}
