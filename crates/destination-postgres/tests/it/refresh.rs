//! What readers and other writers see while tables change: nothing but whole commits, and nothing
//! that is the same is written.

use destination_postgres::{PostgresConfig, PostgresDestination};
use pipeline_engine::{Destination as _, Generation};
use pipeline_testkit::destination_suite::{
    Row, advance, commit, gone, plan, row, shown, store, table,
};

use crate::rules::{open, publish, strings, versions};
use crate::{Postgres, connect, is_skipped};
use pipeline_testkit::postgres::Cluster;

#[tokio::test]
async fn views_grants_indexes_and_unchanged_rows_outlive_a_refresh() {
    if is_skipped("views_grants_indexes_and_unchanged_rows_outlive_a_refresh") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    let rows = vec![row(1, "same"), row(2, "old"), row(3, "leaves")];
    store(&destination, &[(&current, rows)], &commit(vec![]))
        .await
        .unwrap();
    let client = connect(scratch.name()).await;
    client
        .batch_execute(
            "DROP ROLE IF EXISTS analyst; CREATE ROLE analyst; GRANT USAGE ON SCHEMA demo TO analyst;
             GRANT SELECT ON demo.charges TO analyst; CREATE VIEW names AS SELECT name FROM demo.charges;
             CREATE INDEX by_name ON demo.charges (name); ALTER TABLE demo.charges ADD COLUMN mine text DEFAULT 'x';
             CREATE TABLE log (id bigint, operation text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO log VALUES (coalesce(new.id, old.id), tg_op); RETURN NULL; END';
             CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON demo.charges FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await
        .unwrap();
    let before = versions(&client, "demo.charges").await;
    let refreshed = vec![row(1, "same"), row(2, "new"), row(4, "comes")];
    store(&destination, &[(&next, refreshed)], &publish("charges"))
        .await
        .unwrap();
    assert_eq!(
        strings(&client, "SELECT name FROM names ORDER BY name").await,
        ["comes", "new", "same"]
    );
    assert_eq!(versions(&client, "demo.charges").await[0], before[0]);
    assert_eq!(
        strings(
            &client,
            "SELECT id || ' ' || operation FROM log ORDER BY id"
        )
        .await,
        ["2 UPDATE", "3 DELETE", "4 INSERT"],
        "only what differs is written"
    );
    client.batch_execute("SET ROLE analyst").await.unwrap();
    assert_eq!(
        strings(&client, "SELECT mine FROM demo.charges WHERE id = 1").await,
        ["x"]
    );
    client
        .batch_execute("RESET ROLE; DROP OWNED BY analyst; DROP ROLE analyst")
        .await
        .unwrap();
    let left = "SELECT relname::text FROM pg_class WHERE relnamespace = '_pipeline'::regnamespace AND relname ~ '^(next|gone)_'";
    assert_eq!(strings(&client, left).await, [""; 0]);
}

#[tokio::test]
async fn rows_that_are_read_again_are_not_written_again() {
    if is_skipped("rows_that_are_read_again_are_not_written_again") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    let rows = vec![row(1, "a"), row(2, "b")];
    store(&destination, &[(&charges, rows.clone())], &commit(vec![]))
        .await
        .unwrap();
    let client = connect(scratch.name()).await;
    let before = versions(&client, "demo.charges").await;
    store(&destination, &[(&charges, rows)], &commit(vec![]))
        .await
        .unwrap();
    assert_eq!(versions(&client, "demo.charges").await, before);
    store(
        &destination,
        &[(&charges, vec![row(1, "c")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let after = versions(&client, "demo.charges").await;
    assert!(after[0] != before[0] && after[1] == before[1]);
}

#[tokio::test]
async fn a_first_refresh_takes_the_name_of_a_table_that_nobody_has_used() {
    if is_skipped("a_first_refresh_takes_the_name_of_a_table_that_nobody_has_used") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let client = connect(scratch.name()).await;
    for (stream, is_used) in [("free", false), ("used", true)] {
        let (current, next) = (
            table(stream, &["id"], Generation::Current),
            table(stream, &["id"], Generation::Next),
        );
        destination.prepare(&[current]).await.unwrap();
        if is_used {
            let view = format!("CREATE VIEW watcher AS SELECT id::text FROM demo.{stream}");
            client.batch_execute(&view).await.unwrap();
        }
        store(&destination, &[(&next, vec![row(1, "a")])], &commit(vec![]))
            .await
            .unwrap();
        let file = |name: &str| {
            let sql = format!("SELECT pg_relation_filenode('{name}')::text");
            let client = &client;
            async move { strings(client, &sql).await }
        };
        let number = strings(
            &client,
            &format!("SELECT number::text FROM _pipeline.tables WHERE table_name = '{stream}'"),
        )
        .await;
        let collected = file(&format!("_pipeline.next_{}", number[0])).await;
        store(
            &destination,
            &[(&next, vec![row(2, "b")])],
            &publish(stream),
        )
        .await
        .unwrap();
        let is_renamed = file(&format!("demo.{stream}")).await == collected;
        assert_eq!(is_renamed, !is_used, "{stream}");
        let comment = format!("SELECT obj_description('demo.{stream}'::regclass)");
        assert_eq!(
            strings(&client, &comment).await,
            [format!(
                "stream {stream} of source demo, written by pipeline"
            )]
        );
        // It is a table like any other from now on.
        let later = table(stream, &["id"], Generation::Current);
        store(
            &destination,
            &[(&later, vec![row(1, "c"), gone(2)])],
            &commit(vec![]),
        )
        .await
        .unwrap();
        assert_eq!(shown(&Postgres, &scratch, &later).await, ["1=c"]);
        assert_eq!(
            strings(&client, &format!("SELECT attname::text FROM pg_attribute WHERE attrelid = 'demo.{stream}'::regclass AND attname ~ '^_pipeline'")).await,
            [""; 0]
        );
    }
    assert_eq!(strings(&client, "SELECT id FROM watcher").await, ["1"]);
}

#[tokio::test]
async fn values_that_rows_have_swapped_are_published_under_a_unique_index() {
    if is_skipped("values_that_rows_have_swapped_are_published_under_a_unique_index") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    let rows = vec![row(1, "a"), row(2, "b"), row(3, "c")];
    store(&destination, &[(&current, rows)], &commit(vec![]))
        .await
        .unwrap();
    let client = connect(scratch.name()).await;
    client
        .batch_execute("CREATE UNIQUE INDEX ON demo.charges (name)")
        .await
        .unwrap();
    let swapped = vec![row(1, "b"), row(2, "a"), row(3, "c")];
    store(&destination, &[(&next, swapped)], &publish("charges"))
        .await
        .unwrap();
    assert_eq!(
        shown(&Postgres, &scratch, &current).await,
        ["1=b", "2=a", "3=c"]
    );

    // What an index on an expression forbids is found when the table is published.
    client
        .batch_execute("CREATE UNIQUE INDEX ON demo.charges (lower(name))")
        .await
        .unwrap();
    let wrong = vec![row(1, "x"), row(2, "X")];
    let error = store(&destination, &[(&next, wrong)], &publish("charges"))
        .await
        .expect_err("the index forbids it");
    assert!(
        error.message().contains("duplicate key") && error.help().is_some(),
        "{error:?}"
    );
    assert_eq!(
        shown(&Postgres, &scratch, &current).await,
        ["1=b", "2=a", "3=c"]
    );
}

#[tokio::test]
async fn twenty_writers_at_once_lose_and_double_nothing() {
    if is_skipped("twenty_writers_at_once_lose_and_double_nothing") {
        return;
    }
    let scratch = Cluster::shared().database();
    open(&scratch).await;
    let url = scratch.name().to_owned();
    let writers = (0..20_i64).map(|writer| {
        let url = url.clone();
        tokio::spawn(async move {
            let destination = PostgresDestination::open(PostgresConfig::new(url))
                .await
                .unwrap();
            let (shared, own) = (
                table("shared", &["id"], Generation::Current),
                table("own", &[], Generation::Current),
            );
            let name = format!("endpoint_{writer}");
            for page in 0..5 {
                let change = if page == 0 {
                    plan(&name)
                } else {
                    advance(&name, page - 1)
                };
                // A lock that is held for long is worth another try, as the engine tries again.
                let id = writer * 100 + i64::try_from(page).unwrap();
                let rows = [
                    (&shared, vec![row(1, "everybody"), row(id + 10, "mine")]),
                    (&own, vec![row(id, "mine")]),
                ];
                while let Err(error) =
                    store(&destination, &rows, &commit(vec![change.clone()])).await
                {
                    assert!(error.is_temporary(), "{error:?}");
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let destination = open(&scratch).await;
    let own = table("own", &[], Generation::Current);
    assert_eq!(shown(&Postgres, &scratch, &own).await.len(), 100);
    let shared = table("shared", &["id"], Generation::Current);
    assert_eq!(shown(&Postgres, &scratch, &shared).await.len(), 101);
    assert_eq!(
        destination.status(1).await.unwrap().commits[0].sequence,
        100
    );
    assert_eq!(
        destination
            .verify(pipeline_engine::Depth::Content)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn readers_never_see_half_a_commit_nor_an_empty_table() {
    if is_skipped("readers_never_see_half_a_commit_nor_an_empty_table") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let (current, next) = (
        table("charges", &["id"], Generation::Current),
        table("charges", &["id"], Generation::Next),
    );
    let version = |number: i64| -> Vec<Row> {
        (0..300)
            .map(|id| {
                row(
                    id,
                    if id % 3 == 0 {
                        "same".to_owned()
                    } else {
                        number.to_string()
                    },
                )
            })
            .collect()
    };
    store(&destination, &[(&current, version(0))], &commit(vec![]))
        .await
        .unwrap();
    let client = connect(scratch.name()).await;
    client
        .batch_execute("CREATE VIEW seen AS SELECT * FROM demo.charges")
        .await
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let reader = tokio::spawn(async move {
        let mut stopped = stopped;
        let mut reads = 0;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            let sql = "SELECT count(*), count(DISTINCT id), count(DISTINCT name) FROM seen";
            let row = client.query_one(sql, &[]).await.unwrap();
            let seen: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(seen, (300, 300, 2));
            reads += 1;
        }
        reads
    });
    for number in 1..=12 {
        let rows = version(number);
        let halves = rows.split_at(150);
        if number % 2 == 0 {
            let writes = [(&current, halves.0.to_vec()), (&current, halves.1.to_vec())];
            store(&destination, &writes, &commit(vec![])).await.unwrap();
        } else {
            let writes = [(&next, halves.0.to_vec()), (&next, halves.1.to_vec())];
            store(&destination, &writes, &publish("charges"))
                .await
                .unwrap();
        }
    }
    stop.send(()).unwrap();
    assert!(
        reader.await.unwrap() > 12,
        "a reader was there all the time"
    );
}

#[tokio::test]
async fn rows_that_are_copied_straight_into_a_table_are_those_that_are_new() {
    if is_skipped("rows_that_are_copied_straight_into_a_table_are_those_that_are_new") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let rows = |ids: std::ops::Range<i64>, name: &'static str| -> Vec<Row> {
        ids.map(|id| row(id, name)).collect()
    };
    for (stream, generation) in [("now", Generation::Current), ("later", Generation::Next)] {
        let charges = table(stream, &["id"], generation);
        // All new, all new, half known, a key twice in a batch, deleted and back.
        for batch in [
            rows(0..1_000, "a"),
            rows(1_000..2_000, "b"),
            rows(1_500..2_500, "c"),
            [rows(2_500..3_500, "d"), vec![row(2_500, "e"), gone(2_501)]].concat(),
            [rows(3_500..4_500, "f"), vec![gone(0)]].concat(),
            vec![row(0, "back")],
        ] {
            store(&destination, &[(&charges, batch)], &commit(vec![]))
                .await
                .unwrap();
        }
        if generation == Generation::Next {
            store(&destination, &[], &publish(stream)).await.unwrap();
        }
        let client = connect(scratch.name()).await;
        let names = format!(
            "SELECT name || ' ' || count(*) FROM demo.{stream} GROUP BY name ORDER BY name"
        );
        assert_eq!(
            strings(&client, &names).await,
            [
                "a 999", "b 500", "back 1", "c 1000", "d 998", "e 1", "f 1000"
            ]
        );
        assert_eq!(
            destination
                .verify(pipeline_engine::Depth::Content)
                .await
                .unwrap(),
            []
        );
    }
}
