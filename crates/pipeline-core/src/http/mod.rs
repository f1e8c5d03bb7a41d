//! HTTP: the request and response types, the transport seam, and one client that does everything in one order.
//!
//! Every wait has a bound, counted for each attempt:
//!
//! | wait | bound |
//! | --- | --- |
//! | for a connection, TLS and a proxy's answer included | `connect_timeout`, 10 s |
//! | for the headers, and for each next byte | `read_timeout`, 60 s |
//! | for a body that is held in memory | `total_timeout`, 300 s, and 1 KiB in every minute |
//! | for a body that is written to disk | 300 KiB in every five minutes; it may take as long as it will |
//! | for a token | four attempts of 60 s |
//! | for a limit, or as long as the vendor asks for | [`RetryPolicy::max_server_delay`] |
//! | for memory | the page that is first waits for rows to be written, the others for it; 30 s where nothing could be written |
//! | all attempts at one request | [`RetryPolicy::max_attempts`] and [`RetryPolicy::max_elapsed`] |
//!
//! A body of 2 KiB a minute is therefore given up after 300 s, and its request after eight of these and the pauses between them.

mod address;
mod announced;
mod auth;
mod body;
mod breaker;
mod bucket;
mod causes;
mod classify;
mod client;
#[cfg(feature = "reqwest")]
mod connections;
mod control;
mod decoded;
mod exchange;
mod gunzip;
mod headers;
mod ledger;
mod limit;
mod limiter;
mod line;
mod oauth;
mod received;
mod redact;
#[cfg(feature = "reqwest")]
mod reqwest;
mod retry;
mod slots;
mod spool;
mod store;
#[cfg(test)]
mod tests;
#[cfg(feature = "reqwest")]
mod tls;
mod token_endpoint;
mod token_pair;
mod tokens;
mod usage;
mod window;
pub(crate) mod words;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

pub(crate) use self::address::is_loopback;
pub use self::address::{below, path_segment};
pub use self::auth::{Anonymous, ApiKey, Authenticator, Basic, Bearer, Generation};
use self::causes::cannot_connect;
pub use self::classify::{Answer, Classifier, ResponseAction, Throttle};
pub use self::client::{Call, HttpClient, HttpClientBuilder};
pub use self::headers::{BucketReader, Hint, RateHeaders, RateHint, RateReader, ResetUnit, retry_after};
pub use self::ledger::{BucketRecord, FileLedger, Learned, LearnedWindow, LimitLedger, Spent};
pub use self::limit::{BucketKey, Charge, Grant, Left, Quota, RateLimitStore, gcra, rescale};
pub use self::oauth::OAuth2;
pub use self::redact::Secrets;
#[cfg(feature = "reqwest")]
pub use self::reqwest::ReqwestTransport;
pub use self::retry::RetryPolicy;
pub use self::spool::Spool;
pub use self::store::MemoryLimits;
pub use self::tokens::{FileTokens, MemoryTokens, TokenLock, TokenStore};
pub use self::usage::BucketUse;
use crate::connector::BuildContext;
use crate::error::{Error, ErrorKind};
use crate::memory::Lease;

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
    /// True when the classifier said to take it as a page without records, whatever its status.
    pub is_ignored: bool,
    /// The memory that the body takes, and what is made of it may.
    pub(crate) lease: Option<Arc<Lease>>,
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
    #[error("{}", cannot_connect("", host, source.as_ref()))]
    Connect {
        /// The host.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection in time.
    #[error("no connection to {host} within the connect timeout")]
    ConnectTimeout {
        /// The host, and the proxy on the way.
        host: String,
    },
    /// TLS with the host cannot be had. Trying again does not help, and there is no insecure mode.
    #[error("{}", fault.message(host))]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        fault: TlsFault,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The proxy cannot be reached.
    #[error("{}", cannot_connect("the proxy ", proxy, source.as_ref()))]
    ProxyConnect {
        /// Host and port of the proxy.
        proxy: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The proxy asks for credentials before it connects to the host.
    #[error("the proxy {proxy} asks for credentials")]
    ProxyAuthentication {
        /// Host and port of the proxy.
        proxy: String,
    },
    /// The proxy did not connect to the host.
    #[error("the proxy {proxy} did not connect to {host}")]
    ProxyRefused {
        /// Host and port of the proxy.
        proxy: String,
        /// The host.
        host: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More or larger headers than any answer has.
    #[error("the headers of the response are too many or too large")]
    HeadTooLarge,
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

impl TransportError {
    fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Connect { source, .. }
            | Self::Tls { source, .. }
            | Self::ProxyConnect { source, .. }
            | Self::ProxyRefused { source, .. }
            | Self::Interrupted(source)
            | Self::Encoding(source) => Some(source),
            Self::ConnectTimeout { .. }
            | Self::ProxyAuthentication { .. }
            | Self::HeadTooLarge
            | Self::Timeout(_)
            | Self::TooLarge { .. }
            | Self::Refused(_) => None,
        }
    }
}

/// What is wrong with the TLS of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is another host's.
    OtherHost,
    /// The certificate is signed by an authority that this machine does not trust, or by itself.
    UnknownAuthority,
    /// The certificate is not acceptable for another reason.
    Certificate,
    /// The server asks for a certificate of the client's.
    ClientCertificate,
    /// The server offers no version of TLS that is safe.
    Version,
    /// The server does not speak TLS.
    NotTls,
}

impl TlsFault {
    fn message(self, host: &str) -> String {
        let reason = match self {
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
            Self::OtherHost => "it is for another host",
            Self::UnknownAuthority => "it is signed by an unknown authority, or by itself",
            Self::Certificate => "it is not acceptable",
            Self::ClientCertificate => return format!("{host} asks for a client certificate"),
            Self::Version => return format!("{host} offers neither TLS 1.2 nor TLS 1.3 with a safe cipher"),
            Self::NotTls => return format!("{host} does not answer in TLS"),
        };
        format!("the TLS certificate of {host} was refused: {reason}")
    }

    fn help(self) -> &'static str {
        match self {
            Self::Expired | Self::NotYetValid => {
                "check this machine's clock; if it is right, whoever runs the server has to renew its certificate"
            }
            Self::OtherHost => "check the host in the base URL: somebody else answers there",
            Self::UnknownAuthority => {
                "a proxy that opens TLS, or a server with an authority of its own, needs the certificate of that authority installed on this \
                 machine, or named by SSL_CERT_FILE"
            }
            Self::Certificate => "check the base URL, and this machine's certificates (package ca-certificates)",
            Self::ClientCertificate => {
                "client certificates are not supported: use an address of the API that does not ask for one, or a proxy that presents it"
            }
            Self::Version => "the server, or a proxy on the way, only offers what is no longer safe, and has to be updated",
            Self::NotTls => "check the scheme and the port of the base URL, and the proxy settings",
        }
    }
}

/// What a failure of the transport means for the caller, and whether trying again can help.
fn transport_error(error: TransportError) -> Error {
    let unsupported = |source: &(dyn std::error::Error + Send + Sync + 'static)| {
        source.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::Unsupported)
    };
    let (kind, passes) = match &error {
        TransportError::Connect { .. }
        | TransportError::ConnectTimeout { .. }
        | TransportError::ProxyConnect { .. }
        | TransportError::ProxyRefused { .. }
        | TransportError::Timeout(_)
        | TransportError::Interrupted(_) => (ErrorKind::Unavailable, true),
        TransportError::Tls { .. } => (ErrorKind::Untrusted, false),
        TransportError::Encoding(source) => (ErrorKind::Decode, !unsupported(source.as_ref())),
        TransportError::HeadTooLarge => (ErrorKind::Decode, false),
        TransportError::TooLarge { .. } => (ErrorKind::TooLarge, false),
        TransportError::ProxyAuthentication { .. } | TransportError::Refused(_) => (ErrorKind::ConfigInvalid, false),
    };
    let help = match &error {
        TransportError::Connect { .. } | TransportError::ConnectTimeout { .. } => {
            Some("check the host's name and that this machine can reach it")
        }
        TransportError::Tls { fault, .. } => Some(fault.help()),
        TransportError::ProxyAuthentication { .. } => Some(PROXY_CREDENTIALS),
        TransportError::ProxyConnect { .. } => {
            Some("check the proxy settings of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY), and that the proxy runs")
        }
        TransportError::ProxyRefused { .. } => Some("check that the proxy may connect to this host, or name the host in NO_PROXY"),
        TransportError::HeadTooLarge => Some("a proxy, or whoever else answers at this address, adds them: check the base URL"),
        _ => None,
    };
    let converted = Error::new(kind, error.to_string());
    let converted = if passes { converted.temporary() } else { converted };
    let converted = match help {
        Some(help) => converted.with_help(help),
        None => converted,
    };
    // Its own words are the message.
    match error.into_source() {
        Some(source) => converted.with_source(source),
        None => converted,
    }
}

/// What to do when a proxy asks for credentials.
const PROXY_CREDENTIALS: &str = "set them in the proxy's URL, as in HTTPS_PROXY=http://user:password@proxy:port";
