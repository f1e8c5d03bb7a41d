//! The command as users meet it: the real binary, against simulated vendors on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a failed unwrap is a failed test; figures are printed")]

mod failures;
mod gaps;
mod help;
mod interrupts;
mod kill;
mod messages;
mod output;
mod purge;
mod refusals;
mod support;
mod vendor;
mod zendesk_kill;
