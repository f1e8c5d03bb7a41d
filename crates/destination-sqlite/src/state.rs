//! Checkpoints and the commit log.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Commit, CommitRecord};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Explain;

const LOADING: &str = "loading the checkpoint";
const STORING: &str = "storing the checkpoint";
const LOGGING: &str = "reading the commit log";

/// The newest commits of which the log has what they changed of checkpoints. With a thousand
/// endpoints that is a megabyte a sync, and a log that kept all of it would outgrow the data.
const COMMITS_WITH_CHANGES: i64 = 1_000;

pub(crate) fn load(connection: &Connection, endpoint: &EndpointId) -> Result<EndpointState> {
    let mut select = connection
        .prepare_cached("SELECT state FROM _pipeline_state WHERE source = ? AND endpoint = ?")
        .explain(LOADING)?;
    let json: Option<String> = select
        .query_row([&endpoint.source, &endpoint.endpoint], |row| row.get(0))
        .optional()
        .explain(LOADING)?;
    json.map_or_else(
        || Ok(EndpointState::default()),
        |json| parse(endpoint, &json),
    )
}

/// The states of a source's endpoints, or all.
pub(crate) fn list(
    connection: &Connection,
    source: Option<&str>,
) -> Result<Vec<(EndpointId, EndpointState)>> {
    let query = "SELECT source, endpoint, state FROM _pipeline_state WHERE ?1 IS NULL OR source = \
                 ?1 ORDER BY source, endpoint";
    let mut select = connection.prepare_cached(query).explain(LOADING)?;
    let rows = select
        .query_map([source], |row| {
            Ok((
                EndpointId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?),
                row.get::<_, String>(2)?,
            ))
        })
        .explain(LOADING)?;
    rows.map(|row| {
        let (endpoint, json) = row.explain(LOADING)?;
        let state = parse(&endpoint, &json)?;
        Ok((endpoint, state))
    })
    .collect()
}

fn parse(endpoint: &EndpointId, json: &str) -> Result<EndpointState> {
    EndpointState::from_json(json).map_err(|error| {
        error
            .with_operation(LOADING)
            .with_context("endpoint", endpoint.to_string())
    })
}

/// Applies changes inside the open transaction, which must be rolled back when this fails.
pub fn apply(connection: &Connection, changes: &[CheckpointDelta]) -> Result<()> {
    let mut states = BTreeMap::new();
    for change in changes {
        let endpoint = change.endpoint();
        if !states.contains_key(endpoint) {
            states.insert(endpoint.clone(), load(connection, endpoint)?);
        }
        if let Some(state) = states.get_mut(endpoint) {
            state.apply(change)?;
        }
    }
    let mut store = connection
        .prepare_cached(
            "INSERT INTO _pipeline_state (source, endpoint, state) VALUES (?, ?, ?)
             ON CONFLICT (source, endpoint) DO UPDATE SET state = excluded.state",
        )
        .explain(STORING)?;
    for (endpoint, state) in states {
        store
            .execute([endpoint.source, endpoint.endpoint, state.to_json()])
            .explain(STORING)?;
    }
    Ok(())
}

/// Adds a commit to the log inside the open transaction, and returns its number. What an old one
/// changed of checkpoints is forgotten.
pub fn log(connection: &Connection, commit: Commit) -> Result<u64> {
    let last: i64 = connection
        .query_row(
            "SELECT coalesce(max(sequence), 0) FROM _pipeline_commits",
            [],
            |row| row.get(0),
        )
        .explain(STORING)?;
    let record = commit.record(last.unsigned_abs() + 1);
    let sequence = last + 1;
    let bytes = i64::try_from(record.bytes).unwrap_or(i64::MAX);
    let (changes, rows) = (json(&record.changes), json(&record.rows));
    connection
        .prepare_cached("INSERT INTO _pipeline_commits VALUES (?, ?, ?, ?, ?, ?, ?)")
        .and_then(|mut insert| {
            insert.execute(params![
                sequence,
                record.run,
                record.at.to_rfc3339(),
                changes,
                rows,
                bytes,
                record.content_hash
            ])
        })
        .explain(STORING)?;
    connection
        .prepare_cached("UPDATE _pipeline_commits SET changes = '[]' WHERE sequence = ?")
        .and_then(|mut forget| forget.execute([sequence - COMMITS_WITH_CHANGES]))
        .explain(STORING)?;
    Ok(record.sequence)
}

/// Changes, table names and runs as JSON.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|_| unreachable!("what is stored has only string and integer keys"))
}

/// The newest commits, newest first.
pub fn commits(connection: &Connection, limit: usize) -> Result<Vec<CommitRecord>> {
    let mut select = connection
        .prepare_cached(
            "SELECT sequence, run, at, changes, rows, bytes, content_hash FROM _pipeline_commits \
             ORDER BY sequence DESC LIMIT ?",
        )
        .explain(LOGGING)?;
    let mut rows = select
        .query([i64::try_from(limit).unwrap_or(i64::MAX)])
        .explain(LOGGING)?;
    let mut commits = Vec::new();
    while let Some(row) = rows.next().explain(LOGGING)? {
        commits.push(record(row)?);
    }
    Ok(commits)
}

fn record(row: &Row<'_>) -> Result<CommitRecord> {
    let text = |index| row.get::<_, String>(index).explain(LOGGING);
    let number = |index| row.get::<_, i64>(index).explain(LOGGING);
    let at = DateTime::parse_from_rfc3339(&text(2)?)
        .map_err(|error| damaged_log().with_source(error))?;
    let decoded = |error: serde_json::Error| damaged_log().with_source(error);
    Ok(CommitRecord {
        sequence: number(0)?.unsigned_abs(),
        run: text(1)?,
        at: at.with_timezone(&Utc),
        changes: decode(&text(3)?).map_err(decoded)?,
        rows: decode(&text(4)?).map_err(decoded)?,
        bytes: number(5)?.unsigned_abs(),
        content_hash: text(6)?,
    })
}

pub(crate) fn decode<T: DeserializeOwned>(json: &str) -> serde_json::Result<T> {
    serde_json::from_str(json)
}

fn damaged_log() -> Error {
    damaged("the commit log is damaged", LOGGING)
}

pub(crate) fn damaged(message: &str, operation: &'static str) -> Error {
    Error::new(ErrorKind::Decode, message)
        .with_operation(operation)
        .with_help("restore the database from a backup")
}
