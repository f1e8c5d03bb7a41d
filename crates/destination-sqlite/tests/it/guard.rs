//! What the database is compared with: rows, checkpoints and files that others remove.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use pipeline_core::state::CheckpointDelta;
use pipeline_engine::{Damage as Found, Depth};

use super::*;

mod damage;
mod refused_rows;

/// The change that plans an endpoint which feeds the stream of the same name.
fn plan_of(stream: &str, from: EndpointState) -> CheckpointDelta {
    let mut to = from.next_plan();
    to.streams = BTreeSet::from([stream.to_owned()]);
    CheckpointDelta::Replace {
        endpoint: endpoint(stream),
        from,
        to,
    }
}

pub(super) fn current() -> Arc<Table> {
    table("charges", &["id"], Generation::Current)
}

/// A database with a table of six rows, one without rows, and a checkpoint of each.
pub(super) async fn filled(dir: &Path) -> SqliteDestination {
    let destination = SqliteDestination::open(config(dir)).unwrap();
    let refunds = table("refunds", &["id"], Generation::Current);
    destination.prepare(&[current(), refunds]).await.unwrap();
    let plans = vec![
        plan_of("charges", EndpointState::default()),
        plan_of("refunds", EndpointState::default()),
    ];
    let rows: Vec<_> = (1..=6).map(|id| row(id, "a")).collect();
    store(&destination, &[(&current(), rows)], &commit(plans))
        .await
        .unwrap();
    destination
}

pub(super) async fn damages(destination: &SqliteDestination, depth: Depth) -> Vec<Found> {
    destination.verify(depth).await.unwrap()
}

/// Reads the table again, as a full refresh does.
pub(super) async fn refresh(dir: &Path) {
    let destination = SqliteDestination::open(config(dir)).unwrap();
    let states = destination.states("demo").await.unwrap();
    let next = table("charges", &["id"], Generation::Next);
    destination
        .prepare(std::slice::from_ref(&next))
        .await
        .unwrap();
    let changes = ["charges", "refunds"].map(|stream| {
        plan_of(
            stream,
            states.get(&endpoint(stream)).cloned().unwrap_or_default(),
        )
    });
    let begun = Commit {
        discard: vec![current().id()],
        ..commit(changes.to_vec())
    };
    store(
        &destination,
        &[(&next, vec![row(1, "again"), row(2, "again")])],
        &begun,
    )
    .await
    .unwrap();
    let publish = Commit {
        publish: vec![current().id()],
        ..commit(vec![])
    };
    store(
        &destination,
        &[(&next, vec![row(2, "newer"), row(3, "again")])],
        &publish,
    )
    .await
    .unwrap();
}

/// The files of a folder, with what tells whether they were written to.
fn look(dir: &Path) -> Vec<(String, SystemTime, u64)> {
    let file = |entry: fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        (
            entry.file_name().into_string().unwrap(),
            metadata.modified().unwrap(),
            metadata.len(),
        )
    };
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| file(entry.unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a18_reading_writes_nothing_not_even_beside_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let expected = destination.status(10).await.unwrap();
    let beside = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    assert_eq!(
        beside.status(10).await.unwrap().rows,
        expected.rows,
        "while another process has it open"
    );
    drop(destination);
    let before = look(dir.path());
    assert!(
        before.iter().all(|(name, ..)| !name.ends_with("-wal")),
        "{before:?}"
    );
    let mut permissions = fs::metadata(dir.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(dir.path(), permissions.clone()).unwrap();
    let reading = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    let status = reading.status(10).await.unwrap();
    assert_eq!(
        (&status.rows, &status.commits, &status.endpoints),
        (&expected.rows, &expected.commits, &expected.endpoints)
    );
    assert_eq!(reading.states("demo").await.unwrap().len(), 2);
    assert_eq!(
        (
            reading.runs(5).await.unwrap(),
            damages(&reading, Depth::Content).await
        ),
        (vec![], vec![])
    );
    for error in [
        reading.begin().await.err(),
        reading.check().await.err(),
        reading.prepare(&[current()]).await.err(),
        reading.purge(&suite::purge(true)).await.err(),
    ] {
        assert_eq!(
            error.map(|error| error.kind()),
            Some(ErrorKind::Unsupported)
        );
    }
    assert_eq!(look(dir.path()), before);
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "the folder of a test"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(dir.path(), permissions).unwrap();
    // What was written meanwhile is seen.
    let writing = SqliteDestination::open(config(dir.path())).unwrap();
    store(
        &writing,
        &[(&current(), vec![row(9, "new")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(
        reading.status(10).await.unwrap().rows,
        writing.status(10).await.unwrap().rows
    );
}

#[tokio::test]
async fn a18_what_a_killed_process_left_in_the_log_is_read() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let destination = filled(dir.path()).await;
    // As a process leaves it that is killed: the log is not in the database yet.
    for file in ["warehouse.db", "warehouse.db-wal", "warehouse.db-shm"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    let reading = SqliteDestination::open_to_read(config(copy.path())).unwrap();
    assert_eq!(
        reading.status(10).await.unwrap().rows,
        destination.status(10).await.unwrap().rows
    );
}

#[tokio::test]
async fn a18_a_database_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = SqliteDestination::open_to_read(config(dir.path())).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Destination && error.help().is_some(),
        "{error:?}"
    );
    SqliteCheckpoints::open_to_read(dir.path().join("checkpoints.db")).unwrap_err();
    assert_eq!(look(dir.path()).len(), 0);
    fs::write(config(dir.path()).path, "").unwrap();
    let empty = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    assert_eq!(empty.status(10).await.unwrap().rows, []);
    assert_eq!(fs::metadata(config(dir.path()).path).unwrap().len(), 0);
    let checkpoints = SqliteCheckpoints::open(dir.path().join("checkpoints.db")).unwrap();
    checkpoints.apply(&[plan("charges")]).await.unwrap();
    drop(checkpoints);
    let before = look(dir.path());
    let reading = SqliteCheckpoints::open_to_read(dir.path().join("checkpoints.db")).unwrap();
    assert_eq!(
        (
            reading.list().await.unwrap().len(),
            reading.runs(5).await.unwrap().len()
        ),
        (1, 0)
    );
    assert_eq!(
        reading.apply(&[plan("refunds")]).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(look(dir.path()), before);
}

#[tokio::test]
async fn d12_a_planned_stream_has_a_table_whichever_generation_its_rows_go_to() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let tables = [("a", Generation::Next), ("b", Generation::Current)]
        .map(|(stream, generation)| table(stream, &["id"], generation));
    destination.prepare(&tables).await.unwrap();
    destination.prepare(&tables).await.unwrap();
    assert_eq!(
        names(
            &connect(dir.path()),
            "SELECT name FROM sqlite_master WHERE name LIKE 'demo%' AND type = 'table'"
        ),
        ["demo_a", "demo_b"]
    );
    let columns = "SELECT name FROM pragma_table_info('demo_a')";
    assert_eq!(
        names(&connect(dir.path()), columns),
        ["id", "name", "_extra", "_synced_at", "_deleted"]
    );
    assert_eq!(damages(&destination, Depth::Content).await, []);
}

#[tokio::test]
async fn g02_a_lock_that_is_held_for_long_is_worth_another_try() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let other = connect(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = destination.begin().await.err().expect("it is locked");
    assert!(error.is_temporary(), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    destination.begin().await.unwrap();
}

#[tokio::test]
async fn d5_a_process_that_is_killed_gives_its_claim_back() {
    /// Makes the test the process that is killed, and gives it its folder.
    const FOLDER: &str = "PIPELINE_CLAIM_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let destination = SqliteDestination::open(config(Path::new(&folder))).unwrap();
        let _claim = destination.claim("shop", "run-killed").await.unwrap();
        tokio::time::sleep(Duration::from_mins(1)).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let name = "guard::d5_a_process_that_is_killed_gives_its_claim_back";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command
        .args([name, "--exact"])
        .env(FOLDER, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let written = || {
        fs::read_to_string(dir.path().join("warehouse.db-lock-shop"))
            .is_ok_and(|text| text.contains("run-killed"))
    };
    while !written() && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = destination
        .claim("shop", "run-second")
        .await
        .expect_err("the process lives");
    assert_eq!(
        (error.kind(), error.context_value("run")),
        (ErrorKind::CheckpointConflict, Some("run-killed"))
    );
    assert_eq!(
        error.context_value("process"),
        Some(child.id().to_string().as_str()),
        "{error}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    destination.claim("shop", "run-second").await.unwrap();
}
