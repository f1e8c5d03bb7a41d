//! Where a walk through parents and their children can stop.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::state::Position;

/// A place in a walk through parents and their children.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Position of the page of parents; none: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) page: Option<String>,
    /// The parent on that page up to which everything is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<String>,
    /// Where to go on in the list of that parent; none: it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
}

impl Place {
    pub(super) fn of(position: &Position) -> Result<Self> {
        let Position::At(text) = position else {
            return Ok(Self::default());
        };
        serde_json::from_str(text).map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                "the stored position is none of a list of children",
            )
            .with_help("reset the endpoint's state, and run again")
            .with_source(error)
        })
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|_| unreachable!("a place is three optional strings"))
    }

    pub(super) fn page(&self) -> Position {
        self.page.clone().map_or(Position::Start, Position::At)
    }
}
