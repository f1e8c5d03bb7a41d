//! What the toolkit promises of whole syncs, measured against the simulator: on the paused clock,
//! without a socket, so that hours of rate limits take as long as the work does. Each test is small
//! by default and says how to make it large.

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
mod clocks;
mod gaps;
mod identity;
mod mixpanel;
mod mixpanel_day;
mod mixpanel_gaps;
mod stripe;
mod stripe_again;
mod stripe_connect;
mod stripe_damaged;
mod stripe_events;
mod stripe_limits;
mod stripe_lines;
mod stripe_memory;
mod zendesk;
mod zendesk_auth;
mod zendesk_changes;
mod zendesk_children;
mod zendesk_fields;
mod zendesk_limits;
mod zendesk_oauth;
mod zendesk_pages;
mod zendesk_privacy;
mod zendesk_refusals;
mod zendesk_repeated;
mod zendesk_restart;
mod zendesk_streams;
