//! The shape of a stream's records, in our own small vocabulary: connectors compile no Arrow.

use std::borrow::Cow;

use serde::Serialize;

/// Type of one column, and how the vendor writes its values.
///
/// Nested objects and arrays are [`DataType::Json`]: the value's own text, unchanged but for white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DataType {
    /// `true` or `false`.
    Bool,
    /// A whole number of 64 bits. Money in minor units is this.
    Int64,
    /// A floating-point number.
    Float64,
    /// An exact decimal, written by the vendor as a number or a string.
    Decimal {
        /// Digits in all, at most 38.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// Text.
    String,
    /// A calendar day, written `YYYY-MM-DD`.
    Date,
    /// An instant, written as told.
    Timestamp(TimeFormat),
    /// Any JSON value, kept as text.
    Json,
}

/// How a vendor writes an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// Whole seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
    /// Text such as `2026-01-31T12:00:00Z`; an offset is honoured, its absence means UTC.
    Rfc3339,
    /// A calendar day, `YYYY-MM-DD`, meaning its first instant in UTC.
    Date,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// The member's name in the vendor's record, which is the column's name as well.
    pub name: Cow<'static, str>,
    /// The column's type.
    pub data_type: DataType,
}

impl Field {
    /// A column with a name known at compile time.
    pub const fn new(name: &'static str, data_type: DataType) -> Self {
        Self { name: Cow::Borrowed(name), data_type }
    }
}

/// The declared columns of a stream. Every column may be null; what is not declared goes to `_extra`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Schema {
    fields: Cow<'static, [Field]>,
}

impl Schema {
    /// A schema of columns known at compile time, as `cargo xtask codegen` writes them.
    pub const fn from_static(fields: &'static [Field]) -> Self {
        Self { fields: Cow::Borrowed(fields) }
    }

    /// The columns, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The column of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Adds a column before all others.
    pub fn starting_with(mut self, name: &'static str, data_type: DataType) -> Self {
        self.fields.to_mut().insert(0, Field::new(name, data_type));
        self
    }

    /// Adds a column, or changes the type of the one with that name.
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, data_type: DataType) -> Self {
        let name = name.into();
        let fields = self.fields.to_mut();
        match fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.data_type = data_type,
            None => fields.push(Field { name, data_type }),
        }
        self
    }
}
