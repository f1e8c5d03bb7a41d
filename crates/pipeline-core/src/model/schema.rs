//! The shape of a stream's records, in our own small vocabulary: connectors compile no Arrow.

use std::borrow::Cow;

use serde::Serialize;

/// Type of one column, and how the vendor writes its values.
///
/// Nested objects and arrays are kept as the value's own text, unchanged but for white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// Text: the id of another object. Vendors that embed such objects on request may send the
    /// object in the place of its id; then the column holds the object's own `id`.
    Reference,
    /// A calendar day, written `YYYY-MM-DD`.
    Date,
    /// An instant, written in this format.
    Timestamp(TimeFormat),
    /// Any JSON value, kept as text.
    Json,
    /// A JSON object, kept as text.
    Object,
    /// A JSON array, kept as text.
    Array,
}

impl DataType {
    /// Whether the column holds JSON text.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Object | Self::Array)
    }
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
    /// The column's name, which is that of the member in the vendor's record unless its values
    /// stand elsewhere.
    pub name: Cow<'static, str>,
    /// The column's type.
    pub data_type: DataType,
    /// Where its values stand; none: in the member of the column's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
}

/// A place inside a member of a record.
///
/// Its column repeats what the member, a column itself, holds anyway. So a value that does not fit
/// is null in the column and lost nowhere; a number in quotes counts as a number, and the first
/// instant of a day in UTC as that day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// The member: an object such as `{"plan": "gold"}`, or a list of entries such as
    /// `[{"id": 42, "value": "gold"}]`.
    pub member: Cow<'static, str>,
    /// The value's name: a member of the object, or what distinguishes its entry of the list from
    /// the others.
    pub name: Cow<'static, str>,
    /// For a list: the members of an entry that hold the name and the value, such as `id` and
    /// `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<(&'static str, &'static str)>,
}

impl Field {
    /// A column with a name known at compile time.
    pub const fn new(name: &'static str, data_type: DataType) -> Self {
        Self {
            name: Cow::Borrowed(name),
            data_type,
            inside: None,
        }
    }
}

/// Longest name that [`column_name`] makes, but for what it appends: every destination takes it.
const MAX_NAME: usize = 60;

/// Digits of the hash that distinguishes names.
const HASH_DIGITS: usize = 6;

/// What marks a name that is taken.
const TAKEN: &str = "__u";

/// The name of a column that is called after something in the account: small letters and digits of
/// ASCII, and `_`.
///
/// It depends on nothing but what it is called after, and is another one for any two `originals`.
/// `name` is the original, perhaps with something before it. One that holds more than a column's
/// name can is written without, and gets a hash of the original; so does one that looks as if it
/// had got one. When `is_taken` says so of what comes out, it gets `__u`.
pub fn column_name(name: &str, original: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    if plain.is_empty() || plain.starts_with(|first: char| first.is_ascii_digit()) {
        plain.insert(0, '_');
    }
    plain.truncate(MAX_NAME);
    let is_changed = plain != name || looks_marked(name);
    if is_taken(&plain) {
        plain.push_str(TAKEN);
    }
    if is_changed {
        let hash = blake3::hash(original.as_bytes()).to_hex();
        plain = format!("{plain}__{}", &hash[..HASH_DIGITS]);
    }
    plain
}

/// True for a name that ends as one does that was made different from another.
fn looks_marked(name: &str) -> bool {
    let is_hash =
        |end: &str| end.len() == HASH_DIGITS && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.ends_with(TAKEN) || name.rsplit_once("__").is_some_and(|(_, end)| is_hash(end))
}

/// The declared columns of a stream. Every column may be null; what is not declared goes to
/// `_extra`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Schema {
    fields: Cow<'static, [Field]>,
}

impl Schema {
    /// A schema of columns known at compile time, as `cargo xtask codegen` writes them.
    ///
    /// The columns must be a constant of their own when a function of yours makes them. Written as
    /// `Schema::from_static(&[text("id")])` the array would be a temporary value, which Rust cannot
    /// drop in a constant (error E0493, "destructor of `[Field; 1]` cannot be evaluated at
    /// compile-time").
    ///
    /// ```
    /// use pipeline_core::{DataType, Field, Schema};
    ///
    /// const fn text(name: &'static str) -> Field {
    ///     Field::new(name, DataType::String)
    /// }
    ///
    /// const ORDERS: &[Field] = &[text("id"), text("status")];
    /// const SCHEMA: Schema = Schema::from_static(ORDERS);
    /// assert_eq!(SCHEMA.fields().len(), 2);
    /// ```
    pub const fn from_static(fields: &'static [Field]) -> Self {
        Self {
            fields: Cow::Borrowed(fields),
        }
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
            None => fields.push(Field {
                name,
                data_type,
                inside: None,
            }),
        }
        self
    }

    /// Adds columns whose names none has yet.
    pub fn extend(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.fields.to_mut().extend(fields);
        self
    }
}
