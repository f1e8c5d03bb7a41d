//! The Parquet destination under the conformance suite, and its own rules.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use destination_files::{FileDestination, Options};
use destination_parquet::{Compression, Parquet, ParquetConfig};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipeline_core::Result;
use pipeline_engine::{Destination, Generation, Table};
use pipeline_testkit::destination_suite::files::FileFixture;
use pipeline_testkit::destination_suite::{
    self as suite, Damage, DestinationFixture, Scratch, advance, canonical, commit, plan, row,
    store, table,
};

struct Lake;

fn destination(dir: &Path) -> Result<FileDestination> {
    FileDestination::open(
        dir,
        Parquet::new(Compression::Zstd),
        Options {
            snapshot_every: 4,
            ..Options::default()
        },
    )
}

/// As `*.parquet` does it.
fn globbed(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "parquet")
    });
    files.sort();
    files
}

fn rows(path: &Path) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap())
        .unwrap()
        .build()
        .unwrap();
    reader
        .flat_map(|batch| canonical(&batch.unwrap()))
        .collect()
}

#[async_trait]
impl DestinationFixture for Lake {
    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>> {
        Ok(Box::new(destination(scratch.path())?))
    }

    /// By a glob, which must agree with the manifests.
    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String> {
        let destination = destination(scratch.path()).unwrap();
        let files = globbed(&destination.folder(&table.id()));
        assert_eq!(files, destination.files(&table.id()).unwrap());
        let mut rows: Vec<String> = files.iter().flat_map(|path| rows(path)).collect();
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
            "files-arriving",
            "files-replacing",
            "files-discarding",
            "files-placing",
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
        ]
    }

    fn versions(&self, scratch: &Scratch, table: &Table) -> Option<Vec<String>> {
        Some(
            globbed(&scratch.path().join(&table.source).join(&table.stream))
                .iter()
                .flat_map(|path| rows(path))
                .collect(),
        )
    }

    fn damages(&self) -> &[Damage] {
        &[
            Damage {
                name: "a truncated manifest",
                inflict: |scratch| truncate(&scratch.path().join("_manifest/0000000009.json")),
            },
            Damage {
                name: "a changed manifest",
                inflict: |scratch| {
                    replace(
                        &scratch.path().join("_manifest/0000000009.json"),
                        "\"8\"",
                        "\"2\"",
                    );
                },
            },
            Damage {
                name: "a lost manifest",
                inflict: |scratch| {
                    fs::rename(
                        scratch.path().join("_manifest/0000000009.json"),
                        scratch.path().join("_manifest/0000000010.json"),
                    )
                    .unwrap();
                },
            },
            Damage {
                name: "garbage as snapshot",
                inflict: |scratch| {
                    fs::write(scratch.path().join("_manifest/snapshot.json"), "garbage").unwrap();
                },
            },
            Damage {
                name: "a newer version",
                inflict: |scratch| {
                    replace(
                        &scratch.path().join("_manifest/snapshot.json"),
                        "\"version\":3,\"state_version\"",
                        "\"version\":9,\"state_version\"",
                    );
                },
            },
        ]
    }
}

fn truncate(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

#[async_trait]
impl FileFixture for Lake {
    async fn open_to_read(&self, dir: &Path) -> Result<Box<dyn Destination>> {
        Ok(Box::new(FileDestination::open_to_read(
            dir,
            Parquet::new(Compression::Zstd),
            Options {
                snapshot_every: 4,
                ..Options::default()
            },
        )?))
    }

    fn extension(&self) -> &'static str {
        "parquet"
    }
}

pipeline_testkit::destination_suite!(local Lake);
pipeline_testkit::file_suite!(Lake);

#[tokio::test]
async fn a_destroyed_snapshot_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let events = table("events", &[], Generation::Current);
    for page in 0..9 {
        let changes = if page == 0 {
            vec![plan("events"), advance("events", 0)]
        } else {
            vec![advance("events", page)]
        };
        store(
            &destination(dir.path()).unwrap(),
            &[(&events, vec![row(1, "a")])],
            &commit(changes),
        )
        .await
        .unwrap();
    }
    let before = destination(dir.path()).unwrap().status(9).await.unwrap();
    fs::remove_file(dir.path().join("_manifest/snapshot.json")).unwrap();
    let after = destination(dir.path()).unwrap().status(9).await.unwrap();
    assert_eq!(
        (after.endpoints, after.rows, after.commits),
        (before.endpoints, before.rows, before.commits)
    );
}

#[tokio::test]
async fn a_large_transaction_is_more_than_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let uncompressed = FileDestination::open(
        dir.path(),
        Parquet::new(Compression::None),
        Options {
            buffered: 128 << 20,
            ..Options::default()
        },
    )
    .unwrap();
    let events = table("events", &[], Generation::Current);
    let mut transaction = uncompressed.begin().await.unwrap();
    for first in (0..40_000).step_by(2000) {
        let rows: Vec<_> = (first..first + 2000)
            .map(|id| row(id, format!("{id:0>4096}")))
            .collect();
        transaction
            .write(&events, suite::batch(&events, &rows))
            .await
            .unwrap();
    }
    transaction.commit(&commit(vec![])).await.unwrap();
    let files = globbed(&uncompressed.folder(&events.id()));
    assert!(files.len() > 1, "160 MiB are too much for one file");
    let rows = |path: &PathBuf| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        reader.metadata().file_metadata().num_rows()
    };
    assert_eq!(files.iter().map(rows).sum::<i64>(), 40_000);
    assert_eq!(
        uncompressed.status(0).await.unwrap().rows,
        [(events.id(), 40_000)]
    );
}

#[tokio::test]
async fn a7_files_that_are_being_written_hold_no_more_than_they_may() {
    let row_groups = async |buffered: usize| {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            buffered,
            ..Options::default()
        };
        let lake =
            FileDestination::open(dir.path(), Parquet::new(Compression::None), options).unwrap();
        let events = table("events", &[], Generation::Current);
        let mut transaction = lake.begin().await.unwrap();
        for first in (0..4_000).step_by(500) {
            let rows: Vec<_> = (first..first + 500)
                .map(|id| row(id, format!("{id:0>4096}")))
                .collect();
            transaction
                .write(&events, suite::batch(&events, &rows))
                .await
                .unwrap();
        }
        transaction.commit(&commit(vec![])).await.unwrap();
        let [file] = &globbed(&lake.folder(&events.id()))[..] else {
            panic!("one file")
        };
        ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap())
            .unwrap()
            .metadata()
            .num_row_groups()
    };
    // 16 MiB, in pieces of 2.
    assert_eq!(
        [row_groups(64 << 20).await, row_groups(1 << 20).await],
        [1, 8]
    );
}

#[test]
fn settings_are_checked() {
    let good: ParquetConfig = serde_json::from_str(r#"{"path":"lake"}"#).unwrap();
    assert_eq!(good.compression, Compression::Zstd);
    serde_json::from_str::<ParquetConfig>(r#"{"path":"lake","compression":"lzo"}"#).unwrap_err();
    serde_json::from_str::<ParquetConfig>(r#"{"path":"lake","partition":"day"}"#).unwrap_err();
}
