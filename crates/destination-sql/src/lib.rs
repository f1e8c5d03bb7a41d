#![doc = include_str!("../README.md")]

mod columns;
mod names;
mod rows;
mod statement;

use schemars::JsonSchema;
use serde::Deserialize;

pub use columns::{Columns, Dialect};
pub use names::{clean, column_names, fingerprint, shorten, table_fingerprint, table_names};
pub use rows::{RowKind, Step, Tombstones};
pub use statement::{quote, quote_all, upsert};

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
