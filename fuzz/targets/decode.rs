//! The decoder: a record is a row or rejected, whether it was cut from a page or comes alone, and
//! nothing else happens. What was added to it is what its text would say.

#![no_main]

use bytes::Bytes;
use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use pipeline_core::{Added, DataType, RawRecord, RecordPath, Schema, TimeFormat, split};
use pipeline_engine::decode::Decoder;

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
        .with("json", DataType::Json)
        .with("reference", DataType::Reference)
        .with("object", DataType::Object)
        .with("array", DataType::Array)
}

fn rows(record: &RawRecord) -> Option<String> {
    let mut decoder = Decoder::new(&schema(), &["id".into()]);
    decoder.push(record, DateTime::UNIX_EPOCH).ok()?;
    decoder.drift();
    let batch = decoder.finish().expect("a row becomes a batch");
    Some(format!("{:?}", batch.expect("there is a row")))
}

/// The record with members more and less.
fn changed(record: &RawRecord) -> RawRecord {
    let added = [
        Added::before([("text", "\"parent\""), ("owner", "[ 1 ]")]),
        Added::instead([("object", "{\"a\": 1}")]),
        Added::without(&["json"]),
        Added::after([("int", "7")]),
    ];
    added
        .iter()
        .fold(record.clone(), |record, added| record.with(added))
}

fuzz_target!(|data: &[u8]| {
    let alone = rows(&RawRecord::upsert(Bytes::copy_from_slice(data)));
    let page = Bytes::from([b"[", data, b"]"].concat());
    let cut = split(&page, &[RecordPath::new("")]).map(|pages| pages.records.concat());
    match cut.as_deref() {
        Ok([record]) => {
            assert_eq!(rows(record), alone, "{}", String::from_utf8_lossy(data));
            let changed = changed(record);
            let written = RawRecord::upsert(changed.as_bytes().into_owned());
            assert_eq!(rows(&changed), rows(&written), "{changed:?}");
        }
        _ => assert_eq!(alone, None, "{}", String::from_utf8_lossy(data)),
    }
});
