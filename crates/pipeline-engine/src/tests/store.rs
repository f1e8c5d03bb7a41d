//! A destination in memory that can fail, for the engine's tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use async_trait::async_trait;
use pipeline_core::state::{EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, Result, RunRecord};

use crate::destination::{
    Commit, CommitRecord, Damage, Delivery, Depth, Destination, Generation, Keep, Refused, Status,
    Table, Transaction,
};

type Rows = Vec<(String, i64)>;

#[derive(Clone, Debug, Default)]
struct Contents {
    kept: Vec<Keep>,
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
    /// The sources that are claimed; none: claims are not kept, so that two writers can meet.
    claims: Option<Arc<Mutex<BTreeSet<String>>>>,
    runs: Mutex<Vec<RunRecord>>,
    /// True when runs cannot be recorded.
    forgets: AtomicBool,
    /// What it finds when it is verified.
    damages: Mutex<Vec<Damage>>,
    /// How often another process is still in the way of a transaction.
    busy: AtomicUsize,
    /// Ids of rows that it refuses.
    refuses: Arc<Mutex<BTreeSet<String>>>,
    /// Names of the tables that it was told of before anything was read.
    prepared: Mutex<BTreeSet<String>>,
}

/// Gives the claim on a source back.
struct Claimed(Arc<Mutex<BTreeSet<String>>>, String);

impl Drop for Claimed {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

impl Store {
    pub(super) fn new() -> Arc<Self> {
        Self::build(true, None)
    }

    /// Lets one run at a time claim a source.
    pub(super) fn exclusive() -> Arc<Self> {
        Self::build(true, Some(Arc::default()))
    }

    pub(super) fn appending() -> Arc<Self> {
        Self::build(false, None)
    }

    fn build(upserts: bool, claims: Option<Arc<Mutex<BTreeSet<String>>>>) -> Arc<Self> {
        Arc::new(Self {
            contents: Arc::default(),
            upserts,
            attempts: AtomicUsize::new(0),
            fail_at: AtomicUsize::new(usize::MAX),
            claims,
            runs: Mutex::default(),
            forgets: AtomicBool::new(false),
            damages: Mutex::default(),
            busy: AtomicUsize::new(0),
            refuses: Arc::default(),
            prepared: Mutex::default(),
        })
    }

    pub(super) fn damage(&self, damages: Vec<Damage>) {
        *self.damages.lock().unwrap() = damages;
    }

    /// Lets another process be in the way of so many attempts to open a transaction.
    pub(super) fn be_busy(&self, attempts: usize) {
        self.busy.store(attempts, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, id: &str) {
        self.refuses.lock().unwrap().insert(id.to_owned());
    }

    /// The rule that refused a row is gone.
    pub(super) fn accept(&self, id: &str) {
        self.refuses.lock().unwrap().remove(id);
    }

    pub(super) fn prepared(&self) -> Vec<String> {
        self.prepared.lock().unwrap().iter().cloned().collect()
    }

    /// Loses what is stored of an endpoint.
    pub(super) fn forget(&self, endpoint: &str) {
        self.contents
            .lock()
            .unwrap()
            .states
            .remove(&EndpointId::new("shop", endpoint));
    }

    /// Resets what is stored of an endpoint.
    pub(super) fn reset(&self, endpoint: &str) {
        let id = EndpointId::new("shop", endpoint);
        let state = self.state_at(&id).reset();
        self.contents.lock().unwrap().states.insert(id, state);
    }

    pub(super) fn forget_runs(&self) {
        self.forgets.store(true, Ordering::Relaxed);
    }

    /// The runs that are recorded, the newest last.
    pub(super) fn recorded(&self) -> Vec<RunRecord> {
        self.runs.lock().unwrap().clone()
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
        self.rows(table)
            .into_iter()
            .find(|(known, _)| known == id)
            .unwrap()
            .1
    }

    fn rows(&self, table: &str) -> Rows {
        self.contents
            .lock()
            .unwrap()
            .tables
            .get(&(table.to_owned(), false))
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn state(&self, endpoint: &str) -> EndpointState {
        self.state_at(&EndpointId::new("shop", endpoint))
    }

    pub(super) fn change_state(&self, endpoint: &str, change: impl FnOnce(&mut EndpointState)) {
        change(
            self.contents
                .lock()
                .unwrap()
                .states
                .get_mut(&EndpointId::new("shop", endpoint))
                .unwrap(),
        );
    }

    pub(super) fn state_at(&self, endpoint: &EndpointId) -> EndpointState {
        self.contents
            .lock()
            .unwrap()
            .states
            .get(endpoint)
            .cloned()
            .unwrap_or_default()
    }

    /// What was to stay when tables were published. The rows are not carried over here.
    pub(super) fn kept(&self) -> Vec<Keep> {
        self.contents.lock().unwrap().kept.clone()
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

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        let Some(claims) = &self.claims else {
            return Ok(Box::new(()));
        };
        if claims.lock().unwrap().insert(source.to_owned()) {
            return Ok(Box::new(Claimed(Arc::clone(claims), source.to_owned())));
        }
        Err(Error::new(
            ErrorKind::CheckpointConflict,
            format!("another sync reads {source}"),
        )
        .with_context("run", run))
    }

    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        if self.forgets.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Destination, "the disk is full"));
        }
        let mut runs = self.runs.lock().unwrap();
        match runs.iter_mut().find(|known| known.run == run.run) {
            Some(known) => *known = run.clone(),
            None => runs.push(run.clone()),
        }
        Ok(())
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        Ok(self
            .runs
            .lock()
            .unwrap()
            .iter()
            .rev()
            .take(limit)
            .cloned()
            .collect())
    }

    async fn verify(&self, _: Depth) -> Result<Vec<Damage>> {
        Ok(self.damages.lock().unwrap().clone())
    }

    async fn prepare(&self, tables: &[Arc<Table>]) -> Result<()> {
        self.prepared
            .lock()
            .unwrap()
            .extend(tables.iter().map(|table| table.stream.clone()));
        Ok(())
    }

    async fn states(&self, source: &str) -> Result<BTreeMap<EndpointId, EndpointState>> {
        let states = self.contents.lock().unwrap().states.clone();
        Ok(states
            .into_iter()
            .filter(|(id, _)| id.source == source)
            .collect())
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        if self
            .busy
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| {
                busy.checked_sub(1)
            })
            .is_ok()
        {
            return Err(Error::new(
                ErrorKind::Destination,
                "the store is used by another process",
            )
            .temporary());
        }
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = attempt == self.fail_at.load(Ordering::Relaxed);
        Ok(Box::new(Staged {
            contents: Arc::clone(&self.contents),
            upserts: self.upserts,
            fails,
            refuses: Arc::clone(&self.refuses),
            refused: Vec::new(),
            batches: Vec::new(),
        }))
    }

    async fn status(&self, _commits: usize) -> Result<Status> {
        Ok(Status::default())
    }
}

struct Staged {
    contents: Arc<Mutex<Contents>>,
    upserts: bool,
    fails: bool,
    refuses: Arc<Mutex<BTreeSet<String>>>,
    refused: Vec<Refused>,
    batches: Vec<(Arc<Table>, RecordBatch)>,
}

#[async_trait]
impl Transaction for Staged {
    async fn write(&mut self, table: &Arc<Table>, batch: RecordBatch) -> Result<u64> {
        let (unwanted, rows) = (self.refuses.lock().unwrap(), rows_of(&batch));
        let is_refused = |id: &str| table.stream != "_rejected" && unwanted.contains(id);
        let refused = rows
            .iter()
            .enumerate()
            .filter(|(_, (id, _))| is_refused(id));
        self.refused = refused
            .map(|(row, _)| Refused {
                row,
                reason: "it breaks a rule".to_owned(),
            })
            .collect();
        self.batches.push((Arc::clone(table), batch));
        Ok(0)
    }

    fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<u64> {
        if self.fails {
            return Err(Error::new(ErrorKind::Destination, "the disk is full"));
        }
        let mut contents = self.contents.lock().unwrap();
        let mut next = contents.clone();
        for change in &commit.changes {
            next.states
                .entry(change.endpoint().clone())
                .or_default()
                .apply(change)?;
        }
        for table in &commit.discard {
            next.tables.remove(&(table.stream.clone(), true));
        }
        for (table, batch) in &self.batches {
            let rows = next
                .tables
                .entry((table.stream.clone(), table.generation == Generation::Next))
                .or_default();
            let refuses = self.refuses.lock().unwrap();
            for row in rows_of(batch)
                .into_iter()
                .filter(|(id, _)| table.stream == "_rejected" || !refuses.contains(id))
            {
                if self.upserts && table.primary_key.iter().any(|column| column == "id") {
                    rows.retain(|(id, _)| *id != row.0);
                }
                rows.push(row);
            }
        }
        next.kept.extend(commit.keep.iter().cloned());
        for table in &commit.publish {
            let published = next
                .tables
                .remove(&(table.stream.clone(), true))
                .unwrap_or_default();
            next.tables.insert((table.stream.clone(), false), published);
        }
        let sequence = next.log.len() as u64 + 1;
        next.log.push(commit.clone().record(sequence));
        *contents = next;
        Ok(sequence)
    }
}

fn rows_of(batch: &RecordBatch) -> Rows {
    let text = |name: &str| {
        batch
            .column_by_name(name)
            .map(|column| column.as_string::<i32>().clone())
    };
    let (accounts, ids) = (
        text("company"),
        batch
            .column_by_name("id")
            .unwrap_or(batch.column(0))
            .as_string::<i32>(),
    );
    let id = |row| {
        accounts.as_ref().map_or(String::new(), |accounts| {
            format!("{}/", accounts.value(row))
        }) + ids.value(row)
    };
    let values = batch
        .column_by_name("value")
        .map(|values| values.as_primitive::<Int64Type>().clone());
    (0..batch.num_rows())
        .map(|row| {
            (
                id(row),
                values.as_ref().map_or(0, |values| values.value(row)),
            )
        })
        .collect()
}
