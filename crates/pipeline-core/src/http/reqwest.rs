//! The production transport.

use std::error::Error as StdError;
use std::sync::Once;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use reqwest::redirect::Policy;

use super::{HttpService, RawResponse, Request, TransportError};
use crate::error::{Error, ErrorKind, Result};

/// Sends requests over the network: HTTP/1.1 and 2, rustls with the ring provider and the system's certificates, the
/// system's proxy. Follows no redirect, and retries only what a server says it has not begun.
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    client: reqwest::Client,
}

impl ReqwestTransport {
    /// A transport with a connection pool of its own.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the system's certificates or proxy settings cannot be used.
    pub fn new(connect_timeout: Duration) -> Result<Self> {
        install_provider();
        let client = reqwest::Client::builder()
            .user_agent(concat!("pipeline/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(Duration::from_mins(1))
            .tcp_keepalive(Duration::from_mins(1))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_adaptive_window(true)
            .redirect(Policy::none())
            .referer(false)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::ConfigInvalid, "the HTTP transport cannot be set up")
                    .with_help("install the system's certificates (package ca-certificates) and check the proxy settings")
                    .with_source(error)
            })?;
        Ok(Self { client })
    }
}

/// Makes ring the process's provider, unless the program has chosen another.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that there is one already, which is just as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[async_trait]
impl HttpService for ReqwestTransport {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let sent = self.client.request(request.method.clone(), request.full_url()).headers(request.headers).body(request.body).send();
        let response = sent.await.map_err(|error| transport_error(error, &host))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes_stream().map_err(move |error| transport_error(error, &host));
        Ok(RawResponse { status, headers, body: Box::pin(body) })
    }
}

/// Says what failed. The URL is taken out: its query may hold a key.
fn transport_error(error: reqwest::Error, host: &str) -> TransportError {
    let error = error.without_url();
    let host = host.to_owned();
    if certificate_refused(&error) {
        TransportError::Tls { host, source: error.into() }
    } else if error.is_timeout() {
        TransportError::Timeout(if error.is_connect() { "connect" } else { "read" })
    } else if error.is_connect() {
        TransportError::Connect { host, source: error.into() }
    } else if error.is_builder() {
        TransportError::Refused("the request cannot be put on the wire".to_owned())
    } else {
        TransportError::Interrupted(error.into())
    }
}

/// True for a certificate that is expired, unknown or somebody else's, and for a server that does not speak TLS as we do:
/// asking again does not change that.
fn certificate_refused(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // What an I/O error wraps is not its source: that is the source of what it wraps, which can be an I/O error again.
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
