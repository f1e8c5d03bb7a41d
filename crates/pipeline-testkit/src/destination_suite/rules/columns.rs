//! Rules of columns: their types, their names, and those that are added later.

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use serde_json::{Map, Value};

use super::*;
use crate::destination_suite::rows::json_field;

pub async fn columns_are_added(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let narrow = table("charges", &["id"], Generation::Current);
    let columns = [
        ("note", DataType::Utf8),
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("count", DataType::Int64),
    ];
    let wide = table_of("demo", "charges", &["id"], Generation::Current, &columns);
    store(
        &*destination,
        &[(&narrow, vec![row(1, "a"), row(2, "a")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    destination.prepare(&[Arc::clone(&wide)]).await.unwrap();
    store(
        &*destination,
        &[(&wide, vec![row(1, "b")]), (&narrow, vec![row(3, "c")])],
        &commit(vec![]),
    )
    .await
    .unwrap();
    let written = [row(1, "a"), row(2, "a"), row(1, "b"), row(3, "c")];
    assert_eq!(
        shown(fixture, &scratch, &wide).await,
        expected(fixture, true, &written)
    );
    // The same in one transaction, without preparing.
    let wider = table_of("demo", "events", &[], Generation::Next, &columns);
    let narrow = table("events", &[], Generation::Next);
    let publish = Commit {
        publish: vec![narrow.id()],
        ..commit(vec![])
    };
    store(
        &*destination,
        &[(&narrow, vec![row(1, "a")]), (&wider, vec![row(2, "b")])],
        &publish,
    )
    .await
    .unwrap();
    assert_eq!(shown(fixture, &scratch, &wider).await, ["1=a", "2=b"]);
}

pub async fn every_type_comes_back(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let (table, batch) = every_type();
    let mut transaction = destination.begin().await.unwrap();
    transaction.write(&table, batch).await.unwrap();
    transaction.commit(&commit(vec![])).await.unwrap();
    let mut expected: Vec<String> = [
        r#"{"_deleted":false,"_extra":{"a":[1,null]},"_synced_at":"2026-01-31T12:00:00.123456Z","bool":true,"date":"1969-12-31","decimal":"-0.010","float":0.1,"int":-9223372036854775808,"json":{"b":[1.5,"x"]},"text":"a\"b'c\\\u0000\n\t漢😀","time":"1969-12-31T23:59:59.999999Z"}"#,
        r#"{"_deleted":false,"_synced_at":"2026-01-31T12:00:00.123456Z","bool":false,"date":"9999-12-31","decimal":"99999999999999999999999999999999999.999","float":1e300,"int":9223372036854775807,"json":"plain","text":"","time":"9999-12-31T23:59:59.000000Z"}"#,
        r#"{"_deleted":false,"_synced_at":"2026-01-31T12:00:00.123456Z","text":"only text"}"#,
    ]
    .map(|line| as_held(fixture, serde_json::from_str(line).unwrap()))
    .map(canonical_object)
    .into();
    expected.sort();
    assert_eq!(fixture.rows(&scratch, &table).await, expected);
}

/// A row as a store holds it whose text cannot have the character U+0000.
fn as_held(fixture: &dyn DestinationFixture, mut row: Map<String, Value>) -> Map<String, Value> {
    let text = row["text"].as_str().unwrap().to_owned();
    if !fixture.holds_nul() && text.contains('\0') {
        row["_extra"]["text"] = Value::from(text.as_str()).to_string().into();
        row["text"] = text.replace('\0', "\u{2400}").into();
    }
    row
}

pub async fn strange_names_stay_apart(fixture: &dyn DestinationFixture) {
    let scratch = fixture.scratch().await;
    let destination = open(fixture, &scratch).await;
    let columns = [
        "id",
        "name",
        "ID",
        "Id",
        "rowid",
        "_rowid_",
        "we\"ird",
        "it's",
        "dots.and spaces",
        "select",
        "😀",
        "a\0b",
        "?1",
    ];
    let columns: Vec<(&str, DataType)> = columns
        .iter()
        .map(|&name| {
            (
                name,
                if name == "id" {
                    DataType::Int64
                } else {
                    DataType::Utf8
                },
            )
        })
        .collect();
    let names = [
        ("a_b", "c"),
        ("a", "b_c"),
        ("a", "B_c"),
        ("../x", ".."),
        ("..", "../../x"),
        ("sqlite", "master"),
        ("_pipeline", "state"),
        ("_manifest", "_staging"),
        ("ü😀", "q\"uo'te"),
        ("x.y", "z;--"),
        ("/etc", "C:\\con"),
        ("", ""),
        ("%2E", "."),
    ];
    let tables = names
        .map(|(source, stream)| table_of(source, stream, &["id"], Generation::Current, &columns));
    destination.prepare(&tables).await.unwrap();
    let of = |index: usize| vec![row(i64::try_from(index).unwrap(), "a"), row(-1, "b")];
    let writes: Vec<_> = tables
        .iter()
        .enumerate()
        .map(|(index, table)| (table, of(index)))
        .collect();
    store(&*destination, &writes, &commit(vec![]))
        .await
        .unwrap();
    drop(destination);
    drop(open(fixture, &scratch).await);
    for (table, rows) in writes {
        assert_eq!(
            shown(fixture, &scratch, table).await,
            expected(fixture, true, &rows),
            "{:?}",
            table.id()
        );
    }
    assert_eq!(
        fixture.strays(&scratch).await,
        [""; 0],
        "nothing leaves its place"
    );
}

/// One row of the least and one of the greatest values, and one of nulls.
fn every_type() -> (Arc<Table>, RecordBatch) {
    let plain = table_of("demo", "types", &["text"], Generation::Current, &[]);
    let mut fields = vec![
        Field::new("bool", DataType::Boolean, true),
        Field::new("int", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("decimal", DataType::Decimal128(38, 3), true),
        Field::new("text", DataType::Utf8, true),
        Field::new("date", DataType::Date32, true),
        Field::new(
            "time",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
        json_field("json"),
    ];
    fields.extend(
        plain
            .schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone()),
    );
    let table = Arc::new(Table {
        schema: Arc::new(Schema::new(fields)),
        ..Table::clone(&plain)
    });
    let decimals = vec![
        Some(-10),
        Some(99_999_999_999_999_999_999_999_999_999_999_999_999),
        None,
    ];
    let synced = TimestampMicrosecondArray::from(vec![1_769_860_800_123_456; 3]);
    let times =
        TimestampMicrosecondArray::from(vec![Some(-1), Some(253_402_300_799_000_000), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        Arc::new(Float64Array::from(vec![Some(0.1), Some(1e300), None])),
        Arc::new(
            Decimal128Array::from(decimals)
                .with_precision_and_scale(38, 3)
                .unwrap(),
        ),
        Arc::new(StringArray::from(vec![
            "a\"b'c\\\0\n\t漢😀",
            "",
            "only text",
        ])),
        Arc::new(Date32Array::from(vec![Some(-1), Some(2_932_896), None])),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(StringArray::from(vec![
            Some("{\"b\":\n[1.5,\"x\"]}"),
            Some("\"plain\""),
            None,
        ])),
        Arc::new(StringArray::from(vec![
            Some(r#"{"a":[1,null]}"#),
            None,
            None,
        ])),
        Arc::new(synced.with_timezone("UTC")),
        Arc::new(BooleanArray::from(vec![false; 3])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
    (table, batch)
}
