//! A stream: a name, a key, columns, and what becomes of its records before they are stored.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::model::record::RawRecord;
use crate::model::schema::{DataType, Field, Schema};

/// A stream: what the user selects and gets as a table.
#[derive(Clone, Debug)]
pub struct Stream {
    name: Cow<'static, str>,
    primary_key: Vec<Cow<'static, str>>,
    schema: Schema,
    deletes: Deletes,
    transform: Transform,
    note: &'static str,
}

/// Makes the record that is stored from the one that the vendor sent.
pub type RecordMap = fn(&RawRecord) -> Result<RawRecord>;

/// Makes any number of records from the one that the vendor sent.
pub type RecordExpansion = fn(&RawRecord) -> Result<Vec<RawRecord>>;

/// Rejects a record that its transform could not read; every other failure concerns the page.
fn reject(record: RawRecord, error: Error) -> Result<RawRecord> {
    if error.kind() == ErrorKind::Decode {
        Ok(record.rejected(error.message()))
    } else {
        Err(error)
    }
}

/// What becomes of a record. A record for which it fails with [`ErrorKind::Decode`] is rejected by
/// itself.
#[derive(Clone, Copy, Debug, Default)]
pub enum Transform {
    /// It is stored as it was sent.
    #[default]
    AsSent,
    /// It becomes one other record, such as one whose nested key is lifted to the top.
    Map(RecordMap),
    /// It becomes any number of records, such as one for each element of a list inside of it.
    Expand(RecordExpansion),
}

/// How a stream shows that a record is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletes {
    /// It does not.
    #[default]
    Invisible,
    /// A member has this value, such as `status` = `deleted`; the row stays, as the vendor still
    /// serves it.
    Marked {
        /// The member.
        field: &'static str,
        /// The value.
        value: &'static str,
    },
    /// A member is null until it holds when the record was deleted; the row stays.
    Stamped {
        /// The member.
        field: &'static str,
    },
    /// Every sync reads the whole list, so what is missing from it is gone.
    BySnapshot,
    /// A feed of changes reports it: the destination gets a tombstone.
    Announced,
}

impl Deletes {
    /// Deletions show by `field` having `value`.
    pub const fn marked(field: &'static str, value: &'static str) -> Self {
        Self::Marked { field, value }
    }

    /// Deletions show by `field` holding when.
    pub const fn stamped(field: &'static str) -> Self {
        Self::Stamped { field }
    }
}

impl Stream {
    /// A stream whose records have no key: every one is appended.
    pub fn new(name: impl Into<Cow<'static, str>>, schema: Schema) -> Self {
        Self {
            name: name.into(),
            primary_key: Vec::new(),
            schema,
            deletes: Deletes::default(),
            transform: Transform::AsSent,
            note: "",
        }
    }

    /// Members that together identify a record; a later record with the same values replaces the
    /// earlier one.
    pub fn primary_key(mut self, key: impl IntoIterator<Item = &'static str>) -> Self {
        self.primary_key = key.into_iter().map(Cow::Borrowed).collect();
        self
    }

    /// Gives it other columns.
    pub fn with_schema(mut self, schema: Schema) -> Self {
        self.schema = schema;
        self
    }

    /// Says how deletions show.
    pub fn deletes(mut self, deletes: Deletes) -> Self {
        self.deletes = deletes;
        self
    }

    /// Changes every record before it is stored.
    pub fn transform(mut self, transform: Transform) -> Self {
        self.transform = transform;
        self
    }

    /// Gives the stream another name, where there is one of its kind for each object of an account.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Says what the endpoint hides, and what a reader of the data must know.
    pub fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// The stream with a text column more, which comes first in its key.
    pub(crate) fn keyed_by(&mut self, column: &'static str) {
        self.schema = std::mem::take(&mut self.schema).starting_with(column, DataType::String);
        self.primary_key.insert(0, Cow::Borrowed(column));
    }

    /// Adds columns, but those inside of members that the stream does not have.
    pub(crate) fn widen(&mut self, columns: &[Field]) {
        let has = |column: &&Field| {
            column
                .inside
                .as_ref()
                .is_none_or(|inside| self.schema.field(&inside.member).is_some())
        };
        let columns: Vec<Field> = columns.iter().filter(has).cloned().collect();
        self.schema = std::mem::take(&mut self.schema).extend(columns);
    }

    /// The records as they are stored.
    pub(crate) fn mapped(&self, records: Vec<RawRecord>) -> Result<Vec<RawRecord>> {
        match self.transform {
            Transform::AsSent => Ok(records),
            Transform::Map(map) => records
                .into_iter()
                .map(|record| map(&record).or_else(|error| reject(record, error)))
                .collect(),
            Transform::Expand(expand) => {
                let mut rows = Vec::with_capacity(records.len());
                for record in records {
                    match expand(&record) {
                        Ok(mut expanded) => rows.append(&mut expanded),
                        Err(error) => rows.push(reject(record, error)?),
                    }
                }
                Ok(rows)
            }
        }
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Members that identify a record; empty when none do.
    pub fn key(&self) -> &[Cow<'static, str>] {
        &self.primary_key
    }

    /// The declared columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How deletions show.
    pub fn deletion(&self) -> &Deletes {
        &self.deletes
    }

    /// What a reader of the data must know; empty when nothing is.
    pub fn remark(&self) -> &'static str {
        self.note
    }
}
