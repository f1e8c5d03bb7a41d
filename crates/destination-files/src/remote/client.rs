//! Sends the requests of the object store's library by the transport of everything else: the same
//! TLS, proxies and connections.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use pipeline_core::http::{HttpService as Transport, Request, ReqwestTransport, TransportError};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time until an answer begins: a part of a file has to be sent in it.
const ANSWER: Duration = Duration::from_mins(3);
/// Longest time between two pieces of an answer.
const PIECE: Duration = Duration::from_mins(1);
/// In the answer for an object that a lifecycle rule will remove: when, and by which rule.
const EXPIRATION: &str = "x-amz-expiration";

/// Connects the object store's library to the network.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    transport: Arc<dyn Transport>,
    expiration: Arc<Mutex<Option<String>>>,
}

impl Connector {
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`](pipeline_core::ErrorKind::ConfigInvalid) when the system's
    /// certificates or proxies cannot be used.
    pub(crate) fn new() -> pipeline_core::Result<Self> {
        Ok(Self {
            transport: Arc::new(ReqwestTransport::new(CONNECT)?),
            expiration: Arc::default(),
        })
    }

    /// What the store has said of a rule that will remove manifests.
    pub(crate) fn expiration(&self) -> Option<String> {
        let expiration = self.expiration.lock();
        expiration.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let refused = |error: url::ParseError| HttpError::new(HttpErrorKind::Unknown, error);
        let url: url::Url = parts.uri.to_string().parse().map_err(refused)?;
        let is_manifest = url.path().contains("/_manifest/");
        let mut request = Request::new(parts.method, url);
        request.headers = parts.headers;
        request.body = body.collect().await?.to_bytes();
        let answer = timeout(ANSWER, self.transport.call(request)).await?;
        let answer = answer.map_err(failed)?;
        let expiration = answer.headers.get(EXPIRATION).filter(|_| is_manifest);
        if let Some(expiration) = expiration.and_then(|value| value.to_str().ok()) {
            *self
                .expiration
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(expiration.to_owned());
        }
        let mut response = HttpResponse::new(body_of(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

type Pieces = futures::stream::BoxStream<'static, Result<bytes::Bytes, TransportError>>;

fn body_of(pieces: Pieces) -> HttpResponseBody {
    let frames = futures::stream::unfold(pieces, |mut pieces| async {
        let piece = match timeout(PIECE, pieces.next()).await {
            Ok(piece) => piece?.map_err(failed),
            Err(error) => Err(error),
        };
        Some((piece.map(http_body::Frame::data), pieces))
    });
    HttpResponseBody::new(StreamBody::new(Shared(Mutex::new(frames.fuse().boxed()))))
}

/// A stream that may be shared between threads, of which only one polls it.
struct Shared<T>(Mutex<futures::stream::BoxStream<'static, T>>);

impl<T> futures::Stream for Shared<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        stream.poll_next_unpin(context)
    }
}

async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, HttpError> {
    let late = |_| HttpError::new(HttpErrorKind::Timeout, Late(limit));
    tokio::time::timeout(limit, work).await.map_err(late)
}

/// No answer in time.
#[derive(Debug)]
struct Late(Duration);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", self.0.as_secs())
    }
}

impl std::error::Error for Late {}

fn failed(error: TransportError) -> HttpError {
    let kind = match &error {
        TransportError::Connect { .. }
        | TransportError::ConnectTimeout { .. }
        | TransportError::ProxyConnect { .. }
        | TransportError::ProxyRefused { .. } => HttpErrorKind::Connect,
        TransportError::Timeout(_) => HttpErrorKind::Timeout,
        TransportError::Interrupted(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
