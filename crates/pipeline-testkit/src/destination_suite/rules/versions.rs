//! Rules of rows with and without a key: what replaces what, and what is stored once.

use arrow_array::{RecordBatch, TimestampMicrosecondArray};
use arrow_schema::DataType;

use super::*;

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
