//! Lines into a stream, such as standard output: rows only, without checkpoints.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufWriter, Seek, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use destination_files::file_error;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Commit, Delivery, Destination, Status, Table, Transaction};
use tempfile::SpooledTempFile;

use crate::WRITING;
use crate::encode::{Encoder, push_string};

/// A transaction is kept in memory up to this size, and in a temporary file beyond it.
const SPOOL_BYTES: usize = 8 * 1024 * 1024;

/// Writes each row as `{"source":…,"stream":…,"record":{…}}` and a line feed.
///
/// Holds no checkpoints, so [`load`](Destination::load) knows none: wrap it in
/// [`WithCheckpoints`](pipeline_engine::WithCheckpoints). What is written cannot be taken back:
/// rows of a refresh are written when they are committed, and publishing it writes nothing.
pub struct StreamDestination {
    output: Arc<Mutex<Output>>,
}

struct Output {
    commits: u64,
    write: Box<dyn Write + Send>,
}

impl StreamDestination {
    /// Writes to anything.
    pub fn new(output: impl Write + Send + 'static) -> Self {
        Self {
            output: Arc::new(Mutex::new(Output {
                commits: 0,
                write: Box::new(output),
            })),
        }
    }
}

impl fmt::Debug for StreamDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamDestination").finish_non_exhaustive()
    }
}

#[async_trait]
impl Destination for StreamDestination {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, _: &[Arc<Table>]) -> Result<()> {
        Ok(())
    }

    async fn states(&self, _: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        Ok(BTreeMap::new())
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let lines = BufWriter::new(SpooledTempFile::new(SPOOL_BYTES));
        Ok(Box::new(Spool {
            output: Arc::clone(&self.output),
            lines,
            encoder: Encoder::default(),
        }))
    }

    async fn status(&self, _: usize) -> Result<Status> {
        Ok(Status::default())
    }
}

/// Lines that wait for the commit.
struct Spool {
    output: Arc<Mutex<Output>>,
    lines: BufWriter<SpooledTempFile>,
    encoder: Encoder,
}

#[async_trait]
impl Transaction for Spool {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let mut before = String::from("{\"source\":");
        push_string(&mut before, &table.source);
        before.push_str(",\"stream\":");
        push_string(&mut before, &table.stream);
        before.push_str(",\"record\":");
        self.encoder
            .encode(&before, &batch, "}\n", &mut self.lines)
            .map(|_| 0)
    }

    /// Writes the lines and flushes. An output that nobody reads any more is an error.
    async fn commit(self: Box<Self>, _: &Commit) -> Result<u64> {
        let Self { output, lines, .. } = *self;
        let write = move || {
            let mut lines = lines
                .into_inner()
                .map_err(std::io::IntoInnerError::into_error)?;
            lines.rewind()?;
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            std::io::copy(&mut lines, &mut output.write)?;
            output.write.flush()?;
            output.commits += 1;
            Ok::<_, std::io::Error>(output.commits)
        };
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.map_err(|error| {
            Error::new(ErrorKind::Unexpected, "writing the output ended early").with_source(error)
        })?;
        written.map_err(|error| file_error(WRITING, error))
    }
}
