//! Checkpoints for destinations that cannot hold them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pipeline_core::state::{CheckpointDelta, CheckpointStore, EndpointId, EndpointState};
use pipeline_core::{Claim, Error, ErrorKind, Result, RunRecord};
use pipeline_engine::Access;
use rusqlite::Connection;

use crate::connection::{SMALL_CACHE, Writing, blocking};
use crate::error::at;
use crate::meta::{Keeps, Present};
use crate::{claim, glance, runs, state};

/// Endpoint states in a SQLite file, for a destination that holds rows only.
#[derive(Debug)]
pub struct SqliteCheckpoints {
    path: PathBuf,
    /// None: it is opened for every query, and nothing is written.
    connection: Option<Arc<Mutex<Writing>>>,
}

impl SqliteCheckpoints {
    /// Opens the file, and creates it when it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when it cannot be opened or written, or is not a database.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection =
            Writing::open(&path, Keeps::Checkpoints, SMALL_CACHE).map_err(at(&path))?;
        Ok(Self {
            path,
            connection: Some(Arc::new(Mutex::new(connection))),
        })
    }

    /// Opens the file to look at it. It may be on a read-only disk; nothing is written to it, nor
    /// beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when the file does not exist, when it is not a database, or when
    /// another process has left changes in a log that cannot be read without writing.
    pub fn open_to_read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        glance::read(&path, Present::of).map_err(at(&path))?;
        Ok(Self {
            path,
            connection: None,
        })
    }

    /// Opens the file for an access, on a thread that may block.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`open_to_read`](Self::open_to_read).
    pub async fn open_for(access: Access, path: PathBuf) -> Result<Self> {
        blocking(move || match access {
            Access::Write => Self::open(path),
            Access::Read => Self::open_to_read(path),
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (connection, path) = (self.connection.clone(), self.path.clone());
        let run = blocking(move || match connection {
            Some(connection) => work(
                &connection
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .connection,
            ),
            None => glance::read(&path, work),
        });
        run.await.map_err(at(&self.path))
    }

    /// Runs work in a transaction.
    async fn store(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let over = || {
            Error::new(
                ErrorKind::Unsupported,
                "the checkpoints were opened to read only",
            )
        };
        let connection = self.connection.clone().ok_or_else(over)?;
        let run = blocking(move || {
            let mut writing = connection.lock().unwrap_or_else(PoisonError::into_inner);
            writing.transaction(operation, |writing| work(&writing.connection))
        });
        run.await.map_err(at(&self.path))
    }
}

#[async_trait]
impl CheckpointStore for SqliteCheckpoints {
    async fn load(&self, endpoint: &EndpointId) -> Result<EndpointState> {
        let endpoint = endpoint.clone();
        self.run(move |connection| state::load(connection, &endpoint))
            .await
    }

    async fn list(&self) -> Result<Vec<(EndpointId, EndpointState)>> {
        self.run(|connection| state::list(connection, None)).await
    }

    async fn apply(&self, changes: &[CheckpointDelta]) -> Result<()> {
        let changes = changes.to_vec();
        self.store("storing the checkpoint", move |connection| {
            state::apply(connection, &changes)
        })
        .await
    }

    async fn claim(&self, source: &str, run: &str) -> Result<Claim> {
        let (path, source, run) = (self.path.clone(), source.to_owned(), run.to_owned());
        blocking(move || claim::claim(&path, &source, &run))
            .await
            .map_err(at(&self.path))
    }

    async fn is_claimed(&self, source: &str) -> Result<Option<bool>> {
        let (path, source) = (self.path.clone(), source.to_owned());
        blocking(move || Ok(claim::is_claimed(&path, &source))).await
    }

    async fn record_run(&self, run: &RunRecord) -> Result<()> {
        let run = run.clone();
        self.store("recording the run", move |connection| {
            runs::record(connection, &run)
        })
        .await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.run(move |connection| {
            if Present::of(connection)?.runs {
                runs::list(connection, limit)
            } else {
                Ok(Vec::new())
            }
        })
        .await
    }
}
