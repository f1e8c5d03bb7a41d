//! What people and programs see.

pub(crate) mod checks;
pub(crate) mod events;
pub(crate) mod gaps;
pub(crate) mod held;
pub(crate) mod lines;
mod merged;
pub(crate) mod progress;
mod reasons;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod summary;
pub(crate) mod table;
