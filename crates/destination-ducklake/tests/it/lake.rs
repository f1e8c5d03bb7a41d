//! A reader of lakes, written from DuckLake's specification: the newest snapshot's data files, less the
//! rows of their delete files, by the numbers of the columns. It shares nothing with the destination.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::Schema;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipeline_engine::Table;
use pipeline_testkit::destination_suite::canonical;
use rusqlite::{Connection, OptionalExtension as _};

/// The visible rows of a stream's table, as canonical text, sorted.
pub(crate) fn rows(catalog: &Connection, table: &Table) -> Vec<String> {
    let name: Option<String> = catalog
        .query_row(
            "SELECT name FROM _pipeline_tables WHERE source = ? AND stream = ?",
            [&table.source, &table.stream],
            |row| row.get(0),
        )
        .optional()
        .unwrap();
    let found: Option<(i64, String, String)> = name.and_then(|name| {
        catalog
            .query_row(
                "SELECT t.table_id, s.path, t.path FROM ducklake_table AS t JOIN ducklake_schema AS s USING (schema_id)
                 WHERE t.table_name = ? AND t.end_snapshot IS NULL",
                [name],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .unwrap()
    });
    let Some((id, schema, folder)) = found else {
        return Vec::new();
    };
    let data: String = catalog
        .query_row(
            "SELECT value FROM ducklake_metadata WHERE key = 'data_path'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let folder = Path::new(&data).join(schema).join(folder);
    let columns = columns(catalog, id, table);
    let mut lines = Vec::new();
    let mut select = catalog
        .prepare(
            "SELECT f.path, d.path, f.record_count, d.delete_count FROM ducklake_data_file AS f
             LEFT JOIN ducklake_delete_file AS d ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL
             WHERE f.table_id = ? AND f.end_snapshot IS NULL",
        )
        .unwrap();
    let mut files = select.query([id]).unwrap();
    while let Some(file) = files.next().unwrap() {
        let path: String = file.get(0).unwrap();
        let deletes: Option<String> = file.get(1).unwrap();
        let gone: HashSet<usize> =
            deletes.map_or_else(HashSet::new, |path| positions(folder.join(path)));
        assert_eq!(
            file.get::<_, Option<u32>>(3).unwrap().unwrap_or_default() as usize,
            gone.len()
        );
        let mut place = 0;
        for batch in read(folder.join(path)) {
            for line in canonical(&named(&batch, &columns, table)) {
                lines.extend((!gone.contains(&place)).then_some(line));
                place += 1;
            }
        }
        assert_eq!(
            file.get::<_, u32>(2).unwrap() as usize,
            place,
            "as many rows as the catalogue says"
        );
    }
    lines.sort();
    lines
}

/// The number of each field's column.
fn columns(catalog: &Connection, id: i64, table: &Table) -> HashMap<String, i64> {
    let columns: BTreeMap<String, i64> = catalog
        .prepare("SELECT column_name, column_id FROM ducklake_column WHERE table_id = ? AND end_snapshot IS NULL")
        .unwrap()
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    let of = |field: &str| {
        let marked = |column: &&String| {
            column
                .strip_prefix(&field.replace('\0', "\u{2400}"))
                .is_some_and(|rest| rest.len() == 9 && rest.starts_with('_'))
        };
        columns
            .get(field)
            .or_else(|| {
                columns
                    .iter()
                    .find(|(column, _)| marked(column))
                    .map(|(_, id)| id)
            })
            .copied()
    };
    table
        .schema
        .fields()
        .iter()
        .filter_map(|field| Some((field.name().clone(), of(field.name())?)))
        .collect()
}

fn read(path: PathBuf) -> Vec<RecordBatch> {
    ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap())
        .unwrap()
        .build()
        .unwrap()
        .map(|batch| batch.unwrap())
        .collect()
}

fn positions(path: PathBuf) -> HashSet<usize> {
    let positions: Vec<usize> = read(path)
        .iter()
        .flat_map(|batch| {
            let column = batch
                .column_by_name("pos")
                .unwrap()
                .as_primitive::<Int64Type>();
            column
                .values()
                .iter()
                .map(|row| usize::try_from(*row).unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(
        positions.is_sorted(),
        "readers walk through both files at once"
    );
    positions.into_iter().collect()
}

/// A batch of a file as one of the table.
fn named(batch: &RecordBatch, columns: &HashMap<String, i64>, table: &Table) -> RecordBatch {
    let values = table.schema.fields().iter().map(|field| {
        let place = columns.get(field.name()).and_then(|id| {
            batch.schema_ref().fields().iter().position(|column| {
                column
                    .metadata()
                    .get("PARQUET:field_id")
                    .is_some_and(|found| *found == id.to_string())
            })
        });
        place.map_or_else(
            || new_null_array(field.data_type(), batch.num_rows()),
            |place| Arc::clone(batch.column(place)),
        )
    });
    let fields: Vec<_> = table
        .schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values.collect()).unwrap()
}
