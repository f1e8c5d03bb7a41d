//! What destinations must do that publish files by manifests, when somebody else has been at the
//! files.
#![allow(missing_docs, reason = "the names say it")]

use std::collections::BTreeMap;
use std::time::SystemTime;

use pipeline_core::RunRecord;
use pipeline_core::state::{Change, Seen};
use pipeline_engine::Depth;

use super::*;

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

// ---- lost manifests ----

/// Loses manifests of a folder, of which there is an older copy.
type Loss = fn(&Path, &Path);

/// Ways to lose manifests. Each table has files of the commits before and after the moment of the
/// copy.
fn losses() -> Vec<(&'static str, Loss)> {
    fn remove(dir: &Path, names: impl Fn(&str) -> bool) {
        for path in files(&dir.join("_manifest")) {
            if names(path.file_name().unwrap().to_str().unwrap()) {
                fs::remove_file(path).unwrap();
            }
        }
    }
    vec![
        ("the folder is gone", |dir, _| {
            fs::remove_dir_all(dir.join("_manifest")).unwrap();
        }),
        ("the folder is empty", |dir, _| remove(dir, |_| true)),
        ("only the snapshot is left", |dir, _| {
            remove(dir, |name| name != "snapshot.json");
        }),
        ("the newest is gone", |dir, _| {
            remove(dir, |name| name == "0000000014.json");
        }),
        ("all since the snapshot are gone", |dir, _| {
            remove(dir, |name| {
                name.starts_with("000000001") && name > "0000000012"
            });
        }),
        ("one in the middle is gone", |dir, _| {
            remove(dir, |name| name == "0000000013.json");
        }),
        ("an older copy was put back", |dir, older| {
            fs::remove_dir_all(dir.join("_manifest")).unwrap();
            copy(&older.join("_manifest"), &dir.join("_manifest"));
        }),
        ("names that begin with _ were not copied", |dir, _| {
            for name in ["_manifest", "_staging", "_known"] {
                fs::remove_dir_all(dir.join(name)).unwrap();
            }
            fs::remove_file(dir.join("_lock")).unwrap();
        }),
    ]
}

pub async fn a4_lost_manifests_are_an_error_and_never_an_empty_state(fixture: &dyn FileFixture) {
    for (loss, inflict) in losses() {
        let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let destination = open(fixture, dir.path()).await;
        for page in 0..6 {
            store_page(&*destination, page, &["charges", "refunds"])
                .await
                .unwrap();
        }
        copy(dir.path(), older.path());
        // A table that the older copy does not know.
        store_page(&*destination, 0, &["disputes"]).await.unwrap();
        store_page(&*destination, 1, &["disputes"]).await.unwrap();
        drop(destination);
        inflict(dir.path(), older.path());
        let before = data(dir.path());
        for _ in 0..2 {
            let error = fixture
                .open(&Scratch::at(dir.path()))
                .await
                .expect_err(loss);
            assert_explained(&error, &["manifest", "backup", "move"]);
            let error = fixture.open_to_read(dir.path()).await.expect_err(loss);
            assert_explained(&error, &["manifest", "backup", "move"]);
        }
        assert_eq!(
            data(dir.path()),
            before,
            "{loss}: a file of a table is gone"
        );
    }
    // A whole copy is what it was.
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let destination = open(fixture, dir.path()).await;
    store_page(&*destination, 0, &["charges"]).await.unwrap();
    copy(dir.path(), older.path());
    store_page(&*destination, 1, &["charges"]).await.unwrap();
    let copied = open(fixture, older.path()).await;
    store_page(&*copied, 1, &["charges"]).await.unwrap();
    assert_eq!(
        shown(fixture, older.path(), &current("charges")).await,
        ["0=a", "1=a"]
    );
}

/// The data files of all tables.
fn data(dir: &Path) -> Vec<PathBuf> {
    if dir.join("demo").exists() {
        files(&dir.join("demo"))
    } else {
        Vec::new()
    }
}

pub async fn a4_names_are_never_given_twice(fixture: &dyn FileFixture) {
    let mut names = Vec::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        store_page(&*open(fixture, dir.path()).await, 0, &["charges"])
            .await
            .unwrap();
        names.push(
            data_files(fixture, dir.path(), "charges")[0]
                .file_name()
                .unwrap()
                .to_owned(),
        );
    }
    assert_ne!(names[0], names[1], "two files of the first commit");
}

// ---- files that cannot be moved ----

pub async fn a6_what_cannot_be_moved_is_not_committed(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    store_page(&*destination, 0, &["refunds"]).await.unwrap();
    // Nobody, not even the superuser, can move a file into a file.
    fs::write(dir.path().join("demo/charges"), "").unwrap();
    let error = store_page(&*destination, 0, &["charges"])
        .await
        .expect_err("no reader sees it");
    assert_explained(&error, &["charges", "cannot be moved", "run again"]);
    assert_eq!(
        data_files(fixture, dir.path(), "charges"),
        Vec::<PathBuf>::new()
    );
    store_page(&*destination, 1, &["charges"])
        .await
        .expect_err("the earlier commit is still not seen");
    store_page(&*destination, 1, &["refunds"])
        .await
        .expect("another table is not concerned");
    let damage = destination.verify(Depth::Shape).await.unwrap();
    assert_eq!(
        damage
            .iter()
            .map(|damage| damage.table.clone().unwrap().stream)
            .collect::<Vec<_>>(),
        ["charges"],
        "{damage:?}"
    );
    drop(destination);

    let destination = open(fixture, dir.path()).await;
    destination
        .prepare(&[current("charges")])
        .await
        .expect_err("the next run cannot move it either");
    destination.prepare(&[current("refunds")]).await.unwrap();
    assert_eq!(destination.status(0).await.unwrap().rows.len(), 2);
    fs::remove_file(dir.path().join("demo/charges")).unwrap();
    destination
        .prepare(&[current("charges")])
        .await
        .expect("the run after it can");
    assert_eq!(data_files(fixture, dir.path(), "charges").len(), 1);
    store_page(&*destination, 1, &["charges"]).await.unwrap();
    assert_eq!(
        shown(fixture, dir.path(), &current("charges")).await,
        ["0=a", "1=a"]
    );
}

// ---- damaged files ----

type Inflict = fn(&Path);

/// Ways to damage a data file so that its size tells.
const DAMAGES: [(&str, Inflict); 4] = [
    ("has", |path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("has 0 bytes", |path| fs::write(path, "").unwrap()),
    ("is missing", |path| fs::remove_file(path).unwrap()),
    ("is not a file", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
];

/// Three pages of two tables, of which one has a damaged file.
async fn damaged(fixture: &dyn FileFixture, dir: &Path, inflict: Inflict) {
    let destination = open(fixture, dir).await;
    for page in 0..3 {
        store_page(&*destination, page, &["charges", "refunds"])
            .await
            .unwrap();
    }
    drop(destination);
    inflict(&data_files(fixture, dir, "charges")[1]);
}

pub async fn a12_a_damaged_file_is_found_and_keeps_only_its_table_from_being_written(
    fixture: &dyn FileFixture,
) {
    for (what, inflict) in DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        damaged(fixture, dir.path(), inflict).await;
        let before = files(dir.path());
        let reading = fixture.open_to_read(dir.path()).await.unwrap();
        let destination = open(fixture, dir.path()).await;
        let ways_out = [
            "pipeline sync demo --full-refresh --streams charges",
            "backup",
        ];
        for destination in [&reading, &destination] {
            let damage = destination.verify(Depth::Shape).await.unwrap();
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert_eq!(damage[0].table, Some(current("charges").id()));
            assert!(damage[0].what.contains(what), "{damage:?}");
            assert!(
                ways_out.iter().all(|way| damage[0].help.contains(way)),
                "{damage:?}"
            );
            assert_eq!(
                position(&**destination, "charges").await,
                Position::At("3".to_owned())
            );
            assert_eq!(destination.status(10).await.unwrap().commits.len(), 6);
        }
        assert_eq!(
            files(dir.path()),
            before,
            "nothing is removed that may be needed"
        );

        let explained = |error: &pipeline_core::Error| {
            assert_explained(error, &["charges", what, ways_out[0], ways_out[1]]);
        };
        explained(
            &destination
                .prepare(&[current("charges")])
                .await
                .expect_err(what),
        );
        explained(
            &store_page(&*destination, 3, &["charges"])
                .await
                .expect_err(what),
        );
        let events = table("charges", &[], Generation::Current);
        explained(
            &store(
                &*destination,
                &[(&events, vec![row(7, "a")])],
                &commit(vec![]),
            )
            .await
            .expect_err(what),
        );
        destination.prepare(&[current("refunds")]).await.unwrap();
        store_page(&*destination, 3, &["refunds"])
            .await
            .expect("another table is not concerned");
        let state = destination.load(&endpoint("charges")).await.unwrap();
        let reset = Change::Replace {
            endpoint: endpoint("charges"),
            from: state,
            to: EndpointState::default(),
        };
        store(&*destination, &[], &commit(vec![reset]))
            .await
            .expect("a checkpoint can be reset");
        assert_eq!(
            position(&*destination, "refunds").await,
            Position::At("4".to_owned())
        );
    }
    // While a sync runs, too.
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    store_page(&*destination, 0, &["charges", "refunds"])
        .await
        .unwrap();
    fs::remove_dir_all(dir.path().join("demo/charges")).unwrap();
    store_page(&*destination, 1, &["refunds"]).await.unwrap();
    assert_explained(
        &store_page(&*destination, 1, &["charges"])
            .await
            .expect_err("its rows are gone"),
        &["charges", "is missing"],
    );
    fs::remove_dir_all(dir.path().join("_manifest")).unwrap();
    fs::create_dir(dir.path().join("_manifest")).unwrap();
    assert_explained(
        &store_page(&*destination, 2, &["refunds"])
            .await
            .expect_err("its log is gone"),
        &["manifest"],
    );
}

pub async fn a12_a_damaged_table_is_replaced_by_a_refresh(fixture: &dyn FileFixture) {
    for (what, inflict) in DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        damaged(fixture, dir.path(), inflict).await;
        if what == "is not a file" {
            // A folder is nothing of ours, and is not removed.
            let removed = fs::read_dir(dir.path().join("demo/charges"))
                .unwrap()
                .map(|entry| entry.unwrap().path());
            removed
                .filter(|path| path.is_dir())
                .for_each(|path| fs::remove_dir(path).unwrap());
        }
        let destination = open(fixture, dir.path()).await;
        let (id, next) = (
            current("charges").id(),
            table("charges", &["id"], Generation::Next),
        );
        destination
            .prepare(std::slice::from_ref(&next))
            .await
            .unwrap();
        let discard = Commit {
            discard: vec![id.clone()],
            ..commit(vec![])
        };
        store(&*destination, &[(&next, vec![row(7, "new")])], &discard)
            .await
            .unwrap();
        // What the lost file held cannot be carried over, what the others hold can.
        let kept = vec![keep(&next, "a")];
        store(
            &*destination,
            &[(&next, vec![row(8, "new")])],
            &Commit {
                publish: vec![id],
                keep: kept,
                ..commit(vec![])
            },
        )
        .await
        .unwrap();
        assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
        store(
            &*destination,
            &[(&current("charges"), vec![row(9, "new")])],
            &commit(vec![]),
        )
        .await
        .unwrap();
        drop(destination);
        assert_eq!(
            shown(fixture, dir.path(), &next).await,
            ["0=a", "2=a", "7=new", "8=new", "9=new"],
            "{what}"
        );
    }
}

pub async fn a12_a_file_of_a_refresh_that_is_lost_is_not_published(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    store_page(&*destination, 0, &["charges"]).await.unwrap();
    let (id, next) = (
        current("charges").id(),
        table("charges", &["id"], Generation::Next),
    );
    store(
        &*destination,
        &[(&next, vec![row(7, "new")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    drop(destination);
    for path in files(&dir.path().join("_staging")) {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(dir.path().join("_known")).unwrap();
    let destination = open(fixture, dir.path()).await;
    let publish = Commit {
        publish: vec![id.clone()],
        ..commit(vec![])
    };
    let error = store(&*destination, &[(&next, vec![row(8, "new")])], &publish)
        .await
        .expect_err("half of it is lost");
    assert_explained(
        &error,
        &[
            "charges",
            "is missing",
            "pipeline sync demo --full-refresh --streams charges",
        ],
    );
    assert_eq!(shown(fixture, dir.path(), &next).await, ["0=a"]);
    let again = Commit {
        discard: vec![id.clone()],
        publish: vec![id],
        ..commit(vec![])
    };
    store(&*destination, &[(&next, vec![row(9, "new")])], &again)
        .await
        .expect("it is begun anew");
    assert_eq!(shown(fixture, dir.path(), &next).await, ["9=new"]);
}

pub async fn a12_other_bytes_of_the_same_length_are_found_by_reading(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    damaged(fixture, dir.path(), |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 5]
            .iter_mut()
            .for_each(|byte| *byte ^= 1);
        fs::write(path, bytes).unwrap();
    })
    .await;
    let destination = fixture.open_to_read(dir.path()).await.unwrap();
    assert_eq!(
        destination.verify(Depth::Shape).await.unwrap(),
        [],
        "its size tells nothing"
    );
    let damage = destination.verify(Depth::Content).await.unwrap();
    assert_eq!(
        damage
            .iter()
            .map(|damage| damage.table.clone())
            .collect::<Vec<_>>(),
        [Some(current("charges").id())]
    );
    assert!(damage[0].what.contains("other bytes"), "{damage:?}");
    // A manifest that nothing needs any more, because of the snapshot.
    fs::remove_file(dir.path().join("_manifest/0000000002.json")).unwrap();
    let damage = destination.verify(Depth::Content).await.unwrap();
    assert!(
        damage[0].table.is_none() && damage[0].what.contains("manifest 2"),
        "{damage:?}"
    );
}

// ---- reading, and files of others ----

pub async fn a18_opening_to_read_changes_nothing(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().join("nothing");
    let destination = fixture.open_to_read(&nothing).await.unwrap();
    assert!(
        destination.status(1).await.unwrap().endpoints.is_empty()
            && destination.runs(1).await.unwrap().is_empty()
    );
    assert!(!nothing.exists());

    let writing = open(fixture, dir.path()).await;
    store_page(&*writing, 0, &["charges"]).await.unwrap();
    drop(writing);
    for name in [
        "_staging/0123456789abcdef0123456789abcdef.tmp",
        "_manifest/0123456789abcdef0123456789abcdef.tmp",
        "demo/charges/x",
    ] {
        fs::write(dir.path().join(name), "left over").unwrap();
    }
    let before = picture(dir.path());
    let other = tempfile::tempdir().unwrap();
    let copied = other.path().join("copy");
    copy(dir.path(), &copied);
    let destination = fixture.open_to_read(dir.path()).await.unwrap();
    assert_eq!(
        destination.status(10).await.unwrap().rows,
        [(current("charges").id(), 1)]
    );
    assert_eq!(
        position(&*destination, "charges").await,
        Position::At("1".to_owned())
    );
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    assert_eq!(destination.runs(10).await.unwrap(), []);
    destination
        .purge(&Purge {
            dry_run: true,
            ..purge(true)
        })
        .await
        .unwrap();
    destination.check().await.expect_err("it cannot be written");
    destination
        .prepare(&[current("refunds")])
        .await
        .expect_err("it cannot be written");
    destination
        .purge(&purge(true))
        .await
        .expect_err("it cannot be written");
    assert!(destination.begin().await.is_err());
    assert!(destination.claim("demo", "run-1").await.is_err());
    // Whoever only reads finds out whether a source is claimed, and takes nothing.
    assert_eq!(destination.is_claimed("demo").await.unwrap(), Some(false));
    let writing = open(fixture, &copied).await;
    let claim = writing.claim("demo", "run-1").await.unwrap();
    let looking = fixture.open_to_read(&copied).await.unwrap();
    assert_eq!(
        (
            looking.is_claimed("demo").await.unwrap(),
            looking.is_claimed("other").await.unwrap()
        ),
        (Some(true), Some(false))
    );
    drop(claim);
    assert_eq!(looking.is_claimed("demo").await.unwrap(), Some(false));
    drop(writing.claim("demo", "run-2").await.unwrap());
    drop(destination);
    assert_eq!(picture(dir.path()), before);
}

pub async fn a18_what_is_not_settled_is_shown_as_if_it_were(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    fs::create_dir_all(dir.path().join("demo")).unwrap();
    fs::write(dir.path().join("demo/charges"), "").unwrap();
    store_page(&*destination, 0, &["charges"])
        .await
        .expect_err("it cannot be moved");
    drop(destination);
    fs::remove_file(dir.path().join("demo/charges")).unwrap();
    let before = picture(dir.path());
    let destination = fixture.open_to_read(dir.path()).await.unwrap();
    assert_eq!(
        destination.status(1).await.unwrap().rows,
        [(current("charges").id(), 1)]
    );
    assert_eq!(
        destination.verify(Depth::Content).await.unwrap(),
        [],
        "the next run moves it"
    );
    assert_eq!(picture(dir.path()), before);
    drop(open(fixture, dir.path()).await);
    assert_eq!(data_files(fixture, dir.path(), "charges").len(), 1);
}

pub async fn a18_files_of_others_are_left_alone(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    store_page(&*destination, 0, &["charges"]).await.unwrap();
    let (id, next) = (
        current("charges").id(),
        table("charges", &["id"], Generation::Next),
    );
    let replaced = data_files(fixture, dir.path(), "charges").remove(0);
    let bytes = fs::read(&replaced).unwrap();
    store(
        &*destination,
        &[(&next, vec![row(1, "a")])],
        &Commit {
            publish: vec![id],
            ..commit(vec![])
        },
    )
    .await
    .unwrap();
    let put = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();
        path
    };
    let extension = fixture.extension();
    let names = [
        format!("demo/charges/compacted.{extension}"),
        format!("demo/charges/0000000001-0009.{extension}"),
        "demo/charges/notes.txt".to_owned(),
        format!("demo/other/mine.{extension}"),
        "_staging/x".to_owned(),
        "_staging/x.tmp".to_owned(),
        "_manifest/x.tmp".to_owned(),
        "_known/demo/charges/x.card".to_owned(),
        "_runs/x.json".to_owned(),
    ];
    let theirs = names.map(|name| put(&name));
    // What an interrupted process of ours may have left.
    let random = "0123456789abcdef0123456789abcdef";
    let ours = [
        replaced
            .strip_prefix(dir.path())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned(),
        format!("_staging/{random}.tmp"),
        format!("_manifest/{random}.tmp"),
        format!("_runs/{random}.tmp"),
        format!("_known/demo/charges/{random}.card"),
    ];
    let ours = ours.map(|name| put(&name));
    drop(open(fixture, dir.path()).await);
    assert!(
        ours.iter().all(|path| path.exists()),
        "they may be a living writer's"
    );
    drop(destination);
    let destination = open(fixture, dir.path()).await;
    assert!(
        ours.iter().all(|path| !path.exists()),
        "left-overs are removed"
    );
    destination.purge(&purge(true)).await.unwrap();
    store(
        &*destination,
        &[(&current("charges"), vec![row(2, "b")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert!(
        theirs
            .iter()
            .all(|path| fs::read(path).is_ok_and(|content| content == bytes)),
        "of others nothing is removed"
    );
}

// ---- what is remembered ----

pub async fn b1_what_was_seen_at_the_border_is_kept(fixture: &dyn FileFixture) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    let mut page = advance("charges", 0);
    let Change::Advance { seen, .. } = &mut page else {
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

pub async fn a6_committed_files_that_cannot_be_moved_are_found_by_reading(
    fixture: &dyn FileFixture,
) {
    let dir = tempfile::tempdir().unwrap();
    let destination = open(fixture, dir.path()).await;
    fs::create_dir_all(dir.path().join("demo")).unwrap();
    fs::write(dir.path().join("demo/charges"), "").unwrap();
    store_page(&*destination, 0, &["charges"])
        .await
        .expect_err("no reader sees it");
    drop(destination);
    let reading = fixture.open_to_read(dir.path()).await.unwrap();
    let damage = reading.verify(Depth::Shape).await.unwrap();
    assert!(
        damage[0].what.contains("cannot be moved") && damage[0].help.contains("run again"),
        "{damage:?}"
    );
    fs::remove_file(dir.path().join("demo/charges")).unwrap();
    let folder = dir.path().join("demo/charges");
    fs::create_dir(&folder).unwrap();
    let of_all = fs::metadata(&folder).unwrap().permissions();
    let mut of_nobody = of_all.clone();
    of_nobody.set_readonly(true);
    fs::set_permissions(&folder, of_nobody).unwrap();
    assert_eq!(reading.verify(Depth::Shape).await.unwrap().len(), 1);
    fs::set_permissions(&folder, of_all).unwrap();
    assert_eq!(reading.verify(Depth::Shape).await.unwrap(), []);
    open(fixture, dir.path())
        .await
        .prepare(&[current("charges")])
        .await
        .unwrap();
    assert_eq!(data_files(fixture, dir.path(), "charges").len(), 1);
}
