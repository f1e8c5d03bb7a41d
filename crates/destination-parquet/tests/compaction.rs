//! Small files are merged, and nobody loses a row by it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use destination_files::{FileDestination, Options};
use destination_parquet::{Compression, Parquet};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipeline_core::RunRecord;
use pipeline_core::state::Position;
use pipeline_engine::{Depth, Destination, Generation, Table};
use pipeline_testkit::destination_suite::{
    advance, canonical, commit, endpoint, gone, plan, row, store, table, table_of,
};
use tokio::time::Instant;

fn open(dir: &Path) -> FileDestination {
    FileDestination::open(dir, Parquet::new(Compression::Zstd), Options::default()).unwrap()
}

/// A folder in memory where there is one: thousands of commits need not reach a disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// A run of some hour that has ended.
fn ended(hour: usize) -> RunRecord {
    let started = DateTime::UNIX_EPOCH + TimeDelta::hours(i64::try_from(hour).unwrap());
    RunRecord {
        took: Some(Duration::from_secs(9)),
        ..RunRecord::started(format!("run-{hour}"), started, vec!["demo".to_owned()])
    }
}

fn globbed(dir: &Path, stream: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("demo").join(stream))
        .into_iter()
        .flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == "parquet"));
    files.sort();
    files
}

/// The rows in their order, without those columns that have no value.
fn rows(dir: &Path, stream: &str) -> Vec<String> {
    let rows = |path: &PathBuf| {
        let file = fs::File::open(path).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let batches = reader.build().unwrap();
        batches
            .flat_map(|batch| canonical(&batch.unwrap()))
            .collect::<Vec<_>>()
    };
    globbed(dir, stream).iter().flat_map(rows).collect()
}

#[tokio::test]
async fn an_hourly_sync_of_a_year_leaves_tens_of_files() {
    let dir = folder();
    let destination = open(dir.path());
    let events = table("events", &[], Generation::Current);
    store(&destination, &[], &commit(vec![plan("events")]))
        .await
        .unwrap();
    let mut most = 0;
    for hour in 0..8_760 {
        let id = i64::try_from(hour).unwrap();
        let written = vec![row(2 * id, "a"), row(2 * id + 1, "b")];
        store(
            &destination,
            &[(&events, written)],
            &commit(vec![advance("events", hour)]),
        )
        .await
        .unwrap();
        destination.record_run(&ended(hour)).await.unwrap();
        if hour % 100 == 0 {
            most = most.max(globbed(dir.path(), "events").len());
        }
    }
    most = most.max(globbed(dir.path(), "events").len());
    assert!(most <= 50, "{most} files");
    let seen: Vec<i64> = rows(dir.path(), "events")
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64())
        .map(Option::unwrap)
        .collect();
    assert_eq!(seen, (0..2 * 8_760).collect::<Vec<_>>());
    drop(destination);
    let started = Instant::now();
    let destination = open(dir.path());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "opening took {took:?}");
    assert_eq!(destination.verify(Depth::Shape).await.unwrap(), []);
    assert_eq!(
        destination.status(0).await.unwrap().rows,
        [(events.id(), 2 * 8_760)]
    );
    assert_eq!(
        fs::read_dir(dir.path().join("_staging")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn files_with_other_columns_are_merged_with_all_of_them() {
    let dir = folder();
    let destination = open(dir.path());
    let columns = [
        ("id", arrow_schema::DataType::Int64),
        ("name", arrow_schema::DataType::Utf8),
        ("note", arrow_schema::DataType::Utf8),
    ];
    let narrow = table("charges", &["id"], Generation::Current);
    let wide = table_of("demo", "charges", &["id"], Generation::Current, &columns);
    for id in 0..8 {
        let table = if id % 2 == 0 { &narrow } else { &wide };
        let written = vec![row(id, "a"), row(100, format!("version {id}"))];
        store(&destination, &[(table, written)], &commit(vec![]))
            .await
            .unwrap();
    }
    let before = rows(dir.path(), "charges");
    destination.record_run(&ended(1)).await.unwrap();
    assert_eq!(globbed(dir.path(), "charges").len(), 1);
    assert_eq!(rows(dir.path(), "charges"), before);
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    // What is known of the table is still known: a version is stored once.
    for destination in [&destination, &open_second(dir.path())] {
        let again = vec![row(3, "a"), row(100, "version 7")];
        store(destination, &[(&wide, again)], &commit(vec![]))
            .await
            .unwrap();
    }
    assert_eq!(rows(dir.path(), "charges"), before);
    store(&destination, &[(&narrow, vec![gone(3)])], &commit(vec![]))
        .await
        .unwrap();
    assert_eq!(rows(dir.path(), "charges").len(), before.len() + 1);
}

/// A second process; the first has the folder open.
fn open_second(dir: &Path) -> FileDestination {
    open(dir)
}

#[tokio::test]
async fn what_is_damaged_is_not_made_to_look_whole() {
    let dir = folder();
    let destination = open(dir.path());
    let events = table("events", &[], Generation::Current);
    for id in 0..8 {
        store(
            &destination,
            &[(&events, vec![row(id, "a")])],
            &commit(vec![]),
        )
        .await
        .unwrap();
    }
    let damaged = &globbed(dir.path(), "events")[3];
    let mut bytes = fs::read(damaged).unwrap();
    bytes[10] ^= 1;
    fs::write(damaged, bytes).unwrap();
    destination.record_run(&ended(1)).await.unwrap();
    assert_eq!(globbed(dir.path(), "events").len(), 8, "nothing is merged");
    assert_eq!(destination.verify(Depth::Content).await.unwrap().len(), 1);
}

const PLACE: &str = "PIPELINE_COMPACTION_PLACE";

/// Commits sixteen times, with a run after each, from where the folder is.
async fn run(dir: &Path) {
    let destination = open(dir);
    let tables = [
        table("charges", &["id"], Generation::Current),
        table("events", &[], Generation::Current),
    ];
    if destination
        .load(&endpoint("charges"))
        .await
        .unwrap()
        .slices
        .is_empty()
    {
        store(&destination, &[], &commit(vec![plan("charges")]))
            .await
            .unwrap();
    }
    for page in done(&destination).await..16 {
        let id = i64::try_from(page).unwrap();
        let writes = tables
            .iter()
            .map(|table| (table, vec![row(id, "a")]))
            .collect::<Vec<_>>();
        store(
            &destination,
            &writes,
            &commit(vec![advance("charges", page)]),
        )
        .await
        .unwrap();
        destination.record_run(&ended(page)).await.unwrap();
    }
    destination.record_run(&ended(16)).await.unwrap();
}

async fn done(destination: &FileDestination) -> usize {
    match &destination.load(&endpoint("charges")).await.unwrap().slices[&0].position {
        Position::At(page) => page.parse().unwrap(),
        _ => 0,
    }
}

fn ids(dir: &Path, table: &Table) -> Vec<i64> {
    let id = |line: &String| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["id"]
            .as_i64()
            .unwrap()
    };
    rows(dir, &table.stream).iter().map(id).collect()
}

#[cfg(unix)]
#[tokio::test]
async fn killed_while_it_merges_it_shows_every_row_once() {
    use std::os::unix::process::ExitStatusExt as _;

    if let Ok(place) = std::env::var(PLACE) {
        run(Path::new(&place)).await;
        return;
    }
    let charges = table("charges", &["id"], Generation::Current);
    let events = table("events", &[], Generation::Current);
    let points = [
        "files-before-manifest",
        "files-after-manifest",
        "files-arriving",
        "files-rewriting",
        "files-replacing",
    ];
    for point in points {
        for nth in 1.. {
            let dir = folder();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["killed_while_it_merges_it_shows_every_row_once", "--exact"])
                .env(PLACE, dir.path())
                .env(pipeline_core::CRASH_POINT, format!("{point}:{nth}"))
                .output()
                .unwrap()
                .status;
            if status.success() {
                assert!(nth > 1, "the crash point {point} is never passed");
                break;
            }
            assert_eq!(status.signal(), Some(6), "{point}:{nth}");
            // As the process left it: rows with a key may be there twice, others never.
            let left = ids(dir.path(), &events);
            assert!(
                left.is_sorted() && left.windows(2).all(|two| two[0] < two[1]),
                "{left:?}"
            );
            let destination = open(dir.path());
            let pages = if destination
                .load(&endpoint("charges"))
                .await
                .unwrap()
                .slices
                .is_empty()
            {
                0
            } else {
                i64::try_from(done(&destination).await).unwrap()
            };
            for table in [&charges, &events] {
                assert_eq!(
                    ids(dir.path(), table),
                    (0..pages).collect::<Vec<_>>(),
                    "{point}:{nth}"
                );
            }
            drop(destination);
            run(dir.path()).await;
            for table in [&charges, &events] {
                assert_eq!(ids(dir.path(), table), (0..16).collect::<Vec<_>>());
                assert!(
                    globbed(dir.path(), &table.stream).len() < 16,
                    "{point}:{nth}"
                );
            }
            let found = open(dir.path()).verify(Depth::Content).await.unwrap();
            assert_eq!(found, [], "{point}:{nth}");
        }
    }
}
