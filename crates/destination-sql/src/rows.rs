//! What the rows of a batch do, and in which order.

use std::ops::Range;

use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, Table};

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

/// Finds the tombstones of a table's batches.
#[derive(Clone, Debug)]
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

    #[test]
    fn a_batch_is_cut_into_runs_in_its_order() {
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
        let batch = RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from(vec![
                    Some(1),
                    Some(2),
                    Some(1),
                    None,
                    Some(3),
                ])),
                Arc::new(StringArray::from(vec![
                    Some("a"),
                    Some("b"),
                    None,
                    Some("b"),
                    Some("c"),
                ])),
                Arc::new(BooleanArray::from(vec![false, false, true, true, false])),
            ],
        )
        .unwrap();
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
