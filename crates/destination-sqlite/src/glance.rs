//! Reads a database without writing anything, not even beside it: on a read-only disk, in a folder
//! of another process.
//!
//! SQLite makes files beside a database that has a write-ahead log even when it only reads. So one
//! that no process has open is read as a file that does not change, and read once more if it did.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use pipeline_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags};

use crate::connection::BUSY_TIMEOUT;
use crate::error::{Broken, Explain};
use crate::open_files::log_path;

const OPENING: &str = "opening the database to read";

/// What shows whether a database is the same as a moment ago.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    length: u64,
    modified: Option<SystemTime>,
    /// True when another process has it open, or has left changes in a log beside it.
    has_log: bool,
}

impl Look {
    fn at(path: &Path) -> Result<Self> {
        let file = fs::metadata(path).map_err(|error| {
            Error::new(ErrorKind::Destination, "the database cannot be opened")
                .with_operation(OPENING)
                .with_help("check that the file exists and that this user may read it")
                .with_source(error)
        })?;
        let mut journal = path.as_os_str().to_owned();
        journal.push("-journal");
        let exists = |path: &Path| path.try_exists().broken(OPENING, path);
        let has_log = exists(&log_path(path))? || exists(Path::new(&journal))?;
        Ok(Self {
            length: file.len(),
            modified: file.modified().ok(),
            has_log,
        })
    }
}

/// Runs a query on what is committed.
pub fn read<T>(path: &Path, query: impl Fn(&Connection) -> Result<T>) -> Result<T> {
    let before = Look::at(path)?;
    if !before.has_log {
        let found = open(path, true).and_then(|connection| query(&connection));
        if Look::at(path)? == before {
            return found;
        }
    }
    let connection = open(path, false)?;
    // One snapshot for all the queries.
    let snapshot = connection
        .unchecked_transaction()
        .explain(OPENING)
        .map_err(explain_log)?;
    query(&snapshot).map_err(explain_log)
}

fn open(path: &Path, immutable: bool) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path, immutable), flags).explain(OPENING)?;
    connection.busy_timeout(BUSY_TIMEOUT).explain(OPENING)?;
    Ok(connection)
}

/// The path as SQLite's URI.
fn uri(path: &Path, immutable: bool) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            // Writing to a string cannot fail.
            byte => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri + if immutable {
        "?immutable=1"
    } else {
        "?mode=ro"
    }
}

/// Where a log lies beside the database, SQLite has to write an index of it unless another process
/// has.
fn explain_log(error: Error) -> Error {
    if error.message() != "the database cannot be opened"
        && error.message() != "the database cannot be written"
    {
        return error;
    }
    Error::new(
        ErrorKind::Destination,
        "changes wait in the log beside the database, which cannot be read on a read-only disk",
    )
    .with_operation(OPENING)
    .with_help(
        "copy the database with its `-wal` file to a folder that can be written, or let one \
         command write to it first",
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_any_character_is_a_uri() {
        for (path, text) in [
            ("/a/b.db", "file:/a/b.db?mode=ro"),
            ("a b?c#d%é", "file:a%20b%3Fc%23d%25%C3%A9?mode=ro"),
        ] {
            assert_eq!(uri(Path::new(path), false), text);
        }
    }
}
