//! The configuration, and what an API key says about itself.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::slice::{check_start, parse_start};
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

    /// Oldest creation date wanted, as `YYYY-MM-DD` or RFC 3339. Default: everything there is.
    /// Products, prices and other lists that are read as a whole ignore it.
    #[serde(default, deserialize_with = "start_date")]
    #[schemars(with = "Option<String>")]
    pub start_date: Option<DateTime<Utc>>,

    /// Id of a connected account (`acct_…`) to read instead of the key's own. Organization keys
    /// need it, or `accounts`.
    #[serde(default)]
    pub account: Option<String>,

    /// Connected accounts to read besides the key's own: `"all"`, or a list of their ids. With an
    /// organization key and without `account`: the accounts of the organization to read, by their
    /// ids. Rows then tell whose they are in the column `_account_id`, which is a part of every
    /// key. Default: the key's own account alone, without that column.
    #[serde(default, deserialize_with = "accounts::read")]
    #[schemars(schema_with = "accounts::schema")]
    pub accounts: Option<Accounts>,

    /// With `accounts`: whether the key's own account, the platform, is read as well. What only the
    /// platform has, the lists of its connected accounts, is read in any case. Default true.
    #[serde(default)]
    pub platform: Option<bool>,

    /// Share of Stripe's rate limits to use, above 0 up to 1; the rest is left to other programs.
    /// Default 0.8.
    #[serde(default = "defaults::rate_share")]
    pub rate_share: f64,

    /// Requests per second that Stripe allows the account, if support has changed it for you.
    /// Default 100 live, 25 test.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub account_rps: Option<NonZeroU32>,

    /// Requests per second that Stripe allows each list, if support has changed it for you. Default
    /// 25, files 20.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub list_rps: Option<NonZeroU32>,

    /// Requests per second for the lists of single streams, by the streams' names, such as
    /// `{ events = 5 }`. Taken as they are, without `rate_share`. Default: as `list_rps`.
    #[serde(default)]
    pub stream_rps: BTreeMap<String, NonZeroU32>,

    /// Requests under way at the same time. Stripe limits them without saying to how many. Default:
    /// half of the requests per second that it allows the account.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_concurrency: Option<NonZeroU32>,

    /// Objects per page, 1 to 100. Default 100: Stripe counts requests, not objects.
    #[serde(default = "defaults::page_size")]
    #[schemars(range(min = 1, max = 100))]
    pub page_size: u8,

    /// How far behind now a sync ends, in seconds, because lists show new objects a little late.
    /// Default 60.
    #[serde(default = "defaults::lag_seconds")]
    pub lag_seconds: u32,

    /// How far before its predecessor's end a sync starts, in seconds, to catch what was shown
    /// later still. Default 600.
    #[serde(default = "defaults::lookback_seconds")]
    pub lookback_seconds: u32,

    /// Reads every list again as a whole when it was last begun to be so many days ago: changes and
    /// deletions that Stripe tells nobody of are right again then. Default: never.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub full_refresh_days: Option<NonZeroU32>,

    /// The same for single lists, by their streams' names, such as `{ payment_intents = 30 }`.
    /// Default: as `full_refresh_days`.
    #[serde(default)]
    pub stream_refresh_days: BTreeMap<String, NonZeroU32>,

    /// Where the API is. Default `https://api.stripe.com`.
    #[serde(default = "defaults::base_url")]
    #[schemars(with = "String", url)]
    pub base_url: String,
}

/// Connected accounts that a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accounts {
    /// All that the platform lists when a sync begins.
    All,
    /// These, by their ids.
    Named(Vec<String>),
}

mod accounts {
    use std::fmt;

    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::de::{Deserializer, Error, SeqAccess, Visitor};

    use super::Accounts;

    pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "default": null,
            "examples": ["all", ["acct_1A2b3C"]],
            "items": { "type": "string" },
            "type": ["string", "array", "null"],
        })
    }

    pub(super) fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Accounts>, D::Error> {
        deserializer.deserialize_any(Either).map(Some)
    }

    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Accounts;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"all\" or a list of account ids such as [\"acct_1A2b3C\"]")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Accounts, E> {
            if text == "all" {
                Ok(Accounts::All)
            } else {
                Err(E::custom(
                    "expected \"all\" or a list of account ids such as [\"acct_1A2b3C\"]",
                ))
            }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Accounts, A::Error> {
            let mut ids = Vec::new();
            while let Some(id) = list.next_element()? {
                ids.push(id);
            }
            Ok(Accounts::Named(ids))
        }
    }
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
            accounts: None,
            platform: None,
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
        if key.kind == KeyKind::Organization && self.account.is_none() && self.accounts.is_none() {
            return Err(invalid(
                "account",
                "an organization key needs the account that is to be read",
            )
            .with_help("name one with `account`, or several with `accounts`"));
        }
        if self.account.as_deref().is_some_and(|account| {
            account.is_empty() || !account.bytes().all(|byte| byte.is_ascii_graphic())
        }) {
            return Err(invalid("account", "this is not an account id")
                .with_help("account ids look like `acct_1A2b3C`"));
        }
        self.validate_accounts(key)?;
        if !(self.rate_share > 0.0 && self.rate_share <= 1.0) {
            return Err(invalid(
                "rate_share",
                "the share of the rate limit must be above 0 and at most 1",
            ));
        }
        for (field, named) in [
            ("stream_rps", &self.stream_rps),
            ("stream_refresh_days", &self.stream_refresh_days),
        ] {
            if let Some(unknown) = named.keys().find(|name| stream(name).is_none()) {
                return Err(invalid(field, &format!("unknown stream `{unknown}`")));
            }
        }
        if !(1..=100).contains(&self.page_size) {
            return Err(invalid("page_size", "the page size must be from 1 to 100"));
        }
        let base = Url::parse(&self.base_url)
            .map_err(|error| invalid("base_url", "this is not a URL").with_source(error))?;
        Ok((key, base))
    }
}

impl StripeConfig {
    /// After which time a stream is read again as a whole.
    pub(crate) fn full_refresh_interval(&self, name: &str) -> Option<TimeDelta> {
        let by_default = stream(name).and_then(|list| NonZeroU32::new(list.facts.again_after));
        let days = self
            .stream_refresh_days
            .get(name)
            .copied()
            .or(self.full_refresh_days)
            .or(by_default)?;
        Some(TimeDelta::days(days.get().into()))
    }

    /// Refuses a start that would leave nothing to read.
    pub(crate) fn validate_start(&self, now: DateTime<Utc>) -> Result<()> {
        self.start_date
            .map_or(Ok(()), |start| check_start(start, now).map(drop))
    }

    fn validate_accounts(&self, key: Key) -> Result<()> {
        let Some(accounts) = &self.accounts else {
            let alone = self.platform.is_none();
            return if alone {
                Ok(())
            } else {
                Err(invalid(
                    "platform",
                    "this has a meaning only with `accounts`",
                ))
            };
        };
        if self.account.is_some() && key.kind != KeyKind::Organization {
            return Err(invalid(
                "accounts",
                "one account is read with `account`, several with `accounts`",
            )
            .with_help("leave one of them out"));
        }
        if key.kind == KeyKind::Organization && self.account.is_none() {
            if *accounts == Accounts::All {
                return Err(invalid(
                    "accounts",
                    "stripe does not list the accounts of an organization",
                )
                .with_help("name them: accounts = [\"acct_…\", \"acct_…\"]"));
            }
            if self.platform == Some(true) {
                return Err(invalid(
                    "platform",
                    "an organization key without `account` has no platform",
                )
                .with_help("leave it out"));
            }
        }
        let Accounts::Named(ids) = accounts else {
            return Ok(());
        };
        if ids.is_empty() {
            return Err(invalid("accounts", "the list is empty")
                .with_help("name an account, or write accounts = \"all\""));
        }
        for (index, id) in ids.iter().enumerate() {
            let at = |message| invalid(format!("accounts[{index}]"), message);
            let is_id = id.strip_prefix("acct_").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
            });
            if !is_id {
                return Err(at("this is not an account id")
                    .with_help("account ids look like `acct_1A2b3C`"));
            }
            if ids[..index].contains(id) {
                return Err(at("this account is named twice").with_help("leave one of them out"));
            }
        }
        Ok(())
    }
}

/// A day, meaning its first instant in UTC, or an instant.
fn start_date<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let invalid = || {
        serde::de::Error::custom(
            "expected a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z",
        )
    };
    parse_start(&text).map(Some).ok_or_else(invalid)
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
    /// Reads the key's prefix. A key with a prefix that we do not know counts as a secret key in
    /// live mode: keys of the first years have none.
    fn parse(key: &str) -> Result<Self> {
        let wrong = |message: &str| {
            invalid("api_key", message)
                .with_help("use a restricted key (`rk_…`) or a secret key (`sk_…`)")
        };
        if key.is_empty() {
            return Err(wrong("the API key is empty"));
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(
                "the API key contains white space or characters that no key has",
            ));
        }
        let kind = match key.split_once('_').map_or("", |(prefix, _)| prefix) {
            "pk" => return Err(wrong("this is a publishable key, which can read nothing")),
            "whsec" => {
                return Err(wrong(
                    "this is the secret of a webhook endpoint, not an API key",
                ));
            }
            "rk" => KeyKind::Restricted,
            "sk" if key.starts_with("sk_org_") => KeyKind::Organization,
            _ => KeyKind::Secret,
        };
        let mode = if ["sk_test_", "rk_test_", "sk_org_test_"]
            .iter()
            .any(|prefix| key.starts_with(prefix))
        {
            Mode::Test
        } else {
            Mode::Live
        };
        Ok(Self { kind, mode })
    }

    /// The header in which a request says whose it is.
    pub(crate) fn account_header(self) -> &'static str {
        if self.kind == KeyKind::Organization {
            "stripe-context"
        } else {
            "stripe-account"
        }
    }

    pub(crate) fn is_test(self) -> bool {
        self.mode == Mode::Test
    }

    pub(crate) fn describe(self) -> (&'static str, &'static str) {
        let kind = match self.kind {
            KeyKind::Secret => "secret",
            KeyKind::Restricted => "restricted",
            KeyKind::Organization => "organization",
        };
        (
            kind,
            if self.mode == Mode::Test {
                "test"
            } else {
                "live"
            },
        )
    }

    /// Requests per second that Stripe allows for all operations of an account together.
    pub(crate) fn rate(self) -> u32 {
        if self.mode == Mode::Test { 25 } else { 100 }
    }
}

fn invalid(field: impl Into<String>, message: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with_context("field", field)
}
