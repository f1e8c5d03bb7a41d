//! Rotating tokens in files that only their owner can read.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as IoErrorKind, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pipeline_core::http::TokenStore;
use pipeline_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};

/// One file per token in a folder beside the configuration. A token is on disk before it is first used.
#[derive(Debug)]
pub(crate) struct FileTokens {
    folder: PathBuf,
}

impl FileTokens {
    /// Tokens in `.pipeline/tokens` beside the configuration.
    pub(crate) fn beside(folder: &Path) -> Self {
        Self { folder: folder.join(".pipeline").join("tokens") }
    }

    /// The file of a token; any key makes a legal name.
    fn path(&self, key: &str) -> PathBuf {
        let mut name = String::with_capacity(key.len());
        for byte in key.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
                name.push(char::from(byte));
            } else {
                let _ = write!(name, "%{byte:02x}");
            }
        }
        self.folder.join(name)
    }
}

#[async_trait]
impl TokenStore for FileTokens {
    async fn load(&self, key: &str) -> Result<Option<SecretString>> {
        match fs::read_to_string(self.path(key)) {
            Ok(token) => Ok(Some(token.into())),
            Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("the stored token cannot be read", &self.folder, error)),
        }
    }

    async fn save(&self, key: &str, token: &SecretString) -> Result<()> {
        replace(&self.path(key), token.expose_secret()).map_err(|error| failed("the new token cannot be stored", &self.folder, error))
    }
}

fn failed(message: &'static str, folder: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
        .with_context("folder", folder.display().to_string())
        .with_help("make the folder writable: a rotating token that is lost cannot be had again")
        .with_source(error)
}

/// Replaces a file in one step that survives a crash.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_token_survives_the_process_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let key = "zendesk:acme/1";
        let tokens = FileTokens::beside(folder.path());
        assert!(tokens.load(key).await.unwrap().is_none());
        tokens.save(key, &"first".into()).await.unwrap();
        tokens.save(key, &"second".into()).await.unwrap();
        let found = FileTokens::beside(folder.path()).load(key).await.unwrap().unwrap();
        assert_eq!(found.expose_secret(), "second");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(tokens.path(key)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
