//! Mixpanel: days of the export that cannot be read, among sixty; killed on the way, and healed;
//! and an outage in the middle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use connector_mixpanel::MixpanelConfig;
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_core::{BuildContext, Clock, Registry, TokioClock};
use pipeline_engine::{Job, Outcome, Selection, Source, Summary};
use pipeline_simulator::{Limits, MixpanelWorld, Rule, Simulation, Simulator, Spoil};
use pipeline_testkit::InProcess;
use pipeline_testkit::acceptance::setting;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

const DAYS: u32 = 60;

/// Midnight after the last day of the simulated events.
const UNTIL: i64 = 1_793_491_200;

/// Days before the end of which no request can be answered.
const POISONED: [i64; 3] = [2, 17, 51];

/// A project of sixty days, and the database that it is read into.
struct Project {
    simulator: Arc<Simulator>,
    folder: TempDir,
    clock: Arc<dyn Clock>,
    window: u32,
    requests: Arc<AtomicU64>,
}

fn day(before: i64) -> NaiveDate {
    DateTime::from_timestamp(UNTIL - before * 86_400, 0)
        .unwrap()
        .date_naive()
}

impl Project {
    fn new(window: u32) -> Project {
        let mixpanel = MixpanelWorld {
            days: DAYS,
            events_per_day: setting("PIPELINE_GAP_EVENTS", 40),
            ..MixpanelWorld::default()
        };
        let limits = Limits {
            mixpanel_export_second: None,
            mixpanel_export_hour: None,
            ..Limits::sandbox()
        };
        let simulation = Simulation {
            until: UNTIL,
            shown_until: Some(UNTIL),
            mixpanel,
            limits,
            ..Simulation::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(
            DateTime::from_timestamp(UNTIL, 0).unwrap(),
        ));
        let simulator = Arc::new(Simulator::without_port(simulation).unwrap());
        Project {
            simulator,
            folder: tempfile::tempdir().unwrap(),
            clock,
            window,
            requests: Arc::default(),
        }
    }

    /// Poisons days, each in a way of its own.
    fn poison(&self) {
        let ways = [
            Spoil::error(500, "unknown error"),
            Spoil::Line("{\"event\":\"x\"}".to_owned()),
            Spoil::error(400, "cannot be exported"),
        ];
        let rules = POISONED
            .iter()
            .zip(ways)
            .map(|(before, spoil)| Rule::poison("/api/2.0/export", spoil).day(day(*before)));
        self.simulator.set_rules(rules.collect());
    }

    fn job(&self) -> Job {
        let (simulator, requests) = (Arc::clone(&self.simulator), Arc::clone(&self.requests));
        let answer = move |request| {
            requests.fetch_add(1, Ordering::Relaxed);
            simulator.answer(request)
        };
        let context = BuildContext::new("web")
            .transport(Arc::new(InProcess::new(answer)))
            .clock(Arc::clone(&self.clock))
            .seed(7);
        let mut registry = Registry::default();
        registry.add::<MixpanelConfig>();
        let world = MixpanelWorld::default();
        let config = json!({
            "project_id": world.project_id, "username": world.username, "secret": world.secret, "base_url": self.simulator.url(),
            "start_date": day(DAYS.into()), "export_window_days": self.window, "exports_per_hour": 100_000, "rate_share": 1.0,
        });
        let connector = registry.build("mixpanel", config, context).unwrap();
        let config: SqliteConfig =
            serde_json::from_value(json!({ "path": self.folder.path().join("web.db") })).unwrap();
        let destination = Arc::new(SqliteDestination::open(config).unwrap());
        let source = Source {
            name: "web".to_owned(),
            connector,
            streams: Selection::Named(vec!["export".to_owned()]),
        };
        Job::new("run", destination, vec![source]).clock(Arc::clone(&self.clock))
    }

    async fn sync(&self) -> Summary {
        pipeline_engine::sync(self.job()).await.unwrap()
    }

    /// Syncs until so many requests were made, and then is gone like a process that was killed.
    /// True when it was.
    async fn killed_after(&self, requests: u64) -> bool {
        let until = self.requests.load(Ordering::Relaxed) + requests;
        tokio::select! {
            biased;
            () = async { while self.requests.load(Ordering::Relaxed) < until { tokio::time::sleep(Duration::from_millis(50)).await; } } => true,
            _ = self.sync() => false,
        }
    }

    fn requests(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }

    /// Insert ids of what is stored; none twice.
    fn stored(&self) -> BTreeSet<String> {
        let database = Connection::open(self.folder.path().join("web.db")).unwrap();
        let mut statement = database
            .prepare("SELECT insert_id FROM web_export")
            .unwrap();
        let all: Vec<String> = statement
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let different: BTreeSet<String> = all.iter().cloned().collect();
        assert_eq!(all.len(), different.len(), "an event is stored twice");
        different
    }

    fn truth(&self) -> BTreeSet<String> {
        self.simulator.truth().ids("export").into_iter().collect()
    }

    /// Events of days that can be read.
    fn readable(&self) -> usize {
        let lost: BTreeSet<String> = [POISONED[0], POISONED[2]]
            .iter()
            .map(|before| day(*before).to_string())
            .collect();
        let day_of = |time: i64| {
            DateTime::from_timestamp_millis(time)
                .unwrap()
                .date_naive()
                .to_string()
        };
        self.simulator
            .truth()
            .events(UNTIL)
            .iter()
            .filter(|event| !lost.contains(&day_of(event.time)))
            .count()
    }
}

fn gaps(summary: &Summary) -> BTreeSet<String> {
    summary.endpoints[0]
        .gaps
        .iter()
        .map(|gap| gap.name.clone())
        .collect()
}

fn poisoned() -> BTreeSet<String> {
    POISONED
        .iter()
        .map(|before| day(*before).to_string())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn three_poisoned_days_of_sixty_cost_themselves_and_heal_in_one_sync() {
    let project = Project::new(30);
    project.poison();
    let summary = project.sync().await;
    assert!(
        matches!(summary.endpoints[0].outcome, Outcome::Incomplete),
        "{:#?}",
        summary.endpoints[0]
    );
    assert_eq!(gaps(&summary), poisoned());
    assert_eq!(
        project.stored().len(),
        project.readable(),
        "all of the good days, and the events of the day with a line that is none"
    );
    let first = project.requests();
    project.sync().await;
    let again = project.requests();
    project.simulator.set_rules(Vec::new());
    let summary = project.sync().await;
    assert!(
        matches!(summary.endpoints[0].outcome, Outcome::Done),
        "{:#?}",
        summary.endpoints[0]
    );
    assert_eq!(project.stored(), project.truth());
    let healed = project.requests();
    println!(
        "60 days with 3 poisoned: {first} exports, then {again} while they are poisoned, and \
         {healed} to fill them; 2 without poison"
    );
    assert!(first <= 40 && again <= 6 && healed == 3);
}

#[tokio::test(start_paused = true)]
async fn kills_lose_no_gap_and_nothing_twice() {
    let project = Project::new(30);
    project.poison();
    let mut kills = 0;
    for requests in (1..=20).cycle() {
        if !project.killed_after(requests).await {
            break;
        }
        kills += 1;
        assert!(kills < 200, "it does not get ahead");
    }
    assert!(kills >= 5, "{kills}");
    let summary = project.sync().await;
    assert_eq!(
        gaps(&summary),
        poisoned(),
        "after {kills} kills: {:#?}",
        summary.endpoints[0]
    );
    assert_eq!(project.stored().len(), project.readable());
    project.simulator.set_rules(Vec::new());
    let mut kills_again = 0;
    while project.killed_after(2).await {
        kills_again += 1;
    }
    assert!(gaps(&project.sync().await).is_empty());
    assert_eq!(project.stored(), project.truth());
    println!("{kills} kills while days were poisoned, {kills_again} while they were filled");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_ten_minutes_leaves_no_gap() {
    let project = Project::new(1);
    let outage = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let down = Rule::refuse("/api/2.0/export", 503, "Service Unavailable");
        project.simulator.set_rules(vec![down]);
        tokio::time::sleep(Duration::from_mins(10)).await;
        project.simulator.set_rules(Vec::new());
    };
    let syncs = async {
        let mut runs = 0;
        loop {
            runs += 1;
            let summary = project.sync().await;
            assert_eq!(gaps(&summary), BTreeSet::new());
            match &summary.endpoints[0].outcome {
                Outcome::Done => break runs,
                Outcome::Failed { .. } => tokio::time::sleep(Duration::from_mins(2)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    let (runs, ()) = tokio::join!(syncs, outage);
    assert_eq!(project.stored(), project.truth());
    println!(
        "{runs} runs, {} exports for sixty days of a request each",
        project.requests()
    );
    assert!(project.stored().len() > 1_000 && runs <= 10);
}
