//! The command as users meet it: the real binary, against simulated vendors on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a failed unwrap is a failed test; figures are printed")]

mod failures;
mod help;
mod interrupts;
mod kill;
mod messages;
mod output;
mod support;
mod zendesk_kill;
