//! Rows: from Arrow columns into a staging table, and from there into the table.

mod statements;

use std::ops::Range;

use arrow_array::RecordBatch;
use destination_sql::{Deletes, RowKind, Step, Tombstones, quote};
use pipeline_core::{Result, failpoint};
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, Generation, Refused, SYNCED_AT, Table};

use crate::dialect::Style;
use crate::encode::{Encoder, Kind, Layout, Place};
use crate::error::{Explain as _, is_of_row, reason};
use crate::names::{Registered, Relation};
use crate::session::{Session, get, params};
use crate::stage::{self, Stage, WRITING};
use crate::table::{self, ORDER, Part, Physical, WRITTEN_BY};

/// Rows of a batch that are enough to guess by.
const MANY: usize = 500;

const UNDO: &str = "ROLLBACK TO SAVEPOINT pipeline_rows; RELEASE SAVEPOINT pipeline_rows";

/// How rows get into one table.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) registered: Registered,
    pub(crate) generation: Generation,
    /// Rows added, less those removed.
    pub(crate) added: i64,
    relation: Relation,
    key: Vec<String>,
    layout: Layout,
    tombstones: Tombstones,
    deletes: Deletes,
    /// The number of the transaction, which rows of the next generation hold, so that those of
    /// earlier transactions can be told apart and discarded.
    written_by: Option<i64>,
    /// The place for tombstones of the next generation, once there is one.
    gone: Option<Physical>,
    stage: Stage,
    /// Whether rows are first tried without the staging table, see [`copy`](Self::copy).
    pub(crate) is_direct: bool,
    /// Triggers that somebody added to the table: they may leave out a row, or remove it as soon as
    /// it is there.
    triggers: Vec<String>,
}

impl Writer {
    /// Creates or widens the table. `number` tells its staging table apart, `transaction` is the
    /// number of the transaction.
    pub(crate) async fn new(
        session: &Session,
        style: &Style,
        table: &Table,
        deletes: Deletes,
        number: usize,
        transaction: i64,
    ) -> Result<Self> {
        let registered = table::registered(session, style, table).await?;
        table::check(session, table, &registered).await?;
        let part = Part::of(table.generation);
        let physical = table::ensure(session, style, table, &registered, part).await?;
        let triggers = match part {
            Part::Visible => triggers(session, &physical.relation).await?,
            Part::Next | Part::Gone => Vec::new(),
        };
        Ok(Self {
            layout: Layout::of(table, &physical),
            relation: physical.relation,
            key: physical.key,
            tombstones: Tombstones::of(table),
            generation: table.generation,
            added: 0,
            deletes,
            written_by: (part == Part::Next).then_some(transaction),
            gone: None,
            stage: Stage::new(number),
            is_direct: false,
            triggers,
            registered,
        })
    }

    /// Writes a batch in its order, so that of rows with one key the last one stays. Returns the
    /// rows that the database refuses, because of an index, a constraint or a trigger that somebody
    /// added; all others are written.
    pub(crate) async fn write(
        &mut self,
        session: &Session,
        style: &Style,
        table: &Table,
        batch: &RecordBatch,
    ) -> Result<Vec<Refused>> {
        let columns = Column::of(batch)?;
        let layout = self.layout.clone();
        let mut encoder = Encoder::new(&layout, &columns);
        let mut refused = Vec::new();
        if self.key.is_empty() {
            let rows = 0..batch.num_rows();
            self.append(session, &mut encoder, rows.collect(), &mut refused)
                .await?;
        } else {
            if self.generation == Generation::Next {
                self.remember_gone(session, style, table, &columns, batch.num_rows())
                    .await?;
            }
            let steps = self
                .tombstones
                .steps(&columns, batch.num_rows(), self.deletes);
            for step in steps {
                match step {
                    Step::Merge { rows, tombstones } => {
                        let parts = (rows, tombstones);
                        self.merge(session, &mut encoder, parts, &mut refused)
                            .await?;
                    }
                    Step::Sweep(rows) => {
                        self.sweep(session, &mut encoder, &columns, rows.collect())
                            .await?;
                    }
                }
            }
        }
        refused.sort_by_key(|refused| refused.row);
        Ok(refused)
    }

    /// Adds rows of a table without a key.
    async fn append(
        &mut self,
        session: &Session,
        encoder: &mut Encoder<'_>,
        rows: Vec<usize>,
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        if self.copy(session, encoder, &rows, refused).await? {
            return Ok(());
        }
        let layout = self.layout.clone();
        let staged = self
            .stage
            .fill(session, &layout, encoder, rows, refused)
            .await?;
        failpoint("postgres-staged");
        let all: Vec<&Place> = layout.places.iter().collect();
        let sql = self.insert(&all, &[]);
        let one_by_one = !self.triggers.is_empty();
        self.run(session, &sql, &staged, one_by_one, refused).await
    }

    /// Copies rows straight into the table, which takes half the time. False: at least one of them
    /// has to be looked at more closely, because the table has its key or refuses it, and none was
    /// written.
    async fn copy(
        &mut self,
        session: &Session,
        encoder: &mut Encoder<'_>,
        rows: &[usize],
        refused: &mut Vec<Refused>,
    ) -> Result<bool> {
        let is_foreign = |place: &Place| place.kind == Kind::Foreign;
        if !self.triggers.is_empty() || self.layout.places.iter().any(is_foreign) {
            return Ok(false);
        }
        let places = self.layout.places.iter();
        let mut names: Vec<String> = places.map(|place| quote(&place.name)).collect();
        let mut end = String::new();
        if let Some(number) = self.written_by {
            names.push(WRITTEN_BY.to_owned());
            end = format!("\t{number}");
        }
        let (table, names) = (self.relation.sql(), names.join(", "));
        let sql = format!("COPY {table} ({names}) FROM STDIN");
        session.batch(WRITING, "SAVEPOINT pipeline_rows").await?;
        let (mut left_out, rows) = (Vec::new(), rows.iter().copied());
        let finish = |_, out: &mut Vec<u8>| out.extend_from_slice(end.as_bytes());
        match stage::copy(session, &sql, encoder, rows, &mut left_out, finish).await {
            Ok(added) => {
                let release = "RELEASE SAVEPOINT pipeline_rows";
                session.batch(WRITING, release).await?;
                self.added += i64::try_from(added).unwrap_or(i64::MAX);
                refused.extend(left_out);
                Ok(true)
            }
            Err(error) if is_of_row(&error) => {
                session.batch(WRITING, UNDO).await?;
                Ok(false)
            }
            Err(error) => Err(error).explain(WRITING),
        }
    }

    /// Writes a set of rows and tombstones.
    async fn merge(
        &mut self,
        session: &Session,
        encoder: &mut Encoder<'_>,
        (rows, tombstones): (Vec<usize>, Vec<usize>),
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        if self.deletes == Deletes::Remove {
            self.delete(session, encoder, tombstones, refused).await?;
            return self.upsert(session, encoder, rows, refused).await;
        }
        self.upsert(session, encoder, rows, refused).await?;
        self.mark(session, encoder, tombstones, refused).await
    }

    async fn upsert(
        &mut self,
        session: &Session,
        encoder: &mut Encoder<'_>,
        rows: Vec<usize>,
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.is_direct {
            self.is_direct = self.copy(session, encoder, &rows, refused).await?;
            if self.is_direct {
                return Ok(());
            }
        }
        let layout = self.layout.clone();
        let staged = self
            .stage
            .fill(session, &layout, encoder, rows, refused)
            .await?;
        failpoint("postgres-staged");
        let all: Vec<&Place> = layout.places.iter().collect();
        let is_compared = |place: &&&Place| !self.key.contains(&place.name) && !place.is(SYNCED_AT);
        let compared: Vec<&Place> = all.iter().filter(is_compared).copied().collect();
        let sql = self.insert(&all, &compared);
        let (known, added) = (refused.len(), self.added);
        self.run(session, &sql, &staged, false, refused).await?;
        // Where many rows were all new, those of the next batch are likely to be.
        let is_full =
            staged.len() >= MANY && usize::try_from(self.added - added) == Ok(staged.len());
        self.is_direct = is_full;
        if !self.triggers.is_empty() {
            let lost = self.swallowed(session, &staged).await?;
            let is_new = |row: &usize| refused[known..].iter().all(|refused| refused.row != *row);
            let lost: Vec<usize> = lost.into_iter().filter(is_new).collect();
            self.added -= i64::try_from(lost.len()).unwrap_or(i64::MAX);
            refused.extend(lost.into_iter().map(|row| Refused {
                row,
                reason: self.swallowing(),
            }));
        }
        Ok(())
    }

    /// Removes the rows with the keys of tombstones.
    async fn delete(
        &mut self,
        session: &Session,
        encoder: &mut Encoder<'_>,
        tombstones: Vec<usize>,
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        if tombstones.is_empty() {
            return Ok(());
        }
        let layout = self.layout.clone();
        let staged = self
            .stage
            .fill(session, &layout, encoder, tombstones, refused)
            .await?;
        failpoint("postgres-staged");
        let keys: Vec<&Place> = layout
            .places
            .iter()
            .filter(|place| self.key.contains(&place.name))
            .collect();
        let sql = self.removal(&keys);
        self.run(session, &sql, &staged, false, refused).await
    }

    /// Marks the rows with the keys of tombstones, and makes those that are not there.
    async fn mark(
        &mut self,
        session: &Session,
        encoder: &mut Encoder<'_>,
        tombstones: Vec<usize>,
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        if tombstones.is_empty() {
            return Ok(());
        }
        let layout = self.layout.clone();
        let staged = self
            .stage
            .fill(session, &layout, encoder, tombstones, refused)
            .await?;
        failpoint("postgres-staged");
        let is_set = |place: &&Place| {
            self.key.contains(&place.name) || place.is(SYNCED_AT) || place.is(DELETED)
        };
        let set: Vec<&Place> = layout.places.iter().filter(is_set).collect();
        let compared: Vec<&Place> = set
            .iter()
            .filter(|place| place.is(DELETED))
            .copied()
            .collect();
        let sql = self.insert(&set, &compared);
        self.run(session, &sql, &staged, false, refused).await
    }

    /// Carries out tombstones that name many rows. Those that compare the same columns walk through
    /// the table once.
    async fn sweep(
        &mut self,
        session: &Session,
        encoder: &mut Encoder<'_>,
        columns: &[Column<'_>],
        rows: Vec<usize>,
    ) -> Result<()> {
        let layout = self.layout.clone();
        let compared = |row: usize| -> Vec<&Place> {
            let names = columns.iter().enumerate();
            names
                .filter(|(_, column)| ![SYNCED_AT, DELETED].contains(&column.name()))
                .filter(|(_, column)| column.cell(row) != Cell::Null)
                .filter_map(|(index, _)| layout.place(index))
                .collect()
        };
        let is_same = |left: &usize, right: &usize| {
            let names = |row: usize| compared(row).into_iter().map(|place| &place.name);
            names(*left).eq(names(*right))
        };
        for group in rows.chunk_by(is_same) {
            let places = compared(group[0]);
            // One that says nothing means nothing.
            if places.is_empty() {
                continue;
            }
            let mut refused = Vec::new();
            let staged = self
                .stage
                .fill(session, &layout, encoder, group.to_vec(), &mut refused)
                .await?;
            failpoint("postgres-staged");
            let sql = self.removal(&places);
            self.run(session, &sql, &staged, false, &mut refused)
                .await?;
        }
        Ok(())
    }

    /// Keeps tombstones of the next generation until it is published.
    async fn remember_gone(
        &mut self,
        session: &Session,
        style: &Style,
        table: &Table,
        columns: &[Column<'_>],
        rows: usize,
    ) -> Result<()> {
        let tombstones: Vec<usize> = self
            .tombstones
            .runs(columns, rows)
            .filter(|(kind, _)| *kind != RowKind::Row)
            .flat_map(|(_, rows)| rows)
            .collect();
        let Some(written_by) = self.written_by.filter(|_| !tombstones.is_empty()) else {
            return Ok(());
        };
        if self.gone.is_none() {
            let gone = table::ensure(session, style, table, &self.registered, Part::Gone).await?;
            self.gone = Some(gone);
        }
        let Some(gone) = &self.gone else {
            return Ok(());
        };
        let (mut names, mut values) = (vec![WRITTEN_BY.to_owned()], vec![written_by.to_string()]);
        for (index, column) in gone.columns.iter().enumerate() {
            if let (Some((name, data_type)), Some(place)) = (column, self.layout.place(index)) {
                names.push(quote(name));
                values.push(format!("{}::{data_type}", Stage::value(place)));
            }
        }
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} AS s",
            gone.relation.sql(),
            names.join(", "),
            values.join(", "),
            self.stage.sql()
        );
        let layout = self.layout.clone();
        let mut encoder = Encoder::new(&layout, columns);
        self.stage
            .fill(session, &layout, &mut encoder, tombstones, &mut Vec::new())
            .await?;
        session.batch(WRITING, &sql).await
    }

    /// Runs a statement on the staged rows between two numbers, and counts what it has added. Where
    /// it fails because of a row, runs it on fewer rows, down to the one that is refused.
    async fn run(
        &mut self,
        session: &Session,
        sql: &str,
        staged: &[usize],
        one_by_one: bool,
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        let mut ranges: Vec<Range<usize>> = if one_by_one {
            self.stage.index(session).await?;
            (0..staged.len()).rev().map(|row| row..row + 1).collect()
        } else {
            std::iter::once(0..staged.len()).collect()
        };
        while let Some(range) = ranges.pop() {
            if range.is_empty() {
                continue;
            }
            session.batch(WRITING, "SAVEPOINT pipeline_rows").await?;
            let number = |place: usize| i64::try_from(place).unwrap_or(i64::MAX);
            let (first, last) = (number(range.start), number(range.end - 1));
            match session
                .client()
                .query_typed_one(sql, params![first, last])
                .await
            {
                Ok(row) => {
                    let release = "RELEASE SAVEPOINT pipeline_rows";
                    session.batch(WRITING, release).await?;
                    self.added += get::<i64>(&row, 0)?;
                    if one_by_one && get::<i64>(&row, 1)? == 0 {
                        refused.push(Refused {
                            row: staged[range.start],
                            reason: self.swallowing(),
                        });
                    }
                }
                Err(error) if is_of_row(&error) => {
                    let undo =
                        "ROLLBACK TO SAVEPOINT pipeline_rows; RELEASE SAVEPOINT pipeline_rows";
                    session.batch(WRITING, undo).await?;
                    if range.len() == 1 {
                        refused.push(Refused {
                            row: staged[range.start],
                            reason: reason(&error),
                        });
                    } else {
                        if !self.stage.is_indexed() {
                            self.stage.index(session).await?;
                        }
                        let middle = range.start + range.len() / 2;
                        ranges.push(middle..range.end);
                        ranges.push(range.start..middle);
                    }
                }
                Err(error) => return Err(error).explain(WRITING),
            }
        }
        failpoint("postgres-merged");
        Ok(())
    }

    /// The rows of those staged that are not in the table, although nothing refused them.
    async fn swallowed(&self, session: &Session, staged: &[usize]) -> Result<Vec<usize>> {
        let (equal, some): (Vec<String>, Vec<String>) = self
            .layout
            .places
            .iter()
            .filter(|place| self.key.contains(&place.name))
            .map(|place| {
                let value = Stage::value(place);
                (
                    format!("t.{} = {value}", quote(&place.name)),
                    format!("{value} IS NOT NULL"),
                )
            })
            .unzip();
        let sql = format!(
            "SELECT {ORDER} FROM {} AS s WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS t WHERE {})",
            self.stage.sql(),
            some.join(" AND "),
            self.relation.sql(),
            equal.join(" AND ")
        );
        let rows = session.query(WRITING, &sql, &[]).await?;
        rows.iter()
            .map(|row| {
                let number = usize::try_from(get::<i64>(row, 0)?).unwrap_or_default();
                Ok(staged[number])
            })
            .collect()
    }

    fn swallowing(&self) -> String {
        let names: Vec<String> = self
            .triggers
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        format!(
            "a trigger that was added to the table left the row out, or removed it: {}",
            names.join(", ")
        )
    }
}

/// The triggers of a table that can leave out a row.
async fn triggers(session: &Session, relation: &Relation) -> Result<Vec<String>> {
    let sql = "SELECT g.tgname::text FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND (g.tgtype & 20) <> 0
        ORDER BY g.tgname";
    let place = params![relation.schema, relation.name];
    session.strings(WRITING, sql, place).await
}
