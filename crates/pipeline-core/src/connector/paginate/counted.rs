//! Lists that say how many records they have, walked until as many have come.

use serde::{Deserialize, Serialize};

use super::{PageView, Paginator, current, not_advancing};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Request;
use crate::model::record::Advance;
use crate::model::state::Position;

/// Walks a list as another paginator does, and compares what came with what the vendor counts. A
/// record that comes twice counts once: a page that repeats another one must not stand for the one
/// that is missing.
///
/// A list that ends with fewer records than the vendor counted last is read once more from its
/// start: records that were deleted meanwhile move the others to pages that were read already. One
/// that ends short again fails, so that nothing is taken for deleted which was only left out. More
/// records than counted are fine: some came while the list was read.
///
/// ```
/// use pipeline_core::paginate::{AfterLastId, Counted, Paginator};
///
/// let pages = AfterLastId { param: "after", more: "has_more", id: "id" };
/// assert!(Counted::new(pages, "meta/total").expects_list());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Counted<P> {
    paginator: P,
    total: &'static str,
}

/// A position of the other paginator, and what was counted until there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CountedPosition {
    /// Position of the page; none: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// Different records on the pages before it; none: they were not counted, so nothing can be
    /// compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
    /// Records that the list has, as an answer said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// True when the list is read for the second time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    again: bool,
}

impl<P> Counted<P> {
    /// Counts what `paginator` walks through. `total` is the path in an answer where the vendor
    /// says how many records the whole list has. Answers without it are not compared.
    pub fn new(paginator: P, total: &'static str) -> Self {
        Self { paginator, total }
    }
}

impl CountedPosition {
    /// Reads a position. One that was stored before anybody counted is the other paginator's own.
    fn of(position: &Position) -> Self {
        let Some(text) = current(position) else {
            return Self {
                seen: Some(0),
                ..Self::default()
            };
        };
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            at: Some(text.to_owned()),
            ..Self::default()
        })
    }

    /// Where the list continues: the other paginator's position as it is, unless there is something
    /// to compare.
    fn next(self) -> Advance {
        match &self {
            Self {
                at: Some(at),
                seen: None,
                ..
            }
            | Self {
                at: Some(at),
                total: None,
                again: false,
                ..
            } => Advance::Next(at.clone()),
            _ => Advance::Next(self.text()),
        }
    }

    /// The other paginator's position.
    fn inner(&self) -> Position {
        self.at.clone().map_or(Position::Start, Position::At)
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("a place is texts and numbers"))
    }
}

impl<P: Paginator> Paginator for Counted<P> {
    fn apply(&self, at: &Position, request: &mut Request) -> Result<()> {
        self.paginator
            .apply(&CountedPosition::of(at).inner(), request)
    }

    fn advance(&self, at: &Position, page: &PageView<'_>) -> Result<Advance> {
        let place = CountedPosition::of(at);
        let total = page
            .envelope
            .text(self.total)
            .and_then(|text| text.parse().ok())
            .or(place.total);
        let seen = place.seen.map(|seen| seen + page.fresh as u64);
        match self.paginator.advance(&place.inner(), page)? {
            // How much was counted would make of every position another one.
            Advance::Next(next) if place.at.as_ref() == Some(&next) => Err(not_advancing(&next)),
            Advance::Next(next) => Ok(CountedPosition {
                at: Some(next),
                seen,
                total,
                again: place.again,
            }
            .next()),
            Advance::End => match seen.zip(total) {
                Some((seen, total)) if seen < total && place.again => Err(short(seen, total)),
                Some((seen, total)) if seen < total => Ok(CountedPosition {
                    seen: Some(0),
                    again: true,
                    ..CountedPosition::default()
                }
                .next()),
                _ => Ok(Advance::End),
            },
            caught_up @ Advance::CaughtUp(_) => Ok(caught_up),
        }
    }

    fn recover(&self, at: &Position) -> Option<Position> {
        let place = CountedPosition::of(at);
        match self.paginator.recover(&place.inner())? {
            Position::At(earlier) => Some(Position::At(
                CountedPosition {
                    at: Some(earlier),
                    ..place
                }
                .text(),
            )),
            other => Some(other),
        }
    }

    fn expects_list(&self) -> bool {
        self.paginator.expects_list()
    }

    fn shifts(&self) -> bool {
        self.paginator.shifts()
    }

    fn may_repeat(&self, next: &Advance) -> bool {
        match next {
            Advance::Next(text) => match CountedPosition::of(&Position::At(text.clone())).at {
                Some(at) => self.paginator.may_repeat(&Advance::Next(at)),
                None => false,
            },
            other => self.paginator.may_repeat(other),
        }
    }

    fn counts(&self) -> bool {
        true
    }

    fn round(&self, at: &Position) -> u32 {
        let place = CountedPosition::of(at);
        u32::from(place.again) + self.paginator.round(&place.inner())
    }
}

/// The error for a list that was read twice and ended short both times.
fn short(seen: u64, total: u64) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the list ended before as many records had come as the vendor counts",
    )
    .with_context("records", seen.to_string())
    .with_context("total", total.to_string())
    .with_help(
        "the list was read again, with the same outcome; what earlier syncs stored stays, and the \
         next sync tries again",
    )
}
