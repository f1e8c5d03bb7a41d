//! What commands that talk to vendors or to the destination build from the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use destination_sqlite::SqliteCheckpoints;
use pipeline_core::http::FileTokens;
use pipeline_core::rate_limit::{FileLedger, MemoryLimits};
use pipeline_core::{BuildContext, MemoryBudget, Observer, SystemClock};
use pipeline_engine::{
    Access, ConfiguredDestination, Destination, Location, OpenContext, Options, WithCheckpoints,
};

use crate::config::{Config, reason};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// Checkpoints of rows that go to standard output.
const CHECKPOINTS: &str = "checkpoints.db";

/// Time after which a wait without a bound is reported.
const PATIENCE: Duration = Duration::from_secs(3);

/// The configured destination, together with the checkpoints of one that keeps none.
#[derive(Debug)]
pub(crate) struct Target {
    configured: ConfiguredDestination,
    location: Location,
    /// Bytes that the destination may hold for itself.
    memory: usize,
    /// Folder for checkpoints of rows that are not kept.
    private: PathBuf,
    console: Arc<Console>,
}

impl Target {
    /// Reads the destination's configuration.
    pub(crate) fn of(config: &Config, console: &Arc<Console>) -> Result<Self> {
        let configured = config.destination.configure(config, console)?;
        let location = configured.location();
        let memory = MemoryBudget::of_destination(
            config
                .sync
                .memory_budget
                .unwrap_or(Options::default().memory_budget),
        );
        Ok(Self {
            configured,
            location,
            memory,
            private: config.private().to_owned(),
            console: Arc::clone(console),
        })
    }

    /// Where rows go.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// True when rows can be read again after they were written.
    pub(crate) fn is_persistent(&self) -> bool {
        self.location.is_persistent()
    }

    /// Where checkpoints are, as it may be shown.
    pub(crate) fn shown(&self) -> String {
        self.kept().to_string()
    }

    /// True when there is something to read at all, without creating it.
    ///
    /// # Errors
    /// When it cannot be determined: an unreadable destination must not be taken for a missing one.
    pub(crate) async fn exists(&self) -> Result<bool> {
        let exists = if self.is_persistent() {
            self.configured.exists().await
        } else {
            self.kept().exists()
        };
        exists.map_err(|error| {
            match std::error::Error::source(&error).and_then(|source| source.downcast_ref()) {
                Some(cause) => {
                    let message = format!(
                        "the destination {} cannot be read: {}",
                        self.shown(),
                        reason(cause)
                    );
                    Failure::new(Exit::Destination, message, error.help())
                }
                None => Failure::of_destination(&error),
            }
        })
    }

    /// Opens the destination to write, and creates it when it does not exist.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Destination>> {
        if !self.is_persistent() {
            private_folder(&self.private)?;
        }
        self.patiently(Access::Write).await
    }

    /// Opens the destination to read it, and changes nothing; none when nothing is there yet.
    pub(crate) async fn to_read(&self) -> Result<Option<Arc<dyn Destination>>> {
        if self.exists().await? {
            self.patiently(Access::Read).await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Where checkpoints are: beside the configuration, when rows are not kept.
    fn kept(&self) -> Location {
        if self.is_persistent() {
            self.location.clone()
        } else {
            Location::Path(self.private.join(CHECKPOINTS))
        }
    }

    /// Opens the destination, and says so when that takes long: another process may hold what has
    /// to be waited for.
    async fn patiently(&self, access: Access) -> Result<Arc<dyn Destination>> {
        let opening = self.opened(access);
        tokio::pin!(opening);
        let opened = if let Ok(opened) = tokio::time::timeout(PATIENCE, &mut opening).await {
            opened
        } else {
            let shown = self.shown();
            self.console.note(&format!(
                "waiting for the destination {shown}: another process may hold it (interrupt to \
                 stop waiting)"
            ));
            opening.await
        };
        opened.map_err(|error| Failure::of_destination(&error))
    }

    async fn opened(&self, access: Access) -> pipeline_core::Result<Arc<dyn Destination>> {
        let context = OpenContext::default()
            .with_access(access)
            .with_memory(self.memory)
            .with_stdout(self.console.stdout());
        let destination = self.configured.open(context).await?;
        match self.kept() {
            Location::Path(path) if !self.is_persistent() => {
                let checkpoints = Arc::new(SqliteCheckpoints::open_for(access, path).await?);
                Ok(Arc::new(WithCheckpoints::new(destination, checkpoints)))
            }
            _ => Ok(destination),
        }
    }
}

/// What every connector of a run shares: limits, tokens, and the observer.
pub(crate) fn context(config: &Config, observer: Arc<dyn Observer>) -> BuildContext {
    let ledger = Arc::new(FileLedger::new(config.private().join("limits")));
    BuildContext::default()
        .limits(Arc::new(MemoryLimits::kept(ledger, Arc::new(SystemClock))))
        .tokens(Arc::new(FileTokens::new(config.private().join("tokens"))))
        .observer(observer)
}

fn private_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let message = format!("{} cannot be created: {}", folder.display(), reason(&error));
        Failure::new(
            Exit::Destination,
            message,
            Some("checkpoints are stored there: make the configuration's folder writable"),
        )
    })
}
