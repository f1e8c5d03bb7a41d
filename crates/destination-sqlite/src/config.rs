//! What a user may set.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of the SQLite destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteConfig {
    /// The database file. Created when it does not exist; its folder must exist.
    pub path: PathBuf,
    /// What a tombstone does to its row. Default: `remove`.
    #[serde(default)]
    pub deletes: Deletes,
}

/// What a tombstone does to the row with its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deletes {
    /// Removes it.
    #[default]
    Remove,
    /// Keeps its last values and sets `_deleted`.
    Mark,
}
