//! What a table should show after rows were written to it.

use std::collections::HashMap;

use pipeline_engine::{Generation, Table};

use super::rows::{Row, parse};
use super::{DestinationFixture, Scratch};

/// The visible rows of a simple table, as `id=name` or `id gone`, sorted.
pub async fn shown(
    fixture: &dyn DestinationFixture,
    scratch: &Scratch,
    table: &Table,
) -> Vec<String> {
    let mut rows: Vec<String> = fixture
        .rows(scratch, table)
        .await
        .iter()
        .map(|line| parse(line).text())
        .collect();
    rows.sort();
    rows
}

/// What is visible after rows were written in that order.
pub fn expected<'a>(
    fixture: &dyn DestinationFixture,
    keyed: bool,
    rows: impl IntoIterator<Item = &'a Row>,
) -> Vec<String> {
    let mut shelf = Shelf::new(fixture, keyed);
    rows.into_iter()
        .for_each(|row| shelf.put(Generation::Current, row));
    shelf.shown()
}

/// What is visible after a generation of those rows was published.
pub fn published<'a>(
    fixture: &dyn DestinationFixture,
    rows: impl IntoIterator<Item = &'a Row>,
) -> Vec<String> {
    let mut shelf = Shelf::new(fixture, true);
    rows.into_iter()
        .for_each(|row| shelf.put(Generation::Next, row));
    shelf.shown()
}

/// One generation of a table as it should be: in a log of versions each is stored once, and a
/// tombstone where it changes something. Those of the next generation are all stored, since they
/// may concern rows that are carried into it.
#[derive(Clone, Debug)]
pub struct Shelf {
    pub(super) upserts: bool,
    keyed: bool,
    /// What was written and not left out.
    pub rows: Vec<Row>,
    pub(super) newest: HashMap<i64, Row>,
}

impl Shelf {
    /// An empty generation.
    pub fn new(fixture: &dyn DestinationFixture, keyed: bool) -> Self {
        Self {
            upserts: fixture.upserts(),
            keyed,
            rows: Vec::new(),
            newest: HashMap::new(),
        }
    }

    /// Writes a row.
    pub fn put(&mut self, generation: Generation, row: &Row) {
        let newest = row.id.and_then(|id| self.newest.get(&id));
        let is_new = match row.id {
            _ if self.upserts || !self.keyed => true,
            None | Some(_) if row.is_tombstone() && generation == Generation::Next => true,
            None => self.newest.values().any(|other| other.name == row.name),
            Some(_) if row.is_tombstone() => newest.is_some(),
            Some(_) => newest.is_none_or(|newest| newest.name != row.name),
        };
        if is_new {
            self.rows.push(row.clone());
        }
        match row.id {
            None => self.newest.retain(|_, other| other.name != row.name),
            Some(id) if row.is_tombstone() => drop(self.newest.remove(&id)),
            Some(id) => drop(self.newest.insert(id, row.clone())),
        }
    }

    /// Writes rows.
    pub fn put_all(&mut self, generation: Generation, rows: &[Row]) {
        for row in rows {
            self.put(generation, row);
        }
    }

    /// What a reader sees.
    pub fn shown(&self) -> Vec<String> {
        let visible = if self.keyed && self.upserts {
            live(&self.rows)
        } else {
            self.rows.iter().collect()
        };
        let mut lines: Vec<String> = visible.iter().map(|row| row.text()).collect();
        lines.sort();
        lines
    }
}

/// The newest version of each key that is not deleted.
fn live<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<&'a Row> {
    let mut live: Vec<&Row> = Vec::new();
    for row in rows {
        live.retain(|other| {
            if row.id.is_none() {
                other.name != row.name
            } else {
                other.id != row.id
            }
        });
        live.extend((!row.is_tombstone()).then_some(row));
    }
    live
}

/// The newest version of each key that is not deleted, as `id=name`, sorted.
pub fn live_text<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<String> {
    let mut lines: Vec<String> = live(rows).into_iter().map(Row::text).collect();
    lines.sort();
    lines
}

/// The rows that the log of versions shows as it is; none: a row replaces the one with its key.
pub fn shown_by_log(
    fixture: &dyn DestinationFixture,
    scratch: &Scratch,
    table: &Table,
) -> Option<Vec<String>> {
    let versions: Vec<Row> = fixture
        .versions(scratch, table)?
        .iter()
        .map(|line| parse(line))
        .collect();
    Some(live_text(&versions))
}

/// The rows of a generation that stay when another one takes its place and those of some name are
/// to be kept.
pub fn carried(current: &[Row], next: &[Row], name: &str) -> Vec<Row> {
    let is_replaced = |row: &Row| {
        next.iter().any(|other| {
            if other.id.is_none() {
                other.name == row.name
            } else {
                other.id == row.id
            }
        })
    };
    live(current)
        .into_iter()
        .filter(|row| row.name.as_deref() == Some(name) && !is_replaced(row))
        .cloned()
        .collect()
}
