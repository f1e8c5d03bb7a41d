//! Where a walk through a list is, and what it needs to notice that it goes nowhere.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use twox_hash::XxHash3_128;

use super::distinct::Distinct;
use super::fingerprint;
use crate::connector::Endpoint;
use crate::connector::paginate::not_advancing;
use crate::error::{Error, ErrorKind, Result};
use crate::model::record::{Advance, Page, RawRecord};
use crate::model::state::{Position, SliceState};

/// Pages without a record, one after another, before a list counts as broken.
const MAX_EMPTY_PAGES: u32 = 100;

/// Pages in a row that came before, under new cursors, before a list counts as broken.
const MAX_REPEATED_PAGES: u32 = 3;

/// Pages in a row that the list sent before, beyond as many as there are different ones: a list
/// that is read twice, to find what it left out, repeats each of them once.
const MAX_FAMILIAR_PAGES: usize = 100;

/// Positions, and pages, remembered in order to notice that a list runs in a circle.
const MAX_REMEMBERED_POSITIONS: usize = 100_000;

/// A walk from page to page.
pub(super) struct Walk {
    pub(super) slice: SliceState,
    pub(super) position: Position,
    pub(super) empty_pages: u32,
    /// The records so far, of a list that is counted.
    pub(super) distinct: Distinct,
    visited: HashSet<u64>,
    /// What the page before looked like.
    previous: Option<u64>,
    repeated_pages: u32,
    /// What all pages looked like.
    pages: HashSet<u64>,
    /// Pages in a row that looked like an earlier one.
    familiar_pages: usize,
    /// The same of the pages since the list was last begun: those that none may repeat.
    sent: HashSet<u64>,
    /// How often it was begun anew until then.
    round: u32,
    /// The cursor value of the last record so far, of a list that comes newest first; none: nothing
    /// can be compared.
    watermark: Option<DateTime<Utc>>,
    /// True for a list that is not in the order which it should have.
    is_unordered: bool,
}

impl Walk {
    /// A walk that begins at the slice's position, or at the start of a list that was being read
    /// once more: what an earlier run has seen of it cannot be compared with what comes.
    pub(super) fn of(endpoint: &Endpoint, slice: SliceState) -> Self {
        let is_again = endpoint.paginator.round(&slice.position) > 0;
        Self::from(if is_again {
            SliceState {
                position: Position::Start,
                watermark: None,
                ..slice
            }
        } else {
            slice
        })
    }

    /// A walk that begins at the slice's position.
    pub(super) fn from(slice: SliceState) -> Self {
        let watermark = slice
            .watermark
            .filter(|_| matches!(slice.position, Position::At(_)));
        Self {
            position: slice.position.clone(),
            slice,
            empty_pages: 0,
            distinct: Distinct::default(),
            visited: HashSet::new(),
            previous: None,
            repeated_pages: 0,
            pages: HashSet::new(),
            familiar_pages: 0,
            sent: HashSet::new(),
            round: 0,
            watermark,
            is_unordered: false,
        }
    }

    /// Takes note that the position was read as it is now: the vendor may have refused the one that
    /// was asked for.
    pub(super) fn has_read(&mut self, endpoint: &Endpoint, asked: &Position) {
        let round = endpoint.paginator.round(&self.position);
        if round != self.round || *asked != self.position {
            // What came before may come again.
            self.sent.clear();
            self.previous = None;
            self.round = round;
        }
    }

    /// True for a page that was sent before, in the place of another one: its cursor must not be
    /// believed.
    ///
    /// Where a page may repeat the one before, it still repeats no earlier one.
    pub(super) fn is_repeated(&self, endpoint: &Endpoint, page: &Page) -> bool {
        let Some(digest) = page.digest else {
            return false;
        };
        let is_natural = || {
            let is_previous = self.previous == Some(digest) || self.previous.is_none();
            is_previous
                && page
                    .advance
                    .as_ref()
                    .is_some_and(|next| endpoint.paginator.may_repeat(next))
        };
        let was_doubted = || {
            self.slice.position == self.position
                && self.slice.doubted == Some(mark(digest, &self.position))
        };
        (self.sent.contains(&digest) || was_doubted()) && !is_natural()
    }

    /// The error for a page that stays one that was sent before.
    pub(super) fn repeated(&self, page: &Page) -> Error {
        let error = Error::new(ErrorKind::Decode, "the list sent an earlier page in the place of the next one, each time it was requested")
            .with_help("nothing behind that page counts as read; run again later, and report it to the vendor if it persists");
        page.digest
            .map(|digest| mark(digest, &self.position))
            .into_iter()
            .fold(error.temporary().persistent(), Error::doubting)
    }

    /// True for a page that cannot be what follows the one before: in a list that comes newest
    /// first its first record is newer than the last one before it, or it is of another window than
    /// the one that was asked for.
    pub(super) fn is_out_of_place(&self, endpoint: &Endpoint, page: &Page) -> bool {
        // Pages that several walks share are kept: to ask again would bring the same.
        let is_foreign =
            || self.is_newer(endpoint, page) || self.is_of_another_window(endpoint, page);
        endpoint.cache_pages.is_none() && !self.is_unordered && is_foreign()
    }

    fn is_newer(&self, endpoint: &Endpoint, page: &Page) -> bool {
        let first = || endpoint.cursor_of(page.records.first()?.first()?);
        endpoint.slicer.is_newest_first()
            && self
                .watermark
                .is_some_and(|watermark| first().is_some_and(|first| first > watermark))
    }

    fn is_of_another_window(&self, endpoint: &Endpoint, page: &Page) -> bool {
        // One that has no filter ends with a page that reaches behind its window.
        let is_filtered = endpoint.slicer.is_newest_first() && !endpoint.newest_first;
        let Some((window, records)) = self
            .slice
            .window
            .filter(|_| is_filtered)
            .zip(page.records.first())
        else {
            return false;
        };
        let time = |record: Option<&RawRecord>| endpoint.cursor_of(record?);
        // Whether the ends belong to it differs from vendor to vendor.
        let is_after = time(records.first()).is_some_and(|first| first > window.until);
        is_after
            || time(records.last())
                .zip(window.since)
                .is_some_and(|(last, since)| last < since)
    }

    /// Moves on past a page; false when it was the last.
    pub(super) fn step(&mut self, endpoint: &Endpoint, page: &Page) -> Result<bool> {
        // Asked for again, and still so: then this is how the list is.
        self.is_unordered |=
            self.is_newer(endpoint, page) || self.is_of_another_window(endpoint, page);
        let is_same = self.previous.is_some() && self.previous == page.digest;
        self.repeated_pages = if is_same { self.repeated_pages + 1 } else { 0 };
        self.previous = page.digest;
        self.note_page();
        self.distinct.take();
        let last = page
            .records
            .first()
            .and_then(|records| endpoint.cursor_of(records.last()?));
        self.watermark = last.or(self.watermark);
        let Some(Advance::Next(next)) = &page.advance else {
            return Ok(false);
        };
        let is_new = self.visited.insert(fingerprint(next));
        if !is_new || matches!(&self.position, Position::At(current) if current == next) {
            return Err(not_advancing(next));
        }
        if self.visited.len() >= MAX_REMEMBERED_POSITIONS {
            self.visited.clear();
        }
        if self.repeated_pages >= MAX_REPEATED_PAGES {
            return Err(endless(format!(
                "the list sent the same page {} times in a row, under new cursors",
                MAX_REPEATED_PAGES + 1
            )));
        }
        if self.familiar_pages > self.pages.len() + MAX_FAMILIAR_PAGES {
            return Err(endless(format!(
                "the list goes round in a circle of {} pages, under new cursors",
                self.pages.len()
            )));
        }
        self.empty_pages = if page.records.iter().all(Vec::is_empty) {
            self.empty_pages + 1
        } else {
            0
        };
        if self.empty_pages >= MAX_EMPTY_PAGES {
            return Err(endless(format!(
                "the list sent {MAX_EMPTY_PAGES} empty pages in a row, each saying that there is more"
            )));
        }
        self.position = Position::At(next.clone());
        Ok(true)
    }
}

impl Walk {
    /// Takes note of what the page looks like.
    fn note_page(&mut self) {
        let Some(digest) = self.previous else { return };
        for pages in [&mut self.pages, &mut self.sent] {
            if pages.len() >= MAX_REMEMBERED_POSITIONS {
                pages.clear();
            }
        }
        self.sent.insert(digest);
        self.familiar_pages = if self.pages.insert(digest) {
            0
        } else {
            self.familiar_pages + 1
        };
    }
}

fn endless(message: String) -> Error {
    Error::new(ErrorKind::Decode, message)
}

/// Tells lists of records from others; none when all are empty. Records are hashed one by one with
/// the faster hash, as every byte of every page comes by here.
pub(super) fn digest<'a>(lists: impl IntoIterator<Item = &'a Vec<RawRecord>>) -> Option<u64> {
    let mut hasher = blake3::Hasher::new();
    let (mut is_empty, mut buffer) = (true, Vec::new());
    for records in lists {
        is_empty &= records.is_empty();
        hasher.update(&records.len().to_le_bytes());
        for record in records {
            let hash = XxHash3_128::oneshot(record.text_in(&mut buffer));
            hasher.update(&hash.to_le_bytes());
        }
    }
    (!is_empty).then(|| short(&hasher))
}

/// Marks a page and the position at which it came. It is stored, so it must not change with the
/// standard library.
fn mark(digest: u64, position: &Position) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&digest.to_le_bytes());
    if let Position::At(text) = position {
        hasher.update(text.as_bytes());
    }
    short(&hasher)
}

fn short(hasher: &blake3::Hasher) -> u64 {
    let mut short = [0; 8];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(short)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn walk(position: Position) -> Walk {
        Walk::from(SliceState {
            position,
            ..SliceState::default()
        })
    }

    fn step(walk: &mut Walk, page: &Page) -> Result<bool> {
        walk.step(&Endpoint::get("things", "/things"), page)
    }

    /// A page of records that are the same on no other.
    fn page(next: &str, records: usize) -> Page {
        let record = RawRecord::upsert(format!(r#"{{"id":"{next}{records}"}}"#));
        of(vec![vec![record; records]], next)
    }

    fn of(records: Vec<Vec<RawRecord>>, next: &str) -> Page {
        Page {
            digest: digest(&records),
            ..Page::new(records, Some(Advance::Next(next.to_owned())))
        }
    }

    #[test]
    fn a_list_that_stays_where_it_is_or_runs_in_a_circle_is_refused() {
        let refuses = |from: Position, positions: &[&str]| {
            let mut walk = walk(from);
            positions
                .iter()
                .map(|position| step(&mut walk, &page(position, 1)))
                .find_map(Result::err)
                .map(|error| error.kind())
        };
        let at = |position: &str| Position::At(position.to_owned());
        assert_eq!(refuses(Position::Start, &["a", "b", "c"]), None);
        assert_eq!(
            refuses(Position::Start, &["a", "a"]),
            Some(ErrorKind::Decode)
        );
        assert_eq!(refuses(at("a"), &["a"]), Some(ErrorKind::Decode));
        assert_eq!(
            refuses(Position::Start, &["a", "b", "c", "a"]),
            Some(ErrorKind::Decode)
        );
        assert_eq!(refuses(at("a"), &["b", "a", "b"]), Some(ErrorKind::Decode));
    }

    #[test]
    fn empty_pages_end_neither_the_list_nor_the_patience_too_soon() {
        let mut walk = walk(Position::Start);
        for number in 1..MAX_EMPTY_PAGES {
            assert!(step(&mut walk, &page(&number.to_string(), 0)).unwrap());
        }
        assert!(step(&mut walk, &page("full", 1)).unwrap());
        for number in 1..MAX_EMPTY_PAGES {
            assert!(step(&mut walk, &page(&format!("again {number}"), 0)).unwrap());
        }
        assert_eq!(
            step(&mut walk, &page("last", 0)).unwrap_err().kind(),
            ErrorKind::Decode
        );
    }

    #[test]
    fn a14_pages_that_come_again_under_ever_new_cursors_end_the_list() {
        let records =
            |number: usize| vec![vec![RawRecord::upsert(format!(r#"{{"id":{number}}}"#)); 3]];
        let pages = |circle: usize| {
            let mut walk = walk(Position::Start);
            let page = |number: usize| of(records(number % circle), &format!("cursor {number}"));
            (0..10_000).find(|number| step(&mut walk, &page(*number)).is_err())
        };
        assert_eq!(pages(1), Some(3));
        for circle in [2, 3, 50] {
            let last = pages(circle).unwrap();
            assert!(
                last <= 2 * circle + MAX_FAMILIAR_PAGES + 1,
                "a circle of {circle} pages is read up to page {last}"
            );
        }
        assert_eq!(pages(10_000), None);
        let mut twice = walk(Position::Start);
        for number in 0..4_000 {
            let page = of(records(number % 2_000), &format!("cursor {number}"));
            assert!(
                step(&mut twice, &page).unwrap(),
                "a list that is read twice"
            );
        }
    }

    #[test]
    fn a_walk_ends_with_the_list() {
        for advance in [
            None,
            Some(Advance::End),
            Some(Advance::CaughtUp("a".to_owned())),
        ] {
            assert!(!step(&mut walk(Position::Start), &Page::new(Vec::new(), advance)).unwrap());
        }
    }
}
