//! Where tokens are kept that the vendor replaces while we use them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep};

use crate::error::{Error, ErrorKind, Result};

/// How long to wait for a lock.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at a lock that is held.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Length of a process's id.
const HOLDER: u64 = 20;
/// How the names of unfinished files end.
const PART: &str = ".part";
/// How the names of unfinished files of earlier versions begin.
const UNNAMED: &str = ".tmp";
/// Age from which an unfinished file is not being written any more.
const OLD: Duration = Duration::from_mins(10);

/// Keeps tokens that the vendor replaces while we use them, such as rotating refresh tokens.
#[async_trait]
pub trait TokenStore: Send + Sync + Debug {
    /// The stored token, if any.
    async fn load(&self, key: &str) -> Result<Option<SecretString>>;

    /// Stores a token durably before it is first used: after a crash the old one is worth nothing.
    async fn save(&self, key: &str, token: &SecretString) -> Result<()>;

    /// Keeps others who use the same store from replacing this token until the lock is dropped: of
    /// two processes that refresh at once, one would be left with a dead token. Default: there are
    /// no others.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when another process holds it for too long.
    async fn lock(&self, key: &str) -> Result<TokenLock> {
        let _ = key;
        Ok(TokenLock(None))
    }
}

/// Holds a token's lock until dropped, or until the process ends.
#[derive(Debug)]
pub struct TokenLock(
    #[expect(dead_code, reason = "closing the file releases the lock")] Option<File>,
);

/// Keeps tokens until the process ends.
#[derive(Debug, Default)]
pub struct MemoryTokens(Mutex<HashMap<String, SecretString>>);

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn load(&self, key: &str) -> Result<Option<SecretString>> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned())
    }

    async fn save(&self, key: &str, token: &SecretString) -> Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.to_owned(), token.clone());
        Ok(())
    }
}

/// Keeps each token in a file of its own that only the owner can read. A file is replaced as a
/// whole and synced to disk, so that a crash leaves the old token or the new one.
#[derive(Clone, Debug)]
pub struct FileTokens {
    directory: PathBuf,
    patience: Duration,
}

impl FileTokens {
    /// Keeps the files in a directory, which is made when the first token is saved.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            patience: PATIENCE,
        }
    }

    /// How long to wait for another process that gets the same token. Default one minute: as long
    /// as a request for a token may take.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory
            .join(format!("{}.token", blake3::hash(key.as_bytes()).to_hex()))
    }
}

#[async_trait]
impl TokenStore for FileTokens {
    async fn load(&self, key: &str) -> Result<Option<SecretString>> {
        match tokio::fs::read_to_string(self.path(key)).await {
            Ok(token) => Ok(Some(token.trim_end().to_owned())
                .filter(|token| !token.is_empty())
                .map(Into::into)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn save(&self, key: &str, token: &SecretString) -> Result<()> {
        let (directory, path, token) = (self.directory.clone(), self.path(key), token.clone());
        let write = move || replace(&directory, &path, token.expose_secret());
        let written = tokio::task::spawn_blocking(write).await;
        written
            .map_err(std::io::Error::other)
            .and_then(|written| written)
            .map_err(failed)
    }

    async fn lock(&self, key: &str) -> Result<TokenLock> {
        let path = self.path(key);
        let begun = Instant::now();
        let mut file = open_lock(&self.directory, &path.with_extension("lock")).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < self.patience => {
                    sleep(LOOK_AGAIN).await;
                }
                Err(TryLockError::WouldBlock) => return Err(held(&mut file, self.patience)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let swept = write_holder(&mut file).and_then(|()| sweep(&self.directory, &path));
        swept.map(|()| TokenLock(Some(file))).map_err(failed)
    }
}

fn open_lock(directory: &Path, path: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(directory)?;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Says who holds a lock, for those who wait for it.
fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

/// Another process holds the lock for longer than getting a token takes.
fn held(file: &mut File, patience: Duration) -> Error {
    let mut holder = String::new();
    // Where a lock keeps others from reading, too, no process is named.
    let named = file
        .rewind()
        .and_then(|()| (&*file).take(HOLDER).read_to_string(&mut holder))
        .ok();
    let process = named
        .and_then(|_| holder.trim().parse::<u32>().ok())
        .map(|id| format!("process {id}"));
    let process = process.unwrap_or_else(|| "another process".to_owned());
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "{process} has held the lock of this source's token for {} s",
            patience.as_secs()
        ),
    )
    .temporary()
    .with_help(format!(
        "see whether {process} is stopped or hangs, and end it; then run again"
    ))
}

/// Removes what processes left behind that died while they wrote this token, before it was given
/// its name. The caller holds the token's lock, so no other process writes it now; what other
/// tokens' processes write is left alone, until they have been dead for long.
fn sweep(directory: &Path, path: &Path) -> std::io::Result<()> {
    let own = part_of(path);
    let lock = path.with_extension("lock").metadata()?.modified()?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_old = || {
            let written = entry.metadata().and_then(|data| data.modified()).ok();
            written
                .and_then(|written| lock.duration_since(written).ok())
                .is_some_and(|age| age > OLD)
        };
        let is_part = name.ends_with(PART) || name.starts_with(UNNAMED);
        if name.ends_with(PART) && name.starts_with(&own) || is_part && is_old() {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What the names of a token's unfinished files begin with.
fn part_of(path: &Path) -> String {
    format!(
        "{}.",
        path.file_stem().unwrap_or_default().to_string_lossy()
    )
}

fn replace(directory: &Path, path: &Path, token: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    // Temporary files are made for the owner only.
    let mut file = tempfile::Builder::new()
        .prefix(&part_of(path))
        .suffix(PART)
        .tempfile_in(directory)?;
    file.write_all(token.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    Ok(())
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Disk, "the token store cannot be read or written")
        .with_help(
            "see that the directory of tokens is there and belongs to the user who runs this",
        )
        .with_source(error)
}
