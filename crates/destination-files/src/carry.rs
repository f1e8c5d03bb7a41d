//! Rows of the visible generation that stay when the next one takes its place.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use pipeline_core::{Result, failpoint};
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{Commit, Condition, Generation, Keep, TableId};

use crate::format::FileFormat;
use crate::manifest::StagedFile;
use crate::rows;
use crate::rows::{KeyHash, Kind, Rows};
use crate::staged::Staged;
use crate::store::Store;

/// Writes the rows that a commit keeps to files of their own: of each key the newest version,
/// unless it is deleted or the next generation has the key. `written` are the files of the
/// transaction.
pub(crate) fn carry(
    store: &Store,
    format: &Arc<dyn FileFormat>,
    commit: &Commit,
    written: &[StagedFile],
) -> Result<Staged> {
    let mut carried = store.stage(format);
    for table in &commit.publish {
        let keep: Vec<&Keep> = commit
            .keep
            .iter()
            .filter(|keep| keep.table == *table)
            .collect();
        if keep.is_empty() {
            continue;
        }
        let mut kept = Kept::new(keep, store.key(table).unwrap_or_default());
        for path in store.whole(table)? {
            rows::read(store.place(), &**format, &path)?.try_for_each(|batch| kept.add(&batch?))?;
        }
        for path in next_generation(store, commit, table, written) {
            if kept.is_empty() || kept.key.is_empty() {
                break;
            }
            rows::read(store.place(), &**format, &path)?
                .try_for_each(|batch| kept.replace(&batch?))?;
        }
        for batch in kept.finish()? {
            carried.write(table, Generation::Next, &batch)?;
        }
    }
    carried.close_all()?;
    if !carried.files().is_empty() {
        failpoint("files-after-carrying");
    }
    Ok(carried)
}

/// The files that the commit makes visible, oldest first.
fn next_generation(
    store: &Store,
    commit: &Commit,
    table: &TableId,
    written: &[StagedFile],
) -> Vec<PathBuf> {
    let earlier = if commit.discard.contains(table) {
        Vec::new()
    } else {
        store.waiting(table)
    };
    let own = written
        .iter()
        .filter(|file| file.table == *table && file.generation == Generation::Next);
    earlier
        .into_iter()
        .chain(own.map(|file| store.staging().join(&file.name)))
        .collect()
}

/// The selected rows of a table while it is read from its oldest file to its newest.
struct Kept<'a> {
    conditions: Vec<Condition>,
    key: &'a [String],
    /// Selected rows, those included that a later version has replaced.
    batches: Vec<RecordBatch>,
    /// Where the newest version of a key is, when it is selected: its batch and its place there.
    newest: HashMap<KeyHash, (usize, usize)>,
    buffer: String,
}

impl<'a> Kept<'a> {
    fn new(keep: Vec<&Keep>, key: &'a [String]) -> Self {
        let conditions = keep.into_iter().map(Keep::condition).collect();
        Self {
            conditions,
            key,
            batches: Vec::new(),
            newest: HashMap::new(),
            buffer: String::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Takes the next rows of the visible generation.
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.walk(batch, true)
    }

    /// Drops what rows of the next generation replace or delete.
    fn replace(&mut self, batch: &RecordBatch) -> Result<()> {
        self.walk(batch, false)
    }

    fn walk(&mut self, batch: &RecordBatch, visible: bool) -> Result<()> {
        let columns = Column::of(batch)?;
        let rows = Rows::new(&columns, self.key);
        let mut start = 0;
        // A tombstone of many rows concerns those before it, also in its own batch.
        for row in (0..batch.num_rows()).filter(|row| rows.kind(*row) == Kind::Sweep) {
            self.segment(batch, &rows, start..row, visible)?;
            self.sweep(&rows, row)?;
            start = row + 1;
        }
        self.segment(batch, &rows, start..batch.num_rows(), visible)
    }

    /// Takes rows among which no tombstone concerns many.
    fn segment(
        &mut self,
        batch: &RecordBatch,
        rows: &Rows<'_>,
        range: std::ops::Range<usize>,
        visible: bool,
    ) -> Result<()> {
        let mut selected = Vec::new();
        {
            let bound: Vec<_> = self
                .conditions
                .iter()
                .map(|condition| condition.bind(rows.columns))
                .collect();
            for row in range {
                let is_selected = visible
                    && rows.kind(row) == Kind::Row
                    && bound.iter().any(|selects| selects(row));
                if !self.key.is_empty() {
                    let key = rows.key(row, &mut self.buffer);
                    if is_selected {
                        self.newest
                            .insert(key, (self.batches.len(), selected.len()));
                    } else {
                        self.newest.remove(&key);
                    }
                }
                if is_selected {
                    selected.push(row);
                }
            }
        }
        let mut left = selected.iter().peekable();
        self.batches.extend(rows::filter(batch, |row| {
            left.next_if(|next| **next == row).is_some()
        })?);
        Ok(())
    }

    /// Drops the rows that a tombstone of many has the values of. One without values means nothing.
    fn sweep(&mut self, rows: &Rows<'_>, row: usize) -> Result<()> {
        let values: Vec<_> = rows
            .values(row)
            .map(|(name, cell)| (name, text(cell)))
            .collect();
        if values.is_empty() {
            return Ok(());
        }
        let columns = self
            .batches
            .iter()
            .map(Column::of)
            .collect::<Result<Vec<_>>>()?;
        self.newest.retain(|_, (batch, row)| {
            let has = |(name, value): &(&str, String)| {
                columns[*batch]
                    .iter()
                    .any(|column| column.name() == *name && text(column.cell(*row)) == *value)
            };
            !values.iter().all(has)
        });
        Ok(())
    }

    /// The rows that stay, in the order in which they were written.
    fn finish(self) -> Result<Vec<RecordBatch>> {
        if self.key.is_empty() {
            return Ok(self.batches);
        }
        let mut stay: Vec<Vec<usize>> = vec![Vec::new(); self.batches.len()];
        for (batch, row) in self.newest.into_values() {
            stay[batch].push(row);
        }
        let mut kept = Vec::new();
        for (batch, mut rows) in self.batches.iter().zip(stay) {
            rows.sort_unstable();
            kept.extend(rows::filter(batch, |row| rows.binary_search(&row).is_ok())?);
        }
        Ok(kept)
    }
}

fn text(cell: Cell<'_>) -> String {
    let mut text = String::new();
    rows::push(&mut text, cell);
    text
}
