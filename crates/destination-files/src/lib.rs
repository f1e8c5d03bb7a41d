#![doc = include_str!("../README.md")]

mod card;
mod carry;
mod claims;
mod compact;
mod compare;
mod delta;
mod destination;
mod disk;
mod error;
mod format;
mod known;
mod local;
mod log;
mod manifest;
mod names;
mod output;
mod place;
mod purge;
mod recall;
mod remote;
mod rows;
mod runs;
mod settle;
mod sieve;
mod sift;
mod staged;
mod store;

pub use destination::{FileDestination, FileTarget};
pub use error::file_error;
pub use format::{Batches, Bound, FileFormat, FileWriter, Outline};
pub use output::Output;
pub use remote::StorageConfig;
pub use store::Options;
