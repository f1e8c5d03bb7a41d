#![doc = include_str!("../README.md")]

pub mod acceptance;
mod case;
mod configuration;
#[cfg(unix)]
pub mod crash;
pub mod destination_suite;
#[cfg(unix)]
pub mod failing;
mod fault;
mod fixture;
mod gaps;
mod in_process;
mod json;
mod ledger;
mod memory;
#[cfg(unix)]
pub mod postgres;
mod replay;
mod run;
#[cfg(unix)]
pub mod s3;
mod secrets;
pub mod skip;
mod snapshot;
mod statuses;
mod suite;
mod tape;
mod twice;
mod twin;
mod vendor;
mod watched;

pub use configuration::{build, verdicts};
pub use fault::{Fault, Faulty};
pub use fixture::{Exchange, Fixture, Origin, RecordedRequest, RecordedResponse};
pub use in_process::{InProcess, Pieces};
pub use memory::{MemoryDestination, TextRow};
pub use replay::Replay;
pub use secrets::Secrets;
pub use snapshot::Update;
pub use statuses::every_status;
pub use suite::{CaseReport, Report, assert_suite, run_suite};
