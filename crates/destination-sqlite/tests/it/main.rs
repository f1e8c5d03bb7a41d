//! The SQLite destination under the conformance suite, and its own rules.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod guard;
mod meddling;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::DataType;
use async_trait::async_trait;
use destination_sqlite::{Deletes, SqliteCheckpoints, SqliteConfig, SqliteDestination};
use pipeline_core::state::{CheckpointStore, EndpointState};
use pipeline_core::{ErrorKind, Result};
use pipeline_engine::{Commit, Destination, Generation, Table};
use pipeline_testkit::destination_suite::{
    self as suite, Damage, DestinationFixture, Scratch, advance, canonical_object, commit,
    endpoint, gone, plan, row, store, table, table_of,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::{Map, Value};

struct Sqlite;

fn config(dir: &Path) -> SqliteConfig {
    SqliteConfig {
        path: dir.join("warehouse.db"),
        deletes: Deletes::Remove,
    }
}

fn connect(dir: &Path) -> Connection {
    Connection::open(config(dir).path).unwrap()
}

#[async_trait]
impl DestinationFixture for Sqlite {
    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>> {
        Ok(Box::new(SqliteDestination::open(config(scratch.path()))?))
    }

    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String> {
        let connection = connect(scratch.path());
        let name = "SELECT t.name FROM _pipeline_tables AS t JOIN sqlite_master AS m ON m.name = \
                    t.name WHERE source = ? AND stream = ?";
        let name: Option<String> = connection
            .query_row(name, [&table.source, &table.stream], |row| row.get(0))
            .optional()
            .unwrap();
        let Some(name) = name else { return Vec::new() };
        let mut select = connection
            .prepare(&format!("SELECT * FROM \"{name}\""))
            .unwrap();
        let columns: Vec<String> = select.column_names().map(ToOwned::to_owned).collect();
        let mut rows = select.query([]).unwrap();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let object = table.schema.fields().iter().filter_map(|field| {
                let index = columns
                    .iter()
                    .position(|column| column == field.name())
                    .or_else(|| {
                        let marked = |column: &String| {
                            column
                                .strip_prefix(field.name())
                                .is_some_and(|rest| rest.len() == 9 && rest.starts_with('_'))
                        };
                        columns.iter().position(marked)
                    });
                let value = match row.get_ref(index?).unwrap() {
                    ValueRef::Null => return None,
                    ValueRef::Integer(value) if *field.data_type() == DataType::Boolean => {
                        Value::Bool(value != 0)
                    }
                    ValueRef::Integer(value) => value.into(),
                    ValueRef::Real(value) => value.into(),
                    text if pipeline_engine::cell::is_json(field) => {
                        serde_json::from_str(text.as_str().unwrap()).unwrap()
                    }
                    text => text.as_str().unwrap().into(),
                };
                Some((field.name().clone(), value))
            });
            lines.push(canonical_object(object.collect::<Map<_, _>>()));
        }
        lines.sort();
        lines
    }

    fn upserts(&self) -> bool {
        true
    }

    fn crash_points(&self) -> &[&'static str] {
        &[
            "sqlite-after-begin",
            "sqlite-before-prepared",
            "sqlite-after-write",
            "sqlite-carrying",
            "sqlite-replacing-table",
            "sqlite-before-commit",
            "sqlite-after-commit",
        ]
    }

    fn purge_crash_points(&self) -> &[&'static str] {
        &[
            "sqlite-before-purged",
            "sqlite-before-vacuum",
            "sqlite-after-vacuum",
        ]
    }

    fn versions(&self, _: &Scratch, _: &Table) -> Option<Vec<String>> {
        None
    }

    fn damages(&self) -> &[Damage] {
        &[
            Damage {
                name: "garbage in the state table",
                inflict: |scratch| {
                    connect(scratch.path())
                        .execute("UPDATE _pipeline_state SET state = '{\"version\":1,'", [])
                        .unwrap();
                },
            },
            Damage {
                name: "no database",
                inflict: |scratch| {
                    fs::write(config(scratch.path()).path, "garbage ".repeat(1000)).unwrap();
                },
            },
            Damage {
                name: "a truncated database",
                inflict: |scratch| {
                    fs::File::options()
                        .write(true)
                        .open(config(scratch.path()).path)
                        .unwrap()
                        .set_len(5000)
                        .unwrap();
                },
            },
        ]
    }
}

pipeline_testkit::destination_suite!(local Sqlite);

/// The visible rows of a simple table in a folder's database.
async fn visible(dir: &Path, table: &Table) -> Vec<String> {
    suite::shown(&Sqlite, &Scratch::at(dir), table).await
}

fn names(connection: &Connection, sql: &str) -> Vec<String> {
    connection
        .prepare(sql)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap()
}

#[tokio::test]
async fn marked_deletes_keep_the_last_values() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(SqliteConfig {
        deletes: Deletes::Mark,
        ..config(dir.path())
    })
    .unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    let rows = vec![row(1, "a"), row(2, "b"), gone(1), gone(3)];
    store(&destination, &[(&charges, rows)], &commit(vec![]))
        .await
        .unwrap();
    let select =
        "SELECT id || ' ' || coalesce(name, '-') || ' ' || _deleted FROM demo_charges ORDER BY id";
    assert_eq!(
        names(&connect(dir.path()), select),
        ["1 a 1", "2 b 0", "3 - 1"]
    );
    store(
        &destination,
        &[(&charges, vec![row(1, "back")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(
        names(&connect(dir.path()), select),
        ["1 back 0", "2 b 0", "3 - 1"]
    );
}

#[tokio::test]
async fn a_second_process_is_told_who_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let other = connect(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = destination.begin().await.err().expect("it is locked");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert_eq!(error.message(), "the database is used by another process");
    other.execute_batch("ROLLBACK").unwrap();
    destination.begin().await.unwrap();
}

#[tokio::test]
async fn views_indexes_and_triggers_outlive_a_refresh() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let current = table("charges", &["id"], Generation::Current);
    store(
        &destination,
        &[(&current, vec![row(1, "old")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let connection = connect(dir.path());
    connection
        .execute_batch(
            "CREATE VIEW names AS SELECT name FROM demo_charges;
             CREATE INDEX by_name ON demo_charges (name);
             CREATE TABLE log (id);
             CREATE TRIGGER logged AFTER INSERT ON demo_charges BEGIN INSERT INTO log VALUES (new.id); END;",
        )
        .unwrap();
    let publish = Commit {
        publish: vec![current.id()],
        ..commit(vec![])
    };
    let next = table("charges", &["id"], Generation::Next);
    store(&destination, &[(&next, vec![row(2, "new")])], &publish)
        .await
        .unwrap();
    store(
        &destination,
        &[(&current, vec![row(3, "newer")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(
        names(&connection, "SELECT name FROM names ORDER BY name"),
        ["new", "newer"]
    );
    assert_eq!(
        names(
            &connection,
            "SELECT name FROM demo_charges INDEXED BY by_name WHERE name > 'newe'"
        ),
        ["newer"]
    );
    assert_eq!(
        names(&connection, "SELECT cast(id AS TEXT) FROM log"),
        ["3"]
    );
}

#[tokio::test]
async fn a_changed_key_or_type_rebuilds_the_table_without_losing_a_digit() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let appended = table("charges", &[], Generation::Current);
    store(
        &destination,
        &[(&appended, vec![row(1, "a"), row(2, "b"), row(1, "c")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let keyed = table("charges", &["id"], Generation::Current);
    store(
        &destination,
        &[(&keyed, vec![row(2, "d")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(visible(dir.path(), &keyed).await, ["1=c", "2=d"]);

    // `name` was text and is now a number: it stays text. `id` was a number and is now text.
    let columns = [("id", DataType::Utf8), ("name", DataType::Int64)];
    let changed = table_of("demo", "charges", &["id"], Generation::Current, &columns);
    destination.prepare(&[changed]).await.unwrap();
    let types = "SELECT type FROM pragma_table_info('demo_charges') WHERE name IN ('id', 'name')";
    assert_eq!(names(&connect(dir.path()), types), ["TEXT", "TEXT"]);
    assert_eq!(
        names(
            &connect(dir.path()),
            "SELECT id || name FROM demo_charges ORDER BY id"
        ),
        ["1c", "2d"]
    );
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    connect(dir.path())
        .execute_batch("CREATE TABLE demo_charges (mine); INSERT INTO demo_charges VALUES ('mine')")
        .unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    store(
        &destination,
        &[(&charges, vec![row(1, "a")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(visible(dir.path(), &charges).await, ["1=a"]);
    assert_eq!(
        names(&connect(dir.path()), "SELECT mine FROM demo_charges"),
        ["mine"]
    );
}

#[tokio::test]
async fn a_whole_batch_of_one_key_leaves_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    let mut rows = vec![row(1, "a"); 99];
    rows.push(row(1, "last"));
    store(&destination, &[(&charges, rows)], &commit(vec![]))
        .await
        .unwrap();
    assert_eq!(visible(dir.path(), &charges).await, ["1=last"]);
}

#[tokio::test]
async fn checkpoints_in_a_file_apply_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoints.db");
    let checkpoints = SqliteCheckpoints::open(&path).unwrap();
    let other = SqliteCheckpoints::open(&path).unwrap();
    checkpoints
        .apply(&[plan("charges"), advance("charges", 0)])
        .await
        .unwrap();
    let error = other
        .apply(&[plan("refunds"), advance("charges", 0)])
        .await
        .expect_err("it is read already");
    assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
    assert_eq!(
        other.load(&endpoint("refunds")).await.unwrap(),
        EndpointState::default()
    );
    let listed = SqliteCheckpoints::open(&path)
        .unwrap()
        .list()
        .await
        .unwrap();
    assert_eq!(
        listed,
        [(
            endpoint("charges"),
            checkpoints.load(&endpoint("charges")).await.unwrap()
        )]
    );
}

#[tokio::test]
async fn a_large_transaction_spills_to_disk() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let events = table("events", &[], Generation::Current);
    let rows: Vec<_> = (0..50_000)
        .map(|id| row(id, "a text of some length, to fill pages"))
        .collect();
    let batch = suite::batch(&events, &rows);
    let mut transaction = destination.begin().await.unwrap();
    for _ in 0..20 {
        transaction.write(&events, batch.clone()).await.unwrap();
    }
    // What exceeds the page cache is in the write-ahead log before the commit.
    let log = fs::metadata(dir.path().join("warehouse.db-wal"))
        .unwrap()
        .len();
    assert!(log > 4 * 1024 * 1024, "nothing was spilled: {log} bytes");
    assert_eq!(visible(dir.path(), &events).await, [""; 0]);
    transaction.commit(&commit(vec![])).await.unwrap();
    assert_eq!(
        destination.status(0).await.unwrap().rows,
        [(events.id(), 1_000_000)]
    );
}

#[tokio::test]
async fn the_log_forgets_what_commits_long_ago_changed_of_checkpoints() {
    const KEPT: usize = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let first = commit(vec![plan("events")]);
    assert_eq!(store(&destination, &[], &first).await.unwrap(), 1);
    let more = format!(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {KEPT})
        INSERT INTO _pipeline_commits SELECT i, run, at, changes, rows, bytes, content_hash FROM n, _pipeline_commits WHERE sequence = 1"
    );
    connect(dir.path()).execute(&more, []).unwrap();
    let mut kept = destination.status(2 * KEPT).await.unwrap().commits;
    assert!(kept.len() == KEPT && kept.iter().all(|commit| !commit.changes.is_empty()));
    assert_eq!(
        store(&destination, &[], &commit(vec![advance("events", 0)]))
            .await
            .unwrap(),
        1_001
    );
    let log = destination.status(2 * KEPT).await.unwrap().commits;
    assert!(!log[0].changes.is_empty());
    kept[KEPT - 1].changes.clear();
    assert!(
        log[1..] == kept,
        "figures stay, and the changes of all but the oldest"
    );
}

#[test]
fn settings_are_checked() {
    let good: SqliteConfig = serde_json::from_str(r#"{"path":"a.db"}"#).unwrap();
    assert_eq!(good.deletes, Deletes::Remove);
    let good: SqliteConfig = serde_json::from_str(r#"{"path":"a.db","deletes":"mark"}"#).unwrap();
    assert_eq!(good.deletes, Deletes::Mark);
    serde_json::from_str::<SqliteConfig>(r#"{"path":"a.db","delete":"mark"}"#).unwrap_err();
}

#[tokio::test]
async fn one_destination_serves_many_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let destination: Arc<dyn Destination> =
        Arc::new(SqliteDestination::open(config(dir.path())).unwrap());
    let events = table("events", &[], Generation::Current);
    let tasks = (0..8).map(|id| {
        let (destination, events) = (Arc::clone(&destination), Arc::clone(&events));
        tokio::spawn(async move {
            store(
                &*destination,
                &[(&events, vec![row(id, "a")])],
                &commit(vec![]),
            )
            .await
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    assert_eq!(visible(dir.path(), &events).await.len(), 8);
}
