//! Where data goes: rows and checkpoint become visible together, or not at all.

pub mod cell;
mod config;
mod keep;
mod purge;
mod registry;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pipeline_core::state::{CheckpointDelta, CheckpointStore, EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, Result, RunRecord};
use serde::{Deserialize, Serialize};

pub use self::config::Access;
pub use self::config::DestinationConfig;
pub use self::config::Location;
pub use self::config::OpenContext;
pub use self::keep::{Condition, Keep};
pub use self::purge::{Purge, Purged, PurgedTable};
pub use self::registry::ConfiguredDestination;
pub use self::registry::DestinationRegistry;

/// Column that holds, as a JSON object, members that are not declared and values that do not fit
/// their column.
pub const EXTRA: &str = "_extra";
/// Column that holds the instant at which the record was read.
pub const SYNCED_AT: &str = "_synced_at";
/// Column that is true for a tombstone, which holds no other value than the key. One that holds not
/// all of the key deletes every row, written before it, that has the values which it does hold.
pub const DELETED: &str = "_deleted";

/// What a destination promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Data and checkpoint are committed in one atomic step.
    ExactlyOnce,
    /// The checkpoint is committed after the data: a crash in between repeats rows.
    AtLeastOnce,
}

/// One stream as it is written.
#[derive(Clone, Debug)]
pub struct Table {
    /// The source's name in the configuration.
    pub source: String,
    /// The stream's name.
    pub stream: String,
    /// Columns that identify a row. A later row with the same values replaces the earlier one;
    /// empty: rows are appended.
    pub primary_key: Vec<String>,
    /// The columns, [`EXTRA`], [`SYNCED_AT`] and [`DELETED`] included.
    pub schema: SchemaRef,
    /// Which generation rows go to.
    pub generation: Generation,
}

/// Which rows of a table a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// The visible rows.
    Current,
    /// Rows that are invisible until the generation is published and replaces the visible one.
    Next,
}

/// Names a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId {
    /// The source's name in the configuration.
    pub source: String,
    /// The stream's name.
    pub stream: String,
}

impl Table {
    /// The table's name.
    pub fn id(&self) -> TableId {
        TableId {
            source: self.source.clone(),
            stream: self.stream.clone(),
        }
    }
}

/// Everything that one commit makes true, besides the rows written to its transaction.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The run that commits.
    pub run: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Changes of checkpoints. All apply, or the commit fails with
    /// [`CheckpointConflict`](pipeline_core::ErrorKind::CheckpointConflict).
    pub changes: Vec<CheckpointDelta>,
    /// Tables whose next generation, with the rows of this transaction, replaces the current one.
    pub publish: Vec<TableId>,
    /// Rows of published tables that stay although the next generation does not have them.
    pub keep: Vec<Keep>,
    /// Tables whose next generation is emptied before the rows of this transaction are written:
    /// what an abandoned refresh left.
    pub discard: Vec<TableId>,
    /// Rows written, per table.
    pub rows: Vec<(TableId, u64)>,
    /// Bytes of the vendor's records.
    pub bytes: u64,
    /// Sum of the hashes of all records, so that the order does not matter. Hexadecimal.
    pub content_hash: String,
}

/// A row of the commit log, which every destination keeps beside the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Number of the commit, from 1 without gaps.
    pub sequence: u64,
    /// The run that committed.
    pub run: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What changed of which checkpoint, without boundary entries. A store may forget it of old
    /// commits.
    pub changes: Vec<CheckpointDelta>,
    /// Rows written, per table.
    pub rows: Vec<(TableId, u64)>,
    /// Bytes of the vendor's records.
    pub bytes: u64,
    /// Order-independent hash of the records.
    pub content_hash: String,
}

impl Commit {
    /// The commit as its row in the log.
    pub fn record(self, sequence: u64) -> CommitRecord {
        CommitRecord {
            sequence,
            run: self.run,
            at: self.at,
            changes: self
                .changes
                .into_iter()
                .map(CheckpointDelta::without_boundary)
                .collect(),
            rows: self.rows,
            bytes: self.bytes,
            content_hash: self.content_hash,
        }
    }
}

/// What a destination holds, for `pipeline status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Every stored checkpoint.
    pub endpoints: Vec<(EndpointId, EndpointState)>,
    /// Visible rows, per table.
    pub rows: Vec<(TableId, u64)>,
    /// The newest commits, newest first, at most as many as asked for.
    pub commits: Vec<CommitRecord>,
}

/// How closely a destination is compared with its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// What costs no more than a look at each file or table: that it is there, its size, its number
    /// of rows.
    Shape,
    /// Everything that is stored is read.
    Content,
}

/// Something in a destination that its log says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The table it is of; none: it concerns all.
    pub table: Option<TableId>,
    /// What is wrong, and where.
    pub what: String,
    /// The ways out.
    pub help: String,
}

/// A store of tables and checkpoints.
///
/// * What a transaction writes is invisible until it commits, and gone when it is dropped.
/// * A commit makes all rows and all changes visible in one atomic and durable step, or fails and
///   changes nothing.
/// * After a crash at any point, [`states`](Self::states) are those that match the visible rows.
#[async_trait]
pub trait Destination: Send + Sync + Debug {
    /// What the destination promises.
    fn delivery(&self) -> Delivery;

    /// Tries whether it can be written, without changing anything that a reader sees.
    async fn check(&self) -> Result<()>;

    /// Takes the right to read a source into this destination. Every sync takes it first and holds
    /// it to its end, so that of two the second is refused before it has asked the vendor for
    /// anything.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`] when another process has it: which, and since when.
    async fn claim(&self, _source: &str, _run: &str) -> Result<Claim> {
        Ok(Box::new(()))
    }

    /// Whether a process has the claim on a source at the moment; none when that cannot be found
    /// out. Changes nothing.
    async fn is_claimed(&self, _source: &str) -> Result<Option<bool>> {
        Ok(None)
    }

    /// Compares what is stored with what the log says, and returns what does not fit. Changes
    /// nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when it cannot be compared.
    async fn verify(&self, _depth: Depth) -> Result<Vec<Damage>> {
        Ok(Vec::new())
    }

    /// Remembers a run in the place of what is remembered under its name, and forgets all but the
    /// newest [`RUN_CAPACITY`](pipeline_core::RUN_CAPACITY).
    async fn record_run(&self, _run: &RunRecord) -> Result<()> {
        Ok(())
    }

    /// The newest runs, newest first, at most `limit`.
    async fn runs(&self, _limit: usize) -> Result<Vec<RunRecord>> {
        Ok(Vec::new())
    }

    /// Creates the visible tables, whichever generation rows will go to, or adds columns that are
    /// missing: a stream has a table from the moment it is planned, with or without rows. Never
    /// drops or narrows a column.
    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()>;

    /// The committed states of a source's endpoints.
    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>>;

    /// The committed state of one endpoint; a default one when there is none.
    async fn load(&self, endpoint: &EndpointId) -> Result<EndpointState> {
        Ok(self
            .states(&endpoint.source)
            .await?
            .remove(endpoint)
            .unwrap_or_default())
    }

    /// Opens a transaction. The engine has at most one open.
    async fn begin(&self) -> Result<Box<dyn Transaction>>;

    /// What it holds; `commits` is the number of log rows wanted. Works without any configuration
    /// but the location.
    async fn status(&self, commits: usize) -> Result<Status>;

    /// Removes from the disk what is deleted but still in its files. Readers see the same rows
    /// before, meanwhile, and after.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] unless a destination has files to purge.
    async fn purge(&self, _purge: &Purge) -> Result<Purged> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this destination keeps nothing that could be purged",
        ))
    }
}

/// A row that a store refuses while it takes others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its index in the batch.
    pub row: usize,
    /// Why, in the store's words.
    pub reason: String,
}

/// Rows on their way. Dropping it discards them.
#[async_trait]
pub trait Transaction: Send {
    /// Stages a batch, and returns how many of its rows are left out because the table holds them
    /// already, read at whatever time. Memory stays bounded however many batches are staged.
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64>;

    /// Takes the rows of the batch written last that the store refuses by rules of its user's, such
    /// as an index: all others are staged. The writer of the batch keeps them elsewhere.
    fn refused(&mut self) -> Vec<Refused> {
        Vec::new()
    }

    /// Makes everything visible, and returns the commit's number.
    async fn commit(self: Box<Self>, commit: &Commit) -> Result<u64>;
}

/// A destination that cannot hold checkpoints, with a store that does: flushes the rows, then
/// applies the changes.
#[derive(Debug)]
pub struct WithCheckpoints {
    rows: Arc<dyn Destination>,
    checkpoints: Arc<dyn CheckpointStore>,
}

impl WithCheckpoints {
    /// Joins the two.
    pub fn new(rows: Arc<dyn Destination>, checkpoints: Arc<dyn CheckpointStore>) -> Self {
        Self { rows, checkpoints }
    }
}

#[async_trait]
impl Destination for WithCheckpoints {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    async fn check(&self) -> Result<()> {
        self.rows.check().await
    }

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        self.checkpoints.claim(source, run).await
    }

    async fn is_claimed(&self, source: &str) -> Result<Option<bool>> {
        self.checkpoints.is_claimed(source).await
    }

    async fn verify(&self, depth: Depth) -> Result<Vec<Damage>> {
        self.rows.verify(depth).await
    }

    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        self.checkpoints.record_run(run).await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.checkpoints.runs(limit).await
    }

    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        self.rows.prepare(tables).await
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        Ok(self
            .checkpoints
            .list()
            .await?
            .into_iter()
            .filter(|(id, _)| id.source == source)
            .collect())
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(Checkpointed {
            rows: self.rows.begin().await?,
            checkpoints: Arc::clone(&self.checkpoints),
        }))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        Ok(Status {
            endpoints: self.checkpoints.list().await?,
            ..self.rows.status(commits).await?
        })
    }
}

struct Checkpointed {
    rows: Box<dyn Transaction>,
    checkpoints: Arc<dyn CheckpointStore>,
}

#[async_trait]
impl Transaction for Checkpointed {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        self.rows.write(table, batch).await
    }

    fn refused(&mut self) -> Vec<Refused> {
        self.rows.refused()
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<u64> {
        let Self { rows, checkpoints } = *self;
        let sequence = rows.commit(commit).await?;
        checkpoints.apply(&commit.changes).await?;
        Ok(sequence)
    }
}
