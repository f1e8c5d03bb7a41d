//! What the toolkit promises of whole syncs of several vendors, and of the real binary, measured
//! against the simulator. Each test is small by default and says how to make it large. What one
//! connector promises is tested in its own crate (`tests/it/acceptance/`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test, and figures are printed"
)]
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "times that were noted one after the other"
)]

mod gaps;
mod identity;
mod mixpanel_day;
mod stripe_connect;
mod stripe_memory;
