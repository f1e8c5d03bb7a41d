//! The Delta log of a table, for readers of that format.
//!
//! The manifests stay the truth. The log is brought in line with them: an entry says what the last
//! one lacks, so that it does not matter how often, or by whom, that is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::{DataType, Schema, TimeUnit};
use pipeline_core::{Error, ErrorKind, Result, failpoint};
use pipeline_engine::TableId;

use crate::delta::action::{
    Action, Add, CommitInfo, Field, MetaData, Protocol, Remove, Statistics, Txn,
};
use crate::error::{Explain, damaged};
use crate::format::FileFormat;
use crate::manifest::DataFile;
use crate::place::Place;
use crate::store::Store;
use crate::{disk, names};

mod action;

const PROJECTING: &str = "writing the Delta log of a table";
const READING: &str = "reading the Delta log of a table";

/// What brings logs in line with manifests.
#[derive(Debug)]
pub(crate) struct Projector {
    format: Arc<dyn FileFormat>,
    /// What the logs said when they were last read.
    seen: Mutex<BTreeMap<TableId, Snapshot>>,
}

/// What a log says, read up to one of its entries.
#[derive(Debug, Default)]
struct Snapshot {
    /// The number of the next entry.
    next: u64,
    /// The commit that the last entry describes; none while the log is empty.
    sequence: Option<u64>,
    meta: Option<MetaData>,
    /// The files by their names.
    files: BTreeMap<String, Add>,
}

impl Projector {
    pub(crate) fn new(format: Arc<dyn FileFormat>) -> Self {
        Self {
            format,
            seen: Mutex::default(),
        }
    }

    fn take(&self, table: &TableId) -> Snapshot {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(table).unwrap_or_default()
    }

    fn keep(&self, table: &TableId, snapshot: Snapshot) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(table.clone(), snapshot);
    }
}

impl Store {
    /// Brings the log of a table in line with the last commit that was read. The files that an entry
    /// names are in their places before it is written. Where a column has changed its type, the log
    /// stays behind until the table is refreshed, with a warning.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the log cannot be read or written, or is not ours.
    pub(crate) fn project(&self, projector: &Projector, table: &TableId) -> Result<()> {
        let log = self.folder(table).join("_delta_log");
        let mut snapshot = projector.take(table);
        loop {
            snapshot.read_on(self.place(), &log)?;
            if let Some(later) = snapshot.sequence.filter(|of| *of > self.fold().sequence) {
                // Another process has committed, and its entry says what this one would.
                self.log().check_last(later)?;
                break;
            }
            let entry = match self.entry(projector, table, &snapshot) {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                // Nothing may keep a refresh from being written, which ends this.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    tracing::warn!(%error, stream = table.stream, "the Delta log of a table stays behind");
                    break;
                }
                Err(error) => return Err(error),
            };
            let path = log.join(format!("{:020}.json", snapshot.next));
            let bytes = action::encode(&entry).explain(PROJECTING, &path)?;
            let place = self.place();
            place.create_folders(&log).explain(PROJECTING, &log)?;
            failpoint("files-before-table-log");
            // Where another process was first, its entry is read, and what is missing written.
            place.put_new(&path, &bytes, PROJECTING)?;
            failpoint("files-after-table-log");
        }
        projector.keep(table, snapshot);
        Ok(())
    }

    /// Removes what an interrupted process left in the log of a table. Only safe while no other
    /// process writes.
    pub(crate) fn remove_log_temporaries(&self, table: &TableId) -> Result<()> {
        let log = self.folder(table).join("_delta_log");
        if self.place().is_remote() {
            return Ok(());
        }
        let mut listed = self.place().list_idle(&log).explain(READING, &log)?;
        listed.retain(|path| names::of(path).is_some_and(|name| names::is_unique(name, "tmp")));
        listed.iter().try_for_each(|path| self.place().remove(path))
    }

    /// What the log lacks; none: nothing.
    fn entry(
        &self,
        projector: &Projector,
        table: &TableId,
        snapshot: &Snapshot,
    ) -> Result<Option<Vec<Action>>> {
        let files = self.fold().tables.get(table);
        let files = files.map_or(&[][..], |files| files.current.as_slice());
        let new: Vec<&DataFile> = files.iter().filter(|file| !snapshot.has(file)).collect();
        let gone = snapshot.files.values().filter(|add| {
            let is_it = |file: &DataFile| file.name == add.path;
            !files.iter().any(is_it)
        });
        let gone: Vec<&Add> = gone.collect();
        if new.is_empty() && gone.is_empty() {
            return Ok(None);
        }
        let sequence = self.fold().sequence;
        let commit = self
            .log()
            .manifest(sequence)?
            .map(|manifest| manifest.commit.at);
        let at = commit.unwrap_or_default().timestamp_millis();
        let is_merge = is_merge(&gone, &new);
        let keeps = snapshot.files.len() > gone.len();
        let before = snapshot.meta.as_ref();
        let mut fields = match before {
            Some(meta) if keeps || new.is_empty() => meta.fields()?,
            _ => Vec::new(),
        };
        let mut added = Vec::with_capacity(new.len());
        for file in new {
            self.put_in_place(table, file)?;
            let path = self.folder(table).join(&file.name);
            let (schema, statistics) = describe(self.place(), projector, &path, file.rows)?;
            merge(&mut fields, &schema)
                .map_err(|error| error.with_context("stream", &table.stream))?;
            added.push(Action::Add(Add::new(file, at, !is_merge, &statistics)?));
        }
        let mut entry = vec![Action::CommitInfo(CommitInfo::new(at, is_merge))];
        if before.is_none() {
            entry.push(Action::Protocol(Protocol::default()));
        }
        if before.map(MetaData::fields).transpose()?.as_ref() != Some(&fields) {
            entry.push(Action::MetaData(MetaData::new(before, &fields, at)?));
        }
        entry.push(Action::Txn(Txn {
            app_id: format!("pipeline/{}/{}", table.source, table.stream),
            version: sequence,
            last_updated: at,
        }));
        entry.extend(gone.into_iter().map(|add| {
            Action::Remove(Remove {
                path: add.path.clone(),
                deletion_timestamp: at,
                data_change: !is_merge,
            })
        }));
        entry.extend(added);
        Ok(Some(entry))
    }
}

impl Snapshot {
    /// Reads the entries that were written since.
    fn read_on(&mut self, place: &dyn Place, log: &Path) -> Result<()> {
        let last = self.next.checked_sub(1);
        let last = last.map_or_else(String::new, |last| format!("{last:020}.json"));
        let mut listed: Vec<PathBuf> = place.list_after(log, &last).explain(READING, log)?;
        listed.retain(|path| names::of(path).is_some_and(|name| entry_number(name).is_some()));
        listed.sort();
        for (path, bytes) in listed.iter().zip(place.read_all(&listed)) {
            let is_next = names::of(path).and_then(entry_number) == Some(self.next);
            let Some(bytes) = bytes.filter(|_| is_next) else {
                return Err(
                    damaged("an entry of a Delta log is missing", log).with_operation(READING)
                );
            };
            let actions = action::decode(&bytes).map_err(|error| {
                damaged("a Delta log has an entry that another program wrote", path)
                    .with_operation(READING)
                    .with_source(error)
            })?;
            for action in actions {
                self.apply(action);
            }
            self.next += 1;
        }
        Ok(())
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Add(add) => drop(self.files.insert(add.path.clone(), add)),
            Action::Remove(remove) => drop(self.files.remove(&remove.path)),
            Action::MetaData(meta) => self.meta = Some(meta),
            Action::Txn(txn) => self.sequence = Some(txn.version),
            Action::Protocol(_) | Action::CommitInfo(_) => (),
        }
    }

    /// True when the log names this file, and not another one of the same name.
    fn has(&self, file: &DataFile) -> bool {
        let is_it = |add: &Add| add.tags.staged == file.staged;
        self.files.get(&file.name).is_some_and(is_it)
    }
}

/// The number in the name of an entry.
fn entry_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// True when the same rows are in fewer files: each new one has the place of one that is gone.
fn is_merge(gone: &[&Add], new: &[&DataFile]) -> bool {
    let takes_a_place = |file: &&DataFile| {
        let place = names::place(&file.name);
        place.is_some() && gone.iter().any(|add| names::place(&add.path) == place)
    };
    let before: u64 = gone.iter().map(|add| add.rows()).sum();
    let after: u64 = new.iter().map(|file| file.rows).sum();
    !new.is_empty() && before == after && new.iter().all(takes_a_place)
}

/// The columns of a data file and what is known of their values.
fn describe(
    place: &dyn Place,
    projector: &Projector,
    path: &Path,
    rows: u64,
) -> Result<(arrow_schema::SchemaRef, Statistics)> {
    let file = place.open(path).explain(PROJECTING, path)?;
    let outline = projector.format.outline(file)?.ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "a Delta table needs files of columns",
        )
        .with_help("report this as a defect")
    })?;
    let statistics = Statistics {
        num_records: rows,
        min_values: outline.least,
        max_values: outline.greatest,
        null_count: outline.nulls,
    };
    Ok((outline.schema, statistics))
}

/// Adds the columns of a file to those of its table.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when a column has another type than before: a Delta table has one.
fn merge(fields: &mut Vec<Field>, schema: &Schema) -> Result<()> {
    for field in schema.fields() {
        let kind = type_of(field.data_type()).ok_or_else(|| unfit(field.name()))?;
        match fields.iter().find(|known| known.name == *field.name()) {
            Some(known) if known.kind == kind => (),
            Some(_) => return Err(unfit(field.name())),
            None => fields.push(Field::new(field.name(), kind)),
        }
    }
    Ok(())
}

fn unfit(column: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "rows are committed, but a column has a type that its Delta table cannot have",
    )
    .with_operation(PROJECTING)
    .with_context("column", column.to_owned())
    .with_help("read the stream anew with `--full-refresh`, which gives its table the new type")
}

/// What Delta calls a type; none: it has none for it.
fn type_of(kind: &DataType) -> Option<String> {
    let name = match kind {
        DataType::Utf8 => "string",
        DataType::Int64 => "long",
        DataType::Float64 => "double",
        DataType::Boolean => "boolean",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp",
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            return Some(format!("decimal({precision},{scale})"));
        }
        _ => return None,
    };
    Some(name.to_owned())
}

/// A name of the form that Delta gives tables.
fn guid() -> String {
    let name = disk::unique_name();
    let part = |from: usize, to: usize| name.get(from..to).unwrap_or_default();
    [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)]
        .map(|(from, to)| part(from, to))
        .join("-")
}
