//! Processes that are killed at random moments while two of them race; then DuckDB compares rows and
//! checkpoint.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use destination_ducklake::DucklakeDestination;
use pipeline_core::state::Position;
use pipeline_engine::{Depth, Destination as _, Generation};
use pipeline_testkit::destination_suite::{
    Row, advance, commit, endpoint, gone, plan, row, store, table,
};

use crate::config;
use crate::duckdb::run;

const FOLDER: &str = "PIPELINE_LAKE_FOLDER";
/// How many kills there are; the variable asks for more.
const KILLS: &str = "PIPELINE_LAKE_KILLS";

/// The rows of a page.
fn page(number: i64) -> Vec<Row> {
    vec![
        row(number, format!("new {number}")),
        row(number / 2, format!("changed by {number}")),
        gone(number / 3),
    ]
}

async fn done(destination: &DucklakeDestination) -> Option<usize> {
    let state = destination.load(&endpoint("charges")).await.unwrap();
    Some(match &state.slices.get(&0)?.position {
        Position::At(page) => page.parse().unwrap(),
        _ => 0,
    })
}

/// Commits pages until somebody kills the process.
async fn write_for_ever(dir: &Path) {
    let destination = DucklakeDestination::open(config(dir)).unwrap();
    let (charges, events) = (
        table("charges", &["id"], Generation::Current),
        table("events", &[], Generation::Current),
    );
    loop {
        let (rows, change) = match done(&destination).await {
            None => (Vec::new(), plan("charges")),
            Some(number) => {
                let id = i64::try_from(number).unwrap();
                (
                    vec![(&charges, page(id)), (&events, vec![row(id, "e")])],
                    advance("charges", number),
                )
            }
        };
        // The other one may have been first, or may be writing.
        let _ = store(&destination, &rows, &commit(vec![change])).await;
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "kills::killed_at_random_rows_and_checkpoint_agree",
            "--exact",
            "--nocapture",
        ])
        .env(FOLDER, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn killed_at_random_rows_and_checkpoint_agree() {
    if let Ok(dir) = std::env::var(FOLDER) {
        write_for_ever(Path::new(&dir)).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // So that there is something to read, however early the first kill comes.
    let destination = DucklakeDestination::open(config(dir.path())).unwrap();
    let tables = [
        table("charges", &["id"], Generation::Current),
        table("events", &[], Generation::Current),
    ];
    destination.prepare(&tables).await.unwrap();
    drop(destination);
    let kills: u64 = std::env::var(KILLS).map_or(12, |kills| kills.parse().unwrap());
    for kill in 0..kills {
        let mut writers = [spawn(dir.path()), spawn(dir.path())];
        tokio::time::sleep(Duration::from_millis(150 + kill * 97 % 400)).await;
        for writer in &mut writers {
            writer.kill().unwrap();
            assert_eq!(
                writer.wait().unwrap().signal(),
                Some(9),
                "it failed by itself"
            );
        }
        let Some(found) = run(
            dir.path(),
            &[
                "SELECT id, name FROM demo_charges ORDER BY id",
                "SELECT count(*), count(DISTINCT id) FROM demo_events",
            ],
        ) else {
            println!("skipped: kills: DuckDB and its extensions are not installed");
            return;
        };
        let destination = DucklakeDestination::open(config(dir.path())).unwrap();
        let pages = done(&destination).await.unwrap_or_default();
        let mut wanted = BTreeMap::new();
        for number in 0..i64::try_from(pages).unwrap() {
            wanted.insert(number, format!("new {number}"));
            wanted.insert(number / 2, format!("changed by {number}"));
            wanted.remove(&(number / 3));
        }
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|(id, name)| vec![Some(id.to_string()), Some(name)])
            .collect();
        assert_eq!(found[0], wanted, "after {pages} pages");
        assert_eq!(found[1], [vec![Some(pages.to_string()); 2]]);
        assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    }
    let destination = DucklakeDestination::open(config(dir.path())).unwrap();
    let pages = done(&destination).await;
    println!("{kills} kills of two writers, {pages:?} pages");
    assert!(pages > Some(0), "they came to nothing");
}
