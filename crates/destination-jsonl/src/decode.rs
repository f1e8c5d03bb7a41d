//! Lines of JSON as columns: every column is JSON, since a line says nothing of types.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema};
use destination_files::file_error;
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::cell::JSON;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

const READING: &str = "reading lines";
/// Most lines of a batch.
const ROWS: usize = 4_096;
/// Bytes of lines after which a batch is complete.
const BYTES: usize = 8 * 1024 * 1024;

/// Reads a file of lines.
pub(crate) struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(file: File) -> Self {
        Self {
            reader: BufReader::with_capacity(crate::BUFFER_BYTES, file),
            line: Vec::new(),
        }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let (mut columns, mut rows, mut bytes) = (Columns::default(), 0, 0);
        while rows < ROWS && bytes < BYTES {
            self.line.clear();
            let read = self
                .reader
                .read_until(b'\n', &mut self.line)
                .map_err(|error| file_error(READING, error))?;
            if read == 0 {
                break;
            }
            bytes += read;
            let members: Members<'_> = serde_json::from_slice(&self.line).map_err(damaged)?;
            columns.push(rows, &members);
            rows += 1;
        }
        if rows == 0 {
            Ok(None)
        } else {
            columns.finish(rows).map(Some)
        }
    }
}

impl Iterator for Lines {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Destination, "a data file is damaged")
        .with_operation(READING)
        .with_help("restore the folder from a backup, or move it away and run again to read everything anew")
        .with_source(error)
}

/// The members of a line, in their order.
struct Members<'a>(Vec<(Name<'a>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The columns of a batch, in the order in which they were first seen.
#[derive(Default)]
struct Columns {
    places: HashMap<String, usize>,
    values: Vec<(String, StringBuilder)>,
}

impl Columns {
    /// Adds a row, of which there are so many already.
    fn push(&mut self, rows: usize, members: &Members<'_>) {
        for (index, (Name(name), value)) in members.0.iter().enumerate() {
            let place = match self.values.get(index) {
                Some((known, _)) if known == name => index,
                _ => self.place(name),
            };
            let (_, values) = &mut self.values[place];
            pad(values, rows);
            values.append_value(value.get());
        }
    }

    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.places.insert(name.to_owned(), self.values.len());
        self.values.push((name.to_owned(), StringBuilder::new()));
        self.values.len() - 1
    }

    fn finish(self, rows: usize) -> Result<RecordBatch> {
        let is_json = || HashMap::from([(JSON.to_owned(), "true".to_owned())]);
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = self
            .values
            .into_iter()
            .map(|(name, mut values)| {
                pad(&mut values, rows);
                (
                    Field::new(name, DataType::Utf8, true).with_metadata(is_json()),
                    Arc::new(values.finish()) as ArrayRef,
                )
            })
            .unzip();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(damaged)
    }
}

/// Adds nulls for the rows that do not have the member.
fn pad(values: &mut StringBuilder, rows: usize) {
    use arrow_array::builder::ArrayBuilder as _;
    values.append_nulls(rows.saturating_sub(values.len()));
}
