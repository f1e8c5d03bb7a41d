//! Destinations in a process that dies, or whose disk is full: the test executes itself again as
//! that process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the suite is test code"
)]

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};
use std::sync::Arc;

use arrow_schema::DataType;
use pipeline_core::state::Position;
use pipeline_core::{CRASH_POINT, ErrorKind};
use pipeline_engine::{Commit, Destination, Generation, Table};

use crate::destination_suite::{
    DestinationFixture, Row, Scratch, Shelf, advance, assert_nowhere, batch, carried, commit,
    customers, endpoint, expected, gone, history, keep, live_text, plan, purge, row, shown,
    shown_by_log, store, store_history, table, table_of,
};

/// Environment variable that makes the test the process under test, and names the place that it
/// works in.
const SCRATCH: &str = "PIPELINE_SUITE_SCRATCH";
const ENDPOINT: &str = "charges";
const SIGABRT: i32 = 6;

/// Kills the destination at every crash point, each time that it passes it; then what is visible
/// must match the checkpoint, and resuming must lead to what an uninterrupted run leads to.
pub async fn killed_anywhere_it_goes_on_where_it_was(fixture: &dyn DestinationFixture, test: &str) {
    if let Some(scratch) = under_test() {
        run(&*fixture.open(&scratch).await.unwrap()).await;
        return;
    }
    for point in fixture.crash_points() {
        for nth in 1.. {
            let scratch = fixture.scratch().await;
            let place = format!("{point}:{nth}");
            let Output { status, .. } = respawn(
                Command::new(std::env::current_exe().unwrap()),
                test,
                &scratch,
                &place,
            );
            if status.success() {
                assert!(nth > 1, "the crash point {point} is never passed");
                break;
            }
            assert_eq!(
                status.signal(),
                Some(SIGABRT),
                "{place}: the process failed by itself"
            );
            verify(fixture, &scratch, &place).await;
            run(&*fixture.open(&scratch).await.unwrap()).await;
            assert_eq!(
                verify(fixture, &scratch, &place).await,
                Some(script().len()),
                "{place}"
            );
        }
    }
}

/// Kills a purge at every crash point: a reader of the files sees the same rows before and after
/// it is finished.
pub async fn killed_while_it_purges_it_shows_the_same(
    fixture: &dyn DestinationFixture,
    test: &str,
) {
    if let Some(scratch) = under_test() {
        fixture
            .open(&scratch)
            .await
            .unwrap()
            .purge(&purge(true))
            .await
            .unwrap();
        return;
    }
    let (table, rows) = (customers(Generation::Current), history().concat());
    for point in fixture.purge_crash_points() {
        for nth in 1.. {
            let scratch = fixture.scratch().await;
            store_history(&*fixture.open(&scratch).await.unwrap()).await;
            let place = format!("{point}:{nth}");
            let Output { status, .. } = respawn(
                Command::new(std::env::current_exe().unwrap()),
                test,
                &scratch,
                &place,
            );
            if status.success() {
                assert!(nth > 1, "the crash point {point} is never passed");
                break;
            }
            assert_eq!(
                status.signal(),
                Some(SIGABRT),
                "{place}: the process failed by itself"
            );
            assert_eq!(
                seen(fixture, &scratch, &table).await,
                live_text(&rows),
                "{place}: as the process left it"
            );
            let destination = fixture.open(&scratch).await.unwrap();
            assert_eq!(
                seen(fixture, &scratch, &table).await,
                live_text(&rows),
                "{place}: opened again"
            );
            destination.purge(&purge(true)).await.unwrap();
            assert_eq!(
                shown(fixture, &scratch, &table).await,
                live_text(&rows),
                "{place}: purged again"
            );
            assert_nowhere(fixture, &scratch, "older").await;
            assert_nowhere(fixture, &scratch, "erased").await;
        }
    }
}

/// What a reader sees of a table: of a log of versions the newest of each key.
async fn seen(fixture: &dyn DestinationFixture, scratch: &Scratch, table: &Table) -> Vec<String> {
    match shown_by_log(fixture, scratch, table) {
        Some(rows) => rows,
        None => shown(fixture, scratch, table).await,
    }
}

/// Writes more than the process may; then the last commit is intact, and with room again everything
/// goes on.
pub async fn a_full_disk_loses_nothing(fixture: &dyn DestinationFixture, test: &str) {
    let events = table("events", &[], Generation::Current);
    if let Some(scratch) = under_test() {
        let destination = fixture.open(&scratch).await.unwrap();
        let error = fill(&*destination, &events)
            .await
            .expect_err("the disk has no room for this");
        assert_eq!(error.kind(), ErrorKind::Destination, "{error:?}");
        assert!(error.help().is_some(), "{error:?}");
        assert_eq!(
            shown(fixture, &scratch, &events).await,
            ["1=a"],
            "beside the failure"
        );
        return;
    }
    let scratch = fixture.scratch().await;
    let destination = fixture.open(&scratch).await.unwrap();
    store(
        &*destination,
        &[(&events, vec![row(1, "a")])],
        &commit(vec![plan(ENDPOINT)]),
    )
    .await
    .unwrap();
    drop(destination);
    // A shell limits the size of files to 2 or 4 MiB, depending on its unit; ignoring the signal
    // leaves the write error.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let output = respawn(limited, test, &scratch, "");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(
        report.contains("1 passed"),
        "{report}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let destination = fixture.open(&scratch).await.unwrap();
    assert_eq!(shown(fixture, &scratch, &events).await, ["1=a"]);
    assert_eq!(destination.status(10).await.unwrap().commits.len(), 1);
    store(
        &*destination,
        &[(&events, vec![row(2, "b")])],
        &commit(vec![advance(ENDPOINT, 0)]),
    )
    .await
    .unwrap();
    assert_eq!(shown(fixture, &scratch, &events).await, ["1=a", "2=b"]);
}

/// Commits 16 MiB of text that does not compress well.
async fn fill(destination: &dyn Destination, events: &Arc<Table>) -> pipeline_core::Result<u64> {
    let mut transaction = destination.begin().await?;
    let mut seed = 1_u64;
    for _ in 0..16 {
        let mut text = String::with_capacity(1 << 20);
        while text.len() < 1 << 20 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text += &seed.to_string();
        }
        transaction
            .write(events, batch(events, &[row(0, text)]))
            .await?;
    }
    transaction
        .commit(&commit(vec![advance(ENDPOINT, 0)]))
        .await
}

pub(crate) fn under_test() -> Option<Scratch> {
    std::env::var(SCRATCH).ok().map(Scratch::of_another_process)
}

/// Executes one test of this binary as the process under test. `test` is its path with the crate's
/// name.
pub(crate) fn respawn(
    mut command: Command,
    test: &str,
    scratch: &Scratch,
    crash_point: &str,
) -> Output {
    let (_, test) = test.split_once("::").unwrap();
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command
        .env(SCRATCH, scratch.name())
        .env(CRASH_POINT, crash_point)
        .output()
        .unwrap()
}

/// One commit of the run that is killed.
#[derive(Default)]
struct Step {
    writes: Vec<(Arc<Table>, Vec<Row>)>,
    discard: bool,
    publish: bool,
    /// The name of the rows that stay when the generation is published.
    keep: Option<&'static str>,
}

fn charges(generation: Generation) -> Arc<Table> {
    table("charges", &["id"], generation)
}

/// Upserts, tombstones, an abandoned refresh, a complete one, one that keeps rows, a new column and
/// rows without a key.
fn script() -> Vec<Step> {
    let (current, next) = (charges(Generation::Current), charges(Generation::Next));
    let events = table("events", &[], Generation::Current);
    let columns = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("note", DataType::Utf8),
    ];
    let wide = table_of("demo", "charges", &["id"], Generation::Current, &columns);
    let writes = |writes: &[(&Arc<Table>, Vec<Row>)]| {
        writes
            .iter()
            .map(|(table, rows)| (Arc::clone(table), rows.clone()))
            .collect()
    };
    let step = |step: &[(&Arc<Table>, Vec<Row>)]| Step {
        writes: writes(step),
        ..Step::default()
    };
    vec![
        step(&[
            (&current, vec![row(1, "a"), row(2, "b")]),
            (&events, vec![row(1, "e")]),
        ]),
        step(&[
            (&current, vec![row(1, "aa"), gone(2)]),
            (&events, vec![row(1, "e"), row(2, "e")]),
        ]),
        step(&[(&next, vec![row(7, "abandoned"), row(8, "abandoned")])]),
        Step {
            discard: true,
            ..step(&[(&next, vec![row(1, "n"), row(7, "abandoned"), row(3, "n")])])
        },
        step(&[
            (&next, vec![row(1, "n"), row(3, "nn")]),
            (&events, vec![row(3, "e")]),
        ]),
        Step {
            publish: true,
            ..step(&[(&next, vec![row(4, "n")])])
        },
        step(&[(&wide, vec![row(4, "nn"), row(5, "w")])]),
        step(&[(&next, vec![row(9, "abandoned")])]),
        Step {
            discard: true,
            ..step(&[])
        },
        step(&[(&next, vec![row(1, "z"), row(2, "w"), gone(4)])]),
        Step {
            publish: true,
            keep: Some("w"),
            ..step(&[(&next, vec![row(2, "ww")])])
        },
        step(&[(&current, vec![row(5, "x"), row(2, "ww")])]),
    ]
}

/// Steps committed; none: not even planned.
async fn committed(destination: &dyn Destination) -> Option<usize> {
    let state = destination.load(&endpoint(ENDPOINT)).await.unwrap();
    match &state.slices.get(&0)?.position {
        Position::At(step) => Some(step.parse().unwrap()),
        _ => Some(0),
    }
}

/// Runs the script from where it is to its end.
async fn run(destination: &dyn Destination) {
    destination
        .prepare(&[charges(Generation::Current)])
        .await
        .unwrap();
    if committed(destination).await.is_none() {
        store(destination, &[], &commit(vec![plan(ENDPOINT)]))
            .await
            .unwrap();
    }
    let done = committed(destination).await.unwrap();
    for (index, step) in script().iter().enumerate().skip(done) {
        let id = charges(Generation::Current).id();
        let commit = Commit {
            discard: step.discard.then(|| id.clone()).into_iter().collect(),
            publish: step.publish.then_some(id).into_iter().collect(),
            keep: step
                .keep
                .map(|name| keep(&charges(Generation::Current), name))
                .into_iter()
                .collect(),
            ..commit(vec![advance(ENDPOINT, index)])
        };
        let tables: Vec<_> = step
            .writes
            .iter()
            .map(|(table, _)| Arc::clone(table))
            .collect();
        destination.prepare(&tables).await.unwrap();
        let writes: Vec<_> = step
            .writes
            .iter()
            .map(|(table, rows)| (table, rows.clone()))
            .collect();
        store(destination, &writes, &commit).await.unwrap();
    }
}

/// Compares what is visible with what the committed steps lead to, and returns their number.
async fn verify(fixture: &dyn DestinationFixture, scratch: &Scratch, place: &str) -> Option<usize> {
    let destination = fixture.open(scratch).await.unwrap();
    let done = committed(&*destination).await;
    let empty = || Shelf::new(fixture, true);
    let (mut current, mut next, mut events) = (empty(), empty(), Vec::new());
    for step in script().into_iter().take(done.unwrap_or_default()) {
        if step.discard {
            next = empty();
        }
        for (table, rows) in step.writes {
            match (table.stream.as_str(), table.generation) {
                ("events", _) => events.extend(rows),
                (_, Generation::Current) => current.put_all(Generation::Current, &rows),
                (_, Generation::Next) => next.put_all(Generation::Next, &rows),
            }
        }
        if step.publish {
            let own = std::mem::replace(&mut next, empty()).rows;
            let kept = step
                .keep
                .map_or_else(Vec::new, |name| carried(&current.rows, &own, name));
            current = empty();
            kept.iter()
                .chain(&own)
                .for_each(|row| current.put(Generation::Next, row));
        }
    }
    assert_eq!(
        shown(fixture, scratch, &charges(Generation::Current)).await,
        current.shown(),
        "{place} after step {done:?}"
    );
    let table = table("events", &[], Generation::Current);
    assert_eq!(
        shown(fixture, scratch, &table).await,
        expected(fixture, false, &events),
        "{place} after step {done:?}"
    );
    let status = destination.status(usize::MAX).await.unwrap();
    let sequences: Vec<u64> = status
        .commits
        .iter()
        .rev()
        .map(|commit| commit.sequence)
        .collect();
    let commits = done.map_or(0, |steps| steps as u64 + 1);
    assert_eq!(sequences, (1..=commits).collect::<Vec<_>>(), "{place}");
    let rows: u64 = status.rows.iter().map(|(_, rows)| rows).sum();
    assert_eq!(
        rows,
        (current.shown().len() + events.len()) as u64,
        "{place}"
    );
    done
}
