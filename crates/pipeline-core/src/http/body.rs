//! Reads response bodies: decompression, and the limits that keep a hostile or broken one from
//! taking memory or time.

mod gunzip;
pub(crate) mod spool;

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_compression::tokio::bufread::ZstdDecoder;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use tokio::time::{Instant, timeout};
use tokio_util::io::{ReaderStream, StreamReader};

pub use self::spool::Spool;
use crate::error::Result;
use crate::http::body::gunzip::gunzipped;
use crate::http::transport::transport_error;
use crate::http::{HeaderMap, RawResponse, TransportError};
use crate::memory::{BODY_FACTOR, Lease};

/// What requests say that they can read.
pub(crate) const ACCEPT_ENCODING: &str = "gzip, zstd";
/// How far a body may expand, once it is larger than [`RATIO_FROM`].
const MAX_RATIO: u64 = 1000;
/// Size from which the ratio counts.
const RATIO_FROM: u64 = 1 << 20;
/// The pace of a body that is held in memory, for which there is a total time as well: 1 KiB a
/// minute.
pub(crate) const IN_MEMORY: Pace = Pace {
    window: Duration::from_mins(1),
    bytes: 1 << 10,
};
/// The pace of a body that is written to disk, which may take as long as it will: 1 KiB a second,
/// in spans long enough for a vendor that computes in between.
pub(crate) const TO_DISK: Pace = Pace {
    window: Duration::from_mins(5),
    bytes: 300 << 10,
};
/// The most memory that is taken for a body before any of it has come.
const MAX_ANNOUNCED: usize = 4 << 20;
/// How far pretty-printed JSON expands.
pub(crate) const USUAL_RATIO: usize = 12;
/// First bytes of compressed bodies.
const ZSTD: u8 = 0x28;
const GZIP: u8 = 0x1f;
/// Size of the pieces in which a decompressed body comes.
pub(crate) const CHUNK: usize = 64 << 10;

/// How fast a body must come at least: this number of bytes in every such span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    window: Duration,
    bytes: u64,
}

/// What came of reading a body into memory.
pub(crate) enum Read {
    Whole(Bytes),
    /// Others need the memory, and what was read is dropped: how much that was.
    GaveWay(usize),
}

type Chunks = BoxStream<'static, Result<Bytes, TransportError>>;
type Wire = BoxStream<'static, io::Result<Bytes>>;

/// The size that a body's headers let expect, as far as memory is given for a promise; 0 when they
/// mean nothing.
pub(crate) fn announced(headers: &HeaderMap) -> usize {
    let length: Option<usize> = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let factor = if headers.contains_key(CONTENT_ENCODING) {
        USUAL_RATIO
    } else {
        1
    };
    length
        .unwrap_or(0)
        .saturating_mul(factor)
        .min(MAX_ANNOUNCED)
}

/// Reads a body into memory, as far as there is some for it. What is `announced` need not be moved
/// as it grows.
pub(crate) async fn read(
    mut chunks: Chunks,
    max: u64,
    announced: usize,
    lease: &Lease,
) -> Result<Read> {
    // A body that comes in one piece need not be copied.
    let (mut whole, mut body) = (Bytes::new(), BytesMut::new());
    while let Some(chunk) = chunks.try_next().await.map_err(transport_error)? {
        let length = whole.len() + body.len();
        if (length + chunk.len()) as u64 > max {
            return Err(transport_error(too_large(format!("{} MiB", max >> 20))));
        }
        if !lease
            .grow((length + chunk.len()).saturating_mul(BODY_FACTOR))
            .await?
        {
            return Ok(Read::GaveWay(length + chunk.len()));
        }
        if whole.is_empty() && body.is_empty() {
            whole = chunk;
            continue;
        }
        if body.is_empty() {
            body.reserve(announced.min(lease.bytes() / BODY_FACTOR));
            body.extend_from_slice(&std::mem::take(&mut whole));
        }
        body.extend_from_slice(&chunk);
    }
    let body = if body.is_empty() {
        whole
    } else {
        body.freeze()
    };
    lease.shrink(body.len() * BODY_FACTOR);
    Ok(Read::Whole(body))
}

/// Reads what there is of a body, up to a size: an error's text is useful even when it is cut off.
/// Says whether all of it, or as much as is wanted, was there.
pub(crate) async fn read_beginning(mut chunks: Chunks, max: usize) -> (Bytes, bool) {
    let mut body = BytesMut::new();
    loop {
        match chunks.try_next().await {
            Ok(Some(chunk)) => {
                let room = max - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == max {
                    return (body.freeze(), true);
                }
            }
            outcome => return (body.freeze(), outcome.is_ok()),
        }
    }
}

/// The decompressed body, in pieces. No piece comes later than `idle` after the one before, nor all
/// of them more slowly than the pace.
pub(crate) async fn decoded(
    raw: RawResponse,
    idle: Duration,
    pace: Pace,
) -> Result<Chunks, TransportError> {
    let received = Arc::new(AtomicU64::new(0));
    let wire = guarded(raw.body, idle, pace, Arc::clone(&received)).map_err(io::Error::other);
    Ok(within_ratio(
        Box::pin(decompressed(&raw.headers, wire.boxed())).await?,
        received,
    ))
}

/// What was sent with these headers, decompressed.
pub(crate) async fn decompressed(
    headers: &HeaderMap,
    wire: Wire,
) -> Result<Chunks, TransportError> {
    let wire = wire.try_filter(|chunk| ready(!chunk.is_empty())).boxed();
    if let Some(unknown) = codings(headers).find(|coding| {
        !matches!(
            coding.as_str(),
            "gzip" | "x-gzip" | "zstd" | "identity" | ""
        )
    }) {
        let unsupported = io::Error::new(
            io::ErrorKind::Unsupported,
            format!("content encoding `{unknown}`"),
        );
        return Err(TransportError::Encoding(unsupported.into()));
    }
    let (mut first, mut wire) = peeked(wire).await?;
    if first == Some(ZSTD) && codings(headers).any(|coding| coding == "zstd") {
        let mut decoder = ZstdDecoder::new(StreamReader::new(wire));
        decoder.multiple_members(true);
        (first, wire) = peeked(ReaderStream::with_capacity(decoder, CHUNK).boxed()).await?;
    }
    // No text that an API sends begins with gzip's first byte, so the content decides, not the
    // header: bodies come compressed without saying so, plain in spite of saying so, and compressed
    // twice.
    for _ in 0..2 {
        if first == Some(GZIP) {
            (first, wire) = peeked(gunzipped(wire).boxed()).await?;
        }
    }
    Ok(wire.map_err(from_io).boxed())
}

/// The first byte, and everything from it on.
async fn peeked(mut wire: Wire) -> Result<(Option<u8>, Wire), TransportError> {
    let beginning = wire.try_next().await.map_err(from_io)?;
    let first = beginning
        .as_deref()
        .and_then(|bytes| bytes.first().copied());
    Ok((first, stream::iter(beginning.map(Ok)).chain(wire).boxed()))
}

fn codings(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    let values = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    values.flat_map(|value| {
        value
            .split(',')
            .map(|coding| coding.trim().to_owned())
            .collect::<Vec<_>>()
    })
}

/// Ends a body that stalls or trickles, and counts its bytes. Time that passes while no caller asks
/// for more does not count.
fn guarded(
    body: Chunks,
    idle: Duration,
    pace: Pace,
    received: Arc<AtomicU64>,
) -> impl stream::Stream<Item = Result<Bytes, TransportError>> {
    let window = pace.window.max(idle);
    stream::try_unfold(
        (body, Duration::ZERO, 0),
        move |(mut body, mut spent, mut progress)| {
            let received = Arc::clone(&received);
            async move {
                let asked = Instant::now();
                let next = timeout(idle, body.try_next())
                    .await
                    .map_err(|_| TransportError::Timeout("read"))?;
                let Some(chunk) = next? else { return Ok(None) };
                received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                progress += chunk.len() as u64;
                spent += asked.elapsed();
                if spent >= window {
                    if progress < pace.bytes {
                        return Err(TransportError::Timeout("progress"));
                    }
                    (spent, progress) = (Duration::ZERO, 0);
                }
                Ok(Some((chunk, (body, spent, progress))))
            }
        },
    )
}

fn within_ratio(chunks: Chunks, received: Arc<AtomicU64>) -> Chunks {
    let mut expanded = 0;
    let check = move |chunk: Bytes| {
        expanded += chunk.len() as u64;
        let allowed = received
            .load(Ordering::Relaxed)
            .saturating_mul(MAX_RATIO)
            .max(RATIO_FROM);
        if expanded > allowed {
            Err(too_large(format!("a compression ratio of {MAX_RATIO}")))
        } else {
            Ok(chunk)
        }
    };
    let mut check = check;
    chunks.map(move |chunk| chunk.and_then(&mut check)).boxed()
}

fn too_large(limit: String) -> TransportError {
    TransportError::TooLarge { limit }
}

/// Takes our own error out of the reader's, or says what the decoder found.
fn from_io(error: io::Error) -> TransportError {
    let cut_off = error.kind() == io::ErrorKind::UnexpectedEof;
    match error.downcast::<TransportError>() {
        Ok(error) => error,
        Err(error) if cut_off => TransportError::Interrupted(error.into()),
        Err(error) => TransportError::Encoding(error.into()),
    }
}
