//! Rules of transactions: rows and checkpoint become visible together, or not at all.

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
