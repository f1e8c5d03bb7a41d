//! What destinations that publish files by manifests must do when the files were changed from
//! outside.
#![allow(missing_docs, reason = "the names say it")]

use std::collections::BTreeMap;
use std::time::SystemTime;

use pipeline_core::RunRecord;
use pipeline_core::state::{CheckpointDelta, Seen};

use super::*;

mod damaged;
mod manifests;
mod reading;

pub use self::damaged::*;
pub use self::manifests::*;
pub use self::reading::*;

/// A destination of files.
#[async_trait]
pub trait FileFixture: DestinationFixture {
    /// Opens the destination in a folder to read it.
    async fn open_to_read(&self, dir: &Path) -> Result<Box<dyn Destination>>;

    /// What the names of data files end in, without the dot.
    fn extension(&self) -> &'static str;
}

/// Generates the tests for a fixture, an expression.
#[macro_export]
macro_rules! file_suite {
    ($fixture:expr) => {
        $crate::file_suite!(@rules $fixture;
            a4_lost_manifests_are_an_error_and_never_an_empty_state,
            a4_names_are_never_given_twice,
            a6_what_cannot_be_moved_is_not_committed,
            a12_a_damaged_file_is_found_and_keeps_only_its_table_from_being_written,
            a12_a_damaged_table_is_replaced_by_a_refresh,
            a12_a_file_of_a_refresh_that_is_lost_is_not_published,
            a12_other_bytes_of_the_same_length_are_found_by_reading,
            a18_opening_to_read_changes_nothing,
            a18_what_is_not_settled_is_shown_as_if_it_were,
            a18_files_of_others_are_left_alone,
            b1_what_was_seen_at_the_border_is_kept,
            f08_a_source_is_claimed_once,
            a_damaged_record_of_a_run_is_skipped,
            a6_committed_files_that_cannot_be_moved_are_found_by_reading,
        );
        $crate::file_suite!(@respawned $fixture;
            f03_a_full_disk_is_never_a_commit,
            f04_a_failing_call_is_never_a_commit,
            f12_many_tables_need_few_open_files,
        );
    };
    (@rules $fixture:expr; $($rule:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $rule() {
            $crate::destination_suite::files::$rule(&$fixture).await;
        })*
    };
    (@respawned $fixture:expr; $($rule:ident),* $(,)?) => {
        $(#[cfg(unix)]
        #[tokio::test]
        async fn $rule() {
            $crate::failing::$rule(&$fixture, concat!(module_path!(), "::", stringify!($rule))).await;
        })*
    };
}

async fn open(fixture: &dyn FileFixture, dir: &Path) -> Box<dyn Destination> {
    fixture.open(&Scratch::at(dir)).await.unwrap()
}

async fn shown(fixture: &dyn FileFixture, dir: &Path, table: &Table) -> Vec<String> {
    super::shown(fixture, &Scratch::at(dir), table).await
}

fn current(stream: &str) -> Arc<Table> {
    table(stream, &["id"], Generation::Current)
}

/// Commits a row to each of some tables, by an endpoint with the table's name.
async fn store_page(destination: &dyn Destination, page: usize, streams: &[&str]) -> Result<()> {
    for stream in streams {
        let advance = advance(stream, page);
        let changes = if page == 0 {
            vec![plan(stream), advance]
        } else {
            vec![advance]
        };
        let id = i64::try_from(page).unwrap();
        store(
            destination,
            &[(&current(stream), vec![row(id, "a")])],
            &commit(changes),
        )
        .await?;
    }
    Ok(())
}

async fn position(destination: &dyn Destination, stream: &str) -> Position {
    destination.load(&endpoint(stream)).await.unwrap().slices[&0]
        .position
        .clone()
}

/// The data files of a table of the source `demo`, as a pattern finds them.
fn data_files(fixture: &dyn FileFixture, dir: &Path, stream: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("demo").join(stream))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|found| found == fixture.extension())
        })
        .collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
}

/// Every file with its content and the time at which it was written.
fn picture(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let looked_at = |path: PathBuf| {
        let (content, metadata) = (fs::read(&path).unwrap(), path.metadata().unwrap());
        (path, (content, metadata.modified().unwrap()))
    };
    files(dir).into_iter().map(looked_at).collect()
}

fn assert_explained(error: &pipeline_core::Error, words: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::Destination, "{error:?}");
    let told = format!("{error} {}", error.help().unwrap_or_default());
    for word in words {
        assert!(told.contains(word), "{word} is not in: {told}");
    }
}

pub async fn b1_what_was_seen_at_the_border_is_kept(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    let mut page = advance("charges", 0);
    let CheckpointDelta::Advance { seen, .. } = &mut page else {
        unreachable!("it is an advance")
    };
    *seen = vec![(
        4_711,
        Seen {
            content: 7,
            at: 1_700_000_000,
        },
    )];
    store(
        &*destination,
        &[],
        &commit(vec![plan("charges"), page.clone()]),
    )
    .await
    .unwrap();
    let log = destination.status(1).await.unwrap().commits;
    assert_eq!(
        log[0].changes[1],
        page.without_boundary(),
        "the log is without it"
    );
    drop(destination);
    let state = open(fixture, dir.path())
        .await
        .load(&endpoint("charges"))
        .await
        .unwrap();
    assert_eq!(state.boundary.keys().copied().collect::<Vec<_>>(), [4_711]);
}

pub async fn f08_a_source_is_claimed_once(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (
        open(fixture, dir.path()).await,
        open(fixture, dir.path()).await,
    );
    for source in ["demo", "../strange ü"] {
        let claim = first.claim(source, "run-1").await.unwrap();
        let error = second
            .claim(source, "run-2")
            .await
            .expect_err("it is claimed");
        assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
        let told = error.to_string();
        let process = format!("process {}, run run-1", std::process::id());
        assert!(
            told.contains(&format!("another sync has been reading `{source}` since 2"))
                && told.contains(&process),
            "{told}"
        );
        let other = second.claim("other", "run-2").await.unwrap();
        drop(claim);
        drop((second.claim(source, "run-2").await.unwrap(), other));
    }
}

pub async fn a_damaged_record_of_a_run_is_skipped(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    let started = |second: i64| {
        let at = chrono::DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap();
        RunRecord::started(format!("run-{second}"), at, vec!["demo".to_owned()])
    };
    for second in [2, 1, 0] {
        destination.record_run(&started(second)).await.unwrap();
    }
    let damaged = files(&dir.path().join("_runs"))
        .into_iter()
        .find(|path| path.to_str().unwrap().contains("run-1"))
        .unwrap();
    fs::write(damaged, "{").unwrap();
    let reading = fixture.open_to_read(dir.path()).await.unwrap();
    assert_eq!(reading.runs(9).await.unwrap(), [started(2), started(0)]);
    destination.record_run(&started(1)).await.unwrap();
    assert_eq!(reading.runs(2).await.unwrap(), [started(2), started(1)]);
}
