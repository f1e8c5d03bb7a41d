//! The configuration, and the connector built from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use pipeline_core::http::{Basic, HttpClient, HttpClientBuilder};
use pipeline_core::slice::{TimeRange, check_start, parse_time};
use pipeline_core::{
    BuildContext, Connector, ConnectorConfig, Error, ErrorKind, Result, TimeFormat,
};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::account::{Site, parse_zone};
use crate::calendar::{Calendar, TimeStorage};
use crate::errors::MixpanelClassifier;
use crate::export::Reread;
use crate::flatten::{Flatten, Flattened};
use crate::limits::Hourly;
use crate::project::{Credentials, Place};
use crate::region::{Hosts, Region};
use crate::reports::Report;
use crate::vendor::Mixpanel;
use crate::{MixpanelConnector, limits, reports};

/// Days of history that a first sync reads unless told otherwise: one request each, of 60 an hour.
pub(crate) const DEFAULT_HISTORY: TimeDelta = TimeDelta::days(30);

/// Earlier days are refused.
const FIRST_YEAR: i32 = 2000;

/// Large exports take minutes before their first byte, and queries answer with an error of their
/// own after 488 s.
const PATIENCE: Duration = Duration::from_mins(10);

/// Last day on which Mixpanel takes a project's secret.
const PROJECT_SECRET_END: NaiveDate =
    NaiveDate::from_ymd_opt(2027, 3, 3).expect("a day of that year");

/// Days that funnels, revenue and reports cover unless told otherwise.
const DEFAULT_REPORT_DAYS: u32 = 90;

/// Configuration of the Mixpanel connector.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{
    "project_id": "${MIXPANEL_PROJECT_ID}",
    "username": "${MIXPANEL_USERNAME}",
    "secret": "${MIXPANEL_SECRET}",
}]))]
#[non_exhaustive]
pub struct MixpanelConfig {
    /// The project's number, with or without quotes.
    #[serde(deserialize_with = "number_or_text")]
    #[schemars(with = "String")]
    pub project_id: u64,
    /// Username of a service account; use together with `secret`.
    #[serde(default)]
    pub username: Option<String>,
    /// Secret of the service account.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub secret: Option<SecretString>,
    /// The project's secret, instead of a service account. Mixpanel turns it off on 2027-03-03.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub project_secret: Option<SecretString>,
    /// Where the project's data resides; found out for a service account unless set, and `us` for a
    /// project's secret.
    #[serde(default)]
    pub region: Option<Region>,
    /// The global view of a project with data views; without it, queries may see a part only.
    #[serde(default)]
    pub workspace_id: Option<u64>,
    /// The project's time zone, such as `Europe/Lisbon`; asked for unless set, which only a service
    /// account can.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// How the project's events are stored: `project_local` for a project made before 2023.
    #[serde(default)]
    pub time_storage: TimeStorage,
    /// First day of events to read, such as `2026-01-31`; 30 days ago unless set. Annotations begin
    /// there if it is set.
    #[serde(default)]
    pub start_date: Option<String>,
    /// Last day of events and annotations to read; today unless set.
    #[serde(default)]
    pub end_date: Option<String>,
    /// Most days in one export request, of 60 an hour. A request asks for as many as bring
    /// `export_window_mb`.
    #[serde(default = "default_window")]
    #[schemars(range(min = 1, max = 30))]
    pub export_window_days: u32,
    /// Megabytes of events, not compressed, that one export request should bring. A day is not cut
    /// for being larger.
    #[serde(default = "default_window_mb")]
    #[schemars(range(min = 1))]
    pub export_window_mb: u32,
    /// Days that are read again, once a day, for events that arrive late.
    #[serde(default = "default_lookback")]
    #[schemars(range(max = 365))]
    pub lookback_days: u32,
    /// Days that are read again once a week, for events that arrive later still; 0 for none.
    #[serde(default)]
    #[schemars(range(max = 365))]
    pub sweep_days: u32,
    /// Which events of days that are read again are stored again: `all`, which merges them by key,
    /// or `new` ones only, for destinations that keep every version of a row.
    #[serde(default)]
    pub reread: Reread,
    /// Lines of one export that may be malformed. They are kept in the table `_rejected`; with one
    /// more the export fails.
    #[serde(default)]
    pub max_bad_lines: u32,
    /// Reads the running day too, as far as it is; the next sync reads it again.
    #[serde(default)]
    pub include_today: bool,
    /// Properties of events that become columns besides their place in `properties`.
    #[serde(default)]
    pub event_columns: Vec<Flattened>,
    /// Properties of profiles that become columns besides their place in `properties`.
    #[serde(default)]
    pub profile_columns: Vec<Flattened>,
    /// Of what all properties become columns: of `events` those that the Lexicon and a query before
    /// each sync tell of, of `profiles` those that the Lexicon has schemas of.
    #[serde(default)]
    pub flatten: Vec<Flatten>,
    /// Ids of the kinds of groups whose profiles are read, as the project's settings show them
    /// beside group keys.
    #[serde(default, deserialize_with = "group_ids")]
    #[schemars(with = "Vec<GroupId>")]
    pub group_ids: Vec<String>,
    /// Reads only `$last_seen` of the members of cohorts.
    #[serde(default = "default_slim")]
    pub slim_cohort_members: bool,
    /// Days that funnels, revenue and reports cover, up to today.
    #[serde(default = "default_report_days")]
    #[schemars(range(min = 1, max = 3660))]
    pub report_days: u32,
    /// Reports to ask for; each costs a query of 60 an hour.
    #[serde(default)]
    pub reports: Vec<Report>,
    /// Reads revenue, which Mixpanel documents no more.
    #[serde(default)]
    pub legacy_revenue: bool,
    /// Most exports in an hour, of which `rate_share` is used. Unless set, 60, or what Mixpanel's
    /// answers tell of the project.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub exports_per_hour: Option<u32>,
    /// Most queries in an hour, of which `rate_share` is used. Unless set, 60, or what Mixpanel's
    /// answers tell of the project.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub queries_per_hour: Option<u32>,
    /// Part of the project's requests per hour that this connector may use, the rest being left to
    /// other programs.
    #[serde(default = "default_rate_share")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub rate_share: f64,
    /// Replaces every Mixpanel host; plain http is for loopback addresses only.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "uri"))]
    pub base_url: Option<Url>,
}

/// Mixpanel itself writes a project's number both ways.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

/// The id of a kind of groups: a number of 64 bits, often negative.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum GroupId {
    /// In quotes.
    Text(String),
    /// As a number.
    Number(i64),
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

fn group_ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let ids = Vec::<GroupId>::deserialize(deserializer)?;
    Ok(ids.iter().map(ToString::to_string).collect())
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = match NumberOrText::deserialize(deserializer)
        .map_err(|_| D::Error::custom("expected the project's number, such as 12345"))?
    {
        NumberOrText::Number(number) => Ok(number),
        NumberOrText::Text(text) => text.trim().parse(),
    };
    number.map_err(|_| D::Error::custom("expected the project's number, such as \"12345\""))
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

fn default_slim() -> bool {
    true
}

fn default_report_days() -> u32 {
    DEFAULT_REPORT_DAYS
}

fn default_rate_share() -> f64 {
    0.8
}

impl MixpanelConfig {
    /// Creates a configuration for the project of this number, with defaults for everything else.
    /// It needs [`service_account`](Self::service_account) or
    /// [`project_secret`](Self::project_secret) besides.
    ///
    /// ```
    /// use connector_mixpanel::MixpanelConfig;
    /// use pipeline_core::{BuildContext, ConnectorConfig};
    ///
    /// let mut config = MixpanelConfig::new(12345).service_account("loader.1a2b3c.mp-service-account", "the account's secret");
    /// config.start_date = Some("2026-01-31".to_owned());
    /// let mixpanel = config.build(BuildContext::new("product"))?;
    /// assert!(mixpanel.endpoints().iter().any(|endpoint| endpoint.name() == "export"));
    /// # Ok::<(), pipeline_core::Error>(())
    /// ```
    pub fn new(project_id: u64) -> Self {
        Self {
            project_id,
            username: None,
            secret: None,
            project_secret: None,
            region: None,
            workspace_id: None,
            time_zone: None,
            time_storage: TimeStorage::default(),
            start_date: None,
            end_date: None,
            export_window_days: default_window(),
            export_window_mb: default_window_mb(),
            lookback_days: default_lookback(),
            sweep_days: 0,
            reread: Reread::default(),
            max_bad_lines: 0,
            include_today: false,
            event_columns: Vec::new(),
            profile_columns: Vec::new(),
            flatten: Vec::new(),
            group_ids: Vec::new(),
            slim_cohort_members: default_slim(),
            report_days: default_report_days(),
            reports: Vec::new(),
            legacy_revenue: false,
            exports_per_hour: None,
            queries_per_hour: None,
            rate_share: default_rate_share(),
            base_url: None,
        }
    }

    /// Authenticates as a service account.
    pub fn service_account(
        mut self,
        username: impl Into<String>,
        secret: impl Into<SecretString>,
    ) -> Self {
        (self.username, self.secret) = (Some(username.into()), Some(secret.into()));
        self
    }

    /// Authenticates with the project's secret. Mixpanel turns it off on 2027-03-03.
    pub fn project_secret(mut self, secret: impl Into<SecretString>) -> Self {
        self.project_secret = Some(secret.into());
        self
    }
}

impl fmt::Debug for MixpanelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("MixpanelConfig");
        debug
            .field("project_id", &self.project_id)
            .field("region", &self.region)
            .field("start_date", &self.start_date);
        debug.finish_non_exhaustive()
    }
}

impl ConnectorConfig for MixpanelConfig {
    const NAME: &'static str = "mixpanel";
    const READS: &'static str = "Mixpanel: events, profiles, cohorts, and reports of one project";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        self.check_numbers()?;
        reports::check(&self.reports)?;
        let now = context.clock.now();
        let range = self.range(now)?;
        let (read, total) = (
            context.read_timeout.max(PATIENCE),
            context.total_timeout.max(PATIENCE),
        );
        let context = context.read_timeout(read).total_timeout(total);
        let zone = self.time_zone.as_deref().map(parse_zone).transpose()?;
        let (project, storage) = (self.project(now)?, self.time_storage);
        if storage == TimeStorage::ProjectLocal
            && zone.is_none()
            && project.credentials == Credentials::ProjectSecret
        {
            return Err(invalid(
                "time_zone",
                "a project secret cannot ask for the time zone that events are stored in",
            )
            .with_help("set time_zone to what the project's settings show, such as US/Pacific"));
        }
        let sites = self.sites(&context)?;
        let calendar = Calendar {
            zone: zone.unwrap_or(Tz::UTC),
            storage,
        };
        let place = Place {
            hosts: sites[0].hosts.clone(),
            calendar,
            today: calendar.today(now),
            kept: None,
        };
        let mixpanel = Mixpanel { project, place };
        Ok(Arc::new(MixpanelConnector {
            declared: mixpanel.endpoints(),
            facts: self.facts(now),
            mixpanel,
            sites,
            zone,
            storage,
            range,
        }))
    }
}

impl MixpanelConfig {
    fn check_numbers(&self) -> Result<()> {
        let rules = [
            (
                "rate_share",
                self.rate_share > 0.0 && self.rate_share <= 1.0,
                "the share is not above 0 and at most 1",
            ),
            (
                "export_window_days",
                (1..=30).contains(&self.export_window_days),
                "the window is not between 1 and 30 days",
            ),
            (
                "lookback_days",
                self.lookback_days <= 365,
                "the lookback is longer than 365 days",
            ),
            (
                "report_days",
                (1..=reports::MAX_DAYS).contains(&self.report_days),
                "the days are not between 1 and 3660",
            ),
            (
                "exports_per_hour",
                self.exports_per_hour != Some(0),
                "no export at all is allowed",
            ),
            (
                "queries_per_hour",
                self.queries_per_hour != Some(0),
                "no query at all is allowed",
            ),
            (
                "export_window_mb",
                self.export_window_mb > 0,
                "the window is not above 0 megabytes",
            ),
            (
                "sweep_days",
                self.sweep_days <= 365,
                "the sweep is longer than 365 days",
            ),
        ];
        rules
            .into_iter()
            .find(|(_, holds, _)| !holds)
            .map_or(Ok(()), |(field, _, message)| Err(invalid(field, message)))
    }

    fn range(&self, now: DateTime<Utc>) -> Result<TimeRange> {
        let start = day("start_date", self.start_date.as_deref())?;
        let end = day("end_date", self.end_date.as_deref())?;
        match (start, end) {
            (Some(start), _) if start.year() < FIRST_YEAR => Err(invalid(
                "start_date",
                "the start lies before 2000, which mixpanel refuses",
            )),
            (Some(start), Some(end)) if end < start => {
                Err(invalid("end_date", "the end lies before the start"))
            }
            (start, end) => {
                let start = start.map(|start| check_start(start, now)).transpose()?;
                Ok(TimeRange {
                    start,
                    end: end.map(|end| end + TimeDelta::days(1)),
                })
            }
        }
    }

    /// The servers to read from: those of the region, or of every region that may be it.
    fn sites(&self, context: &BuildContext) -> Result<Vec<Site>> {
        if let Some(url) = &self.base_url {
            let hosts = Hosts::all_at(url);
            return Ok(vec![Site {
                region: None,
                client: self.client(context, &hosts)?,
                hosts,
            }]);
        }
        let by_secret = self.credentials() == Credentials::ProjectSecret;
        let region = match self.region {
            None if by_secret => Region::Us,
            None => Region::Auto,
            Some(Region::Auto) if by_secret => {
                return Err(invalid(
                    "region",
                    "the region of a project secret cannot be found out",
                )
                .with_help("set region to us, eu or in"));
            }
            Some(region) => region,
        };
        let site = |region: Region| {
            let hosts = region.hosts()?;
            Ok(Site {
                region: Some(region),
                client: self.client(context, &hosts)?,
                hosts,
            })
        };
        region.candidates().into_iter().map(site).collect()
    }

    fn client(&self, context: &BuildContext, hosts: &Hosts) -> Result<HttpClient> {
        let builder = HttpClient::builder(context, hosts.query.clone())
            .origin(hosts.data.clone())
            .origin(hosts.ingestion.clone());
        // Limits count by project, whatever the credentials.
        let builder = builder
            .account(&[&self.project_id.to_string()])
            .classifier(MixpanelClassifier);
        let hourly = Hourly {
            exports: self.exports_per_hour,
            queries: self.queries_per_hour,
        };
        self.authenticate(limits::declare(builder, self.rate_share, hourly))?
            .build()
    }

    /// Chooses the one configured way to authenticate.
    fn authenticate(&self, builder: HttpClientBuilder) -> Result<HttpClientBuilder> {
        match (&self.username, &self.secret, &self.project_secret) {
            (Some(username), Some(secret), None) => Ok(builder.authenticator(Basic::new(&username.clone().into(), secret))),
            (None, None, Some(secret)) => Ok(builder.authenticator(Basic::new(secret, &SecretString::default()))),
            _ => Err(invalid("username", "the credentials are not exactly one method")
                .with_help("set username and secret of a service account, or project_secret, and nothing else")),
        }
    }

    /// Who reads the project.
    pub(crate) fn credentials(&self) -> Credentials {
        if self.project_secret.is_some() {
            Credentials::ProjectSecret
        } else {
            Credentials::ServiceAccount
        }
    }

    /// What is worth telling of the credentials.
    fn facts(&self, now: DateTime<Utc>) -> Vec<(String, String)> {
        let fact = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        if self.credentials() == Credentials::ServiceAccount {
            return vec![fact("authentication", "service account")];
        }
        let warning = match (PROJECT_SECRET_END - now.date_naive()).num_days() {
            days @ 0.. => format!(
                "project secrets stop working on {PROJECT_SECRET_END}, {days} days from now"
            ),
            _ => format!("project secrets stopped working on {PROJECT_SECRET_END}"),
        };
        vec![
            fact("authentication", "project secret"),
            fact(
                "warning",
                &format!("{warning}: create a service account instead"),
            ),
        ]
    }
}

/// The midnight with which a configured day begins.
pub(crate) fn day(field: &'static str, text: Option<&str>) -> Result<Option<DateTime<Utc>>> {
    let parse = |text| {
        parse_time(text, TimeFormat::Date).ok_or_else(|| {
            invalid(field, "invalid date, expected YYYY-MM-DD")
                .with_help("write a day such as 2026-01-31")
        })
    };
    text.map(parse).transpose()
}

fn invalid(field: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with_context("field", field)
}
