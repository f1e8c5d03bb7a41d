//! What a failure of SQLite means to the user.

use std::path::Path;

use pipeline_core::{Error, ErrorKind, Result};
use rusqlite::ErrorCode;

/// Turns SQLite's errors into the toolkit's, with the operation that failed.
pub trait Explain<T> {
    /// The same with the operation that failed.
    fn explain(self, operation: &'static str) -> Result<T>;
}

impl<T> Explain<T> for rusqlite::Result<T> {
    fn explain(self, operation: &'static str) -> Result<T> {
        self.map_err(|error| {
            let code = error.sqlite_error_code();
            let (message, help) = meaning(code);
            let explained = Error::new(ErrorKind::Destination, message)
                .with_help(help)
                .with_operation(operation)
                .with_source(brief(error));
            // Others give the right to write back: a caller with the time tries again.
            if is_busy(code) {
                explained.temporary()
            } else {
                explained
            }
        })
    }
}

/// Turns failures of the file system into the toolkit's errors, with the operation and the path.
pub trait Broken<T> {
    /// The same with the operation that failed and the path.
    fn broken(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T> Broken<T> for std::io::Result<T> {
    fn broken(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| {
            Error::new(
                ErrorKind::Destination,
                "a file beside the database cannot be used",
            )
            .with_operation(operation)
            .with_context("path", path.display().to_string())
            .with_help("allow writing to the folder of the database, and check the disk")
            .with_source(error)
        })
    }
}

/// Adds the database's path to an error.
pub fn at(path: &Path) -> impl Fn(Error) -> Error + '_ {
    |error| error.with_context("path", path.display().to_string())
}

/// The error without the text of the statement, which is long and not the user's.
fn brief(error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqlInputError { error, msg, .. } => {
            rusqlite::Error::SqliteFailure(error, Some(msg))
        }
        error => error,
    }
}

fn is_busy(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn meaning(code: Option<ErrorCode>) -> (&'static str, &'static str) {
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            "the database is used by another process",
            "wait until the other process is finished, then run again",
        ),
        Some(ErrorCode::DiskFull) => (
            "the disk is full",
            "free some space and run again; nothing that was committed is lost",
        ),
        Some(ErrorCode::SystemIoFailure) => (
            "the disk failed to read or write",
            "check the disk, its free space and quotas, then run again; nothing that was committed \
             is lost",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            "the database cannot be written",
            "allow writing to the database file and to its folder",
        ),
        Some(ErrorCode::CannotOpen) => (
            "the database cannot be opened",
            "check that the folder exists and that this user may write to it",
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            "the database is damaged",
            "restore it from a backup, or move it away and run again to read everything anew",
        ),
        Some(ErrorCode::NotADatabase) => (
            "the file is not a SQLite database",
            "choose another path, or move the file away",
        ),
        Some(ErrorCode::TooBig) => (
            "a value or a table is larger than SQLite allows",
            "choose fewer columns for the stream",
        ),
        _ => (
            "the database refused a statement",
            "see the cause; if the table was changed by hand, undo that or run with --full-refresh",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_names_its_cause_and_a_way_out() {
        use rusqlite::ffi;
        for (code, message) in [
            (ffi::SQLITE_BUSY, "the database is used by another process"),
            (ffi::SQLITE_FULL, "the disk is full"),
            (ffi::SQLITE_IOERR_WRITE, "the disk failed to read or write"),
            (
                ffi::SQLITE_READONLY_DIRECTORY,
                "the database cannot be written",
            ),
            (ffi::SQLITE_CANTOPEN, "the database cannot be opened"),
            (ffi::SQLITE_CORRUPT, "the database is damaged"),
            (ffi::SQLITE_NOTADB, "the file is not a SQLite database"),
            (ffi::SQLITE_CONSTRAINT, "the database refused a statement"),
        ] {
            let failure: rusqlite::Result<()> =
                Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            let error = failure.explain("testing").err().map(|error| {
                (
                    error.kind(),
                    error.message().to_owned(),
                    error.help().is_some(),
                )
            });
            assert_eq!(
                error,
                Some((ErrorKind::Destination, message.to_owned(), true))
            );
        }
    }
}
