//! Progress as a value: what is committed of an endpoint, and the changes that may be made to it.
//!
//! A [`CheckpointDelta`] says what it starts from. A store that holds something else refuses it with
//! [`ErrorKind::CheckpointConflict`], so that of two writers one loses and nothing is applied
//! twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::coverage::Coverage;
use crate::model::origin::Origin;

mod delta;
mod store;

pub use self::delta::CheckpointDelta;
pub use self::store::{CheckpointStore, MemoryCheckpoints};

/// Version of the state's JSON. Raised when the shape changes; older versions are read for ever.
pub const STATE_VERSION: u32 = 3;

/// Most gaps that a state keeps. An endpoint of which more units cannot be read has failed as a
/// whole.
pub const GAP_CAPACITY: usize = 1_000;

/// Attempts after which a gap is tried at every sync no longer, but at growing intervals.
const EAGER_ATTEMPTS: u32 = 3;

/// How much sooner than planned a gap may be tried: syncs that start every hour do not start on the
/// second.
const TOLERANCE: TimeDelta = TimeDelta::minutes(15);

/// Longest time between two attempts at a gap.
const LONGEST_REST: TimeDelta = TimeDelta::hours(24);

/// The edition of records that are to be read again: no endpoint's have it.
const RESET: &str = "reset";

/// Most boundary entries that a state keeps. What comes beyond may be written again by the next
/// sync.
pub const BOUNDARY_CAPACITY: usize = 10_000;

/// Names one endpoint of one configured source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId {
    /// The source's name in the configuration.
    pub source: String,
    /// The endpoint's name in its connector; where the source reads several accounts, that and the
    /// account: `orders@eu`.
    pub endpoint: String,
}

impl EndpointId {
    /// Names an endpoint.
    pub fn new(source: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            endpoint: endpoint.into(),
        }
    }

    /// Names the endpoint of one account, of several that the source reads; none: it reads one.
    pub fn of_account(source: impl Into<String>, endpoint: &str, account: Option<&str>) -> Self {
        let endpoint = account.map_or_else(
            || endpoint.to_owned(),
            |account| format!("{endpoint}{ACCOUNT}{account}"),
        );
        Self::new(source, endpoint)
    }

    /// The endpoint's name in its connector, whichever account it is of.
    pub fn name(&self) -> &str {
        self.endpoint
            .split_once(ACCOUNT)
            .map_or(&*self.endpoint, |(name, _)| name)
    }

    /// The account, where the source reads several.
    pub fn account(&self) -> Option<&str> {
        self.endpoint
            .split_once(ACCOUNT)
            .map(|(_, account)| account)
    }
}

/// Stands between an endpoint's name, which never has it, and an account.
const ACCOUNT: char = '@';

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.endpoint)
    }
}

/// Identifies a slice within its endpoint's plan; never used twice in one plan.
pub type SliceId = u32;

/// A place in a slice. The text's meaning belongs to the paginator; positions have no order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Nothing is read yet.
    #[default]
    Start,
    /// Resume from here.
    At(String),
    /// Everything is read.
    End,
}

/// A half-open span of time, `[since, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First instant inside; none: from the beginning of the account, whenever that was.
    pub since: Option<DateTime<Utc>>,
    /// First instant after it.
    pub until: DateTime<Utc>,
}

/// A committed record that may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Hash of its content: the very same record need not be written again, a changed one must.
    pub content: u64,
    /// Its cursor value, in seconds since 1970.
    pub at: i64,
}

/// One independently readable part of an endpoint. Describes itself, so that an interrupted plan
/// resumes unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceState {
    /// The time span read, for endpoints cut by time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Query parameters that set this slice apart from others of the same window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    /// How far it is read.
    pub position: Position,
    /// Cursor value of the last record read: shows progress, and where a slice may be split or
    /// restarted.
    #[serde(rename = "reached", default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<DateTime<Utc>>,
    /// A unit of the endpoint that is read by itself, such as one record of a list of parents. The
    /// text belongs to the reader of the endpoint; none: the slice is a part of the whole list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Marks the position when the vendor answered there with a page that it had sent before: which
    /// page it was, so that the next sync does not take it for what follows. Cleared when the slice
    /// resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted: Option<u64>,
}

/// A unit of an endpoint that the vendor refuses, or never delivers, while the rest can be read: a
/// slice that waits.
///
/// It is stored with the commit that passes over it. Later syncs read its slice, and forget the gap
/// when that is read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Names the unit to a person, and identifies the gap within its endpoint: an id, a day.
    pub name: String,
    /// Why it could not be read, in the vendor's words.
    pub reason: String,
    /// When it was first passed over.
    pub since: DateTime<Utc>,
    /// When it was last asked for.
    pub tried: DateTime<Utc>,
    /// How often it was asked for.
    pub attempts: u32,
    /// Columns, with their values as JSON, that select the rows which an earlier sync stored of it.
    /// A refresh carries those over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keep: BTreeMap<String, String>,
    /// True while a refresh reads everything again and has not met the gap yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// True when the user gave it up: it does not count as missing and is not asked for by itself.
    /// A walk that meets it anyway does not make it count again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// True when the unit was read, and some of its records cannot be rows: it does not count as
    /// missing either, but is asked for again, and until then the rows stay that an earlier sync
    /// stored of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rejected: bool,
    /// How the unit is read, and how far it is.
    pub slice: SliceState,
}

impl Gap {
    /// True when it is worth another attempt: at every sync at first, then after an hour, two, four
    /// and at most a day. An attempt that is still to come was timed by a wrong clock, and counts
    /// for nothing.
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        let is_to_come = self.tried > now + TOLERANCE;
        let rested = match self.attempts.saturating_sub(EAGER_ATTEMPTS) {
            0 => true,
            doublings @ 1..=5 => {
                now - self.tried >= TimeDelta::hours(1 << (doublings - 1)) - TOLERANCE
            }
            _ => now - self.tried >= LONGEST_REST - TOLERANCE,
        };
        (rested || is_to_come) && !self.stale && !self.given_up
    }

    /// True when the unit can be read by itself. Where it cannot, the next refresh reads it with
    /// everything else.
    pub fn is_readable(&self) -> bool {
        self.slice.unit.is_some() || self.slice.window.is_some()
    }

    /// The gap as it is after another attempt at the same unit.
    fn renewed(self, earlier: &Self) -> Self {
        Self {
            since: earlier.since,
            attempts: earlier.attempts.saturating_add(1),
            given_up: earlier.given_up,
            ..self
        }
    }
}

/// Everything committed about one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// Version of this shape: what is read becomes the current one.
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// Number of the plan: raised whenever slices are planned, split or dropped, so that a writer
    /// which knows only an older plan cannot move a slice that means something else now.
    #[serde(default)]
    pub plan: u64,
    /// Everything with a cursor value below this is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<DateTime<Utc>>,
    /// True while a full refresh collects the next generation of its streams, invisible until it is
    /// complete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refreshing: bool,
    /// When it was last begun to read everything there is; only of endpoints that are
    /// [read again at intervals](crate::Endpoint::full_refresh_interval).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<DateTime<Utc>>,
    /// What the committed records look like, as their [endpoint](crate::Endpoint::edition) said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// What the committed records were read from. States of before version 3 do not say, and take
    /// what is read next for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What is covered, of endpoints that are cut by time. States of before version 3 do not say:
    /// they cover what the configuration wants when they are read next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// The [settings](crate::Endpoint::setting) that the newest records were read with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The streams that the committed data is complete for. A stream selected later makes the
    /// endpoint start again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub streams: BTreeSet<String>,
    /// Committed records that the next sync may be given again, by the hash of their key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub boundary: BTreeMap<u64, Seen>,
    /// Planned, running and finished slices above the cursor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<SliceId, SliceState>,
    /// Units that were passed over, under ids that no slice has. The cursor does not wait for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gaps: BTreeMap<SliceId, Gap>,
}

/// Reads states of this version and of those before it, wherever they stand.
fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0..=STATE_VERSION => Ok(STATE_VERSION),
        newer => Err(serde::de::Error::custom(format!(
            "the checkpoint has version {newer}, written by a newer release"
        ))),
    }
}

impl Default for EndpointState {
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            plan: 0,
            cursor: None,
            refreshing: false,
            begun: None,
            edition: None,
            origin: None,
            coverage: None,
            settings: BTreeMap::new(),
            streams: BTreeSet::new(),
            boundary: BTreeMap::new(),
            slices: BTreeMap::new(),
            gaps: BTreeMap::new(),
        }
    }
}

impl EndpointState {
    /// Reads a stored state.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it is not a state, or one that a newer version wrote: it is never
    /// taken for an empty one.
    pub fn from_json(json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |error: serde_json::Error| {
            Error::new(ErrorKind::Decode, "the stored checkpoint is damaged")
                .with_help(
                    "restore the destination from a backup, or move it away and read everything \
                     again",
                )
                .with_source(error)
        };
        let Version { version } = serde_json::from_str(json).map_err(damaged)?;
        if version > STATE_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the stored checkpoint has version {version}, written by a newer release"),
            )
            .with_help("upgrade this program"));
        }
        serde_json::from_str(json).map_err(damaged)
    }

    /// The state as JSON, to be stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|_| unreachable!("a state has only string and integer keys"))
    }

    /// True when nothing was ever read, or all of it is forgotten.
    pub fn is_untouched(&self) -> bool {
        *self
            == Self {
                plan: self.plan,
                ..Self::default()
            }
    }

    /// The state of an endpoint that was reset: the next sync reads everything again, into a next
    /// generation that takes the place of what the tables hold. So nothing is stored twice, and
    /// what the vendor has deleted is gone.
    #[must_use]
    pub fn reset(&self) -> Self {
        Self {
            plan: self.plan + 1,
            edition: Some(RESET.to_owned()),
            streams: self.streams.clone(),
            ..Self::default()
        }
    }

    /// True when it was [reset](Self::reset) and nothing was read since.
    pub fn is_reset(&self) -> bool {
        self.edition.as_deref() == Some(RESET)
    }

    /// True when nothing says how far it was read: it never was, or it was reset.
    pub fn is_forgotten(&self) -> bool {
        self.is_untouched() || self.is_reset()
    }

    /// Slices that are not read to their end.
    pub fn unfinished(&self) -> impl Iterator<Item = (SliceId, &SliceState)> {
        self.slices
            .iter()
            .filter(|(_, slice)| slice.position != Position::End)
            .map(|(id, slice)| (*id, slice))
    }

    /// The state as the next plan, to be changed further.
    pub fn next_plan(&self) -> Self {
        Self {
            plan: self.plan + 1,
            ..self.clone()
        }
    }

    /// Adds a slice under a new id.
    pub fn add_slice(&mut self, slice: SliceState) -> SliceId {
        let id = self.next_id();
        self.slices.insert(id, slice);
        id
    }

    fn next_id(&self) -> SliceId {
        let last = self
            .slices
            .last_key_value()
            .map(|(id, _)| *id)
            .max(self.gaps.last_key_value().map(|(id, _)| *id));
        last.map_or(0, |last| last + 1)
    }

    /// A slice of the plan, or that of a gap.
    pub fn slice(&self, id: SliceId) -> Option<&SliceState> {
        self.slices
            .get(&id)
            .or_else(|| Some(&self.gaps.get(&id)?.slice))
    }

    /// A slice of the plan, or that of a gap, to be changed.
    pub fn slice_mut(&mut self, id: SliceId) -> Option<&mut SliceState> {
        match self.slices.get_mut(&id) {
            Some(slice) => Some(slice),
            None => self.gaps.get_mut(&id).map(|gap| &mut gap.slice),
        }
    }

    /// The gaps that count as missing.
    pub fn missing(&self) -> impl Iterator<Item = &Gap> {
        self.gaps
            .values()
            .filter(|gap| !gap.given_up && !gap.rejected)
    }

    /// Notes a unit that was passed over; one that is known already was tried once more.
    pub fn add_gap(&mut self, gap: Gap) {
        match self.gaps.values_mut().find(|known| known.name == gap.name) {
            Some(known) => *known = gap.renewed(known),
            None => {
                self.gaps.insert(self.next_id(), gap);
            }
        }
    }

    /// The newest cursor value read so far, for display: how fresh the data is.
    pub fn freshness(&self) -> Option<DateTime<Utc>> {
        let read = self
            .slices
            .values()
            .filter(|slice| slice.window.is_none())
            .filter_map(|slice| slice.watermark);
        read.chain(self.cursor).max()
    }

    /// Moves the cursor over the windows that are finished from the oldest on, and drops them.
    pub fn collapse(&mut self) {
        self.merge_finished();
        let windows = || {
            self.slices
                .values()
                .filter_map(|slice| Some((slice.window?, &slice.position)))
        };
        let unfinished = windows()
            .filter(|(_, position)| **position != Position::End)
            .map(|(window, _)| window.since);
        let frontier = match unfinished.min() {
            Some(since) => since,
            None => windows().map(|(window, _)| window.until).max(),
        };
        let Some(frontier) = frontier else { return };
        if self.cursor.is_none_or(|cursor| cursor < frontier) {
            self.cursor = Some(frontier);
        }
        self.slices.retain(|_, slice| {
            slice.position != Position::End
                || slice.window.is_none_or(|window| window.until > frontier)
        });
    }

    /// Joins finished windows that touch, so that a plan that was split often stays small.
    fn merge_finished(&mut self) {
        let mut finished: Vec<(SliceId, SliceState)> = self
            .slices
            .iter()
            .filter(|(_, s)| s.position == Position::End && s.window.is_some())
            .map(|(id, s)| (*id, s.clone()))
            .collect();
        finished.sort_by(|(_, a), (_, b)| {
            (&a.query, a.window.map(|w| w.since)).cmp(&(&b.query, b.window.map(|w| w.since)))
        });
        let mut joined: Option<(SliceId, SliceState)> = None;
        for (id, slice) in finished {
            match &mut joined {
                Some((kept, previous))
                    if previous.query == slice.query && touches(previous.window, slice.window) =>
                {
                    if let (Some(left), Some(right)) = (&mut previous.window, slice.window) {
                        left.until = left.until.max(right.until);
                    }
                    self.slices.remove(&id);
                    self.slices.insert(*kept, previous.clone());
                }
                _ => joined = Some((id, slice)),
            }
        }
    }

    /// Applies a change that starts from this state.
    ///
    /// # Errors
    /// [`ErrorKind::CheckpointConflict`] when the change starts from something else.
    pub fn apply(&mut self, change: &CheckpointDelta) -> Result<()> {
        let conflict = |what: &str| {
            Error::new(
                ErrorKind::CheckpointConflict,
                format!("{what} was changed by another process"),
            )
            .with_context("endpoint", change.endpoint().to_string())
            .with_help("make sure that only one sync writes to this destination, then run again")
        };
        match change {
            CheckpointDelta::Advance {
                plan,
                slice,
                from,
                to,
                watermark,
                newest,
                seen,
                gaps,
                ..
            } => {
                let is_current = self.plan == *plan;
                let state = self
                    .slice_mut(*slice)
                    .filter(|state| is_current && state.position == *from);
                let state = state.ok_or_else(|| conflict("the position of a slice"))?;
                state.position = to.clone();
                state.doubted = None;
                state.watermark = watermark.or(state.watermark);
                if let Some(coverage) = &mut self.coverage {
                    coverage.saw(*newest);
                }
                for gap in gaps {
                    self.add_gap(gap.clone());
                }
                // A unit that was read to its end without being passed over again is not missing
                // any more.
                let is_filled = |gap: &Gap| {
                    *to == Position::End && gaps.iter().all(|missed| missed.name != gap.name)
                };
                if self.gaps.get(slice).is_some_and(is_filled) {
                    self.gaps.remove(slice);
                }
                let room = BOUNDARY_CAPACITY.saturating_sub(self.boundary.len());
                self.boundary.extend(seen.iter().take(room).copied());
            }
            CheckpointDelta::Replace { from, to, .. } => {
                if self != from {
                    return Err(conflict("the checkpoint"));
                }
                *self = to.clone();
            }
        }
        Ok(())
    }
}

fn touches(left: Option<Window>, right: Option<Window>) -> bool {
    matches!((left, right), (Some(left), Some(right)) if right.since.is_none_or(|since| since <= left.until))
}
