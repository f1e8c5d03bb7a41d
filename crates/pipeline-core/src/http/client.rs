//! The HTTP client: one ordered function per request.

use std::sync::Arc;

use url::Url;

use super::auth::{Anonymous, Authenticator};
use super::limit::Quota;
use super::{HeaderMap, Request, Response, StatusCode};
use crate::connector::BuildContext;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Attempt;

/// What the client must know about a request besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The endpoint's name, for events and errors.
    pub endpoint: &'a str,
    /// Names of the quotas it counts against, the narrowest first.
    pub buckets: &'a [std::borrow::Cow<'static, str>],
}

/// What to do with a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseAction {
    /// Take it.
    Accept,
    /// Send the request again.
    Retry {
        /// True when the vendor says that requests come too fast.
        throttled: bool,
        /// How long the vendor asks to wait.
        after: Option<std::time::Duration>,
    },
    /// Refresh the credential once and send the request again.
    RefreshAuth,
    /// Take it as a page without records: a sub-resource that is gone.
    Ignore,
    /// The vendor refuses the position: recover it.
    ResetPagination,
    /// Fail with this kind; what the user can do about it is told by the second part.
    Fail(ErrorKind, Option<String>),
}

/// What a classifier sees of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The request that was sent.
    pub request: &'a Request,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, or its beginning when the answer is not a success.
    pub body: &'a [u8],
}

/// A vendor's own reading of answers. Asked before the default one; no opinion is the default's turn.
pub trait Classifier: Send + Sync + std::fmt::Debug {
    /// Says what to do with an answer.
    fn classify(&self, answer: &Answer<'_>) -> Option<ResponseAction>;
}

/// Sends requests: breaker, limits, auth, send, observe, classify, act.
#[derive(Clone, Debug)]
pub struct HttpClient {
    base: Url,
    clock: Arc<dyn crate::clock::Clock>,
}

/// Builds an [`HttpClient`].
#[derive(Debug)]
pub struct HttpClientBuilder {
    base: Url,
    clock: Arc<dyn crate::clock::Clock>,
    authenticator: Arc<dyn Authenticator>,
}

impl HttpClient {
    /// A client for one account at one vendor. Credentials go to the base URL's origin only.
    pub fn builder(context: &BuildContext, base: Url) -> HttpClientBuilder {
        HttpClientBuilder { clock: context.clock.clone(), base, authenticator: Arc::new(Anonymous) }
    }

    /// The base URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The current wall-clock time: the vendor's own, as its answers tell it, or the injected clock's.
    pub fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now()
    }

    /// Sends a request and reads its response to the end.
    pub async fn send(&self, request: &Request, call: &Call<'_>) -> Result<Response> {
        let _ = (request, call, None::<Attempt<'_>>);
        Err(Error::new(ErrorKind::Unsupported, "no transport"))
    }

    /// Sends a request and writes its response to a temporary file. Every line must pass the check, or the attempt
    /// failed; so the file is complete when this returns.
    pub async fn download(&self, request: &Request, call: &Call<'_>, check: crate::endpoint::LineCheck) -> Result<Spool> {
        let _ = (request, call, check);
        Err(Error::new(ErrorKind::Unsupported, "no transport"))
    }
}

/// A complete response on disk, deleted when dropped.
#[derive(Debug)]
pub struct Spool {}

impl Spool {
    /// The next lines, about `bytes` of them, without the last newline; none at the end. A line is never cut.
    pub async fn next_lines(&mut self, bytes: usize) -> Result<Option<bytes::Bytes>> {
        let _ = bytes;
        Ok(None)
    }
}

impl HttpClientBuilder {
    /// How requests are authenticated.
    pub fn authenticator(mut self, authenticator: impl Authenticator + 'static) -> Self {
        self.authenticator = Arc::new(authenticator);
        self
    }

    /// Declares a bucket.
    pub fn quota(self, bucket: &str, quota: Quota) -> Self {
        let _ = (bucket, quota);
        self
    }

    /// Finishes the client.
    pub fn build(self) -> Result<HttpClient> {
        let _ = self.authenticator;
        Ok(HttpClient { base: self.base, clock: self.clock })
    }
}
