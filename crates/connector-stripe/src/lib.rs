#![doc = include_str!("../README.md")]
mod config;
mod schemas;
mod streams;
pub use self::config::StripeConfig;
pub use self::streams::{STREAMS, Stream};
/// The version of Stripe's API that every request asks for, and that the columns are of.
pub const API_VERSION: &str = "2026-05-27.dahlia";
