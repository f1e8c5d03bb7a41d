//! What a format of data files has to do.

use std::fmt::Debug;
use std::fs::File;

use arrow_array::RecordBatch;
use pipeline_core::Result;

/// The rows of a file.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// A kind of data file.
pub trait FileFormat: Send + Sync + Debug + 'static {
    /// What file names end in, without the dot.
    fn extension(&self) -> &'static str;

    /// True when all rows of a file have the same columns, so that others need another file.
    fn has_columns(&self) -> bool;

    /// Begins a file. All its rows have the columns of `first`, which is written next.
    fn begin(&self, file: File, first: &RecordBatch) -> Result<Box<dyn FileWriter>>;

    /// Reads a file that was written, in the order of its rows. A format that stores no types gives columns of JSON.
    fn read(&self, file: File) -> Result<Batches>;
}

/// A data file on its way. Dropping it leaves the file unfinished.
pub trait FileWriter: Send {
    /// Adds rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Bytes held in memory.
    fn buffered(&self) -> usize;

    /// Writes what is held in memory.
    fn flush(&mut self) -> Result<()>;

    /// Bytes written to the file.
    fn written(&self) -> u64;

    /// Completes the file and gives it back.
    fn finish(self: Box<Self>) -> Result<File>;
}
