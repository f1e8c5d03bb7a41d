//! Lost manifests, and files that cannot be moved into place.

use pipeline_engine::Depth;

use super::*;

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
