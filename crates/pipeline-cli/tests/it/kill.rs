//! A sync that is killed again and again loses nothing and writes nothing twice.
//!
//! `PIPELINE_KILL_CHARGES` and `PIPELINE_KILLS` make it larger; `PIPELINE_KILL_SEED` chooses other
//! moments.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use pipeline_simulator::Simulator;
use serde_json::Value;

use crate::support::{SQLITE, Sandbox, setting, stripe};

const STREAMS: [&str; 2] = ["charges", "customers"];

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_holds_each_record_once_however_often_the_sync_is_killed() {
    kill_and_resume(SQLITE, |sandbox, stream| {
        sandbox.ids(&format!("payments_{stream}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_holds_each_record_once_however_often_the_sync_is_killed() {
    kill_and_resume("type = \"parquet\"\npath = \"lake\"", |sandbox, stream| {
        file_ids(
            &sandbox.path(&format!("lake/payments/{stream}")),
            parquet_ids,
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jsonl_holds_each_record_once_however_often_the_sync_is_killed() {
    kill_and_resume("type = \"jsonl\"\npath = \"lake\"", |sandbox, stream| {
        file_ids(&sandbox.path(&format!("lake/payments/{stream}")), jsonl_ids)
    })
    .await;
}

async fn kill_and_resume(destination: &str, ids: impl Fn(&Sandbox, &str) -> Vec<String>) {
    let simulator = Simulator::start(stripe(setting("PIPELINE_KILL_CHARGES", 8_000), 400))
        .await
        .unwrap();
    let sandbox = Sandbox::new();
    sandbox.configure(&simulator, destination, &STREAMS);
    let mut random = fastrand::Rng::with_seed(setting("PIPELINE_KILL_SEED", 1));
    let kills = setting("PIPELINE_KILLS", 6);
    let mut hit = 0;
    for _ in 0..kills {
        let mut child = sandbox
            .command(&["sync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(random.u64(50..1_200))).await;
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        match ended {
            None => hit += 1,
            Some(status) => assert!(status.success(), "{status}"),
        }
        for stream in STREAMS {
            let (found, truth) = (ids(&sandbox, stream), simulator.truth().ids(stream));
            assert!(
                found.windows(2).all(|pair| pair[0] != pair[1]),
                "{stream} has a record twice after a kill"
            );
            assert!(found.iter().all(|id| truth.binary_search(id).is_ok()));
        }
    }
    assert!(
        kills == 0 || hit > 0,
        "no kill came before the end: raise PIPELINE_KILL_CHARGES"
    );
    sandbox.run(&["sync"]).ended_with(0);
    for stream in STREAMS {
        let (found, truth) = (ids(&sandbox, stream), simulator.truth().ids(stream));
        assert!(
            found == truth,
            "{stream}: {} rows instead of {}, after {hit} kills",
            found.len(),
            truth.len()
        );
    }
}

/// The ids in all files of a folder, sorted; none before the first commit.
fn file_ids(folder: &Path, read: fn(&Path) -> Vec<String>) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten();
    let mut ids: Vec<String> = files.flat_map(|file| read(&file.unwrap().path())).collect();
    ids.sort_unstable();
    ids
}

fn parquet_ids(file: &Path) -> Vec<String> {
    let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
    let columns = reader
        .metadata()
        .file_metadata()
        .schema_descr()
        .columns()
        .to_vec();
    let id = columns
        .iter()
        .position(|column| column.name() == "id")
        .unwrap();
    reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().get_string(id).unwrap().clone())
        .collect()
}

fn jsonl_ids(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let id = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    text.lines().map(id).collect()
}

#[test]
fn the_demo_kills_a_sync_of_three_vendors_and_proves_the_result() {
    let sandbox = Sandbox::new();
    let demo = sandbox.run(&["demo", "--charges", "3000"]).ended_with(0);
    for text in [
        "killed after",
        "every record is there exactly once",
        "REVENUE",
        "pipeline init",
    ] {
        assert!(demo.stdout.contains(text), "no `{text}`:\n{}", demo.text());
    }
    assert!(!demo.text().contains("chmod"), "{}", demo.text());
    let kept = rusqlite::Connection::open(sandbox.path("demo.db")).unwrap();
    let charges: i64 = kept
        .query_row("SELECT count(*) FROM payments_charges", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(charges, 3_000);
}

#[test]
fn the_demo_proves_other_destinations_and_refuses_used_ones() {
    for destination in ["ducklake", "parquet"] {
        let sandbox = Sandbox::new();
        let arguments = ["demo", "--charges", "1500", "--destination", destination];
        let demo = sandbox.run(&arguments).ended_with(0);
        let text = demo.text();
        assert!(
            text.contains("every record is there exactly once"),
            "{text}"
        );
        let again = sandbox.run(&arguments).ended_with(2);
        assert!(
            again
                .text()
                .contains("already contains a source `payments`"),
            "{}",
            again.text()
        );
    }
}

#[test]
fn the_demo_does_not_overwrite_a_file_that_is_not_its_own() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("demo.db"), "my own notes").unwrap();
    let refused = sandbox.run(&["demo"]).ended_with(2);
    assert!(
        refused
            .text()
            .contains("demo.db was not written by the demo"),
        "{}",
        refused.text()
    );
    assert_eq!(
        std::fs::read_to_string(sandbox.path("demo.db")).unwrap(),
        "my own notes"
    );
}
