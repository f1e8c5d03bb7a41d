//! What comes of sending a request once, and the memory that it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::time::timeout;

use super::body::Read;
use super::classify::is_cut_off;
use super::client::Inner;
use super::{HeaderMap, RawResponse, Request, Spool, StatusCode, TransportError, body, spool, transport_error};
use crate::endpoint::Lines;
use crate::error::{Error, Result};
use crate::memory::{Hold, Lease, leased};
use crate::mend::mend;

/// How much of an error's body is read.
const ERROR_BODY: usize = 64 << 10;
/// How much longer than what came of it a body is expected to be that had to give way.
const GROWTH: usize = 4;

/// Where the body of a success goes.
#[derive(Clone)]
pub(super) enum Target {
    Memory(Room),
    Spool(Lines),
}

/// The memory that a body goes to.
#[derive(Clone)]
pub(super) struct Room {
    /// What it is read for.
    pub(super) hold: Hold,
    /// How long bodies of this kind were.
    pub(super) usual: Arc<AtomicUsize>,
}

impl Room {
    /// Waits for memory for as long a body as is usual.
    pub(super) async fn ready(&self) -> Lease {
        self.hold.room_for_body(self.usual.load(Ordering::Relaxed)).await
    }

    /// Takes note of a body that gave way when so much had come.
    pub(super) fn gave_way(&self, length: usize) {
        self.usual.fetch_max(length.saturating_mul(GROWTH), Ordering::Relaxed);
    }

    /// Takes note of a body that came whole: the next ones will not be much shorter.
    pub(super) fn came(&self, length: usize) {
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual.store(length.max(usual - usual / 8), Ordering::Relaxed);
    }
}

/// A body read to its end.
pub(super) enum Body {
    Memory(Bytes),
    Spool(Spool),
}

/// A response read to its end.
pub(super) struct Received {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The memory of a body that is held there.
    pub(super) lease: Option<Arc<Lease>>,
    /// True when a refusal came without its end.
    pub(super) broken: bool,
    /// True when the classifier said to take it as a page without records.
    pub(super) is_ignored: bool,
    /// Characters of a body in memory of which only a half had come.
    pub(super) repaired: u64,
}

impl Received {
    /// The body, with the memory that it takes.
    pub(super) fn leased(&self, body: Bytes) -> Bytes {
        match &self.lease {
            Some(lease) if !body.is_empty() => leased(body, Arc::clone(lease)),
            _ => body,
        }
    }
}

/// Why nothing was received.
pub(super) enum Missed {
    Error(Error),
    /// Memory was needed for what is read before; so much had come.
    GaveWay(usize),
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Sends a request once, and reads what comes to its end.
pub(super) async fn receive(client: &Inner, target: &Target, request: Request, lease: Option<&Arc<Lease>>) -> Result<Received, Missed> {
    let idle = client.read_timeout;
    let answer = timeout(idle, client.transport.call(client.mounted(request))).await.map_err(|_| TransportError::Timeout("read"));
    let failed = if let Target::Spool(_) = target { spool::interrupted } else { transport_error };
    let raw: RawResponse = answer.and_then(|answer| answer).map_err(failed)?;
    let (status, headers) = (raw.status, raw.headers.clone());
    if let Target::Spool(lines) = target
        && status.is_success()
    {
        let body = Body::Spool(Spool::write(raw, idle, *lines).await?);
        return Ok(Received { status, headers, body, lease: None, broken: false, is_ignored: false, repaired: 0 });
    }
    let (body, broken) = match lease {
        Some(lease) if status.is_success() => (in_memory(client, raw, lease).await?, false),
        _ => {
            let (body, complete) = match body::decoded(raw, idle, body::IN_MEMORY).await {
                Ok(chunks) => body::read_beginning(chunks, ERROR_BODY).await,
                Err(_) => (Bytes::new(), false),
            };
            let broken = !complete || (body.len() < ERROR_BODY && !body.is_empty() && is_cut_off(&body));
            (body, broken)
        }
    };
    // Before anybody reads it: half a character in its words must not hide what a refusal says.
    let (body, repaired) = mend(body);
    Ok(Received { status, headers, body: Body::Memory(body), lease: lease.cloned(), broken, is_ignored: false, repaired })
}

/// Reads the body of a success.
async fn in_memory(client: &Inner, raw: RawResponse, lease: &Lease) -> Result<Bytes, Missed> {
    let announced = body::announced(&raw.headers);
    let chunks = body::decoded(raw, client.read_timeout, body::IN_MEMORY).await.map_err(transport_error)?;
    match body::read(chunks, client.max_body, announced, lease).await? {
        Read::Whole(body) => Ok(body),
        Read::GaveWay(length) => Err(Missed::GaveWay(length.max(announced))),
    }
}
