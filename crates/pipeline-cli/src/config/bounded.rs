//! Files that the user names, read within bounds: a pipe without a writer and a device without an
//! end are errors.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Longest time that a pipe may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads a text file of at most `most` bytes.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] when there are more, and [`ErrorKind::TimedOut`] when what is not a
/// file has no end in time.
pub(super) fn read(path: &Path, most: u64) -> Result<String> {
    if path.metadata()?.is_file() {
        return read_to_end(path, most);
    }
    // Opening a pipe may wait for ever, and only a thread of its own can be left alone.
    let (sender, receiver) = channel();
    let path = path.to_owned();
    std::thread::Builder::new()
        .name("read".to_owned())
        .spawn(move || sender.send(read_to_end(&path, most)))?;
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => {
                let seconds = PATIENCE.as_secs();
                Error::new(
                    ErrorKind::TimedOut,
                    format!("it is not a regular file and did not end within {seconds} s"),
                )
            }
            RecvTimeoutError::Disconnected => Error::other("the read ended early"),
        })
    })
}

fn read_to_end(path: &Path, most: u64) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(
            ErrorKind::FileTooLarge,
            format!("it is larger than {most} bytes"),
        ));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "it is not valid UTF-8"))
}

/// True when every user of the machine can read a file.
#[cfg(unix)]
pub(super) fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0)
}

/// True when every user of the machine can read a file.
#[cfg(not(unix))]
pub(super) fn is_readable_by_others(_path: &Path) -> bool {
    false
}
