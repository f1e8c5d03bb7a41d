//! What commands that talk to vendors or to the destination build from the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use destination_jsonl::{JsonlConfig, StreamDestination};
use destination_parquet::ParquetConfig;
use destination_sqlite::{SqliteCheckpoints, SqliteConfig, SqliteDestination};
use pipeline_core::http::{FileLedger, FileTokens, MemoryLimits};
use pipeline_core::{BuildContext, Destination, Observer, SystemClock, WithCheckpoints};

use crate::config::{Config, DestinationKind};
use crate::exit::{Failure, Result};

/// Opens the destination. Standard output keeps its checkpoints beside the configuration.
pub(crate) fn destination(config: &Config) -> Result<Arc<dyn Destination>> {
    let settings = &config.destination;
    let opened: pipeline_core::Result<Arc<dyn Destination>> = match settings.kind {
        DestinationKind::Sqlite => SqliteDestination::open(settings.parse_as::<SqliteConfig>(config)?).map(|opened| Arc::new(opened) as _),
        DestinationKind::Parquet => settings.parse_as::<ParquetConfig>(config)?.open().map(|opened| Arc::new(opened) as _),
        DestinationKind::Jsonl => settings.parse_as::<JsonlConfig>(config)?.open(),
        DestinationKind::Stdout => {
            let checkpoints = SqliteCheckpoints::open(private_folder(&config.folder)?.join("checkpoints.db"));
            let rows = StreamDestination::new(std::io::stdout());
            checkpoints.map(|checkpoints| Arc::new(WithCheckpoints::new(rows, Arc::new(checkpoints))) as _)
        }
    };
    opened.map_err(|error| Failure::of_destination(&error))
}

/// What every connector of a run shares: limits, tokens, and who is told what happens.
pub(crate) fn context(config: &Config, observer: Arc<dyn Observer>) -> BuildContext {
    let ledger = Arc::new(FileLedger::new(config.folder.join(".pipeline").join("limits")));
    BuildContext {
        limits: Arc::new(MemoryLimits::kept(ledger, Arc::new(SystemClock))),
        tokens: Arc::new(FileTokens::new(config.folder.join(".pipeline").join("tokens"))),
        observer,
        ..BuildContext::default()
    }
}

fn private_folder(beside: &Path) -> Result<PathBuf> {
    let folder = beside.join(".pipeline");
    std::fs::create_dir_all(&folder).map_err(|error| {
        let message = format!("{} cannot be created: {}", folder.display(), crate::config::reason(&error));
        Failure::usage(message, "checkpoints are kept there: make the folder of the configuration writable")
    })?;
    Ok(folder)
}
