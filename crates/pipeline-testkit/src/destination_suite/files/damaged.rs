//! Damaged data files: they are found, and keep only their own table from being written.

use pipeline_core::state::CheckpointDelta;
use pipeline_engine::Depth;

use super::*;

type Inflict = fn(&Path);

/// Ways to damage a data file so that its size shows it.
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
pub(super) async fn damaged(fixture: &dyn FileFixture, dir: &Path, inflict: Inflict) {
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
        let reset = CheckpointDelta::Replace {
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
