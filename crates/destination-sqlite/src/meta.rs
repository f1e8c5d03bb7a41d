//! The tables of this crate's own: created together, widened when an earlier release made them, and
//! never taken for new when one of them was dropped.

use pipeline_core::Result;
use pipeline_core::state::{CheckpointDelta, EndpointState};
use pipeline_engine::TableId;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::count::{Counter, LOST};
use crate::error::Explain;
use crate::{state, table};

const OPENING: &str = "opening the database";
const STORING: &str = "storing the checkpoint";

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _pipeline_state (
    source TEXT NOT NULL, endpoint TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (source, endpoint));
CREATE TABLE IF NOT EXISTS _pipeline_commits (
    sequence INTEGER PRIMARY KEY, run TEXT NOT NULL, at TEXT NOT NULL, changes TEXT NOT NULL, rows TEXT NOT NULL,
    bytes INTEGER NOT NULL, content_hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _pipeline_tables (
    source TEXT NOT NULL, stream TEXT NOT NULL, name TEXT NOT NULL UNIQUE COLLATE NOCASE, rows INTEGER DEFAULT 0,
    next_rows INTEGER DEFAULT 0, first_row INTEGER, last_row INTEGER, columns TEXT, PRIMARY KEY (source, stream));
CREATE TABLE IF NOT EXISTS _pipeline_runs (
    sequence INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, started TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _pipeline_feeds (
    source TEXT NOT NULL, stream TEXT NOT NULL, endpoint TEXT NOT NULL, PRIMARY KEY (source, stream, endpoint));";

/// What a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Rows and checkpoints.
    Rows,
    /// Checkpoints of rows that are somewhere else.
    Checkpoints,
}

/// Which of the tables there are. Some are missing in a database of an earlier release, or when
/// another program dropped them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any of them can be missing")]
pub struct Present {
    /// Checkpoints.
    pub state: bool,
    /// The commit log.
    pub commits: bool,
    /// Which stream is in which table.
    pub tables: bool,
    /// Runs.
    pub runs: bool,
    /// Which endpoints feed which streams.
    pub feeds: bool,
    /// True when it is stored how many rows the tables have.
    pub counted: bool,
    /// True when it is stored which of the tables' columns are this crate's.
    pub has_columns: bool,
}

impl Present {
    /// Looks for them.
    pub fn of(connection: &Connection) -> Result<Self> {
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN
            ('_pipeline_state', '_pipeline_commits', '_pipeline_tables', '_pipeline_runs', '_pipeline_feeds')
            UNION ALL SELECT 'counted' FROM pragma_table_info('_pipeline_tables') WHERE name = 'rows'
            UNION ALL SELECT 'has_columns' FROM pragma_table_info('_pipeline_tables') WHERE name = 'columns'";
        let names: Vec<String> = connection
            .prepare_cached(sql)
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
            .explain(OPENING)?;
        let has = |name: &str| names.iter().any(|known| known == name);
        Ok(Self {
            state: has("_pipeline_state"),
            commits: has("_pipeline_commits"),
            tables: has("_pipeline_tables"),
            runs: has("_pipeline_runs"),
            feeds: has("_pipeline_feeds"),
            counted: has("counted"),
            has_columns: has("has_columns"),
        })
    }

    /// True when nothing was ever written to the database.
    pub fn is_new(self) -> bool {
        self == Self::default()
    }

    fn is_complete(self) -> bool {
        self.state
            && self.commits
            && self.tables
            && self.runs
            && self.feeds
            && self.counted
            && self.has_columns
    }
}

/// Creates what is missing. What was dropped is missed when the database is
/// [verified](crate::verify).
pub(crate) fn ensure(connection: &Connection, keeps: Keeps) -> Result<()> {
    let present = Present::of(connection)?;
    if present.is_complete() && (keeps == Keeps::Checkpoints || is_registered(connection, present)?)
    {
        return Ok(());
    }
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).explain(OPENING)?;
    // Another process may have done it meanwhile.
    let present = Present::of(&transaction)?;
    transaction.execute_batch(TABLES).explain(OPENING)?;
    if present.tables && !present.counted {
        for column in [
            "rows INTEGER DEFAULT 0",
            "next_rows INTEGER DEFAULT 0",
            "first_row INTEGER",
            "last_row INTEGER",
        ] {
            transaction
                .execute_batch(&format!("ALTER TABLE _pipeline_tables ADD COLUMN {column}"))
                .explain(OPENING)?;
        }
        count_all(&transaction)?;
    }
    if present.tables && !present.has_columns {
        transaction
            .execute_batch("ALTER TABLE _pipeline_tables ADD COLUMN columns TEXT")
            .explain(OPENING)?;
    }
    if keeps == Keeps::Rows {
        if !present.feeds || are_forgotten(&transaction)? {
            for (endpoint, state) in state::list(&transaction, None)? {
                feed(&transaction, &endpoint.source, &endpoint.endpoint, &state)?;
            }
        }
        for id in unregistered(&transaction, Present::of(&transaction)?)? {
            table::register_again(&transaction, &id, was_written(&transaction, &id)?)?;
        }
        Counter::default().settle(&transaction)?;
    }
    transaction.commit().explain(OPENING)
}

/// Has the tables of an earlier release counted. One that is gone, and has had rows as the commit
/// log says, is lost.
fn count_all(connection: &Connection) -> Result<()> {
    connection
        .execute_batch("UPDATE _pipeline_tables SET rows = NULL, next_rows = NULL")
        .explain(OPENING)?;
    for (id, name) in table::all(connection)? {
        let is_gone = table::shape(connection, &name)?.is_none()
            && table::shape(connection, &table::next_name(&name))?.is_none();
        if is_gone && was_written(connection, &id)? {
            let sql = "UPDATE _pipeline_tables SET rows = ?, next_rows = 0 WHERE name = ?";
            connection
                .execute(sql, params![LOST, name])
                .explain(OPENING)?;
        }
    }
    Ok(())
}

/// True when the commit log has rows of a table.
fn was_written(connection: &Connection, id: &TableId) -> Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM _pipeline_commits, json_each(_pipeline_commits.rows) AS entry
        WHERE entry.value ->> '$[0].source' = ? AND entry.value ->> '$[0].stream' = ?)";
    connection
        .query_row(sql, [&id.source, &id.stream], |row| row.get(0))
        .explain(OPENING)
}

/// Streams of which checkpoints are, or were, stored and no table is registered. Where nothing is
/// stored of who feeds them, because it was emptied too, the commit log has those that
/// were written.
pub(crate) fn unregistered(connection: &Connection, present: Present) -> Result<Vec<TableId>> {
    let fed = "SELECT DISTINCT source, stream FROM _pipeline_feeds EXCEPT SELECT source, stream FROM _pipeline_tables";
    let written = "SELECT DISTINCT entry.value ->> '$[0].source', entry.value ->> '$[0].stream'
             FROM _pipeline_commits, json_each(_pipeline_commits.rows) AS entry
             WHERE substr(entry.value ->> '$[0].stream', 1, 1) <> '_'
         EXCEPT SELECT source, stream FROM _pipeline_tables";
    let sql = if present.commits && are_forgotten(connection)? {
        written
    } else {
        fed
    };
    connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            select
                .query_map([], |row| {
                    Ok(TableId {
                        source: row.get(0)?,
                        stream: row.get(1)?,
                    })
                })?
                .collect()
        })
        .explain(OPENING)
}

/// True when the tables of all checkpoints are registered, and which endpoints feed them.
fn is_registered(connection: &Connection, present: Present) -> Result<bool> {
    if are_forgotten(connection)?
        && state::list(connection, None)?
            .iter()
            .any(|(_, state)| !state.streams.is_empty())
    {
        return Ok(false);
    }
    Ok(unregistered(connection, present)?.is_empty())
}

/// True when nothing is stored of which endpoints feed which streams.
fn are_forgotten(connection: &Connection) -> Result<bool> {
    connection
        .query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM _pipeline_feeds)",
            [],
            |row| row.get(0),
        )
        .explain(OPENING)
}

/// Remembers which endpoints feed which streams: a checkpoint that is missing later was removed by
/// somebody.
pub fn remember_feeds(connection: &Connection, changes: &[CheckpointDelta]) -> Result<()> {
    for change in changes {
        if let CheckpointDelta::Replace { endpoint, to, .. } = change {
            feed(connection, &endpoint.source, &endpoint.endpoint, to)?;
        }
    }
    Ok(())
}

fn feed(
    connection: &Connection,
    source: &str,
    endpoint: &str,
    state: &EndpointState,
) -> Result<()> {
    for stream in &state.streams {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO _pipeline_feeds (source, stream, endpoint) VALUES (?, ?, ?)",
            )
            .and_then(|mut insert| insert.execute(params![source, stream, endpoint]))
            .explain(STORING)?;
    }
    Ok(())
}
