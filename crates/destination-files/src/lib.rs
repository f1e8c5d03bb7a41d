#![doc = include_str!("../README.md")]

mod destination;
mod error;
mod log;
mod manifest;
mod store;

pub use destination::{FileDestination, FileFormat, FileWriter};
pub use error::file_error;
