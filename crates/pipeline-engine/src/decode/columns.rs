//! Columns that grow by one value at a time.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, new_null_array};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use pipeline_core::{DataType, TimeFormat};

use super::{UTC, values};

/// Bytes that a value of any type takes, besides its text: those of a decimal.
pub(super) const WIDEST: usize = 16;

/// The Arrow type of a declared column.
pub(super) fn arrow_type(data_type: DataType) -> ArrowType {
    match data_type {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int64 => ArrowType::Int64,
        DataType::Float64 => ArrowType::Float64,
        DataType::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale),
        DataType::String
        | DataType::Reference
        | DataType::Json
        | DataType::Object
        | DataType::Array => ArrowType::Utf8,
        DataType::Date => ArrowType::Date32,
        DataType::Timestamp(_) => ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
    }
}

/// One declared column. Vendors declare far more members than a page of records fills, so nothing
/// is kept of a column until a value comes.
pub(super) struct Column {
    pub(super) values: Values,
    arrow_type: ArrowType,
    has_values: bool,
    /// Nulls before the first value.
    leading: usize,
}

impl Column {
    pub(super) fn new(data_type: DataType) -> Self {
        let (values, arrow_type) = (Values::new(data_type), arrow_type(data_type));
        Self {
            values,
            arrow_type,
            has_values: false,
            leading: 0,
        }
    }

    /// Appends a JSON value, or null for none; false when the value does not fit and null was
    /// appended in its place, or its id.
    pub(super) fn push(&mut self, json: Option<&str>, scratch: &mut String) -> bool {
        if !self.has_values {
            if json.is_none() {
                self.leading += 1;
                return true;
            }
            self.has_values = true;
            // To append zero nulls is to begin a map of nulls, which a full column does without.
            if self.leading > 0 {
                self.values.append_nulls(std::mem::take(&mut self.leading));
            }
        }
        self.values.push(json, scratch)
    }

    /// The values so far; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
        if std::mem::take(&mut self.has_values) {
            return self.values.finish();
        }
        new_null_array(&self.arrow_type, std::mem::take(&mut self.leading))
    }
}

/// The values of a column, by their type.
pub(super) enum Values {
    Bool(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Decimal {
        values: Decimal128Builder,
        precision: u8,
        scale: i8,
    },
    String(StringBuilder),
    Reference(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder, TimeFormat),
    /// With what a value begins; none: with anything.
    Json(StringBuilder, Option<char>),
}

impl Values {
    /// Without room for any value: the first page of many a list has few, and each column would
    /// take kilobytes for them.
    pub(super) fn new(data_type: DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Bool(BooleanBuilder::with_capacity(0)),
            DataType::Int64 => Self::Int64(Int64Builder::with_capacity(0)),
            DataType::Float64 => Self::Float64(Float64Builder::with_capacity(0)),
            DataType::Decimal { precision, scale } => Self::Decimal {
                values: Decimal128Builder::with_capacity(0).with_data_type(arrow_type(data_type)),
                precision,
                scale,
            },
            DataType::String => Self::String(StringBuilder::with_capacity(0, 0)),
            DataType::Reference => Self::Reference(StringBuilder::with_capacity(0, 0)),
            DataType::Date => Self::Date(Date32Builder::with_capacity(0)),
            DataType::Timestamp(format) => Self::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(0).with_timezone(UTC),
                format,
            ),
            DataType::Json => Self::Json(StringBuilder::with_capacity(0, 0), None),
            DataType::Object => Self::Json(StringBuilder::with_capacity(0, 0), Some('{')),
            DataType::Array => Self::Json(StringBuilder::with_capacity(0, 0), Some('[')),
        }
    }

    /// True when the column can hold a JSON value that is not null.
    pub(super) fn fits(&self, json: &str, scratch: &mut String) -> bool {
        match self {
            Self::Bool(_) => values::boolean(json).is_some(),
            Self::Int64(_) => values::int64(json).is_some(),
            Self::Float64(_) => values::float64(json, scratch).is_some(),
            Self::Decimal {
                precision, scale, ..
            } => values::decimal(json, *precision, *scale).is_some(),
            Self::String(_) | Self::Reference(_) => values::text(json, scratch).is_some(),
            Self::Date(_) => values::date(json).is_some(),
            Self::Timestamp(_, format) => values::timestamp(json, *format, scratch).is_some(),
            Self::Json(_, begin) => begin.is_none_or(|begin| json.starts_with(begin)),
        }
    }

    /// What a value counts as that is kept elsewhere as it is written: a number in quotes as the
    /// number, the first instant of a day in UTC as the day.
    pub(super) fn lenient<'j>(&self, json: &'j str) -> Cow<'j, str> {
        let text = json
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let is_number = |text: &&str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'e' | b'E'))
        };
        match self {
            Self::Int64(_) | Self::Float64(_) => text.filter(is_number).unwrap_or(json).into(),
            Self::Date(_) => {
                let day = text.and_then(|text| text.strip_suffix("T00:00:00Z"));
                day.map_or(json.into(), |day| format!("\"{day}\"").into())
            }
            _ => json.into(),
        }
    }

    fn append_nulls(&mut self, count: usize) {
        match self {
            Self::Bool(values) => values.append_nulls(count),
            Self::Int64(values) => values.append_nulls(count),
            Self::Float64(values) => values.append_nulls(count),
            Self::Decimal { values, .. } => values.append_nulls(count),
            Self::String(values) | Self::Reference(values) | Self::Json(values, _) => {
                values.append_nulls(count);
            }
            Self::Date(values) => values.append_nulls(count),
            Self::Timestamp(values, _) => values.append_nulls(count),
        }
    }

    fn push(&mut self, json: Option<&str>, scratch: &mut String) -> bool {
        macro_rules! append {
            ($values:expr, $value:expr) => {{
                let value = json.and_then($value);
                $values.append_option(value);
                value.is_some() || json.is_none()
            }};
        }
        match self {
            Self::Bool(values) => append!(values, values::boolean),
            Self::Int64(values) => append!(values, values::int64),
            Self::Float64(values) => append!(values, |json| values::float64(json, scratch)),
            Self::Decimal {
                values,
                precision,
                scale,
            } => append!(values, |json| values::decimal(json, *precision, *scale)),
            Self::String(values) => append!(values, |json| values::text(json, scratch)),
            Self::Reference(values) => {
                if let Some(object) = json.filter(|json| json.starts_with('{')) {
                    values.append_option(values::id(object));
                    return false;
                }
                append!(values, |json| values::text(json, scratch))
            }
            Self::Date(values) => append!(values, values::date),
            Self::Timestamp(values, format) => {
                append!(values, |json| values::timestamp(json, *format, scratch))
            }
            Self::Json(values, begin) => append!(values, |json| begin
                .is_none_or(|begin| json.starts_with(begin))
                .then_some(json)),
        }
    }

    /// The values so far. There is room for as many again afterwards: batches are alike.
    fn finish(&mut self) -> ArrayRef {
        macro_rules! finish {
            ($values:expr, $next:expr) => {{
                let next = $next;
                Arc::new(std::mem::replace($values, next).finish())
            }};
        }
        match self {
            Self::Bool(values) => finish!(values, BooleanBuilder::with_capacity(values.len())),
            Self::Int64(values) => finish!(values, Int64Builder::with_capacity(values.len())),
            Self::Float64(values) => finish!(values, Float64Builder::with_capacity(values.len())),
            Self::Decimal { values, .. } => Arc::new(values.finish()),
            Self::String(values) | Self::Reference(values) | Self::Json(values, _) => {
                let bytes = values.values_slice().len();
                finish!(
                    values,
                    StringBuilder::with_capacity(values.len(), bytes + bytes / 8)
                )
            }
            Self::Date(values) => finish!(values, Date32Builder::with_capacity(values.len())),
            Self::Timestamp(values, _) => {
                finish!(
                    values,
                    TimestampMicrosecondBuilder::with_capacity(values.len()).with_timezone(UTC)
                )
            }
        }
    }
}
