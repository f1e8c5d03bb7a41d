//! A destination that is opened to read, and files that are not its own.

use pipeline_engine::Depth;

use super::*;

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
