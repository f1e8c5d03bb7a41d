//! The manifest protocol with a format that a test controls; the formats' own crates run the conformance suite.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use destination_files::{Batches, FileDestination, FileFormat, FileWriter, Options, file_error};
use pipeline_core::state::{EndpointState, Position};
use pipeline_core::{Commit, Destination, ErrorKind, Generation, Result};
use pipeline_testkit::destination_suite::{advance, batch, commit, endpoint, plan, row, store, table};

/// Writes one line per row, until there is no room.
#[derive(Clone, Debug)]
struct Tally {
    room: Arc<AtomicU64>,
}

impl Tally {
    fn with_room(rows: u64) -> Self {
        Self { room: Arc::new(AtomicU64::new(rows)) }
    }
}

struct TallyWriter {
    file: File,
    room: Arc<AtomicU64>,
    buffered: u64,
    written: u64,
}

impl FileFormat for Tally {
    fn extension(&self) -> &'static str {
        "tally"
    }

    fn has_columns(&self) -> bool {
        false
    }

    fn read(&self, _: File) -> Result<Batches> {
        Ok(Box::new(std::iter::empty()))
    }

    fn begin(&self, file: File, _: &RecordBatch) -> Result<Box<dyn FileWriter>> {
        Ok(Box::new(TallyWriter { file, room: Arc::clone(&self.room), buffered: 0, written: 0 }))
    }
}

/// Bytes that a row pretends to take, so that a test reaches the limits with few.
const ROW_BYTES: u64 = 16 * 1024 * 1024;

impl FileWriter for TallyWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.buffered += batch.num_rows() as u64;
        Ok(())
    }

    fn buffered(&self) -> usize {
        usize::try_from(self.buffered * ROW_BYTES).unwrap()
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.buffered);
        let full = |error: io::Error| file_error("writing rows", error);
        let taken = self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(rows));
        taken.map_err(|_| full(io::ErrorKind::StorageFull.into()))?;
        self.written += rows * ROW_BYTES;
        self.file.write_all("row\n".repeat(usize::try_from(rows).unwrap()).as_bytes()).map_err(full)
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn finish(mut self: Box<Self>) -> Result<File> {
        self.flush()?;
        Ok(self.file)
    }
}

fn open(dir: &Path, tally: Tally) -> Result<FileDestination> {
    FileDestination::open(dir, tally, Options::default())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_full_disk_while_writing_or_finishing_loses_nothing() {
    // 20 rows exceed what may be buffered, so the room runs out while writing; 2 are only written at the end.
    for rows in [20, 2] {
        let dir = tempfile::tempdir().unwrap();
        let destination = open(dir.path(), Tally::with_room(rows)).unwrap();
        let events = table("events", &[], Generation::Current);
        let one = [(&events, vec![row(1, "a")])];
        store(&destination, &one, &commit(vec![plan("events")])).await.unwrap();
        let many = [(&events, vec![row(1, "a"); usize::try_from(rows).unwrap()])];
        let error = store(&destination, &many, &commit(vec![advance("events", 0)])).await.expect_err("there is no room");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Destination, "the disk is full"));
        assert!(error.help().is_some() && error.context_value("path").is_some(), "{error:?}");
        assert_eq!(names(&dir.path().join("_staging")), [""; 0]);
        assert_eq!(names(&dir.path().join("demo/events")), ["0000000001-0000.tally"]);
        assert_eq!(destination.load(&endpoint("events")).await.unwrap().slices[&0].position, Position::Start);
        store(&destination, &one, &commit(vec![advance("events", 0)])).await.unwrap();
    }
}

#[tokio::test]
async fn large_files_are_closed_and_buffers_stay_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Tally::with_room(u64::MAX)).unwrap();
    let tables = ["a", "b", "c"].map(|stream| table(stream, &[], Generation::Current));
    let mut transaction = destination.begin().await.unwrap();
    for index in 0..60 {
        let table = &tables[index % 3];
        transaction.write(table, batch(table, &[row(1, "a")])).await.unwrap();
    }
    transaction.commit(&commit(vec![])).await.unwrap();
    for table in &tables {
        let files = destination.files(&table.id()).unwrap();
        let rows: usize = files.iter().map(|path| fs::read_to_string(path).unwrap().lines().count()).sum();
        assert_eq!(rows, 20);
        assert!(files.len() > 1, "320 MiB are more than one file");
    }
}

#[tokio::test]
async fn a_conflict_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Tally::with_room(100)).unwrap();
    let events = table("events", &[], Generation::Current);
    let error = store(&destination, &[(&events, vec![row(1, "a")])], &commit(vec![advance("events", 3)])).await.expect_err("no plan");
    assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
    assert_eq!(names(&dir.path().join("_staging")), [""; 0]);
    assert_eq!(names(&dir.path().join("_manifest")), [""; 0]);
}

#[tokio::test]
async fn starting_reads_the_snapshot_and_what_came_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let destination =
        FileDestination::open(dir.path(), Tally::with_room(100), Options { snapshot_every: 4, ..Options::default() }).unwrap();
    let events = table("events", &[], Generation::Current);
    for _ in 0..10 {
        let commit = Commit { rows: vec![(events.id(), 1)], ..commit(vec![]) };
        store(&destination, &[(&events, vec![row(1, "a")])], &commit).await.unwrap();
    }
    drop(destination);
    // Commits before the snapshot at 8 are not needed for the rows, only for the log.
    for sequence in 1..=8 {
        fs::remove_file(dir.path().join(format!("_manifest/{sequence:010}.json"))).unwrap();
    }
    let destination = open(dir.path(), Tally::with_room(100)).unwrap();
    let status = destination.status(2).await.unwrap();
    assert_eq!(status.rows, [(events.id(), 10)]);
    assert_eq!(status.commits.iter().map(|commit| commit.sequence).collect::<Vec<_>>(), [10, 9]);
    let error = destination.status(3).await.expect_err("the log is cut");
    assert_eq!(error.message(), "a manifest is missing");
}

/// Written by version 1. Such files must be read for ever.
const MANIFEST_1: &str = include_str!("golden/0000000001.json");
const SNAPSHOT_1: &str = include_str!("golden/snapshot.json");
/// Written by version 2, which also knows the keys of tables and the rows that a refresh keeps.
const MANIFEST_2: &str = include_str!("golden/0000000001.v2.json");
const SNAPSHOT_2: &str = include_str!("golden/snapshot.v2.json");

#[tokio::test]
async fn files_of_every_version_are_read() {
    let manifests = [MANIFEST_1, MANIFEST_2].map(|content| ("0000000001.json", content));
    let snapshots = [SNAPSHOT_1, SNAPSHOT_2].map(|content| ("snapshot.json", content));
    for (name, content) in manifests.into_iter().chain(snapshots) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("_manifest")).unwrap();
        fs::create_dir_all(dir.path().join("demo/events")).unwrap();
        fs::write(dir.path().join("demo/events/0000000001-0000.tally"), "row\n").unwrap();
        fs::write(dir.path().join("_manifest").join(name), content).unwrap();
        let destination = open(dir.path(), Tally::with_room(1)).unwrap();
        let status = destination.status(0).await.unwrap();
        let events = table("events", &[], Generation::Current).id();
        assert_eq!(status.rows, [(events, 1)], "{name}");
        let mut state = EndpointState::default().next_plan();
        state.add_slice(pipeline_core::state::SliceState { position: Position::At("1".to_owned()), ..Default::default() });
        assert_eq!(status.endpoints, [(endpoint("events"), state)], "{name}");
    }
}

#[tokio::test]
async fn what_is_written_is_version_2() {
    let dir = tempfile::tempdir().unwrap();
    let destination = FileDestination::open(dir.path(), Tally::with_room(1), Options { snapshot_every: 1, ..Options::default() }).unwrap();
    let events = table("events", &[], Generation::Current);
    let changes = vec![plan("events"), advance("events", 0)];
    store(&destination, &[(&events, vec![row(1, "a")])], &commit(changes)).await.unwrap();
    for (name, golden) in [("0000000001.json", MANIFEST_2), ("snapshot.json", SNAPSHOT_2)] {
        let written = fs::read_to_string(dir.path().join("_manifest").join(name)).unwrap();
        assert_eq!(shape(&written), shape(golden), "the shape changed: raise VERSION and add a golden file");
    }
}

/// The text without the values of the random members, a staged name and the checksum that covers it.
fn shape(manifest: &str) -> String {
    let hidden = ["\"blake3\":\"", "\"staged\":\""].iter().fold(manifest.trim().to_owned(), |text, member| {
        let Some((before, after)) = text.split_once(member) else { return text };
        let (_, after) = after.split_once('"').unwrap();
        format!("{before}{member}…\"{after}")
    });
    assert!(hidden.contains("…"));
    hidden
}
