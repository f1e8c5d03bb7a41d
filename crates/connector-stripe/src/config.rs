//! The configuration, and what an API key says about itself.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use pipeline_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::streams::stream;

/// Configuration of the Stripe connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StripeConfig {
    /// Secret key (`sk_…`) or, better, a restricted key (`rk_…`) with read permissions.
    #[schemars(with = "String", extend("writeOnly" = true))]
    pub api_key: SecretString,

    /// Oldest creation date wanted, as `YYYY-MM-DD` or RFC 3339. Default: everything there is. Products, prices and other
    /// lists that are read as a whole ignore it.
    #[serde(default, deserialize_with = "start_date")]
    #[schemars(with = "Option<String>")]
    pub start_date: Option<DateTime<Utc>>,

    /// Id of a connected account (`acct_…`) to read instead of the key's own. Required for organization keys.
    #[serde(default)]
    pub account: Option<String>,

    /// Share of Stripe's rate limits to use, above 0 up to 1; the rest is left to other programs. Default 0.8.
    #[serde(default = "defaults::rate_share")]
    pub rate_share: f64,

    /// Requests per second that Stripe allows the account, if support has changed it for you. Default 100 live, 25 test.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub account_rps: Option<NonZeroU32>,

    /// Requests per second that Stripe allows each list, if support has changed it for you. Default 25, files 20.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub list_rps: Option<NonZeroU32>,

    /// Requests per second for the lists of single streams, by the streams' names, such as `{ events = 5 }`. Taken as they
    /// are, without `rate_share`. Default: as `list_rps`.
    #[serde(default)]
    pub stream_rps: BTreeMap<String, NonZeroU32>,

    /// Requests under way at the same time. Stripe limits them without saying to how many. Default: half of the requests per
    /// second that it allows the account.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_concurrency: Option<NonZeroU32>,

    /// Objects per page, 1 to 100. Default 100: Stripe counts requests, not objects.
    #[serde(default = "defaults::page_size")]
    #[schemars(range(min = 1, max = 100))]
    pub page_size: u8,

    /// How far behind now a sync ends, in seconds, because lists show new objects a little late. Default 60.
    #[serde(default = "defaults::lag_seconds")]
    pub lag_seconds: u32,

    /// How far before its predecessor's end a sync starts, in seconds, to catch what was shown later still. Default 600.
    #[serde(default = "defaults::lookback_seconds")]
    pub lookback_seconds: u32,

    /// Reads every list again as a whole when it was last begun to be so many days ago: changes and deletions that Stripe tells
    /// nobody of are right again then. Default: never.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub full_refresh_days: Option<NonZeroU32>,

    /// The same for single lists, by their streams' names, such as `{ payment_intents = 30 }`. Default: as
    /// `full_refresh_days`.
    #[serde(default)]
    pub stream_refresh_days: BTreeMap<String, NonZeroU32>,

    /// Where the API is. Default `https://api.stripe.com`.
    #[serde(default = "defaults::base_url")]
    #[schemars(with = "String", url)]
    pub base_url: String,
}

mod defaults {
    pub(super) fn rate_share() -> f64 {
        0.8
    }

    pub(super) fn page_size() -> u8 {
        100
    }

    pub(super) fn lag_seconds() -> u32 {
        60
    }

    pub(super) fn lookback_seconds() -> u32 {
        600
    }

    pub(super) fn base_url() -> String {
        "https://api.stripe.com".to_owned()
    }
}

impl StripeConfig {
    /// The configuration with this key and defaults for everything else.
    pub fn new(api_key: impl Into<SecretString>) -> Self {
        Self {
            api_key: api_key.into(),
            start_date: None,
            account: None,
            rate_share: defaults::rate_share(),
            account_rps: None,
            list_rps: None,
            stream_rps: BTreeMap::new(),
            max_concurrency: None,
            page_size: defaults::page_size(),
            lag_seconds: defaults::lag_seconds(),
            lookback_seconds: defaults::lookback_seconds(),
            full_refresh_days: None,
            stream_refresh_days: BTreeMap::new(),
            base_url: defaults::base_url(),
        }
    }

    /// Everything that can be told about the values without asking Stripe.
    pub(crate) fn validate(&self) -> Result<(Key, Url)> {
        let key = Key::parse(self.api_key.expose_secret())?;
        if key.kind == KeyKind::Organization && self.account.is_none() {
            return Err(invalid("account", "an organization key needs the account that is to be read"));
        }
        if self.account.as_deref().is_some_and(|account| account.is_empty() || !account.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(invalid("account", "this is not an account id").with_help("account ids look like `acct_1A2b3C`"));
        }
        if !(self.rate_share > 0.0 && self.rate_share <= 1.0) {
            return Err(invalid("rate_share", "the share of the rate limit must be above 0 and at most 1"));
        }
        for (field, named) in [("stream_rps", &self.stream_rps), ("stream_refresh_days", &self.stream_refresh_days)] {
            if let Some(unknown) = named.keys().find(|name| stream(name).is_none()) {
                return Err(invalid(field, &format!("there is no stream `{unknown}`")));
            }
        }
        if !(1..=100).contains(&self.page_size) {
            return Err(invalid("page_size", "the page size must be from 1 to 100"));
        }
        let base = Url::parse(&self.base_url).map_err(|error| invalid("base_url", "this is not a URL").with_source(error))?;
        Ok((key, base))
    }
}

impl StripeConfig {
    /// After which time a stream is read again as a whole.
    pub(crate) fn refreshed_every(&self, stream: &str) -> Option<TimeDelta> {
        let days = self.stream_refresh_days.get(stream).copied().or(self.full_refresh_days)?;
        Some(TimeDelta::days(days.get().into()))
    }
}

/// A day, meaning its first instant in UTC, or an instant.
fn start_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let day = text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let time = day.or_else(|_| DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()));
    time.map(Some).map_err(|_| serde::de::Error::custom("expected a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z"))
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Secret,
    Restricted,
    Organization,
}

/// Which of the account's two worlds a key opens. They have different limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Live,
    Test,
}

/// What an API key says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) kind: KeyKind,
    pub(crate) mode: Mode,
}

impl Key {
    /// Reads the key's prefix. A key with a prefix that we do not know counts as a secret key in live mode: keys of the
    /// first years have none.
    fn parse(key: &str) -> Result<Self> {
        let wrong = |message: &str| invalid("api_key", message).with_help("use a restricted key (`rk_…`) or a secret key (`sk_…`)");
        if key.is_empty() {
            return Err(wrong("the API key is empty"));
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("the API key contains white space or characters that no key has"));
        }
        let kind = match key.split_once('_').map_or("", |(prefix, _)| prefix) {
            "pk" => return Err(wrong("this is a publishable key, which can read nothing")),
            "whsec" => return Err(wrong("this is the secret of a webhook endpoint, not an API key")),
            "rk" => KeyKind::Restricted,
            "sk" if key.starts_with("sk_org_") => KeyKind::Organization,
            _ => KeyKind::Secret,
        };
        let mode =
            if ["sk_test_", "rk_test_", "sk_org_test_"].iter().any(|prefix| key.starts_with(prefix)) { Mode::Test } else { Mode::Live };
        Ok(Self { kind, mode })
    }

    pub(crate) fn describe(self) -> (&'static str, &'static str) {
        let kind = match self.kind {
            KeyKind::Secret => "secret",
            KeyKind::Restricted => "restricted",
            KeyKind::Organization => "organization",
        };
        (kind, if self.mode == Mode::Test { "test" } else { "live" })
    }

    /// Requests per second that Stripe allows for all operations of an account together.
    pub(crate) fn rate(self) -> u32 {
        if self.mode == Mode::Test { 25 } else { 100 }
    }
}

fn invalid(field: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with_context("field", field)
}
