//! The right to read a source into a database: a lock on a file beside it, which the operating
//! system gives back when the process ends in whatever way.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use destination_sql::fingerprint;
use pipeline_core::{Claim, Clock, Error, ErrorKind, Result, SystemClock};
use serde::{Deserialize, Serialize};

use crate::error::Broken;

const CLAIMING: &str = "claiming the source";
/// Longer than anybody looks at a lock.
const INSTANT: Duration = Duration::from_millis(20);

/// Who holds a claim, for a process that is refused. Means nothing while the file is not locked.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    run: String,
    process: u32,
    since: DateTime<Utc>,
}

/// Takes the claim on a source of the database at a path.
///
/// # Errors
/// [`ErrorKind::CheckpointConflict`] when another process, or another destination of this one, has
/// it.
pub fn claim(database: &Path, source: &str, run: &str) -> Result<Claim> {
    let path = lock_path(database, source);
    // Not truncated: until it is locked it is another's.
    let opened = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path);
    let mut file = opened.broken(CLAIMING, &path)?;
    match try_twice(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(refused(&mut file, source)),
        Err(TryLockError::Error(error)) => return Err(error).broken(CLAIMING, &path),
    }
    let holder = Holder {
        run: run.to_owned(),
        process: std::process::id(),
        since: SystemClock.now(),
    };
    write(&mut file, &holder).broken(CLAIMING, &path)?;
    Ok(Box::new(file))
}

/// Whether a process has the claim on a source; none when that cannot be found out. Creates
/// nothing.
pub fn is_claimed(database: &Path, source: &str) -> Option<bool> {
    let file = match File::open(lock_path(database, source)) {
        Ok(file) => file,
        Err(error) => return (error.kind() == std::io::ErrorKind::NotFound).then_some(false),
    };
    match file.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

/// A process that only looks whether a claim is held holds its lock for an instant.
#[expect(
    clippy::disallowed_methods,
    reason = "on a thread that may block, where no test can pause time"
)]
fn try_twice(file: &File) -> std::result::Result<(), TryLockError> {
    file.try_lock().or_else(|_| {
        std::thread::sleep(INSTANT);
        file.try_lock()
    })
}

/// The file that is locked: one for each source, so that different sources can be read into one
/// database at the same time. It stays when the claim is given back, since a file that is removed
/// could be locked by one process and made anew by another.
fn lock_path(database: &Path, source: &str) -> PathBuf {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let mut name: String = source
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    if name != source {
        name = format!("{name}-{}", fingerprint(source));
    }
    // The same file, whatever links lead to the database.
    let mut path = fs::canonicalize(database)
        .unwrap_or_else(|_| database.to_owned())
        .into_os_string();
    path.push(format!("-lock-{name}"));
    path.into()
}

fn write(file: &mut File, holder: &Holder) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(holder)?)
}

/// The error of the process that comes second.
fn refused(file: &mut File, source: &str) -> Error {
    let mut text = String::new();
    // Some systems do not let a locked file be read, and its holder may not have written it yet.
    let holder = file
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let mut error = Error::new(
        ErrorKind::CheckpointConflict,
        "another sync reads this source into the same database",
    )
    .with_operation(CLAIMING)
    .with_context("source", source);
    let help = match &holder {
        Some(holder) => format!(
            "wait until it has ended, or stop process {}",
            holder.process
        ),
        None => "wait until it has ended, or stop it".to_owned(),
    };
    if let Some(Holder {
        run,
        process,
        since,
    }) = holder
    {
        error = error
            .with_context("run", run)
            .with_context("process", process.to_string());
        error = error.with_context("since", since.to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    error.with_help(help)
}
