//! What every destination must do, as one generated test per rule.
//!
//! ```text
//! struct Fixture; // implements DestinationFixture
//! pipeline_testkit::destination_suite!(Fixture);
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the suite is test code"
)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use async_trait::async_trait;
use futures::FutureExt as _;
use pipeline_core::state::{Change, EndpointId, EndpointState, Position, SliceState};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::cell::{Cell, Column, JSON};
use pipeline_engine::{
    Commit, DELETED, Delivery, Destination, EXTRA, Generation, Keep, Purge, SYNCED_AT, Table,
    TableId,
};
use serde_json::{Map, Value};

pub mod files;
mod house;
mod rules;
mod scratch;

pub use house::*;
pub use rules::*;
pub use scratch::Scratch;

/// A destination to test, and how a test makes a place for it, opens it, and reads back what others
/// see.
///
/// What has a default is right for a destination in a folder; one on a server overrides it.
#[async_trait]
pub trait DestinationFixture: Send + Sync {
    /// Makes a place of a test's own, which is empty: a folder, a database or a bucket.
    async fn scratch(&self) -> Scratch {
        Scratch::folder()
    }

    /// Opens the destination in a place, which may hold what an earlier one left, of this process
    /// or of another.
    async fn open(&self, scratch: &Scratch) -> Result<Box<dyn Destination>>;

    /// The visible rows of a table, read without the destination's help: each as [`canonical`]
    /// text, sorted.
    async fn rows(&self, scratch: &Scratch, table: &Table) -> Vec<String>;

    /// True when a row replaces the one with its key; false when a table is a log of versions.
    fn upserts(&self) -> bool;

    /// Every crash point in the destination's code.
    fn crash_points(&self) -> &[&'static str];

    /// The crash points that a purge passes.
    fn purge_crash_points(&self) -> &[&'static str];

    /// The rows of a table that is a log of versions, in their order, each as [`canonical`] text.
    /// They are read as the files are, without opening the destination, which would finish what a
    /// process that died has begun.
    fn versions(&self, scratch: &Scratch, table: &Table) -> Option<Vec<String>>;

    /// Ways to damage what is stored after some commits.
    fn damages(&self) -> &[Damage];

    /// Names of everything that is stored: the files of a folder, the tables of a database.
    async fn stored(&self, scratch: &Scratch) -> Vec<String> {
        files(scratch.path())
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    /// Where a text is stored, in a row or in what a row has left behind; none: nowhere.
    async fn find(&self, scratch: &Scratch, text: &str) -> Option<String> {
        let holds = |path: &&PathBuf| {
            fs::read(path)
                .unwrap()
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        files(scratch.path())
            .iter()
            .find(holds)
            .map(|path| path.display().to_string())
    }

    /// What the destination has made beside its place.
    async fn strays(&self, scratch: &Scratch) -> Vec<String> {
        let beside = fs::read_dir(scratch.path().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        beside
            .filter(|path| path != scratch.path())
            .map(|path| path.display().to_string())
            .collect()
    }

    /// Places, at least one, in which it cannot be opened or not be written.
    async fn unusable(&self) -> Vec<Scratch> {
        scratch::unusable_folders()
    }
}

/// A way to damage what is stored.
#[derive(Debug)]
pub struct Damage {
    /// What is damaged.
    pub name: &'static str,
    /// Damages it.
    pub inflict: fn(&Scratch),
}

/// Generates the tests for a fixture, an expression. After `local` it is one that stores on this
/// machine's own disk, which may be full.
#[macro_export]
macro_rules! destination_suite {
    ($fixture:expr) => {
        $crate::destination_suite!(@rules $fixture;
            nothing_is_visible_before_the_commit,
            a_dropped_transaction_leaves_nothing,
            a_cancelled_write_leaves_nothing,
            rows_and_checkpoint_survive_a_restart,
            a_refused_change_refuses_everything,
            of_two_writers_with_one_delta_one_wins,
            writers_of_different_endpoints_both_win,
            rows_without_a_key_are_appended,
            rows_with_a_key_replace_each_other,
            a_version_is_stored_once,
            a_set_that_is_the_same_is_not_stored_again,
            a_version_is_stored_once_in_a_refresh,
            what_belonged_together_goes_together,
            the_next_generation_is_invisible_until_published,
            discarding_spares_the_rows_of_its_own_transaction,
            selected_rows_are_carried_into_a_published_generation,
            rows_without_a_key_are_carried,
            publishing_nothing_empties_the_table,
            a_purge_leaves_nothing_of_what_was_deleted,
            columns_are_added,
            every_type_comes_back,
            strange_names_stay_apart,
            the_commit_log_has_no_gaps,
            an_unusable_location_is_explained,
            damage_is_never_taken_for_emptiness,
            a_source_is_claimed_once,
            runs_are_remembered,
            the_oldest_runs_are_forgotten,
            an_intact_destination_has_no_damage,
        );
        $crate::destination_suite!(@respawned $fixture;
            killed_anywhere_it_goes_on_where_it_was,
            killed_while_it_purges_it_shows_the_same,
        );
    };
    (local $fixture:expr) => {
        $crate::destination_suite!($fixture);
        $crate::destination_suite!(@respawned $fixture; a_full_disk_loses_nothing);
    };
    (@rules $fixture:expr; $($rule:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $rule() {
            $crate::destination_suite::$rule(&$fixture).await;
        })*
    };
    (@respawned $fixture:expr; $($rule:ident),* $(,)?) => {
        $(#[cfg(unix)]
        #[tokio::test]
        async fn $rule() {
            $crate::crash::$rule(&$fixture, concat!(module_path!(), "::", stringify!($rule))).await;
        })*
    };
}

// ---- rows ----

/// A row of the suite's simple tables.
#[derive(Clone, Debug)]
pub struct Row {
    id: Option<i64>,
    name: Option<Cow<'static, str>>,
}

/// A row.
pub fn row(id: i64, name: impl Into<Cow<'static, str>>) -> Row {
    Row {
        id: Some(id),
        name: Some(name.into()),
    }
}

/// A tombstone.
pub fn gone(id: i64) -> Row {
    Row {
        id: Some(id),
        name: None,
    }
}

/// A tombstone of every row of that name.
pub fn all_gone(name: &'static str) -> Row {
    Row {
        id: None,
        name: Some(name.into()),
    }
}

impl Row {
    fn is_tombstone(&self) -> bool {
        self.id.is_none() || self.name.is_none()
    }

    /// As `id=name` or `id gone`.
    fn text(&self) -> String {
        match (self.id, &self.name) {
            (Some(id), Some(name)) => format!("{id}={name}"),
            (Some(id), None) => format!("{id} gone"),
            (None, name) => format!("all {} gone", name.as_deref().unwrap_or("?")),
        }
    }
}

/// A table of the source `demo` with the columns `id` and `name`.
pub fn table(stream: &str, key: &[&str], generation: Generation) -> Arc<Table> {
    let columns = vec![("id", DataType::Int64), ("name", DataType::Utf8)];
    table_of("demo", stream, key, generation, &columns)
}

/// A table of some columns and those that every table has.
pub fn table_of(
    source: &str,
    stream: &str,
    key: &[&str],
    generation: Generation,
    columns: &[(&str, DataType)],
) -> Arc<Table> {
    let mut fields: Vec<Field> = columns
        .iter()
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true))
        .collect();
    fields.push(json_field(EXTRA));
    fields.push(Field::new(
        SYNCED_AT,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        false,
    ));
    fields.push(Field::new(DELETED, DataType::Boolean, false));
    Arc::new(Table {
        source: source.to_owned(),
        stream: stream.to_owned(),
        primary_key: key.iter().map(|&name| name.to_owned()).collect(),
        schema: Arc::new(Schema::new(fields)),
        generation,
    })
}

fn json_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
        .with_metadata(HashMap::from([(JSON.to_owned(), "true".to_owned())]))
}

/// Rows as a batch; columns other than `id` and `name` are null.
pub fn batch(table: &Table, rows: &[Row]) -> RecordBatch {
    let columns = table.schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "id" => Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>()),
            SYNCED_AT => {
                Arc::new(TimestampMicrosecondArray::from(vec![0; rows.len()]).with_timezone("UTC"))
            }
            DELETED => Arc::new(
                rows.iter()
                    .map(|row| Some(row.is_tombstone()))
                    .collect::<BooleanArray>(),
            ),
            "name" => Arc::new(
                rows.iter()
                    .map(|row| row.name.as_deref())
                    .collect::<StringArray>(),
            ),
            _ => arrow_array::new_null_array(field.data_type(), rows.len()),
        }
    });
    RecordBatch::try_new(Arc::clone(&table.schema), columns.collect()).unwrap()
}

/// The rows of a batch as JSON objects without nulls, their members sorted; decimals and instants
/// are strings.
pub fn canonical(batch: &RecordBatch) -> Vec<String> {
    let columns = Column::of(batch).unwrap();
    let object = |row| {
        columns
            .iter()
            .map(|column| (column.name().to_owned(), cell_value(column.cell(row))))
            .collect()
    };
    (0..batch.num_rows())
        .map(|row| canonical_object(object(row)))
        .collect()
}

/// An object as text, its nulls left out and its members sorted.
pub fn canonical_object(object: Map<String, Value>) -> String {
    let mut members: Vec<_> = object
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    Value::Object(members.into_iter().collect()).to_string()
}

fn cell_value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => value.into(),
        Cell::Int64(value) => value.into(),
        Cell::Float64(value) => value.into(),
        Cell::Json(json) => serde_json::from_str(json).unwrap(),
        text => {
            let mut out = String::new();
            text.push_text(&mut out);
            out.into()
        }
    }
}

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

/// A row of a simple table from its canonical text.
fn parse(line: &str) -> Row {
    let row: Value = serde_json::from_str(line).unwrap();
    Row {
        id: row["id"].as_i64(),
        name: row["name"].as_str().map(|name| name.to_owned().into()),
    }
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
    upserts: bool,
    keyed: bool,
    /// What was written and not left out.
    pub rows: Vec<Row>,
    newest: HashMap<i64, Row>,
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

/// Selects the rows of some name.
pub fn keep(table: &Table, name: &str) -> Keep {
    Keep {
        table: table.id(),
        values: [("name".to_owned(), Value::from(name).to_string())].into(),
    }
}

// ---- purge ----

/// A history with what a purge is about: the text `erased` is in rows that are gone, `older` in
/// versions that were replaced.
pub fn history() -> Vec<Vec<Row>> {
    vec![
        vec![
            row(1, "older-a"),
            row(2, "b"),
            row(3, "erased-c"),
            row(4, "erased-group"),
            row(5, "erased-e"),
            row(6, "erased-f"),
        ],
        vec![row(7, "erased-g"), row(3, "erased-cc")],
        vec![row(1, "older-aa"), row(8, "h")],
        vec![gone(3), gone(7)],
        vec![gone(5), all_gone("erased-group"), row(9, "i")],
        vec![row(5, "again"), row(1, "a")],
        vec![gone(6)],
    ]
}

/// The table of the history.
pub fn customers(generation: Generation) -> Arc<Table> {
    table("customers", &["id"], generation)
}

/// Stores the history, and rows of a refresh that was abandoned.
pub async fn store_history(destination: &dyn Destination) {
    destination
        .prepare(&[customers(Generation::Current)])
        .await
        .unwrap();
    for rows in history() {
        store(
            destination,
            &[(&customers(Generation::Current), rows)],
            &commit(vec![]),
        )
        .await
        .unwrap();
    }
    let abandoned = vec![row(20, "erased-next"), gone(21)];
    store(
        destination,
        &[(&customers(Generation::Next), abandoned)],
        &commit(vec![]),
    )
    .await
    .unwrap();
}

/// A purge of everything.
pub fn purge(versions: bool) -> Purge {
    Purge {
        versions,
        run: "purge-1".to_owned(),
        ..Purge::default()
    }
}

/// Every file below a folder, except SQLite's, which keep their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Fails when a text is stored anywhere.
pub async fn assert_nowhere(fixture: &dyn DestinationFixture, scratch: &Scratch, text: &str) {
    assert_eq!(
        fixture.find(scratch, text).await,
        None,
        "{text} is stored there"
    );
}

// ---- commits ----

/// The endpoint that the suite reads.
pub fn endpoint(name: &str) -> EndpointId {
    EndpointId::new("demo", name)
}

/// The change that plans an endpoint: one slice, nothing read.
pub fn plan(name: &str) -> Change {
    let mut to = EndpointState::default().next_plan();
    to.add_slice(SliceState::default());
    Change::Replace {
        endpoint: endpoint(name),
        from: EndpointState::default(),
        to,
    }
}

/// The change that reads on from one page to the next; page 0 is the start.
pub fn advance(name: &str, from: usize) -> Change {
    let position = |page: usize| {
        if page == 0 {
            Position::Start
        } else {
            Position::At(page.to_string())
        }
    };
    Change::Advance {
        endpoint: endpoint(name),
        plan: 1,
        slice: 0,
        from: position(from),
        to: position(from + 1),
        reached: None,
        newest: None,
        seen: Vec::new(),
        gaps: Vec::new(),
    }
}

/// A commit of some changes.
pub fn commit(changes: Vec<Change>) -> Commit {
    Commit {
        run: "run-1".to_owned(),
        changes,
        bytes: 7,
        content_hash: "00ff".to_owned(),
        ..Commit::default()
    }
}

async fn open(fixture: &dyn DestinationFixture, scratch: &Scratch) -> Box<dyn Destination> {
    fixture.open(scratch).await.unwrap()
}

/// Writes rows and commits them in one transaction.
pub async fn store(
    destination: &dyn Destination,
    writes: &[(&Arc<Table>, Vec<Row>)],
    commit: &Commit,
) -> Result<u64> {
    let mut transaction = destination.begin().await?;
    for (table, rows) in writes {
        transaction.write(table, batch(table, rows)).await?;
    }
    transaction.commit(commit).await
}
