//! Starts, overlaps, downtime, clocks that jump, and reloads. No clock runs here.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::settings::AlertSettings;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// A source that is due at each multiple of so many seconds; `at(0)` is one of all that divide an
/// hour.
fn every(name: &str, seconds: u64) -> SourceSettings {
    SourceSettings {
        schedule: Some(Schedule::every(Duration::from_secs(seconds)).unwrap()),
        ..SourceSettings::new(name)
    }
}

fn settings(sources: Vec<SourceSettings>) -> Settings {
    Settings {
        listen: None,
        token: None,
        state: "state".into(),
        jitter: Duration::ZERO,
        max_runs: 4,
        sources,
        alerts: AlertSettings::default(),
    }
}

fn started(name: &str, seconds: i64) -> BTreeMap<String, Remembered> {
    let remembered = Remembered {
        started: Some(at(seconds)),
        ..Remembered::default()
    };
    BTreeMap::from([(name.to_owned(), remembered)])
}

/// Actions in short: `+a` starts, `-a` stops, `~a` is left out.
fn short(actions: &[Action]) -> String {
    let word = |action: &Action| match action {
        Action::Start {
            source,
            reason: Reason::Schedule,
        } => format!("+{source}"),
        Action::Start { source, reason } => format!("+{source}({})", reason.name()),
        Action::Cancel { source } => format!("-{source}"),
        Action::Skipped { source } => format!("~{source}"),
    };
    actions.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_source_is_started_when_it_is_due_and_once_at_a_time() {
    let mut supervisor = Supervisor::new(&settings(vec![every("a", 60)]), &started("a", -1), at(1));
    assert_eq!(short(&supervisor.tick(at(1))), "+a(catch_up)", "due at 0");
    supervisor.ended("a", at(2));
    assert_eq!(supervisor.wake_at(), Some(at(60)));
    assert_eq!(short(&supervisor.tick(at(59))), "");
    assert_eq!(short(&supervisor.tick(at(60))), "+a");
    // It still runs when it is due again.
    assert_eq!(short(&supervisor.tick(at(120))), "~a");
    assert_eq!(short(&supervisor.ended("a", at(130))), "");
    assert_eq!(short(&supervisor.tick(at(180))), "+a");
}

#[test]
fn a_run_for_webhooks_takes_the_place_of_no_other() {
    let mut supervisor = Supervisor::new(&settings(vec![every("a", 60)]), &started("a", 0), at(1));
    assert_eq!(short(&supervisor.hook("a", at(2))), "+a(webhook)");
    assert_eq!(short(&supervisor.hook("a", at(3))), "", "it runs");
    // What reads less than everything is no reason to leave a start out.
    assert_eq!(short(&supervisor.tick(at(60))), "");
    assert_eq!(short(&supervisor.ended("a", at(61))), "+a");
    assert_eq!(short(&supervisor.ended("a", at(62))), "");
    supervisor.pause("a", true);
    assert_eq!(short(&supervisor.hook("a", at(63))), "", "it is paused");
    supervisor.pause("a", false);
    // While it waits for a place it may become more than it was.
    let one = Settings {
        max_runs: 1,
        ..settings(vec![every("a", 60), every("b", 600)])
    };
    let mut supervisor = Supervisor::new(&one, &started("a", 0), at(1));
    assert_eq!(short(&supervisor.tick(at(2))), "+b(catch_up)");
    assert_eq!(short(&supervisor.hook("a", at(3))), "");
    assert_eq!(short(&supervisor.run_now("a", at(4))), "");
    assert_eq!(short(&supervisor.ended("b", at(5))), "+a(person)");
}

#[test]
fn a_queued_start_follows_once_however_often_it_was_due() {
    let source = SourceSettings {
        overlap: Overlap::Queue,
        ..every("a", 60)
    };
    let mut supervisor = Supervisor::new(&settings(vec![source]), &started("a", 0), at(1));
    assert_eq!(short(&supervisor.tick(at(60))), "+a");
    assert_eq!(short(&supervisor.tick(at(120))), "");
    assert_eq!(short(&supervisor.tick(at(180))), "");
    assert_eq!(short(&supervisor.ended("a", at(185))), "+a");
    assert_eq!(short(&supervisor.ended("a", at(190))), "");
}

#[test]
fn downtime_is_made_up_for_once() {
    let daily = |catch_up| SourceSettings {
        schedule: Some(Schedule::cron("0 2 * * *", chrono_tz::Tz::UTC).unwrap()),
        catch_up,
        ..SourceSettings::new("a")
    };
    // Last started three days ago; it is 08:00, as at(0) is.
    let three_days = started("a", -3 * 86_400);
    let first = |source, remembered: &BTreeMap<_, _>, now| {
        let mut supervisor = Supervisor::new(&settings(vec![source]), remembered, at(now));
        let actions = short(&supervisor.tick(at(now)));
        supervisor.ended("a", at(now + 10));
        (actions, short(&supervisor.tick(at(now + 20))))
    };
    let (once, never) = ("+a(catch_up)".to_owned(), String::new());
    assert_eq!(
        first(daily(true), &three_days, 0),
        (once.clone(), never.clone())
    );
    assert_eq!(first(daily(false), &three_days, 0).0, never);
    // It was started today: nothing was missed.
    assert_eq!(first(daily(true), &started("a", -3_600), 0).0, never);
    // Never run: an hour of the day is waited for, an interval begins now.
    assert_eq!(first(daily(true), &BTreeMap::new(), 0).0, never);
    assert_eq!(first(every("a", 3_600), &BTreeMap::new(), 5).0, once);
    // A start in the future is a clock's error.
    assert_eq!(first(daily(true), &started("a", 86_400), 0).0, never);
}

#[test]
fn no_more_sources_run_than_may_and_the_others_keep_their_order() {
    let sources = ["c", "b", "a"].map(|name| every(name, 60)).to_vec();
    let two = Settings {
        max_runs: 2,
        ..settings(sources)
    };
    let mut supervisor = Supervisor::new(&two, &BTreeMap::new(), at(0));
    assert_eq!(short(&supervisor.tick(at(0))), "+a(catch_up) +b(catch_up)");
    assert_eq!(supervisor.seen()["c"].phase, Phase::Waiting);
    // Due again while it waits: it still runs once.
    assert_eq!(short(&supervisor.tick(at(60))), "~a ~b");
    assert_eq!(short(&supervisor.ended("a", at(61))), "+c(catch_up)");
    assert_eq!(short(&supervisor.tick(at(120))), "~b ~c");
    assert_eq!(short(&supervisor.ended("b", at(121))), "+a");
}

#[test]
fn a_clock_that_is_put_back_does_not_delay_and_one_put_forward_starts_once() {
    let mut supervisor =
        Supervisor::new(&settings(vec![every("a", 900)]), &started("a", 0), at(10));
    assert_eq!(supervisor.wake_at(), Some(at(900)));
    supervisor.tick(at(-3_590));
    assert_eq!(supervisor.wake_at(), Some(at(-2_700)));
    assert_eq!(short(&supervisor.tick(at(86_400))), "+a");
    supervisor.ended("a", at(86_401));
    assert_eq!(short(&supervisor.tick(at(86_402))), "");
    assert_eq!(supervisor.wake_at(), Some(at(87_300)));
}

#[test]
fn a_person_can_run_pause_and_stop() {
    let mut supervisor = Supervisor::new(
        &settings(vec![every("a", 60), SourceSettings::new("b")]),
        &started("a", 0),
        at(1),
    );
    assert_eq!(short(&supervisor.run_now("b", at(2))), "+b(person)");
    // Once more after the run under way: it may have read past what the person has in mind.
    assert_eq!(short(&supervisor.run_now("b", at(3))), "");
    assert!(supervisor.seen()["b"].again);
    assert_eq!(short(&supervisor.ended("b", at(4))), "+b(person)");
    assert_eq!(short(&supervisor.stop("b")), "-b");
    assert_eq!(short(&supervisor.stop("b")), "", "it stops already");
    supervisor.ended("b", at(5));
    supervisor.pause("a", true);
    assert_eq!(short(&supervisor.tick(at(60))), "");
    assert_eq!(supervisor.seen()["a"].next, None);
    assert_eq!(short(&supervisor.run_now("a", at(61))), "+a(person)");
    supervisor.ended("a", at(62));
    // A pause outlives the process.
    let remembered = supervisor.remembered();
    let mut supervisor = Supervisor::new(&settings(vec![every("a", 60)]), &remembered, at(200));
    assert_eq!(short(&supervisor.tick(at(200))), "");
    supervisor.pause("a", false);
    assert_eq!(short(&supervisor.tick(at(240))), "+a");
    // Names that nobody configured change nothing.
    assert_eq!(short(&supervisor.run_now("x", at(241))), "");
    assert_eq!(short(&supervisor.stop("x")), "");
}

#[test]
fn a_reload_keeps_runs_and_what_is_due_and_drops_what_is_gone() {
    let before = settings(vec![every("a", 60), every("b", 60), every("c", 3_600)]);
    let mut remembered = started("a", 0);
    remembered.extend(started("b", 0));
    remembered.extend(started("c", 0));
    let mut supervisor = Supervisor::new(&before, &remembered, at(1));
    assert_eq!(short(&supervisor.tick(at(60))), "+a +b");
    supervisor.reload(
        &settings(vec![every("a", 60), every("c", 3_600), every("d", 60)]),
        at(61),
    );
    let names: Vec<String> = supervisor.seen().into_keys().collect();
    assert_eq!(names, ["a", "b", "c", "d"], "b goes when its run has ended");
    assert_eq!(supervisor.seen()["c"].next, Some(at(3_600)));
    assert_eq!(short(&supervisor.tick(at(61))), "+d(catch_up)");
    supervisor.ended("b", at(62));
    assert!(!supervisor.seen().contains_key("b"));
    // One that comes back before its run has ended keeps the run.
    supervisor.reload(&settings(vec![]), at(63));
    supervisor.reload(&settings(vec![every("a", 120)]), at(64));
    assert_eq!(supervisor.seen()["a"].phase, Phase::Running);
    assert_eq!(supervisor.seen()["a"].next, Some(at(120)));
}

#[test]
fn a_shut_down_stops_everything_and_starts_nothing() {
    let one = Settings {
        max_runs: 1,
        ..settings(vec![every("a", 60), every("b", 60)])
    };
    let mut supervisor = Supervisor::new(&one, &BTreeMap::new(), at(0));
    assert_eq!(short(&supervisor.tick(at(0))), "+a(catch_up)");
    assert_eq!(short(&supervisor.shut_down()), "-a");
    assert_eq!(short(&supervisor.ended("a", at(1))), "");
    assert_eq!(short(&supervisor.tick(at(60))), "");
    assert_eq!(supervisor.running(), 0);
}

#[test]
fn a_run_that_ended_with_the_process_goes_on_when_it_is_back() {
    let daily = || SourceSettings {
        schedule: Some(Schedule::cron("0 2 * * *", chrono_tz::Tz::UTC).unwrap()),
        ..SourceSettings::new("a")
    };
    let mut supervisor = Supervisor::new(&settings(vec![daily()]), &BTreeMap::new(), at(0));
    assert_eq!(short(&supervisor.run_now("a", at(1))), "+a(person)");
    let killed = supervisor.remembered();
    supervisor.shut_down();
    supervisor.ended("a", at(2));
    for remembered in [killed, supervisor.remembered()] {
        let mut supervisor = Supervisor::new(&settings(vec![daily()]), &remembered, at(10));
        assert_eq!(short(&supervisor.tick(at(10))), "+a(catch_up)");
        supervisor.ended("a", at(20));
        let done = supervisor.remembered();
        let mut supervisor = Supervisor::new(&settings(vec![daily()]), &done, at(30));
        assert_eq!(short(&supervisor.tick(at(30))), "");
    }
}

/// What may happen to a supervisor.
#[derive(Clone, Debug)]
enum Step {
    Pass(i64),
    End(usize),
    RunNow(usize),
    Pause(usize, bool),
    Stop(usize),
    Reload(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (-400_i64..4_000).prop_map(Step::Pass),
        3 => (0_usize..3).prop_map(Step::End),
        1 => (0_usize..3).prop_map(Step::RunNow),
        1 => ((0_usize..3), any::<bool>()).prop_map(|(source, paused)| Step::Pause(source, paused)),
        1 => (0_usize..3).prop_map(Step::Stop),
        1 => (0_u8..8).prop_map(Step::Reload),
    ]
}

proptest! {
    /// Whatever happens in whatever order: a source never runs twice at a time, never more run than
    /// may, only what runs is stopped, and every source with a schedule is started again.
    #[test]
    fn one_run_a_source_and_none_is_forgotten(
        steps in prop::collection::vec(step(), 1..60),
        max_runs in 1_usize..4,
    ) {
        const NAMES: [&str; 3] = ["a", "b", "c"];
        let all = |mask: u8| {
            let chosen = NAMES.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0);
            Settings {
                max_runs,
                ..settings(chosen.map(|(index, name)| SourceSettings {
                    overlap: if index == 1 { Overlap::Queue } else { Overlap::Skip },
                    ..every(name, 60 * (index as u64 + 1))
                }).collect())
            }
        };
        let mut supervisor = Supervisor::new(&all(7), &BTreeMap::new(), at(0));
        let mut running: Vec<String> = Vec::new();
        let mut now = 0;
        let follow = |actions: Vec<Action>, running: &mut Vec<String>| {
            for action in actions {
                match action {
                    Action::Start { source, .. } => {
                        assert!(!running.contains(&source), "{source} runs twice");
                        running.push(source);
                        assert!(running.len() <= max_runs);
                    }
                    Action::Cancel { source } | Action::Skipped { source } => {
                        assert!(running.contains(&source), "{source} does not run");
                    }
                }
            }
        };
        for step in steps {
            let actions = match step {
                Step::Pass(seconds) => {
                    now += seconds;
                    supervisor.tick(at(now))
                }
                Step::End(index) if !running.is_empty() => {
                    let source = running.remove(index % running.len());
                    supervisor.ended(&source, at(now))
                }
                Step::End(_) => Vec::new(),
                Step::RunNow(index) => supervisor.run_now(NAMES[index], at(now)),
                Step::Pause(index, paused) => {
                    supervisor.pause(NAMES[index], paused);
                    Vec::new()
                }
                Step::Stop(index) => supervisor.stop(NAMES[index]),
                Step::Reload(mask) => {
                    supervisor.reload(&all(mask), at(now));
                    Vec::new()
                }
            };
            follow(actions, &mut running);
            prop_assert_eq!(supervisor.running(), running.len());
        }
        // Everything ends, nothing is paused, an hour passes: each source runs once more.
        supervisor.reload(&all(7), at(now));
        for name in NAMES {
            supervisor.pause(name, false);
        }
        while let Some(source) = running.pop() {
            let actions = supervisor.ended(&source, at(now));
            follow(actions, &mut running);
        }
        let mut seen = Vec::new();
        for minute in 0..60 {
            let actions = supervisor.tick(at(now + 60 * minute));
            follow(actions, &mut running);
            while let Some(source) = running.pop() {
                seen.push(source.clone());
                let actions = supervisor.ended(&source, at(now + 60 * minute));
                follow(actions, &mut running);
            }
        }
        for name in NAMES {
            prop_assert!(seen.iter().any(|source| source == name), "{} was forgotten", name);
        }
    }
}
