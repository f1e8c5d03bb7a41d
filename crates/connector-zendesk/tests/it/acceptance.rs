//! Whole syncs of Zendesk, measured against the simulator: on the paused clock, without a socket, so
//! that hours of rate limits take as long as the work does. Each test is small by default and says
//! how to make it large.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test, and figures are printed"
)]
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "times that were noted one after the other"
)]

mod account;
mod auth;
mod changes;
mod children;
mod clocks;
mod fields;
mod identity;
mod limits;
mod oauth;
mod pages;
mod privacy;
mod rates;
mod refusals;
mod repeated;
mod restart;
mod streams;
