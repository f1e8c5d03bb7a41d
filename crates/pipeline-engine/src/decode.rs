//! Records into Arrow batches, by the declared schema and without loss.
//!
//! A record is walked once. Members that are not declared, and values that do not fit their column,
//! are kept in
//! [`EXTRA`]: no datum is dropped, rounded or coerced, and no value fails a batch.
//!
//! * A name that occurs twice counts once: the last value wins.
//! * Null and absent are the same: a null column.
//! * A tombstone fills its key columns only; one of many rows those that it compares, and never the
//!   whole key.
//! * A column whose values stand [inside](pipeline_core::Inside) a member repeats what that
//!   member's column holds: nothing of it goes to [`EXTRA`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{
    DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use chrono::{DateTime, Utc};
use pipeline_core::json::scan;
use pipeline_core::{Error, ErrorKind, Op, Parts, RawRecord, Result, Schema};

use self::columns::Column;
pub(super) use self::departures::{Departure, Departures};
pub(super) use self::keys::Keys;
use self::members::Members;
use crate::destination::{DELETED, EXTRA, SYNCED_AT};

mod columns;
mod departures;
mod inside;
mod keys;
mod members;
#[cfg(test)]
mod tests;
mod values;

/// Time zone of every timestamp column.
const UTC: &str = "UTC";

/// Fields of one kind that are counted by name; what comes beyond is counted as [`OTHER_FIELDS`].
const MAX_COUNTED_FIELDS: usize = 1_000;

/// The most bytes of a buffer for one record that is kept for the next: every table has a few, and
/// few records are large.
const SPARE_BYTES: usize = 256 << 10;

/// Bytes of a field's name by which it is counted: a megabyte is not a name.
const MOST_NAME: usize = 200;

/// Names in a [`Drift`] the fields beyond the first thousand, so that objects used as maps
/// cost no memory.
pub const OTHER_FIELDS: &str = "(other fields)";

/// Decodes the records of one stream into Arrow batches.
pub struct Decoder {
    schema: SchemaRef,
    key: Vec<Option<usize>>,
    columns: Vec<Column>,
    /// Whether a column's values stand inside a member, which is a column itself.
    is_inside: Vec<bool>,
    extra: StringBuilder,
    synced_at: TimestampMicrosecondBuilder,
    deleted: BooleanBuilder,
    members: Members,
    /// Members of a record that was not cut from a document.
    proved: scan::Members,
    drift: DriftCounts,
    scratch: String,
    rows: usize,
    bytes: usize,
}

/// Why a record cannot become a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The connector could not make a row of it.
    #[error("{0}")]
    Unreadable(Arc<str>),
    /// It is not one JSON document in UTF-8.
    #[error("the record is not JSON")]
    NotJson,
    /// It is JSON, but not an object.
    #[error("the record is not an object")]
    NotAnObject,
    /// A member of the primary key is absent or null.
    #[error("the record has no primary key")]
    MissingKey,
    /// A member of the primary key is an object or an array, or does not fit its column.
    #[error("the record's primary key does not fit its type")]
    InvalidKey,
    /// The batch would exceed the 2 GiB that an Arrow column can address, or the record has more
    /// members than any has.
    #[error("the record is too large for a batch")]
    TooLarge,
}

/// How records depart from what is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriftKind {
    /// The field is not declared; its values are in [`EXTRA`].
    UnknownField,
    /// The value does not fit the field's type; it is in [`EXTRA`] and the column is null, or holds
    /// the id of an object that stands where a [reference](pipeline_core::DataType::Reference)
    /// should.
    TypeMismatch,
    /// The value, which stands [inside](pipeline_core::Inside) a member, does not fit the column,
    /// which is null; the member's column has it.
    InnerMismatch,
    /// The name occurs more than once in a record; the last value counts.
    RepeatedField,
}

/// One way in which records departed from what is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The field, as it is written in the record; or [`OTHER_FIELDS`].
    pub field: String,
    /// How.
    pub kind: DriftKind,
    /// How often.
    pub count: u64,
}

impl Decoder {
    /// A decoder for records with this schema. Members of the key must be declared: one that is not
    /// counts as missing.
    pub fn new(schema: &Schema, primary_key: &[Cow<'static, str>]) -> Self {
        let fields = schema.fields();
        Self {
            schema: Self::arrow_schema(schema),
            key: primary_key
                .iter()
                .map(|name| fields.iter().position(|field| field.name == *name))
                .collect(),
            columns: fields
                .iter()
                .map(|field| Column::new(field.data_type))
                .collect(),
            is_inside: fields.iter().map(|field| field.inside.is_some()).collect(),
            extra: StringBuilder::with_capacity(0, 0),
            synced_at: TimestampMicrosecondBuilder::with_capacity(0).with_timezone(UTC),
            deleted: BooleanBuilder::with_capacity(0),
            members: Members::new(fields),
            proved: scan::Members::default(),
            drift: DriftCounts::default(),
            scratch: String::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// The columns of a batch: the declared ones, then [`EXTRA`], [`SYNCED_AT`] and [`DELETED`].
    ///
    /// A column of JSON text has the metadata `json` = `true`.
    pub fn arrow_schema(schema: &Schema) -> SchemaRef {
        let json = |field: ArrowField| {
            field.with_metadata(HashMap::from([("json".to_owned(), "true".to_owned())]))
        };
        let declared = schema.fields().iter().map(|field| {
            let arrow = ArrowField::new(&*field.name, columns::arrow_type(field.data_type), true);
            if field.data_type.is_json() {
                json(arrow)
            } else {
                arrow
            }
        });
        let system = [
            json(ArrowField::new(EXTRA, ArrowType::Utf8, true)),
            ArrowField::new(
                SYNCED_AT,
                ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
                false,
            ),
            ArrowField::new(DELETED, ArrowType::Boolean, false),
        ];
        Arc::new(ArrowSchema::new(declared.chain(system).collect::<Vec<_>>()))
    }

    /// Adds a record as a row. A rejected record leaves no trace.
    pub fn push(&mut self, record: &RawRecord, synced_at: DateTime<Utc>) -> Result<(), Rejection> {
        if let Some(reason) = record.rejection() {
            return Err(Rejection::Unreadable(Arc::clone(reason)));
        }
        // No column holds more bytes than the records have, so this bounds every column.
        let bytes = self.bytes.saturating_add(record.len());
        if i32::try_from(bytes).is_err() {
            return Err(Rejection::TooLarge);
        }
        if let Some(parts) = record.parts() {
            self.append(parts, record.op(), synced_at)?;
        } else {
            let mut proved = std::mem::take(&mut self.proved);
            let appended = prove(record, &mut proved, |parts| {
                self.append(parts, record.op(), synced_at)
            });
            self.proved = proved;
            self.proved.trim();
            appended?;
        }
        self.rows += 1;
        self.bytes = bytes;
        Ok(())
    }

    /// Appends a record's members to the columns.
    fn append(
        &mut self,
        parts: Parts<'_>,
        op: Op,
        synced_at: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        if parts.len() > scan::MOST_MEMBERS {
            return Err(Rejection::TooLarge);
        }
        self.members.take(parts);
        match op {
            Op::Upsert => self.check_key(parts)?,
            Op::Delete => {
                self.check_key(parts)?;
                self.members.keep_only(&self.key);
            }
            Op::DeleteMatching => self.check_match(parts)?,
            Op::Reject => return Err(Rejection::NotJson),
        }
        self.append_columns(parts);
        self.append_extra(parts);
        self.members.trim();
        if self.scratch.capacity() > SPARE_BYTES {
            self.scratch = String::new();
        }
        self.synced_at.append_value(synced_at.timestamp_micros());
        self.deleted.append_value(op != Op::Upsert);
        Ok(())
    }

    /// Rows since the last batch.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True without a row since the last batch.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of the records since the last batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that a batch of the rows takes at most: a column takes some for every row,
    /// even without a value.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.rows * self.schema.fields().len() * columns::WIDEST
    }

    /// How records departed from what is declared, since this was last asked, by kind and field.
    pub fn drift(&mut self) -> Vec<Drift> {
        self.drift.take()
    }

    /// The rows since the last batch; none when there are none.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        self.rows = 0;
        self.bytes = 0;
        let mut columns: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect();
        columns.push(Arc::new(self.extra.finish()));
        columns.push(Arc::new(self.synced_at.finish()));
        columns.push(Arc::new(self.deleted.finish()));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        batch.map(Some).map_err(|error| {
            Error::new(ErrorKind::Unexpected, "decoded columns do not make a batch")
                .with_source(error)
        })
    }

    /// Refuses a record that its key columns would not identify, before anything is appended.
    fn check_key(&mut self, parts: Parts<'_>) -> Result<(), Rejection> {
        for column in &self.key {
            let index = column.ok_or(Rejection::MissingKey)?;
            let value = self
                .members
                .value(index, parts)
                .ok_or(Rejection::MissingKey)?;
            if value.starts_with(['{', '['])
                || !self.columns[index].values.fits(value, &mut self.scratch)
            {
                return Err(Rejection::InvalidKey);
            }
        }
        Ok(())
    }

    /// Refuses a tombstone of many rows that says less than it means: what no column holds would
    /// match rows that it does not mean.
    fn check_match(&mut self, parts: Parts<'_>) -> Result<(), Rejection> {
        let is_named = |column: &Option<usize>| {
            column.is_some_and(|index| self.members.value(index, parts).is_some())
        };
        let named: Vec<Option<usize>> =
            (0..self.columns.len()).map(Some).filter(is_named).collect();
        if named.is_empty() || self.members.unknown(parts).next().is_some() {
            return Err(Rejection::MissingKey);
        }
        let is_whole = self.key.iter().all(|column| named.contains(column));
        let fits = |index: usize, scratch: &mut String| {
            let value = self
                .members
                .value(index, parts)
                .filter(|value| !value.starts_with(['{', '[']));
            value.is_some_and(|value| self.columns[index].values.fits(value, scratch))
        };
        let fits = named
            .into_iter()
            .flatten()
            .all(|index| fits(index, &mut self.scratch));
        if fits && !is_whole {
            Ok(())
        } else {
            Err(Rejection::InvalidKey)
        }
    }

    fn append_columns(&mut self, parts: Parts<'_>) {
        for (index, (column, is_inside)) in self.columns.iter_mut().zip(&self.is_inside).enumerate()
        {
            let value = self.members.value(index, parts);
            if *is_inside {
                let value = value.map(|value| column.values.lenient(value));
                if !column.push(value.as_deref(), &mut self.scratch) {
                    self.drift
                        .count(DriftKind::InnerMismatch, self.schema.field(index).name());
                }
            } else if !column.push(value, &mut self.scratch) {
                self.members.set_aside(index);
                self.drift
                    .count(DriftKind::TypeMismatch, self.schema.field(index).name());
            }
        }
    }

    fn append_extra(&mut self, parts: Parts<'_>) {
        for field in self.members.repeated(parts) {
            self.drift.count(DriftKind::RepeatedField, field);
        }
        for field in self.members.unknown(parts) {
            self.drift.count(DriftKind::UnknownField, field);
        }
        let mut separator = '{';
        self.scratch.clear();
        for (key, value) in self.members.extra(parts) {
            self.scratch.push(separator);
            self.scratch.push('"');
            self.scratch.push_str(key);
            self.scratch.push_str("\":");
            self.scratch.push_str(value);
            separator = ',';
        }
        if self.scratch.is_empty() {
            self.extra.append_null();
        } else {
            self.scratch.push('}');
            self.extra.append_value(&self.scratch);
        }
    }
}

/// Finds the members of a record that were not read yet.
fn prove(
    record: &RawRecord,
    members: &mut scan::Members,
    take: impl FnOnce(Parts<'_>) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    members.clear();
    let text = record.as_bytes();
    let text = std::str::from_utf8(&text).map_err(|_| Rejection::NotJson)?;
    let json = text.as_bytes();
    let start = scan::space(json, 0);
    let is_object = json.get(start) == Some(&b'{');
    let end = if is_object {
        members.add(json, start)
    } else {
        scan::value(json, start)
    };
    match end.map(|end| scan::space(json, end)) {
        Some(end) if end == json.len() && is_object => {
            take(Parts::new(text, members).ok_or(Rejection::NotJson)?)
        }
        Some(end) if end == json.len() => Err(Rejection::NotAnObject),
        _ if members.is_overfull => Err(Rejection::TooLarge),
        _ => Err(Rejection::NotJson),
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("columns", &self.columns.len())
            .field("rows", &self.rows)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Counts of departures by kind and field.
#[derive(Debug, Default)]
struct DriftCounts(HashMap<DriftKind, HashMap<String, u64>>);

impl DriftCounts {
    fn count(&mut self, kind: DriftKind, field: &str) {
        let counts = self.0.entry(kind).or_default();
        let field = &field[..field.floor_char_boundary(MOST_NAME)];
        if let Some(count) = counts.get_mut(field) {
            *count += 1;
        } else {
            let field = if counts.len() < MAX_COUNTED_FIELDS {
                field
            } else {
                OTHER_FIELDS
            };
            *counts.entry(field.to_owned()).or_default() += 1;
        }
    }

    fn take(&mut self) -> Vec<Drift> {
        let kinds = std::mem::take(&mut self.0).into_iter();
        let mut drift: Vec<Drift> = kinds
            .flat_map(|(kind, fields)| {
                fields
                    .into_iter()
                    .map(move |(field, count)| Drift { field, kind, count })
            })
            .collect();
        drift.sort_by(|a, b| (a.kind, &a.field).cmp(&(b.kind, &b.field)));
        drift
    }
}
