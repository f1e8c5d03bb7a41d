//! Rewrites the files of a table without what was deleted.
//!
//! Files are replaced by smaller ones from the oldest to the newest, each in one step: while a purge
//! runs, a reader that still finds an old version also finds its tombstone or the newer version. A
//! file keeps its name, unless a Delta log records that name together with its size.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use pipeline_core::{ErrorKind, Result};
use pipeline_engine::cell::Column;
use pipeline_engine::{Commit, Purge, PurgedTable, TableId};

use crate::error::Explain;
use crate::format::FileFormat;
use crate::manifest::{DataFile, Rewritten};
use crate::rows::{KeyHash, Kind, Rows};
use crate::store::Store;
use crate::{names, rows};

const REWRITING: &str = "rewriting a data file";
/// How often a purge is begun anew because a sync replaced the files.
const ATTEMPTS: usize = 3;

/// Purges one table.
pub(crate) fn purge(
    store: &mut Store,
    format: &Arc<dyn FileFormat>,
    purge: &Purge,
    table: &TableId,
) -> Result<PurgedTable> {
    let mut attempts = 0;
    loop {
        store.refresh()?;
        attempts += 1;
        match try_purge(store, format, purge, table) {
            Err(error) if error.kind() == ErrorKind::CheckpointConflict && attempts < ATTEMPTS => {}
            purged => return purged,
        }
    }
}

fn try_purge(
    store: &mut Store,
    format: &Arc<dyn FileFormat>,
    purge: &Purge,
    table: &TableId,
) -> Result<PurgedTable> {
    let left_over = store.left_over(table);
    let mut purged = PurgedTable {
        table: table.clone(),
        rows: left_over.iter().map(|file| file.rows).sum(),
        skipped: None,
    };
    let files = store
        .fold()
        .tables
        .get(table)
        .map(|files| files.current.clone())
        .unwrap_or_default();
    if let Some(broken) = store.damage(table, &files)? {
        purged.skipped = Some(broken.to_string());
        return Ok(purged);
    }
    let masks = match store.key(table) {
        Some([]) => Vec::new(),
        Some(key) => Walk::new(key, purge.versions).files(store, &**format, table, &files)?,
        None if files.is_empty() => Vec::new(),
        None => {
            purged.skipped = Some(
                "its key is unknown until the next sync, since an older release wrote it"
                    .to_owned(),
            );
            Vec::new()
        }
    };
    purged.rows += masks
        .iter()
        .map(|(_, stays)| stays.iter().filter(|stays| !**stays).count() as u64)
        .sum::<u64>();
    if purge.dry_run {
        return Ok(purged);
    }
    let mut commit = Commit {
        run: purge.run.clone(),
        at: purge.at,
        ..Commit::default()
    };
    commit
        .discard
        .extend((!left_over.is_empty()).then(|| table.clone()));
    let mut written = Files {
        store,
        files: Vec::new(),
    };
    for (file, stays) in masks {
        let to = rewrite(written.store, &**format, table, file, &stays)?;
        written.files.push(Rewritten {
            table: table.clone(),
            from: file.staged.clone(),
            to: Some(to),
        });
    }
    written.commit(format, &commit)?;
    remove_empty(
        store,
        format,
        table,
        Commit {
            discard: Vec::new(),
            ..commit
        },
    )?;
    Ok(purged)
}

/// Removes files without rows. It is done after the commit that emptied them: their tombstones must
/// not be gone before the rows of older files are.
fn remove_empty(
    store: &mut Store,
    format: &Arc<dyn FileFormat>,
    table: &TableId,
    commit: Commit,
) -> Result<()> {
    let files = store
        .fold()
        .tables
        .get(table)
        .map(|files| files.current.as_slice())
        .unwrap_or_default();
    let empty = files.iter().filter(|file| file.rows == 0);
    let removed = empty
        .map(|file| Rewritten {
            table: table.clone(),
            from: file.staged.clone(),
            to: None,
        })
        .collect();
    Files {
        store,
        files: removed,
    }
    .commit(format, &commit)
}

/// Files that are to take the place of others; they are removed unless they are committed.
struct Files<'a> {
    store: &'a mut Store,
    files: Vec<Rewritten>,
}

impl Files<'_> {
    fn commit(mut self, format: &Arc<dyn FileFormat>, commit: &Commit) -> Result<()> {
        if self.files.is_empty() && commit.discard.is_empty() {
            return Ok(());
        }
        let nothing = |store: &Store| Ok(store.stage(format));
        let committed = self.store.commit_with(&[], &self.files, commit, nothing);
        // After any other failure a manifest may name the files: the next start knows.
        if !committed
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::CheckpointConflict)
        {
            self.files.clear();
        }
        committed.map(drop)
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        for file in self.files.iter().filter_map(|file| file.to.as_ref()) {
            let staged = self.store.staging().join(&file.staged);
            self.store.place().abandon(&staged);
        }
    }
}

/// Writes the rows of a file that stay to another one.
fn rewrite(
    store: &Store,
    format: &dyn FileFormat,
    table: &TableId,
    file: &DataFile,
    stays: &[bool],
) -> Result<DataFile> {
    let (place, path) = (store.place(), names::unique(&store.staging()));
    let write = || {
        let (mut output, mut writer, mut row) = (Some(place.begin(&path)), None, 0);
        for batch in rows::read(place, format, &store.locate(table, file))? {
            let batch = batch?;
            let kept = rows::filter(&batch, |index| {
                stays.get(row + index).copied().unwrap_or(true)
            })?;
            row += batch.num_rows();
            let kept = kept.unwrap_or_else(|| batch.slice(0, 0));
            if let Some(output) = output.take() {
                writer = Some(format.begin(output, &kept)?);
            }
            if let Some(writer) = writer.as_mut().filter(|_| kept.num_rows() > 0) {
                writer.write(&kept)?;
            }
        }
        let done = match (writer, output) {
            (Some(writer), _) => writer.finish()?,
            (None, Some(output)) => output,
            (None, None) => unreachable!("the file is in the writer"),
        };
        let written = done.complete().explain(REWRITING, &path)?;
        place.complete(&path).wait().map(|()| written)
    };
    let written = write().inspect_err(|_| place.abandon(&path))?;
    let staged = names::of(&path).unwrap_or_default().to_owned();
    let rows = stays.iter().filter(|stays| **stays).count() as u64;
    // A log that names files with their sizes cannot have two of one name.
    let name = if store.projector.is_some() {
        names::merged(&file.name, &staged, store.extension())
    } else {
        file.name.clone()
    };
    Ok(DataFile {
        name,
        staged,
        rows,
        bytes: written.bytes,
        hash: Some(written.hash),
    })
}

/// Walks through a table from its newest row to its oldest.
struct Walk<'a> {
    key: &'a [String],
    /// Keys of which only the newest version stays, with those that were met; none: every version
    /// stays.
    newest: Option<HashSet<KeyHash>>,
    deleted: HashSet<KeyHash>,
    /// The values of tombstones of many, by the columns that they compare.
    swept: BTreeMap<Vec<String>, HashSet<KeyHash>>,
    buffer: String,
}

/// What of a row matters.
struct Seen {
    kind: Kind,
    key: KeyHash,
    /// For each of the patterns what a tombstone of many compares; of such a tombstone itself only
    /// its own.
    groups: Vec<Option<KeyHash>>,
}

impl<'a> Walk<'a> {
    fn new(key: &'a [String], versions: bool) -> Self {
        Self {
            key,
            newest: versions.then(HashSet::new),
            deleted: HashSet::new(),
            swept: BTreeMap::new(),
            buffer: String::new(),
        }
    }

    /// The files that have rows to be removed, oldest first, and for each of their rows whether it
    /// stays.
    fn files<'f>(
        mut self,
        store: &Store,
        format: &dyn FileFormat,
        table: &TableId,
        files: &'f [DataFile],
    ) -> Result<Vec<(&'f DataFile, Vec<bool>)>> {
        let mut masks = Vec::new();
        for file in files.iter().rev() {
            let batches = || rows::read(store.place(), format, &store.locate(table, file));
            batches()?.try_for_each(|batch| self.learn(&batch?))?;
            let mut seen = Vec::new();
            batches()?.try_for_each(|batch| self.look(&batch?, &mut seen))?;
            let mut stays: Vec<bool> = seen.iter().rev().map(|row| self.stays(row)).collect();
            stays.reverse();
            if stays.iter().any(|stays| !stays) {
                masks.push((file, stays));
            }
        }
        masks.reverse();
        Ok(masks)
    }

    /// Learns which columns the tombstones of a batch compare.
    fn learn(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = Column::of(batch)?;
        let rows = Rows::new(&columns, self.key);
        for row in (0..batch.num_rows()).filter(|row| rows.kind(*row) == Kind::Sweep) {
            self.swept.entry(rows.pattern(row)).or_default();
        }
        Ok(())
    }

    fn look(&mut self, batch: &RecordBatch, seen: &mut Vec<Seen>) -> Result<()> {
        let columns = Column::of(batch)?;
        let rows = Rows::new(&columns, self.key);
        for row in 0..batch.num_rows() {
            let kind = rows.kind(row);
            let own = (kind == Kind::Sweep).then(|| rows.pattern(row));
            let is_compared = |pattern: &Vec<String>| {
                kind != Kind::Tombstone && own.as_ref().is_none_or(|own| own == pattern)
            };
            let group = |pattern: &Vec<String>| {
                is_compared(pattern)
                    .then(|| rows.group(pattern, row, &mut self.buffer))
                    .flatten()
            };
            let groups = self.swept.keys().map(group).collect();
            seen.push(Seen {
                kind,
                key: rows.key(row, &mut self.buffer),
                groups,
            });
        }
        Ok(())
    }

    fn stays(&mut self, row: &Seen) -> bool {
        let groups = || {
            row.groups
                .iter()
                .zip(self.swept.values())
                .filter_map(|(group, swept)| Some(((*group)?, swept)))
        };
        match row.kind {
            Kind::Row => {
                let is_deleted = self.deleted.contains(&row.key)
                    || groups().any(|(group, swept)| swept.contains(&group));
                !is_deleted
                    && self
                        .newest
                        .as_mut()
                        .is_none_or(|newest| newest.insert(row.key))
            }
            Kind::Tombstone => {
                self.deleted.insert(row.key);
                false
            }
            Kind::Sweep => {
                for (group, swept) in row.groups.iter().zip(self.swept.values_mut()) {
                    swept.extend(group);
                }
                false
            }
        }
    }
}
