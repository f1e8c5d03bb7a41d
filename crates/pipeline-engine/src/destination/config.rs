//! How a destination is configured and opened.

use std::fmt::{self, Debug, Display};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use pipeline_core::{Error, ErrorKind, MemoryBudget, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::Destination;

/// The configuration of a destination. Its JSON Schema is the destination's specification.
///
/// The schema says how a program resolves what a user writes: a member of `format: path` is
/// relative to the configuration's folder, one of `format: uri` is not, and one that is `writeOnly`
/// is a secret, which is never shown. The first of a member's `examples` is what a new
/// configuration holds.
#[async_trait]
pub trait DestinationConfig: DeserializeOwned + JsonSchema + Debug + Send + Sync + 'static {
    /// The destination's name in configuration files.
    const NAME: &'static str;

    /// Where rows go.
    fn location(&self) -> Location;

    /// Whether there is something to read, without creating it. Only a destination that is not at a
    /// path has to override this; by default everything else is taken to exist.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when that cannot be determined: what cannot be read is not taken
    /// for missing.
    async fn exists(&self) -> Result<bool> {
        self.location().exists()
    }

    /// Opens the destination. One that is opened to write is created when it does not exist, and
    /// what an interrupted process left is finished or removed; one that is opened to read is not
    /// changed.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when it cannot be opened, or when what is stored is damaged.
    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>>;
}

/// Where rows go: what a program has to know of a destination before it opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// To a file or into a folder.
    Path(PathBuf),
    /// To a server or a bucket. The text is shown, so it holds neither user nor password.
    Url(String),
    /// To standard output. What was written cannot be read again, so checkpoints have to be kept
    /// elsewhere.
    Stdout,
}

impl Location {
    /// The file or folder, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Url(_) | Self::Stdout => None,
        }
    }

    /// True when rows and checkpoints are kept, so that they can be read, verified and purged.
    pub fn is_persistent(&self) -> bool {
        *self != Self::Stdout
    }

    /// Whether a file or folder exists; true for everything else.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when that cannot be determined.
    pub fn exists(&self) -> Result<bool> {
        let Self::Path(path) = self else {
            return Ok(true);
        };
        path.try_exists().map_err(|error| {
            Error::new(ErrorKind::Destination, "the destination cannot be read")
                .with_context("path", path.display().to_string())
                .with_help("check that this user may read it, and that its disk is there")
                .with_source(error)
        })
    }
}

impl Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => Display::fmt(&path.display(), f),
            Self::Url(url) => f.write_str(url),
            Self::Stdout => f.write_str("standard output"),
        }
    }
}

/// What a destination is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// For everything.
    #[default]
    Write,
    /// For [`status`](Destination::status), [`states`](Destination::states),
    /// [`runs`](Destination::runs) and [`verify`](Destination::verify). Nothing is written to the
    /// destination or beside it.
    Read,
}

/// What a destination is given besides its configuration. The default opens it to write, with the
/// process's own standard output.
#[non_exhaustive]
pub struct OpenContext {
    /// What it is opened for.
    pub access: Access,
    /// Bytes of memory that it may hold for itself, such as a cache or files that are being
    /// written, besides the rows that it is given. Default: 32 MiB, the
    /// [share](MemoryBudget::of_destination) of the default budget.
    pub memory: usize,
    /// Standard output, for a destination that writes there.
    pub stdout: Box<dyn Write + Send>,
}

impl Default for OpenContext {
    fn default() -> Self {
        Self {
            access: Access::default(),
            memory: MemoryBudget::of_destination(256 << 20),
            stdout: Box::new(std::io::stdout()),
        }
    }
}

impl OpenContext {
    /// The same with another access.
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// The same with this number of bytes of memory.
    pub fn with_memory(self, memory: usize) -> Self {
        Self { memory, ..self }
    }

    /// The same with another standard output.
    pub fn with_stdout(self, stdout: impl Write + Send + 'static) -> Self {
        Self {
            stdout: Box::new(stdout),
            ..self
        }
    }
}

impl Debug for OpenContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenContext")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_path_can_be_missing_and_only_standard_output_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (there, missing) = (
            Location::Path(folder.path().to_owned()),
            Location::Path(folder.path().join("x")),
        );
        let url = Location::Url("https://host/db".to_owned());
        assert_eq!(
            [&there, &missing, &url, &Location::Stdout].map(|location| location.exists().unwrap()),
            [true, false, true, true]
        );
        assert_eq!(
            [&there, &url, &Location::Stdout].map(Location::is_persistent),
            [true, true, false]
        );
        assert_eq!(
            [&missing, &url].map(|location| location.path().is_some()),
            [true, false]
        );
        assert_eq!(
            format!("{url}, {}", Location::Stdout),
            "https://host/db, standard output"
        );
    }
}
