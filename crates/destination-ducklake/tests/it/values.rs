//! Values and bounds: the lake as DuckDB reads it, beside the same rows in SQLite.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use destination_ducklake::Deletes;
use destination_sqlite::{SqliteConfig, SqliteDestination};
use pipeline_engine::{DELETED, Destination, EXTRA, Generation, SYNCED_AT, Table};
use pipeline_testkit::destination_suite::{commit, table_of};
use rusqlite::types::ValueRef;

use crate::duckdb::{Rows, duckdb, lake, run, text};

/// A table of every type.
fn types(key: &[&str]) -> Arc<Table> {
    let columns = [
        ("id", DataType::Int64),
        ("bool", DataType::Boolean),
        ("int", DataType::Int64),
        ("float", DataType::Float64),
        ("decimal", DataType::Decimal128(38, 3)),
        ("short", DataType::Decimal128(10, 2)),
        ("text", DataType::Utf8),
        ("date", DataType::Date32),
        (
            "time",
            DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into())),
        ),
    ];
    table_of("demo", "types", key, Generation::Current, &columns)
}

/// Rows of odd values, numbered from the first.
fn odd(table: &Table, first: i64, shift: usize) -> RecordBatch {
    let texts = [
        Some(""),
        Some("a\0b"),
        Some("quo'te\"s \\ \n\t"),
        Some("漢😀é"),
        Some("zz"),
        Some("NULL"),
        None,
    ];
    let long = "long ".repeat(200);
    let ints = [i64::MIN, i64::MAX, 0, -1, 1, 9, 10].map(Some);
    let floats = [1e300, -1e-300, 0.1, -0.0, 0.0, f64::MAX, 5e-324].map(Some);
    let decimals = [
        99_999_999_999_999_999_999_999_999_999_999_999_999,
        -99_999_999_999_999_999_999_999_999_999_999_999_999,
        -10,
        0,
        1,
        999,
        1000,
    ];
    let dates = [-719_162, -1, 0, 1, 20_000, 2_932_896, 2_932_897];
    let times = [
        -1,
        253_402_300_799_999_999,
        0,
        1_709_210_096_123_456,
        -62_135_596_800_000_000,
        253_402_300_800_000_000,
        1,
    ];
    let jsons = [
        "{}",
        "[1.50,null]",
        "\"x\"",
        "1e400",
        "true",
        "{\"a\":{\"b\":\"\\u0000\"}}",
        "null",
    ];
    let place = |row: usize| (row + shift) % 7;
    let optional = |row: usize| row % 5 != 4;
    let rows = 0..7;
    let columns = table.schema.fields().iter().map(|field| -> ArrayRef {
        let rows = rows.clone();
        match field.name().as_str() {
            "id" => Arc::new(
                rows.map(|row| Some(first + i64::try_from(row).unwrap()))
                    .collect::<Int64Array>(),
            ),
            "bool" => Arc::new(
                rows.map(|row| optional(row).then_some(row % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
            "int" => Arc::new(rows.map(|row| ints[place(row)]).collect::<Int64Array>()),
            "float" => Arc::new(rows.map(|row| floats[place(row)]).collect::<Float64Array>()),
            "decimal" => Arc::new(
                rows.map(|row| optional(row).then_some(decimals[place(row)]))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(38, 3)
                    .unwrap(),
            ),
            "short" => Arc::new(
                rows.map(|row| Some([1, -1, 0, 9_999_999_999, -9_999_999_999, 100, 7][place(row)]))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
            "text" if shift == 3 => Arc::new(StringArray::from(vec![&*long; 7])),
            "text" => Arc::new(rows.map(|row| texts[place(row)]).collect::<StringArray>()),
            "date" => Arc::new(
                rows.map(|row| Some(dates[place(row)]))
                    .collect::<Date32Array>(),
            ),
            "time" => Arc::new(
                rows.map(|row| optional(row).then_some(times[place(row)]))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
            EXTRA => Arc::new(
                rows.map(|row| optional(row).then_some(jsons[place(row)]))
                    .collect::<StringArray>(),
            ),
            SYNCED_AT => Arc::new(TimestampMicrosecondArray::from(vec![7; 7]).with_timezone("UTC")),
            DELETED => Arc::new(BooleanArray::from(vec![false; 7])),
            other => unreachable!("{other}"),
        }
    });
    RecordBatch::try_new(Arc::clone(&table.schema), columns.collect()).unwrap()
}

async fn put_odd(destinations: &[&dyn Destination], table: &Arc<Table>) {
    for shift in 0..7 {
        for destination in destinations {
            let mut transaction = destination.begin().await.unwrap();
            let first = i64::try_from(shift).unwrap() * 5;
            transaction
                .write(table, odd(table, first, shift))
                .await
                .unwrap();
            transaction.commit(&commit(vec![])).await.unwrap();
        }
    }
}

/// What SQLite has, as DuckDB's script prints it.
fn of_sqlite(path: &Path, sql: &str) -> Rows {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut select = connection.prepare(sql).unwrap();
    let width = select.column_count();
    let rows = select
        .query_map([], |row| {
            (0..width)
                .map(|index| {
                    Ok(match row.get_ref(index)? {
                        ValueRef::Null => None,
                        ValueRef::Integer(value) => Some(value.to_string()),
                        ValueRef::Real(value) => Some(format!("{:016x}", value.to_bits())),
                        text => Some(text.as_str()?.to_owned()),
                    })
                })
                .collect()
        })
        .unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

#[tokio::test]
async fn every_value_is_the_same_as_in_sqlite() {
    let (dir, ducklake) = lake();
    let path = dir.path().join("warehouse.db");
    let sqlite = SqliteDestination::open(SqliteConfig {
        path: path.clone(),
        deletes: Deletes::Remove,
    })
    .unwrap();
    let table = types(&["id"]);
    put_odd(&[&ducklake, &sqlite], &table).await;
    // Real numbers by their bits, days and instants by their distance from 1970.
    let found = duckdb!(
        dir,
        "SELECT id, bool::int, int, struct_pack(x := float)::varchar, decimal, short, text, date - DATE '1970-01-01', epoch_us(time),
             _extra::varchar, epoch_us(_synced_at), _deleted::int FROM demo_types ORDER BY id",
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'demo_types' ORDER BY column_index"
    );
    let wanted = of_sqlite(
        &path,
        "SELECT id, bool, int, float, decimal, short, text, julianday(substr(date, 1, 10)) - julianday('1970-01-01'), time, _extra,
             _synced_at, _deleted FROM demo_types ORDER BY id",
    );
    assert_eq!(found[0].len(), wanted.len());
    for (found, wanted) in found[0].iter().zip(&wanted) {
        for column in [0, 1, 2, 4, 5, 6, 9, 11] {
            assert_eq!(
                found[column], wanted[column],
                "column {column} of {found:?}"
            );
        }
        let float: f64 = found[3].as_ref().unwrap()[6..]
            .trim_end_matches('}')
            .parse()
            .unwrap();
        // SQLite has one zero, and DuckDB both.
        let bits = format!("{:016x}", (float + 0.0).to_bits());
        assert_eq!(Some(bits), wanted[3], "{found:?}");
        for (column, kind) in [(8, "time"), (10, "_synced_at")] {
            let text = found[column].as_ref().map(|micros| {
                let mut text = String::new();
                pipeline_engine::cell::Cell::Timestamp(micros.parse().unwrap())
                    .push_text(&mut text);
                text
            });
            assert_eq!(text, wanted[column], "{kind} of {found:?}");
        }
    }
    let types = text(&found[1]);
    assert_eq!(
        types,
        [
            "id BIGINT",
            "bool BOOLEAN",
            "int BIGINT",
            "float DOUBLE",
            "decimal DECIMAL(38,3)",
            "short DECIMAL(10,2)",
            "text VARCHAR",
            "date DATE",
            "time TIMESTAMP WITH TIME ZONE",
            "_extra JSON",
            "_synced_at TIMESTAMP WITH TIME ZONE",
            "_deleted BOOLEAN"
        ]
    );
}

/// Files are skipped by their bounds: every value is found by itself, and by what is below and above
/// it, although each file holds others.
#[tokio::test]
async fn every_filter_finds_what_it_finds_without_bounds() {
    let (dir, destination) = lake();
    let table = types(&["id"]);
    put_odd(&[&destination], &table).await;
    let mut statements = Vec::new();
    for column in [
        "id", "bool", "int", "float", "decimal", "short", "text", "date", "time", "_extra",
    ] {
        for operator in ["=", "<", ">", "<=", ">="] {
            // The cast on both sides of the second comparison keeps it from being pushed down.
            statements.push(format!(
                "SELECT '{column} {operator}', v, (SELECT count(*) FROM demo_types WHERE {column} {operator} v),
                     (SELECT count(*) FROM demo_types WHERE (CASE WHEN random() >= 0 THEN {column} END) {operator} v)
                 FROM (SELECT DISTINCT {column} AS v FROM demo_types WHERE {column} IS NOT NULL AND NOT contains({column}::varchar, chr(0)))"
            ));
        }
    }
    // Constants are what is pushed down; a join's filter may be. DuckDB itself fails to push down one with a NUL.
    for constant in [
        "text < 'b'",
        "starts_with(text, 'a')",
        "text = ''",
        "text = 'zz'",
        "text > 'zy'",
        "text = repeat('long ', 200)",
        "text >= 'long'",
        "decimal = 99999999999999999999999999999999999.999",
        "decimal < -99999999999999999999999999999999999.0",
        "decimal = -0.010",
        "short = -99999999.99",
        "float = 5e-324",
        "float = 0",
        "float < -1e-301",
        "float >= 1e300",
        "int = -9223372036854775808",
        "int = 9",
        "int = 10",
        "int > 9",
        "date = DATE '10000-01-01'",
        "date > DATE '9999-12-30'",
        "date = DATE '0001-01-01'",
        "date < DATE '1970-01-01'",
        "time = TIMESTAMPTZ '1969-12-31 23:59:59.999999+00'",
        "time >= TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'",
        "time > TIMESTAMPTZ '10000-01-01 00:00:00+00' - INTERVAL 1 SECOND",
        "time = TIMESTAMPTZ '0001-01-01 00:00:00+00'",
        "bool",
        "NOT bool",
        "bool IS NULL",
        "text IS NULL",
        "decimal IS NOT NULL",
    ] {
        statements.push(format!(
            "SELECT $$ {constant} $$, '', (SELECT count(*) FROM demo_types WHERE {constant}),
                 (SELECT count(*) FILTER ({constant}) FROM demo_types)"
        ));
    }
    let statements: Vec<&str> = statements.iter().map(|statement| &**statement).collect();
    let Some(found) = run(dir.path(), &statements) else {
        println!("skipped: DuckDB and its extensions are not installed");
        return;
    };
    let mut compared = 0;
    for row in found.iter().flatten() {
        assert_eq!(row[2], row[3], "{row:?}");
        compared += usize::from(row[2].as_deref() != Some("0"));
    }
    assert!(compared > 200, "{compared} filters found something");
    let bounds = duckdb!(
        dir,
        "SELECT min(id), max(id), min(int), max(int), min(text), count(*) FROM demo_types"
    );
    assert_eq!(
        text(&bounds[0]),
        ["0 36 -9223372036854775808 9223372036854775807  37"]
    );
}
