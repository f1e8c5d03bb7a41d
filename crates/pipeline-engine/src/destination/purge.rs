//! Removing what was deleted from the disk as well.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::destination::TableId;

/// What is to be removed from the disk.
#[derive(Clone, Debug, Default)]
pub struct Purge {
    /// The source whose tables are purged; none: all.
    pub source: Option<String>,
    /// The stream whose table is purged; none: all of the source.
    pub stream: Option<String>,
    /// Also removes every version of a record but the newest, where a table is a log of versions.
    pub versions: bool,
    /// Only counts.
    pub dry_run: bool,
    /// Name of the run, for the commit log.
    pub run: String,
    /// When, for the commit log.
    pub at: DateTime<Utc>,
}

impl Purge {
    /// True when a table is to be purged.
    pub fn wants(&self, table: &TableId) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        is(&self.source, &table.source) && is(&self.stream, &table.stream)
    }
}

/// What a purge has removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// The tables that were looked at.
    pub tables: Vec<PurgedTable>,
    /// Size of the destination's files before.
    pub bytes_before: u64,
    /// Size of the destination's files after; the same when nothing was to be done.
    pub bytes_after: u64,
}

/// What a purge has removed from one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PurgedTable {
    /// The table.
    #[serde(flatten)]
    pub table: TableId,
    /// Rows removed: deleted ones, their tombstones, older versions, and rows of refreshes that
    /// were abandoned.
    pub rows: u64,
    /// Why nothing was removed although there may be something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}
