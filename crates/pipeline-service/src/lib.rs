#![doc = include_str!("../README.md")]

mod alerts;
mod live;
mod metrics;
mod notify;
mod runner;
mod schedule;
mod server;
mod service;
mod settings;
mod store;
mod supervisor;
mod view;
mod wishes;
mod words;

pub use self::alerts::{Alert, Channel, Kind};
pub use self::live::{EndpointProgress, Live, Progress};
pub use self::metrics::Metrics;
pub use self::runner::{Ended, Order, Runner, Stored, StoredStream, Verdict};
pub use self::schedule::{InvalidSchedule, Jitter, Schedule, zone};
pub use self::service::{Command, Handle, Service, ServiceError};
pub use self::settings::{
    AlertSettings, Freshness, JITTER, LISTEN, MAX_RUNS, Overlap, Settings, SourceSettings,
    WebhookSettings, check_url,
};
pub use self::store::StateError;
pub use self::supervisor::{Action, Phase, Reason, Remembered, Seen, Supervisor};
