//! pipeline-testkit
#[cfg(unix)]
pub mod crash;
pub mod destination_suite;
