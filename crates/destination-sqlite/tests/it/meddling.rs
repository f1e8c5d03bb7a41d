//! What others do to the tables of a database, and that nothing is said to be there which is not.

use pipeline_engine::Depth;
use pipeline_testkit::destination_suite::Row;

use super::guard::{current, damages, filled, refresh};
use super::*;

/// Writes rows to the table of six rows, and returns which of them were refused, and why.
async fn write(destination: &SqliteDestination, rows: &[Row]) -> Vec<(usize, String)> {
    let mut transaction = destination.begin().await.unwrap();
    transaction
        .write(&current(), suite::batch(&current(), rows))
        .await
        .unwrap();
    let refused = transaction
        .refused()
        .into_iter()
        .map(|refused| (refused.row, refused.reason))
        .collect();
    transaction.commit(&commit(vec![])).await.unwrap();
    refused
}

#[tokio::test]
async fn g03_a_row_that_a_trigger_swallows_is_refused() {
    for (trigger, refused) in [
        (
            "BEFORE INSERT ON demo_charges BEGIN SELECT RAISE(IGNORE); END",
            &[0, 1, 2, 3, 4][..],
        ),
        (
            "BEFORE INSERT ON demo_charges WHEN new.id = 11 BEGIN SELECT RAISE(IGNORE); END",
            &[1],
        ),
        (
            "BEFORE UPDATE ON demo_charges BEGIN SELECT RAISE(IGNORE); END",
            &[2, 4],
        ),
        (
            "AFTER INSERT ON demo_charges BEGIN DELETE FROM demo_charges WHERE id = new.id; END",
            &[0, 1, 3],
        ),
        (
            "AFTER UPDATE ON demo_charges BEGIN DELETE FROM demo_charges WHERE id = new.id; END",
            &[2, 4],
        ),
        (
            "AFTER INSERT ON demo_charges WHEN new.id > 10 BEGIN DELETE FROM demo_charges WHERE id \
             > 10; END",
            &[1, 3],
        ),
        (
            "AFTER INSERT ON demo_charges WHEN new.id > 100 BEGIN DELETE FROM demo_charges; END",
            &[],
        ),
        (
            "AFTER INSERT ON demo_charges BEGIN UPDATE demo_charges SET name = upper(name) WHERE \
             id = new.id; END",
            &[],
        ),
        // A user's own retention: rows that are written stay.
        (
            "AFTER INSERT ON demo_charges BEGIN DELETE FROM demo_charges WHERE id < 3; END",
            &[],
        ),
    ] {
        for deletes in [Deletes::Remove, Deletes::Mark] {
            let dir = tempfile::tempdir().unwrap();
            drop(filled(dir.path()).await);
            connect(dir.path())
                .execute_batch(&format!("CREATE TRIGGER mine {trigger}"))
                .unwrap();
            let destination = SqliteDestination::open(SqliteConfig {
                deletes,
                ..config(dir.path())
            })
            .unwrap();
            let found = write(
                &destination,
                &[
                    row(10, "x"),
                    row(11, "x"),
                    row(4, "x"),
                    row(12, "x"),
                    row(5, "x"),
                ],
            )
            .await;
            assert!(
                found
                    .iter()
                    .all(|(_, reason)| reason.contains("a trigger") && reason.contains("`mine`")),
                "{found:?}"
            );
            assert_eq!(
                found.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
                refused,
                "{trigger}"
            );
            let shown = visible(dir.path(), &current()).await;
            for (index, id) in [10, 11, 4, 12, 5].iter().enumerate() {
                let is_there = shown
                    .iter()
                    .any(|row| row.eq_ignore_ascii_case(&format!("{id}=x")));
                assert_eq!(
                    is_there,
                    !refused.contains(&index),
                    "{trigger}: {id}: {shown:?}"
                );
            }
            assert_eq!(damages(&destination, Depth::Content).await, [], "{trigger}");
        }
    }
}

#[tokio::test]
async fn a13_a_column_that_is_gone_is_named_and_not_added_again() {
    for (sql, text) in [
        (
            "DROP COLUMN name",
            "the column `name` of `demo_charges` was dropped or renamed",
        ),
        (
            "RENAME COLUMN name TO title",
            "the column `name` of `demo_charges` was dropped or renamed",
        ),
        (
            "RENAME COLUMN name TO Name",
            "the column `name` of `demo_charges` was dropped or renamed",
        ),
        (
            "DROP COLUMN name; ALTER TABLE demo_charges DROP COLUMN _extra",
            "the columns `_extra`, `name` of `demo_charges` were",
        ),
    ] {
        for way_out in ["refresh", "purge", "restore"] {
            let dir = tempfile::tempdir().unwrap();
            drop(filled(dir.path()).await);
            connect(dir.path())
                .execute_batch(&format!("ALTER TABLE demo_charges {sql}"))
                .unwrap();
            let destination = SqliteDestination::open(config(dir.path())).unwrap();
            let found = damages(&destination, Depth::Shape).await;
            let [damage] = &*found else {
                panic!("{sql}: {found:?}")
            };
            assert!(
                damage.table == Some(current().id()) && damage.what.contains(text),
                "{damage:?}"
            );
            assert!(
                damage
                    .help
                    .contains("`pipeline sync demo --full-refresh --streams charges`"),
                "{damage:?}"
            );
            // Whoever writes nevertheless does not make it look whole.
            let writes = [(&current(), vec![row(7, "new")])];
            destination.prepare(&[current()]).await.unwrap();
            let error = store(&destination, &writes, &commit(vec![]))
                .await
                .expect_err(sql);
            assert!(
                error.kind() == ErrorKind::Destination
                    && error.message().contains(text)
                    && error.help().is_some(),
                "{error:?}"
            );
            assert_eq!(damages(&destination, Depth::Shape).await, found, "{sql}");
            let expected = match (way_out, sql.split_once(" TO ")) {
                ("restore", Some((_, new))) => {
                    let sql = format!("ALTER TABLE demo_charges RENAME COLUMN {new} TO name");
                    connect(dir.path()).execute_batch(&sql).unwrap();
                    7
                }
                ("purge", _) => {
                    let named = (Some("demo".to_owned()), Some("charges".to_owned()));
                    let purge = pipeline_engine::Purge {
                        source: named.0,
                        stream: named.1,
                        ..suite::purge(false)
                    };
                    destination.purge(&purge).await.unwrap();
                    7
                }
                _ => {
                    refresh(dir.path()).await;
                    4
                }
            };
            assert_eq!(
                damages(&destination, Depth::Content).await,
                [],
                "{sql}: {way_out}"
            );
            store(&destination, &writes, &commit(vec![])).await.unwrap();
            assert_eq!(
                destination.status(0).await.unwrap().rows[0].1,
                expected,
                "{sql}: {way_out}"
            );
            // What was added to the schema meanwhile is registered too.
            connect(dir.path())
                .execute_batch("ALTER TABLE demo_charges DROP COLUMN _extra")
                .unwrap();
            assert_eq!(
                damages(&destination, Depth::Shape).await.len(),
                1,
                "{sql}: {way_out}"
            );
        }
    }
}

#[tokio::test]
async fn a13_new_columns_are_added_and_those_of_others_are_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let execute = |sql: &str| connect(dir.path()).execute_batch(sql).unwrap();
    execute("ALTER TABLE demo_charges ADD COLUMN mine TEXT");
    let wider = table_of(
        "demo",
        "charges",
        &["id"],
        Generation::Current,
        &[("id", DataType::Int64), ("amount", DataType::Int64)],
    );
    destination
        .prepare(std::slice::from_ref(&wider))
        .await
        .unwrap();
    refresh(dir.path()).await;
    execute("ALTER TABLE demo_charges DROP COLUMN mine");
    assert_eq!(damages(&destination, Depth::Content).await, []);
    execute("ALTER TABLE demo_charges DROP COLUMN amount");
    assert_eq!(damages(&destination, Depth::Content).await.len(), 1);
    // A refresh that does not ask for the column any more does not miss it.
    refresh(dir.path()).await;
    assert_eq!(damages(&destination, Depth::Content).await, []);
    // A table of an earlier release is adopted as it is, and its columns are registered when it is
    // written.
    drop(destination);
    execute(
        "ALTER TABLE demo_charges DROP COLUMN name; ALTER TABLE _pipeline_tables DROP COLUMN \
         columns",
    );
    let to_read = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    assert_eq!(damages(&to_read, Depth::Content).await, []);
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    assert_eq!(damages(&destination, Depth::Content).await, []);
    destination.prepare(&[current()]).await.unwrap();
    execute("ALTER TABLE demo_charges DROP COLUMN name");
    assert_eq!(damages(&destination, Depth::Content).await.len(), 1);
}

#[tokio::test]
async fn a13_a_view_in_the_place_of_a_table_is_named_and_dropping_it_is_the_way_out() {
    for is_renamed_back in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        drop(filled(dir.path()).await);
        let execute = |sql: &str| connect(dir.path()).execute_batch(sql).unwrap();
        execute(
            "ALTER TABLE demo_charges RENAME TO mine; CREATE VIEW demo_charges AS SELECT * FROM \
             mine",
        );
        let destination = SqliteDestination::open(config(dir.path())).unwrap();
        let found = damages(&destination, Depth::Content).await;
        let [damage] = &*found else {
            panic!("{found:?}")
        };
        assert_eq!(
            damage.what,
            "`demo_charges` is a view, where the stream's table was"
        );
        assert!(
            damage.help.contains("DROP VIEW \"demo_charges\"")
                && damage.help.contains("--full-refresh"),
            "{damage:?}"
        );
        for generation in [Generation::Current, Generation::Next] {
            let table = table("charges", &["id"], generation);
            destination
                .prepare(std::slice::from_ref(&table))
                .await
                .unwrap();
            let error = store(
                &destination,
                &[(&table, vec![row(7, "a")])],
                &commit(vec![]),
            )
            .await
            .expect_err("it is a view");
            assert_eq!(
                (error.message(), error.help()),
                (&*damage.what, Some(&*damage.help))
            );
        }
        let publish = Commit {
            publish: vec![current().id()],
            ..commit(vec![])
        };
        assert_eq!(
            store(&destination, &[], &publish)
                .await
                .expect_err("it is a view")
                .message(),
            damage.what
        );
        execute("DROP VIEW demo_charges");
        if is_renamed_back {
            execute("ALTER TABLE mine RENAME TO demo_charges");
        } else {
            refresh(dir.path()).await;
        }
        assert_eq!(
            damages(&destination, Depth::Content).await,
            [],
            "{is_renamed_back}"
        );
    }
}

#[tokio::test]
async fn a_failure_does_not_show_a_whole_statement() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    connect(dir.path())
        .execute_batch(
            "CREATE TRIGGER broken AFTER INSERT ON demo_charges BEGIN INSERT INTO nowhere VALUES \
             (1); END",
        )
        .unwrap();
    let error = store(
        &destination,
        &[(&current(), vec![row(7, "a")])],
        &commit(vec![]),
    )
    .await
    .expect_err("the trigger is broken");
    let text = std::error::Error::source(&error)
        .expect("what SQLite says")
        .to_string();
    assert!(
        text.contains("nowhere") && !text.contains("INSERT INTO"),
        "{text}"
    );
}

#[tokio::test]
async fn a13_an_emptied_database_is_not_taken_for_a_new_one() {
    for emptied in [
        &["_pipeline_tables", "_pipeline_feeds"][..],
        &["_pipeline_tables", "_pipeline_feeds", "_pipeline_state"],
        &["_pipeline_tables", "_pipeline_feeds", "_pipeline_commits"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let destination = filled(dir.path()).await;
        let logged = Commit {
            rows: vec![(current().id(), 1)],
            ..commit(vec![])
        };
        store(&destination, &[(&current(), vec![row(6, "b")])], &logged)
            .await
            .unwrap();
        drop(destination);
        for table in emptied.iter().chain(&["demo_charges"]) {
            connect(dir.path())
                .execute_batch(&format!("DELETE FROM {table}"))
                .unwrap();
        }
        let destination = SqliteDestination::open(config(dir.path())).unwrap();
        let found = damages(&destination, Depth::Shape).await;
        // Without its log, all of a database is damaged.
        let expected = if emptied.contains(&"_pipeline_commits") {
            None
        } else {
            Some(current().id())
        };
        assert!(
            found.iter().any(|damage| damage.table == expected),
            "{emptied:?}: {found:?}"
        );
        drop(destination);
        refresh(dir.path()).await;
        let destination = SqliteDestination::open(config(dir.path())).unwrap();
        assert_eq!(
            destination.status(0).await.unwrap().rows[0].1,
            3,
            "{emptied:?}"
        );
        assert_eq!(
            damages(&destination, Depth::Content).await,
            [],
            "{emptied:?}"
        );
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'demo_charges%'";
        assert_eq!(
            names(&connect(dir.path()), tables),
            ["demo_charges"],
            "{emptied:?}"
        );
    }
}
