//! The rows and tables of the suite, and rows as text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use pipeline_engine::cell::{Cell, Column, JSON};
use pipeline_engine::{DELETED, EXTRA, Generation, Keep, SYNCED_AT, Table};
use serde_json::{Map, Value};

/// A row of the suite's simple tables.
#[derive(Clone, Debug)]
pub struct Row {
    pub(super) id: Option<i64>,
    pub(super) name: Option<Cow<'static, str>>,
}

/// A row.
pub fn row(id: i64, name: impl Into<Cow<'static, str>>) -> Row {
    Row {
        id: Some(id),
        name: Some(name.into()),
    }
}

/// A tombstone.
pub fn gone(id: i64) -> Row {
    Row {
        id: Some(id),
        name: None,
    }
}

/// A tombstone of every row of that name.
pub fn all_gone(name: &'static str) -> Row {
    Row {
        id: None,
        name: Some(name.into()),
    }
}

impl Row {
    pub(super) fn is_tombstone(&self) -> bool {
        self.id.is_none() || self.name.is_none()
    }

    /// As `id=name` or `id gone`.
    pub(super) fn text(&self) -> String {
        match (self.id, &self.name) {
            (Some(id), Some(name)) => format!("{id}={name}"),
            (Some(id), None) => format!("{id} gone"),
            (None, name) => format!("all {} gone", name.as_deref().unwrap_or("?")),
        }
    }
}

/// A table of the source `demo` with the columns `id` and `name`.
pub fn table(stream: &str, key: &[&str], generation: Generation) -> Arc<Table> {
    let columns = vec![("id", DataType::Int64), ("name", DataType::Utf8)];
    table_of("demo", stream, key, generation, &columns)
}

/// A table of some columns and those that every table has.
pub fn table_of(
    source: &str,
    stream: &str,
    key: &[&str],
    generation: Generation,
    columns: &[(&str, DataType)],
) -> Arc<Table> {
    let mut fields: Vec<Field> = columns
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true))
        .collect();
    fields.push(json_field(EXTRA));
    fields.push(Field::new(
        SYNCED_AT,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        false,
    ));
    fields.push(Field::new(DELETED, DataType::Boolean, false));
    Arc::new(Table {
        source: source.to_owned(),
        stream: stream.to_owned(),
        primary_key: key.iter().map(|&name| name.to_owned()).collect(),
        schema: Arc::new(Schema::new(fields)),
        generation,
    })
}

pub(super) fn json_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
        .with_metadata(HashMap::from([(JSON.to_owned(), "true".to_owned())]))
}

/// Rows as a batch; columns other than `id` and `name` are null.
pub fn batch(table: &Table, rows: &[Row]) -> RecordBatch {
    let columns = table.schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "id" => Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>()),
            SYNCED_AT => {
                Arc::new(TimestampMicrosecondArray::from(vec![0; rows.len()]).with_timezone("UTC"))
            }
            DELETED => Arc::new(
                rows.iter()
                    .map(|row| Some(row.is_tombstone()))
                    .collect::<BooleanArray>(),
            ),
            "name" => Arc::new(
                rows.iter()
                    .map(|row| row.name.as_deref())
                    .collect::<StringArray>(),
            ),
            _ => arrow_array::new_null_array(field.data_type(), rows.len()),
        }
    });
    RecordBatch::try_new(Arc::clone(&table.schema), columns.collect()).unwrap()
}

/// The rows of a batch as JSON objects without nulls, their members sorted; decimals and instants
/// are strings.
pub fn canonical(batch: &RecordBatch) -> Vec<String> {
    let columns = Column::of(batch).unwrap();
    let object = |row| {
        columns
            .iter()
            .map(|column| (column.name().to_owned(), cell_value(column.cell(row))))
            .collect()
    };
    (0..batch.num_rows())
        .map(|row| canonical_object(object(row)))
        .collect()
}

/// An object as text, its nulls left out and its members sorted.
pub fn canonical_object(object: Map<String, Value>) -> String {
    let mut members: Vec<_> = object
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    Value::Object(members.into_iter().collect()).to_string()
}

fn cell_value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => value.into(),
        Cell::Int64(value) => value.into(),
        Cell::Float64(value) => value.into(),
        Cell::Json(json) => serde_json::from_str(json).unwrap(),
        text => {
            let mut out = String::new();
            text.push_text(&mut out);
            out.into()
        }
    }
}

/// A row of a simple table from its canonical text.
pub(super) fn parse(line: &str) -> Row {
    let row: Value = serde_json::from_str(line).unwrap();
    Row {
        id: row["id"].as_i64(),
        name: row["name"].as_str().map(|name| name.to_owned().into()),
    }
}

/// Selects the rows of some name.
pub fn keep(table: &Table, name: &str) -> Keep {
    Keep {
        table: table.id(),
        values: [("name".to_owned(), Value::from(name).to_string())].into(),
    }
}
