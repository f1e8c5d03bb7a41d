//! Configuration of a service: schedules, address, and alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipeline_core::webhook::WebhookReader;
use secrecy::SecretString;

use crate::alerts::Kind;
use crate::schedule::Schedule;

/// Default of [`Settings::max_runs`].
pub const MAX_RUNS: usize = 4;

/// Default of [`Settings::jitter`].
pub const JITTER: Duration = Duration::from_mins(1);

/// Where a service listens by default.
pub const LISTEN: &str = "127.0.0.1:8080";

/// Checks a URL that alerts are sent to. It is a credential, so it is never sent in the clear
/// through a network.
///
/// # Errors
/// In words that continue the name of the setting, without the URL.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let url = url::Url::parse(url).map_err(|_| "is not a URL")?;
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("is not a URL with a host"),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback => Ok(()),
        "http" => Err("is not encrypted: it has to begin with https://"),
        _ => Err("is not a URL with https://"),
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the page, `/metrics`, `/health`, `/ready`, and `/hooks/SOURCE`. None: no server. Port 0 picks a free
    /// port.
    pub listen: Option<SocketAddr>,
    /// Token that every request except `/health` and `/ready` must present. Required unless only
    /// this machine can connect.
    pub token: Option<SecretString>,
    /// Folder for the service's own state: started runs, pauses, and sent alerts.
    pub state: PathBuf,
    /// Longest delay of a start. Each source has one of its own, at most a tenth of its interval.
    pub jitter: Duration,
    /// Most runs at the same time; further ones wait for their turn. Each may hold as much memory
    /// as a sync of its own.
    pub max_runs: usize,
    /// The sources, each once.
    pub sources: Vec<SourceSettings>,
    /// Alert channels and events.
    pub alerts: AlertSettings,
}

/// When a source is run.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Its name.
    pub name: String,
    /// When it is due. None: it runs on request only.
    pub schedule: Option<Schedule>,
    /// What happens when it is due while it runs.
    pub overlap: Overlap,
    /// Whether a start that was missed, because the service was down, is made up for at once.
    pub catch_up: bool,
    /// Time after which a run commits what it has and stops.
    pub max_duration: Option<Duration>,
    /// How old its data may become before that is an alert.
    pub freshness: Freshness,
    /// Its webhooks. None: it receives none.
    pub webhook: Option<WebhookSettings>,
}

/// What a source does with the vendor's webhooks.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Proves and reads them.
    pub reader: Arc<dyn WebhookReader>,
    /// The streams that the source reads. A webhook about others starts no run.
    pub streams: BTreeSet<String>,
}

impl SourceSettings {
    /// A source without a schedule.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            schedule: None,
            overlap: Overlap::default(),
            catch_up: true,
            max_duration: None,
            freshness: Freshness::default(),
            webhook: None,
        }
    }
}

/// What happens when a source is due while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// The start is left out.
    #[default]
    Skip,
    /// It runs once more when it has ended, however often it was due meanwhile.
    Queue,
}

/// How old data may become, counted from the last run in which a stream was complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Limit for every stream that is not listed in `streams`. None: no limit.
    pub default: Option<Duration>,
    /// Limits for single streams.
    pub streams: BTreeMap<String, Duration>,
}

impl Freshness {
    /// Returns the limit for a stream.
    pub fn of(&self, stream: &str) -> Option<Duration> {
        self.streams.get(stream).copied().or(self.default)
    }

    /// Returns the shortest limit.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.streams.values().copied().chain(self.default).min()
    }
}

/// Alert channels and events.
#[derive(Clone, Debug)]
pub struct AlertSettings {
    /// An incoming webhook of Slack, or of a service that takes the same body. The URL is the
    /// credential.
    pub slack: Option<SecretString>,
    /// A URL that receives alerts as JSON.
    pub webhook: Option<SecretString>,
    /// Which changes are reported.
    pub when: BTreeSet<Kind>,
}

impl Default for AlertSettings {
    /// No channel; every event except drift.
    fn default() -> Self {
        Self {
            slack: None,
            webhook: None,
            when: Kind::DEFAULT.into(),
        }
    }
}
