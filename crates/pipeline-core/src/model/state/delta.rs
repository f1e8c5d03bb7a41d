//! Changes of a state, each of which names what it starts from.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{EndpointId, EndpointState, Gap, Position, Seen, SliceId};

/// A change to one endpoint's state, from what it was to what it becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "states are replaced once or twice in a run, and advances come in batches"
)]
pub enum CheckpointDelta {
    /// A slice was read from one position to another.
    Advance {
        /// The endpoint read.
        endpoint: EndpointId,
        /// The plan that the slice belongs to; must be what is stored.
        plan: u64,
        /// The slice read.
        slice: SliceId,
        /// Where the read started; must be what is stored.
        from: Position,
        /// Where it ended.
        to: Position,
        /// Cursor value of the last record read.
        #[serde(rename = "reached", default, skip_serializing_if = "Option::is_none")]
        watermark: Option<DateTime<Utc>>,
        /// The newest cursor value of a record read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<DateTime<Utc>>,
        /// Boundary entries to remember, by the hash of their key.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<(u64, Seen)>,
        /// Units that the read passed over.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gaps: Vec<Gap>,
    },
    /// A plan was made, split or collapsed.
    Replace {
        /// The endpoint planned.
        endpoint: EndpointId,
        /// The whole state before; must be what is stored.
        from: EndpointState,
        /// The whole state after.
        to: EndpointState,
    },
}

impl CheckpointDelta {
    /// The endpoint changed.
    pub fn endpoint(&self) -> &EndpointId {
        match self {
            Self::Advance { endpoint, .. } | Self::Replace { endpoint, .. } => endpoint,
        }
    }

    /// The change as a log keeps it: the positions, without the thousands of boundary entries.
    #[must_use]
    pub fn without_boundary(mut self) -> Self {
        match &mut self {
            Self::Advance { seen, .. } => seen.clear(),
            Self::Replace { from, to, .. } => {
                from.boundary.clear();
                to.boundary.clear();
            }
        }
        self
    }
}
