//! A destination in memory that can fail, for the engine's tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use async_trait::async_trait;

use crate::destination::{Commit, CommitRecord, Delivery, Destination, Generation, Status, Table, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::state::{EndpointId, EndpointState};

type Rows = Vec<(String, i64)>;

#[derive(Clone, Debug, Default)]
struct Contents {
    tables: BTreeMap<(String, bool), Rows>,
    states: BTreeMap<EndpointId, EndpointState>,
    log: Vec<CommitRecord>,
}

#[derive(Debug)]
pub(super) struct Store {
    contents: Arc<Mutex<Contents>>,
    /// False: every row written stays, so that a repetition shows.
    upserts: bool,
    attempts: AtomicUsize,
    fail_at: AtomicUsize,
}

impl Store {
    pub(super) fn new() -> Arc<Self> {
        Self::build(true)
    }

    pub(super) fn appending() -> Arc<Self> {
        Self::build(false)
    }

    fn build(upserts: bool) -> Arc<Self> {
        Arc::new(Self { contents: Arc::default(), upserts, attempts: AtomicUsize::new(0), fail_at: AtomicUsize::new(usize::MAX) })
    }

    pub(super) fn fail_at_commit(&self, commit: usize) {
        self.fail_at.store(commit, Ordering::Relaxed);
    }

    pub(super) fn ids(&self, table: &str) -> Vec<String> {
        let mut ids: Vec<String> = self.rows(table).into_iter().map(|(id, _)| id).collect();
        ids.sort();
        ids
    }

    pub(super) fn len(&self, table: &str) -> usize {
        self.rows(table).len()
    }

    pub(super) fn value_of(&self, table: &str, id: &str) -> i64 {
        self.rows(table).into_iter().find(|(known, _)| known == id).unwrap().1
    }

    fn rows(&self, table: &str) -> Rows {
        self.contents.lock().unwrap().tables.get(&(table.to_owned(), false)).cloned().unwrap_or_default()
    }

    pub(super) fn state(&self, endpoint: &str) -> EndpointState {
        self.state_at(&EndpointId::new("shop", endpoint))
    }

    pub(super) fn state_at(&self, endpoint: &EndpointId) -> EndpointState {
        self.contents.lock().unwrap().states.get(endpoint).cloned().unwrap_or_default()
    }

    pub(super) fn commits(&self) -> usize {
        self.log().len()
    }

    pub(super) fn log(&self) -> Vec<CommitRecord> {
        self.contents.lock().unwrap().log.clone()
    }
}

#[async_trait]
impl Destination for Store {
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
        let states = self.contents.lock().unwrap().states.clone();
        Ok(states.into_iter().filter(|(id, _)| id.source == source).collect())
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = attempt == self.fail_at.load(Ordering::Relaxed);
        Ok(Box::new(Staged { contents: Arc::clone(&self.contents), upserts: self.upserts, fails, batches: Vec::new() }))
    }

    async fn status(&self, _commits: usize) -> Result<Status> {
        Ok(Status::default())
    }
}

struct Staged {
    contents: Arc<Mutex<Contents>>,
    upserts: bool,
    fails: bool,
    batches: Vec<(Arc<Table>, RecordBatch)>,
}

#[async_trait]
impl Transaction for Staged {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        self.batches.push((Arc::clone(table), batch));
        Ok(0)
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<u64> {
        if self.fails {
            return Err(Error::new(ErrorKind::Destination, "the disk is full"));
        }
        let mut contents = self.contents.lock().unwrap();
        let mut next = contents.clone();
        for change in &commit.changes {
            next.states.entry(change.endpoint().clone()).or_default().apply(change)?;
        }
        for table in &commit.discard {
            next.tables.remove(&(table.stream.clone(), true));
        }
        for (table, batch) in &self.batches {
            let rows = next.tables.entry((table.stream.clone(), table.generation == Generation::Next)).or_default();
            for row in rows_of(batch) {
                if self.upserts && table.primary_key.iter().any(|column| column == "id") {
                    rows.retain(|(id, _)| *id != row.0);
                }
                rows.push(row);
            }
        }
        for table in &commit.publish {
            let published = next.tables.remove(&(table.stream.clone(), true)).unwrap_or_default();
            next.tables.insert((table.stream.clone(), false), published);
        }
        let sequence = next.log.len() as u64 + 1;
        next.log.push(commit.clone().record(sequence));
        *contents = next;
        Ok(sequence)
    }
}

fn rows_of(batch: &RecordBatch) -> Rows {
    let text = |name: &str| batch.column_by_name(name).map(|column| column.as_string::<i32>().clone());
    let (accounts, ids) = (text("company"), batch.column_by_name("id").unwrap_or(batch.column(0)).as_string::<i32>());
    let id = |row| accounts.as_ref().map_or(String::new(), |accounts| format!("{}/", accounts.value(row))) + ids.value(row);
    let values = batch.column_by_name("value").map(|values| values.as_primitive::<Int64Type>().clone());
    (0..batch.num_rows()).map(|row| (id(row), values.as_ref().map_or(0, |values| values.value(row)))).collect()
}
