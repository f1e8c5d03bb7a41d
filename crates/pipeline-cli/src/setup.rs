//! What commands that talk to vendors or to the destination build from the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use destination_jsonl::{JsonlConfig, StreamDestination};
use destination_parquet::ParquetConfig;
use destination_sqlite::{SqliteCheckpoints, SqliteConfig, SqliteDestination};
use pipeline_core::http::{FileLedger, FileTokens, MemoryLimits};
use pipeline_core::{BuildContext, Destination, Error, ErrorKind, Observer, SystemClock, WithCheckpoints};

use crate::config::{Config, DestinationKind};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// Folder beside the configuration for what belongs to it.
pub(crate) const PRIVATE: &str = ".pipeline";
/// Checkpoints of rows that go to standard output.
pub(crate) const CHECKPOINTS: &str = "checkpoints.db";

/// Time after which a wait without a bound is told.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens the destination. Standard output keeps its checkpoints beside the configuration.
pub(crate) async fn destination(config: &Config, console: &Arc<Console>) -> Result<Arc<dyn Destination>> {
    let settings = &config.destination;
    let open: Open = match settings.kind {
        DestinationKind::Sqlite => {
            let sqlite = settings.parse_as::<SqliteConfig>(config)?;
            Box::new(|| SqliteDestination::open(sqlite).map(|opened| Arc::new(opened) as _))
        }
        DestinationKind::Parquet => {
            let parquet = settings.parse_as::<ParquetConfig>(config)?;
            Box::new(move || parquet.open().map(|opened| Arc::new(opened) as _))
        }
        DestinationKind::Jsonl => {
            let jsonl = settings.parse_as::<JsonlConfig>(config)?;
            Box::new(move || jsonl.open())
        }
        DestinationKind::Stdout => {
            let path = private_folder(&config.folder)?.join(CHECKPOINTS);
            let rows = StreamDestination::new(console.stdout());
            Box::new(|| Ok(Arc::new(WithCheckpoints::new(rows, Arc::new(SqliteCheckpoints::open(path)?))) as _))
        }
    };
    opened(open, config, console).await
}

/// Opens the destination to read it, and changes nothing; none when nothing is there yet.
pub(crate) async fn to_read(config: &Config, console: &Arc<Console>) -> Result<Option<Arc<dyn Destination>>> {
    let settings = &config.destination;
    if !settings.exists()? {
        return Ok(None);
    }
    let open: Open = match settings.kind {
        DestinationKind::Parquet => {
            let parquet = settings.parse_as::<ParquetConfig>(config)?;
            Box::new(move || parquet.open_to_read().map(|opened| Arc::new(opened) as _))
        }
        DestinationKind::Jsonl => {
            let jsonl = settings.parse_as::<JsonlConfig>(config)?;
            Box::new(move || jsonl.open_to_read())
        }
        DestinationKind::Sqlite => {
            let sqlite = settings.parse_as::<SqliteConfig>(config)?;
            Box::new(|| SqliteDestination::open_to_read(sqlite).map(|opened| Arc::new(opened) as _))
        }
        DestinationKind::Stdout => {
            let path = config.folder.join(PRIVATE).join(CHECKPOINTS);
            let rows = StreamDestination::new(console.stdout());
            Box::new(|| Ok(Arc::new(WithCheckpoints::new(rows, Arc::new(SqliteCheckpoints::open_to_read(path)?))) as _))
        }
    };
    opened(open, config, console).await.map(Some)
}

type Open = Box<dyn FnOnce() -> pipeline_core::Result<Arc<dyn Destination>> + Send>;

/// Opens a destination, and says so when that takes long: another process may hold what has to be waited for.
async fn opened(open: Open, config: &Config, console: &Arc<Console>) -> Result<Arc<dyn Destination>> {
    let mut opening = tokio::task::spawn_blocking(open);
    let opened = if let Ok(opened) = tokio::time::timeout(PATIENCE, &mut opening).await {
        opened
    } else {
        let shown = config.destination.shown();
        console.note(&format!("waiting for the destination {shown}: another process may hold it (interrupt to stop waiting)"));
        opening.await
    };
    let ended_early = |error| Err(Error::new(ErrorKind::Unexpected, "opening the destination ended early").with_source(error));
    opened.unwrap_or_else(ended_early).map_err(|error| Failure::of_destination(&error))
}

/// What every connector of a run shares: limits, tokens, and who is told what happens.
pub(crate) fn context(config: &Config, observer: Arc<dyn Observer>) -> BuildContext {
    let ledger = Arc::new(FileLedger::new(config.folder.join(PRIVATE).join("limits")));
    BuildContext {
        limits: Arc::new(MemoryLimits::kept(ledger, Arc::new(SystemClock))),
        tokens: Arc::new(FileTokens::new(config.folder.join(PRIVATE).join("tokens"))),
        observer,
        ..BuildContext::default()
    }
}

fn private_folder(beside: &Path) -> Result<PathBuf> {
    let folder = beside.join(PRIVATE);
    std::fs::create_dir_all(&folder).map_err(|error| {
        let message = format!("{} cannot be created: {}", folder.display(), crate::config::reason(&error));
        Failure::new(Exit::Destination, message, Some("checkpoints are kept there: make the folder of the configuration writable"))
    })?;
    Ok(folder)
}
