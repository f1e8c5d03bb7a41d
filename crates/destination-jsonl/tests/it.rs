//! The JSON Lines destination under the conformance suite, and its own rules.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use destination_files::{FileDestination, Options};
use destination_jsonl::{Jsonl, JsonlConfig, StreamDestination};
use pipeline_core::state::MemoryCheckpoints;
use pipeline_core::{ErrorKind, Result};
use pipeline_engine::{
    Delivery, Destination, DestinationConfig as _, Generation, Location, OpenContext, Table,
    WithCheckpoints,
};
use pipeline_testkit::destination_suite::files::FileFixture;
use pipeline_testkit::destination_suite::{
    Damage, DestinationFixture, Row, Scratch, advance, all_gone, batch, canonical_object, commit,
    endpoint, gone, plan, purge, row, store, table,
};

struct Lines;

fn destination(dir: &Path) -> Result<FileDestination> {
    FileDestination::open(
        dir,
        Jsonl,
        Options {
            snapshot_every: 4,
            ..Options::default()
        },
    )
}

/// As `*.jsonl` does it.
fn globbed(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
    });
    files.sort();
    files
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| canonical_object(serde_json::from_str(line).unwrap()))
        .collect()
}

#[async_trait]
impl DestinationFixture for Lines {
    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>> {
        Ok(Box::new(destination(scratch.path())?))
    }

    /// By a glob, which must agree with the manifests.
    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String> {
        let destination = destination(scratch.path()).unwrap();
        let files = globbed(&destination.folder(&table.id()));
        assert_eq!(files, destination.files(&table.id()).unwrap());
        let mut rows: Vec<String> = files.iter().flat_map(|path| lines(path)).collect();
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
            "files-placing",
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
        let lines = globbed(&scratch.path().join(&table.source).join(&table.stream))
            .into_iter()
            .flat_map(|path| lines(&path));
        Some(lines.collect())
    }

    fn damages(&self) -> &[Damage] {
        &[Damage {
            name: "an empty manifest",
            inflict: |scratch| {
                fs::write(scratch.path().join("_manifest/0000000009.json"), "").unwrap();
            },
        }]
    }
}

#[async_trait]
impl FileFixture for Lines {
    async fn open_to_read(&self, dir: &Path) -> Result<Box<dyn Destination>> {
        Ok(Box::new(FileDestination::open_to_read(
            dir,
            Jsonl,
            Options {
                snapshot_every: 4,
                ..Options::default()
            },
        )?))
    }

    fn extension(&self) -> &'static str {
        "jsonl"
    }
}

pipeline_testkit::destination_suite!(local Lines);
pipeline_testkit::file_suite!(Lines);

/// Stores rows, and returns how many were left out.
async fn unchanged(destination: &dyn Destination, table: &Arc<Table>, rows: &[Row]) -> u64 {
    let mut transaction = destination.begin().await.unwrap();
    let unchanged = transaction.write(table, batch(table, rows)).await.unwrap();
    transaction.commit(&commit(vec![])).await.unwrap();
    unchanged
}

#[tokio::test]
async fn of_more_rows_than_are_remembered_the_oldest_are_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let small = || {
        FileDestination::open(
            dir.path(),
            Jsonl,
            Options {
                remember: 100,
                ..Options::default()
            },
        )
        .unwrap()
    };
    let charges = table("charges", &["id"], Generation::Current);
    let rows: Vec<Row> = (0..1_000).map(|id| row(id, "a")).collect();
    for page in rows.chunks(10) {
        assert_eq!(unchanged(&small(), &charges, page).await, 0);
    }
    let destination = small();
    assert_eq!(
        unchanged(&destination, &charges, &rows[950..]).await,
        50,
        "the newest are known"
    );
    assert_eq!(
        unchanged(&destination, &charges, &rows[..10]).await,
        0,
        "the oldest are not"
    );
    assert_eq!(
        unchanged(&destination, &charges, &[gone(500)]).await,
        0,
        "a tombstone of what may be there is stored"
    );
}

#[tokio::test]
async fn what_is_known_is_made_again_when_it_is_lost_or_damaged_or_lacks_what_tombstones_compare() {
    let dir = tempfile::tempdir().unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    let rows = [row(1, "a"), row(2, "b\n\"é"), row(3, ""), row(4, "c")];
    assert_eq!(
        unchanged(&destination(dir.path()).unwrap(), &charges, &rows).await,
        0
    );
    let cards = || -> Vec<PathBuf> {
        fs::read_dir(dir.path().join("_known/demo/charges"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    assert_eq!(cards().len(), 1);
    let whole = fs::read(&cards()[0]).unwrap();
    for damage in [
        whole[..whole.len() - 8].to_vec(),
        [&whole[..whole.len() - 1], b"x"].concat(),
        b"{}\n".to_vec(),
        Vec::new(),
    ] {
        fs::write(&cards()[0], damage).unwrap();
        assert_eq!(
            unchanged(&destination(dir.path()).unwrap(), &charges, &rows).await,
            4
        );
        assert_eq!(
            fs::read(&cards()[0]).unwrap(),
            whole,
            "the same from the file as from the batch"
        );
    }
    // The first tombstone of many makes it matter what the rows have in common, also of rows that
    // were stored before.
    let swept = [all_gone("c"), row(4, "c"), row(5, "d")];
    assert_eq!(
        unchanged(&destination(dir.path()).unwrap(), &charges, &swept).await,
        2
    );
    assert_eq!(
        unchanged(
            &destination(dir.path()).unwrap(),
            &charges,
            &[all_gone("a")]
        )
        .await,
        0
    );
    assert_eq!(
        unchanged(&destination(dir.path()).unwrap(), &charges, &rows).await,
        3,
        "the first was deleted"
    );
}

#[tokio::test]
async fn rows_are_not_left_out_because_of_what_another_process_has_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    let (left, right) = (
        destination(dir.path()).unwrap(),
        destination(dir.path()).unwrap(),
    );
    assert_eq!(unchanged(&left, &charges, &[row(1, "a")]).await, 0);
    let mut transaction = left.begin().await.unwrap();
    assert_eq!(
        transaction
            .write(&charges, batch(&charges, &[row(1, "a"), row(2, "a")]))
            .await
            .unwrap(),
        1
    );
    assert_eq!(unchanged(&right, &charges, &[row(1, "b")]).await, 0);
    let error = transaction
        .commit(&commit(vec![]))
        .await
        .expect_err("the newest version is another one now");
    assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
    assert_eq!(
        unchanged(&left, &charges, &[row(1, "a"), row(2, "a")]).await,
        0
    );
    assert_eq!(
        unchanged(&right, &charges, &[row(1, "a"), row(2, "a")]).await,
        2
    );
}

#[tokio::test]
async fn tables_whose_key_is_not_known_are_not_purged() {
    let dir = tempfile::tempdir().unwrap();
    let events = table("events", &[], Generation::Current);
    let destination = destination(dir.path()).unwrap();
    store(
        &destination,
        &[(&events, vec![row(1, "a"), gone(1)])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let purged = destination.purge(&purge(true)).await.unwrap();
    assert_eq!(
        (purged.tables[0].rows, &purged.tables[0].skipped),
        (0, &None),
        "rows without a key have no newer version"
    );
    assert_eq!(Lines.rows(&Scratch::at(dir.path()), &events).await.len(), 2);
}

/// Output that a test can look into, and that can fail.
#[derive(Clone, Default)]
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    closed: bool,
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.text.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_stream_gets_lines_when_they_are_committed() {
    let output = Output::default();
    let stream = WithCheckpoints::new(
        Arc::new(StreamDestination::new(output.clone())),
        Arc::new(MemoryCheckpoints::default()),
    );
    assert_eq!(stream.delivery(), Delivery::AtLeastOnce);
    let events = table("ev\"ents", &[], Generation::Current);
    let rows = [(&events, vec![row(1, "a\nb"), gone(2)])];
    store(&stream, &rows, &commit(vec![advance("events", 3)]))
        .await
        .expect_err("nothing is planned");
    let mut dropped = stream.begin().await.unwrap();
    dropped
        .write(&events, batch(&events, &[row(9, "dropped")]))
        .await
        .unwrap();
    drop(dropped);
    store(
        &stream,
        &[],
        &commit(vec![plan("events"), advance("events", 0)]),
    )
    .await
    .unwrap();
    assert_eq!(
        stream.load(&endpoint("events")).await.unwrap().slices.len(),
        1
    );
    let (synced, source) = (
        "\"_synced_at\":\"1970-01-01T00:00:00.000000Z\"",
        r#"{"source":"demo","stream":"ev\"ents","record":"#,
    );
    let expected = [
        format!("{source}{{\"id\":1,\"name\":\"a\\nb\",{synced},\"_deleted\":false}}}}\n"),
        format!("{source}{{\"id\":2,{synced},\"_deleted\":true}}}}\n"),
    ];
    assert_eq!(output.text(), expected.concat());
}

#[tokio::test]
async fn a_closed_stream_is_an_error() {
    let stream = StreamDestination::new(Output {
        closed: true,
        ..Output::default()
    });
    let events = table("events", &[], Generation::Current);
    let error = store(&stream, &[(&events, vec![row(1, "a")])], &commit(vec![]))
        .await
        .expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert!(error.help().is_some());
}

#[tokio::test]
async fn a_dash_is_standard_output() {
    let config: JsonlConfig = serde_json::from_str(r#"{"path":"-"}"#).unwrap();
    assert_eq!(config.location(), Location::Stdout);
    assert_eq!(
        config
            .open(OpenContext::default())
            .await
            .unwrap()
            .delivery(),
        Delivery::AtLeastOnce
    );
    let dir = tempfile::tempdir().unwrap();
    let config = JsonlConfig {
        path: dir.path().join("lines"),
        storage: None,
        compact: true,
        remember: 1_000,
    };
    assert_eq!(
        config
            .open(OpenContext::default())
            .await
            .unwrap()
            .delivery(),
        Delivery::ExactlyOnce
    );
    serde_json::from_str::<JsonlConfig>(r#"{"path":"-","compression":"gzip"}"#).unwrap_err();
}
