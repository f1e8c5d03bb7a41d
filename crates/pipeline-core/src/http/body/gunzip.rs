//! Decompresses gzip as it comes, straight into the pieces that are handed on.

use std::io;

use bytes::{Buf as _, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use futures::stream::{self, BoxStream, Stream, TryStreamExt};

use crate::http::body::{CHUNK, USUAL_RATIO};

/// Bytes of the window, as a power of two, that any gzip file may use.
const WINDOW: u8 = 15;

/// The text of a gzip file, of however many members. Ends with an error when the file is damaged or
/// cut off.
pub(crate) fn gunzipped(
    wire: BoxStream<'static, io::Result<Bytes>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let file = Gunzip {
        wire,
        input: Bytes::new(),
        member: Decompress::new_gzip(WINDOW),
        has_ended: false,
        has_more: false,
    };
    stream::try_unfold(file, |mut file| async move {
        Ok(file.next().await?.map(|piece| (piece, file)))
    })
}

struct Gunzip {
    wire: BoxStream<'static, io::Result<Bytes>>,
    /// What came and is not decompressed yet.
    input: Bytes,
    member: Decompress,
    /// True when the member is complete.
    has_ended: bool,
    /// True when the member filled the last piece, so that there may be more without further input.
    has_more: bool,
}

impl Gunzip {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.input.is_empty() && !self.has_more {
                match self.wire.try_next().await? {
                    Some(chunk) => self.input = chunk,
                    None if self.has_ended => return Ok(None),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
            let piece = self.piece()?;
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
    }

    fn piece(&mut self) -> io::Result<Vec<u8>> {
        if self.has_ended {
            self.member = Decompress::new_gzip(WINDOW);
        }
        let mut piece =
            Vec::with_capacity((self.input.len() * USUAL_RATIO).clamp(CHUNK, 8 * CHUNK));
        let before = self.member.total_in();
        let status = self
            .member
            .decompress_vec(&self.input, &mut piece, FlushDecompress::None)?;
        self.input
            .advance(usize::try_from(self.member.total_in() - before).unwrap_or(usize::MAX));
        self.has_ended = status == Status::StreamEnd;
        self.has_more = !self.has_ended && piece.len() == piece.capacity();
        Ok(piece)
    }
}
