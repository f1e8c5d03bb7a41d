//! Who is at work in a folder: locks that the system gives back when a process ends, in files that
//! say whose they are.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline_core::{Claim, Clock as _, Error, ErrorKind, Result, SystemClock};
use serde::{Deserialize, Serialize};

use crate::error::Explain;
use crate::{disk, names};

pub(crate) const CLAIMING: &str = "claiming a source";
const LOCKING: &str = "locking the folder";
/// How long somebody may look at a claim without taking it.
const GLANCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(50);

/// Who holds a lock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    process: u32,
    since: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// In a bucket another text whenever the claim is written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) beat: Option<String>,
}

impl Holder {
    pub(crate) fn this(run: Option<&str>) -> Self {
        let since = SystemClock
            .now()
            .format("%Y-%m-%d %H:%M:%S UTC")
            .to_string();
        Self {
            process: std::process::id(),
            since,
            run: run.map(ToOwned::to_owned),
            beat: None,
        }
    }

    /// Writes who holds the lock of a file.
    fn write(&self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    fn read(file: &mut File) -> Option<Self> {
        let mut text = String::new();
        file.rewind()
            .and_then(|()| file.read_to_string(&mut text))
            .ok()?;
        serde_json::from_str(&text).ok()
    }

    /// As `process 7, run x`.
    fn name(&self) -> String {
        let run = self
            .run
            .as_ref()
            .map(|run| format!(", run {run}"))
            .unwrap_or_default();
        format!("process {}{run}", self.process)
    }
}

/// A lock that says whose it is for as long as it is held.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // A name that stays is read by nobody, because the lock is free.
        let _ = self.0.set_len(0);
    }
}

/// Takes the right to read a source into the folder.
///
/// # Errors
/// [`ErrorKind::CheckpointConflict`] when another process has it, whether it works or is stopped.
pub(crate) fn claim(root: &Path, source: &str, run: &str) -> Result<Claim> {
    let path = path(root, source);
    if let Some(folder) = path.parent() {
        disk::create_folders(folder).explain(CLAIMING, folder)?;
    }
    let mut file = disk::open_lock(&path).explain(CLAIMING, &path)?;
    if !lock(&mut file, source, &path)? {
        return Ok(Box::new(()));
    }
    Holder::this(Some(run))
        .write(&mut file)
        .explain(CLAIMING, &path)?;
    Ok(Box::new(Held(file)))
}

/// Whether a process has the right to read a source into the folder; none when that cannot be found
/// out. Creates nothing.
pub(crate) fn is_claimed(root: &Path, source: &str) -> Option<bool> {
    let file = match File::open(path(root, source)) {
        Ok(file) => file,
        Err(error) => return (error.kind() == io::ErrorKind::NotFound).then_some(false),
    };
    match file.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

/// Where the claim of a source is.
pub(crate) fn path(root: &Path, source: &str) -> PathBuf {
    root.join("_claims")
        .join(format!("{}.json", names::folder(source)))
}

/// Locks the file of a claim. False: the file system has no locks, and then two syncs are told
/// apart when the second one commits.
fn lock(file: &mut File, source: &str, path: &Path) -> Result<bool> {
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            // Whoever only looks holds it for a moment.
            Err(TryLockError::WouldBlock) if waited < GLANCE => pause(&mut waited),
            Err(TryLockError::WouldBlock) => {
                return Err(taken(source, path, Holder::read(file).as_ref()));
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(false);
            }
            Err(TryLockError::Error(error)) => return Err(error).explain(CLAIMING, path),
        }
    }
}

pub(crate) fn taken(source: &str, path: &Path, holder: Option<&Holder>) -> Error {
    let since = holder
        .map(|holder| format!(" since {} ({})", holder.since, holder.name()))
        .unwrap_or_default();
    let help = holder.map_or_else(String::new, |holder| {
        format!(", or end process {} if it hangs", holder.process)
    });
    Error::new(
        ErrorKind::CheckpointConflict,
        format!("another sync has been reading `{source}`{since}"),
    )
    .with_operation(CLAIMING)
    .with_context("path", path.display().to_string())
    .with_help(format!("wait until it ends{help}; then run again"))
}

/// The lock of a folder: shared by those who write in it, or held by one who puts it in order.
#[derive(Debug)]
pub(crate) struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Opens the lock without taking it.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let path = root.join("_lock");
        let file = disk::open_lock(&path).explain(LOCKING, &path)?;
        Ok(Self { file, path })
    }

    /// Takes the folder for this process alone. False: others work in it, or the file system has no
    /// locks, and then nothing is ever taken for a left-over.
    pub(crate) fn try_alone(&mut self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Holder::this(None)
                .write(&mut self.file)
                .explain(LOCKING, &self.path)
                .map(|()| true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(false)
            }
            Err(TryLockError::Error(error)) => Err(error).explain(LOCKING, &self.path),
        }
    }

    /// Gives the folder to all who write in it.
    pub(crate) fn share(&mut self, was_alone: bool, patience: Duration) -> Result<()> {
        if was_alone {
            self.file
                .set_len(0)
                .and_then(|()| self.file.unlock())
                .explain(LOCKING, &self.path)?;
        }
        let mut waited = Duration::ZERO;
        loop {
            match self.file.try_lock_shared() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if waited < patience => pause(&mut waited),
                Err(TryLockError::WouldBlock) => return Err(self.blocked()),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(());
                }
                Err(TryLockError::Error(error)) => return Err(error).explain(LOCKING, &self.path),
            }
        }
    }

    fn blocked(&mut self) -> Error {
        let holder = Holder::read(&mut self.file);
        let who = holder
            .as_ref()
            .map_or_else(|| "another process".to_owned(), Holder::name);
        let since = holder
            .map(|holder| format!(" since {}", holder.since))
            .unwrap_or_default();
        Error::new(
            ErrorKind::CheckpointConflict,
            format!("{who} has held the folder{since}, and does not give it back"),
        )
        .with_operation(LOCKING)
        .with_context("path", self.path.display().to_string())
        .with_help(
            "wait until it has put the folder in order, or end it if it hangs; then run again",
        )
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this runs on threads that may block, and is bounded"
)]
fn pause(waited: &mut Duration) {
    std::thread::sleep(PAUSE);
    *waited += PAUSE;
}
