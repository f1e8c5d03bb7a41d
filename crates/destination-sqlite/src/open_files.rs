//! Whether the database's path still leads to the file that is open: a file that was deleted or
//! replaced takes commits as before, and no reader ever sees them.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};

use pipeline_core::{Error, ErrorKind, Result};

use crate::error::Broken;

const OPENING: &str = "opening the database";

/// The files of an open database.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    files: [File; 2],
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Which file it was when the database was opened, or first seen.
    identity: Option<Identity>,
    /// Bytes that it has at least.
    least: u64,
}

/// Distinguishes files that have had the same name, where the system can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

#[cfg(unix)]
fn identity(file: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    Identity(file.dev(), file.ino())
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Identity {
    Identity(0, 0)
}

impl OpenFiles {
    /// The files of a database that was opened just now. They are looked at by name only: SQLite's
    /// locks would be lost with any other handle of the file that is closed.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let file = |path: PathBuf, least| -> Result<File> {
            let identity = match fs::metadata(&path) {
                Ok(file) => Some(identity(&file)),
                Err(error) if error.kind() == NotFound => None,
                Err(error) => return Err(error).broken(OPENING, &path),
            };
            Ok(File {
                path,
                identity,
                least,
            })
        };
        Ok(Self {
            files: [file(path.to_owned(), 1)?, file(log_path(path), 0)?],
        })
    }

    /// Fails unless both paths lead to the files that they led to before.
    pub(crate) fn check(&mut self, operation: &'static str) -> Result<()> {
        for File {
            path,
            identity: known,
            least,
        } in &mut self.files
        {
            let file = match fs::metadata(&*path) {
                Ok(file) => file,
                Err(error) if error.kind() == NotFound && known.is_none() => continue,
                Err(error) if error.kind() == NotFound => {
                    return Err(lost("deleted", path, operation));
                }
                Err(error) => return Err(error).broken(operation, path),
            };
            let found = identity(&file);
            if *known.get_or_insert(found) != found {
                return Err(lost("replaced", path, operation));
            }
            if file.len() < *least {
                return Err(lost("emptied", path, operation));
            }
        }
        Ok(())
    }
}

/// The write-ahead log of a database: what is committed is in it before it is in the database.
pub(crate) fn log_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

fn lost(how: &str, path: &Path, operation: &'static str) -> Error {
    Error::new(
        ErrorKind::Destination,
        format!("the database file was {how} while it was written to"),
    )
    .with_operation(operation)
    .with_context("path", path.display().to_string())
    .with_help(
        "keep others from moving or replacing it during a sync, then run again: what the file at \
         this path holds decides where it continues",
    )
}
