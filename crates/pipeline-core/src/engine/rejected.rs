//! Keeps what cannot be a row, with the reason, in a table of its own.

use std::sync::Arc;

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};

use super::decode::{Decoder, Rejection};
use crate::destination::{Generation, Table};
use crate::error::Result;
use crate::record::RawRecord;
use crate::schema::{DataType, Field, Schema};

/// Name of the table, one for each source.
const REJECTED: &str = "_rejected";

/// Columns that identify a row: a record that is read again and rejected again is kept once.
const KEY: [&str; 2] = ["stream", "record"];

/// Its columns.
static FIELDS: [Field; 3] =
    [Field::new("stream", DataType::String), Field::new("reason", DataType::String), Field::new("record", DataType::String)];

/// A record that cannot be a row.
pub(super) struct Rejected {
    /// The endpoint that it came from, by its number in the run.
    pub(super) endpoint: usize,
    /// The table that it was meant for.
    pub(super) table: Arc<Table>,
    row: String,
}

impl Rejected {
    pub(super) fn new(endpoint: usize, table: &Arc<Table>, record: &RawRecord, rejection: Rejection) -> Self {
        let (stream, reason) = (&table.stream, rejection.to_string());
        let text = String::from_utf8_lossy(record.as_bytes());
        let row = serde_json::json!({ "stream": stream, "reason": reason, "record": text }).to_string();
        Self { endpoint, table: Arc::clone(table), row }
    }
}

/// The table for the records that a source had rejected.
pub(super) fn table(source: &str) -> Table {
    let schema = Decoder::arrow_schema(&Schema::from_static(&FIELDS));
    let primary_key = KEY.map(str::to_owned).to_vec();
    Table { source: source.to_owned(), stream: REJECTED.to_owned(), primary_key, schema, generation: Generation::Current }
}

/// The rows of that table.
pub(super) fn rows(rejected: Vec<&Rejected>, synced_at: DateTime<Utc>) -> Result<Option<RecordBatch>> {
    let mut decoder = Decoder::new(&Schema::from_static(&FIELDS), &[]);
    for Rejected { row, .. } in rejected {
        // A row made here has its key and is an object, so it is not rejected in turn.
        let _ = decoder.push(&RawRecord::upsert(row.clone()), synced_at);
    }
    decoder.finish()
}
