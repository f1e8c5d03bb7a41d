//! Values that Postgres refuses do not fail the rows beside them, and are not lost.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use destination_postgres::{Json, PostgresConfig, PostgresDestination};
use pipeline_engine::{Destination as _, Generation, Table};
use pipeline_testkit::destination_suite::{batch, commit, row, table, table_of};

use crate::is_skipped;
use pipeline_testkit::postgres::{Cluster, database_of};

/// A table with a column of each kind that can refuse a value, and one row for each value.
fn odd_rows(values: &[(&str, i64, i32, &str)]) -> (Arc<Table>, RecordBatch) {
    let plain = table("odd", &["id"], Generation::Current);
    let json = HashMap::from([("json".to_owned(), "true".to_owned())]);
    let mut fields = vec![
        Field::new("document", DataType::Utf8, true).with_metadata(json),
        Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
        Field::new("day", DataType::Date32, true),
        Field::new("note", DataType::Utf8, true),
    ];
    fields.extend(
        plain
            .schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone()),
    );
    let rows: Vec<_> = (0..values.len())
        .map(|id| row(i64::try_from(id).unwrap(), "a"))
        .collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(
            values
                .iter()
                .map(|value| Some(value.0))
                .collect::<StringArray>(),
        ),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(values.iter().map(|value| value.1))
                .with_timezone("UTC"),
        ),
        Arc::new(Date32Array::from_iter_values(
            values.iter().map(|value| value.2),
        )),
        Arc::new(
            values
                .iter()
                .map(|value| Some(value.3))
                .collect::<StringArray>(),
        ),
    ];
    columns.extend(batch(&plain, &rows).columns().to_vec());
    let table = Arc::new(Table {
        schema: Arc::new(Schema::new(fields)),
        ..Table::clone(&plain)
    });
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
    (table, batch)
}

#[tokio::test]
async fn values_that_postgres_refuses_are_kept_beside_the_row() {
    if is_skipped("values_that_postgres_refuses_are_kept_beside_the_row") {
        return;
    }
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let (last_day, first_day) = (2_145_042_905, -719_162);
    let values = [
        (r#"{"a":1,"a":2}"#, 0, 0, "plain"),
        (r#"{"a":"\u0000"}"#, i64::MAX, last_day, "nul\0"),
        (r#"["\ud800"]"#, i64::MIN, i32::MIN, "tab\tback\\slash\r\n"),
        ("1e400", 253_402_300_800_000_000, i32::MAX, "\\N"),
        ("1e400000", -62_135_596_800_000_000, first_day, "\\."),
        (deep.as_str(), -62_135_596_800_000_001, 0, "😀\u{7f}\u{1}"),
    ];
    for json in [Json::Jsonb, Json::Json] {
        let scratch = Cluster::shared().database();
        let destination = PostgresDestination::open(PostgresConfig {
            json,
            ..PostgresConfig::new(scratch.name())
        })
        .await
        .unwrap();
        let (table, batch) = odd_rows(&values);
        let mut transaction = destination.begin().await.unwrap();
        transaction.write(&table, batch).await.unwrap();
        assert_eq!(transaction.refused(), [], "{json:?}");
        transaction.commit(&commit(vec![])).await.unwrap();
        let query = |sql: &str| Cluster::shared().run(database_of(scratch.name()), sql);
        assert_eq!(query("SELECT count(*) FROM demo.odd"), "6");
        assert_eq!(
            query("SELECT at, day FROM demo.odd WHERE id IN (1, 3, 4) ORDER BY id"),
            "294247-01-10 04:00:54.775807+00|5874897-12-31\n10000-01-01 00:00:00+00|\n0001-01-01 00:00:00+00|0001-01-01"
        );
        assert_eq!(
            query(
                "SELECT at IS NULL, _extra ->> 'at' FROM demo.odd WHERE id IN (2, 5) ORDER BY id"
            ),
            "t|-290308-12-21T19:59:05.224192Z\nt|0000-12-31T23:59:59.999999Z"
        );
        assert_eq!(
            query("SELECT note FROM demo.odd WHERE id = 1"),
            "nul\u{2400}"
        );
        assert_eq!(
            query("SELECT _extra ->> 'note' FROM demo.odd WHERE id = 1"),
            r#""nul\u0000""#
        );
        assert_eq!(
            query(
                "SELECT string_agg(note, '|' ORDER BY id) = E'tab\\tback\\\\slash\\r\\n|\\\\N|\\\\.' FROM demo.odd WHERE id BETWEEN 2 AND 4"
            ),
            "t"
        );
        let kept = query("SELECT length(_extra ->> 'document') FROM demo.odd WHERE id = 5");
        assert_eq!(
            kept,
            deep.len().to_string(),
            "{json:?}: all of what is too deep"
        );
        let documents =
            query("SELECT document::text FROM demo.odd WHERE id < 5 AND id <> 3 ORDER BY id");
        match json {
            Json::Jsonb => {
                assert_eq!(
                    documents,
                    "{\"a\": 2}\n{\"a\": \"\u{2400}\"}\n[\"\u{fffd}\"]\n\"1e400000\""
                );
                assert_eq!(
                    query("SELECT length(document::text) FROM demo.odd WHERE id = 3"),
                    "401"
                );
                assert_eq!(
                    query(
                        "SELECT _extra ->> 'document' FROM demo.odd WHERE id IN (1, 2, 4) ORDER BY id"
                    ),
                    "{\"a\":\"\\u0000\"}\n[\"\\ud800\"]\n1e400000"
                );
            }
            Json::Json => assert_eq!(
                documents,
                "{\"a\":1,\"a\":2}\n{\"a\":\"\\u0000\"}\n[\"\\ud800\"]\n1e400000"
            ),
        }
    }
}

#[tokio::test]
async fn numbers_keep_all_digits_when_their_column_becomes_wider() {
    if is_skipped("numbers_keep_all_digits_when_their_column_becomes_wider") {
        return;
    }
    let scratch = Cluster::shared().database();
    let destination = PostgresDestination::open(PostgresConfig::new(scratch.name()))
        .await
        .unwrap();
    let of = |data_type| {
        table_of(
            "demo",
            "wide",
            &["id"],
            Generation::Current,
            &[("id", DataType::Int64), ("amount", data_type)],
        )
    };
    let write = async |table: &Arc<Table>, id: i64, amount: ArrayRef| {
        let mut columns = batch(table, &[row(id, "a")]).columns().to_vec();
        columns[0] = Arc::new(Int64Array::from(vec![id]));
        columns[1] = amount;
        let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
        let mut transaction = destination.begin().await.unwrap();
        transaction.write(table, batch).await.unwrap();
        transaction.commit(&commit(vec![])).await.unwrap();
    };
    let amounts = "SELECT string_agg(amount::text, ' ' ORDER BY id) FROM demo.wide";
    let query = |sql: &str| Cluster::shared().run(database_of(scratch.name()), sql);
    write(
        &of(DataType::Float64),
        1,
        Arc::new(arrow_array::Float64Array::from(vec![0.1 + 0.2])),
    )
    .await;
    write(
        &of(DataType::Int64),
        2,
        Arc::new(Int64Array::from(vec![i64::MAX])),
    )
    .await;
    assert_eq!(query(amounts), "0.30000000000000004 9223372036854775807");
    write(
        &of(DataType::Utf8),
        3,
        Arc::new(StringArray::from(vec!["many"])),
    )
    .await;
    assert_eq!(
        query(amounts),
        "0.30000000000000004 9223372036854775807 many"
    );
}
