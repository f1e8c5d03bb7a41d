#![doc = include_str!("../README.md")]

pub mod bookkeeping;
mod carry;
mod checkpoints;
mod claim;
mod columns;
mod config;
mod connection;
mod count;
mod destination;
mod error;
mod glance;
mod meta;
mod open_files;
mod purge;
mod runs;
mod state;
mod sweep;
mod table;
mod verify;
mod write;

pub use checkpoints::SqliteCheckpoints;
pub use config::SqliteConfig;
pub use destination::SqliteDestination;
pub use destination_sql::Deletes;
