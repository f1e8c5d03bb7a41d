//! Checkpoints and the commit log.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState};
use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Commit, CommitRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use crate::session::{Session, get, params};

const LOADING: &str = "loading the checkpoint";
const STORING: &str = "storing the checkpoint";
const LOGGING: &str = "reading the commit log";

/// The newest commits of which the log tells what they changed of checkpoints. With a thousand
/// endpoints that is a megabyte a sync, and a log that kept all of it would outgrow the data.
const COMMITS_WITH_CHANGES: i64 = 1_000;

/// The states of a source's endpoints, or all.
pub(crate) async fn list(
    session: &Session,
    source: Option<&str>,
) -> Result<Vec<(EndpointId, EndpointState)>> {
    let sql = "SELECT source, endpoint, state FROM _pipeline.state WHERE $1 IS NULL OR source = $1
        ORDER BY source COLLATE \"C\", endpoint COLLATE \"C\"";
    let rows = session.query(LOADING, sql, params![source]).await?;
    rows.iter().map(stored).collect()
}

fn stored(row: &Row) -> Result<(EndpointId, EndpointState)> {
    let endpoint = EndpointId::new(get::<String>(row, 0)?, get::<String>(row, 1)?);
    let state = EndpointState::from_json(get(row, 2)?).map_err(|error| {
        error
            .with_operation(LOADING)
            .with_context("endpoint", endpoint.to_string())
    })?;
    Ok((endpoint, state))
}

/// Waits until no other transaction is being committed, and returns the number of the last one.
/// Until this transaction ends, all others wait here.
pub(crate) async fn queue(session: &Session) -> Result<i64> {
    let sql = "SELECT sequence FROM _pipeline.head FOR UPDATE";
    match session.optional(STORING, sql, &[]).await? {
        Some(row) => get(&row, 0),
        None => Err(Error::new(
            ErrorKind::Destination,
            "the table `_pipeline.head` was emptied during a sync",
        )
        .with_operation(STORING)
        .with_help("run again")),
    }
}

/// Applies changes inside the open transaction, which must be rolled back when this fails.
pub(crate) async fn apply(session: &Session, changes: &[CheckpointDelta]) -> Result<()> {
    let mut states: BTreeMap<EndpointId, EndpointState> = changes
        .iter()
        .map(|change| (change.endpoint().clone(), EndpointState::default()))
        .collect();
    if states.is_empty() {
        return Ok(());
    }
    let (sources, endpoints) = names(&states);
    let sql = "SELECT s.source, s.endpoint, s.state FROM _pipeline.state s
        JOIN unnest($1, $2) AS wanted (source, endpoint) USING (source, endpoint) FOR UPDATE OF s";
    let rows = session
        .query(LOADING, sql, params![sources, endpoints])
        .await?;
    for row in &rows {
        let (endpoint, state) = stored(row)?;
        states.insert(endpoint, state);
    }
    for change in changes {
        if let Some(state) = states.get_mut(change.endpoint()) {
            state.apply(change)?;
        }
    }
    let json: Vec<String> = states.values().map(EndpointState::to_json).collect();
    let sql =
        "INSERT INTO _pipeline.state (source, endpoint, state) SELECT * FROM unnest($1, $2, $3)
        ON CONFLICT (source, endpoint) DO UPDATE SET state = excluded.state";
    session
        .execute(STORING, sql, params![sources, endpoints, json])
        .await
        .map(drop)
}

fn names(states: &BTreeMap<EndpointId, EndpointState>) -> (Vec<String>, Vec<String>) {
    states
        .keys()
        .map(|id| (id.source.clone(), id.endpoint.clone()))
        .unzip()
}

/// Adds a commit to the log inside the open transaction, and returns its number. What an old one
/// changed of checkpoints is forgotten.
pub(crate) async fn log(session: &Session, last: i64, nonce: &str, commit: &Commit) -> Result<u64> {
    let sequence = last + 1;
    let record = commit.clone().record(sequence.unsigned_abs());
    let bytes = i64::try_from(record.bytes).unwrap_or(i64::MAX);
    let (at, changes, rows) = (
        record.at.to_rfc3339(),
        json(&record.changes),
        json(&record.rows),
    );
    session
        .execute(
            STORING,
            "INSERT INTO _pipeline.commits VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            params![
                sequence,
                record.run,
                nonce,
                at,
                changes,
                rows,
                bytes,
                record.content_hash
            ],
        )
        .await?;
    let forget = "UPDATE _pipeline.commits SET changes = '[]' WHERE sequence = $1";
    let old = sequence - COMMITS_WITH_CHANGES;
    session.execute(STORING, forget, params![old]).await?;
    let head = "UPDATE _pipeline.head SET sequence = $1";
    session.execute(STORING, head, params![sequence]).await?;
    Ok(record.sequence)
}

/// The number of the commit with a nonce, when it was committed. Nobody commits meanwhile: one that
/// is under way is waited for.
pub(crate) async fn find(session: &Session, nonce: &str) -> Result<Option<u64>> {
    queue(session).await?;
    let sql = "SELECT sequence FROM _pipeline.commits WHERE nonce = $1";
    match session.optional(STORING, sql, params![nonce]).await? {
        Some(row) => Ok(Some(get::<i64>(&row, 0)?.unsigned_abs())),
        None => Ok(None),
    }
}

/// Changes, table names and runs as JSON.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|_| unreachable!("what is stored has only string and integer keys"))
}

/// The newest commits, newest first.
pub(crate) async fn commits(session: &Session, limit: usize) -> Result<Vec<CommitRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = "SELECT sequence, run, at, changes, rows, bytes, content_hash FROM _pipeline.commits
        ORDER BY sequence DESC LIMIT $1";
    let rows = session.query(LOGGING, sql, params![limit]).await?;
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<CommitRecord> {
    let at = DateTime::parse_from_rfc3339(get(row, 2)?)
        .map_err(|error| damaged_log().with_source(error))?;
    let decoded = |error: serde_json::Error| damaged_log().with_source(error);
    Ok(CommitRecord {
        sequence: get::<i64>(row, 0)?.unsigned_abs(),
        run: get(row, 1)?,
        at: at.with_timezone(&Utc),
        changes: decode(get(row, 3)?).map_err(decoded)?,
        rows: decode(get(row, 4)?).map_err(decoded)?,
        bytes: get::<i64>(row, 5)?.unsigned_abs(),
        content_hash: get(row, 6)?,
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
