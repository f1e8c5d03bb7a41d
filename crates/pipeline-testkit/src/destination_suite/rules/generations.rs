//! Rules of generations: a full refresh is invisible until it is published.

use super::*;

pub async fn the_next_generation_is_invisible_until_published(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let mut destination = open(fixture, &scratch).await;
    let current = table("charges", &["id"], Generation::Current);
    let next = table("charges", &["id"], Generation::Next);
    destination
        .prepare(&[Arc::clone(&current), Arc::clone(&next)])
        .await
        .unwrap();
    store(
        &*destination,
        &[(&current, vec![row(1, "old"), row(2, "old")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let refreshed = [
        vec![row(1, "new"), row(3, "new")],
        vec![row(3, "newer"), gone(1)],
        vec![row(4, "last")],
    ];
    for rows in &refreshed[..2] {
        store(&*destination, &[(&next, rows.clone())], &commit(vec![]))
            .await
            .unwrap();
        assert_eq!(shown(fixture, &scratch, &current).await, ["1=old", "2=old"]);
        drop(destination);
        destination = open(fixture, &scratch).await;
    }
    let publish = Commit {
        publish: vec![current.id()],
        ..commit(vec![])
    };
    store(&*destination, &[(&next, refreshed[2].clone())], &publish)
        .await
        .unwrap();
    let mut shelf = Shelf::new(fixture, true);
    refreshed
        .iter()
        .flatten()
        .for_each(|row| shelf.put(Generation::Next, row));
    assert_eq!(shown(fixture, &scratch, &current).await, shelf.shown());
    let after = vec![row(4, "after"), row(3, "newer"), gone(1)];
    shelf.put_all(Generation::Current, &after);
    store(&*destination, &[(&current, after)], &commit(vec![]))
        .await
        .unwrap();
    drop(destination);
    drop(open(fixture, &scratch).await);
    assert_eq!(shown(fixture, &scratch, &current).await, shelf.shown());
}

pub async fn discarding_spares_the_rows_of_its_own_transaction(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let current = table("charges", &["id"], Generation::Current);
    let next = table("charges", &["id"], Generation::Next);
    store(
        &*destination,
        &[(&current, vec![row(9, "old")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let abandoned = vec![
        row(1, "abandoned"),
        row(2, "abandoned"),
        row(3, "abandoned"),
    ];
    store(&*destination, &[(&next, abandoned)], &commit(vec![]))
        .await
        .unwrap();
    let kept = vec![row(2, "kept"), row(4, "kept"), gone(3), row(5, "kept")];
    let discard = Commit {
        discard: vec![current.id()],
        ..commit(vec![])
    };
    store(&*destination, &[(&next, kept.clone())], &discard)
        .await
        .unwrap();
    assert_eq!(shown(fixture, &scratch, &current).await, ["9=old"]);
    let publish = Commit {
        publish: vec![current.id()],
        ..commit(vec![])
    };
    store(&*destination, &[], &publish).await.unwrap();
    assert_eq!(
        shown(fixture, &scratch, &current).await,
        published(fixture, &kept)
    );

    store(
        &*destination,
        &[(&next, vec![row(6, "abandoned")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    store(&*destination, &[], &discard).await.unwrap();
    store(&*destination, &[(&next, vec![row(7, "fresh")])], &publish)
        .await
        .unwrap();
    assert_eq!(shown(fixture, &scratch, &current).await, ["7=fresh"]);
}

pub async fn selected_rows_are_carried_into_a_published_generation(
    fixture: &dyn DestinationFixture,
) {
    for (refreshed, selected) in [
        (vec![row(1, "new"), row(4, "new")], vec!["b"]),
        (
            vec![row(1, "new"), row(2, "moved")],
            vec!["b", "c", "nobody"],
        ),
        (vec![gone(2), row(1, "new")], vec!["b"]),
        (vec![row(2, "back"), all_gone("b"), row(5, "b")], vec!["b"]),
        (vec![], vec!["b", "it's"]),
        (vec![row(9, "new")], vec![]),
    ] {
        let scratch = fixture.scratch().await;
        let destination = open(fixture, &scratch).await;
        let (current, next) = (
            table("charges", &["id"], Generation::Current),
            table("charges", &["id"], Generation::Next),
        );
        let first = vec![
            row(1, "b"),
            row(2, "b"),
            row(3, "a"),
            row(6, "b"),
            row(7, "it's"),
            row(8, "c"),
        ];
        let second = vec![
            row(1, "a"),
            row(3, "b"),
            gone(6),
            all_gone("c"),
            row(10, "b"),
        ];
        store(&*destination, &[(&current, first.clone())], &commit(vec![]))
            .await
            .unwrap();
        store(
            &*destination,
            &[(&current, second.clone())],
            &commit(vec![]),
        )
        .await
        .unwrap();
        let halves = refreshed.split_at(refreshed.len() / 2);
        store(
            &*destination,
            &[(&next, halves.0.to_vec())],
            &commit(vec![]),
        )
        .await
        .unwrap();
        drop(destination);
        let destination = open(fixture, &scratch).await;
        let publish = Commit {
            publish: vec![current.id()],
            keep: selected.iter().map(|name| keep(&current, name)).collect(),
            ..commit(vec![])
        };
        destination
            .prepare(std::slice::from_ref(&current))
            .await
            .unwrap();
        store(&*destination, &[(&next, halves.1.to_vec())], &publish)
            .await
            .unwrap();
        let visible = [first, second].concat();
        let mut shelf = Shelf::new(fixture, true);
        let kept: Vec<Row> = selected
            .iter()
            .flat_map(|name| carried(&visible, &refreshed, name))
            .collect();
        kept.iter()
            .chain(&refreshed)
            .for_each(|row| shelf.put(Generation::Next, row));
        assert_eq!(
            shown(fixture, &scratch, &current).await,
            shelf.shown(),
            "{selected:?}"
        );
        // They belong to the generation like its own, so they are not stored again when they come
        // again.
        let later = [vec![row(2, "later")], kept].concat();
        shelf.put_all(Generation::Current, &later);
        store(&*destination, &[(&current, later)], &commit(vec![]))
            .await
            .unwrap();
        drop(destination);
        drop(open(fixture, &scratch).await);
        assert_eq!(
            shown(fixture, &scratch, &current).await,
            shelf.shown(),
            "{selected:?}"
        );
    }
}

pub async fn rows_without_a_key_are_carried(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let (current, next) = (
        table("events", &[], Generation::Current),
        table("events", &[], Generation::Next),
    );
    store(
        &*destination,
        &[(&current, vec![row(1, "a"), row(1, "a"), row(2, "b")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let publish = Commit {
        publish: vec![current.id()],
        keep: vec![keep(&current, "a")],
        ..commit(vec![])
    };
    store(
        &*destination,
        &[(&next, vec![row(1, "a"), row(3, "c")])],
        &publish,
    )
    .await
    .unwrap();
    assert_eq!(
        shown(fixture, &scratch, &current).await,
        ["1=a", "1=a", "1=a", "3=c"]
    );
}

pub async fn publishing_nothing_empties_the_table(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    store(
        &*destination,
        &[(&charges, vec![row(1, "old")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let unknown = TableId {
        source: "demo".to_owned(),
        stream: "never_written".to_owned(),
    };
    let publish = Commit {
        publish: vec![charges.id(), unknown.clone()],
        discard: vec![unknown],
        ..commit(vec![])
    };
    store(&*destination, &[], &publish).await.unwrap();
    assert_eq!(shown(fixture, &scratch, &charges).await, [""; 0]);
}
