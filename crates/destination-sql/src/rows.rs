//! What the rows of a batch do, and in which order.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, Table};

use crate::Deletes;

/// What a row of a batch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// It is stored, in the place of one with its key.
    Row,
    /// It deletes the row with its key.
    Tombstone,
    /// It deletes every row that has its values.
    Sweep,
}

/// A part of a batch that can be written as sets of rows, with the same result as row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Rows of which no two have the same key, and tombstones. Where tombstones remove, no row has
    /// the key of one; where they mark, the row comes first.
    Merge {
        /// The rows that are stored, in their order.
        rows: Vec<usize>,
        /// The tombstones, in their order.
        tombstones: Vec<usize>,
    },
    /// Tombstones that name many rows.
    Sweep(Range<usize>),
}

/// The newest row and the newest tombstone of a key.
#[derive(Default)]
struct Newest {
    row: Option<usize>,
    tombstone: Option<usize>,
}

/// Finds the tombstones of a table's batches.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    /// The columns of the batch that are the key.
    key: Vec<usize>,
    /// The column that marks a tombstone.
    deleted: Option<usize>,
}

impl Tombstones {
    /// Those of a table's batches.
    pub fn of(table: &Table) -> Self {
        let index = |name: &str| table.schema.index_of(name).ok();
        Self {
            key: table
                .primary_key
                .iter()
                .filter_map(|name| index(name))
                .collect(),
            deleted: index(DELETED),
        }
    }

    /// The columns of the batch that are the key.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// Cuts a batch into runs of rows of one kind, in their order: a tombstone deletes what was
    /// written before it and not what comes after it.
    pub fn runs(
        &self,
        columns: &[Column<'_>],
        rows: usize,
    ) -> impl Iterator<Item = (RowKind, Range<usize>)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let kind = (start < rows).then(|| self.kind(columns, start))?;
            let end = (start..rows)
                .find(|row| self.kind(columns, *row) != kind)
                .unwrap_or(rows);
            let run = start..end;
            start = end;
            Some((kind, run))
        })
    }

    /// Cuts a batch into steps, for a database that is given many rows at once. Of several rows with
    /// one key only the newest is in a step; a row whose key has a null is one by itself. Tables
    /// without a key have none: their rows are appended as they are.
    pub fn steps(&self, columns: &[Column<'_>], rows: usize, deletes: Deletes) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut start = 0;
        for (kind, run) in self.runs(columns, rows) {
            if kind == RowKind::Sweep {
                steps.extend(self.merge(columns, start..run.start, deletes));
                start = run.end;
                steps.push(Step::Sweep(run));
            }
        }
        steps.extend(self.merge(columns, start..rows, deletes));
        steps
    }

    fn merge(&self, columns: &[Column<'_>], range: Range<usize>, deletes: Deletes) -> Option<Step> {
        let (mut newest, mut rows) = (HashMap::<String, Newest>::new(), Vec::new());
        for row in range.clone() {
            match (self.kind(columns, row), self.key_text(columns, row)) {
                (RowKind::Tombstone, Some(key)) => {
                    newest.entry(key).or_default().tombstone = Some(row);
                }
                (_, Some(key)) => newest.entry(key).or_default().row = Some(row),
                (_, None) => rows.push(row),
            }
        }
        let mut tombstones = Vec::new();
        for Newest { row, tombstone } in newest.into_values() {
            let is_gone = tombstone > row;
            tombstones.extend(tombstone.filter(|_| is_gone));
            rows.extend(row.filter(|_| !is_gone || deletes == Deletes::Mark));
        }
        rows.sort_unstable();
        tombstones.sort_unstable();
        (!range.is_empty()).then_some(Step::Merge { rows, tombstones })
    }

    /// The key of a row as text; none: it has a null in it.
    fn key_text(&self, columns: &[Column<'_>], row: usize) -> Option<String> {
        let mut text = String::new();
        for index in &self.key {
            let cell = columns[*index].cell(row);
            if cell == Cell::Null {
                return None;
            }
            let start = text.len();
            cell.push_text(&mut text);
            // No two keys have one text, whatever their parts hold.
            let length = text.len() - start;
            // Writing to a string cannot fail.
            let _ = write!(text, "\0{length}\0");
        }
        Some(text)
    }

    fn kind(&self, columns: &[Column<'_>], row: usize) -> RowKind {
        if !self
            .deleted
            .is_some_and(|index| columns[index].cell(row) == Cell::Bool(true))
        {
            RowKind::Row
        } else if self
            .key
            .iter()
            .all(|index| columns[*index].cell(row) != Cell::Null)
        {
            RowKind::Tombstone
        } else {
            RowKind::Sweep
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow_array::{BooleanArray, Int64Array, RecordBatch, StringArray};
    use arrow_schema::{DataType, Field, Schema};
    use pipeline_engine::Generation;

    use super::*;

    fn batch(rows: &[(Option<i64>, Option<&str>, bool)]) -> (Table, RecordBatch) {
        let fields = [
            ("id", DataType::Int64),
            ("name", DataType::Utf8),
            (DELETED, DataType::Boolean),
        ];
        let schema = Arc::new(Schema::new(
            fields
                .map(|(name, data_type)| Field::new(name, data_type, true))
                .to_vec(),
        ));
        let table = Table {
            source: "demo".to_owned(),
            stream: "charges".to_owned(),
            primary_key: vec!["id".to_owned()],
            schema: Arc::clone(&schema),
            generation: Generation::Current,
        };
        let deleted: BooleanArray = rows.iter().map(|row| Some(row.2)).collect();
        let batch = RecordBatch::try_new(
            schema,
            vec![
                Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
                Arc::new(deleted),
            ],
        )
        .unwrap();
        (table, batch)
    }

    #[test]
    fn steps_hold_the_newest_of_each_key() {
        let (table, batch) = batch(&[
            (Some(1), Some("a"), false),
            (Some(2), Some("b"), false),
            (Some(1), Some("c"), false),
            (Some(2), None, true),
            (None, Some("no key"), false),
            (None, Some("no key"), false),
            (Some(3), None, true),
            (None, Some("c"), true),
            (Some(3), None, true),
            (Some(3), Some("d"), false),
        ]);
        let columns = Column::of(&batch).unwrap();
        let tombstones = Tombstones::of(&table);
        let steps = |deletes| tombstones.steps(&columns, batch.num_rows(), deletes);
        let merge = |rows: &[usize], tombstones: &[usize]| Step::Merge {
            rows: rows.to_vec(),
            tombstones: tombstones.to_vec(),
        };
        let last = merge(&[9], &[]);
        assert_eq!(
            steps(Deletes::Remove),
            [merge(&[2, 4, 5], &[3, 6]), Step::Sweep(7..8), last.clone()]
        );
        assert_eq!(
            steps(Deletes::Mark),
            [merge(&[1, 2, 4, 5], &[3, 6]), Step::Sweep(7..8), last]
        );
        assert_eq!(tombstones.steps(&columns, 0, Deletes::Remove), []);
    }

    #[test]
    fn a_batch_is_cut_into_runs_in_its_order() {
        let (table, batch) = batch(&[
            (Some(1), Some("a"), false),
            (Some(2), Some("b"), false),
            (Some(1), None, true),
            (None, Some("b"), true),
            (Some(3), Some("c"), false),
        ]);
        let columns = Column::of(&batch).unwrap();
        let tombstones = Tombstones::of(&table);
        let runs: Vec<_> = tombstones.runs(&columns, batch.num_rows()).collect();
        assert_eq!(
            runs,
            [
                (RowKind::Row, 0..2),
                (RowKind::Tombstone, 2..3),
                (RowKind::Sweep, 3..4),
                (RowKind::Row, 4..5)
            ]
        );
        assert_eq!(
            (tombstones.key(), tombstones.runs(&columns, 0).count()),
            (&[0][..], 0)
        );
    }
}
