//! What others remove from a database is found by counting.

use pipeline_engine::{Depth, Purge, TableId};

use super::*;

#[tokio::test]
async fn a13_what_others_remove_is_named_and_a_refresh_is_the_way_out() {
    let charges = Some(current().id());
    for (sql, table, text) in [
        (
            "DROP TABLE demo_charges",
            charges.clone(),
            "`demo_charges` was emptied or dropped: 6 rows",
        ),
        (
            "DELETE FROM demo_charges",
            charges.clone(),
            "`demo_charges` was emptied or dropped: 6 rows",
        ),
        (
            "DELETE FROM demo_charges WHERE id % 2",
            charges.clone(),
            "`demo_charges` has 3 rows of the 6",
        ),
        (
            "DELETE FROM demo_charges WHERE id = 6",
            charges.clone(),
            "`demo_charges` has 5 rows of the 6",
        ),
        (
            "DROP TABLE _pipeline_state",
            charges.clone(),
            "the checkpoint of `demo/charges` is missing",
        ),
        (
            "DELETE FROM _pipeline_state",
            charges.clone(),
            "the checkpoint of `demo/charges` is missing",
        ),
        (
            "DELETE FROM _pipeline_state WHERE endpoint = 'charges'",
            charges.clone(),
            "the checkpoint of `demo/charges` is missing",
        ),
        (
            "DROP TABLE _pipeline_commits",
            None,
            "the commit log `_pipeline_commits` was dropped or emptied",
        ),
        (
            "DELETE FROM _pipeline_commits",
            None,
            "the commit log `_pipeline_commits` was dropped or emptied",
        ),
        (
            "DROP TABLE _pipeline_tables; DROP TABLE demo_charges",
            charges,
            "how many rows `demo_charges` should have is lost",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let destination = filled(dir.path()).await;
        assert_eq!(damages(&destination, Depth::Shape).await, [], "{sql}");
        assert_eq!(damages(&destination, Depth::Content).await, [], "{sql}");
        drop(destination);
        connect(dir.path()).execute_batch(sql).unwrap();
        let destination = SqliteDestination::open(config(dir.path())).unwrap();
        let found = damages(&destination, Depth::Shape).await;
        let first = found
            .first()
            .unwrap_or_else(|| panic!("{sql}: not noticed"));
        assert_eq!(
            (&first.table, first.what.contains(text)),
            (&table, true),
            "{sql}: {first:?}"
        );
        assert!(
            first.help.contains("--full-refresh") && first.help.contains("backup"),
            "{first:?}"
        );
        if table.is_some() {
            // It stays damaged when others go on, and when the table gets new rows: a feed of
            // changes may bring some.
            let refunds = table_of(
                "demo",
                "refunds",
                &["id"],
                Generation::Current,
                &[("id", DataType::Int64)],
            );
            destination
                .prepare(&[current(), Arc::clone(&refunds)])
                .await
                .unwrap();
            store(
                &destination,
                &[(&refunds, vec![row(1, "r")])],
                &commit(vec![]),
            )
            .await
            .unwrap();
            drop(destination);
            let destination = SqliteDestination::open(config(dir.path())).unwrap();
            assert_eq!(damages(&destination, Depth::Shape).await, found, "{sql}");
            store(
                &destination,
                &[(&current(), vec![row(7, "new")])],
                &commit(vec![]),
            )
            .await
            .unwrap();
            assert_ne!(damages(&destination, Depth::Shape).await, [], "{sql}");
        }
        refresh(dir.path()).await;
        let destination = SqliteDestination::open(config(dir.path())).unwrap();
        assert_eq!(
            damages(&destination, Depth::Content).await,
            [],
            "{sql}: repaired"
        );
        assert_eq!(
            visible(dir.path(), &current()).await,
            ["1=again", "2=newer", "3=again"],
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a13_rejected_records_may_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    store(
        &destination,
        &[(
            &table("_rejected", &["id"], Generation::Current),
            vec![row(1, "bad")],
        )],
        &commit(vec![]),
    )
    .await
    .unwrap();
    connect(dir.path())
        .execute_batch("DELETE FROM demo__rejected")
        .unwrap();
    assert_eq!(damages(&destination, Depth::Content).await, []);
}

#[tokio::test]
async fn a13_an_interrupted_refresh_that_lost_its_rows_is_damaged() {
    for sql in [
        "DROP TABLE _pipeline_next_demo_charges",
        "DELETE FROM _pipeline_next_demo_charges WHERE id = 1",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let destination = filled(dir.path()).await;
        let next = table("charges", &["id"], Generation::Next);
        store(
            &destination,
            &[(&next, vec![row(1, "again"), row(2, "again")])],
            &commit(vec![]),
        )
        .await
        .unwrap();
        assert_eq!(damages(&destination, Depth::Content).await, []);
        connect(dir.path()).execute_batch(sql).unwrap();
        let found = damages(&destination, Depth::Shape).await;
        assert!(
            found.len() == 1 && found[0].what.contains("_pipeline_next_demo_charges"),
            "{sql}: {found:?}"
        );
        drop(destination);
        refresh(dir.path()).await;
        assert_eq!(
            damages(
                &SqliteDestination::open(config(dir.path())).unwrap(),
                Depth::Content
            )
            .await,
            [],
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a13_rows_that_were_deleted_on_purpose_are_accepted_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    connect(dir.path())
        .execute_batch("DELETE FROM demo_charges WHERE id = 4")
        .unwrap();
    assert!(
        damages(&destination, Depth::Shape).await[0]
            .help
            .contains("`pipeline purge demo/charges`")
    );
    let purge = Purge {
        source: Some("demo".to_owned()),
        ..suite::purge(false)
    };
    destination.purge(&purge).await.unwrap();
    assert_eq!(
        damages(&destination, Depth::Shape).await.len(),
        1,
        "a purge of everything accepts nothing"
    );
    destination
        .purge(&Purge {
            stream: Some("charges".to_owned()),
            dry_run: true,
            ..purge.clone()
        })
        .await
        .unwrap();
    assert_eq!(
        damages(&destination, Depth::Shape).await.len(),
        1,
        "a purge that only counts accepts nothing"
    );
    destination
        .purge(&Purge {
            stream: Some("charges".to_owned()),
            ..purge
        })
        .await
        .unwrap();
    assert_eq!(damages(&destination, Depth::Content).await, []);
}

/// Every number that is stored is the number of rows, whatever is done to the tables.
#[tokio::test]
async fn a13_rows_are_counted_as_they_are_written() {
    for deletes in [Deletes::Remove, Deletes::Mark] {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            SqliteDestination::open(SqliteConfig {
                deletes,
                ..config(dir.path())
            })
            .unwrap()
        };
        let destination = open();
        let check = async |place: &str| {
            let connection = connect(dir.path());
            let stored = "SELECT name || ' ' || rows || ' ' || next_rows FROM _pipeline_tables \
                          ORDER BY name";
            let count = |name: &str| {
                connection
                    .query_row(&format!("SELECT count(*) FROM \"{name}\""), [], |row| {
                        row.get(0)
                    })
                    .unwrap_or(0_i64)
            };
            let found = names(
                &connection,
                "SELECT name FROM _pipeline_tables ORDER BY name",
            )
            .into_iter();
            let found: Vec<String> = found
                .map(|name| {
                    format!(
                        "{name} {} {}",
                        count(&name),
                        count(&format!("_pipeline_next_{name}"))
                    )
                })
                .collect();
            assert_eq!(names(&connection, stored), found, "{place}");
            assert_eq!(damages(&destination, Depth::Content).await, [], "{place}");
        };
        suite::store_history(&destination).await;
        check("the history").await;
        let (events, next) = (
            table("events", &[], Generation::Current),
            suite::customers(Generation::Next),
        );
        for _ in 0..2 {
            let writes = [
                (&events, vec![row(1, "a"), row(1, "a"), gone(2)]),
                (
                    &next,
                    vec![row(1, "b"), row(30, "b"), row(1, "c"), gone(30)],
                ),
            ];
            store(&destination, &writes, &commit(vec![])).await.unwrap();
            check("rows without a key, and of a refresh").await;
        }
        let mut dropped = destination.begin().await.unwrap();
        dropped
            .write(&events, suite::batch(&events, &[row(9, "dropped")]))
            .await
            .unwrap();
        drop(dropped);
        let discard = Commit {
            discard: vec![next.id()],
            ..commit(vec![])
        };
        store(
            &destination,
            &[(&next, vec![row(4, "d"), row(5, "d")])],
            &discard,
        )
        .await
        .unwrap();
        check("a discarded refresh").await;
        let publish = Commit {
            publish: vec![next.id()],
            keep: vec![suite::keep(&next, "b")],
            ..commit(vec![])
        };
        store(&destination, &[(&next, vec![row(5, "e")])], &publish)
            .await
            .unwrap();
        check("a published refresh").await;
        destination
            .prepare(&[table("events", &["id"], Generation::Current)])
            .await
            .unwrap();
        check("another key").await;
        destination.purge(&suite::purge(true)).await.unwrap();
        check("a purge").await;
        store(
            &destination,
            &[],
            &Commit {
                publish: vec![next.id()],
                ..commit(vec![])
            },
        )
        .await
        .unwrap();
        check("nothing published").await;
    }
}

#[tokio::test]
async fn a13_a_database_of_an_earlier_release_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    let sql = "DROP TABLE _pipeline_feeds; DROP TABLE _pipeline_runs;
        ALTER TABLE _pipeline_tables DROP COLUMN rows; ALTER TABLE _pipeline_tables DROP COLUMN next_rows;
        ALTER TABLE _pipeline_tables DROP COLUMN first_row; ALTER TABLE _pipeline_tables DROP COLUMN last_row;
        UPDATE _pipeline_commits SET rows = '[[{\"source\":\"demo\",\"stream\":\"refunds\"},3]]'";
    connect(dir.path()).execute_batch(sql).unwrap();
    let to_read = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    assert_eq!(
        (
            damages(&to_read, Depth::Shape).await.len(),
            to_read.runs(5).await.unwrap().len()
        ),
        (0, 0)
    );
    assert_eq!(to_read.status(5).await.unwrap().rows.len(), 2);
    drop(SqliteDestination::open(config(dir.path())).unwrap());
    assert_eq!(
        names(
            &connect(dir.path()),
            "SELECT name || rows FROM _pipeline_tables ORDER BY name"
        ),
        ["demo_charges6", "demo_refunds0"]
    );
    connect(dir.path())
        .execute_batch("DELETE FROM _pipeline_state")
        .unwrap();
    assert_eq!(
        damages(
            &SqliteDestination::open(config(dir.path())).unwrap(),
            Depth::Shape
        )
        .await
        .len(),
        2
    );
    // What was lost before is noticed too, as far as the log tells.
    connect(dir.path())
        .execute_batch(&format!("{sql}; DROP TABLE demo_refunds"))
        .unwrap();
    let found = damages(
        &SqliteDestination::open(config(dir.path())).unwrap(),
        Depth::Shape,
    )
    .await;
    assert_eq!(
        found
            .iter()
            .map(|damage| damage.table.clone().unwrap().stream)
            .collect::<Vec<_>>(),
        ["refunds"]
    );
}

#[tokio::test]
async fn a13_what_tables_should_hold_is_lost_with_their_register() {
    let charges = current().id();
    for sql in [
        "DROP TABLE _pipeline_tables",
        "DELETE FROM _pipeline_tables",
    ] {
        for (delete, left) in [
            ("", 6),
            ("DELETE FROM demo_charges WHERE id > 2", 2),
            ("DELETE FROM demo_charges", 0),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let destination = filled(dir.path()).await;
            let logged = Commit {
                rows: vec![(charges.clone(), 1)],
                ..commit(vec![])
            };
            store(&destination, &[(&current(), vec![row(6, "b")])], &logged)
                .await
                .unwrap();
            drop(destination);
            connect(dir.path())
                .execute_batch(&format!("{sql}; {delete}"))
                .unwrap();
            let destination = SqliteDestination::open(config(dir.path())).unwrap();
            let found = damages(&destination, Depth::Shape).await;
            let [damage] = &*found else {
                panic!("{sql}; {delete}: {found:?}")
            };
            let text = format!(
                "entry in `_pipeline_tables`, was removed by another program; it has {left}"
            );
            assert!(
                damage.table.as_ref() == Some(&charges) && damage.what.contains(&text),
                "{damage:?}"
            );
            assert!(
                ["--full-refresh", "`pipeline purge demo/charges`"]
                    .iter()
                    .all(|way| damage.help.contains(way)),
                "{damage:?}"
            );
            // It stays so until the user takes one of the ways out.
            store(
                &destination,
                &[(&current(), vec![row(1, "b")])],
                &commit(vec![]),
            )
            .await
            .unwrap();
            assert_eq!(
                damages(&destination, Depth::Shape).await.len(),
                1,
                "{sql}; {delete}"
            );
            if left == 2 {
                refresh(dir.path()).await;
            } else {
                let named = (Some("demo".to_owned()), Some("charges".to_owned()));
                destination
                    .purge(&Purge {
                        source: named.0,
                        stream: named.1,
                        ..suite::purge(false)
                    })
                    .await
                    .unwrap();
            }
            assert_eq!(
                damages(&destination, Depth::Content).await,
                [],
                "{sql}; {delete}"
            );
            let of = |stream: &str| TableId {
                source: "demo".to_owned(),
                stream: stream.to_owned(),
            };
            let rows = [6, 1, 3][[6, 0, 2].iter().position(|known| *known == left).unwrap()];
            assert_eq!(
                destination.status(0).await.unwrap().rows,
                [(of("charges"), rows), (of("refunds"), 0)],
                "{sql}; {delete}"
            );
        }
    }
}

/// A way to take the database away.
type Removal = fn(&Path);

#[cfg(unix)]
#[tokio::test]
async fn a13_nothing_is_committed_to_a_file_that_no_name_leads_to() {
    let removals: [(&str, Removal); 4] = [
        ("deleted", |dir| fs::remove_file(config(dir).path).unwrap()),
        ("replaced", |dir| {
            fs::copy(config(dir).path, dir.join("copy")).unwrap();
            fs::rename(dir.join("copy"), config(dir).path).unwrap();
        }),
        ("emptied", |dir| {
            fs::File::options()
                .write(true)
                .open(config(dir).path)
                .unwrap()
                .set_len(0)
                .unwrap();
        }),
        ("deleted", |dir| {
            fs::remove_file(dir.join("warehouse.db-wal")).unwrap();
        }),
    ];
    for (how, remove) in removals {
        for is_open in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let destination = filled(dir.path()).await;
            let mut transaction = if is_open {
                Some(destination.begin().await.unwrap())
            } else {
                None
            };
            if let Some(transaction) = &mut transaction {
                transaction
                    .write(&current(), suite::batch(&current(), &[row(7, "a")]))
                    .await
                    .unwrap();
            }
            remove(dir.path());
            let error = match transaction {
                Some(transaction) => transaction.commit(&commit(vec![])).await.expect_err(how),
                None => destination.begin().await.err().expect(how),
            };
            assert_eq!(
                (error.kind(), error.is_temporary()),
                (ErrorKind::Destination, false)
            );
            assert!(
                error.message().contains(how)
                    && error.help().is_some()
                    && error.context_value("path").is_some(),
                "{error}"
            );
        }
    }
}
