//! The runs that are remembered.

use chrono::SecondsFormat;
use pipeline_core::{RUN_CAPACITY, Result, RunRecord};

use crate::session::{Session, get, params};
use crate::state::{damaged, decode, json};

const RECORDING: &str = "recording the run";
const READING: &str = "reading the recorded runs";

/// Remembers a run, in the place of what is remembered under its name, and forgets the oldest.
pub(crate) async fn record(session: &Session, run: &RunRecord) -> Result<()> {
    let capacity = i64::try_from(RUN_CAPACITY).unwrap_or(i64::MAX);
    // One width, so that text sorts as time does.
    let started = run.started.to_rfc3339_opts(SecondsFormat::Micros, true);
    let store = "INSERT INTO _pipeline.runs (run, started, record) VALUES ($1, $2, $3)
        ON CONFLICT (run) DO UPDATE SET started = excluded.started, record = excluded.record";
    session
        .execute(RECORDING, store, params![run.run, started, json(run)])
        .await?;
    let forget = "DELETE FROM _pipeline.runs WHERE sequence IN
        (SELECT sequence FROM _pipeline.runs ORDER BY started COLLATE \"C\" DESC, sequence DESC OFFSET $1)";
    session
        .execute(RECORDING, forget, params![capacity])
        .await
        .map(drop)
}

/// The newest runs, newest first.
pub(crate) async fn list(session: &Session, limit: usize) -> Result<Vec<RunRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = "SELECT record FROM _pipeline.runs ORDER BY started COLLATE \"C\" DESC, sequence DESC LIMIT $1";
    let rows = session.query(READING, sql, params![limit]).await?;
    rows.iter()
        .map(|row| {
            decode(get(row, 0)?)
                .map_err(|error| damaged("a recorded run is damaged", READING).with_source(error))
        })
        .collect()
}
