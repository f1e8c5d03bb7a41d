//! What comes of sending a request once, and the memory that it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::http::body::{Read, spool};
use crate::http::client::Inner;
use crate::http::client::classify::is_cut_off;
use crate::http::transport::transport_error;
use crate::http::{HeaderMap, RawResponse, Spool, StatusCode, TransportError, body};
use crate::json::lines::Lines;
use crate::json::mend::mend;
use crate::memory::{Hold, Lease, leased};
use crate::message::Request;

/// How much of an error's body is read.
const ERROR_BODY: usize = 64 << 10;
/// How much longer than what came of it a body is expected to be that had to give way.
const GROWTH: usize = 4;

/// Where the body of a success goes.
#[derive(Clone)]
pub(crate) enum Target {
    Memory(Room),
    Spool(Lines),
}

/// The memory that a body goes to.
#[derive(Clone)]
pub(crate) struct Room {
    /// What it is read for.
    pub(crate) hold: Hold,
    /// How long bodies of this kind were.
    pub(crate) usual: Arc<AtomicUsize>,
}

impl Room {
    /// Waits for memory for as long a body as is usual.
    pub(crate) async fn ready(&self) -> Lease {
        self.hold
            .room_for_body(self.usual.load(Ordering::Relaxed))
            .await
    }

    /// Records a body that gave way, and how much of it had come.
    pub(crate) fn gave_way(&self, length: usize) {
        self.usual
            .fetch_max(length.saturating_mul(GROWTH), Ordering::Relaxed);
    }

    /// Records a body that came whole: the next ones will not be much shorter.
    pub(crate) fn came(&self, length: usize) {
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual
            .store(length.max(usual - usual / 8), Ordering::Relaxed);
    }
}

/// A body read to its end.
pub(crate) enum Body {
    Memory(Bytes),
    Spool(Spool),
}

/// A response read to its end.
pub(crate) struct Received {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// The memory of a body that is held there.
    pub(crate) lease: Option<Arc<Lease>>,
    /// True when a refusal came without its end.
    pub(crate) broken: bool,
    /// True when the classifier said to take it as a page without records.
    pub(crate) is_ignored: bool,
    /// Characters of a body in memory of which only a half had come.
    pub(crate) repaired: u64,
}

impl Received {
    /// The body, with the memory that it takes.
    pub(crate) fn leased(&self, body: Bytes) -> Bytes {
        match &self.lease {
            Some(lease) if !body.is_empty() => leased(body, Arc::clone(lease)),
            _ => body,
        }
    }
}

/// Why nothing was received.
pub(crate) enum NotReceived {
    Error(Error),
    /// Memory was needed for what is read before; so much had come.
    GaveWay(usize),
}

impl From<Error> for NotReceived {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Sends a request once, and reads what comes to its end.
pub(crate) async fn receive(
    client: &Inner,
    target: &Target,
    request: Request,
    lease: Option<&Arc<Lease>>,
) -> Result<Received, NotReceived> {
    let idle = client.read_timeout;
    let answer = timeout(idle, client.transport.call(client.mounted(request)))
        .await
        .map_err(|_| TransportError::Timeout("read"));
    let failed = if let Target::Spool(_) = target {
        spool::interrupted
    } else {
        transport_error
    };
    let raw: RawResponse = answer.and_then(|answer| answer).map_err(failed)?;
    let (status, headers) = (raw.status, raw.headers.clone());
    if let Target::Spool(lines) = target
        && status.is_success()
    {
        let body = Body::Spool(Spool::write(raw, idle, *lines).await?);
        return Ok(Received {
            status,
            headers,
            body,
            lease: None,
            broken: false,
            is_ignored: false,
            repaired: 0,
        });
    }
    let (body, broken) = match lease {
        Some(lease) if status.is_success() => (in_memory(client, raw, lease).await?, false),
        _ => {
            let (body, complete) = match body::decoded(raw, idle, body::IN_MEMORY).await {
                Ok(chunks) => body::read_beginning(chunks, ERROR_BODY).await,
                Err(_) => (Bytes::new(), false),
            };
            let broken =
                !complete || (body.len() < ERROR_BODY && !body.is_empty() && is_cut_off(&body));
            (body, broken)
        }
    };
    // Before anybody reads it: half a character in its words must not hide what a refusal says.
    let (body, repaired) = mend(body);
    Ok(Received {
        status,
        headers,
        body: Body::Memory(body),
        lease: lease.cloned(),
        broken,
        is_ignored: false,
        repaired,
    })
}

/// Reads the body of a success.
async fn in_memory(client: &Inner, raw: RawResponse, lease: &Lease) -> Result<Bytes, NotReceived> {
    let announced = body::announced(&raw.headers);
    let chunks = body::decoded(raw, client.read_timeout, body::IN_MEMORY)
        .await
        .map_err(transport_error)?;
    match body::read(chunks, client.max_body, announced, lease).await? {
        Read::Whole(body) => Ok(body),
        Read::GaveWay(length) => Err(NotReceived::GaveWay(length.max(announced))),
    }
}
