//! Rows that stay when a generation is published.

use std::collections::BTreeMap;

use crate::destination::TableId;
use crate::destination::cell::{Cell, Column};

/// Selects rows of a table's visible generation. They are carried over when the next generation is
/// published.
///
/// A carried row keeps all its values, `_synced_at` included. It counts as written before every row
/// of the next generation: one with the same key replaces it, and a tombstone deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The table.
    pub table: TableId,
    /// Columns and the JSON values that a row must have in all of them; none: every row.
    pub values: BTreeMap<String, String>,
}

impl Keep {
    /// Returns the parsed condition.
    pub fn condition(&self) -> Condition {
        Condition {
            columns: self
                .values
                .iter()
                .map(|(name, json)| (name.clone(), Wanted::parse(json)))
                .collect(),
        }
    }
}

/// The condition of a [`Keep`], parsed once for many rows.
#[derive(Clone, Debug)]
pub struct Condition {
    columns: Vec<(String, Wanted)>,
}

impl Condition {
    /// Returns a function that is true for the rows that are selected. A column that is missing
    /// holds null.
    pub fn bind<'a>(&'a self, columns: &'a [Column<'a>]) -> impl Fn(usize) -> bool + 'a {
        let place = |name: &str| columns.iter().find(|column| column.name() == name);
        let bound: Vec<_> = self
            .columns
            .iter()
            .map(|(name, wanted)| (place(name), wanted))
            .collect();
        move |row| {
            bound.iter().all(|(column, wanted)| {
                wanted.is(column.map_or(Cell::Null, |column| column.cell(row)))
            })
        }
    }
}

/// A JSON value that a cell is compared with.
#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    /// A fraction, an array or an object, as it is written.
    Raw(String),
}

impl Wanted {
    fn parse(json: &str) -> Self {
        let json = json.trim();
        match json.as_bytes().first() {
            Some(b'"') => {
                serde_json::from_str(json).map_or_else(|_| Self::Raw(json.to_owned()), Self::Text)
            }
            _ => match json {
                "null" => Self::Null,
                "true" => Self::Bool(true),
                "false" => Self::Bool(false),
                number => number
                    .parse()
                    .map_or_else(|_| Self::Raw(number.to_owned()), Self::Int),
            },
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "a column of floating-point numbers holds the same loss"
    )]
    fn is(&self, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Null, Cell::Null) => true,
            (Self::Null, Cell::Json(json)) => json == "null",
            (Self::Bool(wanted), Cell::Bool(value)) => *wanted == value,
            (Self::Int(wanted), Cell::Int64(value)) => *wanted == value,
            (Self::Int(wanted), Cell::Float64(value)) => *wanted as f64 == value,
            (Self::Raw(wanted), Cell::Float64(value)) => wanted.parse() == Ok(value),
            (Self::Text(wanted), Cell::String(text)) => wanted == text,
            (wanted, Cell::Json(json)) => *wanted == Self::parse(json),
            (Self::Text(wanted), Cell::Decimal(..) | Cell::Date(_) | Cell::Timestamp(_))
            | (Self::Raw(wanted), Cell::Decimal(..)) => *wanted == text_of(cell),
            (Self::Int(wanted), Cell::Decimal(..)) => wanted.to_string() == text_of(cell),
            _ => false,
        }
    }
}

fn text_of(cell: Cell<'_>) -> String {
    let mut text = String::new();
    cell.push_text(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_json() {
        for (json, cell, equal) in [
            (r#""cus_2""#, Cell::String("cus_2"), true),
            (r#""cus_2""#, Cell::String("cus_1"), false),
            (r#""é""#, Cell::String("é"), true),
            (r#""cus_2""#, Cell::Json(r#""cus_2""#), true),
            (r#""a\/b""#, Cell::Json(r#""a/b""#), true),
            (r#""5""#, Cell::String("5"), true),
            ("5", Cell::String("5"), false),
            ("5", Cell::Int64(5), true),
            ("5", Cell::Json("5"), true),
            ("5", Cell::Json(r#""5""#), false),
            ("5", Cell::Float64(5.0), true),
            ("5.5", Cell::Float64(5.5), true),
            ("5.50", Cell::Decimal(550, 2), true),
            ("5", Cell::Decimal(5, 0), true),
            (r#""5.50""#, Cell::Decimal(550, 2), true),
            (r#""2026-11-28""#, Cell::Date(20_785), true),
            (r#""1970-01-01T00:00:00.000000Z""#, Cell::Timestamp(0), true),
            ("true", Cell::Bool(true), true),
            ("false", Cell::Json("false"), true),
            ("null", Cell::Null, true),
            ("null", Cell::Int64(0), false),
            ("5", Cell::Null, false),
            (r#"{"a":1}"#, Cell::Json(r#"{"a":1}"#), true),
        ] {
            assert_eq!(Wanted::parse(json).is(cell), equal, "{json} and {cell:?}");
        }
    }
}
