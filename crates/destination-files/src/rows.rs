//! What the rows of a batch are: versions of a record, tombstones, and tombstones of many rows.

use std::borrow::Cow;
use std::path::Path;

use arrow_array::RecordBatch;
use pipeline_core::Result;
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, SYNCED_AT};
use twox_hash::XxHash3_128;

use crate::error::Explain;
use crate::format::{Batches, FileFormat};
use crate::place::Place;

/// Stands for a key, or for the values that a tombstone of many compares: two of them have the same
/// hash as good as never.
pub(crate) type KeyHash = u128;

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A version of a record.
    Row,
    /// A tombstone with its key.
    Tombstone,
    /// A tombstone of every row that has its values.
    Sweep,
}

/// Looks at the rows of a batch.
pub(crate) struct Rows<'a> {
    pub(crate) columns: &'a [Column<'a>],
    key: Vec<Option<&'a Column<'a>>>,
    deleted: Option<&'a Column<'a>>,
}

impl<'a> Rows<'a> {
    /// The rows of a table with that key; empty: rows have none, and all are of the first kind.
    pub(crate) fn new(columns: &'a [Column<'a>], key: &[String]) -> Self {
        let place = |name: &str| columns.iter().find(|column| column.name() == name);
        Self {
            columns,
            key: key.iter().map(|name| place(name)).collect(),
            deleted: place(DELETED),
        }
    }

    pub(crate) fn kind(&self, row: usize) -> Kind {
        let is_deleted = self.deleted.is_some_and(|column| {
            matches!(column.cell(row), Cell::Bool(true) | Cell::Json("true"))
        });
        if self.key.is_empty() || !is_deleted {
            Kind::Row
        } else if self
            .key
            .iter()
            .all(|column| column.is_some_and(|column| column.cell(row) != Cell::Null))
        {
            Kind::Tombstone
        } else {
            Kind::Sweep
        }
    }

    /// The hash of a row's key.
    pub(crate) fn key(&self, row: usize, buffer: &mut String) -> KeyHash {
        buffer.clear();
        for column in &self.key {
            push(buffer, column.map_or(Cell::Null, |column| column.cell(row)));
            buffer.push('\0');
        }
        XxHash3_128::oneshot(buffer.as_bytes())
    }

    /// The hash of the values that a tombstone of many compares; none: one of them is null.
    pub(crate) fn group(
        &self,
        pattern: &[String],
        row: usize,
        buffer: &mut String,
    ) -> Option<KeyHash> {
        buffer.clear();
        for name in pattern {
            let start = buffer.len();
            push(buffer, self.column(name)?.cell(row));
            if buffer.len() == start {
                return None;
            }
            buffer.push('\0');
        }
        Some(XxHash3_128::oneshot(buffer.as_bytes()))
    }

    /// A column by its name.
    pub(crate) fn column(&self, name: &str) -> Option<&'a Column<'a>> {
        self.columns.iter().find(|column| column.name() == name)
    }

    /// The columns that a tombstone of many compares, sorted.
    pub(crate) fn pattern(&self, row: usize) -> Vec<String> {
        let mut pattern: Vec<String> = self.values(row).map(|(name, _)| name.to_owned()).collect();
        pattern.sort_unstable();
        pattern
    }

    /// The columns that a row has values in, those apart that say that it is deleted and when it
    /// was read.
    pub(crate) fn values(&self, row: usize) -> impl Iterator<Item = (&'a str, Cell<'a>)> + use<'a> {
        let columns = self.columns;
        let values = columns
            .iter()
            .map(move |column| (column.name(), column.cell(row)));
        values.filter(|(name, cell)| *cell != Cell::Null && *name != DELETED && *name != SYNCED_AT)
    }
}

/// Appends a value in a form that is the same whether it comes from a vendor's record or from a
/// file, which may hold JSON only. Null appends nothing, and every other value something.
pub(crate) fn push(out: &mut String, cell: Cell<'_>) {
    match cell {
        Cell::Null | Cell::Json("null") => {}
        // Written as null where there are no infinities.
        Cell::Float64(value) if !value.is_finite() => {}
        Cell::String(text) => push_string(out, text),
        Cell::Json(json) if json.starts_with('"') => {
            match serde_json::from_str::<Cow<'_, str>>(json) {
                Ok(text) => push_string(out, &text),
                Err(_) => out.push_str(json),
            }
        }
        // In JSON a line break is white space between tokens, which a format of lines leaves out.
        Cell::Json(json) if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() => {
            out.extend(json.chars().filter(|c| !matches!(c, '\n' | '\r')));
        }
        Cell::Decimal(..) | Cell::Date(_) | Cell::Timestamp(_) => {
            out.push('"');
            cell.push_text(out);
        }
        Cell::Bool(_) | Cell::Int64(_) | Cell::Float64(_) | Cell::Json(_) => cell.push_text(out),
    }
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    out.push_str(text);
}

/// Reads a data file.
pub(crate) fn read(place: &dyn Place, format: &dyn FileFormat, path: &Path) -> Result<Batches> {
    let operation = "reading a data file";
    let file = place.open(path).explain(operation, path)?;
    let path = path.to_owned();
    let batches = format
        .read(file)
        .map_err(|error| error.with_context("path", path.display().to_string()))?;
    Ok(Box::new(batches.map(move |batch| {
        batch.map_err(|error| error.with_context("path", path.display().to_string()))
    })))
}

/// The rows of a batch for which a function is true; none: there are none.
pub(crate) fn filter(
    batch: &RecordBatch,
    keep: impl FnMut(usize) -> bool,
) -> Result<Option<RecordBatch>> {
    let mask: arrow_array::BooleanArray = (0..batch.num_rows()).map(keep).map(Some).collect();
    match mask.true_count() {
        0 => Ok(None),
        all if all == batch.num_rows() => Ok(Some(batch.clone())),
        _ => arrow_select::filter::filter_record_batch(batch, &mask)
            .map(Some)
            .map_err(|error| {
                pipeline_core::Error::new(
                    pipeline_core::ErrorKind::Unexpected,
                    "rows of a batch cannot be selected",
                )
                .with_source(error)
            }),
    }
}
