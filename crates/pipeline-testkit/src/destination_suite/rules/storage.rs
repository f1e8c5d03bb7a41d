//! Rules of what is stored: purges, damage, and places that cannot be used.

use super::{
    DestinationFixture, ErrorKind, Generation, Purge, Shelf, advance, assert_nowhere, commit,
    customers, endpoint, gone, open, plan, purge, row, shown, store, store_history, table,
};

pub async fn a_purge_leaves_nothing_of_what_was_deleted(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let mut destination = open(fixture, &scratch).await;
    let table = customers(Generation::Current);
    store_history(&*destination).await;
    let before = shown(fixture, &scratch, &table).await;
    let elsewhere = Purge {
        source: Some("demo".to_owned()),
        stream: Some("charges".to_owned()),
        ..purge(true)
    };
    assert_eq!(destination.purge(&elsewhere).await.unwrap().tables, []);
    let counted = destination
        .purge(&Purge {
            dry_run: true,
            ..purge(false)
        })
        .await
        .unwrap();
    assert_eq!(shown(fixture, &scratch, &table).await, before);
    let purged = destination.purge(&purge(false)).await.unwrap();
    assert_eq!(purged.tables, counted.tables, "what a dry run counts");
    assert!(
        purged.tables[0].rows > 0 && purged.tables[0].skipped.is_none(),
        "{purged:?}"
    );
    assert_nowhere(fixture, &scratch, "erased").await;
    let older = if fixture.upserts() {
        &[][..]
    } else {
        &["1=older-a", "1=older-aa"]
    };
    assert_eq!(
        shown(fixture, &scratch, &table).await,
        [&["1=a"][..], older, &["2=b", "5=again", "8=h", "9=i"]].concat()
    );
    drop(destination);

    destination = open(fixture, &scratch).await;
    destination.purge(&purge(true)).await.unwrap();
    assert_nowhere(fixture, &scratch, "older").await;
    let nothing = destination.purge(&purge(true)).await.unwrap();
    assert_eq!(
        (nothing.tables[0].rows, nothing.bytes_after),
        (0, nothing.bytes_before)
    );
    // The versions that are left are known: they are not stored again, and what is new is.
    store(
        &*destination,
        &[(&table, vec![row(2, "b"), row(1, "a"), row(9, "j"), gone(3)])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let mut shelf = Shelf::new(fixture, true);
    let left = [
        row(2, "b"),
        row(8, "h"),
        row(9, "i"),
        row(5, "again"),
        row(1, "a"),
        row(9, "j"),
    ];
    shelf.put_all(Generation::Current, &left);
    drop(destination);
    drop(open(fixture, &scratch).await);
    assert_eq!(shown(fixture, &scratch, &table).await, shelf.shown());
}

pub async fn an_unusable_location_is_explained(fixture: &dyn DestinationFixture) {
    let unusable = fixture.unusable().await;
    assert!(!unusable.is_empty(), "there is always one");
    for scratch in unusable {
        let tried = match fixture.open(&scratch).await {
            Ok(destination) => destination.check().await,
            Err(error) => Err(error),
        };
        let error = tried.expect_err("the place cannot be written");
        assert_eq!(error.kind(), ErrorKind::Destination, "{error:?}");
        let location = error
            .context_value("path")
            .or_else(|| error.context_value("server"));
        assert!(error.help().is_some() && location.is_some(), "{error:?}");
    }
}

pub async fn damage_is_never_taken_for_emptiness(fixture: &dyn DestinationFixture) {
    for damage in fixture.damages() {
        let scratch = fixture.scratch().await;
        let events = table("events", &[], Generation::Current);
        let destination = open(fixture, &scratch).await;
        store(
            &*destination,
            &[(&events, vec![row(0, "a")])],
            &commit(vec![plan("events")]),
        )
        .await
        .unwrap();
        for page in 0..8 {
            store(
                &*destination,
                &[(&events, vec![row(1, "a")])],
                &commit(vec![advance("events", page)]),
            )
            .await
            .unwrap();
        }
        drop(destination);
        (damage.inflict)(&scratch);
        let loaded = match fixture.open(&scratch).await {
            Ok(destination) => destination.load(&endpoint("events")).await,
            Err(error) => Err(error),
        };
        let error = loaded.expect_err(damage.name);
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Destination | ErrorKind::Decode | ErrorKind::Unsupported
            ),
            "{}: {error:?}",
            damage.name
        );
        assert!(error.help().is_some(), "{}: {error:?}", damage.name);
    }
}
