//! What people and programs see.

pub(crate) mod checks;
pub(crate) mod events;
pub(crate) mod gaps;
pub(crate) mod held;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod log;
mod merged;
pub(crate) mod progress;
mod reasons;
pub(crate) mod runs;
pub(crate) mod table;
pub(crate) mod text;
