//! The command as users meet it: the real binary, against simulated vendors on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test; figures are printed"
)]

mod budget;
mod check;
mod contract;
mod documents;
mod failures;
mod gaps;
mod help;
mod interrupts;
mod kill;
mod messages;
mod output;
mod pipes;
mod purge;
mod quality;
mod reading;
mod refusals;
mod runs;
mod secrets;
mod service;
mod support;
mod tls;
mod vendor;
mod zendesk_kill;
