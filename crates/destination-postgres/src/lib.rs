#![doc = include_str!("../README.md")]

mod carry;
mod check;
mod claim;
mod columns;
mod config;
mod counts;
mod destination;
mod dialect;
mod encode;
mod error;
mod meta;
mod names;
mod odd;
mod publish;
mod purge;
mod runs;
mod server;
mod session;
mod stage;
mod state;
mod table;
mod transaction;
mod verify;
mod write;

pub use config::{Json, PostgresConfig, Tls};
pub use destination::PostgresDestination;
pub use destination_sql::Deletes;
