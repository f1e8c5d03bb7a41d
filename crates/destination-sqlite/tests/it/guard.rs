//! What the database is compared with: rows, checkpoints and files that others remove.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use pipeline_core::state::Change;
use pipeline_engine::{Damage as Found, Depth, Purge, TableId};

use super::*;

/// The change that plans an endpoint which feeds the stream of the same name.
fn plan_of(stream: &str, from: EndpointState) -> Change {
    let mut to = from.next_plan();
    to.streams = BTreeSet::from([stream.to_owned()]);
    Change::Replace {
        endpoint: endpoint(stream),
        from,
        to,
    }
}

pub(super) fn current() -> Arc<Table> {
    table("charges", &["id"], Generation::Current)
}

/// A database with a table of six rows, one without rows, and a checkpoint of each.
pub(super) async fn filled(dir: &Path) -> SqliteDestination {
    let destination = SqliteDestination::open(config(dir)).unwrap();
    let refunds = table("refunds", &["id"], Generation::Current);
    destination.prepare(&[current(), refunds]).await.unwrap();
    let plans = vec![
        plan_of("charges", EndpointState::default()),
        plan_of("refunds", EndpointState::default()),
    ];
    let rows: Vec<_> = (1..=6).map(|id| row(id, "a")).collect();
    store(&destination, &[(&current(), rows)], &commit(plans))
        .await
        .unwrap();
    destination
}

pub(super) async fn damages(destination: &SqliteDestination, depth: Depth) -> Vec<Found> {
    destination.verify(depth).await.unwrap()
}

/// Reads the table again, as a full refresh does.
pub(super) async fn refresh(dir: &Path) {
    let destination = SqliteDestination::open(config(dir)).unwrap();
    let states = destination.states("demo").await.unwrap();
    let next = table("charges", &["id"], Generation::Next);
    destination
        .prepare(std::slice::from_ref(&next))
        .await
        .unwrap();
    let changes = ["charges", "refunds"].map(|stream| {
        plan_of(
            stream,
            states.get(&endpoint(stream)).cloned().unwrap_or_default(),
        )
    });
    let begun = Commit {
        discard: vec![current().id()],
        ..commit(changes.to_vec())
    };
    store(
        &destination,
        &[(&next, vec![row(1, "again"), row(2, "again")])],
        &begun,
    )
    .await
    .unwrap();
    let publish = Commit {
        publish: vec![current().id()],
        ..commit(vec![])
    };
    store(
        &destination,
        &[(&next, vec![row(2, "newer"), row(3, "again")])],
        &publish,
    )
    .await
    .unwrap();
}

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
            let stored = "SELECT name || ' ' || rows || ' ' || next_rows FROM _pipeline_tables ORDER BY name";
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

/// The files of a folder, with what tells whether they were written to.
fn look(dir: &Path) -> Vec<(String, SystemTime, u64)> {
    let file = |entry: fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        (
            entry.file_name().into_string().unwrap(),
            metadata.modified().unwrap(),
            metadata.len(),
        )
    };
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| file(entry.unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a18_reading_writes_nothing_not_even_beside_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let expected = destination.status(10).await.unwrap();
    let beside = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    assert_eq!(
        beside.status(10).await.unwrap().rows,
        expected.rows,
        "while another process has it open"
    );
    drop(destination);
    let before = look(dir.path());
    assert!(
        before.iter().all(|(name, ..)| !name.ends_with("-wal")),
        "{before:?}"
    );
    let mut permissions = fs::metadata(dir.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(dir.path(), permissions.clone()).unwrap();
    let reading = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    let status = reading.status(10).await.unwrap();
    assert_eq!(
        (&status.rows, &status.commits, &status.endpoints),
        (&expected.rows, &expected.commits, &expected.endpoints)
    );
    assert_eq!(reading.states("demo").await.unwrap().len(), 2);
    assert_eq!(
        (
            reading.runs(5).await.unwrap(),
            damages(&reading, Depth::Content).await
        ),
        (vec![], vec![])
    );
    for error in [
        reading.begin().await.err(),
        reading.check().await.err(),
        reading.prepare(&[current()]).await.err(),
        reading.purge(&suite::purge(true)).await.err(),
    ] {
        assert_eq!(
            error.map(|error| error.kind()),
            Some(ErrorKind::Unsupported)
        );
    }
    assert_eq!(look(dir.path()), before);
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "the folder of a test"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(dir.path(), permissions).unwrap();
    // What was written meanwhile is seen.
    let writing = SqliteDestination::open(config(dir.path())).unwrap();
    store(
        &writing,
        &[(&current(), vec![row(9, "new")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(
        reading.status(10).await.unwrap().rows,
        writing.status(10).await.unwrap().rows
    );
}

#[tokio::test]
async fn a18_what_a_killed_process_left_in_the_log_is_read() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let destination = filled(dir.path()).await;
    // As a process leaves it that is killed: the log is not in the database yet.
    for file in ["warehouse.db", "warehouse.db-wal", "warehouse.db-shm"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    let reading = SqliteDestination::open_to_read(config(copy.path())).unwrap();
    assert_eq!(
        reading.status(10).await.unwrap().rows,
        destination.status(10).await.unwrap().rows
    );
}

#[tokio::test]
async fn a18_a_database_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = SqliteDestination::open_to_read(config(dir.path())).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Destination && error.help().is_some(),
        "{error:?}"
    );
    SqliteCheckpoints::open_to_read(dir.path().join("checkpoints.db")).unwrap_err();
    assert_eq!(look(dir.path()).len(), 0);
    fs::write(config(dir.path()).path, "").unwrap();
    let empty = SqliteDestination::open_to_read(config(dir.path())).unwrap();
    assert_eq!(empty.status(10).await.unwrap().rows, []);
    assert_eq!(fs::metadata(config(dir.path()).path).unwrap().len(), 0);
    let checkpoints = SqliteCheckpoints::open(dir.path().join("checkpoints.db")).unwrap();
    checkpoints.apply(&[plan("charges")]).await.unwrap();
    drop(checkpoints);
    let before = look(dir.path());
    let reading = SqliteCheckpoints::open_to_read(dir.path().join("checkpoints.db")).unwrap();
    assert_eq!(
        (
            reading.list().await.unwrap().len(),
            reading.runs(5).await.unwrap().len()
        ),
        (1, 0)
    );
    assert_eq!(
        reading.apply(&[plan("refunds")]).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(look(dir.path()), before);
}

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
    let index = "UPDATE demo_charges SET name = id; CREATE UNIQUE INDEX one_name ON demo_charges (lower(name))";
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
    let trigger = "CREATE TRIGGER stop BEFORE INSERT ON demo_charges WHEN new.id = 11 BEGIN SELECT RAISE(ROLLBACK, 'stop'); END;";
    connect(dir.path()).execute_batch(trigger).unwrap();
    let writes = [(&current(), vec![row(10, "x"), row(11, "x"), row(12, "x")])];
    let error = store(&destination, &writes, &commit(vec![]))
        .await
        .expect_err("the rows before it are gone");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert_eq!(visible(dir.path(), &current()).await.len(), 6);
}

#[tokio::test]
async fn d12_a_planned_stream_has_a_table_whichever_generation_its_rows_go_to() {
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let tables = [("a", Generation::Next), ("b", Generation::Current)]
        .map(|(stream, generation)| table(stream, &["id"], generation));
    destination.prepare(&tables).await.unwrap();
    destination.prepare(&tables).await.unwrap();
    assert_eq!(
        names(
            &connect(dir.path()),
            "SELECT name FROM sqlite_master WHERE name LIKE 'demo%' AND type = 'table'"
        ),
        ["demo_a", "demo_b"]
    );
    let columns = "SELECT name FROM pragma_table_info('demo_a')";
    assert_eq!(
        names(&connect(dir.path()), columns),
        ["id", "name", "_extra", "_synced_at", "_deleted"]
    );
    assert_eq!(damages(&destination, Depth::Content).await, []);
}

#[tokio::test]
async fn g02_a_lock_that_is_held_for_long_is_worth_another_try() {
    let dir = tempfile::tempdir().unwrap();
    let destination = filled(dir.path()).await;
    let other = connect(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = destination.begin().await.err().expect("it is locked");
    assert!(error.is_temporary(), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    destination.begin().await.unwrap();
}

#[tokio::test]
async fn d5_a_process_that_is_killed_gives_its_claim_back() {
    /// Makes the test the process that is killed, and gives it its folder.
    const FOLDER: &str = "PIPELINE_CLAIM_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let destination = SqliteDestination::open(config(Path::new(&folder))).unwrap();
        let _claim = destination.claim("shop", "run-killed").await.unwrap();
        tokio::time::sleep(Duration::from_mins(1)).await;
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let destination = SqliteDestination::open(config(dir.path())).unwrap();
    let name = "guard::d5_a_process_that_is_killed_gives_its_claim_back";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command
        .args([name, "--exact"])
        .env(FOLDER, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let written = || {
        fs::read_to_string(dir.path().join("warehouse.db-lock-shop"))
            .is_ok_and(|text| text.contains("run-killed"))
    };
    while !written() && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = destination
        .claim("shop", "run-second")
        .await
        .expect_err("the process lives");
    assert_eq!(
        (error.kind(), error.context_value("run")),
        (ErrorKind::CheckpointConflict, Some("run-killed"))
    );
    assert_eq!(
        error.context_value("process"),
        Some(child.id().to_string().as_str()),
        "{error}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    destination.claim("shop", "run-second").await.unwrap();
}
