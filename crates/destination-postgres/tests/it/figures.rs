//! How fast rows are loaded, and how much a refresh writes. `cargo xtask bench postgres` runs it
//! with many rows.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "prints figures, which no loss of precision shows in"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use destination_postgres::{PostgresConfig, PostgresDestination};
use futures::SinkExt as _;
use pipeline_engine::{Commit, DELETED, Destination as _, EXTRA, Generation, SYNCED_AT, Table};
use pipeline_testkit::destination_suite::commit;

use crate::{connect, is_skipped};
use pipeline_testkit::postgres::Cluster;

/// Environment variable with the number of rows.
const ROWS: &str = "PIPELINE_FIGURES_ROWS";

/// How many rows are loaded, in twenty batches.
fn number_of_rows() -> i64 {
    std::env::var(ROWS).map_or(2_000, |rows| rows.parse().unwrap())
}

/// A table like that of Stripe's charges, less some columns.
fn charges(generation: Generation) -> Arc<Table> {
    let json = || HashMap::from([("json".to_owned(), "true".to_owned())]);
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("amount", DataType::Int64, true),
        Field::new("created", instant.clone(), true),
        Field::new("customer", DataType::Utf8, true),
        Field::new("paid", DataType::Boolean, true),
        Field::new("card", DataType::Utf8, true).with_metadata(json()),
        Field::new(EXTRA, DataType::Utf8, true).with_metadata(json()),
        Field::new(SYNCED_AT, instant, false),
        Field::new(DELETED, DataType::Boolean, false),
    ];
    Arc::new(Table {
        source: "demo".to_owned(),
        stream: "charges".to_owned(),
        primary_key: vec!["id".to_owned()],
        schema: Arc::new(Schema::new(fields)),
        generation,
    })
}

fn id(row: i64) -> String {
    // Spread over the key space, as a vendor's are.
    format!(
        "ch_{:016x}",
        row.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    )
}

fn card(row: i64) -> String {
    let text = "x".repeat(usize::try_from(row % 40).unwrap());
    format!(
        r#"{{"brand":"visa","checks":{{"address":null,"cvc":"pass","note":"{text}"}},"country":"DE","exp_month":{},"exp_year":2031,"fingerprint":"{}","funding":"credit","last4":"{:04}","metadata":{{"order":"order-{row}","shop":"north","tags":["a","b","c"]}},"outcome":{{"network_status":"approved_by_network","reason":null,"risk_level":"normal","risk_score":{},"seller_message":"Payment complete.","type":"authorized"}},"statement":{{"descriptor":"PIPELINE EXAMPLE","suffix":null}},"wallet":null}}"#,
        row % 12 + 1,
        id(row * 7),
        row % 10_000,
        row % 100
    )
}

/// Rows of some numbers; those that `changed` names have another amount.
fn batch(table: &Table, rows: &[i64], changed: impl Fn(i64) -> bool) -> RecordBatch {
    let instants = |value: fn(i64) -> i64| -> ArrayRef {
        let values = rows.iter().map(|row| value(*row));
        Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
    };
    let strings = |value: &dyn Fn(i64) -> String| -> ArrayRef {
        Arc::new(
            rows.iter()
                .map(|row| Some(value(*row)))
                .collect::<StringArray>(),
        )
    };
    let amounts = rows
        .iter()
        .map(|row| row % 5_000 + i64::from(changed(*row)));
    let columns: Vec<ArrayRef> = vec![
        strings(&id),
        Arc::new(Int64Array::from_iter_values(amounts)),
        instants(|row| 1_700_000_000_000_000 + row * 1_000_000),
        strings(&|row| format!("cus_{:014}", row % 5_000)),
        Arc::new(
            rows.iter()
                .map(|row| Some(row % 9 > 0))
                .collect::<BooleanArray>(),
        ),
        strings(&card),
        strings(&|row| format!(r#"{{"receipt":"{}"}}"#, row % 1_000)),
        instants(|_| 1_790_000_000_000_000),
        Arc::new(BooleanArray::from(vec![false; rows.len()])),
    ];
    RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap()
}

/// Loads numbered rows in one transaction, and returns the seconds that it took.
async fn load(
    destination: &PostgresDestination,
    table: &Arc<Table>,
    rows: &[i64],
    changed: impl Fn(i64) -> bool,
    done: &Commit,
) -> f64 {
    let mut seconds = 0.0;
    let mut transaction = destination.begin().await.unwrap();
    for part in rows.chunks(rows.len().div_ceil(20)) {
        // To make the rows is not what is measured.
        let batch = batch(table, part, &changed);
        let started = Instant::now();
        transaction.write(table, batch).await.unwrap();
        seconds += started.elapsed().as_secs_f64();
    }
    let started = Instant::now();
    transaction.commit(done).await.unwrap();
    seconds + started.elapsed().as_secs_f64()
}

/// The same rows by nothing but `COPY`, in one transaction, into a table with the same key.
async fn bare_copy(client: &tokio_postgres::Client) -> f64 {
    let sql = "COPY demo.charges TO STDOUT";
    let mut rows: Vec<Bytes> = Vec::new();
    let mut stream = std::pin::pin!(client.copy_out(sql).await.unwrap());
    while let Some(part) = futures::StreamExt::next(&mut stream).await {
        rows.push(part.unwrap());
    }
    client
        .batch_execute("CREATE TABLE bare (LIKE demo.charges); CREATE UNIQUE INDEX ON bare (id)")
        .await
        .unwrap();
    let chunks: Vec<Bytes> = rows.chunks(400).map(|rows| rows.concat().into()).collect();
    drop(rows);
    let started = Instant::now();
    client.batch_execute("BEGIN").await.unwrap();
    let mut sink = std::pin::pin!(client.copy_in("COPY bare FROM STDIN").await.unwrap());
    for chunk in chunks {
        sink.send(chunk).await.unwrap();
    }
    assert_eq!(
        sink.finish().await.unwrap(),
        number_of_rows().unsigned_abs()
    );
    client.batch_execute("COMMIT").await.unwrap();
    started.elapsed().as_secs_f64()
}

/// The most memory that this process has had, in MB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) / 1_024
}

#[tokio::test]
async fn a_refresh_writes_no_more_than_what_differs() {
    if is_skipped("a_refresh_writes_no_more_than_what_differs") {
        return;
    }
    let number = number_of_rows();
    let scratch = Cluster::shared().database();
    let destination = PostgresDestination::open(PostgresConfig::new(scratch.name()))
        .await
        .unwrap();
    let (current, next) = (charges(Generation::Current), charges(Generation::Next));
    destination.prepare(&[Arc::clone(&current)]).await.unwrap();
    let all: Vec<i64> = (0..number).collect();
    let loaded = load(&destination, &current, &all, |_| false, &commit(vec![])).await;
    let memory = peak();
    let client = connect(scratch.name()).await;
    let bare = bare_copy(&client).await;
    let again = load(&destination, &current, &all, |_| false, &commit(vec![])).await;
    client
        .batch_execute("CREATE TABLE before AS SELECT id, xmin::text AS version FROM demo.charges")
        .await
        .unwrap();
    // Every fiftieth row is changed, every hundredth is gone.
    let left: Vec<i64> = all.iter().copied().filter(|row| row % 100 != 1).collect();
    let publish = Commit {
        publish: vec![current.id()],
        ..commit(vec![])
    };
    let refreshed = load(&destination, &next, &left, |row| row % 50 == 0, &publish).await;
    let sql = "SELECT count(*) FILTER (WHERE t.id IS NULL OR b.id IS NULL OR t.xmin::text <> b.version), count(*) FILTER (WHERE t.id IS NULL)
        FROM demo.charges t FULL JOIN before b USING (id)";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (written, gone): (i64, i64) = (row.get(0), row.get(1));
    let differ = number / 50 + number / 100;
    assert_eq!(gone, number / 100);
    assert!(
        written <= 2 * differ,
        "{written} rows were written for {differ} that differ"
    );
    let rate = |seconds: f64| number as f64 / seconds;
    println!(
        "| load, all new | {:.0} rows/s | {:.2} of a bare COPY ({:.0} rows/s) |",
        rate(loaded),
        bare / loaded,
        rate(bare)
    );
    println!(
        "| load, all equal | {:.0} rows/s | no row written |",
        rate(again)
    );
    println!(
        "| full refresh, 2 % changed, 1 % gone | {refreshed:.1} s | {written} rows written, {differ} differ |"
    );
    println!("| peak memory after the load | {memory} MB | 20 batches |");
}
