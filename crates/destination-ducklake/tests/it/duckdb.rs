//! The lake as DuckDB reads it, and writes to it: the real extension, started without a network.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::DataType;
use destination_ducklake::{Deletes, DucklakeConfig, DucklakeDestination};
use pipeline_engine::{Commit, Depth, Destination, Generation, Table};
use pipeline_testkit::destination_suite::{
    Row, all_gone, batch, commit, gone, keep, row, store, table, table_of,
};
use tempfile::TempDir;

use crate::{config, connect};

/// Rows of values, each as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// What statements return that DuckDB runs on the lake of a folder; none: it is not installed.
pub(crate) fn run(dir: &Path, statements: &[&str]) -> Option<Vec<Rows>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/read.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(config(dir).catalog)
        .args(statements)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    if output.status.code() == Some(77) {
        return None;
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The same, or the end of the test where DuckDB is not installed.
macro_rules! duckdb {
    ($dir:expr, $($statement:expr),+ $(,)?) => {
        match $crate::duckdb::run($dir.path(), &[$($statement),+]) {
            Some(results) => results,
            None => {
                println!("skipped: {}: DuckDB and its extensions are not installed", module_path!());
                return;
            }
        }
    };
}
pub(crate) use duckdb;

pub(crate) fn lake() -> (TempDir, DucklakeDestination) {
    let dir = tempfile::tempdir().unwrap();
    let destination = DucklakeDestination::open(config(dir.path())).unwrap();
    (dir, destination)
}

pub(crate) fn text(rows: &Rows) -> Vec<String> {
    let cell = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "-".to_owned());
    rows.iter()
        .map(|row| row.iter().map(cell).collect::<Vec<_>>().join(" "))
        .collect()
}

pub(crate) async fn put(destination: &dyn Destination, table: &Arc<Table>, rows: Vec<Row>) {
    store(destination, &[(table, rows)], &commit(vec![]))
        .await
        .unwrap();
}

#[tokio::test]
async fn rows_are_current_and_older_snapshots_stay() {
    let (dir, destination) = lake();
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    put(
        &destination,
        &current,
        vec![row(1, "a"), row(2, "b"), row(3, "x"), row(4, "x")],
    )
    .await;
    put(
        &destination,
        &current,
        vec![row(1, "aa"), gone(2), row(5, "e")],
    )
    .await;
    put(&destination, &current, vec![all_gone("x"), row(4, "x")]).await;
    put(&destination, &next, vec![row(9, "i")]).await;
    let publish = Commit {
        publish: vec![current.id()],
        keep: vec![keep(&current, "e")],
        ..commit(vec![])
    };
    store(&destination, &[(&next, vec![row(8, "h")])], &publish)
        .await
        .unwrap();
    let select = |version: &str| format!("SELECT id, name FROM demo_charges {version} ORDER BY id");
    let found = duckdb!(
        dir,
        &select(""),
        &select("AT (VERSION => 1)"),
        &select("AT (VERSION => 2)"),
        &select("AT (VERSION => 3)"),
        "SELECT snapshot_id, author, commit_extra_info FROM lake.snapshots() ORDER BY snapshot_id",
    );
    assert_eq!(text(&found[0]), ["5 e", "8 h", "9 i"]);
    assert_eq!(text(&found[1]), ["1 a", "2 b", "3 x", "4 x"]);
    assert_eq!(text(&found[2]), ["1 aa", "3 x", "4 x", "5 e"]);
    assert_eq!(text(&found[3]), ["1 aa", "4 x", "5 e"]);
    // Rows that nobody sees make no snapshot, a whole refresh makes one.
    assert_eq!(
        text(&found[4]),
        [
            "0 - -",
            r#"1 pipeline {"run":"run-1","sequence":1}"#,
            r#"2 pipeline {"run":"run-1","sequence":2}"#,
            r#"3 pipeline {"run":"run-1","sequence":3}"#,
            r#"4 pipeline {"run":"run-1","sequence":5}"#
        ]
    );
}

#[tokio::test]
async fn what_duckdb_writes_is_taken_over() {
    let (dir, destination) = lake();
    let charges = table("charges", &["id"], Generation::Current);
    put(
        &destination,
        &charges,
        vec![row(1, "a"), row(2, "b"), row(3, "c")],
    )
    .await;
    put(&destination, &charges, vec![row(2, "bb"), row(4, "d")]).await;
    duckdb!(
        dir,
        "INSERT INTO demo_charges (id, name, _synced_at, _deleted) VALUES (10, 'theirs', now(), false)",
        "UPDATE demo_charges SET name = 'changed' WHERE id = 3",
        "CALL ducklake_merge_adjacent_files('lake')",
        "CALL ducklake_rewrite_data_files('lake', delete_threshold => 0.1)"
    );
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    put(
        &destination,
        &charges,
        vec![row(1, "a"), row(3, "cc"), gone(4), row(10, "ours")],
    )
    .await;
    let found = duckdb!(dir, "SELECT id, name FROM demo_charges ORDER BY id");
    assert_eq!(text(&found[0]), ["1 a", "2 bb", "3 cc", "10 ours"]);
    // Rows that they delete are missed, until somebody accepts it.
    duckdb!(dir, "DELETE FROM demo_charges WHERE id IN (1, 2)");
    let damages = destination.verify(Depth::Shape).await.unwrap();
    assert!(
        damages[0].what.contains("has 2 rows of the 4"),
        "{damages:?}"
    );
    let accept = pipeline_engine::Purge {
        source: Some("demo".to_owned()),
        stream: Some("charges".to_owned()),
        ..pipeline_testkit::destination_suite::purge(false)
    };
    destination.purge(&accept).await.unwrap();
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    put(&destination, &charges, vec![row(1, "back"), row(3, "c")]).await;
    let found = duckdb!(dir, "SELECT id, name FROM demo_charges ORDER BY id");
    assert_eq!(text(&found[0]), ["1 back", "3 c", "10 ours"]);
}

/// A purge and a refresh that keeps rows read the files as they are, and bring nothing back.
#[tokio::test]
async fn what_duckdb_deletes_does_not_come_back() {
    let (dir, destination) = lake();
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    let rows = vec![row(1, "a"), row(2, "a"), row(3, "a"), row(4, "a")];
    put(&destination, &current, rows).await;
    put(&destination, &current, vec![gone(1)]).await;
    duckdb!(dir, "DELETE FROM demo_charges WHERE id = 2");
    let purge = pipeline_testkit::destination_suite::purge(true);
    destination.purge(&purge).await.unwrap();
    let select = "SELECT id, name FROM demo_charges ORDER BY id";
    assert_eq!(text(&duckdb!(dir, select)[0]), ["3 a", "4 a"]);
    duckdb!(dir, "DELETE FROM demo_charges WHERE id = 3");
    let publish = Commit {
        publish: vec![current.id()],
        keep: vec![keep(&current, "a")],
        ..commit(vec![])
    };
    store(&destination, &[(&next, vec![row(5, "b")])], &publish)
        .await
        .unwrap();
    assert_eq!(text(&duckdb!(dir, select)[0]), ["4 a", "5 b"]);
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
}

#[tokio::test]
async fn a_wider_type_keeps_what_is_there() {
    let (dir, destination) = lake();
    let columns = |id: DataType, name: DataType| [("id", id), ("name", name)];
    let narrow = table_of(
        "demo",
        "charges",
        &["id"],
        Generation::Current,
        &columns(DataType::Int64, DataType::Utf8),
    );
    put(
        &destination,
        &narrow,
        vec![row(9, "a"), row(10, "b"), row(11, "c")],
    )
    .await;
    let wide = table_of(
        "demo",
        "charges",
        &["id"],
        Generation::Current,
        &columns(DataType::Utf8, DataType::Utf8),
    );
    let rows = batch(&narrow, &[row(10, "bb"), row(100, "d")]);
    let mut arrays = rows.columns().to_vec();
    arrays[0] = Arc::new(StringArray::from(vec!["10", "100"]));
    let rows = RecordBatch::try_new(Arc::clone(&wide.schema), arrays).unwrap();
    let mut transaction = destination.begin().await.unwrap();
    transaction.write(&wide, rows).await.unwrap();
    transaction.commit(&commit(vec![])).await.unwrap();
    let found = duckdb!(
        dir,
        "SELECT id, name, typeof(id) FROM demo_charges ORDER BY id",
        "SELECT name FROM demo_charges WHERE id = '9'",
        "SELECT name FROM demo_charges WHERE id > '11'",
        "SELECT id, typeof(id) FROM demo_charges AT (VERSION => 1) ORDER BY id"
    );
    assert_eq!(
        text(&found[0]),
        [
            "10 bb VARCHAR",
            "100 d VARCHAR",
            "11 c VARCHAR",
            "9 a VARCHAR"
        ]
    );
    assert_eq!(
        (text(&found[1]), text(&found[2])),
        (vec!["a".to_owned()], vec!["a".to_owned()])
    );
    assert_eq!(text(&found[3]), ["9 BIGINT", "10 BIGINT", "11 BIGINT"]);
}

#[tokio::test]
async fn marked_deletes_keep_the_last_values() {
    let dir = tempfile::tempdir().unwrap();
    let destination = DucklakeDestination::open(DucklakeConfig {
        deletes: Deletes::Mark,
        ..config(dir.path())
    })
    .unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    put(
        &destination,
        &charges,
        vec![
            row(1, "a"),
            row(2, "b"),
            gone(1),
            gone(3),
            row(4, "x"),
            row(5, "x"),
        ],
    )
    .await;
    put(
        &destination,
        &charges,
        vec![row(6, "x"), all_gone("x"), row(7, "x"), row(1, "a")],
    )
    .await;
    let found = duckdb!(
        dir,
        "SELECT id, name, _deleted FROM demo_charges ORDER BY id"
    );
    assert_eq!(
        text(&found[0]),
        [
            "1 a False",
            "2 b False",
            "3 - True",
            "4 x True",
            "5 x True",
            "6 x True",
            "7 x False"
        ]
    );
}

/// A year of hourly syncs in short: as many commits as are needed for every size of files.
#[tokio::test]
async fn many_small_commits_leave_few_files() {
    let (dir, destination) = lake();
    let charges = table("charges", &["id"], Generation::Current);
    let events = table("events", &[], Generation::Current);
    for hour in 0..400 {
        let rows = vec![
            row(hour, format!("new {hour}")),
            row(hour / 2, format!("changed in {hour}")),
            gone(hour / 3),
        ];
        store(
            &destination,
            &[(&charges, rows), (&events, vec![row(hour, "e")])],
            &commit(vec![]),
        )
        .await
        .unwrap();
    }
    let files: i64 = connect(dir.path())
        .query_row(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM ducklake_data_file WHERE end_snapshot IS NULL GROUP BY table_id)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(files <= 10, "{files} files of a table");
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    let mut wanted = std::collections::BTreeMap::new();
    for hour in 0..400 {
        wanted.insert(hour, format!("new {hour}"));
        wanted.insert(hour / 2, format!("changed in {hour}"));
        wanted.remove(&(hour / 3));
    }
    let found = duckdb!(
        dir,
        "SELECT id, name FROM demo_charges ORDER BY id",
        "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM demo_events",
        "SELECT count(*) FROM demo_events AT (VERSION => 7)"
    );
    let wanted: Vec<String> = wanted
        .iter()
        .map(|(id, name)| format!("{id} {name}"))
        .collect();
    assert_eq!(text(&found[0]), wanted);
    assert_eq!(text(&found[1]), ["400 400 0 399"]);
    assert_eq!(text(&found[2]), ["7"]);
}
