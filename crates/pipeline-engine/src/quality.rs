//! Checks of rows before they reach the destination.
//!
//! They are evaluated once for each batch, on its columns, between decoding and writing. What a row
//! that breaks one leads to is the user's choice ([`OnFailure`]): it is written and counted, or it
//! is kept in the quarantine, or its endpoint stops in front of it.

mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use pipeline_core::{Error, ErrorKind, RawRecord, Result};
use serde::Serialize;

use self::rule::Rows;
pub use self::rule::{QualityRule, RangeBound};
use crate::destination::Table;
use crate::rejected::{Quarantined, Rejected, key_of};

/// Value of the column `cause` of rejected records that a check keeps out.
const CAUSE: &str = "quality";

/// A rule about one stream, and what a row that breaks it leads to.
#[derive(Clone, Debug)]
pub struct QualityCheck {
    /// The stream's name.
    pub stream: String,
    /// The rule.
    pub rule: QualityRule,
    /// What follows.
    pub on_failure: OnFailure,
}

/// What a row that breaks a rule leads to, the mildest first: of several the most severe one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The row is written, and counted.
    Warn,
    /// The row is kept in the table of rejected records instead, in the same commit, and counted.
    #[default]
    Quarantine,
    /// The endpoint stops: nothing of the batch is committed, and the next run begins with it.
    Stop,
}

/// The checks of each source, by its name.
pub(super) type SourceChecks = BTreeMap<String, Vec<QualityCheck>>;

/// The checks of a table's source.
fn checks_in<'a>(all: &'a SourceChecks, table: &Table) -> &'a [QualityCheck] {
    all.get(&table.source).map_or(&[], Vec::as_slice)
}

/// The checks of a table, with their numbers in the source.
fn checks_of<'a>(
    all: &'a SourceChecks,
    table: &'a Table,
) -> impl Iterator<Item = (usize, &'a QualityCheck)> {
    checks_in(all, table)
        .iter()
        .enumerate()
        .filter(|(_, check)| check.stream == table.stream)
}

/// True when records of the table have to be kept as they came until their batch is checked.
pub(super) fn keeps_records(all: &SourceChecks, table: &Table) -> bool {
    checks_of(all, table).any(|(_, check)| check.on_failure == OnFailure::Quarantine)
}

/// Refuses checks of columns that a table does not have.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`], with the column.
pub(super) fn check_columns<'a>(
    all: &SourceChecks,
    tables: impl Iterator<Item = &'a Arc<Table>>,
) -> Result<()> {
    for table in tables {
        for (_, check) in checks_of(all, table) {
            let is_unknown = |name: &&str| table.schema.column_with_name(name).is_none();
            if let Some(column) = check.rule.columns().into_iter().find(is_unknown) {
                let message = format!("a quality check reads an unknown column `{column}`");
                return Err(Error::new(ErrorKind::ConfigInvalid, message)
                    .with_context("stream", &*table.stream));
            }
        }
    }
    Ok(())
}

/// Records of the rows of a batch as they came, in one piece of memory.
#[derive(Default)]
pub(super) struct Originals {
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Originals {
    pub(super) fn push(&mut self, record: &RawRecord) {
        self.bytes.extend_from_slice(&record.as_bytes());
        self.ends.push(self.bytes.len());
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }

    fn get(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[row]]
    }
}

/// What rows of one stream broke.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken {
    pub(super) records: u64,
    /// The primary key of the first.
    pub(super) first: Option<String>,
}

impl Broken {
    pub(super) fn join(&mut self, later: Self) {
        self.records += later.records;
        self.first = self.first.take().or(later.first);
    }
}

/// The rows of a table that are about to be written.
pub(super) struct Batches {
    pub(super) table: Arc<Table>,
    pub(super) parts: Vec<RecordBatch>,
    /// Whose rows they are, in their order: an endpoint's number in the run, and how many.
    pub(super) owners: Vec<(usize, u64)>,
    pub(super) originals: Option<Originals>,
    faults: Vec<Fault>,
}

/// A row that breaks checks.
struct Fault {
    /// Its number in all batches.
    row: usize,
    endpoint: usize,
    /// The checks, by their numbers in the source.
    checks: Vec<usize>,
    on_failure: OnFailure,
    key: Option<String>,
}

impl Batches {
    pub(super) fn new(
        table: &Arc<Table>,
        parts: Vec<RecordBatch>,
        owners: Vec<(usize, u64)>,
        originals: Option<Originals>,
    ) -> Self {
        Self {
            table: Arc::clone(table),
            parts,
            owners,
            originals,
            faults: Vec::new(),
        }
    }

    /// Finds the rows that break checks.
    ///
    /// # Errors
    /// When a column's type is not one that the engine produces.
    pub(super) fn judge(&mut self, all: &SourceChecks) -> Result<()> {
        let checks: Vec<_> = checks_of(all, &self.table).collect();
        if checks.is_empty() {
            return Ok(());
        }
        let mut first = 0;
        for batch in &self.parts {
            let rows = Rows::of(batch)?;
            let mut broken: BTreeMap<usize, (OnFailure, Vec<usize>)> = BTreeMap::new();
            for (number, check) in &checks {
                for row in check.rule.broken(&rows, &self.table.primary_key) {
                    let (on_failure, checks) =
                        broken.entry(row).or_insert((OnFailure::Warn, Vec::new()));
                    *on_failure = (*on_failure).max(check.on_failure);
                    checks.push(*number);
                }
            }
            for (row, (on_failure, checks)) in broken {
                self.faults.push(Fault {
                    row: first + row,
                    endpoint: owner(&self.owners, first + row),
                    checks,
                    on_failure,
                    key: key_of(&self.table, &rows.columns, row),
                });
            }
            first += batch.num_rows();
        }
        Ok(())
    }

    /// The endpoints that stop in front of these rows, and why.
    pub(super) fn stops(&self, all: &SourceChecks) -> BTreeMap<usize, Error> {
        let mut stops: BTreeMap<usize, (usize, u64, Option<&str>)> = BTreeMap::new();
        let checks = checks_in(all, &self.table);
        for fault in &self.faults {
            let stopping = fault
                .checks
                .iter()
                .find(|number| checks[**number].on_failure == OnFailure::Stop);
            if let Some(number) = stopping {
                let (_, rows, _) =
                    stops
                        .entry(fault.endpoint)
                        .or_insert((*number, 0, fault.key.as_deref()));
                *rows += 1;
            }
        }
        let stream = &self.table.stream;
        stops
            .into_iter()
            .map(|(endpoint, (number, rows, key))| {
                (endpoint, stop(stream, &checks[number], rows, key))
            })
            .collect()
    }

    /// Takes out the rows that may not be written: those in quarantine, those that their endpoint
    /// stops in front of, and the others of such an endpoint, whose position is not committed.
    ///
    /// # Errors
    /// When a batch cannot be filtered.
    pub(super) fn sift(
        &mut self,
        all: &SourceChecks,
        stopped: &BTreeSet<usize>,
    ) -> Result<Vec<Rejected>> {
        let is_stopped = |endpoint: &usize| stopped.contains(endpoint);
        if !self.owners.iter().any(|(owner, _)| is_stopped(owner)) && self.faults.is_empty() {
            return Ok(Vec::new());
        }
        let mut stays: Vec<bool> = Vec::new();
        for (endpoint, rows) in &self.owners {
            let rows = usize::try_from(*rows).unwrap_or(usize::MAX);
            stays.resize(stays.len() + rows, !is_stopped(endpoint));
        }
        let mut quarantined = Vec::new();
        for fault in &self.faults {
            if fault.on_failure == OnFailure::Warn || !stays[fault.row] {
                continue;
            }
            stays[fault.row] = false;
            quarantined.extend(self.quarantined(fault, checks_in(all, &self.table)));
        }
        self.keep(&stays)?;
        Ok(quarantined)
    }

    fn quarantined(&self, fault: &Fault, checks: &[QualityCheck]) -> Option<Rejected> {
        let reasons: Vec<String> = fault
            .checks
            .iter()
            .map(|number| checks[*number].rule.to_string())
            .collect();
        let record = Quarantined {
            cause: CAUSE,
            reason: &reasons.join("; "),
            key: fault.key.as_deref(),
            record: self.originals.as_ref()?.get(fault.row),
        };
        Some(Rejected::quarantined(fault.endpoint, &self.table, &record))
    }

    /// How many rows are of which endpoint, by its number in the run.
    pub(super) fn rows(&self) -> BTreeMap<usize, u64> {
        let mut rows = BTreeMap::new();
        for (endpoint, count) in self.owners.iter().filter(|(_, count)| *count > 0) {
            *rows.entry(*endpoint).or_default() += count;
        }
        rows
    }

    /// What rows broke, by endpoint and number of the check.
    pub(super) fn broken(&self) -> BTreeMap<(usize, usize), Broken> {
        let mut found: BTreeMap<(usize, usize), Broken> = BTreeMap::new();
        for fault in &self.faults {
            for check in &fault.checks {
                let broken = found.entry((fault.endpoint, *check)).or_default();
                broken.records += 1;
                broken.first = broken.first.take().or_else(|| fault.key.clone());
            }
        }
        found
    }

    /// Leaves out the rows that do not stay.
    fn keep(&mut self, stays: &[bool]) -> Result<()> {
        let mut rest = stays.iter();
        for (_, count) in &mut self.owners {
            let stay = (0..*count).filter(|_| rest.next().is_some_and(|stays| *stays));
            *count = stay.count() as u64;
        }
        let mut first = 0;
        for batch in &mut self.parts {
            let part = &stays[first..first + batch.num_rows()];
            first += batch.num_rows();
            if part.iter().all(|stays| *stays) {
                continue;
            }
            *batch = filter_record_batch(batch, &BooleanArray::from(part.to_vec())).map_err(
                |error| {
                    Error::new(
                        ErrorKind::Unexpected,
                        "rows could not be taken out of a batch",
                    )
                    .with_source(error)
                },
            )?;
        }
        self.parts.retain(|batch| batch.num_rows() > 0);
        Ok(())
    }
}

/// Whose row one is.
fn owner(owners: &[(usize, u64)], row: usize) -> usize {
    let mut left = row as u64;
    for (endpoint, rows) in owners {
        if left < *rows {
            return *endpoint;
        }
        left -= rows;
    }
    unreachable!("every row has been counted for the endpoint that it was read of")
}

/// The error of an endpoint that stops in front of rows.
fn stop(stream: &str, check: &QualityCheck, rows: u64, key: Option<&str>) -> Error {
    let rows = match rows {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    };
    let message = format!(
        "quality check failed: {} in {rows} of `{stream}`",
        check.rule
    );
    let error = Error::new(ErrorKind::Rejected, message).with_help(
        "correct the records at the vendor, or change the check or its `on_failure`; the table keeps \
         its rows, and the next sync begins with these records",
    );
    match key {
        Some(key) => error.with_context("first", key),
        None => error,
    }
}
