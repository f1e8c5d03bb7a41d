//! A Parquet file of the rows of a data file that are deleted.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use destination_files::file_error;
use destination_parquet::{explain, unreadable};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use pipeline_core::Result;

use crate::data_file::{FIELD_ID, Written, batch, measure};

/// Rows in one batch of a file.
const BATCH: usize = 64 * 1024;

/// Writes the file that deletes some rows, in ascending order, of a data file.
pub(crate) fn write(
    path: &Path,
    data_file: &Path,
    rows: impl Iterator<Item = Result<i64>>,
) -> Result<Written> {
    let numbered = |name: &str, data_type: DataType, id: i64| {
        Field::new(name, data_type, true)
            .with_metadata(HashMap::from([(FIELD_ID.to_owned(), id.to_string())]))
    };
    let schema = Arc::new(Schema::new(vec![
        numbered("file_path", DataType::Utf8, 2_147_483_646),
        numbered("pos", DataType::Int64, 2_147_483_645),
    ]));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_skip_arrow_metadata(true);
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| file_error("creating a delete file", error))?;
    let mut writer =
        ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options).map_err(explain)?;
    let (name, mut rows) = (data_file.to_string_lossy(), rows.peekable());
    let mut count = 0;
    while rows.peek().is_some() {
        let positions: Int64Array = rows
            .by_ref()
            .take(BATCH)
            .map(|row| row.map(Some))
            .collect::<Result<_>>()?;
        let names = StringArray::from(vec![&*name; positions.len()]);
        count += positions.len();
        let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(positions)];
        writer.write(&batch(&schema, columns)?).map_err(explain)?;
    }
    writer.finish().map_err(explain)?;
    let (bytes, footer) = measure(writer.inner_mut(), path)?;
    Ok(Written {
        rows: i64::try_from(count).unwrap_or(i64::MAX),
        bytes,
        footer,
        columns: Vec::new(),
    })
}

/// The rows that a file deletes, whoever wrote it.
pub(crate) fn read(path: &Path) -> Result<Vec<i64>> {
    let file = File::open(path).map_err(|error| file_error("reading a delete file", error))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(unreadable)?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(unreadable)?;
        if let Some(positions) = batch
            .column_by_name("pos")
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
        {
            rows.extend(positions.values());
        }
    }
    Ok(rows)
}
