#![doc = include_str!("../README.md")]

mod decode;
mod encode;
mod stdout;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use destination_files::{Batches, FileDestination, FileFormat, FileWriter, Options, Output, file_error};
use pipeline_core::{Destination, Result};
use schemars::JsonSchema;
use serde::Deserialize;

pub use stdout::StreamDestination;

use crate::decode::Lines;
use crate::encode::Encoder;

const WRITING: &str = "writing lines";
const BUFFER_BYTES: usize = 256 * 1024;

/// Settings of the JSON Lines destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// The folder, created when it does not exist; `-` for standard output.
    pub path: PathBuf,
    /// Keys of which the newest version is remembered, so that the same version is not stored twice; standard output has no
    /// memory. Each takes 20 to 40 bytes of memory while their table is written. Default: 1800000.
    #[serde(default = "default_remember")]
    pub remember: usize,
}

fn default_remember() -> usize {
    Options::default().remember
}

impl JsonlConfig {
    /// True when rows go to standard output, which cannot hold checkpoints.
    pub fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }

    /// Opens the folder, and finishes or removes what an interrupted process left; or standard output.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`](pipeline_core::ErrorKind::Destination) when the folder cannot be written, or a manifest
    /// or data file is missing or damaged.
    pub fn open(&self) -> Result<Arc<dyn Destination>> {
        if self.is_stdout() {
            return Ok(Arc::new(StreamDestination::new(std::io::stdout())));
        }
        Ok(Arc::new(FileDestination::open(&self.path, Jsonl, self.options())?))
    }

    /// Opens the folder for reading, and changes nothing in it (see [`FileDestination::open_to_read`]); or standard output.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`](pipeline_core::ErrorKind::Destination) when the folder cannot be read, or a manifest is
    /// missing or damaged.
    pub fn open_to_read(&self) -> Result<Arc<dyn Destination>> {
        if self.is_stdout() {
            return self.open();
        }
        Ok(Arc::new(FileDestination::open_to_read(&self.path, Jsonl, self.options())?))
    }

    fn options(&self) -> Options {
        Options { remember: self.remember, ..Options::default() }
    }
}

/// The JSON Lines file format.
#[derive(Clone, Copy, Debug)]
pub struct Jsonl;

impl FileFormat for Jsonl {
    fn extension(&self) -> &'static str {
        "jsonl"
    }

    fn has_columns(&self) -> bool {
        false
    }

    fn begin(&self, file: Output, _: &RecordBatch) -> Result<Box<dyn FileWriter>> {
        Ok(Box::new(Writer { file, encoder: Encoder::default() }))
    }

    fn read(&self, file: File) -> Result<Batches> {
        Ok(Box::new(Lines::new(file)))
    }
}

struct Writer {
    file: Output,
    encoder: Encoder,
}

impl FileWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.encode("", batch, "\n", &mut self.file).map(drop)
    }

    fn output(&mut self) -> &mut Output {
        &mut self.file
    }

    fn buffered(&self) -> usize {
        self.file.held()
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| file_error(WRITING, error))
    }

    fn written(&self) -> u64 {
        self.file.taken()
    }

    fn finish(self: Box<Self>) -> Result<Output> {
        Ok(self.file)
    }
}
