//! How one record departs from what is declared, before a row is made of it.

use std::fmt;

use pipeline_core::json::scan;
use pipeline_core::{DataType, Op, Parts, RawRecord, Stream};

use super::columns::Values;
use super::members::Members;
use super::prove;

/// A member of a record that has no column, or does not fit its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// The member's name.
    pub(crate) field: String,
    /// The type of its column; none: it is not declared.
    pub(crate) declared: Option<DataType>,
    /// What its value is.
    pub(crate) found: Found,
}

/// The type of a JSON value, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found(&'static str);

impl Found {
    fn of(json: &str) -> Self {
        Self(match json.as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            _ => "a number",
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Compares the records of a stream with its schema, as a decoder does.
pub(crate) struct Departures {
    columns: Vec<DeclaredColumn>,
    members: Members,
    /// Members of a record that was not cut from a document.
    proved: scan::Members,
    scratch: String,
}

struct DeclaredColumn {
    name: String,
    data_type: DataType,
    /// None where its values stand inside a member, which has a column of its own.
    values: Option<Values>,
}

impl Departures {
    pub(crate) fn of(stream: &Stream) -> Self {
        let fields = stream.schema().fields();
        let column = |field: &pipeline_core::Field| DeclaredColumn {
            name: field.name.to_string(),
            data_type: field.data_type,
            values: field.inside.is_none().then(|| Values::new(field.data_type)),
        };
        Self {
            columns: fields.iter().map(column).collect(),
            members: Members::new(fields),
            proved: scan::Members::default(),
            scratch: String::new(),
        }
    }

    /// The departures of a record, those of undeclared members first. A tombstone, whose other
    /// members do not count, and a record that cannot be read have none.
    pub(crate) fn find(&mut self, record: &RawRecord) -> Vec<Departure> {
        let mut found = Vec::new();
        if record.op() != Op::Upsert {
            return found;
        }
        if let Some(parts) = record.parts() {
            self.compare(parts, &mut found);
        } else {
            let mut proved = std::mem::take(&mut self.proved);
            // The decoder finds the same, and rejects the record.
            let _ = prove(record, &mut proved, |parts| {
                self.compare(parts, &mut found);
                Ok(())
            });
            self.proved = proved;
            self.proved.trim();
        }
        found
    }

    fn compare(&mut self, parts: Parts<'_>, found: &mut Vec<Departure>) {
        if parts.len() > scan::MOST_MEMBERS {
            return;
        }
        self.members.take(parts);
        found.extend(
            self.members
                .unknown_values(parts)
                .map(|(name, value)| Departure {
                    field: unescaped(name),
                    declared: None,
                    found: Found::of(value),
                }),
        );
        for (index, column) in self.columns.iter().enumerate() {
            let (Some(values), Some(value)) = (&column.values, self.members.value(index, parts))
            else {
                continue;
            };
            if !values.fits(value, &mut self.scratch) {
                found.push(Departure {
                    field: column.name.clone(),
                    declared: Some(column.data_type),
                    found: Found::of(value),
                });
            }
        }
        self.members.trim();
    }
}

/// A name that is written without its quotes.
fn unescaped(written: &str) -> String {
    serde_json::from_str(&format!("\"{written}\"")).unwrap_or_else(|_| written.to_owned())
}
