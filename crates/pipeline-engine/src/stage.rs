//! Group commit: complete pages of all slices go into one open transaction, and are committed with
//! their positions.
//!
//! Tasks stage pages, whose records become rows then; one of them at a time writes what is staged
//! while the others go on. What a page holds and how far it brings its slice are staged, written
//! and committed together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_core::state::CheckpointDelta;
use pipeline_core::{Error, ErrorKind, MemoryBudget, Result};
use tokio::sync::MutexGuard as AsyncMutexGuard;

use super::Job;
use super::commit::{Committer, Figures};
use super::endpoint_run::EndpointRun;
use super::staged::{Late, PageRecords, Staged};
use crate::destination::TableId;

/// Collects what tasks have read, writes it, and commits it.
pub(super) struct Stager {
    job: Arc<Job>,
    staged: Mutex<Staged>,
    /// Locked before `staged` by whoever appends a page, which takes so long that others had better
    /// do something else.
    turn: tokio::sync::Mutex<()>,
    /// Locked before `staged`.
    committer: tokio::sync::Mutex<Committer>,
    memory: MemoryBudget,
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

impl Stager {
    pub(super) fn new(job: Arc<Job>) -> Self {
        let committer = tokio::sync::Mutex::new(Committer::new(Arc::clone(&job)));
        let memory = MemoryBudget::new(job.options.memory_budget);
        #[cfg(test)]
        super::tests::memory::LAST.set(Some(memory.clone()));
        Self {
            job,
            staged: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            committer,
            memory,
        }
    }

    /// Judges what the destination refuses of the endpoints of the run.
    pub(super) async fn watch(&self, runs: &[Arc<EndpointRun>]) {
        self.committer.lock().await.watch(runs);
    }

    /// The memory of the run.
    pub(super) fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a page and the change that it makes to a checkpoint. The change is asked for inside,
    /// so that changes are staged in the order in which they were made. Writes or commits what is
    /// staged when there is enough of it. Returns the records that only the decoder found to be
    /// wrong.
    pub(super) async fn stage(
        &self,
        page: Vec<PageRecords<'_>>,
        change: impl FnOnce() -> Result<CheckpointDelta>,
    ) -> Result<Vec<Late>> {
        let (late, pressure) = {
            let _turn = self.turn.lock().await;
            let mut staged = self.staged();
            match change() {
                Ok(change) => staged.change(change),
                Err(error) => {
                    // The page is not taken, but what is wrong with it can be looked at.
                    if error.kind() == ErrorKind::Rejected {
                        staged.add_rejected(page, self.job.clock.now());
                    }
                    return Err(error);
                }
            }
            let late = staged.add(page, self.job.clock.now());
            staged.permit(&self.memory);
            (late, self.pressure(&staged))
        };
        let committer = match pressure {
            Pressure::None => return Ok(late),
            Pressure::Due => self.committer.try_lock().ok(),
            Pressure::Full => Some(self.committer.lock().await),
        };
        if let Some(committer) = committer {
            self.relieve(committer).await?;
        }
        Ok(late)
    }

    fn pressure(&self, staged: &Staged) -> Pressure {
        let options = self.job.options;
        let reached = |factor: u64| {
            let batch = factor * options.batch_bytes as u64;
            staged.bytes >= batch
                || staged.memory >= ROOM * batch
                || staged.uncommitted >= options.commit_bytes.saturating_mul(factor)
        };
        match () {
            () if reached(2) => Pressure::Full,
            () if reached(1) || staged.age() >= options.commit_interval => Pressure::Due,
            () if staged.memory > 0 && self.memory.is_wanted() => Pressure::Due,
            () => Pressure::None,
        }
    }

    /// Writes what is staged if there is still a reason to, and commits when that is due.
    async fn relieve(&self, mut committer: AsyncMutexGuard<'_, Committer>) -> Result<()> {
        let (pressure, is_due) = {
            let staged = self.staged();
            let options = self.job.options;
            (
                self.pressure(&staged),
                staged.uncommitted >= options.commit_bytes
                    || staged.age() >= options.commit_interval,
            )
        };
        if is_due {
            self.commit_with(&mut committer).await
        } else if pressure > Pressure::None {
            self.write_with(&mut committer, Staged::hand_over).await
        } else {
            Ok(())
        }
    }

    async fn commit_with(&self, committer: &mut Committer) -> Result<()> {
        loop {
            self.write_with(committer, Staged::hand_over_last).await?;
            let doubtful = committer.take_doubtful();
            if doubtful.is_empty() {
                return committer.commit().await;
            }
            doubtful
                .iter()
                .try_for_each(|run| self.try_change(|| Ok(run.doubt())))?;
        }
    }

    async fn write_with(
        &self,
        committer: &mut Committer,
        part: fn(&mut Staged) -> Staged,
    ) -> Result<()> {
        let tables = committer.write(self.take(part)?).await?;
        self.staged().take_back(tables);
        Ok(())
    }

    /// Takes what is staged. Nothing is taken any more after a panic in the middle of a page, whose
    /// position may be staged.
    fn take(&self, part: fn(&mut Staged) -> Staged) -> Result<Staged> {
        match self.staged.lock() {
            Ok(mut staged) => Ok(part(&mut staged)),
            Err(_) => Err(Error::new(
                ErrorKind::Unexpected,
                "a task panicked while it staged a page: nothing more is committed",
            )),
        }
    }

    /// Stages a change of a checkpoint. It is asked for inside, so that changes are staged in the
    /// order in which they were made.
    pub(super) fn change(&self, change: impl FnOnce() -> CheckpointDelta) {
        let mut staged = self.staged();
        staged.change(change());
    }

    /// Stages a change of a checkpoint if there is any, asked for inside as well.
    ///
    /// # Errors
    /// What the asking returns.
    pub(super) fn try_change(
        &self,
        change: impl FnOnce() -> Result<Option<CheckpointDelta>>,
    ) -> Result<()> {
        let mut staged = self.staged();
        if let Some(change) = change()? {
            staged.change(change);
        }
        Ok(())
    }

    /// Stages the last changes of endpoints that are over, all in one step. Tables that they
    /// refresh are published: what is staged until then belongs to the next generation, what is
    /// staged later to the visible rows.
    pub(super) fn finish(&self, runs: &[&EndpointRun]) {
        let mut staged = self.staged();
        for run in runs {
            staged.change(run.finish());
            staged.finished.push(run.id.clone());
            if run.refresh {
                staged
                    .publish
                    .extend(run.tables.iter().flatten().map(|table| table.id()));
                staged.keep.extend(run.kept_rows());
            }
        }
    }

    /// Empties the next generation of a table at the next commit.
    pub(super) fn discard(&self, table: TableId) {
        self.staged().discard.push(table);
    }

    /// Commits when there is something that was staged long enough ago; leaves that to whoever is
    /// writing.
    pub(super) async fn commit_if_due(&self) -> Result<()> {
        match self.committer.try_lock() {
            Ok(committer) => self.relieve(committer).await,
            Err(_) => Ok(()),
        }
    }

    /// Commits everything staged, if there is anything.
    pub(super) async fn commit(&self) -> Result<()> {
        let mut committer = self.committer.lock().await;
        self.commit_with(&mut committer).await
    }

    /// Opens a transaction for a response that has no place to stop inside; what was staged before
    /// is committed first.
    pub(super) async fn alone(&self) -> Result<Alone<'_>> {
        let mut committer = self.committer.lock().await;
        self.commit_with(&mut committer).await?;
        Ok(Alone {
            stager: self,
            committer,
            staged: Staged::default(),
        })
    }

    /// What is written and committed so far.
    pub(super) async fn figures(&self) -> Figures {
        self.committer.lock().await.figures().clone()
    }
}

/// A transaction that only one response is written to, while others go on staging. Dropped without
/// a commit, nothing of the response was ever there.
pub(super) struct Alone<'a> {
    stager: &'a Stager,
    committer: AsyncMutexGuard<'a, Committer>,
    /// The part of the response that is being written.
    staged: Staged,
}

impl Alone<'_> {
    /// Writes a part of the response.
    pub(super) async fn write(&mut self, page: Vec<PageRecords<'_>>) -> Result<Vec<Late>> {
        let late = self.staged.add(page, self.stager.job.clock.now());
        self.staged.permit(&self.stager.memory);
        let tables = self.committer.write(self.staged.hand_over()).await?;
        self.staged.take_back(tables);
        Ok(late)
    }

    /// True when a quality check has stopped the endpoint: the response is to be given up.
    pub(super) fn is_stopped(&self, endpoint: usize) -> bool {
        self.committer.is_stopped(endpoint)
    }

    /// Commits the response with its change, and what others have staged.
    pub(super) async fn commit(
        mut self,
        change: impl FnOnce() -> Result<CheckpointDelta>,
    ) -> Result<()> {
        {
            let mut staged = self.stager.staged();
            staged.change(change()?);
        }
        self.stager.commit_with(&mut self.committer).await
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.committer.rollback();
    }
}
