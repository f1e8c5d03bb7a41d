//! Responses too large for memory: written to a temporary file as they come, proved complete, then
//! read line by line.

use std::io::{self, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use tokio_util::io::ReaderStream;

use crate::error::{Error, ErrorKind, Result};
use crate::http::transport::transport_error;
use crate::http::{HeaderMap, RawResponse, TransportError, body};
use crate::json::lines::Lines;
use crate::json::mend::{mend, mended};
use crate::memory::Hold;

/// Longest line.
const MAX_LINE: usize = 32 << 20;
/// Length from which a line that has not ended takes memory that others may need.
const LONG_LINE: usize = 1 << 20;
/// Size of reads and writes.
const BLOCK: usize = 1 << 20;
/// How much of the beginning a classifier sees.
const BEGINNING: usize = 8 << 10;

type Chunks = BoxStream<'static, Result<Bytes, TransportError>>;

/// A complete response on disk, compressed as the vendor sent it, deleted when dropped.
pub struct Spool {
    /// The body, decompressed while it is read. Never locked: it lets the spool be shared between
    /// threads.
    chunks: Mutex<Chunks>,
    /// Read, but not handed out.
    buffer: BytesMut,
    beginning: Bytes,
    length: u64,
    /// Characters of which only a half had come.
    repaired: u64,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool")
            .field("bytes", &self.length)
            .finish_non_exhaustive()
    }
}

impl Spool {
    /// A response without a line.
    pub(crate) fn empty() -> Self {
        Self {
            chunks: Mutex::new(stream::empty().boxed()),
            buffer: BytesMut::new(),
            beginning: Bytes::new(),
            length: 0,
            repaired: 0,
        }
    }

    /// Writes a body to disk as it is on the wire, and judges its lines on the way. No piece comes
    /// later than `idle` after the one before.
    pub(crate) async fn write(raw: RawResponse, idle: Duration, lines: Lines) -> Result<Self> {
        let headers = raw.headers.clone();
        let (copy, raw) = copied(raw)?;
        let read = judge(raw, idle, lines).await;
        let (file, failure) = {
            let mut copy = copy.lock().await;
            let flushed = copy.file.flush().await;
            (
                copy.file.get_ref().try_clone().await.map_err(disk)?,
                copy.failure.take().or_else(|| flushed.err()),
            )
        };
        // The body also ends where the disk is full.
        if let Some(failure) = failure {
            return Err(disk(failure));
        }
        let Judged {
            beginning,
            length,
            repaired,
        } = read?;
        Ok(Self {
            chunks: Mutex::new(reread(file, &headers).await?),
            buffer: BytesMut::new(),
            beginning,
            length,
            repaired,
        })
    }

    /// The next lines, no more than `bytes` of them unless the first is longer, without the last
    /// newline; none at the end. A line is never cut. Halves of surrogate pairs are U+FFFD in it.
    pub async fn next_lines(&mut self, bytes: usize) -> Result<Option<Bytes>> {
        let mut scanned = 0;
        loop {
            if let Some(end) = last_line_end(&self.buffer, bytes, scanned) {
                let lines = self.buffer.split_to(end + 1).freeze();
                return Ok(Some(mend(lines.slice(..end)).0));
            }
            scanned = self.buffer.len();
            let chunks = self
                .chunks
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            let Some(chunk) = chunks
                .try_next()
                .await
                .map_err(|error| disk(io::Error::other(error)))?
            else {
                let rest = self.buffer.split().freeze();
                let rest = rest
                    .strip_suffix(b"\n")
                    .map_or(rest.clone(), |lines| rest.slice_ref(lines));
                return Ok(Some(mend(rest).0).filter(|rest| !rest.is_empty()));
            };
            self.buffer.reserve(if self.buffer.is_empty() {
                bytes + chunk.len()
            } else {
                chunk.len()
            });
            self.buffer.extend_from_slice(&chunk);
        }
    }

    pub(crate) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Halves of characters that its lines do not have any more.
    pub(crate) fn repaired(&self) -> u64 {
        self.repaired
    }
}

/// The file that a body is copied to while it is read.
struct Copy {
    file: BufWriter<File>,
    failure: Option<io::Error>,
}

/// A body that leaves a copy on disk.
fn copied(raw: RawResponse) -> Result<(Arc<tokio::sync::Mutex<Copy>>, RawResponse)> {
    let file = File::from_std(tempfile::tempfile().map_err(disk)?);
    let copy = Arc::new(tokio::sync::Mutex::new(Copy {
        file: BufWriter::with_capacity(BLOCK, file),
        failure: None,
    }));
    let target = Arc::clone(&copy);
    let body = raw.body.and_then(move |chunk| {
        let target = Arc::clone(&target);
        async move {
            let mut target = target.lock().await;
            if let Err(error) = target.file.write_all(&chunk).await {
                target.failure = Some(error);
                return Err(TransportError::Interrupted("the disk refused it".into()));
            }
            Ok(chunk)
        }
    });
    Ok((
        copy,
        RawResponse {
            body: body.boxed(),
            ..raw
        },
    ))
}

/// What is known of a body that was read to its end.
struct Judged {
    beginning: Bytes,
    /// How long it is, decompressed.
    length: u64,
    repaired: u64,
}

/// Reads a body to its end.
async fn judge(raw: RawResponse, idle: Duration, lines: Lines) -> Result<Judged> {
    let mut chunks = body::decoded(raw, idle, body::TO_DISK)
        .await
        .map_err(interrupted)?;
    let most = lines.most;
    let mut judge = Judge::new(lines);
    let mut beginning = BytesMut::new();
    let mut length = 0;
    let lease = Hold::current().lease();
    while let Some(chunk) = chunks.try_next().await.map_err(interrupted)? {
        length += chunk.len() as u64;
        if length > most {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "the answer is larger than it should be",
            ));
        }
        beginning.extend_from_slice(&chunk[..chunk.len().min(BEGINNING - beginning.len())]);
        if beginning.first() == Some(&b'<') {
            // A web page instead of lines: the classifier decides.
            break;
        }
        // Lines of an ordinary length are not counted.
        if judge.line.len() > LONG_LINE {
            lease.grow_patiently(judge.line.len() + chunk.len()).await?;
        }
        judge.chunk(&chunk)?;
        lease.shrink(judge.line.len());
    }
    Ok(Judged {
        beginning: beginning.freeze(),
        length,
        repaired: judge.end()?,
    })
}

/// The copy, from its beginning. It was read once, so that no limit of the network applies.
async fn reread(mut file: File, headers: &HeaderMap) -> Result<Chunks> {
    file.seek(SeekFrom::Start(0)).await.map_err(disk)?;
    let wire = ReaderStream::with_capacity(file, BLOCK).boxed();
    body::decompressed(headers, wire)
        .await
        .map_err(transport_error)
}

/// An answer that stops coming is one that the vendor cannot finish: a smaller one may come whole.
pub(crate) fn interrupted(error: TransportError) -> Error {
    match error {
        TransportError::Timeout(_) => Error::new(ErrorKind::TooLarge, error.to_string())
            .temporary()
            .with_source(error),
        error => transport_error(error),
    }
}

/// Where the last line ends that fits into `bytes`, or else the first one beyond. The first
/// `scanned` bytes were too few.
fn last_line_end(buffer: &[u8], bytes: usize, scanned: usize) -> Option<usize> {
    let (within, beyond) = buffer.split_at_checked(bytes)?;
    let end = if scanned < bytes {
        memchr::memrchr(b'\n', within)
    } else {
        None
    };
    let from = scanned.saturating_sub(bytes);
    end.or_else(|| Some(bytes + from + memchr::memchr(b'\n', &beyond[from..])?))
}

/// Judges the lines of a body.
struct Judge {
    lines: Lines,
    /// The beginning of a line whose end has not come.
    line: BytesMut,
    /// Lines seen.
    number: u64,
    /// Malformed lines that others came after.
    malformed: u64,
    /// Malformed lines that no other came after yet, and what is wrong with the first.
    last: u64,
    error: Option<Error>,
    repaired: u64,
}

impl Judge {
    fn new(lines: Lines) -> Self {
        Self {
            lines,
            line: BytesMut::new(),
            number: 0,
            malformed: 0,
            last: 0,
            error: None,
            repaired: 0,
        }
    }

    /// Cuts at byte 0x0A only: other line separators are legal inside JSON strings.
    fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if self.line.is_empty() {
                self.line(&rest[..end])?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..end]);
                self.line(&line)?;
                line.clear();
                self.line = line;
            }
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > MAX_LINE {
            let message = format!(
                "a line of the response is longer than {} MiB",
                MAX_LINE >> 20
            );
            return Err(Error::new(ErrorKind::Decode, message)
                .with_context("line", (self.number + 1).to_string()));
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        self.number += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let (line, repaired) = mended(line);
        self.repaired += repaired;
        match (self.lines.check)(&line) {
            Ok(()) => {
                self.malformed += std::mem::take(&mut self.last);
                let error = self
                    .error
                    .take()
                    .filter(|_| self.malformed > u64::from(self.lines.malformed));
                error.map_or(Ok(()), Err)
            }
            Err(error) if error.kind() == ErrorKind::Decode && !error.is_temporary() => {
                self.last += 1;
                let error = self.located(error);
                self.error.get_or_insert(error);
                Ok(())
            }
            Err(error) => Err(self.located(error)),
        }
    }

    /// A response whose last line is malformed was cut off.
    fn end(mut self) -> Result<u64> {
        let line = std::mem::take(&mut self.line);
        self.line(&line)?;
        let cut_off = |error| {
            Error::new(ErrorKind::Decode, "the response ends within a line")
                .temporary()
                .with_source(error)
        };
        self.error
            .map_or(Ok(self.repaired), |error| Err(cut_off(error)))
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("line", self.number.to_string())
    }
}

fn disk(error: io::Error) -> Error {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    let message = if is_full {
        "the disk of temporary files is full"
    } else {
        "the response cannot be kept in a temporary file"
    };
    Error::new(ErrorKind::Disk, message)
        .with_help(
            "a large response is kept there, compressed, until it is loaded: make room, or set \
             TMPDIR to a folder that has some",
        )
        .with_source(error)
}
