#![doc = include_str!("../README.md")]

mod decode;
mod encode;
mod stdout;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use destination_files::{
    Batches, FileDestination, FileFormat, FileTarget, FileWriter, Options, Output, StorageConfig,
    file_error,
};
use pipeline_core::Result;
use pipeline_engine::{Destination, DestinationConfig, Location, OpenContext};
use schemars::JsonSchema;
use serde::Deserialize;

pub use stdout::StreamDestination;

use crate::decode::Lines;
use crate::encode::Encoder;

/// The path that means standard output.
const STDOUT: &str = "-";
const WRITING: &str = "writing lines";
const BUFFER_BYTES: usize = 256 * 1024;

/// Settings of the JSON Lines destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// The folder, created when it does not exist, or a prefix in a bucket: `s3://bucket/prefix`,
    /// `gs://bucket/prefix` or `az://container/prefix`; `-` for standard output.
    #[schemars(extend(
        "anyOf" = [{ "const": STDOUT }, { "format": "path" }, { "format": "uri" }],
        "examples" = ["lines"]
    ))]
    pub path: PathBuf,
    /// How the bucket is reached. Default: by the provider's variables in the environment, or the
    /// identity of the machine.
    #[serde(default)]
    pub storage: Option<StorageConfig>,
    /// Merges small files when a run ends. Set it to false where something loads each new file once
    /// by its name: a merged file has a new name and rows that were loaded before. Default: true.
    #[serde(default = "default_compact")]
    pub compact: bool,
    /// Keys of which the newest version is remembered, so that the same version is not stored
    /// twice; standard output has no memory. Each takes 20 to 40 bytes of memory while their table
    /// is written. Default: 1800000.
    #[serde(default = "default_remember")]
    pub remember: usize,
}

fn default_compact() -> bool {
    Options::default().compact
}

fn default_remember() -> usize {
    Options::default().remember
}

#[async_trait]
impl DestinationConfig for JsonlConfig {
    const NAME: &'static str = "jsonl";

    fn location(&self) -> Location {
        if self.path.as_os_str() == STDOUT {
            Location::Stdout
        } else {
            self.target().location()
        }
    }

    /// Standard output holds no checkpoints, so [`load`](Destination::load) returns none: keep them
    /// in a store and join the two with [`WithCheckpoints`](pipeline_engine::WithCheckpoints).
    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>> {
        if self.location() == Location::Stdout {
            return Ok(Arc::new(StreamDestination::new(context.stdout)));
        }
        let options = Options {
            compact: self.compact,
            remember: self.remember,
            buffered: context.memory,
            ..Options::default()
        };
        let opened = FileDestination::open_for(context.access, self.target(), Jsonl, options);
        Ok(Arc::new(opened.await?))
    }
}

impl JsonlConfig {
    fn target(&self) -> FileTarget {
        FileTarget {
            path: self.path.clone(),
            storage: self.storage.clone(),
        }
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
        Ok(Box::new(Writer {
            file,
            encoder: Encoder::default(),
        }))
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
        self.encoder
            .encode("", batch, "\n", &mut self.file)
            .map(drop)
    }

    fn output(&mut self) -> &mut Output {
        &mut self.file
    }

    fn buffered(&self) -> usize {
        self.file.held()
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .flush()
            .map_err(|error| file_error(WRITING, error))
    }

    fn written(&self) -> u64 {
        self.file.taken()
    }

    fn finish(self: Box<Self>) -> Result<Output> {
        Ok(self.file)
    }
}
