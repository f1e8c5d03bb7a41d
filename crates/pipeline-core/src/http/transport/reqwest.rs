//! The production transport.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::redirect::Policy;
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::host::is_loopback;
use crate::http::RawResponse;
use crate::http::transport::causes::causes;
use crate::http::transport::{HttpService, TransportError, connections, tls};
use crate::message::Request;

/// Sends requests over the network: HTTP/1.1 and 2, rustls with the ring provider and the system's
/// certificates, the system's proxy. Follows no redirect, and retries only what a server says it
/// has not begun.
///
/// A request for this machine itself never goes to a proxy, whatever the environment says: it would
/// carry its credentials there in the clear.
#[derive(Clone)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    /// For requests that stay on this machine; made when the first is sent.
    local: OnceLock<reqwest::Client>,
    /// The proxies of the system, to name the one that fails.
    proxies: Arc<Matcher>,
    connect_timeout: Duration,
}

impl fmt::Debug for ReqwestTransport {
    /// Without the proxies, whose addresses may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestTransport").finish_non_exhaustive()
    }
}

impl ReqwestTransport {
    /// A transport with a connection pool of its own.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the system's certificates or proxy settings cannot be
    /// used.
    pub fn new(connect_timeout: Duration) -> Result<Self> {
        install_provider();
        let client = builder(connect_timeout).build().map_err(|error| {
            Error::new(
                ErrorKind::ConfigInvalid,
                "the HTTP transport cannot be set up",
            )
            .with_help(
                "install the system's certificates (package ca-certificates) and check the proxy \
                 settings",
            )
            .with_source(error)
        })?;
        Ok(Self {
            client,
            local: OnceLock::new(),
            proxies: Arc::new(Matcher::from_system()),
            connect_timeout,
        })
    }

    /// The client for a URL.
    fn client(&self, url: &Url) -> Result<&reqwest::Client, TransportError> {
        if !is_loopback(url) {
            return Ok(&self.client);
        }
        if let Some(client) = self.local.get() {
            return Ok(client);
        }
        let refused = |_| TransportError::Refused("the HTTP transport cannot be set up".to_owned());
        let client = builder(self.connect_timeout)
            .no_proxy()
            .build()
            .map_err(refused)?;
        Ok(self.local.get_or_init(|| client))
    }

    /// The proxy that requests for a URL go to, if any, without its credentials.
    fn proxy(&self, url: &Url) -> Option<String> {
        if is_loopback(url) {
            return None;
        }
        let proxy = self.proxies.intercept(&url.as_str().parse().ok()?)?;
        let (host, port) = (proxy.uri().host()?, proxy.uri().port_u16());
        Some(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }
}

fn builder(connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("pipeline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(Duration::from_mins(1))
        .pool_max_idle_per_host(connections::most_idle())
        .tcp_keepalive(Duration::from_mins(1))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_adaptive_window(true)
        .redirect(Policy::none())
        .referer(false)
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
        let way = Way {
            host: request.url.host_str().unwrap_or_default().to_owned(),
            proxy: self.proxy(&request.url),
        };
        let client = self.client(&request.url)?;
        let place = connections::place().await;
        let sent = client
            .request(request.method.clone(), request.full_url())
            .headers(request.headers)
            .body(request.body)
            .send();
        let response = sent.await.map_err(|error| way.error(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes_stream().map_err(move |error| {
            // Kept as long as the body.
            let _ = &place;
            way.error(error)
        });
        Ok(RawResponse {
            status,
            headers,
            body: Box::pin(body),
        })
    }
}

/// Where a request goes.
struct Way {
    host: String,
    proxy: Option<String>,
}

impl Way {
    /// Says what failed. The URL is taken out: its query may hold a key.
    fn error(&self, error: reqwest::Error) -> TransportError {
        let error = error.without_url();
        let host = self.host.clone();
        if let Some(fault) = tls::fault(&error) {
            TransportError::Tls {
                host,
                fault,
                source: error.into(),
            }
        } else if is_head_too_large(&error) {
            TransportError::HeadTooLarge
        } else if error.is_connect() {
            self.connect(error)
        } else if error.is_timeout() {
            TransportError::Timeout("read")
        } else if error.is_builder() {
            TransportError::Refused("the request cannot be put on the wire".to_owned())
        } else {
            TransportError::Interrupted(error.into())
        }
    }

    /// No connection: to the host, to the proxy, or from there on.
    fn connect(&self, error: reqwest::Error) -> TransportError {
        let Some(proxy) = self.proxy.clone() else {
            let host = self.host.clone();
            return if error.is_timeout() {
                TransportError::ConnectTimeout { host }
            } else {
                TransportError::Connect {
                    host,
                    source: error.into(),
                }
            };
        };
        // The words of a type that reqwest does not show.
        let tunnel = causes(&error)
            .map(ToString::to_string)
            .find_map(|words| match &*words {
                "tunnel error: proxy authorization required" => Some(Tunnel::Unauthorized),
                "tunnel error: unsuccessful"
                | "tunnel error: unexpected end of file"
                | "tunnel error: proxy response headers too long" => Some(Tunnel::Refused),
                _ => None,
            });
        match tunnel {
            Some(Tunnel::Unauthorized) => TransportError::ProxyAuthentication { proxy },
            Some(Tunnel::Refused) => TransportError::ProxyRefused {
                proxy,
                host: self.host.clone(),
                source: error.into(),
            },
            None if error.is_timeout() => TransportError::ConnectTimeout {
                host: format!("{} through the proxy {proxy}", self.host),
            },
            None => TransportError::ProxyConnect {
                proxy,
                source: error.into(),
            },
        }
    }
}

/// What a proxy says when it is asked for a connection.
enum Tunnel {
    Unauthorized,
    Refused,
}

/// True for an answer whose headers are more, or larger, than any answer's should be.
fn is_head_too_large(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.to_string() == "message head is too large")
}
