#![doc = include_str!("../README.md")]

mod card;
mod carry;
mod claims;
mod compare;
mod destination;
mod disk;
mod error;
mod format;
mod known;
mod log;
mod manifest;
mod names;
mod output;
mod purge;
mod recall;
mod rows;
mod runs;
mod settle;
mod sieve;
mod sift;
mod staged;
mod store;

pub use destination::FileDestination;
pub use error::file_error;
pub use format::{Batches, FileFormat, FileWriter};
pub use output::Output;
pub use store::Options;
