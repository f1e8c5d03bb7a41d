//! Parquet files with a Delta log: the conformance suite, and what the readers of others see.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod readers;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use destination_files::{FileDestination, Options};
use destination_parquet::{Compression, Parquet};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipeline_core::Result;
use pipeline_engine::{Destination, Generation, Table};
use pipeline_testkit::destination_suite::{
    Damage, DestinationFixture, Scratch, canonical, commit, row, store, table,
};
use serde_json::Value;

struct Lake;

fn options() -> Options {
    Options {
        snapshot_every: 4,
        delta: true,
        ..Options::default()
    }
}

pub(crate) fn destination(dir: &Path) -> Result<FileDestination> {
    FileDestination::open(dir, Parquet::new(Compression::Zstd), options())
}

/// The entries of a table's log, oldest first, without gaps.
pub(crate) fn entries(folder: &Path) -> Vec<Vec<Value>> {
    (0..)
        .map_while(|number| {
            fs::read_to_string(folder.join(format!("_delta_log/{number:020}.json"))).ok()
        })
        .map(|entry| {
            entry
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        })
        .collect()
}

/// The files that a log names at its end, with the sizes that it says.
pub(crate) fn named(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    for action in entries(folder).into_iter().flatten() {
        let path = |action: &Value| folder.join(action["path"].as_str().unwrap());
        if let Some(add) = action.get("add") {
            files.insert(path(add), add["size"].as_u64().unwrap());
        } else if let Some(remove) = action.get("remove") {
            assert!(files.remove(&path(remove)).is_some(), "removed once");
        }
    }
    files
}

fn rows(path: &Path) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let batches = reader.build().unwrap();
    batches
        .flat_map(|batch| canonical(&batch.unwrap()))
        .collect()
}

#[async_trait]
impl DestinationFixture for Lake {
    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>> {
        Ok(Box::new(destination(scratch.path())?))
    }

    /// By the log, which must agree with the manifests.
    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String> {
        let destination = destination(scratch.path()).unwrap();
        let files = named(&destination.folder(&table.id()));
        let visible = destination.files(&table.id()).unwrap();
        assert!(files.keys().eq(&visible), "{files:?} {visible:?}");
        for (path, size) in &files {
            assert_eq!(fs::metadata(path).unwrap().len(), *size);
        }
        let mut rows: Vec<String> = files.keys().flat_map(|path| rows(path)).collect();
        rows.sort();
        rows
    }

    fn upserts(&self) -> bool {
        false
    }

    fn crash_points(&self) -> &[&'static str] {
        &[
            "files-after-write",
            "files-before-manifest",
            "files-after-manifest",
            "files-after-carrying",
            "files-replacing",
            "files-discarding",
            "files-placing",
            "files-before-table-log",
            "files-after-table-log",
            "files-before-snapshot",
        ]
    }

    fn purge_crash_points(&self) -> &[&'static str] {
        &[
            "files-before-manifest",
            "files-after-manifest",
            "files-discarding",
            "files-rewriting",
            "files-replacing",
            "files-before-table-log",
            "files-after-table-log",
        ]
    }

    fn versions(&self, scratch: &Scratch, table: &Table) -> Option<Vec<String>> {
        let files = named(&scratch.path().join(&table.source).join(&table.stream));
        Some(files.keys().flat_map(|path| rows(path)).collect())
    }

    fn damages(&self) -> &[Damage] {
        &[Damage {
            name: "a truncated manifest",
            inflict: |scratch| {
                let path = scratch.path().join("_manifest/0000000009.json");
                let file = File::options().write(true).open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            },
        }]
    }
}

pipeline_testkit::destination_suite!(local Lake);

#[tokio::test]
async fn a_lost_log_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let events = table("events", &[], Generation::Current);
    let lake = destination(dir.path()).unwrap();
    for id in 0..3 {
        store(&lake, &[(&events, vec![row(id, "a")])], &commit(vec![]))
            .await
            .unwrap();
    }
    let folder = lake.folder(&events.id());
    assert_eq!(entries(&folder).len(), 3);
    let before = named(&folder);
    drop(lake);
    fs::remove_dir_all(folder.join("_delta_log")).unwrap();
    drop(destination(dir.path()).unwrap());
    assert_eq!(entries(&folder).len(), 1);
    assert_eq!(named(&folder), before);
    // What is complete is not written again.
    drop(destination(dir.path()).unwrap());
    assert_eq!(entries(&folder).len(), 1);
}

#[tokio::test]
async fn two_writers_write_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let events = table("events", &[], Generation::Current);
    let (one, two) = (
        destination(dir.path()).unwrap(),
        destination(dir.path()).unwrap(),
    );
    for id in 0..4 {
        let writer = if id % 2 == 0 { &one } else { &two };
        store(writer, &[(&events, vec![row(id, "a")])], &commit(vec![]))
            .await
            .unwrap();
    }
    let folder = one.folder(&events.id());
    let sequences = entries(&folder).into_iter().flatten().filter_map(|action| {
        action
            .get("txn")
            .map(|txn| txn["version"].as_u64().unwrap())
    });
    assert_eq!(sequences.collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(named(&folder).len(), 4);
}

#[tokio::test]
async fn an_entry_of_another_program_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let events = table("events", &[], Generation::Current);
    let lake = destination(dir.path()).unwrap();
    store(&lake, &[(&events, vec![row(1, "a")])], &commit(vec![]))
        .await
        .unwrap();
    let next = lake
        .folder(&events.id())
        .join("_delta_log/00000000000000000001.json");
    fs::write(
        next,
        r#"{"domainMetadata":{"domain":"d","configuration":"","removed":false}}"#,
    )
    .unwrap();
    let error = store(&lake, &[(&events, vec![row(2, "a")])], &commit(vec![]))
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("another program"),
        "{error:?}"
    );
}
