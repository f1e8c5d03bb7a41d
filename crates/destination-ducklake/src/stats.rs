//! The least and the greatest value of a column, by which readers skip files. One that is too
//! narrow hides rows, so a value that cannot be written exactly leaves the column without.

use std::cmp::Ordering;

use pipeline_engine::cell::{Cell, Column};
use serde::{Deserialize, Serialize};

/// Bytes of a text up to which it is a bound.
const LONGEST: usize = 256;

/// What is stored of a column of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) column_id: i64,
    pub(crate) bytes: i64,
    pub(crate) values: i64,
    pub(crate) nulls: i64,
    pub(crate) least: Option<String>,
    pub(crate) greatest: Option<String>,
    /// None: the column does not hold floating-point numbers.
    pub(crate) nan: Option<bool>,
}

/// A bound while rows are written.
#[derive(Clone, Debug, PartialEq)]
enum Bound {
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal(i128, i8),
    Date(i32),
    Timestamp(i64),
    Text(String),
}

/// The bounds of one column of a file that is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    values: i64,
    nulls: i64,
    ends: Option<(Bound, Bound)>,
    /// A value has no bound that is exact.
    unknown: bool,
    nan: Option<bool>,
}

impl Bounds {
    /// Takes the values of some rows in.
    pub(crate) fn add(&mut self, column: &Column<'_>, rows: usize) {
        for row in 0..rows {
            let cell = column.cell(row);
            if cell == Cell::Null {
                self.nulls += 1;
                continue;
            }
            self.values += 1;
            if let Cell::Float64(value) = cell {
                self.nan = Some(self.nan == Some(true) || value.is_nan());
            }
            if !self.unknown {
                self.take(cell);
            }
        }
    }

    fn take(&mut self, cell: Cell<'_>) {
        match &mut self.ends {
            Some((least, greatest)) => match (order(cell, least), order(cell, greatest)) {
                (Some(low), Some(high)) => {
                    let end = match (low, high) {
                        (Ordering::Less, _) => least,
                        (_, Ordering::Greater) => greatest,
                        _ => return,
                    };
                    match bound(cell) {
                        Some(bound) => *end = bound,
                        None => self.unknown = true,
                    }
                }
                _ => self.unknown = true,
            },
            None => match bound(cell) {
                Some(bound) => self.ends = Some((bound.clone(), bound)),
                None => self.unknown = true,
            },
        }
    }

    /// As it is stored.
    pub(crate) fn describe(&self, column_id: i64, bytes: i64) -> Described {
        let (least, greatest) = match &self.ends {
            Some((least, greatest)) if !self.unknown => (text(least), text(greatest)),
            _ => (None, None),
        };
        // Half a range is none.
        let (least, greatest) = least
            .zip(greatest)
            .map_or((None, None), |(least, greatest)| {
                (Some(least), Some(greatest))
            });
        Described {
            column_id,
            bytes,
            values: self.values,
            nulls: self.nulls,
            least,
            greatest,
            nan: self.nan,
        }
    }
}

fn bound(cell: Cell<'_>) -> Option<Bound> {
    Some(match cell {
        Cell::Bool(value) => Bound::Bool(value),
        Cell::Int64(value) => Bound::Int(value),
        Cell::Float64(value) if value.is_finite() => Bound::Float(value),
        Cell::Decimal(value, scale) => Bound::Decimal(value, scale),
        Cell::Date(days) => Bound::Date(days),
        Cell::Timestamp(micros) => Bound::Timestamp(micros),
        // A NUL ends the text for some readers of the catalogue.
        Cell::String(text) if text.len() <= LONGEST && !text.contains('\0') => {
            Bound::Text(text.to_owned())
        }
        Cell::String(_) | Cell::Json(_) | Cell::Float64(_) | Cell::Null => return None,
    })
}

fn order(cell: Cell<'_>, bound: &Bound) -> Option<Ordering> {
    match (cell, bound) {
        (Cell::Bool(value), Bound::Bool(bound)) => Some(value.cmp(bound)),
        (Cell::Int64(value), Bound::Int(bound))
        | (Cell::Timestamp(value), Bound::Timestamp(bound)) => Some(value.cmp(bound)),
        (Cell::Float64(value), Bound::Float(bound)) => value.partial_cmp(bound),
        (Cell::Decimal(value, _), Bound::Decimal(bound, _)) => Some(value.cmp(bound)),
        (Cell::Date(value), Bound::Date(bound)) => Some(value.cmp(bound)),
        // One that is no bound itself is unknown wherever it lies.
        (Cell::String(value), Bound::Text(bound)) if !value.contains('\0') => {
            Some(value.as_bytes().cmp(bound.as_bytes()))
        }
        _ => None,
    }
}

/// A bound as the catalogue has it; none: readers could not parse it.
fn text(bound: &Bound) -> Option<String> {
    let plain = |cell: Cell<'_>| {
        let mut text = String::new();
        cell.push_text(&mut text);
        text
    };
    // The years before 1 and after 9999 are written in more than one way.
    let is_common =
        |text: &String| text.as_bytes().get(4) == Some(&b'-') && !text.starts_with("0000");
    match bound {
        Bound::Bool(value) => Some(i32::from(*value).to_string()),
        Bound::Int(value) => Some(value.to_string()),
        Bound::Float(value) => Some(format!("{value:?}")),
        Bound::Decimal(value, scale) => Some(plain(Cell::Decimal(*value, *scale))),
        Bound::Date(days) => Some(plain(Cell::Date(*days))).filter(is_common),
        Bound::Timestamp(micros) => Some(plain(Cell::Timestamp(*micros)))
            .filter(is_common)
            .map(|text| text.replace('T', " ").replace('Z', "+00")),
        Bound::Text(text) => Some(text.clone()),
    }
}

/// The lesser, or the greater, of two bounds of a column as they are stored; none: it is not known.
pub(crate) fn wider(
    lake_type: &str,
    left: Option<&str>,
    right: Option<&str>,
    wanted: Ordering,
) -> Option<String> {
    let (left, right) = (left?, right?);
    let order = if lake_type.starts_with("decimal") {
        let number = |text: &str| text.replace('.', "").parse::<i128>().ok();
        number(left)?.cmp(&number(right)?)
    } else {
        match lake_type {
            "int64" | "boolean" => left.parse::<i64>().ok()?.cmp(&right.parse().ok()?),
            "float64" => left
                .parse::<f64>()
                .ok()?
                .partial_cmp(&right.parse().ok()?)?,
            "varchar" | "date" | "timestamptz" => left.as_bytes().cmp(right.as_bytes()),
            _ => return None,
        }
    };
    Some(if order == wanted { left } else { right }.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Date32Array, Float64Array, RecordBatch, StringArray};

    use super::*;

    fn describe(values: ArrayRef) -> (Option<String>, Option<String>, i64) {
        let batch = RecordBatch::try_from_iter([("x", values)]).unwrap();
        let columns = Column::of(&batch).unwrap();
        let mut bounds = Bounds::default();
        bounds.add(&columns[0], batch.num_rows());
        let Described {
            least,
            greatest,
            nulls,
            ..
        } = bounds.describe(1, 0);
        (least, greatest, nulls)
    }

    #[test]
    fn a_value_that_cannot_be_a_bound_leaves_the_column_without() {
        let text = |values: &[Option<&str>]| describe(Arc::new(StringArray::from(values.to_vec())));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            text(&[Some("b"), None, Some("é"), Some("a")]),
            (some("a"), some("é"), 1)
        );
        assert_eq!(text(&[None, None]), (None, None, 2));
        let long = "x".repeat(300);
        for odd in [&*long, "a\0b"] {
            for values in [
                [Some(odd), Some("b"), Some("c")],
                [Some("b"), Some("c"), Some(odd)],
                [Some("b"), Some(odd), Some("c")],
            ] {
                assert_eq!(text(&values).0, None, "{odd:?}");
            }
        }
        let floats = |values: Vec<f64>| describe(Arc::new(Float64Array::from(values)));
        assert_eq!(floats(vec![1.5, -1e300]), (some("-1e300"), some("1.5"), 0));
        assert_eq!(floats(vec![1.5, f64::NAN]).0, None);
        assert_eq!(floats(vec![f64::INFINITY, 1.5]).0, None);
        let days = |values: Vec<i32>| describe(Arc::new(Date32Array::from(values)));
        assert_eq!(days(vec![0, -1]).0, some("1969-12-31"));
        assert_eq!(days(vec![0, 2_932_897]), (None, None, 0), "the year 10000");
    }

    #[test]
    fn bounds_are_compared_as_values_of_their_type() {
        for (lake_type, left, right, least) in [
            ("int64", "9", "10", Some("9")),
            ("int64", "-9", "-10", Some("-10")),
            ("decimal(38,3)", "-0.010", "1.000", Some("-0.010")),
            ("float64", "-1e300", "1.5", Some("-1e300")),
            ("varchar", "9", "10", Some("10")),
            ("json", "9", "10", None),
        ] {
            assert_eq!(
                wider(lake_type, Some(left), Some(right), Ordering::Less).as_deref(),
                least,
                "{lake_type}"
            );
        }
        assert_eq!(wider("int64", None, Some("1"), Ordering::Less), None);
    }
}
