//! Days that cannot be exported: what they cost, and how they are filled later.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pipeline_engine::{Job, Metrics, Outcome, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;

use crate::server::{Said, Server, connector_of, event, ok, read_with};

/// A project whose days can be poisoned, read by one run after the other into the same destination.
struct Project {
    server: Arc<Server>,
    poison: Arc<Mutex<Poison>>,
    destination: Arc<MemoryDestination>,
    config: serde_json::Value,
}

/// What is wrong with a server.
#[derive(Default)]
struct Poison {
    /// Days of which every request fails, and how.
    days: Vec<&'static str>,
    said: Option<Said>,
    /// True when nothing answers.
    is_down: bool,
}

impl Project {
    /// A project with an event at every noon from 2026-09-23 on: sixty days.
    fn new(days: &[&'static str], said: Said) -> Self {
        let poison = Arc::new(Mutex::new(Poison {
            days: days.to_vec(),
            said: Some(said),
            is_down: false,
        }));
        let spoiled = Arc::clone(&poison);
        let answer = move |asked: &str, _: usize| {
            let poison = spoiled.lock().unwrap();
            let (first, last) = (
                asked[..10].parse::<chrono::NaiveDate>().unwrap(),
                asked[11..21].parse::<chrono::NaiveDate>().unwrap(),
            );
            let days: Vec<String> = first
                .iter_days()
                .take_while(|day| *day <= last)
                .map(|day| day.to_string())
                .collect();
            if poison.is_down {
                return Said::of(503, "down");
            }
            let line = |day: &String| {
                let time = format!("{day}T12:00:00Z")
                    .parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap()
                    .timestamp_millis();
                format!(
                    r#"{{"event":"Buy","properties":{{"time":{time},"distinct_id":"u","$insert_id":"{day}","note":"{day}"}}}}"#
                ) + "\n"
            };
            if !poison
                .days
                .iter()
                .any(|bad| days.iter().any(|day| day == bad))
            {
                return ok(days.iter().map(line).collect::<String>());
            }
            poison.said.clone().unwrap()
        };
        let server = Arc::new(Server {
            asked: Mutex::default(),
            answer: Box::new(answer),
        });
        let config = json!({ "start_date": "2026-09-23", "exports_per_hour": 100_000 });
        Self {
            server,
            poison,
            destination: Arc::new(MemoryDestination::default()),
            config,
        }
    }

    async fn sync(&self) -> Summary {
        let (connector, clock) = connector_of(
            &self.server,
            self.config.clone(),
            Arc::new(Metrics::default()),
        );
        let source = Source {
            name: "product".to_owned(),
            connector,
            streams: Selection::Named(vec!["export".to_owned()]),
        };
        sync(Job::new("run", self.destination.clone(), vec![source]).clock(clock))
            .await
            .unwrap()
    }

    /// Exports asked for since the last time.
    fn exports(&self) -> usize {
        std::mem::take(&mut *self.server.asked.lock().unwrap()).len()
    }

    /// Days that are stored, sorted.
    fn stored(&self) -> Vec<String> {
        let mut days = self.destination.column("product", "export", "insert_id");
        days.sort();
        days
    }

    fn heal(&self) {
        *self.poison.lock().unwrap() = Poison::default();
    }
}

fn gaps(summary: &Summary) -> Vec<&str> {
    let mut names: Vec<&str> = summary.endpoints[0]
        .gaps
        .iter()
        .map(|gap| gap.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

const POISONED: [&str; 3] = ["2026-09-29", "2026-10-20", "2026-11-15"];

/// Every way in which a day can fail, and the most requests that three of sixty days cost the first
/// time and again.
fn failures() -> Vec<(&'static str, Said, usize, usize)> {
    vec![
        (
            "a server error",
            Said::of(500, r#"{"error":"unknown error"}"#),
            36,
            6,
        ),
        (
            "a refusal",
            Said::of(400, r#"{"error":"Cannot be exported"}"#),
            24,
            3,
        ),
        (
            "a line that is not an event",
            ok(event("1", "a") + "\n{\"event\":\"x\"}\n" + &event("2", "b")),
            22,
            3,
        ),
        (
            "a last line that is not an event",
            ok(event("1", "a") + "\n{\"event\":\"x\"}\n"),
            48,
            3,
        ),
        (
            "a broken connection",
            Said {
                pieces: vec![Some(Bytes::from_static(b"{\"event\"")), None],
                ..ok("")
            },
            36,
            6,
        ),
        ("a cut line", ok(event("1", "a") + "\n{\"event\":"), 36, 6),
        ("a time-out", Said::of(504, "<html>"), 60, 18),
        ("an end that came early", ok("terminated early\n"), 60, 18),
    ]
}

#[tokio::test(start_paused = true)]
async fn days_that_fail_cost_themselves_and_are_filled_once_they_are_well() {
    for (what, said, most, most_again) in failures() {
        let has_lines = what.contains("not an event");
        let project = Project::new(&POISONED, said);
        let summary = project.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Incomplete),
            "{what}: {:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(gaps(&summary), POISONED, "{what}");
        let good = project
            .stored()
            .into_iter()
            .filter(|day| day.len() == 10 && !POISONED.contains(&day.as_str()))
            .count();
        assert_eq!(good, 57, "{what}");
        assert_eq!(
            project.stored().len(),
            if has_lines {
                57 + project.stored().iter().filter(|day| day.len() == 1).count()
            } else {
                57
            },
            "{what}"
        );
        let exports = project.exports();
        assert!(exports <= most, "{what}: {exports} exports");
        // They are tried again by themselves, and no other day is.
        let summary = project.sync().await;
        assert_eq!(gaps(&summary), POISONED, "{what}");
        assert!(
            project
                .server
                .asked
                .lock()
                .unwrap()
                .iter()
                .all(|asked| POISONED.contains(&&asked[..10])),
            "{what}"
        );
        let exports = project.exports();
        assert!(
            exports <= most_again,
            "{what}: {exports} exports for the three days"
        );
        project.heal();
        let summary = project.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Done),
            "{what}: {:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(project.exports(), 3, "{what}");
        assert_eq!(
            project
                .stored()
                .into_iter()
                .filter(|day| day.len() == 10)
                .count(),
            60,
            "{what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_no_gap_and_the_slice_as_it_was() {
    for said in [
        Said::of(503, "down"),
        Said::of(500, "{}"),
        Said {
            pieces: vec![None],
            ..ok("")
        },
    ] {
        let project = Project::new(&[], said.clone());
        // The days before the slice and its oldest ones fail; the newest month is there.
        project.poison.lock().unwrap().days = vec!["2026-10-01", "2026-09-22", "2026-09-23"];
        let summary = project.sync().await;
        assert!(
            matches!(
                summary.endpoints[0].outcome,
                Outcome::Failed { .. } | Outcome::Incomplete
            ),
            "{:?}",
            summary.endpoints[0].outcome
        );
        project.heal();
        project.sync().await;
        assert_eq!(project.stored().len(), 60);
        let down = Project::new(&[], said);
        down.poison.lock().unwrap().is_down = true;
        let summary = down.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Failed { .. }),
            "{:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(gaps(&summary), [""; 0]);
        assert!(down.exports() <= 10, "eight attempts, and another day");
        down.heal();
        let summary = down.sync().await;
        assert!(
            matches!(summary.endpoints[0].outcome, Outcome::Done),
            "{:?}",
            summary.endpoints[0].outcome
        );
        assert_eq!(
            (down.stored().len(), down.exports()),
            (60, 2),
            "as long as ever"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_export_that_is_refused_as_a_whole_is_not_looked_into() {
    for (status, body, asked) in [
        (402, "{}", 1),
        (403, r#"{"error":"no role"}"#, 1),
        (404, "{}", 1),
        (400, r#"{"error":"bad project"}"#, 2),
    ] {
        let read = read_with(json!({ "start_date": "2026-09-23" }), move |_, _| {
            Said::of(status, body)
        })
        .await;
        assert!(
            matches!(read.summary.endpoints[0].outcome, Outcome::Failed { .. }),
            "{status}"
        );
        assert_eq!(
            (read.asked().len(), read.summary.endpoints[0].gaps.len()),
            (asked, 0),
            "{status}"
        );
    }
}
