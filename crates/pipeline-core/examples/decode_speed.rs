//! Measures cutting and decoding: `cargo run --release -p pipeline-core --features engine --example decode_speed`.
//!
//! A page of 100 pretty-printed records of about 3.6 KB with 45 fields, of which two nested ones are kept as JSON and one is
//! not declared.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, reason = "prints figures, and stops at any error")]

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use pipeline_core::engine::decode::Decoder;
use pipeline_core::{DataType, RecordPath, Schema, TimeFormat, split};
use tokio::time::Instant;

const RECORDS: usize = 100;
const RUN: Duration = Duration::from_secs(3);

/// Field, type and value.
type Column = (String, DataType, String);

fn columns(record: usize) -> Vec<Column> {
    let mut columns = vec![("id".to_owned(), DataType::String, format!("\"ch_3PqLkE2eZvKYlo2C{record:08}\""))];
    let mut add = |name: &str, data_type: DataType, value: String| columns.push((name.to_owned(), data_type, value));
    for field in 0..12 {
        add(&format!("amount_{field}"), DataType::Int64, (record * 7919 + field * 101).to_string());
    }
    for field in 0..12 {
        add(&format!("description_{field}"), DataType::String, format!("\"payment {field} for order {record}, thank you\""));
    }
    for field in 0..6 {
        add(&format!("is_flag_{field}"), DataType::Bool, record.is_multiple_of(field + 2).to_string());
    }
    for field in 0..4 {
        add(&format!("absent_{field}"), DataType::String, "null".to_owned());
    }
    for field in 0..3 {
        add(&format!("created_{field}"), DataType::Timestamp(TimeFormat::UnixSeconds), (1_760_000_000 + record).to_string());
    }
    for field in 0..2 {
        add(&format!("updated_at_{field}"), DataType::Timestamp(TimeFormat::Rfc3339), "\"2026-01-31T12:34:56Z\"".to_owned());
    }
    add("rate", DataType::Float64, "0.0290".to_owned());
    add("tax", DataType::Decimal { precision: 20, scale: 6 }, "\"1234.567800\"".to_owned());
    add("note", DataType::String, r#""line one\nline \"two\" \u00e9""#.to_owned());
    add("billing_details", DataType::Json, nested(record));
    add("outcome", DataType::Json, nested(record + 1));
    columns
}

fn nested(record: usize) -> String {
    let mut json = String::from("{\n        \"address\": {\n");
    for field in 0..17 {
        writeln!(json, "          \"line_{field}\": \"{record} Long Street, flat {field}\",").unwrap();
    }
    json.push_str("          \"country\": \"DE\",\n          \"codes\": [\n            1,\n            2,\n            3\n          ]\n");
    json.push_str("        },\n        \"email\": null,\n        \"phone\": \"+49 30 1234567\"\n      }");
    json
}

fn page() -> Bytes {
    let record = |record: usize| {
        let mut json = String::from("    {\n");
        for (name, _, value) in columns(record) {
            writeln!(json, "      \"{name}\": {value},").unwrap();
        }
        json + "      \"livemode_new\": true\n    }"
    };
    let records: Vec<String> = (0..RECORDS).map(record).collect();
    format!("{{\n  \"object\": \"list\",\n  \"data\": [\n{}\n  ],\n  \"has_more\": true\n}}\n", records.join(",\n")).into()
}

/// Runs `work` for a while and prints its speed.
fn measure(name: &str, bytes: usize, mut work: impl FnMut()) {
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < RUN {
        work();
        rounds += 1;
    }
    let rounds_per_second = f64::from(rounds) / start.elapsed().as_secs_f64();
    println!("{name:<16}{:>12.0} records/s {:>8.0} MB/s", rounds_per_second * RECORDS as f64, rounds_per_second * bytes as f64 / 1e6);
}

fn main() {
    let page = page();
    let paths = [RecordPath::new("data")];
    let schema = columns(0).into_iter().fold(Schema::default(), |schema, (name, data_type, _)| schema.with(name, data_type));
    let mut decoder = Decoder::new(&schema, &["id".into()]);
    let records = split(&page, &paths).unwrap().records.swap_remove(0);
    println!("{} fields, {} bytes a record", schema.fields().len() + 1, records[0].as_bytes().len());
    let mut decode = |records: &[pipeline_core::RawRecord]| {
        for record in records {
            decoder.push(record, DateTime::UNIX_EPOCH).unwrap();
        }
        if decoder.bytes() > 8 << 20 {
            decoder.finish().unwrap();
        }
    };
    measure("split", page.len(), || assert_eq!(split(&page, &paths).unwrap().records[0].len(), RECORDS));
    measure("decode", page.len(), || decode(&records));
    measure("split + decode", page.len(), || decode(&split(&page, &paths).unwrap().records[0]));
}
