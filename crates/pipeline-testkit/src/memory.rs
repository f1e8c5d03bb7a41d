//! A destination in memory, for tests of what a sync leaves in its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, RUN_CAPACITY, Result, RunRecord};
use pipeline_engine::cell::Column;
use pipeline_engine::{
    Commit, DELETED, Delivery, Destination, Generation, Keep, SYNCED_AT, Status, Table, TableId,
    Transaction,
};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// A row: its columns that are not null, as text.
pub type TextRow = BTreeMap<String, String>;

/// A table, and whether it is the generation that is not visible yet.
type Place = (TableId, bool);

/// Keeps rows by their key, and checkpoints, until it is dropped.
#[derive(Debug, Default)]
pub struct MemoryDestination {
    contents: Arc<Mutex<Contents>>,
    held: Arc<RwLock<()>>,
    /// The sources that are claimed.
    claims: Arc<Mutex<BTreeSet<String>>>,
    /// The newest last.
    runs: Mutex<Vec<RunRecord>>,
}

/// Gives the claim on a source back.
struct Claimed(Arc<Mutex<BTreeSet<String>>>, String);

impl Drop for Claimed {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

#[derive(Clone, Debug, Default)]
struct Contents {
    tables: BTreeMap<Place, BTreeMap<String, TextRow>>,
    states: BTreeMap<EndpointId, EndpointState>,
    commits: u64,
}

impl MemoryDestination {
    /// The visible rows of a stream, in the order of their keys.
    pub fn rows(&self, source: &str, stream: &str) -> Vec<TextRow> {
        let table = TableId {
            source: source.to_owned(),
            stream: stream.to_owned(),
        };
        lock(&self.contents)
            .tables
            .get(&(table, false))
            .map(|rows| rows.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Lets nothing be written until what is returned is dropped: a destination that stalls.
    pub async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.held).write_owned().await
    }

    /// One column of the visible rows of a stream, in the order of their keys.
    pub fn column(&self, source: &str, stream: &str, column: &str) -> Vec<String> {
        let value = |mut row: TextRow| row.remove(column).unwrap_or_default();
        self.rows(source, stream).into_iter().map(value).collect()
    }
}

fn lock<T>(contents: &Mutex<T>) -> MutexGuard<'_, T> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Destination for MemoryDestination {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn claim(&self, source: &str, _run: &str) -> Result<Claim> {
        if lock(&self.claims).insert(source.to_owned()) {
            return Ok(Box::new(Claimed(
                Arc::clone(&self.claims),
                source.to_owned(),
            )));
        }
        Err(Error::new(
            ErrorKind::CheckpointConflict,
            "another sync reads this source",
        )
        .with_context("source", source))
    }

    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        let mut runs = lock(&self.runs);
        runs.retain(|known| known.run != run.run);
        runs.push(run.clone());
        runs.sort_by_key(|run| run.started);
        let surplus = runs.len().saturating_sub(RUN_CAPACITY);
        runs.drain(..surplus);
        Ok(())
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        Ok(lock(&self.runs).iter().rev().take(limit).cloned().collect())
    }

    async fn prepare(&self, _tables: &[Arc<Table>]) -> Result<()> {
        Ok(())
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let states = lock(&self.contents).states.clone();
        Ok(states
            .into_iter()
            .filter(|(id, _)| id.source == source)
            .collect())
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(Staged {
            contents: Arc::clone(&self.contents),
            held: Arc::clone(&self.held),
            batches: Vec::new(),
        }))
    }

    async fn status(&self, _commits: usize) -> Result<Status> {
        Ok(Status {
            endpoints: lock(&self.contents).states.clone().into_iter().collect(),
            ..Status::default()
        })
    }
}

struct Staged {
    contents: Arc<Mutex<Contents>>,
    held: Arc<RwLock<()>>,
    batches: Vec<(Arc<Table>, RecordBatch)>,
}

#[async_trait]
impl Transaction for Staged {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let _may = self.held.read().await;
        self.batches.push((Arc::clone(table), batch));
        Ok(0)
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<u64> {
        let mut contents = lock(&self.contents);
        let mut next = contents.clone();
        for change in &commit.changes {
            next.states
                .entry(change.endpoint().clone())
                .or_default()
                .apply(change)?;
        }
        for table in &commit.discard {
            next.tables.remove(&(table.clone(), true));
        }
        for (table, batch) in &self.batches {
            let rows = next
                .tables
                .entry((table.id(), table.generation == Generation::Next))
                .or_default();
            put(rows, table, batch)?;
        }
        for table in &commit.publish {
            let mut published = next
                .tables
                .remove(&(table.clone(), true))
                .unwrap_or_default();
            for (key, row) in next
                .tables
                .remove(&(table.clone(), false))
                .into_iter()
                .flatten()
            {
                if commit
                    .keep
                    .iter()
                    .any(|keep| keep.table == *table && selects(keep, &row))
                {
                    let key = if key.starts_with(KEYLESS) {
                        keyless(published.len())
                    } else {
                        key
                    };
                    published.entry(key).or_insert(row);
                }
            }
            next.tables.insert((table.clone(), false), published);
        }
        next.commits += 1;
        let sequence = next.commits;
        *contents = next;
        Ok(sequence)
    }
}

/// What the keys of rows without a key begin with.
const KEYLESS: char = '\0';

/// The key of the next row of a table without a key that has so many.
fn keyless(rows: usize) -> String {
    format!("{KEYLESS}{rows:012}")
}

/// True when a row has the values that are to be kept.
fn selects(keep: &Keep, row: &TextRow) -> bool {
    let text = |json: &str| serde_json::from_str(json).unwrap_or_else(|_| json.replace("null", ""));
    keep.values
        .iter()
        .all(|(column, json)| row.get(column).map_or("", String::as_str) == text(json))
}

/// The rows of a batch.
pub(crate) fn rows_of(batch: &RecordBatch) -> Result<Vec<TextRow>> {
    let columns = Column::of(batch)?;
    let row = |index: usize| {
        let cells = columns.iter().map(|column| {
            let mut text = String::new();
            column.cell(index).push_text(&mut text);
            (column.name().to_owned(), text)
        });
        cells.filter(|(_, text)| !text.is_empty()).collect()
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// Puts rows in the place of those with the same key; every row without a key is another one. A
/// tombstone removes all rows that have its values.
fn put(rows: &mut BTreeMap<String, TextRow>, table: &Table, batch: &RecordBatch) -> Result<()> {
    for mut row in rows_of(batch)? {
        if row.get(DELETED).is_some_and(|deleted| deleted == "true") {
            row.retain(|column, _| column != DELETED && column != SYNCED_AT);
            rows.retain(|_, known| {
                row.iter()
                    .any(|(column, value)| known.get(column) != Some(value))
            });
            continue;
        }
        let key: Vec<&str> = table
            .primary_key
            .iter()
            .map(|column| row.get(column).map_or("", String::as_str))
            .collect();
        let key = if key.is_empty() {
            keyless(rows.len())
        } else {
            key.join("\u{1f}")
        };
        rows.insert(key, row);
    }
    Ok(())
}
