//! Writes staged rows to the destination and commits them with their positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use pipeline_core::state::{CheckpointDelta, EndpointId};
use pipeline_core::{Error, ErrorKind, Event, Result};

use super::budget::Rejections;
use super::decode::{Drift, DriftKind, OTHER_FIELDS};
use super::endpoint_run::EndpointRun;
use super::held::{Effects, Held};
use super::patience::patiently;
use super::quality::{Batches, Broken};
use super::rejected::Rejected;
use super::staged::{Staged, StagedTable, push_change};
use super::{Job, rejected};
use crate::destination::{Commit, Generation, Keep, Refused, Table, TableId, Transaction};

/// Names of fields of one table that are counted over a run; what comes beyond is counted as
/// [`OTHER_FIELDS`].
const MOST_DRIFT: usize = 1_000;

/// What became of the records that one endpoint read for one table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableFigures {
    /// Rows committed.
    pub(super) rows: u64,
    /// Rows that the destination held already.
    pub(super) unchanged: u64,
    /// Records kept in the table of rejected ones.
    pub(super) rejected: u64,
}

/// What a run has done so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// By the endpoint's number in the run.
    pub(super) tables: BTreeMap<(usize, TableId), TableFigures>,
    /// Rows that the destination has refused, likewise.
    pub(super) refused: BTreeMap<(usize, TableId), Rejections>,
    /// Rows that broke quality checks, likewise, and by the check's number in the source.
    pub(super) broken: BTreeMap<(usize, TableId), BTreeMap<usize, Broken>>,
    /// Members kept in `_extra`, by table: by name and reason.
    pub(super) drift: BTreeMap<TableId, BTreeMap<(String, &'static str), u64>>,
    /// Endpoints whose last change is committed.
    pub(super) finished: BTreeSet<EndpointId>,
    pub(super) commits: u64,
}

/// The open transaction, and what its commit will make true.
pub(super) struct Committer {
    job: Arc<Job>,
    figures: Figures,
    transaction: Option<Box<dyn Transaction>>,
    pending: Pending,
    /// The tables as they are written to now.
    tables: BTreeMap<TableId, Arc<Table>>,
    /// Tables whose next generation this run has published: rows go to the visible ones since.
    published: BTreeSet<TableId>,
    /// Endpoints that go no further, because the destination refuses their rows.
    held: Held,
    /// After a failure nothing is written any more: rows are missing whose positions may be staged.
    failed: bool,
}

#[derive(Default)]
struct Pending {
    changes: Vec<CheckpointDelta>,
    finished: Vec<EndpointId>,
    publish: BTreeSet<TableId>,
    keep: Vec<Keep>,
    discard: BTreeSet<TableId>,
    /// By the endpoint's number in the run; it has none where the engine makes rows of its own.
    rows: BTreeMap<(Option<usize>, TableId), Written>,
    bytes: u64,
    content_hash: u128,
}

/// Rows of one endpoint for one table.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    rows: u64,
    /// Those that the destination held already.
    unchanged: u64,
}

impl Committer {
    pub(super) fn new(job: Arc<Job>) -> Self {
        Self {
            job,
            figures: Figures::default(),
            transaction: None,
            pending: Pending::default(),
            tables: BTreeMap::new(),
            published: BTreeSet::new(),
            held: Held::default(),
            failed: false,
        }
    }

    /// Judges the rows of these endpoints from now on, which are all of the run.
    pub(super) fn watch(&mut self, runs: &[Arc<EndpointRun>]) {
        self.held = Held::new(runs);
    }

    /// See [`Held::take_doubtful`].
    pub(super) fn take_doubtful(&mut self) -> Vec<Arc<EndpointRun>> {
        self.held.take_doubtful()
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Writes what was staged to the transaction. The tables come back without their rows.
    pub(super) async fn write(&mut self, staged: Staged) -> Result<Vec<StagedTable>> {
        self.check()?;
        let written = self.try_write(staged).await;
        self.failed |= written.is_err();
        written
    }

    async fn try_write(&mut self, staged: Staged) -> Result<Vec<StagedTable>> {
        let Staged {
            mut tables,
            mut rejected,
            changes,
            finished,
            publish,
            keep,
            discard,
            bytes,
            content_hash,
            ..
        } = staged;
        for batches in self.checked(&mut tables, &mut rejected)? {
            self.write_table(batches, &mut rejected).await?;
        }
        self.write_rejected(&rejected).await?;
        let mut effects = Effects {
            changes,
            finished,
            publish,
            keep,
        };
        self.held.filter(&mut effects);
        for change in effects.changes {
            push_change(&mut self.pending.changes, change);
        }
        self.pending.finished.extend(effects.finished);
        self.pending.publish.extend(effects.publish);
        self.pending.keep.extend(effects.keep);
        self.pending.discard.extend(discard);
        self.pending.bytes += bytes;
        self.pending.content_hash = self.pending.content_hash.wrapping_add(content_hash);
        Ok(tables)
    }

    /// The rows of the tables that may be written. Those that checks put in quarantine are added to
    /// the rejected records. All tables are checked before any is written, since an endpoint that
    /// stops may have rows in several of them.
    fn checked(
        &mut self,
        tables: &mut [StagedTable],
        rejected: &mut Vec<Rejected>,
    ) -> Result<Vec<Batches>> {
        let job = Arc::clone(&self.job);
        let mut all = Vec::with_capacity(tables.len());
        for staged in tables {
            let (mut batches, drift) = staged.finish()?;
            self.tell_drift(&staged.table, drift);
            batches.judge(&job.quality)?;
            for (endpoint, error) in batches.stops(&job.quality) {
                self.held.stop(&job, endpoint, &error);
            }
            for ((endpoint, check), broken) in batches.broken() {
                let known = self.figures.broken.entry((endpoint, staged.table.id()));
                known.or_default().entry(check).or_default().join(broken);
            }
            all.push(batches);
        }
        for batches in &mut all {
            rejected.extend(batches.sift(&job.quality, self.held.stopped())?);
        }
        Ok(all)
    }

    /// True when a check has stopped the endpoint.
    pub(super) fn is_stopped(&self, endpoint: usize) -> bool {
        self.held.stopped().contains(&endpoint)
    }

    /// Writes the rows of a table, and adds those that the destination refuses to the rejected
    /// records.
    async fn write_table(&mut self, checked: Batches, rejected: &mut Vec<Rejected>) -> Result<()> {
        let (table, owners) = (Arc::clone(&checked.table), checked.rows());
        let (mut unchanged, mut refused) = (0, Vec::new());
        for batch in checked.parts {
            let (left_out, refusals) = self.write_batch(&table, batch.clone()).await?;
            unchanged += left_out;
            refused.extend(rejected::refused(&batch, refusals)?);
        }
        // Of several endpoints that feed the table it is not known whose rows they were.
        let mut refused = refused.into_iter();
        for (endpoint, rows) in owners {
            let written = self
                .pending
                .rows
                .entry((Some(endpoint), table.id()))
                .or_default();
            let left_out = rows.min(unchanged);
            unchanged -= left_out;
            let most = usize::try_from(rows - left_out).unwrap_or(usize::MAX);
            let mut taken = rows - left_out;
            for refused in refused.by_ref().take(most) {
                taken -= 1;
                self.figures
                    .refused
                    .entry((endpoint, table.id()))
                    .or_default()
                    .add(&refused.reason);
                rejected.push(Rejected::refused(endpoint, &table, refused));
            }
            written.rows += taken;
            written.unchanged += left_out;
            self.held.judge(&self.job, endpoint, &self.figures.refused);
        }
        Ok(())
    }

    /// Returns how many rows are left out, and those that the destination refuses.
    async fn write_batch(
        &mut self,
        table: &Arc<Table>,
        batch: RecordBatch,
    ) -> Result<(u64, Vec<Refused>)> {
        let id = table.id();
        let is_published = self.published.contains(&id);
        let table = self.tables.entry(id).or_insert_with(|| {
            let mut table = Arc::clone(table);
            if is_published {
                Arc::make_mut(&mut table).generation = Generation::Current;
            }
            table
        });
        if self.transaction.is_none() {
            self.transaction = Some(patiently(&self.job, |destination| destination.begin()).await?);
        }
        match &mut self.transaction {
            Some(transaction) => Ok((
                transaction.write(table, batch).await?,
                transaction.refused(),
            )),
            None => Ok((0, Vec::new())),
        }
    }

    async fn write_rejected(&mut self, all: &[Rejected]) -> Result<()> {
        let mut sources: BTreeMap<&str, Vec<&Rejected>> = BTreeMap::new();
        for rejected in all {
            if !rejected.is_quarantined {
                self.figures
                    .tables
                    .entry((rejected.endpoint, rejected.table.id()))
                    .or_default()
                    .rejected += 1;
            }
            sources
                .entry(&rejected.table.source)
                .or_default()
                .push(rejected);
        }
        for (source, rejected) in sources {
            let table = Arc::new(rejected::table(source));
            if !self.tables.contains_key(&table.id()) {
                let tables = [Arc::clone(&table)];
                patiently(&self.job, |destination| destination.prepare(&tables)).await?;
            }
            let rows = rejected.len() as u64;
            let unchanged = match rejected::rows(rejected, self.job.clock.now())? {
                Some(batch) => {
                    let (unchanged, refused) = self.write_batch(&table, batch).await?;
                    if let Some(Refused { reason, .. }) = refused.first() {
                        let message =
                            format!("the table of rejected records refuses a row: {reason}");
                        return Err(Error::new(ErrorKind::Destination, message)
                            .with_help("remove the rule that was added to that table"));
                    }
                    unchanged
                }
                None => 0,
            };
            self.pending
                .rows
                .entry((None, table.id()))
                .or_default()
                .rows += rows.saturating_sub(unchanged);
        }
        Ok(())
    }

    /// Commits what was written, if there is anything.
    pub(super) async fn commit(&mut self) -> Result<()> {
        self.check()?;
        let pending = std::mem::take(&mut self.pending);
        if pending.changes.is_empty() && pending.rows.is_empty() {
            return Ok(());
        }
        let committed = self.try_commit(pending).await;
        self.failed |= committed.is_err();
        committed
    }

    async fn try_commit(&mut self, pending: Pending) -> Result<()> {
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => patiently(&self.job, |destination| destination.begin()).await?,
        };
        let mut table_rows: BTreeMap<TableId, u64> = BTreeMap::new();
        for ((_, id), written) in pending.rows.iter().filter(|(_, written)| written.rows > 0) {
            *table_rows.entry(id.clone()).or_default() += written.rows;
        }
        let rows = table_rows.values().sum();
        let commit = Commit {
            run: self.job.run.clone(),
            at: self.job.clock.now(),
            changes: pending.changes,
            publish: pending.publish.into_iter().collect(),
            discard: pending.discard.into_iter().collect(),
            keep: pending.keep,
            rows: table_rows.into_iter().collect(),
            bytes: pending.bytes,
            content_hash: format!("{:032x}", pending.content_hash),
        };
        let sequence = transaction.commit(&commit).await?;
        self.figures.commits += 1;
        self.figures.finished.extend(pending.finished);
        for ((endpoint, id), written) in pending.rows {
            let Some(endpoint) = endpoint else { continue };
            let figures = self.figures.tables.entry((endpoint, id)).or_default();
            figures.rows += written.rows;
            figures.unchanged += written.unchanged;
        }
        self.tables.retain(|id, _| !commit.publish.contains(id));
        self.published.extend(commit.publish);
        self.job.observer.observe(&Event::Committed {
            sequence,
            rows,
            bytes: pending.bytes,
        });
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.failed {
            return Err(Error::new(
                ErrorKind::Destination,
                "the destination failed earlier in this run",
            )
            .with_help("run again"));
        }
        Ok(())
    }

    fn tell_drift(&mut self, table: &Table, drift: Vec<Drift>) {
        for Drift {
            field,
            kind,
            count: records,
        } in drift
        {
            let reason = describe(kind);
            self.job.observer.observe(&Event::Drift {
                source: &table.source,
                stream: &table.stream,
                field: &field,
                reason,
                records,
            });
            let known = self.figures.drift.entry(table.id()).or_default();
            // Objects that are used as maps have other names on every page.
            let is_counted =
                known.len() < MOST_DRIFT || known.contains_key(&(field.clone(), reason));
            let field = if is_counted {
                field
            } else {
                OTHER_FIELDS.to_owned()
            };
            *known.entry((field, reason)).or_default() += records;
        }
    }

    /// Throws away what was written since the last commit.
    pub(super) fn rollback(&mut self) {
        self.transaction = None;
        self.pending = Pending::default();
    }
}

fn describe(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::UnknownField => "not declared: kept in _extra",
        DriftKind::TypeMismatch => "does not fit its column: kept in _extra",
        DriftKind::InnerMismatch => "does not fit its column: kept in the member that it stands in",
        DriftKind::RepeatedField => "written twice in a record: the last value counts",
    }
}
