//! Group commit: complete pages of all slices go into one open transaction, and are committed with their positions.
//!
//! Tasks stage pages, which takes no time; one of them at a time writes what is staged while the others go on reading and
//! decoding. What a page holds and how far it brings its slice are staged, written and committed together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use tokio::sync::MutexGuard as AsyncMutexGuard;
use tokio::time::Instant;

use super::Job;
use super::decode::{Drift, DriftKind};
use super::endpoint_run::EndpointRun;
use super::page::Rows;
use super::rejected::Rejected;
use super::write::{Figures, Writer};
use crate::destination::{Table, TableId};
use crate::error::Result;
use crate::state::{Change, EndpointId};

/// Collects what tasks have read, writes it, and commits it.
pub(super) struct Committer {
    job: Arc<Job>,
    staged: Mutex<Staged>,
    /// Locked before `staged`.
    writer: tokio::sync::Mutex<Writer>,
}

/// What is read and not yet handed to the destination.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) tables: Vec<StagedTable>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) changes: Vec<Change>,
    pub(super) finished: Vec<EndpointId>,
    pub(super) publish: Vec<TableId>,
    pub(super) discard: Vec<TableId>,
    pub(super) bytes: u64,
    /// Bytes that the rows take in memory: a page of few rows takes more than its records, as every column takes some.
    memory: u64,
    pub(super) content_hash: u128,
    /// Bytes since the last commit, those that were handed over included.
    uncommitted: u64,
    /// When the first of what is not committed was staged.
    since: Option<Instant>,
}

/// Rows of one table.
pub(super) struct StagedTable {
    pub(super) table: Arc<Table>,
    pub(super) batches: Vec<RecordBatch>,
    /// How many rows are of which endpoint, by its number in the run.
    pub(super) rows: BTreeMap<usize, u64>,
    /// How often fields departed from what is declared.
    pub(super) drift: BTreeMap<(String, DriftKind), u64>,
}

/// How much more memory than bytes of records a batch may take before it is written all the same.
const ROOM: u64 = 2;

/// How urgently what is staged has to be written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pressure {
    None,
    /// Somebody should write, if nobody does.
    Due,
    /// Whoever stages more has to wait for it.
    Full,
}

impl Committer {
    pub(super) fn new(job: Arc<Job>) -> Self {
        let writer = tokio::sync::Mutex::new(Writer::new(Arc::clone(&job)));
        Self { job, staged: Mutex::default(), writer }
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a page and the change that it makes to a checkpoint. The change is asked for inside, so that changes are
    /// staged in the order in which they were made. Writes or commits what is staged when there is enough of it.
    pub(super) async fn stage(&self, rows: Vec<Rows>, change: impl FnOnce() -> Result<Change>) -> Result<()> {
        let pressure = {
            let mut staged = self.staged();
            staged.change(change()?);
            for rows in rows {
                staged.add(rows);
            }
            self.pressure(&staged)
        };
        let writer = match pressure {
            Pressure::None => return Ok(()),
            Pressure::Due => self.writer.try_lock().ok(),
            Pressure::Full => Some(self.writer.lock().await),
        };
        match writer {
            Some(writer) => self.relieve(writer).await,
            None => Ok(()),
        }
    }

    fn pressure(&self, staged: &Staged) -> Pressure {
        let options = self.job.options;
        let reached = |factor: u64| {
            let batch = factor * options.batch_bytes as u64;
            staged.bytes >= batch || staged.memory >= ROOM * batch || staged.uncommitted >= options.commit_bytes.saturating_mul(factor)
        };
        match () {
            () if reached(2) => Pressure::Full,
            () if reached(1) || staged.age() >= options.commit_interval => Pressure::Due,
            () => Pressure::None,
        }
    }

    /// Writes what is staged if there is still a reason to, and commits when that is due.
    async fn relieve(&self, mut writer: AsyncMutexGuard<'_, Writer>) -> Result<()> {
        let (pressure, is_due) = {
            let staged = self.staged();
            let options = self.job.options;
            (self.pressure(&staged), staged.uncommitted >= options.commit_bytes || staged.age() >= options.commit_interval)
        };
        if is_due {
            self.commit_with(&mut writer).await
        } else if pressure > Pressure::None {
            let staged = self.staged().hand_over();
            writer.write(staged).await
        } else {
            Ok(())
        }
    }

    async fn commit_with(&self, writer: &mut Writer) -> Result<()> {
        let staged = {
            let mut staged = self.staged();
            (staged.uncommitted, staged.since) = (0, None);
            staged.hand_over()
        };
        writer.write(staged).await?;
        writer.commit().await
    }

    /// Stages a change of a checkpoint. It is asked for inside, so that changes are staged in the order in which they were
    /// made.
    pub(super) fn change(&self, change: impl FnOnce() -> Change) {
        let mut staged = self.staged();
        staged.change(change());
    }

    /// Stages the last changes of endpoints that are over, all in one step. Tables that they refresh are published: what is
    /// staged until then belongs to the next generation, what is staged later to the visible rows.
    pub(super) fn finish(&self, runs: &[&EndpointRun]) {
        let mut staged = self.staged();
        for run in runs {
            staged.change(run.finish());
            staged.finished.push(run.id.clone());
            if run.refresh {
                staged.publish.extend(run.tables.iter().flatten().map(|table| table.id()));
            }
        }
    }

    /// Empties the next generation of a table at the next commit.
    pub(super) fn discard(&self, table: TableId) {
        self.staged().discard.push(table);
    }

    /// Commits when there is something that was staged long enough ago; leaves that to whoever is writing.
    pub(super) async fn commit_if_due(&self) -> Result<()> {
        match self.writer.try_lock() {
            Ok(writer) => self.relieve(writer).await,
            Err(_) => Ok(()),
        }
    }

    /// Commits everything staged, if there is anything.
    pub(super) async fn commit(&self) -> Result<()> {
        let mut writer = self.writer.lock().await;
        self.commit_with(&mut writer).await
    }

    /// Opens a transaction for a response that has no place to stop inside; what was staged before is committed first.
    pub(super) async fn alone(&self) -> Result<Alone<'_>> {
        let mut writer = self.writer.lock().await;
        self.commit_with(&mut writer).await?;
        Ok(Alone { committer: self, writer })
    }

    /// What is written and committed so far.
    pub(super) async fn figures(&self) -> Figures {
        self.writer.lock().await.figures().clone()
    }
}

/// A transaction that only one response is written to, while others go on staging. Dropped without a commit, nothing of
/// the response was ever there.
pub(super) struct Alone<'a> {
    committer: &'a Committer,
    writer: AsyncMutexGuard<'a, Writer>,
}

impl Alone<'_> {
    /// Writes a part of the response.
    pub(super) async fn write(&mut self, rows: Vec<Rows>) -> Result<()> {
        let mut staged = Staged::default();
        for rows in rows {
            staged.add(rows);
        }
        self.writer.write(staged).await
    }

    /// Commits the response with its change, and what others have staged.
    pub(super) async fn commit(mut self, change: impl FnOnce() -> Result<Change>) -> Result<()> {
        {
            let mut staged = self.committer.staged();
            staged.change(change()?);
        }
        self.committer.commit_with(&mut self.writer).await
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.writer.rollback();
    }
}

impl Staged {
    fn add(&mut self, rows: Rows) {
        let Rows { endpoint, table, batch, bytes, content_hash, drift, rejected } = rows;
        self.since.get_or_insert_with(Instant::now);
        self.bytes += bytes;
        self.uncommitted += bytes;
        self.content_hash = self.content_hash.wrapping_add(content_hash);
        self.rejected.extend(rejected.iter().map(|(record, rejection)| Rejected::new(endpoint, &table, record, *rejection)));
        let known = self.tables.iter().position(|known| Arc::ptr_eq(&known.table, &table));
        let index = known.unwrap_or_else(|| {
            self.tables.push(StagedTable { table, batches: Vec::new(), rows: BTreeMap::new(), drift: BTreeMap::new() });
            self.tables.len() - 1
        });
        let staged = &mut self.tables[index];
        let mut memory = 0;
        if let Some(batch) = batch {
            *staged.rows.entry(endpoint).or_default() += batch.num_rows() as u64;
            memory = batch.get_array_memory_size() as u64;
            staged.batches.push(batch);
        }
        for Drift { field, kind, count } in drift {
            *staged.drift.entry((field, kind)).or_default() += count;
        }
        self.memory += memory;
    }

    fn change(&mut self, change: Change) {
        self.since.get_or_insert_with(Instant::now);
        push_change(&mut self.changes, change);
    }

    /// Everything but what tells when the next commit is due.
    fn hand_over(&mut self) -> Self {
        let Self { uncommitted, since, .. } = *self;
        std::mem::replace(self, Self { uncommitted, since, ..Self::default() })
    }

    fn age(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Adds a change; joins an advance with the one that it continues, unless the endpoint's plan was replaced in between.
pub(super) fn push_change(changes: &mut Vec<Change>, change: Change) {
    if let Change::Advance { endpoint, slice, from, to, reached, seen, .. } = &change {
        for earlier in changes.iter_mut().rev().filter(|earlier| earlier.endpoint() == endpoint) {
            match earlier {
                Change::Replace { .. } => break,
                Change::Advance { slice: s, to: t, reached: r, seen: known, .. } if s == slice && t == from => {
                    t.clone_from(to);
                    *r = reached.or(*r);
                    known.extend(seen.iter().copied());
                    return;
                }
                Change::Advance { .. } => {}
            }
        }
    }
    changes.push(change);
}
