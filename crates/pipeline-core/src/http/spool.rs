//! Responses too large for memory: written to a temporary file, proved complete, then read line by line.

use std::io::SeekFrom;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufWriter};

use super::{TransportError, transport_error};
use crate::endpoint::LineCheck;
use crate::error::{Error, ErrorKind, Result};

/// Longest line.
const MAX_LINE: usize = 32 << 20;
/// Size of reads and writes.
const BLOCK: usize = 1 << 20;
/// How much of the beginning a classifier sees.
const BEGINNING: usize = 8 << 10;

/// A complete response on disk, deleted when dropped.
#[derive(Debug)]
pub struct Spool {
    file: File,
    /// Read, but not handed out.
    buffer: BytesMut,
    beginning: Bytes,
    length: u64,
}

impl Spool {
    /// A response without a line.
    pub(super) fn empty() -> Result<Self> {
        let file = File::from_std(tempfile::tempfile().map_err(disk)?);
        Ok(Self { file, buffer: BytesMut::new(), beginning: Bytes::new(), length: 0 })
    }

    /// Writes a body to disk. Every line that is not blank must pass the check.
    pub(super) async fn write(mut chunks: BoxStream<'static, Result<Bytes, TransportError>>, check: LineCheck) -> Result<Self> {
        let mut spool = Self::empty()?;
        let mut writer = BufWriter::with_capacity(BLOCK, &mut spool.file);
        let mut line = BytesMut::new();
        let mut beginning = BytesMut::new();
        while let Some(chunk) = chunks.try_next().await.map_err(transport_error)? {
            writer.write_all(&chunk).await.map_err(disk)?;
            spool.length += chunk.len() as u64;
            beginning.extend_from_slice(&chunk[..chunk.len().min(BEGINNING - beginning.len())]);
            check_lines(&chunk, &mut line, check)?;
        }
        check_line(&line, check)?;
        writer.flush().await.map_err(disk)?;
        spool.file.seek(SeekFrom::Start(0)).await.map_err(disk)?;
        spool.beginning = beginning.freeze();
        Ok(spool)
    }

    /// The next lines, no more than `bytes` of them unless the first is longer, without the last newline; none at the end.
    /// A line is never cut.
    pub async fn next_lines(&mut self, bytes: usize) -> Result<Option<Bytes>> {
        let mut scanned = 0;
        loop {
            if let Some(end) = last_line_end(&self.buffer, bytes, scanned) {
                let lines = self.buffer.split_to(end + 1).freeze();
                return Ok(Some(lines.slice(..end)));
            }
            scanned = self.buffer.len();
            self.buffer.reserve(BLOCK);
            if self.file.read_buf(&mut self.buffer).await.map_err(disk)? == 0 {
                let rest = self.buffer.split().freeze();
                let rest = rest.strip_suffix(b"\n").map_or(rest.clone(), |lines| rest.slice_ref(lines));
                return Ok(Some(rest).filter(|rest| !rest.is_empty()));
            }
        }
    }

    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

/// Where the last line ends that fits into `bytes`, or else the first one beyond. The first `scanned` bytes were too few.
fn last_line_end(buffer: &[u8], bytes: usize, scanned: usize) -> Option<usize> {
    let (within, beyond) = buffer.split_at_checked(bytes)?;
    let end = if scanned < bytes { memchr::memrchr(b'\n', within) } else { None };
    let from = scanned.saturating_sub(bytes);
    end.or_else(|| Some(bytes + from + memchr::memchr(b'\n', &beyond[from..])?))
}

/// Cuts at byte 0x0A only: other line separators are legal inside JSON strings.
fn check_lines(chunk: &[u8], line: &mut BytesMut, check: LineCheck) -> Result<()> {
    let mut rest = chunk;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        if line.is_empty() {
            check_line(&rest[..end], check)?;
        } else {
            line.extend_from_slice(&rest[..end]);
            check_line(line, check)?;
            line.clear();
        }
        rest = &rest[end + 1..];
    }
    line.extend_from_slice(rest);
    if line.len() > MAX_LINE {
        return Err(Error::new(ErrorKind::Decode, format!("a line of the response is longer than {} MiB", MAX_LINE >> 20)));
    }
    Ok(())
}

fn check_line(line: &[u8], check: LineCheck) -> Result<()> {
    let line = line.trim_ascii();
    if line.is_empty() { Ok(()) } else { check(line) }
}

fn disk(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unexpected, "the response cannot be kept in a temporary file")
        .with_help("see that the temporary directory exists, is writable and has room")
        .with_source(error)
}
