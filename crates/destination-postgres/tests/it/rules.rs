//! What Postgres adds to the conformance suite: what others have made around the tables stays, and
//! what they forbid is respected.

use std::sync::Arc;

use arrow_schema::DataType;
use destination_postgres::{Deletes, PostgresConfig, PostgresDestination};
use pipeline_core::ErrorKind;
use pipeline_engine::{Commit, Destination as _, Generation};
use pipeline_testkit::destination_suite::{
    Row, Scratch, batch, commit, gone, plan, row, shown, store, table, table_of,
};
use tokio_postgres::Client;

use crate::{Postgres, connect, is_skipped};
use pipeline_testkit::postgres::{Cluster, database_of};

pub async fn open(scratch: &Scratch) -> PostgresDestination {
    PostgresDestination::open(PostgresConfig::new(scratch.name()))
        .await
        .unwrap()
}

/// The first column of a query's rows.
pub async fn strings(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Which version of each row is stored: it changes when a row is written, even with the same
/// values.
pub async fn versions(client: &Client, name: &str) -> Vec<String> {
    let sql = format!("SELECT id || ' ' || xmin || ' ' || ctid FROM {name} ORDER BY id");
    strings(client, &sql).await
}

pub fn publish(stream: &str) -> Commit {
    Commit {
        publish: vec![table(stream, &["id"], Generation::Next).id()],
        ..commit(vec![])
    }
}

#[tokio::test]
async fn marked_deletes_keep_the_last_values() {
    if is_skipped("marked_deletes_keep_the_last_values") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = PostgresDestination::open(PostgresConfig {
        deletes: Deletes::Mark,
        ..PostgresConfig::new(scratch.name())
    })
    .await
    .unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    let rows = vec![row(1, "a"), row(2, "b"), gone(1), gone(3)];
    store(&destination, &[(&charges, rows)], &commit(vec![]))
        .await
        .unwrap();
    let client = connect(scratch.name()).await;
    let select =
        "SELECT concat_ws(' ', id, coalesce(name, '-'), _deleted) FROM demo.charges ORDER BY id";
    assert_eq!(strings(&client, select).await, ["1 a t", "2 b f", "3 - t"]);
    store(
        &destination,
        &[(&charges, vec![row(1, "back")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(
        strings(&client, select).await,
        ["1 back f", "2 b f", "3 - t"]
    );
}

#[tokio::test]
async fn rows_that_the_database_refuses_are_returned_and_the_rest_is_committed() {
    if is_skipped("rows_that_the_database_refuses_are_returned_and_the_rest_is_committed") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let client = connect(scratch.name()).await;
    for (stream, key) in [("keyed", &["id"][..]), ("appended", &[])] {
        let charges = table(stream, key, Generation::Current);
        store(
            &destination,
            &[(&charges, vec![row(0, "taken")])],
            &commit(vec![]),
        )
        .await
        .unwrap();
        client
            .batch_execute(&format!(
                "CREATE UNIQUE INDEX ON demo.{stream} (name) WHERE name <> 'many'; ALTER TABLE demo.{stream} ADD CHECK (id <> 13);
                 CREATE OR REPLACE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
                     'BEGIN IF new.id = 77 THEN RETURN NULL; END IF; IF new.id = 78 THEN RAISE EXCEPTION ''never 78''; END IF; RETURN new; END';
                 CREATE TRIGGER left_out BEFORE INSERT ON demo.{stream} FOR EACH ROW EXECUTE FUNCTION leave_out()"
            ))
            .await
            .unwrap();
        let rows: Vec<Row> = (1..=100)
            .map(|id| row(id, if id == 50 { "taken" } else { "many" }))
            .collect();
        let mut transaction = destination.begin().await.unwrap();
        transaction
            .write(&charges, batch(&charges, &rows))
            .await
            .unwrap();
        let refused = transaction.refused();
        let why: Vec<(usize, &str)> = refused
            .iter()
            .map(|refused| (refused.row + 1, refused.reason.as_str()))
            .collect();
        let expected = [
            (13, "check constraint"),
            (50, "duplicate key"),
            (77, "`left_out`"),
            (78, "never 78"),
        ];
        assert_eq!(why.len(), expected.len(), "{stream}: {why:?}");
        for ((row, why), (expected_row, expected)) in why.iter().zip(expected) {
            assert!(
                *row == expected_row && why.contains(expected),
                "{stream}: {row} {why}"
            );
        }
        transaction.commit(&commit(vec![])).await.unwrap();
        assert_eq!(
            shown(&Postgres, &scratch, &charges).await.len(),
            97,
            "{stream}"
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

#[tokio::test]
async fn a_column_that_a_view_reads_keeps_its_type_and_loses_nothing() {
    if is_skipped("a_column_that_a_view_reads_keeps_its_type_and_loses_nothing") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let of = |generation, data_type| {
        let columns = [
            ("id", DataType::Int64),
            ("name", DataType::Utf8),
            ("count", data_type),
        ];
        table_of("demo", "charges", &["id"], generation, &columns)
    };
    let narrow = of(Generation::Current, DataType::Int64);
    store(
        &destination,
        &[(&narrow, vec![row(1, "a")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let client = connect(scratch.name()).await;
    client
        .batch_execute("CREATE VIEW counts AS SELECT count FROM demo.charges")
        .await
        .unwrap();
    for generation in [Generation::Current, Generation::Next] {
        let wide = of(generation, DataType::Utf8);
        let mut columns = batch(&wide, &[row(2, "b")]).columns().to_vec();
        columns[2] = Arc::new(arrow_array::StringArray::from(vec!["many"]));
        let written = arrow_array::RecordBatch::try_new(Arc::clone(&wide.schema), columns).unwrap();
        let mut transaction = destination.begin().await.unwrap();
        transaction.write(&wide, written).await.unwrap();
        let done = match generation {
            Generation::Current => commit(vec![]),
            Generation::Next => publish("charges"),
        };
        transaction.commit(&done).await.unwrap();
        let select = "SELECT coalesce(count::text, 'null') || ' ' || (_extra ->> 'count') FROM demo.charges WHERE id = 2";
        assert_eq!(strings(&client, select).await, ["null many"]);
    }
    // Where nothing reads it, it becomes text.
    client
        .batch_execute("DROP VIEW counts; UPDATE demo.charges SET count = 7")
        .await
        .unwrap();
    destination
        .prepare(&[of(Generation::Current, DataType::Utf8)])
        .await
        .unwrap();
    let sql = "SELECT pg_typeof(count)::text || count FROM demo.charges";
    assert_eq!(strings(&client, sql).await, ["text7"]);
}

#[tokio::test]
async fn a_changed_key_keeps_the_last_row_of_each() {
    if is_skipped("a_changed_key_keeps_the_last_row_of_each") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let appended = table("charges", &[], Generation::Current);
    let rows = vec![row(1, "a"), row(2, "b"), row(1, "c")];
    store(&destination, &[(&appended, rows)], &commit(vec![]))
        .await
        .unwrap();
    let keyed = table("charges", &["id"], Generation::Current);
    store(
        &destination,
        &[(&keyed, vec![row(2, "d")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    assert_eq!(shown(&Postgres, &scratch, &keyed).await, ["1=c", "2=d"]);
    assert_eq!(
        destination
            .verify(pipeline_engine::Depth::Content)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn long_names_and_more_columns_than_there_can_be_lose_nothing() {
    if is_skipped("long_names_and_more_columns_than_there_can_be_lose_nothing") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = open(&scratch).await;
    let long = "x".repeat(70);
    let names: Vec<String> = (0..1_700).map(|number| format!("{long}{number}")).collect();
    let mut columns: Vec<(&str, DataType)> =
        vec![("id", DataType::Int64), ("name", DataType::Utf8)];
    columns.extend(names.iter().map(|name| (name.as_str(), DataType::Int64)));
    let streams: Vec<_> = ["a", "b"]
        .map(|end| {
            table_of(
                "demo",
                &format!("{long}{end}"),
                &["id"],
                Generation::Current,
                &columns,
            )
        })
        .into();
    for (number, wide) in streams.iter().enumerate() {
        let mut arrays = batch(wide, &[row(1, "a")]).columns().to_vec();
        for place in [2, 1_701] {
            let value = i64::try_from(place + number).unwrap();
            arrays[place] = Arc::new(arrow_array::Int64Array::from(vec![value]));
        }
        let written = arrow_array::RecordBatch::try_new(Arc::clone(&wide.schema), arrays).unwrap();
        let mut transaction = destination.begin().await.unwrap();
        transaction.write(wide, written).await.unwrap();
        assert_eq!(transaction.refused(), []);
        transaction.commit(&commit(vec![])).await.unwrap();
    }
    let client = connect(scratch.name()).await;
    let tables =
        "SELECT format('%I.%I', schema_name, table_name) FROM _pipeline.tables ORDER BY stream";
    let tables = strings(&client, tables).await;
    assert_eq!(tables.len(), 2);
    for (number, name) in tables.iter().enumerate() {
        let select = format!("SELECT _extra ->> '{}' FROM {name}", names[1_699]);
        assert_eq!(
            strings(&client, &select).await,
            [(1_701 + number).to_string()]
        );
        let all = format!(
            "SELECT (to_jsonb(t) - ARRAY['id', 'name', '_extra', '_deleted', '_synced_at'])::text FROM {name} t"
        );
        let all: serde_json::Value =
            serde_json::from_str(&strings(&client, &all).await[0]).unwrap();
        let kept: Vec<i64> = all
            .as_object()
            .unwrap()
            .values()
            .filter_map(serde_json::Value::as_i64)
            .collect();
        assert_eq!(kept, [i64::try_from(2 + number).unwrap()]);
    }
}

#[tokio::test]
async fn missing_rights_are_named() {
    if is_skipped("missing_rights_are_named") {
        return;
    }
    let scratch = Cluster::shared().database();
    let database = database_of(scratch.name());
    let role = format!("poor_{database}");
    let cluster = Cluster::shared();
    cluster.run("postgres", &format!("CREATE ROLE {role} LOGIN"));
    let url = scratch.name().replace("postgres@", &format!("{role}@"));
    let error = PostgresDestination::open(PostgresConfig::new(url.clone()))
        .await
        .expect_err("it may do nothing");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert!(
        format!("{error}").contains("right") && error.help().unwrap().contains("GRANT"),
        "{error:?}"
    );

    // With a schema of its own and no right to make more, one schema for all tables works.
    cluster.run(
        database,
        &format!(
            "CREATE SCHEMA _pipeline AUTHORIZATION {role}; CREATE SCHEMA raw AUTHORIZATION {role}"
        ),
    );
    let each = PostgresDestination::open(PostgresConfig::new(url.clone()))
        .await
        .unwrap();
    let error = each.check().await.expect_err("it may not make schemas");
    assert!(error.help().unwrap().contains("schema"), "{error:?}");
    let raw = PostgresDestination::open(PostgresConfig {
        schema: "raw".to_owned(),
        ..PostgresConfig::new(url)
    })
    .await
    .unwrap();
    raw.check().await.unwrap();
    let charges = table("charges", &["id"], Generation::Current);
    store(&raw, &[(&charges, vec![row(1, "a")])], &commit(vec![]))
        .await
        .unwrap();
    assert_eq!(
        cluster.run(database, "SELECT name FROM raw.demo_charges"),
        "a"
    );
    cluster.run(database, &format!("DROP OWNED BY {role}"));
    cluster.run("postgres", &format!("DROP ROLE {role}"));
}

#[tokio::test]
async fn a_wrong_role_or_database_is_a_wrong_configuration() {
    if is_skipped("a_wrong_role_or_database_is_a_wrong_configuration") {
        return;
    }
    let scratch = Cluster::shared().database();
    let nobody = scratch.name().replace("postgres@", "nobody@");
    for url in [nobody, format!("{}_elsewhere", scratch.name())] {
        let error = PostgresDestination::open(PostgresConfig::new(url))
            .await
            .expect_err("it is not there");
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
        assert!(error.help().is_some() && error.context_value("server").is_some());
    }
    // A server that takes no writes says so.
    let read_only = format!(
        "{}?options=-c%20default_transaction_read_only%3Don",
        scratch.name()
    );
    let error = PostgresDestination::open(PostgresConfig::new(read_only))
        .await
        .expect_err("it is read only");
    assert!(error.message().contains("takes no writes"), "{error:?}");
}

#[tokio::test]
async fn reading_changes_nothing_and_works_on_an_empty_database() {
    if is_skipped("reading_changes_nothing_and_works_on_an_empty_database") {
        return;
    }
    let scratch = Cluster::shared().database();
    let url = format!(
        "{}?options=-c%20default_transaction_read_only%3Don",
        scratch.name()
    );
    let reading = PostgresDestination::open_to_read(PostgresConfig::new(url.clone()))
        .await
        .unwrap();
    assert!(reading.status(1).await.unwrap().endpoints.is_empty());
    assert_eq!(reading.runs(1).await.unwrap(), []);
    assert_eq!(
        reading.begin().await.err().unwrap().kind(),
        ErrorKind::Unsupported
    );
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = '_pipeline'";
    assert_eq!(
        Cluster::shared().run(database_of(scratch.name()), schemas),
        "0"
    );
    let destination = open(&scratch).await;
    let charges = table("charges", &["id"], Generation::Current);
    store(
        &destination,
        &[(&charges, vec![row(1, "a")])],
        &commit(vec![plan("charges")]),
    )
    .await
    .unwrap();
    let status = reading.status(5).await.unwrap();
    assert_eq!((status.commits.len(), status.rows.len()), (1, 1));
}
