//! Reads data files back: by the numbers of their columns, whoever wrote them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{Field, Schema, SchemaRef};
use destination_files::file_error;
use destination_parquet::unreadable;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use pipeline_core::{Error, Result};
use pipeline_engine::cell::Column;

use crate::data_file::{FIELD_ID, batch};
use crate::table::{LakeColumn, LakeTable};
use crate::types;

/// Rows of a batch that is read.
const BATCH: usize = 8 * 1024;

/// The rows of a data file in their order, deleted ones included, in batches whose columns have the
/// connector's names. A column that the file does not have is null.
pub(crate) struct Rows {
    reader: ParquetRecordBatchReader,
    /// The columns of the file, and their types in the table.
    columns: Vec<LakeColumn>,
    schema: SchemaRef,
    path: String,
}

impl Rows {
    /// Opens a file to read some columns, or all.
    pub(crate) fn open(table: &LakeTable, path: &Path, wanted: Option<&[String]>) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| {
            file_error("reading a data file", error).with_context("path", name.clone())
        })?;
        let columns: Vec<LakeColumn> = table
            .columns
            .iter()
            .filter(|column| {
                column.field().is_some()
                    && wanted.is_none_or(|wanted| wanted.contains(&column.field))
            })
            .cloned()
            .collect();
        let fields: Vec<Field> = columns.iter().filter_map(LakeColumn::field).collect();
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let damaged = |error: parquet::errors::ParquetError| {
            unreadable(error).with_context("path", name.clone())
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(damaged)?;
        let roots = builder
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| columns.iter().any(|column| Some(column.id) == id_of(field)))
            .map(|(root, _)| root);
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.collect::<Vec<_>>());
        let reader = builder
            .with_projection(mask)
            .with_batch_size(BATCH)
            .build()
            .map_err(damaged)?;
        Ok(Self {
            reader,
            columns,
            schema: Arc::new(Schema::new(fields)),
            path: name,
        })
    }

    fn fit(&self, read: &RecordBatch) -> Result<RecordBatch> {
        let of_file = Column::of(read)?;
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| {
                let place = read
                    .schema_ref()
                    .fields()
                    .iter()
                    .position(|field| id_of(field) == Some(column.id));
                match place {
                    Some(place) => {
                        types::fit(&of_file[place], read.column(place), field.data_type())
                    }
                    None => new_null_array(field.data_type(), read.num_rows()),
                }
            })
            .collect();
        if columns.is_empty() {
            let options =
                arrow_array::RecordBatchOptions::new().with_row_count(Some(read.num_rows()));
            return RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
                .map_err(unreadable);
        }
        debug_assert!(columns.iter().all(|column| column.len() == read.num_rows()));
        batch(&self.schema, columns)
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.reader.next()?.map_err(unreadable);
        let fitted = read.and_then(|read| self.fit(&read));
        Some(fitted.map_err(|error: Error| error.with_context("path", self.path.clone())))
    }
}

/// The number of a column.
fn id_of(field: &Field) -> Option<i64> {
    field.metadata().get(FIELD_ID)?.parse().ok()
}

/// The rows of a batch with some indexes.
pub(crate) fn take(columns: &[ArrayRef], rows: &[usize]) -> Result<Vec<ArrayRef>> {
    let indexes: arrow_array::UInt64Array = rows.iter().map(|row| Some(*row as u64)).collect();
    columns
        .iter()
        .map(|column| arrow_select::take::take(column, &indexes, None).map_err(unreadable))
        .collect()
}
