//! How a list is walked: pure functions from a position to a request and from a page to the next
//! position.
//!
//! A paginator holds no state and does no IO. The state *is* the position, so every page boundary
//! is a place to stop.

use std::fmt::Debug;

use crate::error::{Error, ErrorKind, Result};
use crate::http::HeaderMap;
use crate::message::Request;
use crate::model::record::{Advance, Envelope, RawRecord};
use crate::model::state::Position;

mod counted;
mod cursors;
mod links;
mod offsets;
#[cfg(test)]
mod tests;

pub use counted::Counted;
pub use cursors::{AfterLastId, CursorField, More, SinglePage, WindowCursor};
pub use links::{LinkHeader, NextUrl};
pub use offsets::{Offset, PageNumber};

/// What a paginator sees of a page.
#[derive(Debug)]
pub struct PageView<'a> {
    /// The request that was sent, with everything the paginator applied to it.
    pub request: &'a Request,
    /// The response's headers.
    pub headers: &'a HeaderMap,
    /// The response's top-level members.
    pub envelope: &'a Envelope,
    /// The records of the endpoint's first stream.
    pub records: &'a [RawRecord],
    /// How many of them did not come before, of a list that [counts](Paginator::counts); of others
    /// all of them.
    pub fresh: usize,
}

/// Walks one kind of list.
pub trait Paginator: Send + Sync + Debug {
    /// Makes `request` ask for the page at `at`.
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()>;

    /// Says what follows the page that was read at `at`.
    ///
    /// * Believes the signal that the vendor documents, never that a short page is the last.
    /// * Fails with [`ErrorKind::Decode`] when the signal is missing or contradicts itself.
    /// * The caller refuses a position that does not move.
    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance>;

    /// An earlier position to resume from without gap or repetition when the vendor refuses `at`,
    /// such as when the record that it names was deleted.
    fn recover(&self, at: &Position) -> Option<Position> {
        let _ = at;
        None
    }

    /// True when what it walks is a list, so that one object in its place is an error. False where
    /// an answer can be one record.
    fn expects_list(&self) -> bool {
        true
    }

    /// True when rows can move between pages while the list is read, so that a page may repeat rows
    /// of the one before.
    fn shifts(&self) -> bool {
        false
    }

    /// True when a page that `next` follows may hold the very records of the page before. Elsewhere
    /// such a page is requested again, and the list fails when it stays so: a cache has answered,
    /// and the records behind it would be lost.
    fn may_repeat(&self, next: &Advance) -> bool {
        let _ = next;
        false
    }

    /// True when it compares the number of different records with what the vendor counts.
    fn counts(&self) -> bool {
        false
    }

    /// How often the list was begun anew before `at`: each time, every record may come once more.
    fn round(&self, at: &Position) -> u32 {
        let _ = at;
        0
    }
}

/// The error for a list that does not move, instead of an endless loop.
pub(crate) fn not_advancing(position: &str) -> Error {
    let shown: String = position.chars().take(80).collect();
    Error::new(
        ErrorKind::Decode,
        "the list does not advance: the next page is at the position just read",
    )
    .with_context("position", shown)
    .with_help("the vendor's pagination is faulty; run again later, and report it if it stays so")
}

/// The position as text, if there is one yet.
fn current(at: &Position) -> Option<&str> {
    match at {
        Position::At(text) => Some(text),
        Position::Start | Position::End => None,
    }
}
