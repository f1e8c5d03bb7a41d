//! Rules of this destination alone.

use std::fs;

use destination_ducklake::{DucklakeConfig, DucklakeDestination};
use pipeline_core::ErrorKind;
use pipeline_engine::{Depth, Destination as _, Generation};
use pipeline_testkit::destination_suite::{
    DestinationFixture as _, Scratch, batch, gone, row, shown, table,
};

use crate::duckdb::{lake, put};
use crate::{Ducklake, config, connect};

#[tokio::test]
async fn a_catalogue_that_cannot_be_written_is_refused() {
    for (change, message) in [
        (
            "UPDATE ducklake_metadata SET value = '1.1' WHERE key = 'version'",
            "the catalogue has version 1.1 of DuckLake's specification, and this program writes 1.0",
        ),
        (
            "UPDATE ducklake_metadata SET value = 'true' WHERE key = 'encrypted'",
            "the catalogue wants its files encrypted, which this program cannot do",
        ),
        (
            "UPDATE ducklake_metadata SET value = '/elsewhere/' WHERE key = 'data_path'",
            "the catalogue names another folder for its data files: /elsewhere/",
        ),
    ] {
        let (dir, destination) = lake();
        drop(destination);
        connect(dir.path()).execute(change, []).unwrap();
        for error in [
            DucklakeDestination::open(config(dir.path())).unwrap_err(),
            DucklakeDestination::open_to_read(config(dir.path())).unwrap_err(),
        ] {
            assert_eq!(
                (error.kind(), error.message()),
                (ErrorKind::Destination, message)
            );
            assert!(error.help().is_some());
        }
    }
}

#[tokio::test]
async fn a_row_that_is_the_same_is_not_written_again() {
    let (dir, destination) = lake();
    let charges = table("charges", &["id"], Generation::Current);
    put(&destination, &charges, vec![row(1, "a"), row(2, "b")]).await;
    let stored = || {
        let sql = "SELECT (SELECT count(*) FROM ducklake_data_file) || ' ' || (SELECT count(*) FROM ducklake_delete_file)
            || ' ' || (SELECT max(snapshot_id) FROM ducklake_snapshot)";
        connect(dir.path())
            .query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(stored(), "1 0 1");
    put(
        &destination,
        &charges,
        vec![row(2, "b"), row(1, "a"), gone(3)],
    )
    .await;
    assert_eq!(stored(), "1 0 1", "neither a file nor a snapshot");
    put(&destination, &charges, vec![row(2, "b"), row(1, "aa")]).await;
    assert_eq!(stored(), "2 1 2");
}

/// Files of a process that died are removed, and nobody else's.
#[tokio::test]
async fn only_files_of_dead_writers_are_swept() {
    let (dir, destination) = lake();
    let charges = table("charges", &["id"], Generation::Current);
    put(&destination, &charges, vec![row(1, "a")]).await;
    let writer: String = connect(dir.path())
        .query_row("SELECT writer FROM _pipeline_writers", [], |row| row.get(0))
        .unwrap();
    let folder = config(dir.path()).data_path().join("main/demo_charges");
    let names = [
        format!("pipeline-{writer}-000000000000.parquet"),
        "pipeline-ffffffff-000000000000.parquet".to_owned(),
        "ducklake-01a22e80.parquet".to_owned(),
        "notes.txt".to_owned(),
    ];
    for name in &names {
        fs::write(folder.join(name), "left over").unwrap();
    }
    let is_there = || names.clone().map(|name| folder.join(name).exists());
    // While another process writes, its files are not left over.
    let mut open = destination.begin().await.unwrap();
    open.write(&charges, batch(&charges, &[row(2, "b")]))
        .await
        .unwrap();
    let files = fs::read_dir(&folder).unwrap().count();
    drop(DucklakeDestination::open(config(dir.path())).unwrap());
    assert_eq!(is_there(), [true; 4]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), files);
    drop(open);
    drop(DucklakeDestination::open(config(dir.path())).unwrap());
    assert_eq!(is_there(), [false, true, true, true]);
    let scratch = Scratch::at(dir.path());
    assert_eq!(shown(&Ducklake, &scratch, &charges).await, ["1=a"]);
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    for (damage, words) in [
        ("file", "is missing"),
        ("cut", "has not the size that it was written with"),
        ("dropped", "was dropped by another program: 2 rows"),
    ] {
        let (dir, destination) = lake();
        let (charges, events) = (
            table("charges", &["id"], Generation::Current),
            table("events", &[], Generation::Current),
        );
        put(&destination, &charges, vec![row(1, "a"), row(2, "b")]).await;
        put(&destination, &events, vec![row(1, "a")]).await;
        let folder = config(dir.path()).data_path().join("main/demo_charges");
        let path = fs::read_dir(folder)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        match damage {
            "file" => fs::remove_file(path).unwrap(),
            "cut" => fs::write(path, "cut").unwrap(),
            _ => {
                let sql =
                    "UPDATE ducklake_table SET end_snapshot = 2 WHERE table_name = 'demo_charges'";
                connect(dir.path()).execute(sql, []).unwrap();
            }
        }
        let damages = destination.verify(Depth::Shape).await.unwrap();
        assert_eq!(damages.len(), 1, "{damages:?}");
        assert!(damages[0].what.contains(words), "{damages:?}");
        assert_eq!(damages[0].table, Some(charges.id()));
        // A refresh is the way out.
        let next = table("charges", &["id"], Generation::Next);
        let publish = pipeline_engine::Commit {
            publish: vec![charges.id()],
            ..pipeline_testkit::destination_suite::commit(vec![])
        };
        pipeline_testkit::destination_suite::store(
            &destination,
            &[(&next, vec![row(3, "c")])],
            &publish,
        )
        .await
        .unwrap();
        assert_eq!(
            destination.verify(Depth::Content).await.unwrap(),
            [],
            "{damage}"
        );
        let scratch = Scratch::at(dir.path());
        assert_eq!(shown(&Ducklake, &scratch, &charges).await, ["3=c"]);
    }
}

/// Rows whose key is not complete are appended, are deleted with others, and outlive a merge of files.
#[tokio::test]
async fn the_data_folder_can_be_anywhere() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = DucklakeConfig {
        data: Some(elsewhere.path().join("a folder")),
        ..config(dir.path())
    };
    let destination = DucklakeDestination::open(config).unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    put(&destination, &charges, vec![row(1, "a")]).await;
    assert_eq!(
        Ducklake
            .rows(&Scratch::at(dir.path()), &charges)
            .await
            .len(),
        1
    );
    let found = crate::duckdb::duckdb!(dir, "SELECT name FROM demo_charges");
    assert_eq!(found[0], [[Some("a".to_owned())]]);
}
