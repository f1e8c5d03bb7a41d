//! Tests of the decoder: nothing is lost, rounded or coerced, whatever the record holds.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use chrono::{DateTime, Utc};
use pipeline_core::{DataType, RecordPath, TimeFormat, split};
use proptest::prelude::*;

use super::*;

mod absent;
mod added;
mod inside;
mod recovered;
mod text;

fn schema() -> Schema {
    Schema::default()
        .with("id", DataType::String)
        .with("flag", DataType::Bool)
        .with("int", DataType::Int64)
        .with("float", DataType::Float64)
        .with(
            "money",
            DataType::Decimal {
                precision: 10,
                scale: 2,
            },
        )
        .with("text", DataType::String)
        .with("day", DataType::Date)
        .with("seconds", DataType::Timestamp(TimeFormat::UnixSeconds))
        .with("millis", DataType::Timestamp(TimeFormat::UnixMillis))
        .with("time", DataType::Timestamp(TimeFormat::Rfc3339))
        .with("midnight", DataType::Timestamp(TimeFormat::Date))
        .with("json", DataType::Json)
        .with("reference", DataType::Reference)
        .with("object", DataType::Object)
        .with("array", DataType::Array)
}

fn decoder() -> Decoder {
    Decoder::new(&schema(), &["id".into()])
}

/// Decodes a record that nobody has read yet. Cut from a page, which proves it to be JSON, it must
/// give the same row.
fn decode(json: impl Into<bytes::Bytes>) -> Result<RecordBatch, Rejection> {
    let decode = |record: &RawRecord| {
        let mut decoder = decoder();
        decoder.push(record, DateTime::UNIX_EPOCH)?;
        Ok(decoder.finish().unwrap().unwrap())
    };
    let json = json.into();
    let decoded = decode(&RawRecord::upsert(json.clone()));
    let page = bytes::Bytes::from([b"[ ", &*json, b" ]"].concat());
    match split(&page, &[RecordPath::new("")]).map(|split| split.records.concat()) {
        Ok(records) if records.len() == 1 => assert_eq!(decode(&records[0]), decoded),
        _ => assert_eq!(decoded, Err(Rejection::NotJson)),
    }
    decoded
}

/// One cell as text; none for null. Strings are quoted, so that control characters show.
fn cell(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(name).unwrap();
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        ArrowType::Boolean => column.as_boolean().value(row).to_string(),
        ArrowType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        ArrowType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        ArrowType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        ArrowType::Date32 => column
            .as_primitive::<Date32Type>()
            .value_as_date(row)
            .unwrap()
            .to_string(),
        ArrowType::Timestamp(..) => column
            .as_primitive::<TimestampMicrosecondType>()
            .value_as_datetime(row)
            .unwrap()
            .to_string(),
        _ => format!("{:?}", column.as_string::<i32>().value(row)),
    })
}

/// What a person wants to see of a decoded record.
fn shown(json: &str) -> String {
    let batch = match decode(json.to_owned()) {
        Ok(batch) => batch,
        Err(rejection) => return format!("rejected: {rejection}"),
    };
    let mut shown = String::new();
    for field in schema()
        .fields()
        .iter()
        .map(|field| &*field.name)
        .chain([EXTRA])
        .filter(|name| *name != "id")
    {
        if let Some(value) = cell(&batch, field, 0) {
            write!(shown, "{field} = {value}; ").unwrap();
        }
    }
    if shown.is_empty() {
        "(nothing)".to_owned()
    } else {
        shown.trim_end_matches("; ").to_owned()
    }
}

/// Decodes `{"id":"x",<members>}` for every line.
fn table(lines: &[&str]) -> String {
    lines.iter().fold(String::new(), |table, members| {
        format!(
            "{table}{members}\n    {}\n",
            shown(&format!("{{\"id\":\"x\",{members}}}"))
        )
    })
}

#[test]
fn values_that_fit_are_exact_and_values_that_do_not_are_kept() {
    insta::assert_snapshot!(
        "values",
        table(&[
            r#""flag": true, "int": 1, "float": 1.5, "money": 12.5, "text": "a", "day": "2026-01-31", "seconds": 1769860800"#,
            r#""millis": 1769860800123, "time": "2026-01-31T12:00:00Z", "midnight": "2026-01-31", "json": [1, {"a" : "b c"}]"#,
            r#""flag": 1"#,
            r#""flag": "true""#,
            r#""int": 9223372036854775807"#,
            r#""int": -9223372036854775808"#,
            r#""int": 9223372036854775808"#,
            r#""int": 18446744073709551616"#,
            r#""int": 12.0"#,
            r#""int": 1e3"#,
            r#""int": -0"#,
            r#""int": "12""#,
            r#""int": true"#,
            r#""float": 12"#,
            r#""float": -0"#,
            r#""float": -0.0"#,
            r#""float": 0e999"#,
            r#""float": 1e308"#,
            r#""float": 1e400"#,
            r#""float": -1e400"#,
            r#""float": 1e-400"#,
            r#""float": 5e-324"#,
            r#""float": 0.1"#,
            r#""float": 0.10000000000000001"#,
            r#""float": 0.30000000000000004"#,
            r#""float": 0.1000000000000000055511151231257827021181583404541015625"#,
            r#""float": 9007199254740992"#,
            r#""float": 9007199254740993"#,
            r#""float": 9007199254740993.0"#,
            r#""float": 100000000000000000000"#,
            r#""float": 1234567890123456789012345678901234567890"#,
            r#""float": "1.5""#,
            r#""money": "12.50""#,
            r#""money": 12.5000"#,
            r#""money": 12.505"#,
            r#""money": 99999999.99"#,
            r#""money": 100000000"#,
            r#""money": -0.01"#,
            r#""money": -0"#,
            r#""money": 1.25e1"#,
            r#""money": 125e-1"#,
            r#""money": 0e99999999999"#,
            r#""money": 1e-999999999999999999999"#,
            r#""money": 1e2147483647"#,
            r#""money": 1234567890123456789012345678901234567890.25"#,
            r#""money": """#,
            r#""money": "12,50""#,
            r#""money": "1.""#,
            r#""money": " 1""#,
            r#""money": "NaN""#,
            r#""text": "caf\u00e9 \ud83d\ude00 \"q\" \\ \/ \b\f\n\r\t \u0000""#,
            r#""text": "\ud800""#,
            r#""text": "\udc00\ud800""#,
            r#""text": "\ud800\u0041""#,
            r#""text": 5"#,
            r#""text": {"id": "cus_1"}"#,
            r#""day": "2024-02-29""#,
            r#""day": "2026-02-29""#,
            r#""day": "2026-1-5""#,
            r#""day": "2026-01-31T00:00:00Z""#,
            r#""day": "+999999-01-01""#,
            r#""day": 20260131"#,
            r#""seconds": -1"#,
            r#""seconds": 1769860800123"#,
            r#""seconds": 1769860800.5"#,
            r#""seconds": "1769860800""#,
            r#""seconds": 9223372036854775807"#,
            r#""millis": -1"#,
            r#""time": "2026-01-31T12:00:00.123456+02:00""#,
            r#""time": "2026-01-31 12:00:00""#,
            r#""time": "2026-01-31T12:00:00.123456789Z""#,
            r#""time": "2016-12-31T23:59:60Z""#,
            r#""time": "0000-00-00T00:00:00Z""#,
            r#""time": "yesterday""#,
            r#""time": 1769860800"#,
            r#""midnight": "31.01.2026""#,
            r#""json": "a  b""#,
            r#""json": 1234567890123456789012345678901234567890"#,
            r#""reference": "cus_1", "object": { "a" : 1 }, "array": [ ]"#,
            r#""reference": { "name" : "Jo" , "id" : "cus_1" }"#,
            r#""reference": {"id": 12}"#,
            r#""reference": {"id": null}"#,
            r#""reference": ["cus_1"]"#,
            r#""object": "a""#,
            r#""object": [ {} ]"#,
            r#""array": {}"#,
            r#""array": 1"#,
            r#""json": { "b" : [ 1e400 , -0 ] , "a" : "\ud800 \" \\" , "a" : { } }"#,
        ])
    );
}

#[test]
fn members_that_no_column_holds_are_kept_as_written() {
    insta::assert_snapshot!(
        "extra",
        table(&[
            r#""new": [ 1, 2 ]"#,
            r#""new": null"#,
            r#""int": null"#,
            r#""z": 1, "int": "2", "a": 3"#,
            r#""a\u0022\/b": "x", "": 1, "\ud800": 2"#,
            r#""\u0069nt": 5"#,
            r#""Int": 5, "int ": 6"#,
            r#""int": 1, "int": 2"#,
            r#""int": 1, "int": "two""#,
            r#""int": 1, "int": null"#,
            r#""new": 1, "other": 2, "\u006eew": 3"#,
            r#""_extra": {"new": 1}, "_synced_at": 1, "_deleted": true"#,
            r#""a.b": 1, "a": {"b": 2}"#,
        ])
    );
}

#[test]
fn what_is_not_a_record_is_rejected_with_the_reason() {
    let cases = [
        "",
        " ",
        "null",
        "[]",
        "[1",
        "\"x\"",
        "12",
        "{",
        "{}",
        "<html>",
        r#"{"id":"x"}"#,
        r#" {"id":"x"} "#,
        r#"{"id":"x"}{"#,
        r#"{"id":"x"},"#,
        r#"{"id":"x",}"#,
        r#"{"id":"x" "int":1}"#,
        r#"{"id":null}"#,
        r#"{"id":"x","id":null}"#,
        r#"{"id":[]}"#,
        r#"{"id":{"id":"x"}}"#,
        r#"{"id":7}"#,
        r#"{"id":"\ud800"}"#,
        r#"{"id":""}"#,
        r#"{"id":"x","int":007}"#,
        r#"{"id":"x","int":+1}"#,
        r#"{"id":"x","int":.5}"#,
        r#"{"id":"x","int":1.}"#,
        r#"{"id":"x","int":NaN}"#,
        r#"{"id":"x","int":Infinity}"#,
        "{\"id\":\"x\",\"text\":\"\t\"}",
        r#"{"id":"x","text":"\x41"}"#,
        r#"{"id":"x","text":"\u12"}"#,
        r#"{"id":"x",'int':1}"#,
        r#"{"id":"x",int:1}"#,
        "\u{feff}{\"id\":\"x\"}",
        r#"{"id":"x","new":[1,]}"#,
    ];
    let table = cases.iter().fold(String::new(), |table, json| {
        format!(
            "{table}{json:?}\n    {}\n",
            decode((*json).to_owned())
                .map_or_else(|reason| reason.to_string(), |_| "accepted".to_owned())
        )
    });
    insta::assert_snapshot!("rejections", table);
    assert_eq!(
        decode(&b"{\"id\":\"x\",\"new\":\"\xff\"}"[..]).unwrap_err(),
        Rejection::NotJson
    );
}

#[test]
fn a_rejected_record_leaves_no_trace() {
    let mut decoder = decoder();
    let at = DateTime::UNIX_EPOCH;
    decoder
        .push(&RawRecord::upsert(r#"{"id":"a","int":1}"#), at)
        .unwrap();
    let bytes = decoder.bytes();
    for rejected in [
        r#"{"int":5,"new":1,"float":"x","int":6}"#,
        r#"{"id":"b","int":5,"new":1"#,
        "7",
    ] {
        decoder.push(&RawRecord::upsert(rejected), at).unwrap_err();
    }
    decoder
        .push(&RawRecord::upsert(r#"{"id":"c"}"#), at)
        .unwrap();
    assert_eq!(
        (decoder.len(), decoder.bytes(), decoder.drift()),
        (2, bytes + 10, Vec::new())
    );
    let batch = decoder.finish().unwrap().unwrap();
    assert_eq!(
        (cell(&batch, "id", 0), cell(&batch, "int", 0)),
        (Some("\"a\"".to_owned()), Some("1".to_owned()))
    );
    assert_eq!(
        (
            cell(&batch, "id", 1),
            cell(&batch, "int", 1),
            cell(&batch, EXTRA, 1)
        ),
        (Some("\"c\"".to_owned()), None, None)
    );
}

#[test]
fn a_batch_is_finished_once() {
    let mut decoder = decoder();
    assert!(decoder.finish().unwrap().is_none());
    decoder
        .push(&RawRecord::upsert(r#"{"id":"a"}"#), DateTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(decoder.finish().unwrap().unwrap().num_rows(), 1);
    assert!(decoder.is_empty() && decoder.bytes() == 0 && decoder.finish().unwrap().is_none());
}

#[test]
fn a_tombstone_holds_the_key_only() {
    let mut decoder = decoder();
    let at: DateTime<Utc> = "2026-01-31T12:00:00Z".parse().unwrap();
    decoder
        .push(
            &RawRecord::delete(r#"{"int":1,"id":"a","new":1,"float":"x","new":2}"#),
            at,
        )
        .unwrap();
    assert_eq!(decoder.drift(), Vec::new());
    decoder
        .push(&RawRecord::upsert(r#"{"id":"b"}"#), at)
        .unwrap();
    let batch = decoder.finish().unwrap().unwrap();
    let columns = ["id", "int", "float", EXTRA, DELETED, SYNCED_AT];
    let shown = |row| {
        columns
            .map(|name| cell(&batch, name, row).unwrap_or_default())
            .join("|")
    };
    assert_eq!(shown(0), r#""a"||||true|2026-01-31 12:00:00"#);
    assert_eq!(shown(1), r#""b"||||false|2026-01-31 12:00:00"#);
    assert_eq!(
        decoder.push(&RawRecord::delete(r#"{"int":1}"#), at),
        Err(Rejection::MissingKey)
    );
}

#[test]
fn a_tombstone_of_many_rows_holds_what_they_have_in_common() {
    let mut decoder = decoder();
    let mut push =
        |json: &'static str| decoder.push(&RawRecord::delete_matching(json), DateTime::UNIX_EPOCH);
    assert_eq!(push(r#"{"int":1}"#), Ok(()));
    assert_eq!(
        push("{}"),
        Err(Rejection::MissingKey),
        "that would be every row"
    );
    assert_eq!(push(r#"{"int":null}"#), Err(Rejection::MissingKey));
    assert_eq!(
        push(r#"{"int":1,"new":2}"#),
        Err(Rejection::MissingKey),
        "no column holds what is new"
    );
    assert_eq!(push(r#"{"int":"1"}"#), Err(Rejection::InvalidKey));
    assert_eq!(push(r#"{"int":1,"json":{}}"#), Err(Rejection::InvalidKey));
    assert_eq!(
        push(r#"{"id":"a","int":1}"#),
        Err(Rejection::InvalidKey),
        "that is one row"
    );
    let batch = decoder.finish().unwrap().unwrap();
    let shown = ["id", "int", EXTRA, DELETED]
        .map(|name| cell(&batch, name, 0).unwrap_or_default())
        .join("|");
    assert_eq!((batch.num_rows(), shown.as_str()), (1, "|1||true"));
}

#[test]
fn key_columns_are_checked_in_every_form() {
    let push = |key: &[&'static str], json: &'static str| {
        let key: Vec<Cow<'static, str>> = key.iter().map(|name| Cow::Borrowed(*name)).collect();
        Decoder::new(&schema(), &key).push(&RawRecord::upsert(json), DateTime::UNIX_EPOCH)
    };
    assert_eq!(push(&[], "{}"), Ok(()));
    assert_eq!(push(&["id", "int"], r#"{"int":1,"id":"a"}"#), Ok(()));
    assert_eq!(
        push(&["id", "int"], r#"{"id":"a"}"#),
        Err(Rejection::MissingKey)
    );
    assert_eq!(push(&["int"], r#"{"int":"1"}"#), Err(Rejection::InvalidKey));
    assert_eq!(push(&["json"], r#"{"json":1}"#), Ok(()));
    assert_eq!(
        push(&["json"], r#"{"json":[1]}"#),
        Err(Rejection::InvalidKey)
    );
    assert_eq!(
        push(&["undeclared"], r#"{"undeclared":1}"#),
        Err(Rejection::MissingKey)
    );
}

#[test]
fn drift_is_counted_by_kind_and_field_and_told_once() {
    let mut decoder = decoder();
    for json in [
        r#"{"id":"a","new":1,"int":"x"}"#,
        r#"{"id":"b","new":1,"new":2,"id":"c"}"#,
        r#"{"id":"c","int":1.5,"text":"\udead"}"#,
    ] {
        decoder
            .push(&RawRecord::upsert(json), DateTime::UNIX_EPOCH)
            .unwrap();
    }
    let drift = |field: &str, kind, count| Drift {
        field: field.to_owned(),
        kind,
        count,
    };
    let expected = [
        drift("new", DriftKind::UnknownField, 2),
        drift("int", DriftKind::TypeMismatch, 2),
        drift("text", DriftKind::TypeMismatch, 1),
        drift("id", DriftKind::RepeatedField, 1),
        drift("new", DriftKind::RepeatedField, 1),
    ];
    assert_eq!(decoder.drift(), expected);
    assert_eq!(decoder.drift(), Vec::new());
}

#[test]
fn objects_used_as_maps_do_not_fill_the_memory() {
    let mut json = r#"{"id":"a""#.to_owned();
    (0..50_000).for_each(|key| write!(json, r#","key_{key}":{key}"#).unwrap());
    json.push('}');
    let mut decoder = decoder();
    decoder
        .push(&RawRecord::upsert(json.clone()), DateTime::UNIX_EPOCH)
        .unwrap();
    let drift = decoder.drift();
    assert_eq!(drift.len(), MAX_COUNTED_FIELDS + 1);
    assert_eq!(drift.iter().map(|drift| drift.count).sum::<u64>(), 50_000);
    let batch = decoder.finish().unwrap().unwrap();
    assert_eq!(
        batch
            .column_by_name(EXTRA)
            .unwrap()
            .as_string::<i32>()
            .value(0),
        json.replace(r#""id":"a","#, "")
    );
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let deep = format!("{}{}", "[ ".repeat(200_000), "]".repeat(200_000));
    let batch = decode(format!(
        r#"{{"id":"x","json":{deep},"new":{deep},"int":{deep}}}"#
    ))
    .unwrap();
    let compact = deep.replace(' ', "");
    assert_eq!(
        batch
            .column_by_name("json")
            .unwrap()
            .as_string::<i32>()
            .value(0),
        compact
    );
    let extra = batch
        .column_by_name(EXTRA)
        .unwrap()
        .as_string::<i32>()
        .value(0);
    assert_eq!(extra, format!(r#"{{"new":{compact},"int":{compact}}}"#));
    assert_eq!(
        decode(format!(r#"{{"id":"x","json":{}"#, "[".repeat(200_000))).unwrap_err(),
        Rejection::NotJson
    );
    assert_eq!(decode("[".repeat(200_000)).unwrap_err(), Rejection::NotJson);
    assert_eq!(decode(deep).unwrap_err(), Rejection::NotAnObject);
}

#[test]
fn the_schema_names_types_and_marks_json() {
    let schema = Decoder::arrow_schema(&schema());
    let shown = schema.fields().iter().fold(String::new(), |shown, field| {
        let json = if field
            .metadata()
            .get("json")
            .is_some_and(|json| json == "true")
        {
            " json"
        } else {
            ""
        };
        let nullable = if field.is_nullable() { "" } else { " not null" };
        format!(
            "{shown}{} {:?}{nullable}{json}\n",
            field.name(),
            field.data_type()
        )
    });
    insta::assert_snapshot!("arrow_schema", shown);
}
