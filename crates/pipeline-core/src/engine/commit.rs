//! Group commit: complete pages of all slices go into one open transaction, and are committed with their positions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::decode::{Decoder, DriftKind, Rejection};
use super::{Job, Options};
use crate::destination::{Commit, Generation, Table, TableId, Transaction};
use crate::error::Result;
use crate::event::Event;
use crate::record::RawRecord;
use crate::schema::{DataType, Field, Schema};
use crate::state::Change;

/// Name of the table that keeps, per source, what cannot be a row.
const REJECTED: &str = "_rejected";

/// Columns of that table.
static REJECTED_FIELDS: [Field; 3] =
    [Field::new("stream", DataType::String), Field::new("reason", DataType::String), Field::new("record", DataType::String)];

/// A record and its hash: 128 bits for the commit's content hash, of which 64 recognise a repetition.
pub(super) struct Hashed {
    pub(super) record: RawRecord,
    pub(super) hash: u128,
}

/// What became of the records that one endpoint read for one table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableFigures {
    /// Rows committed.
    pub(super) rows: u64,
    /// Records kept in [`REJECTED`].
    pub(super) rejected: u64,
}

/// Members kept in `_extra`: by name and reason.
pub(super) type Drift = BTreeMap<(String, &'static str), u64>;

/// Decodes records into batches, stages them, and commits them together with the positions that they lead to.
pub(super) struct Committer {
    job: Arc<Job>,
    transaction: Option<Box<dyn Transaction>>,
    buffers: BTreeMap<TableId, Buffer>,
    pending: Pending,
    /// By the endpoint's number in the run.
    figures: BTreeMap<(usize, TableId), TableFigures>,
    drift: BTreeMap<TableId, Drift>,
    commits: u64,
}

struct Buffer {
    table: Arc<Table>,
    decoder: Decoder,
}

/// What the next commit will make true.
#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    publish: Vec<TableId>,
    discard: Vec<TableId>,
    /// By the endpoint's number in the run; it has none where the engine makes rows of its own.
    rows: BTreeMap<(Option<usize>, TableId), u64>,
    bytes: u64,
    content_hash: u128,
    since: Option<Instant>,
}

impl Committer {
    pub(super) fn new(job: Arc<Job>) -> Self {
        Self {
            job,
            transaction: None,
            buffers: BTreeMap::new(),
            pending: Pending::default(),
            figures: BTreeMap::new(),
            drift: BTreeMap::new(),
            commits: 0,
        }
    }

    /// Makes a table known.
    pub(super) fn add_table(&mut self, table: &Arc<Table>, schema: &Schema) {
        let key: Vec<_> = table.primary_key.iter().cloned().map(Into::into).collect();
        self.buffers.entry(table.id()).or_insert_with(|| Buffer { table: Arc::clone(table), decoder: Decoder::new(schema, &key) });
    }

    /// Takes the records of one page of an endpoint for one table.
    pub(super) async fn stage(&mut self, endpoint: usize, table: &Arc<Table>, records: &[Hashed]) -> Result<()> {
        let now = self.job.clock.now();
        let mut rejected = Vec::new();
        let id = table.id();
        let Some(buffer) = self.buffers.get_mut(&id) else { return Ok(()) };
        for Hashed { record, hash } in records {
            match buffer.decoder.push(record, now) {
                Ok(()) => {
                    self.pending.content_hash = self.pending.content_hash.wrapping_add(*hash);
                    self.pending.bytes += record.as_bytes().len() as u64;
                }
                Err(rejection) => rejected.push((record, rejection)),
            }
        }
        let accepted = (records.len() - rejected.len()) as u64;
        *self.pending.rows.entry((Some(endpoint), id.clone())).or_default() += accepted;
        self.pending.since.get_or_insert_with(Instant::now);
        self.figures.entry((endpoint, id.clone())).or_default().rejected += rejected.len() as u64;
        for (record, rejection) in rejected {
            self.reject(table, record, &rejection).await?;
        }
        if self.buffers[&id].decoder.bytes() >= self.job.options.batch_bytes {
            self.flush(&id).await?;
        }
        self.flush_largest().await
    }

    /// Keeps what cannot be a row, with the reason, in a table of its own.
    async fn reject(&mut self, table: &Table, record: &RawRecord, rejection: &Rejection) -> Result<()> {
        let id = TableId { source: table.source.clone(), stream: REJECTED.to_owned() };
        if !self.buffers.contains_key(&id) {
            let columns = Schema::from_static(&REJECTED_FIELDS);
            let schema = Decoder::arrow_schema(&columns);
            let TableId { source, stream } = id.clone();
            let rejected = Arc::new(Table { source, stream, primary_key: Vec::new(), schema, generation: Generation::Current });
            self.job.destination.prepare(&[Arc::clone(&rejected)]).await?;
            self.add_table(&rejected, &columns);
        }
        let (stream, reason) = (&table.stream, rejection.to_string());
        let text = String::from_utf8_lossy(record.as_bytes());
        let row = serde_json::json!({ "stream": stream, "reason": reason, "record": text }).to_string();
        if let Some(buffer) = self.buffers.get_mut(&id) {
            let now = self.job.clock.now();
            // A row made here has no key and is an object, so it is not rejected in turn.
            let _ = buffer.decoder.push(&RawRecord::upsert(row), now);
        }
        *self.pending.rows.entry((None, id)).or_default() += 1;
        Ok(())
    }

    /// Keeps the sum of all builders bounded, however many streams there are.
    async fn flush_largest(&mut self) -> Result<()> {
        while self.buffers.values().map(|buffer| buffer.decoder.bytes()).sum::<usize>() >= 2 * self.job.options.batch_bytes {
            let largest = self.buffers.iter().max_by_key(|(_, buffer)| buffer.decoder.bytes()).map(|(id, _)| id.clone());
            let Some(largest) = largest else { return Ok(()) };
            self.flush(&largest).await?;
        }
        Ok(())
    }

    /// Writes what is buffered for one table to the transaction.
    async fn flush(&mut self, id: &TableId) -> Result<()> {
        let Some(buffer) = self.buffers.get_mut(id) else { return Ok(()) };
        let Some(batch) = buffer.decoder.finish()? else { return Ok(()) };
        let drifted = self.drift.entry(id.clone()).or_default();
        for drift in buffer.decoder.drift() {
            let (reason, records) = (describe(drift.kind), drift.count);
            let (source, stream, field) = (&*id.source, &*id.stream, &*drift.field);
            self.job.observer.observe(&Event::Drift { source, stream, field, reason, records });
            *drifted.entry((drift.field, reason)).or_default() += records;
        }
        let table = Arc::clone(&buffer.table);
        if self.transaction.is_none() {
            self.transaction = Some(self.job.destination.begin().await?);
        }
        match &mut self.transaction {
            Some(transaction) => transaction.write(&table, batch).await,
            None => Ok(()),
        }
    }

    /// Takes a change of a checkpoint, to be committed with the records staged before it.
    pub(super) fn change(&mut self, change: Change) {
        self.pending.since.get_or_insert_with(Instant::now);
        if !coalesce(&mut self.pending.changes, &change) {
            self.pending.changes.push(change);
        }
    }

    /// Replaces the visible rows of a table by its next generation at the next commit. What is staged until then belongs
    /// to that generation, what is staged later to the visible rows.
    pub(super) fn publish(&mut self, table: TableId) {
        if !self.pending.publish.contains(&table) {
            self.pending.publish.push(table);
        }
    }

    /// Empties the next generation of a table at the next commit.
    pub(super) fn discard(&mut self, table: TableId) {
        if !self.pending.discard.contains(&table) {
            self.pending.discard.push(table);
        }
    }

    /// Commits when enough is staged, or has been for long enough.
    pub(super) async fn commit_if_due(&mut self) -> Result<()> {
        let Options { commit_bytes, commit_interval, .. } = self.job.options;
        let age = self.pending.since.map_or(Duration::ZERO, |since| since.elapsed());
        if self.pending.bytes >= commit_bytes || age >= commit_interval { self.commit().await } else { Ok(()) }
    }

    /// Commits everything staged, if there is anything.
    pub(super) async fn commit(&mut self) -> Result<()> {
        let buffered: Vec<TableId> = self.buffers.iter().filter(|(_, b)| !b.decoder.is_empty()).map(|(id, _)| id.clone()).collect();
        for id in buffered {
            self.flush(&id).await?;
        }
        let pending = std::mem::take(&mut self.pending);
        if pending.changes.is_empty() && pending.rows.values().all(|rows| *rows == 0) {
            return Ok(());
        }
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => self.job.destination.begin().await?,
        };
        let mut table_rows: BTreeMap<TableId, u64> = BTreeMap::new();
        for ((_, id), rows) in pending.rows.iter().filter(|(_, rows)| **rows > 0) {
            *table_rows.entry(id.clone()).or_default() += rows;
        }
        let rows = table_rows.values().sum();
        let commit = Commit {
            run: self.job.run.clone(),
            at: self.job.clock.now(),
            changes: pending.changes,
            publish: pending.publish,
            discard: pending.discard,
            rows: table_rows.into_iter().collect(),
            bytes: pending.bytes,
            content_hash: format!("{:032x}", pending.content_hash),
        };
        let sequence = transaction.commit(&commit).await?;
        self.commits += 1;
        for id in &commit.publish {
            if let Some(buffer) = self.buffers.get_mut(id) {
                Arc::make_mut(&mut buffer.table).generation = Generation::Current;
            }
        }
        for ((endpoint, id), rows) in pending.rows {
            let Some(endpoint) = endpoint else { continue };
            self.figures.entry((endpoint, id)).or_default().rows += rows;
        }
        self.job.observer.observe(&Event::Committed { sequence, rows, bytes: pending.bytes });
        Ok(())
    }

    /// Throws away what is staged.
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.transaction = None;
        self.pending = Pending::default();
        for buffer in self.buffers.values_mut() {
            buffer.decoder.finish()?;
        }
        Ok(())
    }

    /// What became of the records that an endpoint, named by its number in the run, read for a table.
    pub(super) fn figures(&self, endpoint: usize, table: &TableId) -> TableFigures {
        self.figures.get(&(endpoint, table.clone())).copied().unwrap_or_default()
    }

    /// What did not go to the columns of a table. To be told once.
    pub(super) fn take_drift(&mut self, table: &TableId) -> Drift {
        self.drift.remove(table).unwrap_or_default()
    }

    /// Commits made.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }
}

/// Joins an advance with the one that it continues, unless the endpoint's plan was replaced in between.
fn coalesce(changes: &mut [Change], change: &Change) -> bool {
    let Change::Advance { endpoint, slice, from, to, reached, seen, .. } = change else { return false };
    for earlier in changes.iter_mut().rev().filter(|earlier| earlier.endpoint() == endpoint) {
        match earlier {
            Change::Replace { .. } => return false,
            Change::Advance { slice: s, to: t, reached: r, seen: known, .. } if s == slice && t == from => {
                t.clone_from(to);
                *r = reached.or(*r);
                known.extend(seen.iter().copied());
                return true;
            }
            Change::Advance { .. } => {}
        }
    }
    false
}

fn describe(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::UnknownField => "not declared: kept in _extra",
        DriftKind::TypeMismatch => "does not fit its column: kept in _extra",
        DriftKind::RepeatedField => "written twice in a record: the last value counts",
    }
}
