//! What a user may set, and how the lake is opened.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use destination_sql::Deletes;
use destination_sqlite::bookkeeping::blocking;
use pipeline_core::Result;
use pipeline_engine::{Access, Destination, DestinationConfig, Location, OpenContext};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::destination::DucklakeDestination;

/// Settings of the DuckLake destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DucklakeConfig {
    /// The catalogue, a SQLite file. Created when it does not exist; its folder must exist.
    #[schemars(extend("format" = "path", "examples" = ["warehouse.ducklake"]))]
    pub catalog: PathBuf,
    /// The folder of the data files. Default: beside the catalogue, with its name and `.files`.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub data: Option<PathBuf>,
    /// What a tombstone does to its row. Default: `remove`.
    #[serde(default)]
    pub deletes: Deletes,
}

impl DucklakeConfig {
    /// The folder of the data files.
    pub fn data_path(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| {
            let mut path = self.catalog.clone().into_os_string();
            path.push(".files");
            path.into()
        })
    }
}

#[async_trait]
impl DestinationConfig for DucklakeConfig {
    const NAME: &'static str = "ducklake";

    fn location(&self) -> Location {
        Location::Path(self.catalog.clone())
    }

    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>> {
        let (config, OpenContext { access, memory, .. }) = (self.clone(), context);
        let open = blocking(move || match access {
            Access::Write => DucklakeDestination::open_within(config, memory),
            Access::Read => DucklakeDestination::open_to_read(config),
        });
        Ok(Arc::new(open.await?))
    }
}
