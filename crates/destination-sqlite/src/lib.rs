#![doc = include_str!("../README.md")]

mod carry;
mod checkpoints;
mod config;
mod connection;
mod destination;
mod error;
mod purge;
mod state;
mod sweep;
mod table;
mod write;

pub use checkpoints::SqliteCheckpoints;
pub use config::{Deletes, SqliteConfig};
pub use destination::SqliteDestination;
