//! What a user may set, and how the database is opened.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use destination_sql::Deletes;
use pipeline_core::Result;
use pipeline_engine::{Access, Destination, DestinationConfig, Location, OpenContext};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::blocking;
use crate::destination::SqliteDestination;

/// Settings of the SQLite destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The database file. Created when it does not exist; its folder must exist.
    #[schemars(extend("format" = "path", "examples" = ["warehouse.db"]))]
    pub path: PathBuf,
    /// What a tombstone does to its row. Default: `remove`.
    #[serde(default)]
    pub deletes: Deletes,
}

#[async_trait]
impl DestinationConfig for SqliteConfig {
    const NAME: &'static str = "sqlite";

    fn location(&self) -> Location {
        Location::Path(self.path.clone())
    }

    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>> {
        let (config, OpenContext { access, memory, .. }) = (self.clone(), context);
        let open = blocking(move || match access {
            Access::Write => SqliteDestination::open_within(config, memory),
            Access::Read => SqliteDestination::open_to_read(config),
        });
        Ok(Arc::new(open.await?))
    }
}
