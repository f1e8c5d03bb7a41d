//! A transport that hands requests to a server in the same process, without a socket: on tokio's
//! paused clock an hour of rate limits passes in the time that the work takes.

use std::fmt;
use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};
use pipeline_core::http::{HttpService, RawResponse, Request, TransportError};

/// A body that arrives piece by piece, or breaks off.
pub type Pieces = BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

type Answer =
    dyn Fn(http::Request<Bytes>) -> BoxFuture<'static, http::Response<Pieces>> + Send + Sync;

/// Sends every request, whatever its host, to one function.
///
/// ```
/// use futures::{StreamExt, stream};
/// use pipeline_testkit::{InProcess, Pieces};
///
/// let transport = InProcess::new(|request| async move {
///     let body: Pieces = stream::once(async move { Ok(request.uri().path().to_owned().into()) }).boxed();
///     http::Response::new(body)
/// });
/// # let _: std::sync::Arc<dyn pipeline_core::http::HttpService> = std::sync::Arc::new(transport);
/// ```
pub struct InProcess(Box<Answer>);

impl InProcess {
    /// A transport of which `answer` is the other end. The request's URI is the path and the query.
    pub fn new<F, A>(answer: F) -> Self
    where
        F: Fn(http::Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = http::Response<Pieces>> + Send + 'static,
    {
        Self(Box::new(move |request| answer(request).boxed()))
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

#[async_trait]
impl HttpService for InProcess {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let url = request.full_url();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut sent = http::Request::builder()
            .method(request.method)
            .uri(target)
            .body(request.body)
            .map_err(|error| TransportError::Refused(error.to_string()))?;
        *sent.headers_mut() = request.headers;
        let (parts, body) = (self.0)(sent).await.into_parts();
        let body = body.map_err(TransportError::Interrupted);
        Ok(RawResponse {
            status: parts.status,
            headers: parts.headers,
            body: Box::pin(body),
        })
    }
}
