//! Checkpoints for destinations that cannot hold them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pipeline_core::Result;
use pipeline_core::state::{Change, CheckpointStore, EndpointId, EndpointState};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::connection::{self, blocking};
use crate::error::{Explain, at};
use crate::state;

/// Endpoint states in a SQLite file, for a destination that holds rows only.
#[derive(Debug)]
pub struct SqliteCheckpoints {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl SqliteCheckpoints {
    /// Opens the file, and creates it when it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`](pipeline_core::ErrorKind::Destination) when it cannot be opened or written, or is no database.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = connection::open(&path).map_err(at(&path))?;
        Ok(Self { path, connection: Arc::new(Mutex::new(connection)) })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        let run = blocking(move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner)));
        run.await.map_err(at(&self.path))
    }
}

#[async_trait]
impl CheckpointStore for SqliteCheckpoints {
    async fn load(&self, endpoint: &EndpointId) -> Result<EndpointState> {
        let endpoint = endpoint.clone();
        self.run(move |connection| state::load(connection, &endpoint)).await
    }

    async fn list(&self) -> Result<Vec<(EndpointId, EndpointState)>> {
        self.run(|connection| state::list(connection, None)).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<()> {
        let changes = changes.to_vec();
        self.run(move |connection| {
            let operation = "storing the checkpoint";
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate).explain(operation)?;
            state::apply(&transaction, &changes)?;
            transaction.commit().explain(operation)
        })
        .await
    }
}
