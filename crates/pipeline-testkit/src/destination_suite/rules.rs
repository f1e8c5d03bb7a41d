//! The rules, each a function that a generated test calls.
#![allow(missing_docs, reason = "the names say it")]

use super::*;

pub async fn nothing_is_visible_before_the_commit(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    assert_eq!(destination.delivery(), Delivery::ExactlyOnce);
    let charges = table("charges", &["id"], Generation::Current);
    destination.check().await.unwrap();
    destination
        .prepare(std::slice::from_ref(&charges))
        .await
        .unwrap();
    assert_eq!(shown(fixture, &scratch, &charges).await, [""; 0]);

    let mut transaction = destination.begin().await.unwrap();
    transaction
        .write(&charges, batch(&charges, &[row(1, "a"), row(2, "b")]))
        .await
        .unwrap();
    assert_eq!(shown(fixture, &scratch, &charges).await, [""; 0]);
    assert_eq!(
        destination.load(&endpoint("charges")).await.unwrap(),
        EndpointState::default(),
        "a read beside a transaction"
    );
    destination.check().await.unwrap();
    destination
        .prepare(std::slice::from_ref(&charges))
        .await
        .unwrap();
    assert_eq!(
        transaction
            .commit(&commit(vec![plan("charges")]))
            .await
            .unwrap(),
        1
    );
    assert_eq!(shown(fixture, &scratch, &charges).await, ["1=a", "2=b"]);
}

pub async fn a_dropped_transaction_leaves_nothing(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    let before = fixture.stored(&scratch).await;
    let mut transaction = destination.begin().await.unwrap();
    transaction
        .write(&charges, batch(&charges, &[row(1, "a")]))
        .await
        .unwrap();
    drop(transaction);
    assert_eq!(fixture.stored(&scratch).await, before);
    store(
        &*destination,
        &[(&charges, vec![row(2, "b")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(shown(fixture, &scratch, &charges).await, ["2=b"]);
}

pub async fn a_cancelled_write_leaves_nothing(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    let mut transaction = destination.begin().await.unwrap();
    let rows: Vec<Row> = (0..20_000).map(|id| row(id, "a")).collect();
    let finished = transaction
        .write(&charges, batch(&charges, &rows))
        .now_or_never();
    assert!(finished.is_none(), "the write was to be cancelled");
    let error = transaction
        .commit(&commit(vec![plan("charges")]))
        .await
        .expect_err("half of it is lost");
    assert!(error.help().is_some());
    assert_eq!(
        destination.load(&endpoint("charges")).await.unwrap(),
        EndpointState::default()
    );
    store(
        &*destination,
        &[(&charges, vec![row(2, "b")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(shown(fixture, &scratch, &charges).await, ["2=b"]);
}

pub async fn rows_and_checkpoint_survive_a_restart(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let events = table("events", &[], Generation::Current);
    let mut written = Vec::new();
    for page in 0..10 {
        let destination = open(fixture, &scratch).await;
        let state = destination.load(&endpoint("events")).await.unwrap();
        let changes = if page == 0 {
            vec![plan("events"), advance("events", 0)]
        } else {
            vec![advance("events", page)]
        };
        assert_eq!(
            state.slices.get(&0).map(|slice| slice.position.clone()),
            (page > 0).then(|| Position::At(page.to_string()))
        );
        let id = i64::try_from(page).unwrap();
        store(
            &*destination,
            &[(&events, vec![row(id, "a")])],
            &commit(changes),
        )
        .await
        .unwrap();
        written.push(row(id, "a"));
        assert_eq!(
            shown(fixture, &scratch, &events).await,
            expected(fixture, false, &written)
        );
    }
}

pub async fn a_refused_change_refuses_everything(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    store(
        &*destination,
        &[(&charges, vec![row(1, "a")])],
        &commit(vec![plan("charges")]),
    )
    .await
    .unwrap();
    let before = destination.status(10).await.unwrap();
    let bad = commit(vec![
        advance("charges", 0),
        plan("refunds"),
        advance("charges", 5),
    ]);
    let error = store(
        &*destination,
        &[(&charges, vec![row(1, "b"), row(2, "b")])],
        &bad,
    )
    .await
    .expect_err("it starts from page 5");
    assert_eq!(error.kind(), ErrorKind::CheckpointConflict);
    assert!(error.help().is_some());
    let after = destination.status(10).await.unwrap();
    assert_eq!(after.endpoints, before.endpoints);
    assert_eq!(after.commits, before.commits);
    assert_eq!(after.rows, before.rows);
    assert_eq!(shown(fixture, &scratch, &charges).await, ["1=a"]);
}

pub async fn of_two_writers_with_one_delta_one_wins(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let events = table("events", &[], Generation::Current);
    let (left, right) = (open(fixture, &scratch).await, open(fixture, &scratch).await);
    store(&*left, &[], &commit(vec![plan("events")]))
        .await
        .unwrap();
    for page in 0..5 {
        let delta = commit(vec![advance("events", page)]);
        let rows = [(&events, vec![row(i64::try_from(page).unwrap(), "a")])];
        let (left, right) =
            tokio::join!(store(&*left, &rows, &delta), store(&*right, &rows, &delta));
        let lost = if left.is_ok() { right } else { left.and(right) };
        assert_eq!(
            lost.expect_err("only one may win").kind(),
            ErrorKind::CheckpointConflict
        );
    }
    assert_eq!(
        shown(fixture, &scratch, &events).await,
        ["0=a", "1=a", "2=a", "3=a", "4=a"]
    );
    assert_eq!(
        left.load(&endpoint("events")).await.unwrap(),
        right.load(&endpoint("events")).await.unwrap()
    );
    assert_eq!(right.status(1).await.unwrap().commits[0].sequence, 6);
}

pub async fn writers_of_different_endpoints_both_win(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let events = table("events", &[], Generation::Current);
    let (left, right) = (open(fixture, &scratch).await, open(fixture, &scratch).await);
    let (rows_left, rows_right) = (
        [(&events, vec![row(1, "a")])],
        [(&events, vec![row(2, "b")])],
    );
    let (plan_left, plan_right) = (commit(vec![plan("events")]), commit(vec![plan("refunds")]));
    let (left, right) = tokio::join!(
        store(&*left, &rows_left, &plan_left),
        store(&*right, &rows_right, &plan_right)
    );
    let mut sequences = [left.unwrap(), right.unwrap()];
    sequences.sort_unstable();
    assert_eq!(sequences, [1, 2]);
    let reopened = open(fixture, &scratch).await;
    assert_eq!(shown(fixture, &scratch, &events).await, ["1=a", "2=b"]);
    assert_eq!(reopened.status(0).await.unwrap().endpoints.len(), 2);
}

pub async fn rows_without_a_key_are_appended(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let events = table("events", &[], Generation::Current);
    for _ in 0..2 {
        store(
            &*destination,
            &[(&events, vec![row(1, "a"), row(1, "a"), gone(2)])],
            &commit(vec![]),
        )
        .await
        .unwrap();
    }
    assert_eq!(
        shown(fixture, &scratch, &events).await,
        ["1=a", "1=a", "1=a", "1=a", "2 gone", "2 gone"]
    );
}

pub async fn rows_with_a_key_replace_each_other(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    let mut written = Vec::new();
    let many: Vec<Row> = (100..300).map(|id| row(id, "many")).collect();
    for rows in [
        vec![row(1, "a"), row(2, "a"), row(1, "b"), row(3, "a")],
        vec![row(2, "c"), gone(1), row(4, "a"), gone(4), row(4, "b")],
        vec![row(1, "again"), gone(3), gone(3), gone(99)],
        many,
        vec![gone(100), row(101, "new"), row(100, "back")],
    ] {
        let halves = rows.split_at(rows.len() / 2);
        let writes = [(&charges, halves.0.to_vec()), (&charges, halves.1.to_vec())];
        store(&*destination, &writes, &commit(vec![]))
            .await
            .unwrap();
        written.extend(rows);
        assert_eq!(
            shown(fixture, &scratch, &charges).await,
            expected(fixture, true, &written)
        );
    }
    let visible = expected(fixture, true, &written).len();
    assert_eq!(
        destination.status(0).await.unwrap().rows,
        [(charges.id(), visible as u64)]
    );
}

pub async fn a_version_is_stored_once(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let charges = table("charges", &["id"], Generation::Current);
    let mut destination = open(fixture, &scratch).await;
    let mut written = Vec::new();
    for (round, rows) in [
        vec![row(1, "a"), row(2, "a"), row(3, "a")],
        vec![row(1, "a"), row(2, "b"), row(3, "a"), row(3, "a")],
        vec![row(2, "a"), gone(1), gone(1)],
        vec![gone(1), row(2, "a"), row(3, "c")],
        vec![row(1, "a"), row(3, "a"), row(3, "c")],
        vec![row(1, "a"), row(2, "a"), row(3, "c"), row(4, "")],
    ]
    .into_iter()
    .enumerate()
    {
        // What is dropped before the commit was never there.
        let mut dropped = destination.begin().await.unwrap();
        dropped
            .write(
                &charges,
                batch(&charges, &[row(1, "dropped"), gone(2), row(4, "")]),
            )
            .await
            .unwrap();
        drop(dropped);
        for _ in 0..2 {
            let mut transaction = destination.begin().await.unwrap();
            let before = if fixture.upserts() {
                0
            } else {
                expected(fixture, true, &written).len()
            };
            let unchanged = transaction
                .write(&charges, batch(&charges, &rows))
                .await
                .unwrap();
            written.extend(rows.clone());
            let after = if fixture.upserts() {
                rows.len()
            } else {
                expected(fixture, true, &written).len()
            };
            assert_eq!(
                after - before + usize::try_from(unchanged).unwrap(),
                rows.len(),
                "{round}"
            );
            transaction.commit(&commit(vec![])).await.unwrap();
            assert_eq!(
                shown(fixture, &scratch, &charges).await,
                expected(fixture, true, &written),
                "{round}"
            );
            if round % 2 == 0 {
                drop(destination);
                destination = open(fixture, &scratch).await;
            }
        }
    }
    // The instant at which a record is read is not a change, a column without a value neither.
    let columns = [
        ("note", DataType::Utf8),
        ("name", DataType::Utf8),
        ("id", DataType::Int64),
    ];
    let wide = table_of("demo", "charges", &["id"], Generation::Current, &columns);
    let later = batch(&wide, &[row(1, "a"), row(2, "a")]);
    let synced = later.schema().index_of(SYNCED_AT).unwrap();
    let mut columns = later.columns().to_vec();
    columns[synced] =
        Arc::new(TimestampMicrosecondArray::from(vec![7_000_000; 2]).with_timezone("UTC"));
    let later = RecordBatch::try_new(later.schema(), columns).unwrap();
    let mut transaction = destination.begin().await.unwrap();
    transaction.write(&wide, later).await.unwrap();
    transaction.commit(&commit(vec![])).await.unwrap();
    assert_eq!(
        shown(fixture, &scratch, &charges).await,
        expected(fixture, true, &written)
    );
}

pub async fn a_set_that_is_the_same_is_not_stored_again(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let items = table("items", &["id"], Generation::Current);
    let mut shelf = Shelf::new(fixture, true);
    let first = vec![row(1, "x"), row(2, "x"), row(3, "y")];
    let set = |rows: &[Row]| [vec![all_gone("x")], rows.to_vec()].concat();
    let same = set(&[row(2, "x"), row(1, "x")]);
    let less = set(&[row(2, "x")]);
    for (rows, is_new) in [
        (first, true),
        (same.clone(), false),
        ([same.clone(), same.clone()].concat(), false),
        (less.clone(), true),
        (less.clone(), false),
        (set(&[row(2, "x"), row(2, "y")]), true),
        (set(&[]), false),
        (set(&[row(2, "x"), row(4, "x")]), true),
        (
            [set(&[row(4, "x"), row(2, "x")]), vec![gone(4)]].concat(),
            true,
        ),
    ] {
        let destination = open(fixture, &scratch).await;
        if is_new {
            // Whatever changes a set makes all of it new: the tombstone deletes what it does not
            // repeat.
            shelf.put_all(Generation::Current, &rows);
        }
        store(&*destination, &[(&items, rows.clone())], &commit(vec![]))
            .await
            .unwrap();
        assert_eq!(
            shown(fixture, &scratch, &items).await,
            shelf.shown(),
            "{rows:?}"
        );
    }
}

pub async fn a_version_is_stored_once_in_a_refresh(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    let destination = open(fixture, &scratch).await;
    let abandoned = vec![row(1, "a"), row(2, "a"), row(3, "old")];
    store(&*destination, &[(&next, abandoned)], &commit(vec![]))
        .await
        .unwrap();
    drop(destination);
    let mut destination = open(fixture, &scratch).await;
    // What an abandoned refresh has stored goes with it, and is stored again.
    let discard = Commit {
        discard: vec![current.id()],
        ..commit(vec![])
    };
    let pages = [
        vec![
            row(1, "a"),
            row(2, "a"),
            row(3, "a"),
            row(1, "a"),
            row(2, "b"),
        ],
        vec![row(1, "a"), row(2, "b")],
        vec![row(1, "c")],
    ];
    let mut shelf = Shelf::new(fixture, true);
    for (page, commit) in pages.iter().zip([discard, commit(vec![]), commit(vec![])]) {
        store(&*destination, &[(&next, page.clone())], &commit)
            .await
            .unwrap();
        shelf.put_all(Generation::Next, page);
        drop(destination);
        destination = open(fixture, &scratch).await;
    }
    let publish = Commit {
        publish: vec![current.id()],
        ..commit(vec![])
    };
    store(&*destination, &[(&next, vec![row(3, "a")])], &publish)
        .await
        .unwrap();
    assert_eq!(shown(fixture, &scratch, &current).await, shelf.shown());
    store(
        &*destination,
        &[(&current, vec![row(1, "c"), row(3, "a"), row(2, "b")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(shown(fixture, &scratch, &current).await, shelf.shown());
}

pub async fn what_belonged_together_goes_together(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    let many: Vec<Row> = (100..5_000).map(|id| row(id, "many")).collect();
    let mut written = Vec::new();
    for rows in [
        vec![
            row(1, "a"),
            row(2, "b"),
            row(3, "a"),
            row(4, "c"),
            row(5, "c"),
        ],
        vec![all_gone("a"), row(3, "b"), row(6, "a")],
        vec![
            all_gone("b"),
            all_gone("c"),
            all_gone("nobody"),
            gone(6),
            row(7, "b"),
        ],
        many,
        vec![row(1, "back"), all_gone("many")],
    ] {
        store(&*destination, &[(&charges, rows.clone())], &commit(vec![]))
            .await
            .unwrap();
        written.extend(rows);
        assert_eq!(
            shown(fixture, &scratch, &charges).await,
            expected(fixture, true, &written)
        );
    }
    let next = table("charges", &["id"], Generation::Next);
    let refreshed = vec![row(1, "a"), row(2, "b"), all_gone("a")];
    store(
        &*destination,
        &[(&next, refreshed.clone())],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(
        shown(fixture, &scratch, &charges).await,
        expected(fixture, true, &written),
        "only those of its generation go"
    );
    let publish = Commit {
        publish: vec![charges.id()],
        ..commit(vec![])
    };
    store(&*destination, &[], &publish).await.unwrap();
    assert_eq!(
        shown(fixture, &scratch, &charges).await,
        published(fixture, &refreshed)
    );
}

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

pub async fn columns_are_added(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let narrow = table("charges", &["id"], Generation::Current);
    let columns = [
        ("note", DataType::Utf8),
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("count", DataType::Int64),
    ];
    let wide = table_of("demo", "charges", &["id"], Generation::Current, &columns);
    store(
        &*destination,
        &[(&narrow, vec![row(1, "a"), row(2, "a")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    destination.prepare(&[Arc::clone(&wide)]).await.unwrap();
    store(
        &*destination,
        &[(&wide, vec![row(1, "b")]), (&narrow, vec![row(3, "c")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let written = [row(1, "a"), row(2, "a"), row(1, "b"), row(3, "c")];
    assert_eq!(
        shown(fixture, &scratch, &wide).await,
        expected(fixture, true, &written)
    );
    // The same in one transaction, without preparing.
    let wider = table_of("demo", "events", &[], Generation::Next, &columns);
    let narrow = table("events", &[], Generation::Next);
    let publish = Commit {
        publish: vec![narrow.id()],
        ..commit(vec![])
    };
    store(
        &*destination,
        &[(&narrow, vec![row(1, "a")]), (&wider, vec![row(2, "b")])],
        &publish,
    )
    .await
    .unwrap();
    assert_eq!(shown(fixture, &scratch, &wider).await, ["1=a", "2=b"]);
}

pub async fn every_type_comes_back(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let (table, batch) = every_type();
    let mut transaction = destination.begin().await.unwrap();
    transaction.write(&table, batch).await.unwrap();
    transaction.commit(&commit(vec![])).await.unwrap();
    let mut expected: Vec<String> = [
        r#"{"_deleted":false,"_extra":{"a":[1,null]},"_synced_at":"2026-01-31T12:00:00.123456Z","bool":true,"date":"1969-12-31","decimal":"-0.010","float":0.1,"int":-9223372036854775808,"json":{"b":[1.5,"x"]},"text":"a\"b'c\\\u0000\n\t漢😀","time":"1969-12-31T23:59:59.999999Z"}"#,
        r#"{"_deleted":false,"_synced_at":"2026-01-31T12:00:00.123456Z","bool":false,"date":"9999-12-31","decimal":"99999999999999999999999999999999999.999","float":1e300,"int":9223372036854775807,"json":"plain","text":"","time":"9999-12-31T23:59:59.000000Z"}"#,
        r#"{"_deleted":false,"_synced_at":"2026-01-31T12:00:00.123456Z","text":"only text"}"#,
    ]
    .map(|line| canonical_object(serde_json::from_str(line).unwrap()))
    .into();
    expected.sort();
    assert_eq!(fixture.rows(&scratch, &table).await, expected);
}

pub async fn strange_names_stay_apart(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let columns = [
        "id",
        "name",
        "ID",
        "Id",
        "rowid",
        "_rowid_",
        "we\"ird",
        "it's",
        "dots.and spaces",
        "select",
        "😀",
        "a\0b",
        "?1",
    ];
    let columns: Vec<(&str, DataType)> = columns
        .iter()
        .map(|&name| {
            (
                name,
                if name == "id" {
                    DataType::Int64
                } else {
                    DataType::Utf8
                },
            )
        })
        .collect();
    let names = [
        ("a_b", "c"),
        ("a", "b_c"),
        ("a", "B_c"),
        ("../x", ".."),
        ("..", "../../x"),
        ("sqlite", "master"),
        ("_pipeline", "state"),
        ("_manifest", "_staging"),
        ("ü😀", "q\"uo'te"),
        ("x.y", "z;--"),
        ("/etc", "C:\\con"),
        ("", ""),
        ("%2E", "."),
    ];
    let tables = names
        .map(|(source, stream)| table_of(source, stream, &["id"], Generation::Current, &columns));
    destination.prepare(&tables).await.unwrap();
    let of = |index: usize| vec![row(i64::try_from(index).unwrap(), "a"), row(-1, "b")];
    let writes: Vec<_> = tables
        .iter()
        .enumerate()
        .map(|(index, table)| (table, of(index)))
        .collect();
    store(&*destination, &writes, &commit(vec![]))
        .await
        .unwrap();
    drop(destination);
    drop(open(fixture, &scratch).await);
    for (table, rows) in writes {
        assert_eq!(
            shown(fixture, &scratch, table).await,
            expected(fixture, true, &rows),
            "{:?}",
            table.id()
        );
    }
    assert_eq!(
        fixture.strays(&scratch).await,
        [""; 0],
        "nothing leaves its place"
    );
}

pub async fn the_commit_log_has_no_gaps(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    assert!(destination.status(10).await.unwrap().commits.is_empty());
    let events = table("events", &[], Generation::Current);
    let mut wanted = Vec::new();
    for page in 0..12 {
        let changes = if page == 0 {
            vec![plan("events")]
        } else {
            vec![advance("events", page - 1)]
        };
        let commit = Commit {
            rows: vec![(events.id(), 1)],
            ..commit(changes)
        };
        let sequence = store(&*destination, &[(&events, vec![row(1, "a")])], &commit)
            .await
            .unwrap();
        wanted.insert(0, commit.clone().record(sequence));
        // A transaction that fails or is dropped takes no number.
        drop(destination.begin().await.unwrap());
        store(
            &*destination,
            &[],
            &Commit {
                changes: vec![plan("events")],
                ..commit
            },
        )
        .await
        .expect_err("it is planned already");
    }
    assert_eq!(
        wanted
            .iter()
            .map(|record| record.sequence)
            .collect::<Vec<_>>(),
        (1..=12).rev().collect::<Vec<_>>()
    );
    drop(destination);
    let status = open(fixture, &scratch).await.status(5).await.unwrap();
    assert_eq!(status.commits, wanted[..5]);
    assert_eq!(status.rows, [(events.id(), 12)]);
    assert_eq!(status.endpoints.len(), 1);
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

/// One row of the least and one of the greatest values, and one of nulls.
fn every_type() -> (Arc<Table>, RecordBatch) {
    let plain = table_of("demo", "types", &["text"], Generation::Current, &[]);
    let mut fields = vec![
        Field::new("bool", DataType::Boolean, true),
        Field::new("int", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("decimal", DataType::Decimal128(38, 3), true),
        Field::new("text", DataType::Utf8, true),
        Field::new("date", DataType::Date32, true),
        Field::new(
            "time",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
        json_field("json"),
    ];
    fields.extend(
        plain
            .schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone()),
    );
    let table = Arc::new(Table {
        schema: Arc::new(Schema::new(fields)),
        ..Table::clone(&plain)
    });
    let decimals = vec![
        Some(-10),
        Some(99_999_999_999_999_999_999_999_999_999_999_999_999),
        None,
    ];
    let synced = TimestampMicrosecondArray::from(vec![1_769_860_800_123_456; 3]);
    let times =
        TimestampMicrosecondArray::from(vec![Some(-1), Some(253_402_300_799_000_000), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        Arc::new(Float64Array::from(vec![Some(0.1), Some(1e300), None])),
        Arc::new(
            Decimal128Array::from(decimals)
                .with_precision_and_scale(38, 3)
                .unwrap(),
        ),
        Arc::new(StringArray::from(vec![
            "a\"b'c\\\0\n\t漢😀",
            "",
            "only text",
        ])),
        Arc::new(Date32Array::from(vec![Some(-1), Some(2_932_896), None])),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(StringArray::from(vec![
            Some("{\"b\":\n[1.5,\"x\"]}"),
            Some("\"plain\""),
            None,
        ])),
        Arc::new(StringArray::from(vec![
            Some(r#"{"a":[1,null]}"#),
            None,
            None,
        ])),
        Arc::new(synced.with_timezone("UTC")),
        Arc::new(BooleanArray::from(vec![false; 3])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
    (table, batch)
}
