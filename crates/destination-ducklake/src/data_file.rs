//! A Parquet file of rows while it is written.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};
use destination_files::file_error;
use destination_parquet::{explain, writer_properties};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::cell::{Column, JSON, is_json};
use serde::{Deserialize, Serialize};

use crate::stats::{Bounds, Described};
use crate::table::LakeTable;

/// Key of the field metadata that holds the number of a column.
pub(crate) const FIELD_ID: &str = "PARQUET:field_id";

/// What the catalogue needs of a file that is complete.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) rows: i64,
    pub(crate) bytes: i64,
    pub(crate) footer: i64,
    pub(crate) columns: Vec<Described>,
}

/// A file that is being written.
pub(crate) struct DataFile {
    path: PathBuf,
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    /// The numbers of its columns.
    ids: Vec<i64>,
    bounds: Vec<Bounds>,
    pub(crate) rows: i64,
}

/// The columns of a file for batches of some fields, in the order of the table.
pub(crate) fn schema_of(table: &LakeTable, fields: &[&str]) -> Result<(SchemaRef, Vec<i64>)> {
    let columns: Vec<_> = fields
        .iter()
        .map(|field| table.column(field))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::new(ErrorKind::Unexpected, "a field has no column in the table"))?;
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| {
            let field = column.field().ok_or_else(|| {
                Error::new(
                    ErrorKind::Destination,
                    "another program gave a column a type that this program does not write",
                )
                .with_context("table", table.name.clone())
                .with_context("column", column.name.clone())
                .with_help("give the column its former type, or drop it and read the table again")
            })?;
            let mut metadata: HashMap<String, String> =
                [(FIELD_ID.to_owned(), column.id.to_string())].into();
            if is_json(&field) {
                metadata.insert(JSON.to_owned(), "true".to_owned());
            }
            Ok(field.with_name(&column.name).with_metadata(metadata))
        })
        .collect::<Result<_>>()?;
    let ids = columns.iter().map(|column| column.id).collect();
    Ok((Arc::new(Schema::new(fields)), ids))
}

impl DataFile {
    /// Begins a file. Its columns are encoded as the first rows suggest.
    pub(crate) fn begin(
        path: PathBuf,
        schema: SchemaRef,
        ids: Vec<i64>,
        first: &[ArrayRef],
    ) -> Result<Self> {
        let operation = "creating a data file";
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| file_error(operation, error))?;
        }
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| file_error(operation, error))?;
        let batch = batch(&schema, first.to_vec())?;
        let properties = writer_properties(&batch)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        // Readers know columns by their numbers, and the catalogue has their types.
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options)
            .map_err(explain)?;
        Ok(Self {
            path,
            writer,
            bounds: vec![Bounds::default(); ids.len()],
            schema,
            ids,
            rows: 0,
        })
    }

    /// Appends rows.
    pub(crate) fn write(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        let batch = batch(&self.schema, columns)?;
        for (column, bounds) in Column::of(&batch)?.iter().zip(&mut self.bounds) {
            bounds.add(column, batch.num_rows());
        }
        self.writer.write(&batch).map_err(explain)?;
        self.rows += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// True when it holds rows of the same columns.
    pub(crate) fn fits(&self, schema: &SchemaRef) -> bool {
        self.schema == *schema
    }

    /// Bytes of memory that it takes.
    pub(crate) fn held(&self) -> usize {
        self.writer.memory_size()
    }

    /// Bytes that are written or wait to be.
    pub(crate) fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Writes what is held in memory.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(explain)
    }

    /// Completes the file, which is on the disk when this returns.
    pub(crate) fn finish(mut self) -> Result<Written> {
        let metadata = self.writer.finish().map_err(explain)?;
        let mut sizes = vec![0; self.ids.len()];
        for group in metadata.row_groups() {
            for (size, column) in sizes.iter_mut().zip(group.columns()) {
                *size += column.compressed_size();
            }
        }
        let (bytes, footer) = measure(self.writer.inner_mut(), &self.path)?;
        let columns = self.ids.iter().zip(&self.bounds).zip(sizes);
        Ok(Written {
            rows: self.rows,
            bytes,
            footer,
            columns: columns
                .map(|((id, bounds), size)| bounds.describe(*id, size))
                .collect(),
        })
    }
}

impl std::fmt::Debug for DataFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Columns as a batch.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| {
        Error::new(
            ErrorKind::Unexpected,
            "a batch does not fit the table's columns",
        )
        .with_source(error)
    })
}

/// Puts a file and its name on the disk, and returns its size and that of its footer.
pub(crate) fn measure(file: &mut File, path: &Path) -> Result<(i64, i64)> {
    let measured = (|| {
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        let bytes = file.metadata()?.len();
        let mut end = [0; 4];
        file.seek(SeekFrom::Start(bytes.saturating_sub(8)))?;
        file.read_exact(&mut end)?;
        Ok((
            i64::try_from(bytes).unwrap_or(i64::MAX),
            i64::from(u32::from_le_bytes(end)),
        ))
    })();
    measured.map_err(|error| file_error("writing a data file", error))
}
