//! The runs that are remembered.

use chrono::SecondsFormat;
use pipeline_core::{RUN_CAPACITY, Result, RunRecord};
use rusqlite::{Connection, params};

use crate::error::Explain;
use crate::state::{damaged, decode, json};

const RECORDING: &str = "recording the run";
const READING: &str = "reading the recorded runs";

/// Remembers a run, in the place of what is remembered under its name, and forgets the oldest.
pub fn record(connection: &Connection, run: &RunRecord) -> Result<()> {
    let capacity = i64::try_from(RUN_CAPACITY).unwrap_or(i64::MAX);
    // One width, so that text sorts as time does.
    let started = run.started.to_rfc3339_opts(SecondsFormat::Micros, true);
    connection
        .prepare_cached(
            "INSERT INTO _pipeline_runs (run, started, record) VALUES (?, ?, ?)
             ON CONFLICT (run) DO UPDATE SET started = excluded.started, record = excluded.record",
        )
        .and_then(|mut store| store.execute(params![run.run, started, json(run)]))
        .explain(RECORDING)?;
    connection
        .prepare_cached(
            "DELETE FROM _pipeline_runs WHERE sequence NOT IN
                 (SELECT sequence FROM _pipeline_runs ORDER BY started DESC, sequence DESC LIMIT ?)",
        )
        .and_then(|mut forget| forget.execute([capacity]))
        .explain(RECORDING)?;
    Ok(())
}

/// The newest runs, newest first.
pub fn list(connection: &Connection, limit: usize) -> Result<Vec<RunRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let records: Vec<String> = connection
        .prepare_cached(
            "SELECT record FROM _pipeline_runs ORDER BY started DESC, sequence DESC LIMIT ?",
        )
        .and_then(|mut select| select.query_map([limit], |row| row.get(0))?.collect())
        .explain(READING)?;
    records
        .iter()
        .map(|record| {
            decode(record)
                .map_err(|error| damaged("a recorded run is damaged", READING).with_source(error))
        })
        .collect()
}
