//! Builds a client: what a connector declares, and what of it is refused.

use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex, RwLock};

use url::Url;

use super::address::root;
use super::breaker::Breaker;
use super::redact::Redactor;
use super::retry::RetryBudget;
use super::{Classifier, HttpClient, Inner, Portal, RetryPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::host::is_loopback;
use crate::http::auth::{Anonymous, Authenticator};
use crate::http::body::ACCEPT_ENCODING;
use crate::http::transport::transport;
use crate::http::{BuildContext, HeaderMap, HeaderName, HeaderValue};
use crate::rate_limit::{Limiter, Quota, RateLimitParser};

/// Builds an [`HttpClient`].
#[derive(Debug)]
pub struct HttpClientBuilder {
    context: BuildContext,
    base: Url,
    origins: Vec<Url>,
    account: Vec<String>,
    authenticator: Arc<dyn Authenticator>,
    classifier: Option<Arc<dyn Classifier>>,
    readers: Vec<Arc<dyn RateLimitParser>>,
    quotas: Vec<(String, Quota)>,
    headers: Vec<(String, String)>,
    request_id: String,
    repeated: Option<String>,
    retry: RetryPolicy,
    quotes: bool,
}

impl HttpClientBuilder {
    pub(super) fn new(context: &BuildContext, base: Url) -> Self {
        Self {
            context: context.clone(),
            retry: context.retry,
            base,
            origins: Vec::new(),
            account: Vec::new(),
            authenticator: Arc::new(Anonymous),
            classifier: None,
            readers: Vec::new(),
            quotas: Vec::new(),
            headers: Vec::new(),
            request_id: "x-request-id".to_owned(),
            repeated: None,
            quotes: true,
        }
    }

    /// How requests are authenticated. Default: not at all.
    pub fn authenticator(mut self, authenticator: impl Authenticator + 'static) -> Self {
        self.authenticator = Arc::new(authenticator);
        self
    }

    /// The vendor's reading of answers, asked before the default one.
    pub fn classifier(mut self, classifier: impl Classifier + 'static) -> Self {
        self.classifier = Some(Arc::new(classifier));
        self
    }

    /// Declares a bucket. What the vendor's answers say can lower the quota, and raises a
    /// [published](Quota::published) one only.
    pub fn quota(mut self, bucket: impl Into<String>, quota: Quota) -> Self {
        self.quotas.push((bucket.into(), quota));
        self
    }

    /// Reads what answers say about limits; may be given several times.
    pub fn rate_headers(mut self, reader: impl RateLimitParser + 'static) -> Self {
        self.readers.push(Arc::new(reader));
        self
    }

    /// Adds a header to every request that does not have it, such as the version of the API.
    pub fn default_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The header in which the vendor names the request, for errors and events. Default
    /// `x-request-id`.
    pub fn request_id_header(mut self, name: &str) -> Self {
        name.clone_into(&mut self.request_id);
        self
    }

    /// A header of requests that answers repeat, such as the version of the API: when one has
    /// another value, this is reported to observers once.
    pub fn repeated_header(mut self, name: &str) -> Self {
        self.repeated = Some(name.to_owned());
        self
    }

    /// A further origin that requests, and with them the credentials, may go to. Its path, if it
    /// has one, comes before those of requests.
    pub fn origin(mut self, url: Url) -> Self {
        self.origins.push(url);
        self
    }

    /// What identifies the account within the host, such as a key's id. Clients of the same account
    /// share its buckets; without this, all clients of the same host do. Only a hash is kept.
    pub fn account(mut self, identity: &[&str]) -> Self {
        self.account = identity.iter().map(ToString::to_string).collect();
        self
    }

    /// How failed requests are tried again. Default: as the context says.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Quotes no answer in errors, except for the title of a web page: answers hold credentials.
    pub(crate) fn unquoted(mut self) -> Self {
        self.quotes = false;
        self
    }

    /// Finishes the client.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when a URL is not https (http is fine for this machine only) or
    /// holds credentials, when a header cannot be sent, or when no transport is set.
    pub fn build(self) -> Result<HttpClient> {
        let account = self.account_hash();
        let Self {
            context,
            base,
            mut origins,
            authenticator,
            classifier,
            readers,
            quotas,
            retry,
            ..
        } = self;
        origins.insert(0, base.clone());
        origins.iter().try_for_each(check_url)?;
        let seed = context.seed.unwrap_or_else(|| fastrand::u64(..));
        let inner = Inner {
            transport: transport(&context)?,
            headers: default_headers(&self.headers)?,
            request_id: HeaderName::try_from(self.request_id).ok(),
            repeated: self
                .repeated
                .and_then(|name| HeaderName::try_from(name).ok()),
            quotes: self.quotes,
            was_told_otherwise: AtomicBool::new(false),
            portal: Portal::default(),
            limiter: Limiter::new(context.limits, Arc::clone(&context.clock), account, quotas),
            base: root(&base),
            origins: RwLock::new(origins),
            source: context.source,
            clock: context.clock,
            observer: context.observer,
            authenticator,
            redactor: Redactor::default(),
            classifier,
            readers,
            breaker: Breaker::default(),
            budget: RetryBudget::new(),
            retry,
            max_body: context.max_body,
            read_timeout: context.read_timeout,
            total_timeout: context.total_timeout,
            answered: Mutex::default(),
            usual: Mutex::default(),
            skew: AtomicI64::new(0),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        };
        Ok(HttpClient {
            inner: Arc::new(inner),
            scope: None,
            attempts: None,
        })
    }

    fn account_hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for part in self
            .base
            .host_str()
            .into_iter()
            .chain(self.account.iter().map(String::as_str))
        {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut hash = [0; 8];
        hasher.finalize_xof().fill(&mut hash);
        u64::from_le_bytes(hash)
    }
}

fn default_headers(given: &[(String, String)]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(
        http::header::ACCEPT,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        http::header::ACCEPT_ENCODING,
        HeaderValue::from_static(ACCEPT_ENCODING),
    );
    headers.extend(header_map(
        given.iter().map(|(name, value)| (&**name, &**value)),
    )?);
    Ok(headers)
}

pub(super) fn header_map<'a>(given: impl Iterator<Item = (&'a str, &'a str)>) -> Result<HeaderMap> {
    let header = |(name, value): (&str, &str)| {
        let pair = HeaderName::try_from(name)
            .ok()
            .zip(HeaderValue::try_from(value).ok());
        pair.ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "a header cannot be sent")
                .with_context("header", name.to_owned())
        })
    };
    given.map(header).collect()
}

/// Refuses a URL over which credentials would travel in the clear, or that holds some.
pub(crate) fn check_url(url: &Url) -> Result<()> {
    let invalid = |message: &str| {
        Err(Error::new(ErrorKind::ConfigInvalid, message)
            .with_context("host", url.host_str().unwrap_or_default()))
    };
    if !(url.scheme() == "https" || url.scheme() == "http" && is_loopback(url)) {
        return invalid("the base URL must begin with https://, except for this machine itself");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("the base URL must not have a query or a fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("the base URL must not hold credentials");
    }
    Ok(())
}
