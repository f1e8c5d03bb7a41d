#![doc = include_str!("../README.md")]

mod columns;
mod outline;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use destination_files::{
    Batches, FileDestination, FileFormat, FileTarget, FileWriter, Options, Outline, Output,
    StorageConfig, file_error,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::ZstdLevel;
use parquet::errors::ParquetError;
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Destination, DestinationConfig, Location, OpenContext};
use schemars::JsonSchema;
use serde::Deserialize;

pub use columns::properties as writer_properties;

/// A row group that has grown this large in memory is written.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// Settings of the Parquet destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// The folder, created when it does not exist, or a prefix in a bucket: `s3://bucket/prefix`,
    /// `gs://bucket/prefix` or `az://container/prefix`.
    #[schemars(extend("anyOf" = [{ "format": "path" }, { "format": "uri" }], "examples" = ["lake"]))]
    pub path: PathBuf,
    /// How the bucket is reached. Default: by the provider's variables in the environment, or the
    /// identity of the machine.
    #[serde(default)]
    pub storage: Option<StorageConfig>,
    /// Merges small files when a run ends. Set it to false where something loads each new file once
    /// by its name: a merged file has a new name and rows that were loaded before. Default: true.
    #[serde(default = "default_compact")]
    pub compact: bool,
    /// How columns are compressed. Default: `zstd`.
    #[serde(default)]
    pub compression: Compression,
    /// What the files of a table are beside Parquet files. Default: `parquet`, nothing else.
    #[serde(default)]
    pub table_format: TableFormat,
    /// Keys of which the newest version is remembered, so that the same version is not stored
    /// twice. Each takes 20 to 40 bytes of memory while their table is written. Default: 1800000.
    #[serde(default = "default_remember")]
    pub remember: usize,
}

fn default_compact() -> bool {
    Options::default().compact
}

fn default_remember() -> usize {
    Options::default().remember
}

/// How columns are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Small and fast; read by every current engine.
    #[default]
    Zstd,
    /// A little faster and larger; read by old engines too.
    Snappy,
    /// Not at all.
    None,
}

/// What the files of a table are beside Parquet files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// Nothing else: a reader takes all files of the folder.
    #[default]
    Parquet,
    /// A Delta table: its log says which files are to be read, so that a reader never sees a part of
    /// a commit. Its rows are the versions of the records, as in the files.
    Delta,
}

#[async_trait]
impl DestinationConfig for ParquetConfig {
    const NAME: &'static str = "parquet";

    fn location(&self) -> Location {
        self.target().location()
    }

    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>> {
        let options = Options {
            compact: self.compact,
            delta: self.table_format == TableFormat::Delta,
            remember: self.remember,
            buffered: context.memory,
            ..Options::default()
        };
        let format = Parquet::new(self.compression);
        let opened = FileDestination::open_for(context.access, self.target(), format, options);
        Ok(Arc::new(opened.await?))
    }
}

impl ParquetConfig {
    fn target(&self) -> FileTarget {
        FileTarget {
            path: self.path.clone(),
            storage: self.storage.clone(),
        }
    }
}

/// The Parquet file format.
#[derive(Debug)]
pub struct Parquet {
    compression: parquet::basic::Compression,
}

impl Parquet {
    /// Files with that compression, which holds for each column by itself.
    pub fn new(compression: Compression) -> Self {
        let compression = match compression {
            Compression::Zstd => parquet::basic::Compression::ZSTD(ZstdLevel::default()),
            Compression::Snappy => parquet::basic::Compression::SNAPPY,
            Compression::None => parquet::basic::Compression::UNCOMPRESSED,
        };
        Self { compression }
    }
}

impl FileFormat for Parquet {
    fn extension(&self) -> &'static str {
        "parquet"
    }

    fn has_columns(&self) -> bool {
        true
    }

    fn begin(&self, file: Output, first: &RecordBatch) -> Result<Box<dyn FileWriter>> {
        let properties = columns::properties(first)
            .set_compression(self.compression)
            .build();
        let writer =
            ArrowWriter::try_new(file, first.schema(), Some(properties)).map_err(explain)?;
        Ok(Box::new(Writer(writer)))
    }

    fn read(&self, file: File) -> Result<Batches> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(unreadable)?;
        Ok(Box::new(reader.map(|batch| batch.map_err(unreadable))))
    }

    fn outline(&self, file: File) -> Result<Option<Outline>> {
        outline::outline(file).map(Some)
    }
}

struct Writer(ArrowWriter<Output>);

impl FileWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch).map_err(explain)?;
        if self.0.in_progress_size() >= ROW_GROUP_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn output(&mut self) -> &mut Output {
        self.0.inner_mut()
    }

    fn buffered(&self) -> usize {
        self.0.memory_size() + self.0.inner().held()
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush().map_err(explain)
    }

    fn written(&self) -> u64 {
        self.0.bytes_written() as u64
    }

    fn finish(self: Box<Self>) -> Result<Output> {
        self.0.into_inner().map_err(explain)
    }
}

/// The error of a file that is not what was written.
pub fn unreadable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Destination, "a data file is damaged")
        .with_operation("reading a Parquet file")
        .with_help("restore the folder from a backup, or move it away and run again to read everything anew")
        .with_source(cause)
}

/// The error of a file that cannot be written: the file system's when there is one inside.
pub fn explain(error: ParquetError) -> Error {
    const WRITING: &str = "writing a Parquet file";
    let other = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(
            ErrorKind::Destination,
            "the rows cannot be written as Parquet",
        )
        .with_operation(WRITING)
        .with_help("report this as a defect")
        .with_source(cause)
    };
    match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(cause) => file_error(WRITING, *cause),
            Err(cause) => other(cause),
        },
        error => other(error.into()),
    }
}
