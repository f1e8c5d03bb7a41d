//! Files that are left over: of a process that died before its commit, or that nobody needs since.
//!
//! Whoever writes files holds the right to write to the catalogue. So whoever has this right, and has
//! written nothing yet, knows that no file is on its way.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta};
use destination_files::file_error;
use destination_sqlite::bookkeeping::{Explain, Writing};
use pipeline_core::{Clock, Result, SystemClock};
use rusqlite::Connection;

use crate::catalog::SCHEMA;
use crate::lake::PREFIX;

const SWEEPING: &str = "removing files that are left over";
/// A writer is forgotten after this: a process that runs as long registers itself again.
const REMEMBERED: TimeDelta = TimeDelta::days(7);

/// Removes what writers of this catalogue have left behind. Does nothing while somebody writes.
pub(crate) fn sweep(writing: &mut Writing, data: &Path) -> Result<()> {
    if !data.join(SCHEMA).is_dir() {
        return Ok(());
    }
    writing
        .connection
        .busy_timeout(Duration::ZERO)
        .explain(SWEEPING)?;
    let begun = writing.begin(SWEEPING);
    writing
        .connection
        .busy_timeout(Duration::from_secs(5))
        .explain(SWEEPING)?;
    match begun {
        Ok(()) => {}
        Err(error) if error.is_temporary() => return Ok(()),
        Err(error) => return Err(error),
    }
    let swept = remove(&writing.connection, data).and_then(|()| writing.commit(SWEEPING));
    writing.roll_back();
    swept
}

fn remove(connection: &Connection, data: &Path) -> Result<()> {
    let writers = strings(connection, "SELECT writer FROM _pipeline_writers")?;
    let named: HashSet<String> = strings(
        connection,
        "SELECT path FROM ducklake_data_file UNION SELECT path FROM ducklake_delete_file
         UNION SELECT path FROM _pipeline_files UNION SELECT path FROM ducklake_files_scheduled_for_deletion",
    )?
    .into_iter()
    .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned())
    .collect();
    for (path, name) in files(data)? {
        let is_ours = name
            .strip_prefix(PREFIX)
            .is_some_and(|rest| writers.iter().any(|writer| rest.starts_with(&**writer)));
        if is_ours && !named.contains(&name) {
            remove_file(&path)?;
        }
    }
    let long_ago = (SystemClock.now() - REMEMBERED).to_rfc3339_opts(SecondsFormat::Secs, true);
    connection
        .execute("DELETE FROM _pipeline_writers WHERE since < ?", [long_ago])
        .explain(SWEEPING)
        .map(drop)
}

fn strings(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    connection
        .prepare(sql)
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .explain(SWEEPING)
}

/// The files in the folders of tables, with their names.
pub(crate) fn files(data: &Path) -> Result<Vec<(PathBuf, String)>> {
    let list = |folder: &Path| -> std::io::Result<Vec<PathBuf>> {
        match fs::read_dir(folder) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let listed = (|| {
        let mut files = Vec::new();
        for table in list(&data.join(SCHEMA))? {
            if table.is_dir() {
                files.extend(list(&table)?);
            }
        }
        Ok(files)
    })();
    let files: Vec<PathBuf> = listed.map_err(|error| file_error(SWEEPING, error))?;
    Ok(files
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some((path, name))
        })
        .collect())
}

/// Removes a file, which may be gone already.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file_error(SWEEPING, error).with_context("path", path.display().to_string()))
        }
        _ => Ok(()),
    }
}
