//! Where the newest version of each key is: an index in the catalogue, kept in the same transaction.

use destination_sql::quote;
use destination_sqlite::bookkeeping::{Explain, json};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{DELETED, SYNCED_AT};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};
use twox_hash::XxHash3_128;

const INDEXING: &str = "looking for a key";

/// Bytes of a key up to which it is stored as it is; a longer one as its hash.
const LONGEST: usize = 40;

/// A row of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: i64,
    pub(crate) row: i64,
}

/// What the index has of a row.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    /// The hash of its values.
    pub(crate) hash: i64,
    pub(crate) place: Place,
    /// For each part, the values that it is deleted by.
    pub(crate) parts: Vec<Option<Vec<u8>>>,
}

/// The index of one generation of a table.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    table: String,
    /// Columns by which rows are deleted together.
    pub(crate) parts: Vec<Vec<String>>,
}

/// The index's table.
pub(crate) fn table_name(name: &str, next: bool) -> String {
    format!("_pipeline_{}keys_{name}", if next { "next_" } else { "" })
}

impl Keys {
    /// The index of a generation, which is made when it does not exist.
    pub(crate) fn ensure(connection: &Connection, name: &str, next: bool) -> Result<Self> {
        let (table, parts) = (table_name(name, next), parts(connection, name)?);
        let is_there = exists(connection, &table)?;
        if !is_there {
            let sql = format!(
                "CREATE TABLE {} (key BLOB PRIMARY KEY, hash INTEGER NOT NULL, file INTEGER NOT NULL, row INTEGER NOT NULL) WITHOUT ROWID",
                quote(&table)
            );
            connection.execute_batch(&sql).explain(INDEXING)?;
            for part in 0..parts.len() {
                add_part(connection, &table, part)?;
            }
        }
        Ok(Self { table, parts })
    }

    /// Adds an entry unless the key has one; false: it has.
    pub(crate) fn insert(&self, connection: &Connection, entry: &Entry) -> Result<bool> {
        self.store(connection, entry, "IGNORE").map(|rows| rows > 0)
    }

    /// Stores an entry in the place of the key's.
    pub(crate) fn replace(&self, connection: &Connection, entry: &Entry) -> Result<()> {
        self.store(connection, entry, "REPLACE").map(drop)
    }

    fn store(&self, connection: &Connection, entry: &Entry, or: &str) -> Result<usize> {
        let parts: String = ", ?".repeat(self.parts.len());
        let sql = format!(
            "INSERT OR {or} INTO {} VALUES (?, ?, ?, ?{parts})",
            quote(&self.table)
        );
        let mut insert = connection.prepare_cached(&sql).explain(INDEXING)?;
        let fixed: [&dyn rusqlite::ToSql; 4] =
            [&entry.key, &entry.hash, &entry.place.file, &entry.place.row];
        let values = fixed
            .into_iter()
            .chain(entry.parts.iter().map(|part| part as &dyn rusqlite::ToSql));
        insert.execute(params_from_iter(values)).explain(INDEXING)
    }

    /// The hash and the place of a key's row.
    pub(crate) fn find(&self, connection: &Connection, key: &[u8]) -> Result<Option<(i64, Place)>> {
        let sql = format!(
            "SELECT hash, file, row FROM {} WHERE key = ?",
            quote(&self.table)
        );
        connection
            .prepare_cached(&sql)
            .and_then(|mut select| {
                select
                    .query_row([key], |row| {
                        let place = Place {
                            file: row.get(1)?,
                            row: row.get(2)?,
                        };
                        Ok((row.get(0)?, place))
                    })
                    .optional()
            })
            .explain(INDEXING)
    }

    /// Says where a key's row is now, and by which key it is found there: that of a row without a
    /// complete one is made of its place.
    pub(crate) fn move_to(
        &self,
        connection: &Connection,
        from: &[u8],
        key: &[u8],
        to: Place,
    ) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET key = ?, file = ?, row = ? WHERE key = ?",
            quote(&self.table)
        );
        connection
            .prepare_cached(&sql)
            .and_then(|mut update| update.execute(params![key, to.file, to.row, from]))
            .explain(INDEXING)
            .map(drop)
    }

    /// Removes the entry of a key.
    pub(crate) fn remove(&self, connection: &Connection, key: &[u8]) -> Result<()> {
        let sql = format!("DELETE FROM {} WHERE key = ?", quote(&self.table));
        connection
            .prepare_cached(&sql)
            .and_then(|mut delete| delete.execute([key]))
            .explain(INDEXING)
            .map(drop)
    }

    /// The keys and places of the rows that have the values of a part.
    pub(crate) fn of_part(
        &self,
        connection: &Connection,
        part: usize,
        value: &[u8],
    ) -> Result<Vec<(Vec<u8>, Place)>> {
        let sql = format!(
            "SELECT key, file, row FROM {} WHERE part{part} = ?",
            quote(&self.table)
        );
        connection
            .prepare_cached(&sql)
            .and_then(|mut select| {
                let rows = select.query_map([value], |row| {
                    let place = Place {
                        file: row.get(1)?,
                        row: row.get(2)?,
                    };
                    Ok((row.get(0)?, place))
                })?;
                rows.collect()
            })
            .explain(INDEXING)
    }

    /// Stores the values of a part for the row of a key.
    pub(crate) fn fill_part(
        &self,
        connection: &Connection,
        part: usize,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET part{part} = ? WHERE key = ?",
            quote(&self.table)
        );
        connection
            .prepare_cached(&sql)
            .and_then(|mut update| update.execute(params![value, key]))
            .explain(INDEXING)
            .map(drop)
    }

    /// Removes the entries of rows in files before a number.
    pub(crate) fn forget_before(&self, connection: &Connection, file: i64) -> Result<()> {
        let sql = format!("DELETE FROM {} WHERE file < ?", quote(&self.table));
        connection.execute(&sql, [file]).explain(INDEXING).map(drop)
    }
}

/// Drops the index of a generation.
pub(crate) fn drop_keys(connection: &Connection, name: &str, next: bool) -> Result<()> {
    let sql = format!("DROP TABLE IF EXISTS {}", quote(&table_name(name, next)));
    connection.execute_batch(&sql).explain(INDEXING)?;
    connection
        .execute(
            "DELETE FROM _pipeline_keyed WHERE name = ? AND next = ?",
            params![name, next],
        )
        .explain(INDEXING)
        .map(drop)
}

/// Makes the index of the next generation that of the visible one.
pub(crate) fn publish(connection: &Connection, name: &str) -> Result<()> {
    drop_keys(connection, name, false)?;
    let (from, to) = (table_name(name, true), table_name(name, false));
    if exists(connection, &from)? {
        // Names of indexes have to be free for the next generation's.
        for part in 0..parts(connection, name)?.len() {
            let sql = format!("DROP INDEX IF EXISTS {}", quote(&index_name(&from, part)));
            connection.execute_batch(&sql).explain(INDEXING)?;
        }
        let sql = format!("ALTER TABLE {} RENAME TO {}", quote(&from), quote(&to));
        connection.execute_batch(&sql).explain(INDEXING)?;
        for part in 0..parts(connection, name)?.len() {
            index_part(connection, &to, part)?;
        }
    }
    connection
        .execute("UPDATE _pipeline_keyed SET next = 0 WHERE name = ?", [name])
        .explain(INDEXING)
        .map(drop)
}

/// The key of the rows of a generation, as it was when they were written; none: it has none yet.
pub(crate) fn key_fields(
    connection: &Connection,
    name: &str,
    next: bool,
) -> Result<Option<Vec<String>>> {
    let fields: Option<String> = connection
        .query_row(
            "SELECT fields FROM _pipeline_keyed WHERE name = ? AND next = ?",
            params![name, next],
            |row| row.get(0),
        )
        .optional()
        .explain(INDEXING)?;
    fields.map(|fields| parse(&fields)).transpose()
}

/// Stores the key of the rows of a generation.
pub(crate) fn store_key_fields(
    connection: &Connection,
    name: &str,
    next: bool,
    fields: &[String],
) -> Result<()> {
    connection
        .execute(
            "INSERT OR REPLACE INTO _pipeline_keyed VALUES (?, ?, ?)",
            params![name, next, json(&fields)],
        )
        .explain(INDEXING)
        .map(drop)
}

/// The parts of a table's rows.
pub(crate) fn parts(connection: &Connection, name: &str) -> Result<Vec<Vec<String>>> {
    let parts: Vec<String> = connection
        .prepare_cached("SELECT fields FROM _pipeline_parts WHERE name = ? ORDER BY part")
        .and_then(|mut select| select.query_map([name], |row| row.get(0))?.collect())
        .explain(INDEXING)?;
    parts.iter().map(|fields| parse(fields)).collect()
}

/// Registers a part, and gives it a column in the indexes that there are.
pub(crate) fn new_part(connection: &Connection, name: &str, fields: &[String]) -> Result<usize> {
    let part = parts(connection, name)?.len();
    connection
        .execute(
            "INSERT INTO _pipeline_parts VALUES (?, ?, ?)",
            params![name, i64::try_from(part).unwrap_or(i64::MAX), json(&fields)],
        )
        .explain(INDEXING)?;
    for next in [false, true] {
        let table = table_name(name, next);
        if exists(connection, &table)? {
            add_part(connection, &table, part)?;
        }
    }
    Ok(part)
}

fn add_part(connection: &Connection, table: &str, part: usize) -> Result<()> {
    let sql = format!("ALTER TABLE {} ADD COLUMN part{part} BLOB", quote(table));
    connection.execute_batch(&sql).explain(INDEXING)?;
    index_part(connection, table, part)
}

fn index_part(connection: &Connection, table: &str, part: usize) -> Result<()> {
    let sql = format!(
        "CREATE INDEX {} ON {} (part{part})",
        quote(&index_name(table, part)),
        quote(table)
    );
    connection.execute_batch(&sql).explain(INDEXING)
}

fn index_name(table: &str, part: usize) -> String {
    format!("{table}_part{part}")
}

pub(crate) fn exists(connection: &Connection, table: &str) -> Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE",
        )
        .and_then(|mut select| select.exists([table]))
        .explain(INDEXING)
}

pub(crate) fn parse(fields: &str) -> Result<Vec<String>> {
    serde_json::from_str(fields).map_err(|error| {
        Error::new(ErrorKind::Decode, "the index of keys is damaged")
            .with_operation(INDEXING)
            .with_help("restore the catalogue from a backup, or run with --full-refresh")
            .with_source(error)
    })
}

/// Makes what the index has of the rows of a batch.
pub(crate) struct Encoder<'a> {
    columns: &'a [Column<'a>],
    key: Vec<Option<&'a Column<'a>>>,
    parts: Vec<Vec<Option<&'a Column<'a>>>>,
    /// The columns of a content, by their names.
    content: Vec<&'a Column<'a>>,
    buffer: String,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(columns: &'a [Column<'a>], key: &[String], parts: &[Vec<String>]) -> Self {
        let place = |name: &String| columns.iter().find(|column| column.name() == name);
        let mut content: Vec<&Column<'_>> = columns
            .iter()
            .filter(|column| column.name() != SYNCED_AT)
            .collect();
        content.sort_unstable_by_key(|column| column.name());
        Self {
            columns,
            key: key.iter().map(place).collect(),
            parts: parts
                .iter()
                .map(|fields| fields.iter().map(place).collect())
                .collect(),
            content,
            buffer: String::new(),
        }
    }

    /// The entry of a row that is at a place.
    pub(crate) fn entry(&mut self, row: usize, place: Place) -> Entry {
        let key = values(&self.key, row, &mut self.buffer).unwrap_or_else(|| without_key(place));
        Entry {
            key,
            hash: self.hash(row),
            place,
            parts: self
                .parts
                .iter()
                .map(|part| values(part, row, &mut self.buffer))
                .collect(),
        }
    }

    /// The key of a row that is at a place.
    pub(crate) fn key(&mut self, row: usize, place: Place) -> Vec<u8> {
        values(&self.key, row, &mut self.buffer).unwrap_or_else(|| without_key(place))
    }

    /// The values of some columns of a row; none: one of them is null.
    pub(crate) fn values(&mut self, fields: &[String], row: usize) -> Option<Vec<u8>> {
        let columns: Vec<_> = fields
            .iter()
            .map(|name| self.columns.iter().find(|column| column.name() == name))
            .collect();
        values(&columns, row, &mut self.buffer)
    }

    /// The hash of all values but the instant of the reading. A column without a value counts as one
    /// that is missing.
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
    fn hash(&mut self, row: usize) -> i64 {
        self.buffer.clear();
        for column in &self.content {
            match column.cell(row) {
                Cell::Null => {}
                Cell::Bool(false) if column.name() == DELETED => {}
                cell => {
                    push(&mut self.buffer, Cell::String(column.name()));
                    push(&mut self.buffer, cell);
                }
            }
        }
        (XxHash3_128::oneshot(self.buffer.as_bytes()) as u64).cast_signed()
    }
}

/// Rows whose key is not complete are never replaced: each has a key of its own.
fn without_key(place: Place) -> Vec<u8> {
    [
        &[0xfe][..],
        &place.file.to_be_bytes(),
        &place.row.to_be_bytes(),
    ]
    .concat()
}

fn values(columns: &[Option<&Column<'_>>], row: usize, buffer: &mut String) -> Option<Vec<u8>> {
    buffer.clear();
    for column in columns {
        match column.map_or(Cell::Null, |column| column.cell(row)) {
            Cell::Null => return None,
            cell => push(buffer, cell),
        }
    }
    Some(if buffer.len() <= LONGEST {
        buffer.as_bytes().to_vec()
    } else {
        // Text never begins with this byte.
        let hash = XxHash3_128::oneshot(buffer.as_bytes());
        [&[0xff][..], &hash.to_be_bytes()].concat()
    })
}

/// Appends a value and its length, so that no value can look like the beginning of another. A number
/// and the same number as text are one, as when a column's type was widened.
fn push(out: &mut String, cell: Cell<'_>) {
    let start = out.len();
    cell.push_text(out);
    let mut length = out.len() - start;
    while length > 0 {
        out.push(char::from(u8::try_from(length & 0x7f).unwrap_or_default()));
        length >>= 7;
    }
    out.push('\u{80}');
}
