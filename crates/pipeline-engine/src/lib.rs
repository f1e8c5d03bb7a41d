#![doc = include_str!("../README.md")]
//!
//! ## Where to find what
//!
//! | Concern | Where |
//! | --- | --- |
//! | a run, and what it is given | [`sync`], [`Job`], [`Source`], [`Options`] |
//! | what a run did | [`Summary`], [`EndpointSummary`], [`Outcome`] |
//! | where data goes | [`Destination`], [`Transaction`], [`Commit`], [`Table`] |
//! | how a user configures a destination | [`DestinationConfig`], [`DestinationRegistry`] |
//! | how many records may be rejected | [`ErrorBudget`] |
//! | what rows are checked for before they are written | [`QualityCheck`], [`QualityRule`] |
//! | what records may have that is not declared | [`Contract`], [`StreamContracts`] |
//! | records as columns, and columns as values | [`decode`], [`cell`] |
//! | which rows survive a refresh, and what is rewritten | [`Keep`], [`Purge`] |
//! | figures of a run while it lasts | [`Metrics`] |

mod budget;
mod commit;
mod contract;
mod damages;
pub mod decode;
mod dedup;
mod destination;
mod endpoint_run;
mod fair_queue;
mod held;
mod metrics;
mod patience;
mod plan;
mod quality;
mod rejected;
mod remembered;
mod resolve;
mod run;
mod slice_task;
mod stage;
mod staged;
mod summary;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use pipeline_core::{Clock, Connector, NoObserver, Observer, Result, SystemClock};
pub use tokio_util::sync::CancellationToken;

pub use self::budget::{ErrorBudget, InvalidShare, Share};
pub use self::contract::{Contract, ContractMode, StreamContracts};
pub use self::destination::{
    Access, Commit, CommitRecord, Condition, ConfiguredDestination, DELETED, Damage, Delivery,
    Depth, Destination, DestinationConfig, DestinationRegistry, EXTRA, Generation, Keep, Location,
    OpenContext, Purge, Purged, PurgedTable, Refused, SYNCED_AT, Status, Table, TableId,
    Transaction, WithCheckpoints, cell,
};
pub use self::metrics::{Figures, Metrics};
pub use self::quality::{OnFailure, QualityCheck, QualityRule, RangeBound};
pub use self::summary::{
    DriftSummary, EndpointSummary, Failure, GapSummary, LimitSummary, Outcome, QualitySummary,
    StreamSummary, Summary,
};

/// A configured source: a connector under the name that its tables and checkpoints carry.
#[derive(Clone, Debug)]
pub struct Source {
    /// The source's name.
    pub name: String,
    /// The connector.
    pub connector: Arc<dyn Connector>,
    /// Which streams are wanted.
    pub streams: Selection,
}

/// Which streams of a source are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All that the credentials may read. One that may not be read is reported as unavailable.
    #[default]
    All,
    /// These. One that may not be read is a failure.
    Named(Vec<String>),
}

/// Settings of a run. The default suits a machine with two cores and 1 GiB to spare.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Reads everything again into a new generation of the tables, which replaces the old one when
    /// it is complete.
    pub full_refresh: bool,
    /// Plans, and reads and writes nothing.
    pub dry_run: bool,
    /// Bytes of bodies, records and rows in memory at once. Up to 48 MiB more are held where a page
    /// is larger than this alone has room for; see [`MemoryBudget`](pipeline_core::MemoryBudget).
    /// Default 256 MiB.
    pub memory_budget: usize,
    /// Bytes of records that make a batch. Default 8 MiB.
    pub batch_bytes: usize,
    /// Bytes of records after which a commit is made. Default 64 MiB.
    pub commit_bytes: u64,
    /// Longest time between commits while there is data. Default 10 s.
    pub commit_interval: Duration,
    /// Slices of one source read at the same time, so that one which waits for its limits holds up
    /// no other. Default 48: enough for 100 requests a second at 400 ms.
    pub max_slices: usize,
    /// Slices of one endpoint read at the same time. Default 12: enough for 25 requests a second at
    /// 400 ms.
    pub max_slices_per_endpoint: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            full_refresh: false,
            dry_run: false,
            memory_budget: 256 << 20,
            batch_bytes: 8 << 20,
            commit_bytes: 64 << 20,
            commit_interval: Duration::from_secs(10),
            max_slices: 48,
            max_slices_per_endpoint: 12,
        }
    }
}

impl Options {
    /// Reads everything again into a new generation of the tables.
    pub fn full_refresh(mut self, full_refresh: bool) -> Self {
        self.full_refresh = full_refresh;
        self
    }

    /// Plans the run, and reads and writes nothing.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Sets the bytes of bodies, records, and rows in memory at once.
    pub fn memory_budget(mut self, memory_budget: usize) -> Self {
        self.memory_budget = memory_budget;
        self
    }

    /// Sets the bytes of records that make a batch.
    pub fn batch_bytes(mut self, batch_bytes: usize) -> Self {
        self.batch_bytes = batch_bytes;
        self
    }

    /// Sets the bytes of records after which a commit is made.
    pub fn commit_bytes(mut self, commit_bytes: u64) -> Self {
        self.commit_bytes = commit_bytes;
        self
    }

    /// Sets the longest time between commits.
    pub fn commit_interval(mut self, commit_interval: Duration) -> Self {
        self.commit_interval = commit_interval;
        self
    }

    /// Sets how many slices of one source are read at the same time.
    pub fn max_slices(mut self, max_slices: usize) -> Self {
        self.max_slices = max_slices;
        self
    }

    /// Sets how many slices of one endpoint are read at the same time.
    pub fn max_slices_per_endpoint(mut self, max_slices_per_endpoint: usize) -> Self {
        self.max_slices_per_endpoint = max_slices_per_endpoint;
        self
    }
}

/// Everything that a run needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// Identifies the run in events, logs and the commit log.
    pub run: String,
    /// Where data goes.
    pub destination: Arc<dyn Destination>,
    /// What is read.
    pub sources: Vec<Source>,
    /// How.
    pub options: Options,
    /// How many records the streams of a source may have rejected, by the source's name. One that
    /// is not named has the default.
    pub budgets: BTreeMap<String, ErrorBudget>,
    /// Streams that somebody waits for, by the source's name: of such a source only what brings
    /// their newest records is read, and everything if that is not safe. [`Source::streams`] stays
    /// what the tables hold.
    pub targets: BTreeMap<String, BTreeSet<String>>,
    /// What rows are checked for before they are written, by the source's name.
    pub quality: BTreeMap<String, Vec<QualityCheck>>,
    /// What the records of a source may have that is not declared, by the source's name. Where one
    /// is not named, everything evolves.
    pub contracts: BTreeMap<String, StreamContracts>,
    /// The observer of what happens. Give the same one to the connectors, whose requests it hears
    /// of.
    pub observer: Arc<dyn Observer>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Stops the run: nothing more is requested, what is complete is committed, and the next run
    /// resumes from there.
    pub cancel: CancellationToken,
}

impl Job {
    /// A run with default options, without observer, on the system's clock.
    pub fn new(
        run: impl Into<String>,
        destination: Arc<dyn Destination>,
        sources: Vec<Source>,
    ) -> Self {
        Self {
            run: run.into(),
            destination,
            sources,
            options: Options::default(),
            budgets: BTreeMap::new(),
            targets: BTreeMap::new(),
            quality: BTreeMap::new(),
            contracts: BTreeMap::new(),
            observer: Arc::new(NoObserver),
            clock: Arc::new(SystemClock),
            cancel: CancellationToken::new(),
        }
    }

    /// Replaces the options.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets how many records may be rejected, by source.
    pub fn budgets(mut self, budgets: BTreeMap<String, ErrorBudget>) -> Self {
        self.budgets = budgets;
        self
    }

    /// Reads only what brings the newest records of these streams, by source.
    pub fn targets(mut self, targets: BTreeMap<String, BTreeSet<String>>) -> Self {
        self.targets = targets;
        self
    }

    /// Sets what rows are checked for, by source.
    pub fn quality(mut self, quality: BTreeMap<String, Vec<QualityCheck>>) -> Self {
        self.quality = quality;
        self
    }

    /// Sets what records may have that is not declared, by source.
    pub fn contracts(mut self, contracts: BTreeMap<String, StreamContracts>) -> Self {
        self.contracts = contracts;
        self
    }

    /// Reports events to an observer. The requests of a connector reach it when its
    /// [`BuildContext`](pipeline_core::BuildContext) names it too.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Replaces the system clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Stops the run when the token is cancelled.
    pub fn cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }
}

/// Runs a sync.
///
/// A failing endpoint does not stop the others; refused credentials stop their source; a failing
/// destination or a checkpoint conflict stops the run. All are in the summary.
///
/// # Errors
/// Only when nothing could be started: the destination cannot be opened or its state is damaged, a
/// named stream does not exist, or another sync has the claim on a source.
pub async fn sync(job: Job) -> Result<Summary> {
    run::run(job).await
}

/// A span of time in its largest unit.
fn span(time: TimeDelta) -> String {
    match (time.num_days(), time.num_hours(), time.num_minutes()) {
        (days @ 2.., _, _) => format!("{days} days"),
        (_, hours @ 2.., _) => format!("{hours} hours"),
        (_, _, minutes) => format!("{minutes} min"),
    }
}
