//! Reads the columns of a batch value by value, for destinations that do not write Arrow.

use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow_array::{ArrayRef, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, TimeUnit};
use pipeline_core::{Error, ErrorKind, Result};

use crate::destination::EXTRA;

/// Key of the field metadata that marks a text column as JSON, with the value `true`.
pub const JSON: &str = "json";

/// True when the column's text is JSON.
pub fn is_json(field: &Field) -> bool {
    field.name() == EXTRA
        || field
            .metadata()
            .get(JSON)
            .is_some_and(|value| value == "true")
}

/// One value of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int64(i64),
    /// A floating-point number.
    Float64(f64),
    /// The unscaled value of a decimal, and its digits after the point.
    Decimal(i128, i8),
    /// Text.
    String(&'a str),
    /// JSON text.
    Json(&'a str),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970.
    Timestamp(i64),
}

impl Cell<'_> {
    /// Appends the value as plain text: decimals with all their digits, days as `YYYY-MM-DD` and
    /// instants as `YYYY-MM-DDTHH:MM:SS.ffffffZ`, which sort as they should. Null appends nothing.
    pub fn push_text(&self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = match *self {
            Self::Null => Ok(()),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int64(value) => write!(out, "{value}"),
            Self::Float64(value) => write!(out, "{value:?}"),
            Self::Decimal(value, scale) => push_decimal(out, value, scale),
            Self::String(text) | Self::Json(text) => out.write_str(text),
            Self::Date(days) => push_date(out, i64::from(days)),
            Self::Timestamp(micros) => push_timestamp(out, micros),
        };
    }
}

/// One column of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    name: &'a str,
    values: Values<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Values<'a> {
    Bool(&'a BooleanArray),
    Int64(&'a Int64Array),
    Float64(&'a Float64Array),
    Decimal(&'a Decimal128Array, i8),
    String(&'a StringArray),
    Json(&'a StringArray),
    Date(&'a Date32Array),
    Timestamp(&'a TimestampMicrosecondArray),
}

impl<'a> Column<'a> {
    /// The columns of a batch, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when a column's Arrow type is not one that the engine produces.
    pub fn of(batch: &'a RecordBatch) -> Result<Vec<Self>> {
        let fields = batch.schema_ref().fields();
        fields
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| {
                Ok(Self {
                    name: field.name(),
                    values: values(field, array)?,
                })
            })
            .collect()
    }

    /// The column's name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The value of one row, which must exist.
    #[inline]
    pub fn cell(&self, row: usize) -> Cell<'a> {
        fn valid(array: &dyn Array, row: usize) -> bool {
            array.nulls().is_none_or(|nulls| nulls.is_valid(row))
        }
        match self.values {
            Values::Bool(array) if valid(array, row) => Cell::Bool(array.value(row)),
            Values::Int64(array) if valid(array, row) => Cell::Int64(array.value(row)),
            Values::Float64(array) if valid(array, row) => Cell::Float64(array.value(row)),
            Values::Decimal(array, scale) if valid(array, row) => {
                Cell::Decimal(array.value(row), scale)
            }
            Values::String(array) if valid(array, row) => Cell::String(array.value(row)),
            Values::Json(array) if valid(array, row) => Cell::Json(array.value(row)),
            Values::Date(array) if valid(array, row) => Cell::Date(array.value(row)),
            Values::Timestamp(array) if valid(array, row) => Cell::Timestamp(array.value(row)),
            _ => Cell::Null,
        }
    }
}

fn values<'a>(field: &Field, array: &'a ArrayRef) -> Result<Values<'a>> {
    Ok(match array.data_type() {
        DataType::Boolean => Values::Bool(array.as_boolean()),
        DataType::Int64 => Values::Int64(array.as_primitive::<Int64Type>()),
        DataType::Float64 => Values::Float64(array.as_primitive::<Float64Type>()),
        DataType::Decimal128(_, scale) => {
            Values::Decimal(array.as_primitive::<Decimal128Type>(), *scale)
        }
        DataType::Utf8 if is_json(field) => Values::Json(array.as_string::<i32>()),
        DataType::Utf8 => Values::String(array.as_string::<i32>()),
        DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>())
        }
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a column has a type that destinations do not know",
            )
            .with_context("column", field.name())
            .with_context("type", other.to_string()));
        }
    })
}

fn push_decimal(out: &mut String, value: i128, scale: i8) -> std::fmt::Result {
    let digits = value.unsigned_abs().to_string();
    if value < 0 {
        out.push('-');
    }
    match usize::try_from(scale) {
        Ok(0) => out.write_str(&digits),
        Ok(scale) if digits.len() > scale => {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            write!(out, "{whole}.{fraction}")
        }
        Ok(scale) => write!(out, "0.{digits:0>scale$}"),
        Err(_) if value == 0 => out.write_str("0"),
        Err(_) => write!(out, "{digits}{}", "0".repeat(scale.unsigned_abs().into())),
    }
}

fn push_timestamp(out: &mut String, micros: i64) -> std::fmt::Result {
    const DAY: i64 = 86_400_000_000;
    push_date(out, micros.div_euclid(DAY))?;
    let micros = micros.rem_euclid(DAY);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    for (separator, number) in [
        ('T', seconds / 3600),
        (':', seconds / 60 % 60),
        (':', seconds % 60),
    ] {
        out.push(separator);
        push_two(out, number);
    }
    out.push('.');
    for number in [fraction / 10_000, fraction / 100 % 100, fraction % 100] {
        push_two(out, number);
    }
    out.write_char('Z')
}

/// Appends the day of the proleptic Gregorian calendar, by the arithmetic of 400-year eras that
/// begin on 1 March.
fn push_date(out: &mut String, days: i64) -> std::fmt::Result {
    const ERA: i64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    match year {
        0..=9999 => {
            push_two(out, year / 100);
            push_two(out, year % 100);
        }
        _ => write!(out, "{year:+05}")?,
    }
    for number in [month, day] {
        out.push('-');
        push_two(out, number);
    }
    Ok(())
}

fn push_two(out: &mut String, number: i64) {
    for digit in [number / 10, number % 10] {
        out.push(u8::try_from(digit).map_or('0', |digit| char::from(b'0' + digit)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text(cell: Cell<'_>) -> String {
        let mut out = String::new();
        cell.push_text(&mut out);
        out
    }

    #[test]
    fn values_have_one_text_each() {
        for (cell, expected) in [
            (Cell::Null, ""),
            (Cell::Int64(i64::MIN), "-9223372036854775808"),
            (Cell::Float64(1.0), "1.0"),
            (Cell::Float64(0.1), "0.1"),
            (Cell::Decimal(-5, 2), "-0.05"),
            (Cell::Decimal(12_345, 2), "123.45"),
            (Cell::Decimal(100, 2), "1.00"),
            (Cell::Decimal(7, 0), "7"),
            (Cell::Decimal(7, -3), "7000"),
            (Cell::Decimal(0, -3), "0"),
            (Cell::Date(0), "1970-01-01"),
            (Cell::Date(-1), "1969-12-31"),
            (Cell::Date(-719_528), "0000-01-01"),
            (Cell::Date(2_932_896), "9999-12-31"),
            (Cell::Date(2_932_897), "+10000-01-01"),
            (Cell::Timestamp(0), "1970-01-01T00:00:00.000000Z"),
            (Cell::Timestamp(-1), "1969-12-31T23:59:59.999999Z"),
            (
                Cell::Timestamp(1_709_210_096_123_456),
                "2024-02-29T12:34:56.123456Z",
            ),
        ] {
            assert_eq!(text(cell), expected, "{cell:?}");
        }
    }

    #[test]
    fn days_agree_with_the_calendar() {
        let start = chrono::NaiveDate::from_ymd_opt(1600, 1, 1).unwrap();
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for date in start.iter_days().take(400 * 366).step_by(7) {
            let days = i32::try_from((date - epoch).num_days()).unwrap();
            assert_eq!(text(Cell::Date(days)), date.to_string());
        }
    }
}
