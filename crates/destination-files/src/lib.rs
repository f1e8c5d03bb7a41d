#![doc = include_str!("../README.md")]

mod card;
mod carry;
mod destination;
mod error;
mod format;
mod known;
mod log;
mod manifest;
mod purge;
mod recall;
mod rows;
mod sieve;
mod sift;
mod staged;
mod store;

pub use destination::FileDestination;
pub use error::file_error;
pub use format::{Batches, FileFormat, FileWriter};
pub use store::Options;
