//! Rows that the database refuses: each is returned, and the rest is committed.

use pipeline_engine::Depth;

use super::*;

#[tokio::test]
async fn g03_a_row_that_the_database_refuses_is_returned_and_the_rest_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    connect(dir.path())
        .execute_batch(
            "UPDATE demo_charges SET name = name || id; CREATE UNIQUE INDEX one_name ON demo_charges (name);
             CREATE TRIGGER no_secret BEFORE INSERT ON demo_charges WHEN new.name = 'bad' BEGIN SELECT RAISE(ABORT, 'no secrets'); END;",
        )
        .unwrap();
    let mut transaction = destination.begin().await.unwrap();
    let rows = [
        row(10, "x"),
        row(11, "x"),
        row(1, "a2"),
        row(12, "bad"),
        row(13, "y"),
        gone(2),
        row(14, "a2"),
    ];
    transaction
        .write(&current(), suite::batch(&current(), &rows))
        .await
        .unwrap();
    let refused: Vec<_> = transaction
        .refused()
        .into_iter()
        .map(|refused| (refused.row, refused.reason))
        .collect();
    let taken = "UNIQUE constraint failed: demo_charges.name".to_owned();
    assert_eq!(
        refused,
        [(1, taken.clone()), (2, taken), (3, "no secrets".to_owned())]
    );
    assert_eq!(transaction.refused(), []);
    transaction.commit(&commit(vec![])).await.unwrap();
    let left = [
        "10=x", "13=y", "14=a2", "1=a1", "3=a3", "4=a4", "5=a5", "6=a6",
    ];
    assert_eq!(visible(dir.path(), &current()).await, left);
    assert_eq!(damages(&destination, Depth::Content).await, []);
}

#[tokio::test]
async fn g03_a_refresh_leaves_out_the_rows_that_an_index_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let indexes = "UPDATE demo_charges SET name = id; CREATE UNIQUE INDEX one_name ON demo_charges (name COLLATE NOCASE);
        CREATE INDEX other ON demo_charges (id, name)";
    connect(dir.path()).execute_batch(indexes).unwrap();
    let next = table("charges", &["id"], Generation::Next);
    let mut transaction = destination.begin().await.unwrap();
    let rows = [
        row(1, "x"),
        row(2, "X"),
        row(3, "y"),
        row(1, "z"),
        row(4, "x"),
    ];
    transaction
        .write(&next, suite::batch(&next, &rows))
        .await
        .unwrap();
    assert_eq!(
        transaction
            .refused()
            .into_iter()
            .map(|refused| refused.row)
            .collect::<Vec<_>>(),
        [1]
    );
    transaction
        .commit(&Commit {
            publish: vec![current().id()],
            ..commit(vec![])
        })
        .await
        .unwrap();
    assert_eq!(visible(dir.path(), &current()).await, ["1=z", "3=y", "4=x"]);
    let names = names(
        &connect(dir.path()),
        "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name",
    );
    assert_eq!(names, ["one_name", "other"]);
    assert_eq!(damages(&destination, Depth::Content).await, []);
}

#[tokio::test]
async fn g03_an_index_that_a_refresh_breaks_is_named_and_the_table_stays() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let index = "UPDATE demo_charges SET name = id; CREATE UNIQUE INDEX one_name ON demo_charges \
                 (lower(name))";
    connect(dir.path()).execute_batch(index).unwrap();
    let next = table("charges", &["id"], Generation::Next);
    let publish = Commit {
        publish: vec![current().id()],
        ..commit(vec![])
    };
    let error = store(
        &destination,
        &[(&next, vec![row(1, "x"), row(2, "x")])],
        &publish,
    )
    .await
    .expect_err("two of one name");
    assert!(
        error.message().contains("`one_name`") && error.help().is_some(),
        "{error:?}"
    );
    assert_eq!(visible(dir.path(), &current()).await.len(), 6);
    assert_eq!(damages(&destination, Depth::Content).await, []);
}

#[tokio::test]
async fn g03_a_trigger_that_ends_the_transaction_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let trigger = "CREATE TRIGGER stop BEFORE INSERT ON demo_charges WHEN new.id = 11 BEGIN SELECT \
                   RAISE(ROLLBACK, 'stop'); END;";
    connect(dir.path()).execute_batch(trigger).unwrap();
    let writes = [(&current(), vec![row(10, "x"), row(11, "x"), row(12, "x")])];
    let error = store(&destination, &writes, &commit(vec![]))
        .await
        .expect_err("the rows before it are gone");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert_eq!(visible(dir.path(), &current()).await.len(), 6);
}
