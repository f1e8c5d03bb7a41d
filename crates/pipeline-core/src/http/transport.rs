//! The transport: what sends one request once, and what its failures mean.

mod causes;
#[cfg(feature = "reqwest")]
mod connections;
mod error;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "reqwest")]
mod tls;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, StatusCode};

pub(crate) use self::error::{PROXY_CREDENTIALS, transport_error};
pub use self::error::{TlsFault, TransportError};
#[cfg(feature = "reqwest")]
pub use self::reqwest::ReqwestTransport;
use crate::error::Result;
#[cfg(not(feature = "reqwest"))]
use crate::error::{Error, ErrorKind};
use crate::http::BuildContext;
use crate::message::Request;

/// Sends one request once: the seam where a replay or a fault injector takes the network's place.
#[async_trait]
pub trait HttpService: Send + Sync + fmt::Debug {
    /// Sends the request and returns as soon as the headers are there. Follows no redirect and
    /// retries nothing.
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError>;
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
        Self {
            status,
            headers,
            body: Box::pin(futures::stream::once(async move { Ok(body) })),
        }
    }
}

impl fmt::Debug for RawResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawResponse")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The transport of a context: its own, or the network.
pub(crate) fn transport(context: &BuildContext) -> Result<Arc<dyn HttpService>> {
    if let Some(transport) = &context.transport {
        return Ok(Arc::clone(transport));
    }
    #[cfg(feature = "reqwest")]
    return Ok(Arc::new(ReqwestTransport::new(context.connect_timeout)?));
    #[cfg(not(feature = "reqwest"))]
    Err(Error::new(ErrorKind::ConfigInvalid, "no transport is set")
        .with_help("turn on the feature `reqwest`, or supply a transport"))
}
