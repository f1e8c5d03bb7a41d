//! What a destination holds.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::Field;
use pipeline_testkit::destination_suite::Scratch;
use pipeline_testkit::postgres::{Cluster, database_of};
use pipeline_testkit::s3::Prefix;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::place::Place;
use crate::scenario::Store;
use crate::stage::Stage;

/// A row as its id and its text, without what differs between two syncs of the same account.
pub(crate) type Row = (String, String);

/// The members of a row: their names and their texts.
type Members = Vec<(String, String)>;

/// Columns of the sync's own moment.
const OF_THE_SYNC: [&str; 1] = ["_synced_at"];

/// The ids of a stream, sorted, each as often as it is there. Of file destinations, which keep
/// every version of a record, a second version with the same content is a double, too.
pub(crate) fn ids(stage: &Stage, stream: &str) -> Vec<String> {
    contents(stage, stage.path(), stream)
        .into_iter()
        .map(|(id, _)| id)
        .collect()
}

/// The ids of a stream of a source, sorted.
pub(crate) fn ids_of(stage: &Stage, source: &str, stream: &str) -> Vec<String> {
    of_source(stage, stage.path(), source, stream)
        .into_iter()
        .map(|(id, _)| id)
        .collect()
}

/// The rows of a stream in a folder, sorted.
pub(crate) fn contents(stage: &Stage, folder: &Path, stream: &str) -> Vec<Row> {
    of_source(stage, folder, stage.scenario.source(), stream)
}

fn of_source(stage: &Stage, folder: &Path, source: &str, stream: &str) -> Vec<Row> {
    let id = if stream == "export" {
        "insert_id"
    } else {
        "id"
    };
    let lake = folder.join("lake").join(source).join(stream);
    let mut rows = match (stage.scenario.store, &stage.place) {
        (_, Place::Database(scratch)) => of_server(scratch, source, stream, id),
        (_, Place::Bucket(prefix)) => of_bucket(prefix, &format!("{source}/{stream}"), id),
        (Store::Jsonl, _) => of_files(&lake, id, json_rows),
        (Store::Parquet, _) => of_files(&lake, id, parquet_file),
        _ => of_database(
            &folder.join("warehouse.db"),
            &format!("{source}_{stream}"),
            id,
        ),
    };
    rows.sort_unstable();
    rows
}

/// The rows without some of their columns.
pub(crate) fn without(mut rows: Vec<Row>, left_out: fn(&str) -> bool) -> Vec<Row> {
    for (_, text) in &mut rows {
        let is_kept = |line: &&str| line.split_once('=').is_none_or(|(name, _)| !left_out(name));
        *text = text.split_inclusive('\n').filter(is_kept).collect();
    }
    rows
}

/// The first column of the first row that a query of the database gives, as text.
pub(crate) fn query(folder: &Path, query: &str) -> String {
    let database = Connection::open_with_flags(
        folder.join("warehouse.db"),
        OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    let value = database.query_row(query, [], |row| Ok(text(row.get_ref(0)?)));
    value.unwrap_or_else(|error| format!("{error}"))
}

/// Changes the database behind the program's back.
pub(crate) fn execute(folder: &Path, sql: &str) {
    Connection::open(folder.join("warehouse.db"))
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

fn of_database(path: &Path, table: &str, id: &str) -> Vec<Row> {
    if !path.exists() {
        return Vec::new();
    }
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    if !database.table_exists(None, table).unwrap() {
        return Vec::new();
    }
    let mut select = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let names: Vec<String> = select.column_names().map(ToOwned::to_owned).collect();
    let row = |row: &rusqlite::Row<'_>| {
        let values = names
            .iter()
            .enumerate()
            .map(|(at, name)| Ok((name.clone(), text(row.get_ref(at)?))));
        values.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows: Vec<_> = select
        .query_map([], row)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    rows.into_iter().map(|values| named(values, id)).collect()
}

fn of_server(scratch: &Scratch, source: &str, stream: &str, id: &str) -> Vec<Row> {
    let database = database_of(scratch.name());
    let table = format!("{source}.{stream}");
    let is_there = format!("SELECT to_regclass('{table}') IS NOT NULL");
    if Cluster::shared().run(database, &is_there) != "t" {
        return Vec::new();
    }
    let sql = format!("SELECT to_jsonb(t) FROM {table} t");
    let lines = Cluster::shared().run(database, &sql);
    lines
        .lines()
        .map(|line| named(json_row(line), id))
        .collect()
}

/// By a plain listing.
fn of_bucket(prefix: &Prefix, folder: &str, id: &str) -> Vec<Row> {
    let mut names = prefix.objects(folder);
    names.retain(|name| name.ends_with(".parquet"));
    names
        .iter()
        .flat_map(|name| parquet_rows(Bytes::from(prefix.read(name))))
        .map(|values| named(values, id))
        .collect()
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// A row of these members, without those that are null: a column comes to a table with its first
/// value.
fn named(mut values: Members, id: &str) -> Row {
    values.retain(|(name, value)| !OF_THE_SYNC.contains(&name.as_str()) && value != "null");
    values.sort_unstable();
    let key = values
        .iter()
        .find(|(name, _)| name == id)
        .map(|(_, value)| value.clone())
        .unwrap_or_default();
    let lines: Vec<String> = values
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    (key, lines.concat())
}

fn of_files(folder: &Path, id: &str, read: fn(&Path) -> Vec<Members>) -> Vec<Row> {
    let files = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|file| file.unwrap().path());
    files
        .flat_map(|file| read(&file))
        .map(|values| named(values, id))
        .collect()
}

fn json_rows(file: &Path) -> Vec<Members> {
    fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(json_row)
        .collect()
}

fn json_row(line: &str) -> Members {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned)
    };
    let members: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
    members
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

fn parquet_file(file: &Path) -> Vec<Members> {
    parquet_rows(fs::File::open(file).unwrap())
}

fn parquet_rows(file: impl ChunkReader + 'static) -> Vec<Members> {
    let text = |field: &Field| match field {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    };
    let reader = SerializedFileReader::new(file).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| {
        row.get_column_iter()
            .map(|(name, field)| (name.clone(), text(field)))
            .collect()
    })
    .collect()
}
