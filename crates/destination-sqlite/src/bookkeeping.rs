//! What another destination uses that keeps checkpoints, claims, runs and the commit log in a SQLite
//! file of its own, and its rows elsewhere.

pub use crate::claim::{claim, is_claimed};
pub use crate::connection::{Writing, blocking, open};
pub use crate::destination::stored as states;
pub use crate::error::{Broken, Explain, at};
pub use crate::glance::read as glance;
pub use crate::meta::{Keeps, Present, remember_feeds};
pub use crate::purge::{empty_log, size};
pub use crate::runs::{list as runs, record as record_run};
pub use crate::state::{apply as apply_changes, commits, json, log as log_commit};
pub use crate::verify::bookkeeping as verify;
