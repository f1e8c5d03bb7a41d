//! The manifest protocol with a format that a test controls; the formats' own crates run the
//! conformance suite.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use destination_files::{
    Batches, FileDestination, FileFormat, FileWriter, Options, Output, file_error,
};
use pipeline_core::state::{EndpointState, Position};
use pipeline_core::{ErrorKind, Result};
use pipeline_engine::{Commit, Depth, Destination, Generation};
use pipeline_testkit::destination_suite::{
    advance, batch, commit, endpoint, plan, row, store, table,
};

/// Writes one line per row, until there is no room.
#[derive(Clone, Debug)]
struct Tally {
    room: Arc<AtomicU64>,
}

impl Tally {
    fn with_room(rows: u64) -> Self {
        Self {
            room: Arc::new(AtomicU64::new(rows)),
        }
    }
}

struct TallyWriter {
    file: Output,
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

    fn begin(&self, file: Output, _: &RecordBatch) -> Result<Box<dyn FileWriter>> {
        Ok(Box::new(TallyWriter {
            file,
            room: Arc::clone(&self.room),
            buffered: 0,
            written: 0,
        }))
    }
}

/// Bytes that a row pretends to take, so that a test reaches the limits with few.
const ROW_BYTES: u64 = 16 * 1024 * 1024;

impl FileWriter for TallyWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.buffered += batch.num_rows() as u64;
        Ok(())
    }

    fn output(&mut self) -> &mut Output {
        &mut self.file
    }

    fn buffered(&self) -> usize {
        usize::try_from(self.buffered * ROW_BYTES).unwrap()
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.buffered);
        let full = |error: io::Error| file_error("writing rows", error);
        let taken = self
            .room
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| {
                room.checked_sub(rows)
            });
        taken.map_err(|_| full(io::ErrorKind::StorageFull.into()))?;
        self.written += rows * ROW_BYTES;
        self.file
            .write_all("row\n".repeat(usize::try_from(rows).unwrap()).as_bytes())
            .map_err(full)
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn finish(mut self: Box<Self>) -> Result<Output> {
        self.flush()?;
        Ok(self.file)
    }
}

fn open(dir: &Path, tally: Tally) -> Result<FileDestination> {
    FileDestination::open(dir, tally, Options::default())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_full_disk_while_writing_or_finishing_loses_nothing() {
    // 20 rows exceed what may be buffered, so the room runs out while writing; 2 are only written
    // at the end.
    for rows in [20, 2] {
        let dir = tempfile::tempdir().unwrap();
        let destination = open(dir.path(), Tally::with_room(rows)).unwrap();
        let events = table("events", &[], Generation::Current);
        let one = [(&events, vec![row(1, "a")])];
        store(&destination, &one, &commit(vec![plan("events")]))
            .await
            .unwrap();
        let many = [(&events, vec![row(1, "a"); usize::try_from(rows).unwrap()])];
        let error = store(&destination, &many, &commit(vec![advance("events", 0)]))
            .await
            .expect_err("there is no room");
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Destination, "the disk is full")
        );
        assert!(
            error.help().is_some() && error.context_value("path").is_some(),
            "{error:?}"
        );
        assert_eq!(names(&dir.path().join("_staging")), [""; 0]);
        assert_eq!(names(&dir.path().join("demo/events")).len(), 1);
        assert_eq!(
            destination.load(&endpoint("events")).await.unwrap().slices[&0].position,
            Position::Start
        );
        store(&destination, &one, &commit(vec![advance("events", 0)]))
            .await
            .unwrap();
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
        transaction
            .write(table, batch(table, &[row(1, "a")]))
            .await
            .unwrap();
    }
    transaction.commit(&commit(vec![])).await.unwrap();
    for table in &tables {
        let files = destination.files(&table.id()).unwrap();
        let rows: usize = files
            .iter()
            .map(|path| fs::read_to_string(path).unwrap().lines().count())
            .sum();
        assert_eq!(rows, 20);
        assert!(files.len() > 1, "320 MiB are more than one file");
    }
}

#[tokio::test]
async fn a_conflict_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(dir.path(), Tally::with_room(100)).unwrap();
    let events = table("events", &[], Generation::Current);
    let error = store(
        &destination,
        &[(&events, vec![row(1, "a")])],
        &commit(vec![advance("events", 3)]),
    )
    .await
    .expect_err("no plan");
    assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
    assert_eq!(names(&dir.path().join("_staging")), [""; 0]);
    assert_eq!(names(&dir.path().join("_manifest")), [""; 0]);
}

#[tokio::test]
async fn starting_reads_the_snapshot_and_what_came_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let destination = FileDestination::open(
        dir.path(),
        Tally::with_room(100),
        Options {
            snapshot_every: 4,
            ..Options::default()
        },
    )
    .unwrap();
    let events = table("events", &[], Generation::Current);
    for _ in 0..10 {
        let commit = Commit {
            rows: vec![(events.id(), 1)],
            ..commit(vec![])
        };
        store(&destination, &[(&events, vec![row(1, "a")])], &commit)
            .await
            .unwrap();
    }
    drop(destination);
    // Commits before the snapshot at 8 are not needed for the rows, only for the log.
    for sequence in 1..=8 {
        fs::remove_file(dir.path().join(format!("_manifest/{sequence:010}.json"))).unwrap();
    }
    let destination = open(dir.path(), Tally::with_room(100)).unwrap();
    let status = destination.status(2).await.unwrap();
    assert_eq!(status.rows, [(events.id(), 10)]);
    assert_eq!(
        status
            .commits
            .iter()
            .map(|commit| commit.sequence)
            .collect::<Vec<_>>(),
        [10, 9]
    );
    let error = destination.status(3).await.expect_err("the log is cut");
    assert_eq!(error.message(), "a manifest is missing");
}

/// The same format under another name.
#[derive(Debug)]
struct Other(Tally);

impl FileFormat for Other {
    fn extension(&self) -> &'static str {
        "other"
    }

    fn has_columns(&self) -> bool {
        self.0.has_columns()
    }

    fn read(&self, file: File) -> Result<Batches> {
        self.0.read(file)
    }

    fn begin(&self, file: Output, first: &RecordBatch) -> Result<Box<dyn FileWriter>> {
        self.0.begin(file, first)
    }
}

#[tokio::test]
async fn a19_a_folder_of_another_format_is_refused() {
    let with_rows = [("events", vec![row(1, "a")])];
    for rows in [&with_rows[..], &[]] {
        let dir = tempfile::tempdir().unwrap();
        let events = table("events", &[], Generation::Current);
        let writes: Vec<_> = rows
            .iter()
            .map(|(_, rows)| (&events, rows.clone()))
            .collect();
        store(
            &open(dir.path(), Tally::with_room(9)).unwrap(),
            &writes,
            &commit(vec![plan("events")]),
        )
        .await
        .unwrap();
        for open in [FileDestination::open, FileDestination::open_to_read] {
            let error = open(dir.path(), Other(Tally::with_room(9)), Options::default())
                .expect_err("it holds other files");
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(
                error.message().contains("tally files")
                    && error.help().unwrap().contains("\"tally\""),
                "{error:?}"
            );
        }
        open(dir.path(), Tally::with_room(9)).unwrap();
    }
    // Older releases did not name the format, but the files do.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("_manifest")).unwrap();
    fs::write(dir.path().join("_manifest/0000000001.json"), MANIFEST_1).unwrap();
    let error = FileDestination::open(dir.path(), Other(Tally::with_room(9)), Options::default())
        .expect_err("it holds other files");
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
}

#[tokio::test]
async fn a15_whoever_holds_the_folder_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Tally::with_room(9)).unwrap());
    let held = File::options()
        .read(true)
        .write(true)
        .open(dir.path().join("_lock"))
        .unwrap();
    held.lock().unwrap();
    fs::write(
        dir.path().join("_lock"),
        r#"{"process":4711,"since":"2026-11-30 12:00:00 UTC"}"#,
    )
    .unwrap();
    let hasty = || {
        FileDestination::open(
            dir.path(),
            Tally::with_room(9),
            Options {
                patience: Duration::from_millis(100),
                ..Options::default()
            },
        )
    };
    let error = hasty().expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
    assert!(
        error
            .message()
            .contains("process 4711 has held the folder since 2026-11-30 12:00:00 UTC"),
        "{error:?}"
    );
    FileDestination::open_to_read(dir.path(), Tally::with_room(9), Options::default())
        .expect("reading needs no lock");
    drop(held);
    hasty().unwrap();
}

#[test]
fn f12_too_many_open_files_are_not_taken_for_a_broken_disk() {
    let error = file_error("writing rows", io::Error::from_raw_os_error(24));
    assert_eq!(error.message(), "too many files are open");
    assert!(error.help().unwrap().contains("ulimit -n"));
}

/// Written by version 1. Such files must be read for ever.
const MANIFEST_1: &str = include_str!("golden/0000000001.json");
const SNAPSHOT_1: &str = include_str!("golden/snapshot.json");
/// Written by version 2, which also knows the keys of tables and the rows that a refresh keeps.
const MANIFEST_2: &str = include_str!("golden/0000000001.v2.json");
const SNAPSHOT_2: &str = include_str!("golden/snapshot.v2.json");
/// Written by version 3, which also knows the format and a hash of each file, whose names have a
/// random part.
const MANIFEST_3: &str = include_str!("golden/0000000001.v3.json");
const SNAPSHOT_3: &str = include_str!("golden/snapshot.v3.json");

#[tokio::test]
async fn files_of_every_version_are_read() {
    for (manifest, snapshot) in [
        (MANIFEST_1, SNAPSHOT_1),
        (MANIFEST_2, SNAPSHOT_2),
        (MANIFEST_3, SNAPSHOT_3),
    ] {
        for with_snapshot in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("_manifest")).unwrap();
            fs::create_dir_all(dir.path().join("demo/events")).unwrap();
            let (_, name) = manifest.split_once("\"file\":{\"name\":\"").unwrap();
            let (name, _) = name.split_once('"').unwrap();
            fs::write(dir.path().join("demo/events").join(name), "row\n").unwrap();
            fs::write(dir.path().join("_manifest/0000000001.json"), manifest).unwrap();
            if with_snapshot {
                fs::write(dir.path().join("_manifest/snapshot.json"), snapshot).unwrap();
            }
            let destination = open(dir.path(), Tally::with_room(1)).unwrap();
            let status = destination.status(0).await.unwrap();
            let events = table("events", &[], Generation::Current).id();
            assert_eq!(status.rows, [(events.clone(), 1)], "{name}");
            assert_eq!(
                destination.files(&events).unwrap(),
                [dir.path().join("demo/events").join(name)]
            );
            assert_eq!(destination.verify(Depth::Shape).await.unwrap(), []);
            let mut state = EndpointState::default().next_plan();
            state.add_slice(pipeline_core::state::SliceState {
                position: Position::At("1".to_owned()),
                ..Default::default()
            });
            assert_eq!(status.endpoints, [(endpoint("events"), state)], "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_written_is_version_3() {
    let dir = tempfile::tempdir().unwrap();
    let destination = FileDestination::open(
        dir.path(),
        Tally::with_room(1),
        Options {
            snapshot_every: 1,
            ..Options::default()
        },
    )
    .unwrap();
    let events = table("events", &[], Generation::Current);
    let changes = vec![plan("events"), advance("events", 0)];
    store(
        &destination,
        &[(&events, vec![row(1, "a")])],
        &commit(changes),
    )
    .await
    .unwrap();
    for (name, golden) in [
        ("0000000001.json", MANIFEST_3),
        ("snapshot.json", SNAPSHOT_3),
    ] {
        let written = fs::read_to_string(dir.path().join("_manifest").join(name)).unwrap();
        assert_eq!(
            shape(&written),
            shape(golden),
            "the shape changed: raise VERSION and add a golden file"
        );
    }
}

/// The text without the values of random members, names of files and the checksum that covers them,
/// and without the version of states, which has golden files of its own.
fn shape(manifest: &str) -> String {
    let mut shape = String::new();
    let mut rest = manifest.trim();
    let members = [
        "\"blake3\":\"",
        "\"staged\":\"",
        "\"name\":\"",
        "\"state_version\":",
        "\"version\":2,\"plan\"",
        "\"version\":3,\"plan\"",
    ];
    while let Some((start, member)) = members
        .iter()
        .filter_map(|member| Some((rest.find(member)?, member)))
        .min()
    {
        shape.push_str(&rest[..start]);
        rest = &rest[start + member.len()..];
        if let Some(name) = member.strip_suffix('"').filter(|name| name.ends_with(':')) {
            shape.push_str(name);
            rest = rest.split_once('"').unwrap().1;
        } else if member.ends_with(':') {
            shape.push_str(member);
            rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        } else {
            shape.push_str("\"version\":…,\"plan\"");
        }
    }
    assert!(!shape.is_empty());
    shape + rest
}

#[tokio::test]
async fn a13_a_file_that_no_commit_names_is_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let events = table("events", &[], Generation::Current);
    let one = [(&events, vec![row(1, "a")])];
    let destination = open(dir.path(), Tally::with_room(9)).unwrap();
    store(&destination, &one, &commit(vec![])).await.unwrap();
    drop(destination);
    let folder = dir.path().join("demo/events");
    let reported = async || {
        let reading =
            FileDestination::open_to_read(dir.path(), Tally::with_room(9), Options::default())
                .unwrap();
        reading.verify(Depth::Shape).await.unwrap()
    };
    // What nobody takes for the table's is nobody's concern.
    for name in [
        "compacted.tally",
        "0000000001-000009-aaaaaaaaaaaa.bak",
        "notes.txt",
    ] {
        fs::write(folder.join(name), "row\n").unwrap();
    }
    assert_eq!(reported().await, []);
    let copies = [
        "0000000001-000009-aaaaaaaaaaaa.tally",
        "0000000001-000010-aaaaaaaaaaaa.tally",
    ]
    .map(|name| folder.join(name));
    for (copy, text) in copies.iter().zip([
        "000009-aaaaaaaaaaaa.tally: who reads",
        "000009-aaaaaaaaaaaa.tally, nor another file",
    ]) {
        fs::copy(destination_file(&folder), copy).unwrap();
        let found = reported().await;
        let [damage] = &*found else {
            panic!("{found:?}")
        };
        assert!(
            damage.table == Some(events.id())
                && damage.what.contains(text)
                && damage.help.contains("move out"),
            "{damage:?}"
        );
    }
    // Whoever writes goes on, and removes nothing.
    let destination = open(dir.path(), Tally::with_room(9)).unwrap();
    assert_eq!(destination.verify(Depth::Shape).await.unwrap(), []);
    store(&destination, &one, &commit(vec![])).await.unwrap();
    assert_eq!((reported().await.len(), names(&folder).len()), (1, 7));
    for copy in copies {
        fs::remove_file(copy).unwrap();
    }
    assert_eq!(reported().await, []);
}

/// The only data file that was committed.
fn destination_file(folder: &Path) -> std::path::PathBuf {
    let is_ours = |name: &&String| {
        name.starts_with("0000000001-000000-") || name.starts_with("0000000001-000001-")
    };
    folder.join(
        names(folder)
            .iter()
            .find(is_ours)
            .expect("it was committed"),
    )
}
