//! A destination that keeps what every commit brought, in order: a row that is written twice does
//! not show in a table with keys.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState};
use pipeline_core::{Claim, Result, RunRecord};
use pipeline_engine::{
    Commit, DELETED, Delivery, Destination, SYNCED_AT, Status, Table, Transaction,
};

use crate::memory::{MemoryDestination, TextRow, rows_of};
use crate::tape::{CaughtUp, Tape};

/// What syncs have committed. It survives the process.
#[derive(Debug, Default)]
pub(crate) struct Store {
    tables: MemoryDestination,
    progress: Mutex<Progress>,
    /// Where endpoints have caught up in the sync that was ended.
    caught_up: Mutex<CaughtUp>,
}

/// What was committed, in the order of the commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// State of each endpoint.
    pub(crate) states: BTreeMap<String, EndpointState>,
    /// Rows of each stream, as text.
    pub(crate) rows: BTreeMap<String, Vec<String>>,
    /// Syncs that came to their end.
    pub(crate) syncs: usize,
}

impl Store {
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn caught_up(&self) -> MutexGuard<'_, CaughtUp> {
        self.caught_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The visible rows of a stream, without what the engine adds.
    pub(crate) fn table(&self, source: &str, stream: &str) -> Vec<TextRow> {
        let mut rows = self.tables.rows(source, stream);
        for row in &mut rows {
            row.remove(SYNCED_AT);
        }
        rows
    }
}

impl Progress {
    /// Rows of each stream, counted.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.rows
            .iter()
            .map(|(stream, rows)| (stream.clone(), rows.len()))
            .collect()
    }
}

/// The store, as one process has it open.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) store: Arc<Store>,
    pub(crate) tape: Arc<Tape>,
}

#[async_trait]
impl Destination for Ledger {
    fn delivery(&self) -> Delivery {
        self.store.tables.delivery()
    }

    async fn check(&self) -> Result<()> {
        self.store.tables.check().await
    }

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        self.store.tables.claim(source, run).await
    }

    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        self.store.tables.record_run(run).await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.store.tables.runs(limit).await
    }

    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        self.store.tables.prepare(tables).await
    }

    /// The states as another process would read them: from JSON.
    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let states = self.store.tables.states(source).await?;
        states
            .into_iter()
            .map(|(id, state)| Ok((id, EndpointState::from_json(&state.to_json())?)))
            .collect()
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let inner = self.store.tables.begin().await?;
        Ok(Box::new(Written {
            inner,
            store: Arc::clone(&self.store),
            tape: Arc::clone(&self.tape),
            rows: Vec::new(),
        }))
    }

    async fn status(&self, commits: usize) -> Result<Status> {
        self.store.tables.status(commits).await
    }
}

struct Written {
    inner: Box<dyn Transaction>,
    store: Arc<Store>,
    tape: Arc<Tape>,
    /// The rows, with the streams that they are of.
    rows: Vec<(String, String)>,
}

#[async_trait]
impl Transaction for Written {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        self.rows.extend(
            rows_of(&batch)?
                .into_iter()
                .map(|row| (table.stream.clone(), text(row))),
        );
        self.inner.write(table, batch).await
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<u64> {
        let Self {
            inner,
            store,
            tape,
            rows,
        } = *self;
        let sequence = inner.commit(commit).await?;
        let mut of_page = None;
        let committed = {
            let mut progress = store.progress();
            for (stream, row) in rows {
                progress.rows.entry(stream).or_default().push(row);
            }
            for change in &commit.changes {
                let state = progress
                    .states
                    .entry(change.endpoint().endpoint.clone())
                    .or_default();
                state.apply(change)?;
                if matches!(change, CheckpointDelta::Advance { .. }) {
                    of_page = Some(state.to_json());
                }
            }
            progress.counts()
        };
        if let Some(state) = of_page {
            tape.page_committed(state, committed).await;
        }
        Ok(sequence)
    }
}

fn text(mut row: TextRow) -> String {
    row.remove(SYNCED_AT);
    let mark = if row.remove(DELETED).is_some_and(|deleted| deleted == "true") {
        "deleted "
    } else {
        ""
    };
    format!("{mark}{row:?}")
}
