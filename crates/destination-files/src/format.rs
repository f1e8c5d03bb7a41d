//! What a format of data files has to do.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use pipeline_core::Result;
use serde::Serialize;

use crate::output::Output;

/// The rows of a file.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// A kind of data file.
pub trait FileFormat: Send + Sync + Debug + 'static {
    /// What file names end in, without the dot.
    fn extension(&self) -> &'static str;

    /// True when all rows of a file have the same columns, so that others need another file.
    fn has_columns(&self) -> bool;

    /// Begins a file. All its rows have the columns of `first`, which is written next.
    fn begin(&self, file: Output, first: &RecordBatch) -> Result<Box<dyn FileWriter>>;

    /// Reads a file that was written, in the order of its rows. A format that stores no types gives
    /// columns of JSON.
    fn read(&self, file: File) -> Result<Batches>;

    /// What a file says of its rows without their being read. Default: none, as of a format that
    /// has no such thing, and whose files cannot be a Delta table.
    fn outline(&self, file: File) -> Result<Option<Outline>> {
        let _ = file;
        Ok(None)
    }
}

/// What a file says of its rows.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Its columns.
    pub schema: SchemaRef,
    /// How many rows have no value in a column, where that is known.
    pub nulls: BTreeMap<String, u64>,
    /// A value of a column that none in the file is less than, where that is known.
    pub least: BTreeMap<String, Bound>,
    /// A value of a column that none in the file is greater than, where that is known.
    pub greatest: BTreeMap<String, Bound>,
}

/// A value as the statistics of a Delta table have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Bound {
    /// A whole number.
    Integer(i64),
    /// A date (`2024-02-29`) or a time in milliseconds (`2024-02-29T12:30:00.000Z`).
    Text(String),
}

/// A data file on its way. Dropping it leaves the file unfinished.
pub trait FileWriter: Send {
    /// Adds rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// The file.
    fn output(&mut self) -> &mut Output;

    /// Bytes held in memory, those included that the file holds.
    fn buffered(&self) -> usize;

    /// Writes what is held in memory.
    fn flush(&mut self) -> Result<()>;

    /// Bytes of the file so far.
    fn written(&self) -> u64;

    /// Completes the file and gives it back.
    fn finish(self: Box<Self>) -> Result<Output>;
}
