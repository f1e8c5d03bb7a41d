//! The snapshot that a transaction makes.

use destination_sqlite::bookkeeping::Explain;
use pipeline_core::{Clock, Result, SystemClock};
use rusqlite::{Connection, params};

use crate::catalog::instant;

const OPENING: &str = "reading the newest snapshot";
const STORING: &str = "storing the snapshot";

/// The snapshot of an open transaction. Its number is known from the beginning, as nobody else
/// commits meanwhile. It is stored when the transaction has changed what readers see.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Its number.
    pub(crate) id: i64,
    newest: String,
    schema_version: i64,
    next_catalog_id: i64,
    next_file_id: i64,
    changes: Vec<String>,
    alters: bool,
}

impl Snapshot {
    /// The one after the newest.
    pub(crate) fn begin(connection: &Connection) -> Result<Self> {
        connection
            .query_row(
                "SELECT snapshot_id, schema_version, next_catalog_id, next_file_id, snapshot_time
                 FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1",
                [],
                |row| {
                    Ok(Self {
                        id: row.get::<_, i64>(0)? + 1,
                        schema_version: row.get(1)?,
                        next_catalog_id: row.get(2)?,
                        next_file_id: row.get(3)?,
                        newest: row.get(4)?,
                        changes: Vec::new(),
                        alters: false,
                    })
                },
            )
            .explain(OPENING)
    }

    /// The number of a new table.
    pub(crate) fn catalog_id(&mut self) -> i64 {
        self.next_catalog_id += 1;
        self.next_catalog_id - 1
    }

    /// The number of a new file.
    pub(crate) fn file_id(&mut self) -> i64 {
        self.next_file_id += 1;
        self.next_file_id - 1
    }

    /// Notes a change, in the words of the specification.
    pub(crate) fn change(&mut self, change: impl Into<String>) {
        let change = change.into();
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// Notes that a table was created or its columns changed.
    pub(crate) fn alter(
        &mut self,
        connection: &Connection,
        table_id: i64,
        change: String,
    ) -> Result<()> {
        if !self.alters {
            self.alters = true;
            self.schema_version += 1;
        }
        self.change(change);
        let sql = "INSERT INTO ducklake_schema_versions SELECT ?1, ?2, ?3 WHERE NOT EXISTS
            (SELECT 1 FROM ducklake_schema_versions WHERE begin_snapshot = ?1 AND table_id = ?3)";
        connection
            .execute(sql, params![self.id, self.schema_version, table_id])
            .explain(STORING)
            .map(drop)
    }

    /// Stores the snapshot, unless nothing has changed. `extra` says what made it.
    pub(crate) fn finish(&mut self, connection: &Connection, extra: &str) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        // Readers travel by time: a clock that was set back makes no earlier snapshot.
        let time = instant(SystemClock.now()).max(self.newest.clone());
        connection
            .execute(
                "INSERT INTO ducklake_snapshot VALUES (?, ?, ?, ?, ?)",
                params![
                    self.id,
                    time,
                    self.schema_version,
                    self.next_catalog_id,
                    self.next_file_id
                ],
            )
            .explain(STORING)?;
        connection
            .execute(
                "INSERT INTO ducklake_snapshot_changes VALUES (?, ?, 'pipeline', NULL, ?)",
                params![self.id, self.changes.join(","), extra],
            )
            .explain(STORING)
            .map(drop)
    }
}
