//! The JSON Lines destination under the conformance suite, and its own rules.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use destination_files::FileDestination;
use destination_jsonl::{Jsonl, JsonlConfig, StreamDestination};
use pipeline_core::state::MemoryCheckpoints;
use pipeline_core::{Delivery, Destination, ErrorKind, Generation, Result, Table, WithCheckpoints};
use pipeline_testkit::destination_suite::{
    Damage, DestinationFixture, advance, canonical_object, commit, endpoint, gone, plan, row, store, table,
};

struct Lines;

fn destination(dir: &Path) -> Result<FileDestination> {
    FileDestination::open_with(dir, Jsonl, 4)
}

#[async_trait]
impl DestinationFixture for Lines {
    async fn open(&self, dir: &Path) -> Result<Box<dyn Destination>> {
        Ok(Box::new(destination(dir)?))
    }

    /// By a glob, which must agree with the manifests.
    fn rows(&self, dir: &Path, table: &Table) -> Vec<String> {
        let destination = destination(dir).unwrap();
        let folder = fs::read_dir(destination.folder(&table.id()));
        let mut files: Vec<PathBuf> = folder.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files, destination.files(&table.id()).unwrap());
        let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let mut rows: Vec<String> = text.lines().map(|line| canonical_object(serde_json::from_str(line).unwrap())).collect();
        rows.sort();
        rows
    }

    fn upserts(&self) -> bool {
        false
    }

    fn crash_points(&self) -> &[&'static str] {
        &["files-after-write", "files-before-manifest", "files-after-manifest", "files-replacing", "files-placing"]
    }

    fn damages(&self) -> &[Damage] {
        &[
            Damage { name: "an empty manifest", inflict: |dir| fs::write(dir.join("_manifest/0000000009.json"), "").unwrap() },
            Damage { name: "a lost data file", inflict: |dir| fs::remove_file(dir.join("demo/events/0000000001-0000.jsonl")).unwrap() },
        ]
    }
}

pipeline_testkit::destination_suite!(Lines);

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
    let stream = WithCheckpoints::new(StreamDestination::new(output.clone()), Arc::new(MemoryCheckpoints::default()));
    assert_eq!(stream.delivery(), Delivery::AtLeastOnce);
    let events = table("ev\"ents", &[], Generation::Current);
    let rows = [(&events, vec![row(1, "a\nb"), gone(2)])];
    store(&stream, &rows, &commit(vec![advance("events", 3)])).await.expect_err("nothing is planned");
    let mut dropped = stream.begin().await.unwrap();
    dropped.write(&events, pipeline_testkit::destination_suite::batch(&events, &[row(9, "dropped")])).await.unwrap();
    drop(dropped);
    store(&stream, &[], &commit(vec![plan("events"), advance("events", 0)])).await.unwrap();
    assert_eq!(stream.load(&endpoint("events")).await.unwrap().slices.len(), 1);
    let (synced, source) = ("\"_synced_at\":\"1970-01-01T00:00:00.000000Z\"", r#"{"source":"demo","stream":"ev\"ents","record":"#);
    let expected = [
        format!("{source}{{\"id\":1,\"name\":\"a\\nb\",{synced},\"_deleted\":false}}}}\n"),
        format!("{source}{{\"id\":2,{synced},\"_deleted\":true}}}}\n"),
    ];
    assert_eq!(output.text(), expected.concat());
}

#[tokio::test]
async fn a_closed_stream_is_an_error() {
    let stream = StreamDestination::new(Output { closed: true, ..Output::default() });
    let events = table("events", &[], Generation::Current);
    let error = store(&stream, &[(&events, vec![row(1, "a")])], &commit(vec![])).await.expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert!(error.help().is_some());
}

#[tokio::test]
async fn a_dash_is_standard_output() {
    let config: JsonlConfig = serde_json::from_str(r#"{"path":"-"}"#).unwrap();
    assert!(config.is_stdout());
    assert_eq!(config.open().unwrap().delivery(), Delivery::AtLeastOnce);
    let dir = tempfile::tempdir().unwrap();
    let config = JsonlConfig { path: dir.path().join("lines") };
    assert_eq!(config.open().unwrap().delivery(), Delivery::ExactlyOnce);
    serde_json::from_str::<JsonlConfig>(r#"{"path":"-","compression":"gzip"}"#).unwrap_err();
}
