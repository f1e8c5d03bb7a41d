//! A destination that delivers exactly once: a log to which each commit appends one line, rows and
//! checkpoints together.
//!
//! A line that a crash has cut short is not part of the log, so rows and checkpoints never come
//! apart. Not here: a claim that keeps a second process out, and a lookup by key, which is the
//! reader's business.
//!
//! `STRIPE_API_KEY=rk_test_… cargo run -p pipeline-examples --example a_destination`

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use connector_stripe::{StripeConfig, StripeConnector};
use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState};
use pipeline_core::{BuildContext, Clock, Error, ErrorKind, Result, SystemClock};
use pipeline_engine::cell::Column;
use pipeline_engine::{
    Commit, Delivery, Destination, Generation, Job, Selection, Source, Status, Table, Transaction,
    sync,
};
use serde::{Deserialize, Serialize};

/// One commit, and one line of the log.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) sequence: u64,
    changes: Vec<CheckpointDelta>,
    /// Rows by table, in the order in which they were written. A table of which a refresh is under
    /// way ends in `+`.
    pub(crate) rows: BTreeMap<String, Vec<BTreeMap<String, String>>>,
    /// Tables whose refreshed rows replace the others with this commit, and those whose refresh
    /// begins anew.
    publish: Vec<String>,
    discard: Vec<String>,
    /// Rows of published tables that stay although they were not read again: columns and their
    /// values as JSON.
    keep: Vec<(String, BTreeMap<String, String>)>,
}

#[derive(Debug)]
struct Log {
    file: File,
    sequence: u64,
    states: BTreeMap<EndpointId, EndpointState>,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct CommitLog(Arc<Mutex<Log>>);

impl CommitLog {
    /// Opens the log, or creates it, and takes off a line that was not written to its end.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .map_err(broken)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(broken)?;
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(complete as u64).map_err(broken)?;
        let mut log = Log {
            file,
            sequence: 0,
            states: BTreeMap::new(),
        };
        for line in text[..complete].lines() {
            let line: Line = serde_json::from_str(line).map_err(broken)?;
            log.apply(&line.changes)?;
            log.sequence = line.sequence;
        }
        Ok(Self(Arc::new(Mutex::new(log))))
    }
}

impl Log {
    /// Refuses changes that do not start from what is stored, and then changes nothing.
    fn apply(&mut self, changes: &[CheckpointDelta]) -> Result<()> {
        let mut states = self.states.clone();
        for change in changes {
            states
                .entry(change.endpoint().clone())
                .or_default()
                .apply(change)?;
        }
        self.states = states;
        Ok(())
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Destination, "the log cannot be read or written").with_source(error)
}

#[async_trait]
impl Destination for CommitLog {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, _tables: &[Arc<Table>]) -> Result<()> {
        Ok(())
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let states = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .states
            .clone();
        Ok(states
            .into_iter()
            .filter(|(id, _)| id.source == source)
            .collect())
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(Staged {
            log: Arc::clone(&self.0),
            line: Line::default(),
        }))
    }

    async fn status(&self, _commits: usize) -> Result<Status> {
        let states = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .states
            .clone();
        Ok(Status {
            endpoints: states.into_iter().collect(),
            ..Status::default()
        })
    }
}

/// A line in the making. Dropping it writes nothing.
struct Staged {
    log: Arc<Mutex<Log>>,
    line: Line,
}

#[async_trait]
impl Transaction for Staged {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let mark = if table.generation == Generation::Next {
            "+"
        } else {
            ""
        };
        let rows = self
            .line
            .rows
            .entry(format!("{}_{}{mark}", table.source, table.stream))
            .or_default();
        let columns = Column::of(&batch)?;
        rows.extend((0..batch.num_rows()).map(|row| {
            let cells = columns.iter().map(|column| {
                let mut text = String::new();
                column.cell(row).push_text(&mut text);
                (column.name().to_owned(), text)
            });
            cells.filter(|(_, text)| !text.is_empty()).collect()
        }));
        Ok(0)
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<u64> {
        let Self { log, mut line } = *self;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.apply(&commit.changes)?;
        line.sequence = log.sequence + 1;
        line.changes.clone_from(&commit.changes);
        let name = |table: &pipeline_engine::TableId| format!("{}_{}", table.source, table.stream);
        line.publish = commit.publish.iter().map(name).collect();
        line.discard = commit.discard.iter().map(name).collect();
        line.keep = commit
            .keep
            .iter()
            .map(|keep| (name(&keep.table), keep.values.clone()))
            .collect();
        let text = serde_json::to_string(&line).map_err(broken)? + "\n";
        log.file
            .write_all(text.as_bytes())
            .and_then(|()| log.file.sync_all())
            .map_err(broken)?;
        log.sequence = line.sequence;
        Ok(line.sequence)
    }
}

/// Syncs one list into a log.
pub(crate) async fn sync_into(config: StripeConfig, path: &Path) -> Result<()> {
    let connector = Arc::new(StripeConnector::new(config, BuildContext::new("payments"))?);
    let source = Source {
        name: "payments".to_owned(),
        connector,
        streams: Selection::Named(vec!["charges".to_owned()]),
    };
    let run = SystemClock.now().to_rfc3339();
    sync(Job::new(
        run,
        Arc::new(CommitLog::open(path)?),
        vec![source],
    ))
    .await
    .map(drop)
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    sync_into(
        StripeConfig::new(std::env::var("STRIPE_API_KEY")?),
        Path::new("commits.jsonl"),
    )
    .await?;
    Ok(())
}
