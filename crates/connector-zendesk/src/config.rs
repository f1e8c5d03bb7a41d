//! The configuration, and the connector built from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_core::http::{Basic, HttpClient, HttpClientBuilder, OAuth2, below};
use pipeline_core::slice::{TimeRange, check_start, parse_start};
use pipeline_core::{BuildContext, Connector, ConnectorConfig, Error, ErrorKind, Origin, Result};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::brands::Brands;
use crate::errors::ZendeskClassifier;
use crate::{WARNING, ZendeskConnector, fields, limits, streams};

/// Longest life that a token may ask for, 2 days. Answers lack `expires_in` unless the request
/// sends it.
const TOKEN_SECONDS: &str = "172800";

/// Told by `check` and by every sync while an API token is configured.
const API_TOKEN_SUNSET: &str = "API tokens stop working on 2027-04-30, and unused ones earlier; create an OAuth client instead";

/// Configuration of the Zendesk connector.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{
    "subdomain": "${ZENDESK_SUBDOMAIN}",
    "client_id": "${ZENDESK_CLIENT_ID}",
    "client_secret": "${ZENDESK_CLIENT_SECRET}",
}]))]
#[non_exhaustive]
pub struct ZendeskConfig {
    /// The account's name: `acme` in `acme.zendesk.com`.
    pub subdomain: String,
    /// Identifier of an OAuth client of the account; use together with `client_secret`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Secret of the OAuth client.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub client_secret: Option<SecretString>,
    /// Refresh token of an authorization; without it the client asks for tokens of its own.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub refresh_token: Option<SecretString>,
    /// Email of an administrator; use together with `api_token`.
    #[serde(default)]
    pub email: Option<String>,
    /// API token. Zendesk turns all of them off on 2027-04-30.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub api_token: Option<SecretString>,
    /// Reads what changed since this day or instant, such as `2026-01-31`; everything unless set.
    #[serde(default)]
    pub start_date: Option<String>,
    /// Part of the account's requests per minute that this connector may use, the rest being left
    /// to other programs.
    #[serde(default = "default_rate_share")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub rate_share: f64,
    /// Requests per minute of the account's plan; unless set, the first answer tells.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub plan_rpm: Option<u32>,
    /// Incremental export requests per minute: 10, or 30 with the High Volume add-on.
    #[serde(default = "default_export_rpm")]
    #[schemars(range(min = 1, max = 30))]
    pub export_rpm: u32,
    /// Records that one export request asks for. Lower it when large tickets make the exports time
    /// out.
    #[serde(default = "default_export_page_size")]
    #[schemars(range(min = 1, max = 1000))]
    pub export_page_size: u32,
    /// Keys of the custom objects whose records are read, each into a stream `custom_object_{key}`.
    #[serde(default)]
    pub custom_objects: Vec<String>,
    /// Custom fields are columns of their own, besides their place in a JSON column. They are asked
    /// for before every sync: a request for each hundred of them.
    #[serde(default = "default_custom_field_columns")]
    pub custom_field_columns: bool,
    /// Hosts of brands' Help Centers by the brand's subdomain, where they are not
    /// `https://{subdomain}.zendesk.com`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub brand_urls: BTreeMap<String, Url>,
    /// Replaces `https://{subdomain}.zendesk.com`; plain http is for loopback addresses only.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "uri"))]
    pub base_url: Option<Url>,
}

fn default_rate_share() -> f64 {
    0.8
}

fn default_export_rpm() -> u32 {
    10
}

fn default_export_page_size() -> u32 {
    1000
}

fn default_custom_field_columns() -> bool {
    true
}

impl ZendeskConfig {
    /// Creates a configuration for the account of this subdomain, with defaults for everything
    /// else. It needs [`client`](Self::client) or [`api_token`](Self::api_token) besides.
    ///
    /// ```
    /// use connector_zendesk::ZendeskConfig;
    /// use pipeline_core::{BuildContext, ConnectorConfig};
    ///
    /// let mut config = ZendeskConfig::new("acme").client("pipeline", "the client's secret");
    /// config.start_date = Some("2026-01-31".to_owned());
    /// let zendesk = config.build(BuildContext::new("support"))?;
    /// assert!(zendesk.endpoints().iter().any(|endpoint| endpoint.name() == "tickets"));
    /// # Ok::<(), pipeline_core::Error>(())
    /// ```
    pub fn new(subdomain: impl Into<String>) -> Self {
        Self {
            subdomain: subdomain.into(),
            client_id: None,
            client_secret: None,
            refresh_token: None,
            email: None,
            api_token: None,
            start_date: None,
            rate_share: default_rate_share(),
            plan_rpm: None,
            export_rpm: default_export_rpm(),
            export_page_size: default_export_page_size(),
            custom_objects: Vec::new(),
            custom_field_columns: default_custom_field_columns(),
            brand_urls: BTreeMap::new(),
            base_url: None,
        }
    }

    /// Authenticates as an OAuth client of the account.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        (self.client_id, self.client_secret) = (Some(id.into()), Some(secret.into()));
        self
    }

    /// Authenticates as a user with an API token. Zendesk turns all of them off on 2027-04-30.
    pub fn api_token(mut self, email: impl Into<String>, token: impl Into<SecretString>) -> Self {
        (self.email, self.api_token) = (Some(email.into()), Some(token.into()));
        self
    }
}

impl fmt::Debug for ZendeskConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZendeskConfig")
            .field("subdomain", &self.subdomain)
            .field("start_date", &self.start_date)
            .finish_non_exhaustive()
    }
}

impl ConnectorConfig for ZendeskConfig {
    const NAME: &'static str = "zendesk";
    const READS: &'static str =
        "Zendesk: Support, Talk, Help Centers, Community, and custom objects of one account";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        let subdomain = subdomain(&self.subdomain)?;
        let range = self.range(context.clock.now())?;
        self.check_numbers()?;
        self.check_email()?;
        let base = match &self.base_url {
            Some(url) => url.clone(),
            None => Url::parse(&format!("https://{subdomain}.zendesk.com")).map_err(|error| {
                invalid("subdomain", "the subdomain makes no host name").with_source(error)
            })?,
        };
        let origin = origin(&subdomain, &base);
        let token_url = below(&base, "/oauth/tokens").map_err(|error| {
            invalid("base_url", "the base URL makes no address").with_source(error)
        })?;
        let builder = HttpClient::builder(&context, base)
            .classifier(ZendeskClassifier)
            .account(&[&subdomain]);
        // So that a URL over which credentials must not go is refused before anything is asked.
        let builder = self
            .brand_urls
            .values()
            .fold(builder, |builder, url| builder.origin(url.clone()));
        let builder = limits::declare(builder, self.rate_share, self.plan_rpm, self.export_rpm);
        let (builder, notes) = self.authenticate(builder, &context, &token_url)?;
        let declared = streams::endpoints(self.export_page_size, &self.custom_objects);
        let custom = fields::kinds(&declared, &self.custom_objects);
        let declared = fields::note_setting(declared, &custom, self.custom_field_columns);
        let custom = if self.custom_field_columns {
            custom
        } else {
            Vec::new()
        };
        let brand_urls = self
            .brand_urls
            .into_iter()
            .map(|(brand, url)| (brand.to_ascii_lowercase(), url))
            .collect();
        let brands = Brands::new(subdomain, brand_urls, self.base_url.is_some());
        Ok(Arc::new(ZendeskConnector {
            client: builder.build()?,
            declared,
            custom,
            brands,
            range,
            origin,
            notes,
        }))
    }
}

impl ZendeskConfig {
    fn range(&self, now: DateTime<Utc>) -> Result<TimeRange> {
        let Some(text) = &self.start_date else {
            return Ok(TimeRange::all());
        };
        match parse_start(text) {
            Some(start) if start < DateTime::UNIX_EPOCH => {
                Err(invalid("start_date", "the start lies before 1970"))
            }
            Some(start) => check_start(start, now).map(TimeRange::since),
            None => Err(invalid("start_date", "the start is no date")
                .with_help("write a day such as 2026-01-31, or an RFC 3339 time")),
        }
    }

    /// Refuses a user that cannot be one. A colon would end it early in the header, and what
    /// follows would count as the token.
    fn check_email(&self) -> Result<()> {
        let Some(email) = &self.email else {
            return Ok(());
        };
        let is_odd = |character: char| {
            character.is_whitespace() || character.is_control() || matches!(character, ':' | '/')
        };
        let has_host = email
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if has_host && !email.contains(is_odd) {
            return Ok(());
        }
        Err(invalid("email", "this is not the email address of a user")
            .with_help("write it as me@example.com, without /token and without the token"))
    }

    fn check_numbers(&self) -> Result<()> {
        let rules = [
            (
                "rate_share",
                self.rate_share > 0.0 && self.rate_share <= 1.0,
                "the share is not above 0 and at most 1",
            ),
            (
                "plan_rpm",
                self.plan_rpm != Some(0),
                "the plan allows no request",
            ),
            (
                "export_rpm",
                (1..=30).contains(&self.export_rpm),
                "the export limit is not between 1 and 30 a minute",
            ),
            (
                "export_page_size",
                (1..=1000).contains(&self.export_page_size),
                "the page size is not between 1 and 1000",
            ),
        ];
        let is_key = |key: &String| {
            !key.is_empty()
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !self.custom_objects.iter().all(is_key) {
            return Err(invalid(
                "custom_objects",
                "a key of a custom object has other characters than letters, digits and `_`",
            ));
        }
        rules
            .into_iter()
            .find(|(_, holds, _)| !holds)
            .map_or(Ok(()), |(field, _, message)| Err(invalid(field, message)))
    }

    /// Chooses the one configured way to authenticate, and says what to tell about it.
    fn authenticate(
        &self,
        builder: HttpClientBuilder,
        context: &BuildContext,
        token_url: &Url,
    ) -> Result<(HttpClientBuilder, Vec<(String, String)>)> {
        let oauth = |auth: OAuth2| {
            auth.json_body()
                .scope("read")
                .param("expires_in", TOKEN_SECONDS)
        };
        match (&self.client_id, &self.client_secret, &self.refresh_token, &self.email, &self.api_token) {
            (Some(id), Some(secret), None, None, None) => {
                let auth = OAuth2::client_credentials(context, token_url, id, secret)?;
                Ok((builder.authenticator(oauth(auth)), note("OAuth client credentials")))
            }
            (Some(id), Some(secret), Some(refresh), None, None) => {
                let auth = OAuth2::refresh_token(context, token_url, id, Some(secret), refresh.clone())?;
                Ok((builder.authenticator(oauth(auth)), note("OAuth refresh token")))
            }
            (None, None, None, Some(email), Some(token)) => {
                let mut notes = note("API token");
                notes.push((WARNING.to_owned(), API_TOKEN_SUNSET.to_owned()));
                Ok((builder.authenticator(Basic::new(&format!("{email}/token").into(), token)), notes))
            }
            _ => Err(invalid("client_id", "the credentials are not exactly one method")
                .with_help("set client_id and client_secret (with or without refresh_token), or email and api_token, and nothing else")),
        }
    }
}

fn note(method: &str) -> Vec<(String, String)> {
    vec![("authentication".to_owned(), method.to_owned())]
}

/// One DNS label, in small letters. A host is only ever built from what passes here.
pub(crate) fn label(text: &str) -> Option<String> {
    let label = text.trim().to_ascii_lowercase();
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = (3..=63).contains(&label.len())
        && label.bytes().all(|byte| edge(&byte) || byte == b'-')
        && label.as_bytes().first().is_some_and(edge)
        && label.as_bytes().last().is_some_and(edge);
    is_label.then_some(label)
}

/// The account: by its own host where that is Zendesk's, whatever stands in `subdomain`, and
/// otherwise by that.
fn origin(subdomain: &str, base: &Url) -> Origin {
    let host = base
        .host_str()
        .and_then(|host| label(host.strip_suffix(".zendesk.com")?));
    Origin::of_account(host.unwrap_or_else(|| subdomain.to_owned()))
}

/// The label that names the account.
fn subdomain(text: &str) -> Result<String> {
    if let Some(label) = label(text) {
        return Ok(label);
    }
    let label = text.trim().to_ascii_lowercase();
    let error = invalid("subdomain", "the subdomain is not one DNS label");
    let host = label
        .split_once("://")
        .map_or(&*label, |(_, rest)| rest)
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    Err(match host.strip_suffix(".zendesk.com") {
        Some(name) if !name.contains(['.', '@', ':']) => {
            error.with_help(format!("write only the account's name: {name}"))
        }
        _ => error.with_help("write only the account's name, such as acme for acme.zendesk.com"),
    })
}

fn invalid(field: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with_context("field", field)
}
