//! HTTP: the request and response types, the transport seam, and one client that does everything in
//! one order.
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
//! A body of 2 KiB a minute is therefore given up after 300 s, and its request after eight of these
//! and the pauses between them.

mod auth;
mod body;
mod client;
mod context;
#[cfg(test)]
mod tests;
mod transport;

pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

pub use self::auth::{
    Anonymous, ApiKey, Authenticator, Basic, Bearer, CredentialGeneration, FileTokens,
    MemoryTokens, OAuth2, TokenLock, TokenStore,
};
pub use self::body::Spool;
pub use self::client::{
    Call, Classifier, HttpClient, HttpClientBuilder, ResponseAction, RetryPolicy, Secrets,
    WEB_PAGE, below, path_segment,
};
pub use self::context::BuildContext;
#[cfg(feature = "reqwest")]
pub use self::transport::ReqwestTransport;
pub use self::transport::{HttpService, RawResponse, TlsFault, TransportError};
pub use crate::message::{Request, Response, ResponseView};
