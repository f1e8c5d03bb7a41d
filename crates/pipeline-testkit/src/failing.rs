//! Destinations in a process whose system calls fail: the test executes itself again as that
//! process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "the suite is test code"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use pipeline_core::state::Position;
use pipeline_core::{ErrorKind, FAULT_POINT, fault_struck};
use pipeline_engine::{Commit, Depth, Destination, Generation, Table};

use crate::crash::{respawn, under_test};
use crate::destination_suite::files::FileFixture;
use crate::destination_suite::{
    Row, Scratch, advance, commit, endpoint, gone, keep, live_text, plan, row, shown_by_log, store,
    table,
};

const ENDPOINT: &str = "charges";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// What calls fail with: input/output error, no space, permission, too many open files,
/// interrupted. 0 is no error: of a write a part is taken.
const ERRNOS: [i32; 6] = [EIO, ENOSPC, 13, 24, 4, 0];
/// The first words of what the process under test prints of itself.
const STRUCK: &str = "a call failed, commits:";
const SPARED: &str = "no call failed, commits:";

struct Step {
    writes: Vec<(Arc<Table>, Vec<Row>)>,
    discards: bool,
    publishes: bool,
    keeps: bool,
}

fn charges(generation: Generation) -> Arc<Table> {
    table(ENDPOINT, &["id"], generation)
}

/// Two tables, a tombstone, a refresh that is begun anew, and one that is published with rows that
/// stay; then a row more.
fn script() -> Vec<Step> {
    let refunds = table("refunds", &["id"], Generation::Current);
    let (current, next) = (charges(Generation::Current), charges(Generation::Next));
    let step = |writes: Vec<(Arc<Table>, Vec<Row>)>| Step {
        writes,
        discards: false,
        publishes: false,
        keeps: false,
    };
    vec![
        step(vec![
            (Arc::clone(&current), vec![row(1, "a"), row(2, "b")]),
            (Arc::clone(&refunds), vec![row(1, "r")]),
        ]),
        step(vec![(
            Arc::clone(&current),
            vec![row(1, "aa"), row(3, "c"), gone(2)],
        )]),
        step(vec![(Arc::clone(&next), vec![row(9, "abandoned")])]),
        Step {
            discards: true,
            ..step(vec![
                (Arc::clone(&next), vec![row(1, "n")]),
                (refunds, vec![row(2, "r")]),
            ])
        },
        Step {
            publishes: true,
            keeps: true,
            ..step(vec![(next, vec![row(4, "n")])])
        },
        step(vec![(current, vec![row(4, "nn")])]),
    ]
}

/// What a reader sees of each table after some steps: of each key the newest version that is not
/// deleted.
fn after(steps: usize) -> BTreeMap<&'static str, Vec<String>> {
    let charges: [&[Row]; 7] = [
        &[],
        &[row(1, "a"), row(2, "b")],
        &[row(1, "aa"), row(3, "c")],
        &[row(1, "aa"), row(3, "c")],
        &[row(1, "aa"), row(3, "c")],
        &[row(1, "n"), row(3, "c"), row(4, "n")],
        &[row(1, "n"), row(3, "c"), row(4, "nn")],
    ];
    let refunds: [&[Row]; 3] = [&[], &[row(1, "r")], &[row(1, "r"), row(2, "r")]];
    let of_refunds = refunds[usize::from(steps > 0) + usize::from(steps > 3)];
    BTreeMap::from([
        ("charges", live_text(charges[steps])),
        ("refunds", live_text(of_refunds)),
    ])
}

/// What readers of the files see.
fn seen(fixture: &dyn FileFixture, scratch: &Scratch) -> BTreeMap<&'static str, Vec<String>> {
    ["charges", "refunds"]
        .map(|name| {
            (
                name,
                shown_by_log(fixture, scratch, &table(name, &["id"], Generation::Current)).unwrap(),
            )
        })
        .into()
}

async fn committed(destination: &dyn Destination) -> Option<usize> {
    let state = destination.load(&endpoint(ENDPOINT)).await.unwrap();
    match &state.slices.get(&0)?.position {
        Position::At(step) => Some(step.parse().unwrap()),
        _ => Some(0),
    }
}

/// Runs the script from where it is until it ends or fails. After each commit that is said to be
/// made readers must see it.
async fn run(fixture: &dyn FileFixture, scratch: &Scratch) -> (usize, pipeline_core::Result<()>) {
    let mut claimed = 0;
    let ended = run_steps(fixture, scratch, &mut claimed).await;
    (claimed, ended)
}

async fn run_steps(
    fixture: &dyn FileFixture,
    scratch: &Scratch,
    claimed: &mut usize,
) -> pipeline_core::Result<()> {
    let destination = fixture.open(scratch).await?;
    let _claim = destination.claim("demo", "run-1").await?;
    let tables = [
        charges(Generation::Current),
        table("refunds", &["id"], Generation::Current),
    ];
    destination.prepare(&tables).await?;
    let mut done = destination
        .states("demo")
        .await?
        .remove(&endpoint(ENDPOINT))
        .map(|state| match &state.slices[&0].position {
            Position::At(step) => step.parse().unwrap(),
            _ => 0,
        });
    if done.is_none() {
        store(&*destination, &[], &commit(vec![plan(ENDPOINT)])).await?;
        done = Some(0);
    }
    for (index, step) in script()
        .into_iter()
        .enumerate()
        .skip(done.unwrap_or_default())
    {
        let id = charges(Generation::Current).id();
        let commit = Commit {
            discard: step.discards.then(|| id.clone()).into_iter().collect(),
            publish: step.publishes.then_some(id).into_iter().collect(),
            keep: step
                .keeps
                .then(|| keep(&charges(Generation::Current), "c"))
                .into_iter()
                .collect(),
            ..commit(vec![advance(ENDPOINT, index)])
        };
        let writes: Vec<_> = step
            .writes
            .iter()
            .map(|(table, rows)| (table, rows.clone()))
            .collect();
        store(&*destination, &writes, &commit).await?;
        *claimed = index + 1;
        assert_eq!(
            seen(fixture, scratch),
            after(*claimed),
            "step {claimed} is said to be committed"
        );
    }
    Ok(())
}

/// The process under test: a failure must say what failed and what to do.
async fn be_under_test(fixture: &dyn FileFixture, scratch: &Scratch) {
    let (claimed, ended) = run(fixture, scratch).await;
    if let Err(error) = ended {
        assert_eq!(error.kind(), ErrorKind::Destination, "{error:?}");
        assert!(error.help().is_some(), "{error:?}");
    }
    let told = if fault_struck() { STRUCK } else { SPARED };
    println!("{told}{claimed}.");
}

/// Lets a call fail, then compares what was said with what is there, and goes on. False: no call
/// failed.
async fn survives(fixture: &dyn FileFixture, test: &str, fault: &str) -> bool {
    let scratch = Scratch::folder();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(FAULT_POINT, fault);
    let output = respawn(command, test, &scratch, "");
    let report = String::from_utf8_lossy(&output.stdout);
    let told = |words: &str| {
        report
            .split_once(words)?
            .1
            .split_once('.')?
            .0
            .parse::<usize>()
            .ok()
    };
    let (struck, claimed) = match (told(STRUCK), told(SPARED)) {
        (Some(claimed), _) => (true, claimed),
        (_, Some(claimed)) => (false, claimed),
        _ => panic!(
            "{fault}: {report}\n{}",
            String::from_utf8_lossy(&output.stderr)
        ),
    };
    let destination = fixture
        .open(&scratch)
        .await
        .unwrap_or_else(|error| panic!("{fault}: {error:?}"));
    let done = committed(&*destination).await;
    assert!(
        done.unwrap_or_default() >= claimed,
        "{fault}: {claimed} steps were said to be committed, and {done:?} are"
    );
    assert_eq!(
        seen(fixture, &scratch),
        after(done.unwrap_or_default()),
        "{fault}: rows and checkpoint"
    );
    assert_eq!(
        destination.verify(Depth::Content).await.unwrap(),
        [],
        "{fault}"
    );
    drop(destination);
    let (_, ended) = run(fixture, &scratch).await;
    ended.unwrap_or_else(|error| panic!("{fault}: the next run: {error:?}"));
    assert_eq!(
        seen(fixture, &scratch),
        after(script().len()),
        "{fault}: the next run"
    );
    let status = fixture
        .open(&scratch)
        .await
        .unwrap()
        .status(usize::MAX)
        .await
        .unwrap();
    assert_eq!(status.commits.len(), script().len() + 1, "{fault}");
    struck
}

/// Each system call of a sync fails once, with one error after the other.
pub async fn f04_a_failing_call_is_never_a_commit(fixture: &dyn FileFixture, test: &str) {
    if let Some(scratch) = under_test() {
        be_under_test(fixture, &scratch).await;
        return;
    }
    let mut calls = 0;
    for (nth, errno) in (1..).zip(ERRNOS.iter().cycle()) {
        if !survives(fixture, test, &format!("any:{nth}:{errno}")).await {
            break;
        }
        calls = nth;
    }
    assert!(calls > 150, "only {calls} calls could fail");
    // Those that make a commit what it is, with the errors that matter most.
    for (operation, errnos) in [
        ("sync", &[EIO][..]),
        ("rename", &[EIO]),
        ("link", &[EIO]),
        ("write", &[ENOSPC, 0]),
    ] {
        for errno in errnos {
            let mut nth = 1;
            while survives(fixture, test, &format!("{operation}:{nth}:{errno}")).await {
                nth += 1;
            }
            assert!(nth > 3, "{operation} is called {nth} times");
        }
    }
}

/// From some call on the disk has no room, and then there is room again.
pub async fn f03_a_full_disk_is_never_a_commit(fixture: &dyn FileFixture, test: &str) {
    if let Some(scratch) = under_test() {
        be_under_test(fixture, &scratch).await;
        return;
    }
    let mut sizes = 0;
    for nth in (1..).step_by(2) {
        if !survives(fixture, test, &format!("write:{nth}+:{ENOSPC}")).await {
            break;
        }
        sizes += 1;
    }
    for nth in (1..).step_by(7) {
        if !survives(fixture, test, &format!("any:{nth}+:{ENOSPC}")).await {
            break;
        }
        sizes += 1;
    }
    assert!(sizes >= 30, "only {sizes} sizes");
}

/// A transaction of more tables than the process may have files.
pub async fn f12_many_tables_need_few_open_files(fixture: &dyn FileFixture, test: &str) {
    const TABLES: i64 = 104;
    let tables: Vec<_> = (0..TABLES)
        .map(|index| table(&format!("t{index}"), &["id"], Generation::Current))
        .collect();
    if let Some(scratch) = under_test() {
        let destination = fixture.open(&scratch).await.unwrap();
        destination.prepare(&tables).await.unwrap();
        let mut transaction = destination.begin().await.unwrap();
        for round in 0..3 {
            for (index, table) in (0..).zip(&tables) {
                // More than is collected in memory, so that every file has to be opened again and
                // again.
                let value = (index * 10 + round).to_string().repeat(100_000);
                let rows = [row(2 * round, value.clone()), row(2 * round + 1, value)];
                transaction
                    .write(table, crate::destination_suite::batch(table, &rows))
                    .await
                    .unwrap();
            }
        }
        transaction.commit(&commit(vec![])).await.unwrap();
        return;
    }
    let scratch = Scratch::folder();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let output = respawn(limited, test, &scratch, "");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(
        report.contains("1 passed"),
        "{report}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let destination = fixture.open(&scratch).await.unwrap();
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    assert_eq!(
        destination
            .status(0)
            .await
            .unwrap()
            .rows
            .iter()
            .map(|(_, rows)| *rows)
            .collect::<Vec<_>>(),
        vec![6; tables.len()]
    );
    let files = fs::read_dir(scratch.path().join("demo/t0"))
        .unwrap()
        .count();
    assert_eq!(
        files, 1,
        "a table that is written in turns with others has no more files"
    );
}
