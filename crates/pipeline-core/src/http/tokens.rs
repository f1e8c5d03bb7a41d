//! Where tokens are kept that the vendor replaces while we use them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, ErrorKind, Result};

/// Keeps tokens that the vendor replaces while we use them, such as rotating refresh tokens.
#[async_trait]
pub trait TokenStore: Send + Sync + Debug {
    /// The stored token, if any.
    async fn load(&self, key: &str) -> Result<Option<SecretString>>;

    /// Stores a token durably before it is first used: after a crash the old one is worth nothing.
    async fn save(&self, key: &str, token: &SecretString) -> Result<()>;

    /// Keeps others who use the same store from replacing this token until the lock is dropped: of two processes that
    /// refresh at once, one would be left with a dead token. Default: there are no others.
    async fn lock(&self, key: &str) -> Result<TokenLock> {
        let _ = key;
        Ok(TokenLock(None))
    }
}

/// Holds a token's lock until dropped, or until the process ends.
#[derive(Debug)]
pub struct TokenLock(#[expect(dead_code, reason = "closing the file releases the lock")] Option<std::fs::File>);

/// Keeps tokens until the process ends.
#[derive(Debug, Default)]
pub struct MemoryTokens(Mutex<HashMap<String, SecretString>>);

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn load(&self, key: &str) -> Result<Option<SecretString>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    async fn save(&self, key: &str, token: &SecretString) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), token.clone());
        Ok(())
    }
}

/// Keeps each token in a file of its own that only the owner can read. A file is replaced as a whole and synced to disk,
/// so that a crash leaves the old token or the new one.
#[derive(Clone, Debug)]
pub struct FileTokens {
    directory: PathBuf,
}

impl FileTokens {
    /// Keeps the files in a directory, which is made when the first token is saved.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{}.token", blake3::hash(key.as_bytes()).to_hex()))
    }
}

#[async_trait]
impl TokenStore for FileTokens {
    async fn load(&self, key: &str) -> Result<Option<SecretString>> {
        match tokio::fs::read_to_string(self.path(key)).await {
            Ok(token) => Ok(Some(token.trim_end().to_owned()).filter(|token| !token.is_empty()).map(Into::into)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn save(&self, key: &str, token: &SecretString) -> Result<()> {
        let (directory, path, token) = (self.directory.clone(), self.path(key), token.clone());
        let write = move || replace(&directory, &path, token.expose_secret());
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(std::io::Error::other).and_then(|written| written).map_err(failed)
    }

    async fn lock(&self, key: &str) -> Result<TokenLock> {
        let (directory, path) = (self.directory.clone(), self.path(key).with_extension("lock"));
        let locked = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(directory)?;
            let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            file.lock()?;
            Ok(file)
        });
        let locked = locked.await.map_err(std::io::Error::other).and_then(|locked| locked);
        locked.map(|file| TokenLock(Some(file))).map_err(failed)
    }
}

fn replace(directory: &Path, path: &Path, token: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    // Temporary files are made for the owner only.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(token.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    Ok(())
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Disk, "the token store cannot be read or written")
        .with_help("see that the directory of tokens is there and belongs to the user who runs this")
        .with_source(error)
}
