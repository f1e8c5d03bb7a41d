//! What a rule says, and which rows of a batch break it. No IO, no configuration.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch};
use chrono::{DateTime, Utc};
use pipeline_core::{DataType, Result};
use regex::Regex;

use crate::destination::DELETED;
use crate::destination::cell::{Cell, Column};

/// A rule about the values of a stream's columns.
///
/// All but [`NotNull`](Self::NotNull) pass a null. Tombstones, which hold no other value than their
/// key, pass every rule.
#[derive(Clone, Debug)]
pub enum QualityRule {
    /// The column has a value. A value that does not fit its column, and is kept in `_extra`
    /// therefore, is none.
    NotNull {
        /// The column.
        column: String,
    },
    /// The value is one of these.
    Accepted {
        /// The column.
        column: String,
        /// The values as text; numbers and truth values as JSON writes them.
        values: BTreeSet<String>,
    },
    /// No two rows of a batch have the same values in all of these columns. Rows with the same
    /// primary key are versions of one row, and not compared.
    Unique {
        /// The columns.
        columns: Vec<String>,
    },
    /// The value is within these bounds, which are included.
    Range {
        /// The column.
        column: String,
        /// The least value; none: as small as you like.
        min: Option<RangeBound>,
        /// The greatest value; none: as great as you like.
        max: Option<RangeBound>,
    },
    /// The text matches the expression somewhere; write `^…$` for all of it.
    Pattern {
        /// The column.
        column: String,
        /// The expression, in the syntax of the crate `regex`.
        pattern: Regex,
    },
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeBound {
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// An instant, or the day that begins with it.
    Instant(DateTime<Utc>),
}

/// A batch as rules read it.
pub(super) struct Rows<'a> {
    pub(super) columns: Vec<Column<'a>>,
    batch: &'a RecordBatch,
    deleted: Option<&'a BooleanArray>,
}

impl<'a> Rows<'a> {
    /// # Errors
    /// When a column's type is not one that the engine produces.
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self {
            columns: Column::of(batch)?,
            deleted: batch.column_by_name(DELETED).map(AsArray::as_boolean),
            batch,
        })
    }

    /// The rows that are not tombstones.
    fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.batch.num_rows())
            .filter(|row| self.deleted.is_none_or(|deleted| !deleted.value(*row)))
    }

    fn column(&self, name: &str) -> Option<Column<'a>> {
        self.columns
            .iter()
            .find(|column| column.name() == name)
            .copied()
    }

    /// The rows, but for tombstones, whose value breaks a rule.
    fn breaking(&self, name: &str, breaks: impl Fn(Cell<'a>) -> bool) -> Vec<usize> {
        self.column(name).map_or_else(Vec::new, |column| {
            self.live()
                .filter(|row| breaks(column.cell(*row)))
                .collect()
        })
    }
}

/// The values of some columns as one text, in which no two lists of values are the same; none when
/// one of them is null.
fn joined(row: usize, columns: &[Column<'_>]) -> Option<String> {
    let mut text = String::new();
    for column in columns {
        let cell = column.cell(row);
        if cell == Cell::Null {
            return None;
        }
        let start = text.len();
        cell.push_text(&mut text);
        let length = text.len() - start;
        // Writing to a string cannot fail.
        let _ = write!(text, "\u{0}{length}\u{0}");
    }
    Some(text)
}

impl QualityRule {
    /// The columns that it reads.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Unique { columns } => columns.iter().map(String::as_str).collect(),
            Self::NotNull { column }
            | Self::Accepted { column, .. }
            | Self::Range { column, .. }
            | Self::Pattern { column, .. } => vec![column],
        }
    }

    /// Whether columns of this type can be compared in this way.
    pub fn applies_to(&self, data_type: DataType) -> bool {
        let is_text = matches!(data_type, DataType::String | DataType::Reference);
        match self {
            Self::NotNull { .. } => true,
            Self::Accepted { .. } => {
                is_text || matches!(data_type, DataType::Bool | DataType::Int64)
            }
            Self::Unique { .. } => !data_type.is_json(),
            Self::Range { min, max, .. } => {
                let is_time = matches!(data_type, DataType::Date | DataType::Timestamp(_));
                let is_number = matches!(
                    data_type,
                    DataType::Int64 | DataType::Float64 | DataType::Decimal { .. }
                );
                [min, max].into_iter().flatten().all(|bound| match bound {
                    RangeBound::Instant(_) => is_time,
                    RangeBound::Integer(_) | RangeBound::Number(_) => is_number,
                })
            }
            Self::Pattern { .. } => is_text,
        }
    }

    /// The rows that break it, in their order. A column that the batch does not have breaks nothing.
    pub(super) fn broken(&self, rows: &Rows<'_>, primary_key: &[String]) -> Vec<usize> {
        match self {
            Self::NotNull { column } => {
                let has_nulls = rows
                    .batch
                    .column_by_name(column)
                    .is_some_and(|values| values.null_count() > 0);
                if has_nulls {
                    rows.breaking(column, |cell| cell == Cell::Null)
                } else {
                    Vec::new()
                }
            }
            Self::Accepted { column, values } => rows.breaking(column, |cell| match cell {
                Cell::Null => false,
                Cell::String(text) => !values.contains(text),
                other => {
                    let mut text = String::new();
                    other.push_text(&mut text);
                    !values.contains(&text)
                }
            }),
            Self::Range { column, min, max } => rows.breaking(column, |cell| {
                cell != Cell::Null && !is_within(cell, *min, *max)
            }),
            Self::Pattern { column, pattern } => rows.breaking(
                column,
                |cell| matches!(cell, Cell::String(text) if !pattern.is_match(text)),
            ),
            Self::Unique { columns } => repeated(rows, columns, primary_key),
        }
    }
}

/// The rows whose values an earlier row of another key has.
fn repeated(rows: &Rows<'_>, columns: &[String], primary_key: &[String]) -> Vec<usize> {
    let found = |names: &[String]| -> Option<Vec<Column<'_>>> {
        names.iter().map(|name| rows.column(name)).collect()
    };
    let Some((columns, key)) = found(columns).zip(found(primary_key)) else {
        return Vec::new();
    };
    let mut seen: HashMap<String, Option<String>> = HashMap::new();
    rows.live()
        .filter(|row| {
            let Some(values) = joined(*row, &columns) else {
                return false;
            };
            let own = (!key.is_empty()).then(|| joined(*row, &key)).flatten();
            if let Some(first) = seen.get(&values) {
                return own.is_none() || *first != own;
            }
            seen.insert(values, own);
            false
        })
        .collect()
}

fn is_within(cell: Cell<'_>, min: Option<RangeBound>, max: Option<RangeBound>) -> bool {
    let is = |bound: Option<RangeBound>, allowed: [Ordering; 2]| {
        bound.is_none_or(|bound| {
            compare(cell, bound).is_some_and(|ordering| allowed.contains(&ordering))
        })
    };
    is(min, [Ordering::Greater, Ordering::Equal]) && is(max, [Ordering::Less, Ordering::Equal])
}

/// A value beside a bound; none when they cannot be compared.
#[expect(
    clippy::cast_precision_loss,
    reason = "a bound with a fraction is compared as a floating-point number"
)]
fn compare(cell: Cell<'_>, bound: RangeBound) -> Option<Ordering> {
    const DAY: i64 = 86_400_000_000;
    match (cell, bound) {
        (Cell::Int64(value), RangeBound::Integer(bound)) => Some(value.cmp(&bound)),
        (Cell::Int64(value), RangeBound::Number(bound)) => (value as f64).partial_cmp(&bound),
        (Cell::Float64(value), RangeBound::Integer(bound)) => value.partial_cmp(&(bound as f64)),
        (Cell::Float64(value), RangeBound::Number(bound)) => value.partial_cmp(&bound),
        (Cell::Decimal(value, scale), RangeBound::Integer(bound)) => {
            let scaled = u32::try_from(scale)
                .ok()
                .and_then(|scale| 10_i128.checked_pow(scale))
                .and_then(|factor| i128::from(bound).checked_mul(factor));
            match scaled {
                Some(scaled) => Some(value.cmp(&scaled)),
                None => float(value, scale).partial_cmp(&(bound as f64)),
            }
        }
        (Cell::Decimal(value, scale), RangeBound::Number(bound)) => {
            float(value, scale).partial_cmp(&bound)
        }
        (Cell::Timestamp(micros), RangeBound::Instant(bound)) => {
            Some(micros.cmp(&bound.timestamp_micros()))
        }
        (Cell::Date(days), RangeBound::Instant(bound)) => {
            Some((i64::from(days) * DAY).cmp(&bound.timestamp_micros()))
        }
        _ => None,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a bound with a fraction is compared as a floating-point number"
)]
fn float(value: i128, scale: i8) -> f64 {
    value as f64 / 10_f64.powi(i32::from(scale))
}

impl fmt::Display for RangeBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Instant(at) => write!(f, "{}", at.format("%Y-%m-%dT%H:%M:%SZ")),
        }
    }
}

impl fmt::Display for QualityRule {
    /// What is wrong with a row that breaks it, without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNull { column } => write!(f, "`{column}` is null"),
            Self::Accepted { column, .. } => write!(f, "`{column}` is not an accepted value"),
            Self::Unique { columns } => write!(f, "`{}` is not unique", columns.join("`, `")),
            Self::Pattern { column, .. } => write!(f, "`{column}` does not match its pattern"),
            Self::Range { column, min, max } => match (min, max) {
                (Some(min), Some(max)) => write!(f, "`{column}` is not within {min} and {max}"),
                (Some(min), None) => write!(f, "`{column}` is below {min}"),
                (None, Some(max)) => write!(f, "`{column}` is above {max}"),
                (None, None) => write!(f, "`{column}` is out of range"),
            },
        }
    }
}
