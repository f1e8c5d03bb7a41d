//! The tables as deltalake and DuckDB read them: the real readers, started without a network.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, TimeDelta};
use pipeline_core::RunRecord;
use pipeline_engine::{Commit, Destination, Generation, Purge, Table};
use pipeline_testkit::destination_suite::{commit, gone, row, store, table, table_of};
use pipeline_testkit::skip::skips;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{destination, entries, named};

/// What both readers found.
#[derive(Debug, Deserialize)]
struct Seen {
    version: u64,
    transaction: u64,
    columns: BTreeMap<String, String>,
    records: u64,
    deltalake: Vec<String>,
    duckdb: Vec<String>,
}

impl Seen {
    /// A column of the rows, which both must agree about.
    fn column(&self, name: &str) -> Vec<Value> {
        assert_eq!(self.deltalake, self.duckdb);
        assert_eq!(self.records, self.deltalake.len() as u64);
        let value = |row: &String| serde_json::from_str::<Value>(row).unwrap()[name].clone();
        self.deltalake.iter().map(value).collect()
    }
}

/// None: they are not installed, and the test is skipped by its name.
fn read(test: &str, folder: &Path) -> Option<Seen> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/delta/read.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(folder)
        .stdin(Stdio::null())
        .output();
    let missing =
        || Some("deltalake, or DuckDB with its extension `delta`, is not installed".to_owned());
    let Ok(output) = output.map_err(|_| skips(env!("CARGO_PKG_NAME"), test, missing())) else {
        return None;
    };
    if output.status.code() == Some(77) {
        skips(env!("CARGO_PKG_NAME"), test, missing());
        return None;
    }
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn versions_tombstones_and_a_refresh_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let lake = destination(dir.path()).unwrap();
    let people = table("people", &["id"], Generation::Current);
    let folder = lake.folder(&people.id());
    for rows in [
        vec![row(1, "a"), row(2, "b")],
        vec![row(1, "c")],
        vec![gone(2)],
    ] {
        store(&lake, &[(&people, rows)], &commit(vec![]))
            .await
            .unwrap();
    }
    let Some(seen) = read("versions_tombstones_and_a_refresh_are_read", &folder) else {
        return;
    };
    assert_eq!((seen.version, seen.transaction), (2, 3));
    let mut ids: Vec<i64> = seen
        .column("id")
        .iter()
        .map(|id| id.as_i64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 1, 2, 2]);
    let is_deleted = |deleted: &&Value| **deleted == json!(true);
    assert_eq!(seen.column("_deleted").iter().filter(is_deleted).count(), 1);

    let next = table("people", &["id"], Generation::Next);
    let publish = Commit {
        publish: vec![next.id()],
        ..commit(vec![])
    };
    store(&lake, &[(&next, vec![row(7, "new")])], &publish)
        .await
        .unwrap();
    let seen = read("", &folder).unwrap();
    assert_eq!((seen.version, seen.transaction), (3, 4));
    assert_eq!(seen.column("id"), [json!(7)]);
    let last = entries(&folder).pop().unwrap();
    let count = |kind: &str| {
        last.iter()
            .filter(|action| action.get(kind).is_some())
            .count()
    };
    assert_eq!([count("remove"), count("add"), count("txn")], [3, 1, 1]);
}

/// A file that is rewritten under its name would have another size than the log says, which
/// deltalake takes for damage until the next entry.
#[tokio::test]
async fn a_purged_file_has_a_name_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let lake = destination(dir.path()).unwrap();
    let people = table("people", &["id"], Generation::Current);
    let folder = lake.folder(&people.id());
    for rows in [vec![row(1, "a"), row(2, "b")], vec![gone(2)]] {
        store(&lake, &[(&people, rows)], &commit(vec![]))
            .await
            .unwrap();
    }
    let before = lake.files(&people.id()).unwrap();
    let purge = Purge {
        source: None,
        stream: None,
        versions: false,
        dry_run: false,
        run: "purge".to_owned(),
        at: DateTime::UNIX_EPOCH,
    };
    lake.purge(&purge).await.unwrap();
    let after = lake.files(&people.id()).unwrap();
    assert!(after.iter().all(|file| !before.contains(file)), "{after:?}");
    // As the log has it, without opening the folder again, which would repair it.
    let named = named(&folder);
    assert!(!named.is_empty());
    for (path, size) in named {
        assert_eq!(std::fs::metadata(path).unwrap().len(), size);
    }
    if let Some(seen) = read("a_purged_file_has_a_name_of_its_own", &folder) {
        assert_eq!(seen.column("id"), [json!(1)]);
    }
}

/// A batch of one row of the least and one of the greatest values, and one of nulls.
fn odd_values() -> (Arc<Table>, RecordBatch) {
    let utc = || Some("UTC".into());
    let columns = [
        ("bool", DataType::Boolean),
        ("int", DataType::Int64),
        ("float", DataType::Float64),
        ("decimal", DataType::Decimal128(38, 3)),
        ("text", DataType::Utf8),
        ("date", DataType::Date32),
        ("time", DataType::Timestamp(TimeUnit::Microsecond, utc())),
    ];
    let table = table_of("demo", "types", &["text"], Generation::Current, &columns);
    let decimals = vec![Some(-10), Some(10_i128.pow(38) - 1), None];
    let decimals = Decimal128Array::from(decimals).with_precision_and_scale(38, 3);
    let times = vec![Some(-1), Some(253_402_300_799_000_000), None];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        Arc::new(Float64Array::from(vec![Some(0.1), Some(1e300), None])),
        Arc::new(decimals.unwrap()),
        Arc::new(StringArray::from(vec![
            "a\"b'c\\\0\n\t漢😀",
            "",
            "only text",
        ])),
        Arc::new(Date32Array::from(vec![Some(-1), Some(2_932_896), None])),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![
            Some(r#"{"a":[1,null]}"#),
            None,
            None,
        ])),
        Arc::new(TimestampMicrosecondArray::from(vec![123_456; 3]).with_timezone("UTC")),
        Arc::new(BooleanArray::from(vec![false; 3])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), arrays).unwrap();
    (table, batch)
}

#[tokio::test]
async fn every_type_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let lake = destination(dir.path()).unwrap();
    let (table, batch) = odd_values();
    let mut transaction = lake.begin().await.unwrap();
    transaction.write(&table, batch).await.unwrap();
    transaction.commit(&commit(vec![])).await.unwrap();
    let folder = lake.folder(&table.id());
    let Some(seen) = read("every_type_is_read_as_it_was_written", &folder) else {
        return;
    };
    let columns = [
        ("_deleted", "boolean"),
        ("_extra", "string"),
        ("_synced_at", "timestamp"),
        ("bool", "boolean"),
        ("date", "date"),
        ("decimal", "decimal(38,3)"),
        ("float", "double"),
        ("int", "long"),
        ("text", "string"),
        ("time", "timestamp"),
    ];
    let columns = columns.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(seen.columns, BTreeMap::from(columns));
    let synced = "1970-01-01T00:00:00.123456+00:00";
    let mut expected = [
        json!({"_deleted": false, "_extra": "{\"a\":[1,null]}", "_synced_at": synced, "bool": true,
            "date": "1969-12-31", "decimal": "-0.010", "float": 0.1, "int": i64::MIN,
            "text": "a\"b'c\\\0\n\t漢😀", "time": "1969-12-31T23:59:59.999999+00:00"}),
        json!({"_deleted": false, "_synced_at": synced, "bool": false, "date": "9999-12-31",
            "decimal": "99999999999999999999999999999999999.999", "float": 1e300, "int": i64::MAX,
            "text": "", "time": "9999-12-31T23:59:59.000000+00:00"}),
        json!({"_deleted": false, "_synced_at": synced, "text": "only text"}),
    ];
    for rows in [&seen.deltalake, &seen.duckdb] {
        let mut rows: Vec<Value> = rows
            .iter()
            .map(|row| serde_json::from_str(row).unwrap())
            .collect();
        rows.sort_by_key(|row| row["text"].to_string());
        expected.sort_by_key(|row| row["text"].to_string());
        assert_eq!(rows, expected);
    }
    // Times have milliseconds in statistics: what stands there must not exclude the value.
    let added = entries(&folder)[0]
        .iter()
        .find_map(|action| action.get("add"))
        .unwrap()
        .clone();
    let stats: Value = serde_json::from_str(added["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["minValues"]["_synced_at"], "1970-01-01T00:00:00.123Z");
    assert_eq!(stats["maxValues"]["_synced_at"], "1970-01-01T00:00:00.124Z");
    assert_eq!(stats["minValues"]["int"], i64::MIN);
    assert_eq!(stats["nullCount"]["bool"], 1);
    // A purged record leaves nothing in the log.
    assert_eq!(stats["minValues"]["text"], Value::Null);
}

#[tokio::test]
async fn columns_are_added_and_a_refresh_may_change_a_type() {
    let dir = tempfile::tempdir().unwrap();
    let lake = destination(dir.path()).unwrap();
    let first = table("people", &["id"], Generation::Current);
    store(&lake, &[(&first, vec![row(1, "a")])], &commit(vec![]))
        .await
        .unwrap();
    let wide = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("age", DataType::Int64),
    ];
    let wider = table_of("demo", "people", &["id"], Generation::Current, &wide);
    store(&lake, &[(&wider, vec![row(2, "b")])], &commit(vec![]))
        .await
        .unwrap();
    let folder = lake.folder(&first.id());
    let test = "columns_are_added_and_a_refresh_may_change_a_type";
    let Some(seen) = read(test, &folder) else {
        return;
    };
    assert_eq!(seen.columns["age"], "long");
    assert_eq!(seen.column("name"), [json!("a"), json!("b")]);

    // A file with another type is not in the log until a refresh.
    let other = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("age", DataType::Utf8),
    ];
    let changed = table_of("demo", "people", &["id"], Generation::Current, &other);
    store(&lake, &[(&changed, vec![row(3, "c")])], &commit(vec![]))
        .await
        .unwrap();
    assert_eq!(read(test, &folder).unwrap().version, 1);
    let next = table_of("demo", "people", &["id"], Generation::Next, &other);
    let publish = Commit {
        publish: vec![next.id()],
        ..commit(vec![])
    };
    store(&lake, &[(&next, vec![row(4, "d")])], &publish)
        .await
        .unwrap();
    let seen = read(test, &folder).unwrap();
    assert_eq!(seen.columns["age"], "string");
    assert_eq!(seen.column("name"), [json!("d")]);
}

#[tokio::test]
async fn merging_changes_no_data() {
    let dir = tempfile::tempdir().unwrap();
    let lake = destination(dir.path()).unwrap();
    let events = table("events", &[], Generation::Current);
    let folder = lake.folder(&events.id());
    for id in 0..12 {
        store(&lake, &[(&events, vec![row(id, "a")])], &commit(vec![]))
            .await
            .unwrap();
    }
    let started = DateTime::UNIX_EPOCH + TimeDelta::hours(1);
    let run = RunRecord {
        took: Some(Duration::from_secs(9)),
        ..RunRecord::started("run".to_owned(), started, vec!["demo".to_owned()])
    };
    lake.record_run(&run).await.unwrap();
    let last = entries(&folder).pop().unwrap();
    let mut removed = 0;
    for action in &last {
        for kind in ["add", "remove"] {
            if let Some(file) = action.get(kind) {
                assert_eq!(file["dataChange"], json!(false), "{file}");
                removed += usize::from(kind == "remove");
            }
        }
    }
    assert_eq!(removed, 12);
    let Some(seen) = read("merging_changes_no_data", &folder) else {
        return;
    };
    let mut ids: Vec<i64> = seen
        .column("id")
        .iter()
        .map(|id| id.as_i64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
    assert_eq!(seen.version, 12);
}
