//! Our decoder beside others, on the same pages of charges and one core:
//! `cargo xtask bench decoders`.
//!
//! Prints rows of a table: what was done, and MB of the pages a second of processor time, the
//! median of some rounds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::hint::black_box;

use arrow_schema::{DataType as ArrowType, Field, Schema as ArrowSchema};
use axum::http::Request;
use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use futures::TryStreamExt;
use pipeline_core::{DataType, RawRecord, RecordPath, Schema, TimeFormat, split};
use pipeline_engine::decode::Decoder;
use pipeline_simulator::{Simulation, Simulator, StripeWorld};
use serde_json::value::RawValue;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const ROUNDS: usize = 5;
/// Pages that are gone through, more than fit into the core's cache.
const PAGES: u64 = 40;
/// Bytes that a round goes through at least.
const BYTES: usize = 512 << 20;
/// Bytes after which decoded rows become a batch.
const BATCH: usize = 8 << 20;

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pages = runtime.block_on(pages())?;
    let charges = connector_stripe::tables::stream("charges").ok_or("there is no stream `charges`")?;
    let schema = charges.streams[0].schema();
    let records: Vec<Vec<RawRecord>> = pages.iter().map(cut).collect();
    let whole: Vec<(&Bytes, &[RawRecord])> = pages.iter().zip(records.iter().map(Vec::as_slice)).collect();
    let mut decode = decoding(&schema);
    let mut cut_and_decode = decoding(&schema);
    let mut arrow = arrow_json::ReaderBuilder::new(plain_members(&schema).into()).with_batch_size(8192).build_decoder()?;
    row("`serde_json::RawValue`: proved and cut", &whole, |page, _| {
        black_box(raw(page).len());
    });
    row("ours: proved, cut, every member found, nested ones made compact", &whole, |page, _| {
        black_box(cut(page).len());
    });
    row("`simd-json` tape: proved, nothing made of it", &whole, |page, _| {
        let mut copy = page.to_vec();
        black_box(simd_json::to_tape(&mut copy).map_or(0, |tape| tape.0.len()));
    });
    row("`serde_json::Value`: nothing made of it", &whole, |page, _| {
        black_box(serde_json::from_slice::<serde_json::Value>(page).is_ok());
    });
    row("`arrow-json`, after the cut: plain members only, nested ones skipped", &whole, |_, records| {
        for record in records {
            let mut rest = &record.source()[..];
            while !rest.is_empty() {
                let read = arrow.decode(rest).unwrap_or(0);
                if read == 0 {
                    black_box(arrow.flush().is_ok());
                }
                rest = &rest[read..];
            }
        }
    });
    row("**ours**, after the cut: every member, nested ones as compact JSON text", &whole, |_, records| decode(records));
    row("**ours** from page to columns", &whole, |page, _| cut_and_decode(&cut(page)));
    Ok(())
}

/// Pages as the simulator serves them.
async fn pages() -> Outcome<Vec<Bytes>> {
    let stripe = StripeWorld { charges: PAGES * 100, ..StripeWorld::default() };
    let simulator = Simulator::without_port(Simulation { stripe, ..Simulation::default() })?;
    let mut pages: Vec<Bytes> = Vec::new();
    for _ in 0..PAGES {
        let last = pages.last().and_then(|page| cut(page).last()?.scalar("id"));
        let after = last.map_or(String::new(), |id| format!("&starting_after={id}"));
        let request = Request::get(format!("/v1/charges?limit=100&expand[0]=data.refunds{after}"));
        let answer = simulator.answer(request.header("authorization", "Bearer sk_test_sim").body(Bytes::new())?).await;
        let mut body = answer.into_body();
        let mut page = BytesMut::new();
        while let Some(piece) = body.try_next().await.map_err(|error| error.to_string())? {
            page.extend_from_slice(&piece);
        }
        pages.push(page.freeze());
    }
    Ok(pages)
}

fn cut(page: &Bytes) -> Vec<RawRecord> {
    split(page, &[RecordPath::new("data")]).map(|mut split| split.records.swap_remove(0)).unwrap_or_default()
}

fn raw(page: &[u8]) -> Vec<&RawValue> {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_slice(page).unwrap_or_default();
    members.get("data").map(|data| serde_json::from_str(data.get()).unwrap_or_default()).unwrap_or_default()
}

fn decoding(schema: &Schema) -> impl FnMut(&[RawRecord]) + use<> {
    let mut decoder = Decoder::new(schema, &["id".into()]);
    move |records| {
        for record in records {
            black_box(decoder.push(record, DateTime::UNIX_EPOCH).is_ok());
        }
        if decoder.bytes() >= BATCH {
            black_box(decoder.finish().is_ok());
        }
    }
}

/// The members that `arrow-json` can read without making text of nested values.
fn plain_members(schema: &Schema) -> ArrowSchema {
    let kind = |data_type| match data_type {
        DataType::Bool => Some(ArrowType::Boolean),
        DataType::Int64 | DataType::Timestamp(TimeFormat::UnixSeconds) => Some(ArrowType::Int64),
        DataType::Float64 => Some(ArrowType::Float64),
        DataType::String | DataType::Reference => Some(ArrowType::Utf8),
        _ => None,
    };
    let fields = schema.fields().iter().filter_map(|field| Some(Field::new(&*field.name, kind(field.data_type)?, true)));
    ArrowSchema::new(fields.collect::<Vec<_>>())
}

/// Measures work on every page and its records, and prints the row.
fn row(name: &str, pages: &[(&Bytes, &[RawRecord])], mut work: impl FnMut(&Bytes, &[RawRecord])) {
    let mut speeds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (mut bytes, start) = (0, processor_time());
            while bytes < BYTES {
                for (page, records) in pages {
                    work(page, records);
                    bytes += page.len();
                }
            }
            bytes as f64 / 1e6 / (processor_time() - start)
        })
        .collect();
    speeds.sort_by(f64::total_cmp);
    println!("| {name} | {:.0} |", speeds[ROUNDS / 2]);
}

/// Seconds of processor time that this process took.
fn processor_time() -> f64 {
    let line = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = line.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
