//! Keeps what cannot be a row, or may not be one, with the reason, in a table of its own.
//!
//! The table is the quarantine as well: `cause` separates records that no column can hold from those
//! that a destination refuses and from those that a rule of the user's keeps out.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline_core::{DataType, Field, RawRecord, Result, Schema};

use super::decode::{Decoder, Rejection};
use crate::destination::cell::{Cell, Column};
use crate::destination::{DELETED, EXTRA, Generation, Refused, SYNCED_AT, Table};

/// Name of the table, one for each source.
const REJECTED: &str = "_rejected";

/// Columns that identify a row: a record that is read again and rejected again is kept once.
const KEY: [&str; 2] = ["stream", "record"];

/// Its columns.
static FIELDS: [Field; 5] = [
    Field::new("stream", DataType::String),
    Field::new("reason", DataType::String),
    Field::new("record", DataType::String),
    Field::new("cause", DataType::String),
    Field::new("key", DataType::Object),
];

/// Value of `cause` for a record that cannot become a row.
const UNREADABLE: &str = "unreadable";
/// Value of `cause` for a row that the destination refuses.
const REFUSED: &str = "refused";

/// A record that cannot be a row.
pub(super) struct Rejected {
    /// The endpoint that it came from, by its number in the run.
    pub(super) endpoint: usize,
    /// The table that it was meant for.
    pub(super) table: Arc<Table>,
    /// True when it could be a row, and a rule of the user's keeps it out.
    pub(super) is_quarantined: bool,
    row: Bytes,
}

/// A record that could be a row, and that a rule of the user's keeps out.
pub(super) struct Quarantined<'a> {
    /// What kind of rule it is, for the column `cause`.
    pub(super) cause: &'static str,
    /// Which rule, and what is wrong.
    pub(super) reason: &'a str,
    /// The primary key as a JSON object; none for a stream without one.
    pub(super) key: Option<&'a str>,
    /// The record as the vendor sent it.
    pub(super) record: &'a [u8],
}

impl Rejected {
    pub(super) fn new(
        endpoint: usize,
        table: &Arc<Table>,
        record: &RawRecord,
        rejection: Rejection,
    ) -> Self {
        Self::of(
            endpoint,
            table,
            &rejection.to_string(),
            &String::from_utf8_lossy(&record.as_bytes()),
            UNREADABLE,
            None,
        )
    }

    /// A record that a rule of the user's keeps out.
    pub(super) fn quarantined(
        endpoint: usize,
        table: &Arc<Table>,
        record: &Quarantined<'_>,
    ) -> Self {
        let text = String::from_utf8_lossy(record.record);
        Self {
            is_quarantined: true,
            ..Self::of(
                endpoint,
                table,
                record.reason,
                &text,
                record.cause,
                record.key,
            )
        }
    }

    /// A row that the destination refuses.
    pub(super) fn refused(
        endpoint: usize,
        table: &Arc<Table>,
        RefusedRecord { reason, record }: RefusedRecord,
    ) -> Self {
        Self::of(
            endpoint,
            table,
            &format!("the destination refuses it: {reason}"),
            &record,
            REFUSED,
            None,
        )
    }

    fn of(
        endpoint: usize,
        table: &Arc<Table>,
        reason: &str,
        record: &str,
        cause: &str,
        key: Option<&str>,
    ) -> Self {
        let row = format!(
            r#"{{"stream":{},"reason":{},"record":{},"cause":"{cause}","key":{}}}"#,
            quoted(&table.stream),
            quoted(reason),
            quoted(record),
            key.unwrap_or("null"),
        )
        .into();
        Self {
            endpoint,
            table: Arc::clone(table),
            is_quarantined: false,
            row,
        }
    }

    /// Bytes that it takes in memory until it is written: for itself, and as a row.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + 2 * self.row.len()
    }
}

/// A row that the destination refuses, as the record that it was.
pub(super) struct RefusedRecord {
    /// Why, in the destination's words.
    pub(super) reason: String,
    record: String,
}

/// The primary key of a row as a JSON object; none where the table has no key.
pub(super) fn key_of(table: &Table, columns: &[Column<'_>], row: usize) -> Option<String> {
    let of_key = |column: &&Column<'_>| table.primary_key.iter().any(|key| key == column.name());
    let members: Vec<String> = columns
        .iter()
        .filter(of_key)
        .map(|column| format!("{}:{}", quoted(column.name()), value(column.cell(row))))
        .collect();
    (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
}

/// A value as JSON.
fn value(cell: Cell<'_>) -> String {
    let mut text = String::new();
    cell.push_text(&mut text);
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Bool(_) | Cell::Int64(_) | Cell::Float64(_) | Cell::Decimal(..) | Cell::Json(_) => {
            text
        }
        Cell::String(_) | Cell::Date(_) | Cell::Timestamp(_) => quoted(&text),
    }
}

/// The rows of a batch that the destination refuses, as records.
pub(super) fn refused(batch: &RecordBatch, refused: Vec<Refused>) -> Result<Vec<RefusedRecord>> {
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let columns = Column::of(batch)?;
    Ok(refused
        .into_iter()
        .map(|Refused { row, reason }| RefusedRecord {
            reason,
            record: record(&columns, row),
        })
        .collect())
}

/// A row as a JSON object: the members that have columns, and those that are kept in [`EXTRA`].
/// When it was read is left out, so that the same record is the same text.
fn record(columns: &[Column<'_>], row: usize) -> String {
    let mut members: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let value = match (column.name(), column.cell(row)) {
            (_, Cell::Null) | (SYNCED_AT, _) | (DELETED, Cell::Bool(false)) => continue,
            (EXTRA, Cell::Json(object)) => {
                let inside = object
                    .trim()
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'))
                    .unwrap_or_default();
                members.extend((!inside.trim().is_empty()).then(|| inside.to_owned()));
                continue;
            }
            (_, cell) => value(cell),
        };
        members.push(format!("{}:{value}", quoted(column.name())));
    }
    format!("{{{}}}", members.join(","))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| unreachable!("a string is always JSON"))
}

/// The table for the records that a source had rejected.
pub(super) fn table(source: &str) -> Table {
    let schema = Decoder::arrow_schema(&Schema::from_static(&FIELDS));
    let primary_key = KEY.map(str::to_owned).to_vec();
    Table {
        source: source.to_owned(),
        stream: REJECTED.to_owned(),
        primary_key,
        schema,
        generation: Generation::Current,
    }
}

/// The rows of that table.
pub(super) fn rows(
    rejected: Vec<&Rejected>,
    synced_at: DateTime<Utc>,
) -> Result<Option<RecordBatch>> {
    let mut decoder = Decoder::new(&Schema::from_static(&FIELDS), &[]);
    for Rejected { row, .. } in rejected {
        // A row made here has its key and is an object, so it is not rejected in turn.
        let _ = decoder.push(&RawRecord::upsert(row.clone()), synced_at);
    }
    decoder.finish()
}
