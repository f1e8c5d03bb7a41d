//! Faults that take more than one run, or another process.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrono::TimeDelta;
use pipeline_simulator::Simulation;
use rusqlite::Connection;

use crate::acts::{change, header, now};
use crate::between::Trouble;
use crate::rows;
use crate::scenario::{Scenario, Store};
use crate::stage::{Ran, Stage, behind, program, wait};

/// A signal that ends a sync.
#[derive(Clone, Copy)]
pub(crate) enum Stop {
    Interrupt,
    Terminate,
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "-INT",
            Self::Terminate => "-TERM",
        }
    }
}

/// An account that is read in a second or two, so that there is a middle to interrupt.
fn slow(store: Store) -> Stage {
    let mut scenario = Scenario::stripe().with("charges", 3_000).into(store);
    scenario.latency = Duration::from_millis(60);
    Stage::new(&scenario)
}

fn start(stage: &Stage) -> Child {
    program(stage.path(), &["sync"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .args([name, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[expect(clippy::disallowed_methods, reason = "another process works meanwhile")]
fn pass(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits until a sync has asked for this many pages.
fn reads(stage: &Stage, requests: usize) {
    for _ in 0..1_000 {
        if stage.between.requests() >= requests {
            return;
        }
        pass(5);
    }
    panic!("the sync does not read");
}

/// Killed at three moments, and resumed.
pub(crate) fn killed(store: Store) {
    let stage = slow(store);
    for requests in [3, 12, 20] {
        let mut child = start(&stage);
        reads(&stage, requests);
        pass(70);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    stage.ends_well();
}

/// Ended by signals.
pub(crate) fn stopped(signals: &[Stop]) {
    let stage = slow(Store::Sqlite);
    let child = start(&stage);
    reads(&stage, 12);
    for stop in signals {
        signal(&child, stop.name());
        pass(20);
    }
    let code = wait(child).expect("a signal does not end the sync").code();
    assert!(code == Some(4) || signals.len() > 1, "ended with {code:?}");
    assert!(
        rows::ids(&stage, "charges").len() < 3_000,
        "it had ended before"
    );
    stage.ends_well();
}

/// Stands still for a second.
pub(crate) fn paused() {
    let stage = slow(Store::Sqlite);
    let child = start(&stage);
    reads(&stage, 8);
    signal(&child, "-STOP");
    pass(1_000);
    signal(&child, "-CONT");
    assert!(wait(child).is_some_and(|status| status.success()));
    assert!(stage.between.requests() < 80);
    stage.ends_well();
}

/// Two syncs at once.
pub(crate) fn two_at_once(store: Store) {
    let stage = slow(store);
    let both = [start(&stage), start(&stage)];
    let mut codes = both.map(|child| wait(child).expect("one of two syncs does not end").code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(6)], "one of two syncs wins");
    stage.ends_well();
}

/// Another program holds the database's lock for two seconds.
pub(crate) fn locked() {
    let stage = Stage::new(&Scenario::stripe());
    stage.sync(&["--streams", "coupons"]);
    let database = Connection::open(stage.path().join("warehouse.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let child = start(&stage);
    pass(1_500);
    database.execute_batch("ROLLBACK").unwrap();
    assert!(wait(child).is_some_and(|status| status.success()));
    stage.ends_well();
}

/// A trigger of the user's refuses a row. The run fails with a word, or sets the row aside; when
/// the trigger is gone, a refresh stores all rows.
pub(crate) fn refused_row() {
    let mut scenario = Scenario::stripe();
    scenario.resumes = vec!["--full-refresh"];
    let stage = Stage::new(&scenario);
    stage.sync(&["--streams", "coupons"]);
    let rule = "BEFORE INSERT ON payments_coupons WHEN new.name = 'Coupon 7' BEGIN SELECT \
                RAISE(ABORT, 'not this one'); END";
    rows::execute(stage.path(), &format!("CREATE TRIGGER mine {rule}"));
    let Ran { code, text } = stage.run(program(stage.path(), &["sync", "--full-refresh"]));
    assert!(
        [Some(0), Some(5)].contains(&code) && text.contains("coupons"),
        "{code:?}\n{text}"
    );
    rows::execute(stage.path(), "DROP TRIGGER IF EXISTS mine");
    stage.ends_well();
}

/// A vendor whose `Date` is ahead while a sync runs. What is made after that sync is read by the
/// next ones.
pub(crate) fn a_clock_that_is_ahead(date: &'static str) {
    let scenario = Scenario::stripe();
    // An account of today: a vendor whose clock is days behind is another fault.
    let until = (now() - TimeDelta::hours(1)).timestamp();
    let simulation = Simulation {
        until,
        days: 1,
        shown_until: Some(until - 12 * 3_600),
        ..scenario.simulation()
    };
    let stage = Stage::of(&scenario, simulation);
    stage
        .between
        .set(vec![Trouble::new("/", header("date", date))]);
    stage.sync(&[]);
    stage.between.has_troubled();
    stage.lift();
    let before = rows::ids(&stage, "charges").len();
    stage.simulator.show_until(until);
    assert!(
        stage.truth("charges").len() > before,
        "nothing new was made"
    );
    stage.ends_well();
}

/// A vendor whose `Date` is days behind: what is newer was not requested, so that the run is not
/// done. The next one reads it.
pub(crate) fn a_clock_that_is_far_behind() {
    for days in [2, 365] {
        let stage = Stage::new(&Scenario::stripe());
        let date = (now() - TimeDelta::days(days))
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string();
        stage.between.set(vec![Trouble::new(
            "/",
            change(move |_, answer| answer.with("date", &*date)),
        )]);
        let Ran { code, text } = stage.run(program(stage.path(), &["sync"]));
        assert!(
            code == Some(4) && text.contains(&format!("the server's clock is {days} days behind")),
            "{code:?}\n{text}"
        );
        assert!(text.contains("check this machine's clock"), "{text}");
        stage.lift();
        stage.ends_well();
    }
}

/// Every stream of all three vendors at once, with few files that may be open.
pub(crate) fn three_sources(store: Store) {
    let whole = |scenario: Scenario| scenario.every_stream().into(store);
    let small = Scenario::stripe()
        .with("others", 1)
        .with("customers", 1)
        .with("charges", 40)
        .with("export", 20);
    let stage = Stage::new(&whole(small));
    let url = stage.between.url();
    // What stands between the destination and the settings of the run is a source.
    let source = |scenario: Scenario| {
        let text = whole(scenario).configuration(&url, "");
        text[text.find("[sources.").unwrap()..text.find("[sync]").unwrap()].to_owned()
    };
    let config = stage.path().join("pipeline.toml");
    let text = fs::read_to_string(&config).unwrap().replace(
        "[sync]",
        &format!(
            "{}{}[sync]",
            source(Scenario::zendesk()),
            source(Scenario::mixpanel())
        ),
    );
    fs::write(config, text).unwrap();
    let ran = stage.run(behind("ulimit -n 256", &program(stage.path(), &["sync"])));
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    for (source, streams) in [
        ("payments", ["charges", "coupons"]),
        ("desk", ["groups", "tickets"]),
        ("web", ["export", "export"]),
    ] {
        for stream in streams {
            assert_eq!(
                rows::ids_of(&stage, source, stream),
                stage.truth(stream),
                "{source}/{stream}\n{}",
                ran.text
            );
        }
    }
}
