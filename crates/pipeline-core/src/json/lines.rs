//! How a response body is cut into records, and when one that is cut into lines is complete.

use crate::error::Result;

/// How a response body is cut into records.
#[derive(Clone, Copy, Debug, Default)]
pub enum BodyFormat {
    /// One JSON document.
    #[default]
    Json,
    /// One JSON document a line, for responses too large for memory. The whole response is proved
    /// complete on disk before its first record counts.
    Ndjson(Lines),
}

/// Judges a line that is not blank. A permanent error of the kind
/// [`Decode`](crate::ErrorKind::Decode): the line is malformed; if it is the last one, the response
/// was cut off. Any other error is one of the whole response, which is asked for again if it is
/// temporary.
pub type LineCheck = fn(&[u8]) -> Result<()>;

/// What the lines of a response must be like for it to count as complete.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// Judges each of them.
    pub check: LineCheck,
    /// Malformed lines that are passed on for others to reject; with one more the response fails,
    /// naming the first.
    pub malformed: u32,
    /// Bytes, not compressed, that a response may have; one with more is given up as [too
    /// large](crate::ErrorKind::TooLarge), so that less is asked for.
    pub most: u64,
}
