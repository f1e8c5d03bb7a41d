//! Tests of the HTTP client on a scripted transport and paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]

mod bodies;
mod breaker;
mod faults;
mod headers;
mod ledger;
mod lifecycle;
mod limits;
mod oauth;
mod secrets;
#[cfg(feature = "reqwest")]
mod socket;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::clock::TokioClock;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::http::*;
use crate::rate_limit::*;

type Script = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// Answers by a function of the number of the request, from 0.
pub(super) struct Scripted {
    script: Box<Script>,
    latency: Duration,
    pub(super) seen: Mutex<Vec<(Instant, Request)>>,
}

/// What comes of a request.
pub(super) enum Reply {
    Answer(u16, Vec<(&'static str, String)>, Vec<Piece>),
    Broken(TransportError),
    Hang,
}

/// A piece of a body.
pub(super) enum Piece {
    Data(Bytes),
    Pause(Duration),
    Break,
}

impl Reply {
    pub(super) fn json(body: impl Into<Bytes>) -> Self {
        Self::status(200, body)
    }

    pub(super) fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Answer(status, Vec::new(), vec![Piece::Data(body.into())])
    }

    pub(super) fn pieces(pieces: Vec<Piece>) -> Self {
        Self::Answer(200, Vec::new(), pieces)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Answer(_, headers, _) = &mut self {
            headers.push((name, value.into()));
        }
        self
    }

    pub(super) fn refused() -> Self {
        Self::Broken(TransportError::Connect {
            host: "api.test".into(),
            source: "connection refused".into(),
        })
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(super) fn new(
        script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::slow(Duration::ZERO, script)
    }

    pub(super) fn slow(
        latency: Duration,
        script: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            latency,
            seen: Mutex::default(),
        })
    }

    /// One answer after the other; the last for ever.
    pub(super) fn sequence(replies: Vec<fn() -> Reply>) -> Arc<Self> {
        Self::new(move |n, _| replies[n.min(replies.len() - 1)]())
    }

    pub(super) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

#[async_trait]
impl HttpService for Scripted {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.push((Instant::now(), request.clone()));
            seen.len() - 1
        };
        sleep(self.latency).await;
        match (self.script)(number, &request) {
            Reply::Hang => std::future::pending().await,
            Reply::Broken(error) => Err(error),
            Reply::Answer(status, pairs, pieces) => {
                let mut headers = HeaderMap::new();
                for (name, value) in pairs {
                    headers.append(name, value.parse().unwrap());
                }
                let body = futures::stream::iter(pieces).filter_map(|piece| async {
                    match piece {
                        Piece::Data(data) => Some(Ok(data)),
                        Piece::Break => {
                            Some(Err(TransportError::Interrupted("reset by peer".into())))
                        }
                        Piece::Pause(pause) => {
                            sleep(pause).await;
                            None
                        }
                    }
                });
                Ok(RawResponse {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers,
                    body: Box::pin(body),
                })
            }
        }
    }
}

/// Writes events down.
#[derive(Debug, Default)]
pub(super) struct Events(pub(super) Mutex<Vec<String>>);

impl Observer for Events {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

pub(super) fn context(transport: &Arc<Scripted>) -> BuildContext {
    let transport: Arc<dyn HttpService> = Arc::clone(transport) as _;
    let clock = Arc::new(TokioClock::starting_at(
        "2026-01-01T00:00:00Z".parse().unwrap(),
    ));
    BuildContext {
        source: "test".into(),
        transport: Some(transport),
        clock,
        seed: Some(7),
        ..BuildContext::default()
    }
}

pub(super) fn base() -> Url {
    Url::parse("https://api.test").unwrap()
}

pub(super) fn client(transport: &Arc<Scripted>) -> HttpClient {
    HttpClient::builder(&context(transport), base())
        .build()
        .unwrap()
}

pub(super) fn request() -> Request {
    Request::new(Method::GET, base().join("v1/things").unwrap())
}

pub(super) const NO_LIMIT: Call<'static> = Call {
    endpoint: "things",
    buckets: &[],
};
pub(super) const LIMITED: Call<'static> = Call {
    endpoint: "things",
    buckets: &[Cow::Borrowed("read")],
};

pub(super) async fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzipEncoder::new(data).read_to_end(&mut out).await.unwrap();
    out
}

pub(super) async fn zstd(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ZstdEncoder::new(data).read_to_end(&mut out).await.unwrap();
    out
}
