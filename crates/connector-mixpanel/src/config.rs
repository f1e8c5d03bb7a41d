//! The configuration, and the connector built from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use pipeline_core::http::{Basic, HttpClient, HttpClientBuilder};
use pipeline_core::slice::{TimeRange, parse_time};
use pipeline_core::{BuildContext, Connector, ConnectorConfig, Error, ErrorKind, Result, TimeFormat};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::classify::MixpanelClassifier;
use crate::export::{Days, Reread};
use crate::streams::Project;
use crate::{Mixpanel, limits};

/// Days of history that a first sync reads unless told otherwise: one request each, of 60 an hour.
const DEFAULT_HISTORY: TimeDelta = TimeDelta::days(30);

/// Earlier days are refused.
const FIRST_YEAR: i32 = 2000;

/// Large exports take minutes before their first byte, and queries answer with an error of their own after 488 s.
const PATIENCE: Duration = Duration::from_mins(10);

/// Told by `check` while a project secret is configured.
const PROJECT_SECRET_SUNSET: &str = "project secrets stop working on 2027-03-03; create a service account instead";

/// How to reach one Mixpanel project.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixpanelConfig {
    /// The project's number, with or without quotes.
    #[serde(deserialize_with = "number_or_text")]
    #[schemars(with = "String")]
    project_id: u64,
    /// Username of a service account; use together with `secret`.
    #[serde(default)]
    username: Option<String>,
    /// Secret of the service account.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    secret: Option<SecretString>,
    /// The project's secret, instead of a service account. Mixpanel turns it off on 2027-03-03.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    project_secret: Option<SecretString>,
    /// Where the project's data resides.
    #[serde(default)]
    region: Region,
    /// The global view of a project with data views; without it, queries may see a part only.
    #[serde(default)]
    workspace_id: Option<u64>,
    /// First day of events to read, such as `2026-01-31`; 30 days ago unless set.
    #[serde(default)]
    start_date: Option<String>,
    /// Most days in one export request, of 60 an hour. A request asks for as many as bring `export_window_mb`.
    #[serde(default = "default_window")]
    #[schemars(range(min = 1, max = 30))]
    export_window_days: u32,
    /// Megabytes of events, not compressed, that one export request should bring. A day is not cut for being larger.
    #[serde(default = "default_window_mb")]
    #[schemars(range(min = 1))]
    export_window_mb: u32,
    /// Days that are read again, once a day, for events that arrive late.
    #[serde(default = "default_lookback")]
    #[schemars(range(max = 365))]
    lookback_days: u32,
    /// Days that are read again once a week, for events that arrive later still; 0 for none.
    #[serde(default)]
    #[schemars(range(max = 365))]
    sweep_days: u32,
    /// Which events of days that are read again are stored again: `all`, which merges them by key, or `new` ones only,
    /// for destinations that keep every version of a row.
    #[serde(default)]
    reread: Reread,
    /// Lines of one export that may be malformed. They are kept in the table `_rejected`; with one more the export fails.
    #[serde(default)]
    max_bad_lines: u32,
    /// Reads the running day too, as far as it is; the next sync reads it again.
    #[serde(default)]
    include_today: bool,
    /// Part of the project's requests per hour that this connector may use, the rest being left to other programs.
    #[serde(default = "default_rate_share")]
    #[schemars(range(min = 0.01, max = 1.0))]
    rate_share: f64,
    /// Replaces every Mixpanel host; plain http is for loopback addresses only.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "uri"))]
    base_url: Option<Url>,
}

/// Mixpanel itself writes a project's number both ways.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number =
        match NumberOrText::deserialize(deserializer).map_err(|_| D::Error::custom("expected the project's number, such as 12345"))? {
            NumberOrText::Number(number) => Ok(number),
            NumberOrText::Text(text) => text.trim().parse(),
        };
    number.map_err(|_| D::Error::custom("expected the project's number, such as \"12345\""))
}

/// Where a project's data resides. A project lives in exactly one region; in others its credentials are unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// United States.
    #[default]
    Us,
    /// European Union.
    Eu,
    /// India.
    In,
}

impl Region {
    /// Hosts of the Query API and of the raw export.
    fn hosts(self) -> (&'static str, &'static str) {
        match self {
            Self::Us => ("https://mixpanel.com", "https://data.mixpanel.com"),
            Self::Eu => ("https://eu.mixpanel.com", "https://data-eu.mixpanel.com"),
            Self::In => ("https://in.mixpanel.com", "https://data-in.mixpanel.com"),
        }
    }
}

fn default_window() -> u32 {
    30
}

fn default_window_mb() -> u32 {
    512
}

fn default_lookback() -> u32 {
    5
}

fn default_rate_share() -> f64 {
    0.8
}

impl fmt::Debug for MixpanelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("MixpanelConfig");
        debug.field("project_id", &self.project_id).field("region", &self.region).field("start_date", &self.start_date);
        debug.finish_non_exhaustive()
    }
}

impl ConnectorConfig for MixpanelConfig {
    const NAME: &'static str = "mixpanel";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        self.check_numbers()?;
        let now = context.clock.now();
        let range = self.range(now)?;
        let (query, data) = self.hosts()?;
        let context = BuildContext {
            read_timeout: context.read_timeout.max(PATIENCE),
            total_timeout: context.total_timeout.max(PATIENCE),
            ..context
        };
        let builder = HttpClient::builder(&context, query).origin(data.clone());
        // Limits count by project, whatever the credentials.
        let builder = limits::declare(builder.account(&[&self.project_id.to_string()]), self.rate_share);
        let (builder, notes) = self.authenticate(builder.classifier(MixpanelClassifier))?;
        let days = Days {
            oldest: now - DEFAULT_HISTORY,
            window: TimeDelta::days(self.export_window_days.into()),
            bytes: u64::from(self.export_window_mb) << 20,
            lookback: TimeDelta::days(self.lookback_days.into()),
            sweep: TimeDelta::days(self.sweep_days.into()),
            include_today: self.include_today,
            reread: self.reread,
        };
        let project =
            Project { id: self.project_id, workspace_id: self.workspace_id, data, days: days.clone(), max_bad_lines: self.max_bad_lines };
        Ok(Arc::new(Mixpanel { client: builder.build()?, endpoints: project.endpoints(), probes: project.probes(), days, range, notes }))
    }
}

impl MixpanelConfig {
    fn check_numbers(&self) -> Result<()> {
        let rules = [
            ("rate_share", self.rate_share > 0.0 && self.rate_share <= 1.0, "the share is not above 0 and at most 1"),
            ("export_window_days", (1..=30).contains(&self.export_window_days), "the window is not between 1 and 30 days"),
            ("export_window_mb", self.export_window_mb > 0, "the window is not above 0 megabytes"),
            ("lookback_days", self.lookback_days <= 365, "the lookback is longer than 365 days"),
            ("sweep_days", self.sweep_days <= 365, "the sweep is longer than 365 days"),
        ];
        rules.into_iter().find(|(_, holds, _)| !holds).map_or(Ok(()), |(field, _, message)| Err(invalid(field, message)))
    }

    fn range(&self, now: DateTime<Utc>) -> Result<TimeRange> {
        let Some(text) = &self.start_date else { return Ok(TimeRange::all()) };
        match parse_time(text, TimeFormat::Date) {
            Some(start) if start >= now => Err(invalid("start_date", "the start lies in the future")),
            Some(start) if start.year() < FIRST_YEAR => Err(invalid("start_date", "the start lies before 2000, which mixpanel refuses")),
            Some(start) => Ok(TimeRange::since(start)),
            None => Err(invalid("start_date", "the start is no date").with_help("write a day such as 2026-01-31")),
        }
    }

    fn hosts(&self) -> Result<(Url, Url)> {
        if let Some(url) = &self.base_url {
            return Ok((url.clone(), url.clone()));
        }
        let (query, data) = self.region.hosts();
        let parse = |host| Url::parse(host).map_err(|error| invalid("region", "the region has no host").with_source(error));
        Ok((parse(query)?, parse(data)?))
    }

    /// Chooses the one configured way to authenticate, and says what to tell about it.
    fn authenticate(&self, builder: HttpClientBuilder) -> Result<(HttpClientBuilder, Vec<(String, String)>)> {
        match (&self.username, &self.secret, &self.project_secret) {
            (Some(username), Some(secret), None) => {
                Ok((builder.authenticator(Basic::new(&username.clone().into(), secret)), note("service account")))
            }
            (None, None, Some(secret)) => {
                let mut notes = note("project secret");
                notes.push(("warning".to_owned(), PROJECT_SECRET_SUNSET.to_owned()));
                Ok((builder.authenticator(Basic::new(secret, &SecretString::default())), notes))
            }
            _ => Err(invalid("username", "the credentials are not exactly one method")
                .with_help("set username and secret of a service account, or project_secret, and nothing else")),
        }
    }
}

fn note(method: &str) -> Vec<(String, String)> {
    vec![("authentication".to_owned(), method.to_owned())]
}

fn invalid(field: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with_context("field", field)
}
