//! HTTP: the request and response types, the transport seam, and one client that does everything in one order.

mod address;
mod announced;
mod auth;
mod body;
mod breaker;
mod bucket;
mod classify;
mod client;
mod control;
mod exchange;
mod gunzip;
mod headers;
mod ledger;
mod limit;
mod limiter;
mod line;
mod oauth;
mod redact;
#[cfg(feature = "reqwest")]
mod reqwest;
mod retry;
mod slots;
mod spool;
mod store;
#[cfg(test)]
mod tests;
mod token_endpoint;
mod token_pair;
mod tokens;
mod usage;
mod window;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

pub use self::address::{below, path_segment};
pub use self::auth::{Anonymous, ApiKey, Authenticator, Basic, Bearer, Generation};
pub use self::classify::{Answer, Classifier, ResponseAction, Throttle};
pub use self::client::{Call, HttpClient, HttpClientBuilder};
pub use self::headers::{BucketReader, Hint, RateHeaders, RateHint, RateReader, ResetUnit, retry_after};
pub use self::ledger::{BucketRecord, FileLedger, Learned, LearnedWindow, LimitLedger, Spent};
pub use self::limit::{BucketKey, Charge, Grant, Left, Quota, RateLimitStore, gcra, rescale};
pub use self::oauth::OAuth2;
#[cfg(feature = "reqwest")]
pub use self::reqwest::ReqwestTransport;
pub use self::retry::RetryPolicy;
pub use self::spool::Spool;
pub use self::store::MemoryLimits;
pub use self::tokens::{FileTokens, MemoryTokens, TokenLock, TokenStore};
pub use self::usage::BucketUse;
use crate::connector::BuildContext;
use crate::error::{Error, ErrorKind};

/// A request that has not been authenticated yet. Credentials are added to a clone for every attempt.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to; the query is kept apart. The path is the vendor's own: that of the base URL comes before it when it is sent.
    pub url: Url,
    /// Query parameters, in order. Sent percent-encoded.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: HeaderMap,
    /// The body; empty for GET.
    pub body: Bytes,
    /// The path of the base URL, below which the vendor's paths are: links to a next page may have it, and `url` does not.
    pub(crate) mount: String,
}

impl Request {
    /// A request without parameters, headers or body.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, query: Vec::new(), headers: HeaderMap::new(), body: Bytes::new(), mount: String::new() }
    }

    /// Sets a query parameter, replacing one of the same name.
    pub fn set_query(&mut self, name: &str, value: impl Into<String>) {
        self.remove_query(name);
        self.query.push((name.to_owned(), value.into()));
    }

    /// Removes a query parameter.
    pub fn remove_query(&mut self, name: &str) {
        self.query.retain(|(known, _)| known != name);
    }

    /// The URL with the query, sorted by name, so that recorded requests compare.
    pub fn full_url(&self) -> Url {
        let mut url = self.url.clone();
        if !self.query.is_empty() {
            let mut query: Vec<_> = url.query_pairs().into_owned().chain(self.query.iter().cloned()).collect();
            query.sort();
            url.query_pairs_mut().clear().extend_pairs(query);
        }
        url
    }
}

impl fmt::Debug for Request {
    /// Method and path only: query values and headers may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url.path())
    }
}

/// A response whose body is still on the wire, as a transport returns it.
pub struct RawResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it comes, still compressed if the headers say so.
    pub body: BoxStream<'static, Result<Bytes, TransportError>>,
}

impl RawResponse {
    /// A response that is complete in memory.
    pub fn full(status: StatusCode, headers: HeaderMap, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self { status, headers, body: Box::pin(futures::stream::once(async move { Ok(body) })) }
    }
}

impl fmt::Debug for RawResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

/// A response read to its end, decompressed, within the configured limits.
#[derive(Clone)]
pub struct Response {
    /// The status; always a success unless the classifier ignored the response.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Sends one request once: the seam where a replay or a fault injector takes the network's place.
#[async_trait]
pub trait HttpService: Send + Sync + fmt::Debug {
    /// Sends the request and returns as soon as the headers are there. Follows no redirect and retries nothing.
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError>;
}

/// Why no response, or no whole response, came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The host's name has no address, or nobody listens there, or TLS failed for a passing reason.
    #[error("cannot connect to {host}")]
    Connect {
        /// The host.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate was refused. Trying again does not help, and there is no insecure mode.
    #[error("the TLS certificate of {host} was refused")]
    Tls {
        /// The host.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came for too long.
    #[error("no answer within the {0} timeout")]
    Timeout(&'static str),
    /// The connection broke before or within the response.
    #[error("the connection broke before the response was complete")]
    Interrupted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The body is larger, or expands further, than the configured limit.
    #[error("the response exceeds {limit}")]
    TooLarge {
        /// The limit in words.
        limit: String,
    },
    /// The body does not decompress.
    #[error("the response cannot be decompressed")]
    Encoding(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request cannot be sent at all, such as plain http to a distant host.
    #[error("{0}")]
    Refused(String),
}

/// The transport of a context: its own, or the network.
fn transport(context: &BuildContext) -> crate::error::Result<Arc<dyn HttpService>> {
    if let Some(transport) = &context.transport {
        return Ok(Arc::clone(transport));
    }
    #[cfg(feature = "reqwest")]
    return Ok(Arc::new(ReqwestTransport::new(context.connect_timeout)?));
    #[cfg(not(feature = "reqwest"))]
    Err(Error::new(ErrorKind::ConfigInvalid, "there is no transport").with_help("turn on the feature `reqwest`, or supply a transport"))
}

/// What a failure of the transport means for the caller, and whether trying again can help.
fn transport_error(error: TransportError) -> Error {
    let unsupported = |source: &(dyn std::error::Error + Send + Sync + 'static)| {
        source.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::Unsupported)
    };
    let (kind, passes) = match &error {
        TransportError::Connect { .. } | TransportError::Timeout(_) | TransportError::Interrupted(_) => (ErrorKind::Unavailable, true),
        TransportError::Tls { .. } => (ErrorKind::Unavailable, false),
        TransportError::Encoding(source) => (ErrorKind::Decode, !unsupported(source.as_ref())),
        TransportError::TooLarge { .. } => (ErrorKind::TooLarge, false),
        TransportError::Refused(_) => (ErrorKind::ConfigInvalid, false),
    };
    let help = match &error {
        TransportError::Connect { .. } => Some("check the host's name and that this machine can reach it"),
        TransportError::Tls { .. } => {
            Some("check this machine's clock and certificates; a proxy that opens TLS needs its certificate installed")
        }
        _ => None,
    };
    let converted = Error::new(kind, error.to_string()).with_source(error);
    let converted = if passes { converted.temporary() } else { converted };
    match help {
        Some(help) => converted.with_help(help),
        None => converted,
    }
}
