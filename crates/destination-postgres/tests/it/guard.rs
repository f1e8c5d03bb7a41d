//! What other programs do to the tables is found before anything is read, and never taken for
//! empty.

use destination_postgres::{PostgresConfig, PostgresDestination};
use pipeline_core::state::{CheckpointDelta, EndpointState};
use pipeline_engine::{Commit, Depth, Destination as _, Generation};
use pipeline_testkit::destination_suite::{
    Scratch, commit, endpoint, plan, purge, row, shown, store, table,
};

use crate::{Postgres, is_skipped};
use pipeline_testkit::postgres::{Cluster, database_of};

async fn open(scratch: &Scratch) -> PostgresDestination {
    PostgresDestination::open(PostgresConfig::new(scratch.name()))
        .await
        .unwrap()
}

/// The change that plans an endpoint which feeds a stream.
fn plan_of(stream: &str) -> CheckpointDelta {
    let CheckpointDelta::Replace {
        endpoint,
        from,
        mut to,
    } = plan(stream)
    else {
        unreachable!("a plan replaces");
    };
    to.streams.insert(stream.to_owned());
    CheckpointDelta::Replace { endpoint, from, to }
}

/// What is found in a database after statements of another program, and by a destination that was
/// opened then.
async fn found(sql: &str, depth: Depth) -> Vec<String> {
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    for stream in ["charges", "refunds"] {
        let table = table(stream, &["id"], Generation::Current);
        let rows = vec![row(1, "a"), row(2, "b"), row(3, "c")];
        let commit = Commit {
            rows: vec![(table.id(), 3)],
            ..commit(vec![plan_of(stream)])
        };
        store(&destination, &[(&table, rows)], &commit)
            .await
            .unwrap();
    }
    drop(destination);
    Cluster::shared().run(database_of(scratch.name()), sql);
    let destination = open(&scratch).await;
    let damages = destination.verify(depth).await.unwrap();
    damages
        .iter()
        .map(|damage| {
            assert!(!damage.help.is_empty());
            let stream = damage.table.as_ref().map_or("*", |table| &table.stream);
            format!("{stream}: {}", damage.what)
        })
        .collect()
}

#[tokio::test]
async fn what_others_remove_is_named() {
    if is_skipped("what_others_remove_is_named") {
        return;
    }
    for (sql, expected) in [
        ("SELECT 1", ""),
        (
            "DELETE FROM demo.charges WHERE id = 2",
            "charges: `demo.charges` has 2 rows of the 3",
        ),
        (
            "TRUNCATE demo.charges",
            "charges: `demo.charges` was emptied or dropped: 3 rows",
        ),
        (
            "DROP TABLE demo.charges",
            "charges: `demo.charges` was emptied or dropped: 3 rows",
        ),
        (
            "ALTER TABLE demo.charges DROP COLUMN name",
            "charges: the column `name` of `demo.charges` was dropped",
        ),
        (
            "ALTER TABLE demo.charges RENAME name TO label",
            "charges: the column `name` of `demo.charges` was dropped",
        ),
        ("ALTER TABLE demo.charges ADD COLUMN mine text", ""),
        ("VACUUM FULL demo.charges", ""),
        (
            "ALTER TABLE demo.charges RENAME TO kept; CREATE VIEW demo.charges AS SELECT * FROM demo.kept",
            "charges: `demo.charges` is a view",
        ),
        (
            "DELETE FROM _pipeline.state WHERE endpoint = 'charges'",
            "charges: the checkpoint of `demo/charges` is missing",
        ),
        (
            "DELETE FROM _pipeline.tables WHERE stream = 'charges'",
            "charges: how many rows `demo.charges` should have is lost",
        ),
        (
            "DELETE FROM _pipeline.commits",
            "*: the commit log `_pipeline.commits` was dropped or emptied",
        ),
        (
            "DELETE FROM _pipeline.commits WHERE sequence = 1",
            "*: commits are missing",
        ),
        ("DELETE FROM _pipeline.feeds", ""),
    ] {
        let found = found(sql, Depth::Content).await;
        if expected.is_empty() {
            assert_eq!(found, [""; 0], "{sql}");
        } else {
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{sql}: {found:?}"
            );
        }
    }
    let emptied = found("TRUNCATE demo.charges", Depth::Shape).await;
    assert_eq!(emptied.len(), 1, "{emptied:?}");
}

#[tokio::test]
async fn a_dropped_table_of_checkpoints_is_not_taken_for_a_new_database() {
    if is_skipped("a_dropped_table_of_checkpoints_is_not_taken_for_a_new_database") {
        return;
    }
    let found = found("DROP TABLE _pipeline.state", Depth::Shape).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|what| what.contains("the checkpoint of")));
}

#[tokio::test]
async fn a_refresh_is_the_way_out_and_so_is_a_purge_by_name() {
    if is_skipped("a_refresh_is_the_way_out_and_so_is_a_purge_by_name") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    let rows = vec![row(1, "a"), row(2, "b"), row(3, "c")];
    store(
        &destination,
        &[(&current, rows.clone())],
        &commit(vec![plan_of("charges")]),
    )
    .await
    .unwrap();
    let database = database_of(scratch.name());
    Cluster::shared().run(database, "DELETE FROM demo.charges WHERE id = 2");
    assert_eq!(destination.verify(Depth::Shape).await.unwrap().len(), 1);
    let named = pipeline_engine::Purge {
        source: Some("demo".to_owned()),
        stream: Some("charges".to_owned()),
        ..purge(false)
    };
    destination.purge(&named).await.unwrap();
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);

    Cluster::shared().run(database, "ALTER TABLE demo.charges DROP COLUMN name");
    let error = store(
        &destination,
        &[(&current, vec![row(4, "d")])],
        &commit(vec![]),
    )
    .await
    .expect_err("its column is gone");
    assert!(
        error.message().contains("`name`") && error.help().is_some(),
        "{error:?}"
    );
    let publish = Commit {
        publish: vec![next.id()],
        ..commit(vec![])
    };
    store(&destination, &[(&next, rows)], &publish)
        .await
        .unwrap();
    assert_eq!(destination.verify(Depth::Content).await.unwrap(), []);
    assert_eq!(
        shown(&Postgres, &scratch, &current).await,
        ["1=a", "2=b", "3=c"]
    );
    assert_ne!(
        destination.load(&endpoint("charges")).await.unwrap(),
        EndpointState::default()
    );
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_alone() {
    if is_skipped("a_table_of_somebody_else_is_left_alone") {
        return;
    }
    let scratch = Cluster::shared().database();
    let database = database_of(scratch.name());
    Cluster::shared().run(database, "CREATE SCHEMA demo; CREATE TABLE demo.charges (mine text); INSERT INTO demo.charges VALUES ('mine')");
    let destination = open(&scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    store(
        &destination,
        &[(&charges, vec![row(1, "a")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(shown(&Postgres, &scratch, &charges).await, ["1=a"]);
    assert_eq!(
        Cluster::shared().run(database, "SELECT mine FROM demo.charges"),
        "mine"
    );
}
