//! Rows: from Arrow batches into data files, and into the index of keys.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use destination_sql::{Deletes, RowKind, Tombstones};
use destination_sqlite::bookkeeping::{Explain, json};
use pipeline_core::{Result, failpoint};
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, Generation, SYNCED_AT, Table};
use rusqlite::{Connection, params};

use crate::data_file::{DataFile, schema_of};
use crate::keys::{Encoder, Entry, Keys, Place, key_fields, new_part, store_key_fields};
use crate::lake::Work;
use crate::read::{Rows, take};
use crate::table::LakeTable;
use crate::{files, keys, read, reindex, table, types};

const WRITING: &str = "writing rows";

/// A file of this size is complete, and the rows that follow go to another.
const FILE_BYTES: usize = 256 << 20;

/// How rows get into one generation of a table.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) lake: LakeTable,
    next: bool,
    key: Vec<String>,
    /// None: rows are appended.
    keys: Option<Keys>,
    tombstones: Tombstones,
    deletes: Deletes,
    /// The file that rows go to, and its number.
    open: Option<(i64, Option<DataFile>)>,
}

/// Rows of a batch on their way to the file.
struct Pending<'a> {
    columns: &'a [Column<'a>],
    arrays: &'a [ArrayRef],
    fields: &'a [&'a str],
    rows: Vec<usize>,
}

impl Writer {
    /// Creates or widens the table, and looks where its rows are.
    pub(crate) fn new(
        connection: &Connection,
        work: &mut Work,
        table: &Table,
        deletes: Deletes,
    ) -> Result<Self> {
        let lake = table::ensure(connection, &work.lake.data, &mut work.snapshot, table)?;
        let next = table.generation == Generation::Next;
        let mut writer = Self {
            next,
            key: table.primary_key.clone(),
            keys: None,
            tombstones: Tombstones::of(table),
            deletes,
            open: None,
            lake,
        };
        if !next {
            reindex::catch_up(connection, work, &writer.lake)?;
        }
        let known = key_fields(connection, &writer.lake.name, next)?;
        if known.as_ref() != Some(&writer.key) {
            reindex::rebuild(connection, work, &writer.lake, next, &writer.key)?;
            store_key_fields(connection, &writer.lake.name, next, &writer.key)?;
        }
        if !writer.key.is_empty() {
            writer.keys = Some(Keys::ensure(connection, &writer.lake.name, next)?);
        }
        Ok(writer)
    }

    /// The writer of a next generation that rows are carried into.
    pub(crate) fn of_next(
        connection: &Connection,
        lake: LakeTable,
        key: Vec<String>,
        tombstones: Tombstones,
    ) -> Result<Self> {
        store_key_fields(connection, &lake.name, true, &key)?;
        let keys = if key.is_empty() {
            None
        } else {
            Some(Keys::ensure(connection, &lake.name, true)?)
        };
        Ok(Self {
            lake,
            next: true,
            key,
            keys,
            tombstones,
            deletes: Deletes::Remove,
            open: None,
        })
    }

    /// Takes columns over that another writer has added to the table.
    pub(crate) fn refresh(
        &mut self,
        connection: &Connection,
        work: &mut Work,
        table: &Table,
    ) -> Result<()> {
        self.lake = table::ensure(connection, &work.lake.data, &mut work.snapshot, table)?;
        self.tombstones = Tombstones::of(table);
        Ok(())
    }

    /// Bytes of memory that the open file takes.
    pub(crate) fn held(&self) -> usize {
        match &self.open {
            Some((_, Some(file))) => file.held(),
            _ => 0,
        }
    }

    /// Writes to the disk what is held in memory.
    pub(crate) fn flush(&mut self) -> Result<()> {
        match &mut self.open {
            Some((_, Some(file))) => file.flush(),
            _ => Ok(()),
        }
    }

    /// Writes a batch in its order, so that of rows with one key the last one stays.
    pub(crate) fn write(
        &mut self,
        connection: &Connection,
        work: &mut Work,
        batch: &RecordBatch,
    ) -> Result<()> {
        let columns = Column::of(batch)?;
        let runs: Vec<_> = self.tombstones.runs(&columns, batch.num_rows()).collect();
        if self.keys.is_some() {
            self.learn_parts(connection, &columns, &runs)?;
        }
        let fields: Vec<&str> = columns.iter().map(Column::name).collect();
        let mut pending = Pending {
            columns: &columns,
            arrays: batch.columns(),
            fields: &fields,
            rows: Vec::new(),
        };
        for (kind, rows) in runs {
            let Some(keys) = self.keys.clone() else {
                pending.rows.extend(rows);
                continue;
            };
            match kind {
                RowKind::Row => self.put(connection, work, &keys, &mut pending, rows)?,
                RowKind::Tombstone | RowKind::Sweep => {
                    if self.next {
                        self.remember_gone(connection, work, &columns, rows.clone())?;
                    }
                    for row in rows {
                        self.delete(connection, work, &keys, &mut pending, kind, row)?;
                    }
                }
            }
        }
        self.append(connection, work, &mut pending)?;
        failpoint("ducklake-rows-written");
        Ok(())
    }

    /// Writes rows that are there to be stored, in the order of the batch, whatever they say of being
    /// deleted.
    pub(crate) fn write_rows(
        &mut self,
        connection: &Connection,
        work: &mut Work,
        batch: &RecordBatch,
        rows: &[usize],
    ) -> Result<()> {
        let columns = Column::of(batch)?;
        let fields: Vec<&str> = columns.iter().map(Column::name).collect();
        let mut pending = Pending {
            columns: &columns,
            arrays: batch.columns(),
            fields: &fields,
            rows: Vec::new(),
        };
        match self.keys.clone() {
            Some(keys) => {
                for row in rows {
                    self.put(connection, work, &keys, &mut pending, *row..*row + 1)?;
                }
            }
            None => pending.rows.extend(rows),
        }
        self.append(connection, work, &mut pending)
    }

    /// Adds rows to those on their way, unless the table has them already.
    fn put(
        &mut self,
        connection: &Connection,
        work: &mut Work,
        keys: &Keys,
        pending: &mut Pending<'_>,
        rows: Range<usize>,
    ) -> Result<()> {
        let mut encoder = Encoder::new(pending.columns, &self.key, &keys.parts);
        for row in rows {
            let place = self.place(connection, pending)?;
            let entry = encoder.entry(row, place);
            if self.index(connection, work, keys, &entry)? {
                pending.rows.push(row);
            }
        }
        Ok(())
    }

    /// Puts a row into the index, and deletes the one with its key; false: it is the same.
    fn index(
        &self,
        connection: &Connection,
        work: &mut Work,
        keys: &Keys,
        entry: &Entry,
    ) -> Result<bool> {
        if keys.insert(connection, entry)? {
            return Ok(true);
        }
        let Some((hash, place)) = keys.find(connection, &entry.key)? else {
            return Ok(true);
        };
        // What an earlier transaction stored of a next generation may yet be discarded.
        if hash == entry.hash && (!self.next || place.file >= work.first_file) {
            return Ok(false);
        }
        files::delete_row(connection, work, place.file, place.row)?;
        keys.replace(connection, entry)?;
        Ok(true)
    }

    /// Where the next row will be.
    fn place(&mut self, connection: &Connection, pending: &Pending<'_>) -> Result<Place> {
        let written = match &self.open {
            Some((_, Some(file))) => file.rows,
            Some((_, None)) => 0,
            None => {
                let file = files::add(connection, &self.lake.name, self.next, "")?;
                self.open = Some((file, None));
                0
            }
        };
        let file = self.open.as_ref().map_or(0, |(file, _)| *file);
        let ahead = i64::try_from(pending.rows.len()).unwrap_or(i64::MAX);
        Ok(Place {
            file,
            row: written + ahead,
        })
    }

    /// Writes the rows on their way to the file.
    fn append(
        &mut self,
        connection: &Connection,
        work: &mut Work,
        pending: &mut Pending<'_>,
    ) -> Result<()> {
        let rows = std::mem::take(&mut pending.rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.place(connection, pending)?;
        let (schema, ids) = schema_of(&self.lake, pending.fields)?;
        let arrays: Vec<ArrayRef> = pending
            .columns
            .iter()
            .zip(pending.arrays)
            .zip(schema.fields())
            .map(|((column, array), field)| types::fit(column, array, field.data_type()))
            .collect();
        let is_all = rows.len() == pending.arrays.first().map_or(0, |array| array.len());
        let arrays = if is_all {
            arrays
        } else {
            take(&arrays, &rows)?
        };
        let Some((number, open)) = &mut self.open else {
            return Ok(());
        };
        let file = if let Some(file) = open {
            file
        } else {
            let (name, path) = work.new_file(connection, &self.lake.folder, "")?;
            connection
                .execute(
                    "UPDATE _pipeline_files SET path = ? WHERE file = ?",
                    params![name, *number],
                )
                .explain(WRITING)?;
            open.insert(DataFile::begin(path, schema, ids, &arrays)?)
        };
        file.write(arrays)?;
        if file.size() >= FILE_BYTES {
            self.finish(connection)?;
        }
        Ok(())
    }

    /// Begins another file when the columns of a batch are not those of the open one.
    pub(crate) fn begin_batch(
        &mut self,
        connection: &Connection,
        batch: &RecordBatch,
    ) -> Result<()> {
        let schema = batch.schema();
        let fields: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| &**field.name())
            .collect();
        let (schema, _) = schema_of(&self.lake, &fields)?;
        let fits = match &self.open {
            Some((_, Some(file))) => file.fits(&schema),
            _ => true,
        };
        if fits {
            Ok(())
        } else {
            self.finish(connection)
        }
    }

    /// Completes the open file.
    pub(crate) fn finish(&mut self, connection: &Connection) -> Result<()> {
        match self.open.take() {
            Some((number, Some(file))) => {
                let written = file.finish()?;
                failpoint("ducklake-file-written");
                files::complete(connection, number, &written)
            }
            Some((number, None)) => files::forget(connection, number),
            None => Ok(()),
        }
    }

    /// Deletes the row of a tombstone, or the rows of one of many.
    fn delete(
        &mut self,
        connection: &Connection,
        work: &mut Work,
        keys: &Keys,
        pending: &mut Pending<'_>,
        kind: RowKind,
        row: usize,
    ) -> Result<()> {
        let mut encoder = Encoder::new(pending.columns, &self.key, &[]);
        let found = if kind == RowKind::Tombstone {
            let key = encoder.key(row, Place { file: 0, row: 0 });
            let place = keys.find(connection, &key)?.map(|(_, place)| place);
            if place.is_none() && self.deletes == Deletes::Mark {
                return self.put(connection, work, keys, pending, row..row + 1);
            }
            place.map(|place| (key, place)).into_iter().collect()
        } else {
            let fields = compared(pending.columns, row);
            let part = keys.parts.iter().position(|part| *part == fields);
            match (part, encoder.values(&fields, row)) {
                (Some(part), Some(value)) => keys.of_part(connection, part, &value)?,
                // One that says nothing means nothing.
                _ => Vec::new(),
            }
        };
        if self.deletes == Deletes::Mark {
            return self.mark(connection, work, pending, row, &found);
        }
        for (key, place) in found {
            files::delete_row(connection, work, place.file, place.row)?;
            keys.remove(connection, &key)?;
        }
        Ok(())
    }

    /// Stores rows again with their last values, as deleted ones.
    fn mark(
        &mut self,
        connection: &Connection,
        work: &mut Work,
        pending: &mut Pending<'_>,
        row: usize,
        found: &[(Vec<u8>, Place)],
    ) -> Result<()> {
        let synced = pending
            .columns
            .iter()
            .position(|column| column.name() == SYNCED_AT)
            .map(|index| pending.arrays[index].slice(row, 1));
        if found.is_empty() {
            return Ok(());
        }
        // What is on its way, or in a file that is not complete, cannot be read.
        self.append(connection, work, pending)?;
        self.finish(connection)?;
        for (file, rows) in by_file(found) {
            let stored = files::list(connection, &self.lake.name, self.next)?
                .into_iter()
                .find(|stored| stored.file == file);
            let Some(stored) = stored else { continue };
            let mut start = 0;
            for batch in Rows::open(&self.lake, &stored.path(&self.lake), None)? {
                let batch = batch?;
                let end = start + i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
                let chosen: Vec<usize> = rows
                    .range(start..end)
                    .filter_map(|row| usize::try_from(row - start).ok())
                    .collect();
                start = end;
                if !chosen.is_empty() {
                    let marked = marked(&batch, &chosen, synced.as_ref())?;
                    let all: Vec<usize> = (0..marked.num_rows()).collect();
                    self.begin_batch(connection, &marked)?;
                    self.write_rows(connection, work, &marked, &all)?;
                }
            }
        }
        // The rows that follow may have fewer columns.
        self.finish(connection)
    }

    /// Keeps tombstones of the next generation until it is published: they count for the rows that
    /// are carried into it as well.
    fn remember_gone(
        &self,
        connection: &Connection,
        work: &Work,
        columns: &[Column<'_>],
        rows: Range<usize>,
    ) -> Result<()> {
        let mut encoder = Encoder::new(columns, &self.key, &[]);
        for row in rows {
            let fields = compared(columns, row);
            let Some(value) = encoder.values(&fields, row).filter(|_| !fields.is_empty()) else {
                continue;
            };
            connection
                .prepare_cached("INSERT OR REPLACE INTO _pipeline_gone VALUES (?, ?, ?, ?)")
                .and_then(|mut insert| {
                    insert.execute(params![self.lake.name, json(&fields), value, work.sequence])
                })
                .explain(WRITING)?;
        }
        Ok(())
    }

    /// Makes an index of the columns that tombstones of many rows compare, when they come first.
    fn learn_parts(
        &mut self,
        connection: &Connection,
        columns: &[Column<'_>],
        runs: &[(RowKind, Range<usize>)],
    ) -> Result<()> {
        let sweeps = runs.iter().filter(|(kind, _)| *kind == RowKind::Sweep);
        let patterns: BTreeSet<Vec<String>> = sweeps
            .flat_map(|(_, rows)| rows.clone().map(|row| compared(columns, row)))
            .filter(|fields| !fields.is_empty())
            .collect();
        // The other generation's writer may have made some.
        let mut parts = keys::parts(connection, &self.lake.name)?;
        for fields in patterns {
            if parts.contains(&fields) {
                continue;
            }
            self.finish(connection)?;
            let part = new_part(connection, &self.lake.name, &fields)?;
            parts.push(fields.clone());
            for next in [false, true] {
                reindex::fill(connection, &self.lake, next, part, &fields)?;
            }
        }
        self.keys = Some(Keys::ensure(connection, &self.lake.name, self.next)?);
        Ok(())
    }
}

/// The columns that a tombstone compares, sorted.
fn compared(columns: &[Column<'_>], row: usize) -> Vec<String> {
    let mut fields: Vec<String> = columns
        .iter()
        .filter(|column| {
            column.name() != DELETED && column.name() != SYNCED_AT && column.cell(row) != Cell::Null
        })
        .map(|column| column.name().to_owned())
        .collect();
    fields.sort_unstable();
    fields
}

/// Rows by their files.
fn by_file(found: &[(Vec<u8>, Place)]) -> std::collections::BTreeMap<i64, BTreeSet<i64>> {
    let mut files = std::collections::BTreeMap::<i64, BTreeSet<i64>>::new();
    for (_, place) in found {
        files.entry(place.file).or_default().insert(place.row);
    }
    files
}

/// Some rows of a batch, as deleted at the instant of a tombstone.
fn marked(batch: &RecordBatch, rows: &[usize], synced: Option<&ArrayRef>) -> Result<RecordBatch> {
    let columns = read::take(batch.columns(), rows)?;
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(columns)
        .map(|(field, column)| match (field.name().as_str(), synced) {
            (DELETED, _) => Ok(Arc::new(BooleanArray::from(vec![true; rows.len()])) as ArrayRef),
            (SYNCED_AT, Some(synced)) => {
                Ok(take(std::slice::from_ref(synced), &vec![0; rows.len()])?.remove(0))
            }
            _ => Ok(column),
        })
        .collect::<Result<_>>()?;
    crate::data_file::batch(&schema, columns)
}
