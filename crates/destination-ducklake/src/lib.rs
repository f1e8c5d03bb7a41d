#![doc = include_str!("../README.md")]

mod carry;
mod catalog;
mod config;
mod data_file;
mod delete_file;
mod destination;
mod files;
mod keys;
mod lake;
mod publish;
mod purge;
mod read;
mod reindex;
mod rewrite;
mod snapshot;
mod stats;
mod sweep;
mod table;
mod types;
mod verify;
mod write;

pub use config::DucklakeConfig;
pub use destination::DucklakeDestination;
pub use destination_sql::Deletes;
