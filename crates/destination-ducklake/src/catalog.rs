//! The catalogue: the tables of DuckLake's specification 1.0, and this crate's beside them.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use destination_sqlite::bookkeeping::Explain;
use pipeline_core::{Clock, Error, ErrorKind, Result, SystemClock};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

const OPENING: &str = "opening the catalogue";

/// The version of the specification that this crate reads and writes.
const VERSION: &str = "1.0";
/// The tables of the specification, as DuckDB creates them in SQLite.
const TABLES: &str = include_str!("catalog.sql");
/// What this crate keeps beside them.
const OWN_TABLES: &str = include_str!("own.sql");
/// The schema that all tables are in, and its folder.
pub(crate) const SCHEMA: &str = "main";

/// Creates the catalogue when there is none, and fails when it is not one that this crate can write.
pub(crate) fn ensure(connection: &Connection, data: &Path) -> Result<()> {
    let present = version(connection)?;
    if present.is_some() && has_own_tables(connection)? {
        return check(connection, data);
    }
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).explain(OPENING)?;
    if version(&transaction)?.is_none() {
        create(&transaction, data)?;
    }
    check(&transaction, data)?;
    transaction.execute_batch(OWN_TABLES).explain(OPENING)?;
    transaction.commit().explain(OPENING)
}

fn has_own_tables(connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_pipeline_writers'";
    connection
        .prepare_cached(sql)
        .and_then(|mut select| select.exists([]))
        .explain(OPENING)
}

/// The version of the catalogue; none: the file is not one.
fn version(connection: &Connection) -> Result<Option<String>> {
    let exists = connection
        .prepare_cached("SELECT 1 FROM sqlite_master WHERE name = 'ducklake_metadata'")
        .and_then(|mut select| select.exists([]))
        .explain(OPENING)?;
    if !exists {
        return Ok(None);
    }
    setting(connection, "version").map(|version| Some(version.unwrap_or_default()))
}

fn setting(connection: &Connection, key: &str) -> Result<Option<String>> {
    connection
        .query_row(
            "SELECT value FROM ducklake_metadata WHERE key = ? AND scope IS NULL",
            [key],
            |row| row.get(0),
        )
        .optional()
        .explain(OPENING)
}

/// Fails when the catalogue is of another version, encrypted, or of another folder.
pub(crate) fn check(connection: &Connection, data: &Path) -> Result<()> {
    let unsupported = |message: String, help: &str| {
        Err(Error::new(ErrorKind::Destination, message)
            .with_operation(OPENING)
            .with_help(help.to_owned()))
    };
    match version(connection)?.as_deref() {
        Some(VERSION) => {}
        None => {
            return unsupported(
                "the file is not a DuckLake catalogue".to_owned(),
                "choose another path",
            );
        }
        Some(other) => {
            return unsupported(
                format!(
                    "the catalogue has version {other} of DuckLake's specification, and this program writes {VERSION}"
                ),
                "choose another path for a new catalogue; one of an earlier version is migrated by DuckDB with ATTACH … (AUTOMATIC_MIGRATION)",
            );
        }
    }
    if setting(connection, "encrypted")?.as_deref() == Some("true") {
        return unsupported(
            "the catalogue wants its files encrypted, which this program cannot do".to_owned(),
            "choose another path for a new catalogue",
        );
    }
    let stored = setting(connection, "data_path")?.unwrap_or_default();
    if absolute(Path::new(&stored)) == absolute(data) {
        return Ok(());
    }
    unsupported(
        format!("the catalogue names another folder for its data files: {stored}"),
        "set `data` to that folder; if the files were moved, set `data_path` in the table `ducklake_metadata` to the new one",
    )
}

/// A path as it is compared and stored: DuckDB looks for a relative one in the folder that it was
/// started in.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    // What does not exist yet is below something that does.
    for above in path.ancestors() {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        if let Ok(mut found) = above.canonicalize() {
            found.extend(rest.iter().rev());
            return found;
        }
        rest.extend(above.file_name());
    }
    path.to_owned()
}

fn create(connection: &Connection, data: &Path) -> Result<()> {
    connection.execute_batch(TABLES).explain(OPENING)?;
    let mut data_path = absolute(data).to_string_lossy().into_owned();
    if !data_path.ends_with('/') {
        data_path.push('/');
    }
    for (key, value) in [
        ("version", VERSION),
        ("created_by", "pipeline"),
        ("data_path", &data_path),
        ("encrypted", "false"),
        // What DuckDB writes into a table of ours goes to files as well.
        ("data_inlining_row_limit", "0"),
    ] {
        connection
            .execute(
                "INSERT INTO ducklake_metadata (key, value) VALUES (?, ?)",
                [key, value],
            )
            .explain(OPENING)?;
    }
    let now = instant(SystemClock.now());
    connection
        .execute(
            "INSERT INTO ducklake_snapshot VALUES (0, ?, 0, 1, 0)",
            [now],
        )
        .and_then(|_| {
            connection.execute(
                "INSERT INTO ducklake_snapshot_changes (snapshot_id, changes_made) VALUES (0, ?)",
                [format!("created_schema:\"{SCHEMA}\"")],
            )
        })
        .and_then(|_| {
            connection.execute(
                "INSERT INTO ducklake_schema VALUES (0, ?, 0, NULL, ?, ?, 1)",
                params![uuid(connection)?, SCHEMA, format!("{SCHEMA}/")],
            )
        })
        .explain(OPENING)?;
    Ok(())
}

/// A random UUID.
pub(crate) fn uuid(connection: &Connection) -> rusqlite::Result<String> {
    let hex = random(connection)?;
    Ok(format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    ))
}

/// Thirty-two random hexadecimal digits.
pub(crate) fn random(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))
}

/// An instant as the catalogue has it.
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}
