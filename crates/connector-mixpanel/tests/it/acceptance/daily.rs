//! Mixpanel: late events and merged users over a month of daily syncs, a long history inside the
//! hourly budget, and queries at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::DateTime;
use pipeline_core::TokioClock;
use pipeline_engine::Selection;
use pipeline_simulator::{Limits, MixpanelWorld, Simulation, TrueEvent};
use pipeline_testkit::acceptance::{Clocks, setting};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::project::{DAY, Project, SetClock, UNTIL, day_of};

/// `PIPELINE_MIXPANEL_EVENTS=20000` (a day) is the large project.
///
/// Every day is last read when it is `lookback_days` old. What arrived by then is stored as it was
/// then; what came later is missing until a sweep, and the run says so.
#[tokio::test(start_paused = true)]
async fn b_a_month_of_daily_syncs_has_everything_inside_the_lookback() {
    const LOOKBACK: i64 = 5;
    const SYNCS: i64 = 30;
    let events_per_day = setting("PIPELINE_MIXPANEL_EVENTS", 300);
    let days = u32::try_from(SYNCS + 8).unwrap();
    let late = MixpanelWorld {
        late: 0.03,
        very_late: 0.01,
        very_late_days: 12,
        merged: 0.01,
        ..MixpanelWorld::default()
    };
    let world = MixpanelWorld {
        days,
        events_per_day,
        profiles: 2_000,
        ..late
    };
    let first = UNTIL - SYNCS * DAY;
    let time_of = |sync: i64| first + sync * DAY + 1_800;
    let simulation = Simulation {
        until: UNTIL,
        shown_until: Some(time_of(0)),
        mixpanel: world,
        ..Simulation::default()
    };
    let clock = Arc::new(SetClock(AtomicI64::new(time_of(0))));
    let start = DateTime::from_timestamp(UNTIL - i64::from(days) * DAY, 0)
        .unwrap()
        .format("%Y-%m-%d")
        .to_string();
    let mut project = Project::new(
        simulation,
        Arc::clone(&clock) as _,
        &json!({ "start_date": start, "lookback_days": LOOKBACK }),
    );
    let (mut merged, mut told_late) = (BTreeSet::new(), false);
    for sync in 0..=SYNCS {
        clock.0.store(time_of(sync), Ordering::Relaxed);
        project.simulator.show_until(time_of(sync));
        project.sync().await;
        // Users whose merge shows in the days that this run has read; older days of theirs keep
        // what they had.
        let read = (first / DAY + sync - LOOKBACK - 1)..(first / DAY + sync);
        let events = project
            .simulator
            .truth()
            .events(time_of(sync) + 120)
            .into_iter();
        let users: BTreeSet<String> = events
            .filter(|event| read.contains(&day_of(event)))
            .filter_map(|event| event.former_id)
            .collect();
        assert_eq!(
            project.merged(),
            if sync == 0 { 0 } else { users.len() },
            "sync {sync}"
        );
        merged.extend(users);
        told_late |= project.told("more than 5 days late");
    }

    let now = time_of(SYNCS) + 120;
    let stored = project.stored();
    let truth = project.simulator.truth().events(now);
    let (inside, outside): (Vec<&TrueEvent>, Vec<&TrueEvent>) = truth
        .iter()
        .partition(|event| day_of(event) >= (UNTIL - LOOKBACK * DAY) / DAY);
    for event in &inside {
        assert_eq!(
            stored.get(&event.insert_id),
            Some(&event.distinct_id),
            "{event:?}"
        );
    }
    // Older days hold exactly what there was when they were read for the last time.
    let mut expected: BTreeMap<String, String> = inside
        .iter()
        .map(|event| (event.insert_id.clone(), event.distinct_id.clone()))
        .collect();
    for sync in 0..=SYNCS {
        let read_last = |day: i64| {
            (day + 1 + LOOKBACK - first / DAY).max(0) == sync
                && day < (UNTIL - LOOKBACK * DAY) / DAY
        };
        let then = project.simulator.truth().events(time_of(sync) + 120);
        expected.extend(
            then.into_iter()
                .filter(|event| read_last(day_of(event)))
                .map(|event| (event.insert_id, event.distinct_id)),
        );
    }
    let missing: Vec<&&TrueEvent> = outside
        .iter()
        .filter(|event| !stored.contains_key(&event.insert_id))
        .collect();
    let renamed: Vec<&&TrueEvent> = outside
        .iter()
        .filter(|event| {
            stored
                .get(&event.insert_id)
                .is_some_and(|user| *user != event.distinct_id)
        })
        .collect();
    let told: Vec<_> = renamed
        .iter()
        .filter(|event| {
            event
                .former_id
                .as_ref()
                .is_some_and(|user| merged.contains(user))
        })
        .collect();
    let late = truth
        .iter()
        .filter(|event| event.processed - event.time > 60_000)
        .count();
    println!(
        "events: {}, of which late: {late}; stored: {}",
        truth.len(),
        stored.len()
    );
    println!(
        "inside the lookback: {}, all as they are in truth",
        inside.len()
    );
    println!(
        "outside: {} missing because they came later than {LOOKBACK} days, {} of users merged \
         since, all told of: {}",
        missing.len(),
        renamed.len(),
        told.len() == renamed.len()
    );
    println!(
        "requests: {}; told: {:?}",
        project.exports().len(),
        project.notices.lock().unwrap()
    );
    assert!(
        stored == expected,
        "{} rows instead of {}",
        stored.len(),
        expected.len()
    );
    assert!(
        missing
            .iter()
            .all(|event| event.processed - event.time > LOOKBACK * DAY * 1000),
        "lost inside the lookback"
    );
    assert!(
        !missing.is_empty() && !renamed.is_empty(),
        "the test has nothing outside the lookback"
    );
    assert_eq!(
        told.len(),
        renamed.len(),
        "no run has told of some of the users whose events outside the lookback are not theirs"
    );
    assert!(told_late);

    // The weekly sweep brings them.
    project.config["sweep_days"] = json!(SYNCS + 8);
    let next = now + 7 * DAY;
    clock.0.store(next, Ordering::Relaxed);
    project.simulator.show_until(next);
    project.sync().await;
    let swept: BTreeSet<(String, String)> = project.stored().into_iter().collect();
    let truth = project.simulator.truth().events(next + 120);
    assert_eq!(project.merged(), 0, "nothing is left as it was");
    assert_eq!(
        swept,
        truth
            .into_iter()
            .map(|event| (event.insert_id, event.distinct_id))
            .collect(),
        "after the sweep"
    );
}

/// `PIPELINE_MIXPANEL_EVENTS=2000` is the large project.
#[tokio::test(start_paused = true)]
async fn c32_a_long_history_takes_as_many_requests_as_it_must_and_no_hour_has_too_many() {
    const DAYS: u32 = 400;
    const HOURLY: usize = 60;
    let events_per_day = setting("PIPELINE_MIXPANEL_EVENTS", 250);
    let world = MixpanelWorld {
        days: DAYS,
        events_per_day,
        ..MixpanelWorld::default()
    };
    let limits = Limits {
        mixpanel_export_second: Some(3),
        mixpanel_export_hour: Some(60),
        ..Limits::default()
    };
    let simulation = Simulation {
        until: UNTIL,
        shown_until: Some(UNTIL),
        mixpanel: world,
        limits,
        ..Simulation::default()
    };
    let clock = Arc::new(TokioClock::starting_at(
        DateTime::from_timestamp(UNTIL + 120, 0).unwrap(),
    ));
    let start = DateTime::from_timestamp(UNTIL - i64::from(DAYS) * DAY, 0)
        .unwrap()
        .format("%Y-%m-%d")
        .to_string();
    // As many megabytes as a few days hold, so that the hour is what binds.
    let megabytes = (events_per_day / 250).max(1);
    let project = Project::new(
        simulation,
        clock,
        &json!({ "start_date": start, "export_window_mb": megabytes }),
    );
    let summary = project.sync().await;

    let bytes: u64 = summary.endpoints[0].streams[0].bytes;
    let rows = project.stored().len() as u64;
    let line = event_line(&project);
    let window = ((megabytes << 20) / (line * events_per_day)).clamp(1, 30);
    let fewest = u64::from(DAYS).div_ceil(window);
    let exports = project.exports();
    let within_an_hour = |first: &Duration| {
        exports
            .iter()
            .filter(|time| *time >= first && **time < *first + Duration::from_hours(1))
            .count()
    };
    let busiest = exports.iter().map(within_an_hour).max().unwrap();
    println!(
        "{rows} events of {DAYS} days, {bytes} bytes of rows, {line} bytes a line: {window} days \
         fit a request"
    );
    println!(
        "requests: {} of at least {fewest}; busiest hour: {busiest}; refused: {}",
        exports.len(),
        project.refused()
    );
    let took = exports.last().unwrap().saturating_sub(exports[0]);
    println!(
        "they took {took:?}; told: {:?}",
        project.planned.0.lock().unwrap()
    );
    assert_eq!(rows, u64::from(DAYS) * events_per_day);
    assert!(
        exports.len() as u64 * 100 <= fewest * 105,
        "{} requests instead of {fewest}",
        exports.len()
    );
    assert!(busiest <= HOURLY && exports.len() > HOURLY, "{busiest}");
    let closest = exports
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .min()
        .unwrap();
    assert!(closest >= Duration::from_millis(333), "{closest:?}");
    assert_eq!(project.refused(), 0);
    assert!(
        !project.planned.0.lock().unwrap().is_empty(),
        "nothing was said about the budget"
    );
}

/// All streams, twenty cohorts among them, where Mixpanel answers so many queries at once.
async fn all_streams(queries_at_once: u32) -> Project {
    let limits = Limits {
        mixpanel_query_hour: Some(60),
        mixpanel_queries_at_once: Some(queries_at_once),
        ..Limits::sandbox()
    };
    let mixpanel = MixpanelWorld {
        days: 3,
        cohorts: 20,
        ..MixpanelWorld::default()
    };
    let latency = Duration::from_secs(2);
    let simulation = Simulation {
        until: UNTIL,
        shown_until: Some(UNTIL),
        mixpanel,
        limits,
        latency,
        ..Simulation::default()
    };
    let clock = Arc::new(TokioClock::starting_at(
        DateTime::from_timestamp(UNTIL + 120, 0).unwrap(),
    ));
    let project = Project::new(simulation, clock, &json!({}));
    project.sync_of(Selection::All).await;
    let database = Connection::open(project.folder.path().join("web.db")).unwrap();
    let cohorts: u32 = database
        .query_row(
            "SELECT count(DISTINCT cohort_id) FROM web_cohort_members",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(cohorts, 20);
    project
}

#[tokio::test(start_paused = true)]
async fn d_no_more_queries_are_under_way_than_mixpanel_answers() {
    let project = all_streams(5).await;
    let most = project.simulator.stats().max_in_flight;
    println!(
        "at most {most} requests at once, {} refused",
        project.refused()
    );
    assert_eq!(project.refused(), 0);
    // Fewer than published: found out from the refusals, which say so.
    let narrow = all_streams(2).await;
    println!("where two are answered: {} refused", narrow.refused());
    assert!((1..=10).contains(&narrow.refused()), "{}", narrow.refused());
}

/// Bytes of an event as the export writes it, on average.
fn event_line(project: &Project) -> u64 {
    let id = project.simulator.truth().ids("export");
    let sample = id.iter().step_by(id.len() / 500 + 1);
    let lines: Vec<usize> = sample
        .map(|id| {
            project
                .simulator
                .truth()
                .record("export", id)
                .unwrap()
                .to_string()
                .len()
        })
        .collect();
    (lines.iter().sum::<usize>() / lines.len()) as u64
}

/// A few days of events, read up to the end of the last.
fn few_days(days: u32) -> (Project, Arc<SetClock>) {
    let world = MixpanelWorld {
        days,
        events_per_day: 50,
        ..MixpanelWorld::default()
    };
    let simulation = Simulation {
        until: UNTIL,
        shown_until: Some(UNTIL),
        mixpanel: world,
        ..Simulation::default()
    };
    let clock = Arc::new(SetClock(AtomicI64::new(UNTIL + 120)));
    let project = Project::new(
        simulation,
        Arc::clone(&clock) as _,
        &json!({ "lookback_days": 2 }),
    );
    (project, clock)
}

fn start(days_before: i64) -> Value {
    json!(
        DateTime::from_timestamp(UNTIL - days_before * DAY, 0)
            .unwrap()
            .format("%Y-%m-%d")
            .to_string()
    )
}

#[tokio::test(start_paused = true)]
async fn a2_a_mixpanel_start_moved_back_reads_the_older_days_once() {
    let (mut project, _) = few_days(20);
    let exported = |project: &Project| project.stored().len();
    for (days, stored) in [(5, 250), (12, 600), (3, 600), (8, 600), (20, 1_000)] {
        project.config["start_date"] = start(days);
        project.sync().await;
        assert_eq!(exported(&project), stored, "{days} days");
    }
    // Without one: the thirty days of every first sync, of which all are there.
    project.config.as_object_mut().unwrap().remove("start_date");
    project.sync().await;
    assert_eq!(exported(&project), 1_000);
    assert_eq!(project.exports().len(), 4, "one for each part that was new");
}

#[tokio::test(start_paused = true)]
async fn a1_another_mixpanel_project_is_refused() {
    let (project, clock) = few_days(3);
    project.sync().await;
    let world = MixpanelWorld {
        days: 3,
        events_per_day: 70,
        project_id: 4_711,
        ..MixpanelWorld::default()
    };
    let simulation = Simulation {
        until: UNTIL,
        shown_until: Some(UNTIL),
        mixpanel: world,
        ..Simulation::default()
    };
    let other = Project {
        folder: project.folder,
        ..Project::new(simulation, clock, &json!({}))
    };
    let summary = other.run(Selection::Named(vec!["export".to_owned()])).await;
    assert_eq!(
        summary.failure(),
        Some(pipeline_core::ErrorKind::ConfigInvalid)
    );
    assert_eq!(other.stored().len(), 150);
}

/// Days end by the clock, and no event has a cursor: what a wrong one passed over is read again.
#[tokio::test(start_paused = true)]
async fn a3_c11_no_day_is_lost_to_a_clock_that_was_wrong_once() {
    let date = |ahead| Clocks {
        date: Some(ahead),
        ..Clocks::default()
    };
    let wrong = [
        date(-3_600),
        date(3_600),
        date(DAY),
        date(2 * DAY),
        date(40 * DAY),
        Clocks {
            machine: DAY,
            ..date(0)
        },
        Clocks {
            machine: 40 * DAY,
            ..date(0)
        },
        Clocks {
            machine: -DAY,
            ..date(0)
        },
    ];
    for clocks in wrong {
        for include_today in [false, true] {
            let world = MixpanelWorld {
                days: 20,
                events_per_day: 50,
                ..MixpanelWorld::default()
            };
            let time_of = |sync: i64| UNTIL - (9 - sync) * DAY + 1_800;
            let simulation = Simulation {
                until: UNTIL,
                shown_until: Some(time_of(0)),
                mixpanel: world,
                ..Simulation::default()
            };
            let clock = Arc::new(SetClock(AtomicI64::new(0)));
            let config = json!({ "lookback_days": 0, "start_date": start(20), "include_today": include_today });
            let mut project = Project::new(simulation, Arc::clone(&clock) as _, &config);
            for sync in 0..=9 {
                let right = Clocks {
                    date: clocks.date.map(|_| 0),
                    ..Clocks::default()
                };
                project.clocks = if sync == 3 { clocks } else { right };
                project.simulator.show_until(time_of(sync));
                clock
                    .0
                    .store(time_of(sync) + project.clocks.machine, Ordering::Relaxed);
                // A day that has not begun is refused, which is a failure and no loss.
                project
                    .run(Selection::Named(vec!["export".to_owned()]))
                    .await;
            }
            let stored: BTreeSet<String> = project.stored().into_keys().collect();
            let truth = project.simulator.truth().events(time_of(9) + 120);
            let truth: BTreeSet<String> = truth
                .into_iter()
                .filter(|event| day_of(event) < UNTIL / DAY)
                .map(|event| event.insert_id)
                .collect();
            assert_eq!(
                truth.difference(&stored).count(),
                0,
                "{clocks:?}, with today: {include_today}"
            );
        }
    }
}
