//! What a failure of the file system means to the user.

use std::io;
use std::path::Path;

use pipeline_core::{Error, ErrorKind, Result};

use crate::remote::StoreError;

/// Turns file-system errors into the toolkit's, with the operation that failed and the file.
pub(crate) trait Explain<T> {
    fn explain(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T> Explain<T> for io::Result<T> {
    fn explain(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| {
            let of_store = error.get_ref().and_then(|cause| cause.downcast_ref());
            let explained = match of_store {
                Some(cause) => StoreError::explain(cause, operation),
                None => file_error(operation, error),
            };
            explained.with_context("path", path.display().to_string())
        })
    }
}

/// What a file-system error means to the user.
pub fn file_error(operation: &'static str, error: io::Error) -> Error {
    let (message, help) = meaning(error.kind(), error.raw_os_error());
    Error::new(ErrorKind::Destination, message)
        .with_help(help)
        .with_operation(operation)
        .with_source(error)
}

fn meaning(kind: io::ErrorKind, errno: Option<i32>) -> (&'static str, &'static str) {
    use io::ErrorKind as Kind;
    match kind {
        Kind::StorageFull | Kind::QuotaExceeded => (
            "the disk is full",
            "free some space and run again; nothing that was committed is lost",
        ),
        Kind::FileTooLarge => (
            "a file is larger than the system allows",
            "raise the limit and run again; nothing that was committed is lost",
        ),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => (
            "the folder cannot be written",
            "allow this user to write to the folder",
        ),
        Kind::NotFound | Kind::NotADirectory => (
            "the folder cannot be used",
            "check that the path exists and is a folder",
        ),
        Kind::Unsupported => (
            "the file system lacks hard links",
            "choose a path on a local file system, which has them; they keep two writers apart",
        ),
        // No stable kind stands for EMFILE (24 on every Unix) and ENFILE (23).
        _ if cfg!(unix) && matches!(errno, Some(23 | 24)) => (
            "too many files are open",
            "allow this process more open files (`ulimit -n`) and run again; nothing that was committed is lost",
        ),
        _ => (
            "the disk failed to read or write",
            "check the disk and run again; nothing that was committed is lost",
        ),
    }
}

/// A stored file that is not what was written.
pub(crate) fn damaged(message: &'static str, path: &Path) -> Error {
    Error::new(ErrorKind::Destination, message)
        .with_context("path", path.display().to_string())
        .with_help("restore the folder from a backup, or move it away and run again to read everything anew")
}
