//! Memory as permits for what is really held: from the first byte of a body until its rows are
//! written.
//!
//! A run has one [`MemoryBudget`], which all its sources share. What is read for one page, its
//! further requests included, is a [`Hold`]; bytes are permitted to it as [`Lease`]s, which go with
//! the bytes and are given back when these are dropped.
//!
//! **No hold waits for ever.** A hold whose turn has come and that finds no room becomes *the
//! first*: there is one at a time, the oldest of those that wait, until its page is staged. The
//! others never take the room that the first may still need ([`MemoryBudget::most`] of one hold),
//! so the first waits for nothing but rows that are staged, and these are written without asking
//! for memory. What is read ahead of its turn is never the first: it takes what is left over, or
//! gives way.
//!
//! What is held is never more than [`MemoryBudget::total`], but for bytes that are taken without
//! asking: rows that are staged, whose page had room for them, and parts of a response that is
//! loaded alone, of which there is one at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::hold::{Guard, Held};
use crate::error::{Error, ErrorKind};

mod hold;
mod lease;

pub use self::hold::Hold;
pub use self::lease::Lease;
pub(crate) use self::lease::leased;

/// Memory that a body takes on its way, by its length: for itself, for where the members of its
/// records stand, and for the columns that they become.
pub(crate) const BODY_FACTOR: usize = 3;

/// How far what is held may exceed the budget: by so much that a page of 32 MiB can be read
/// whatever the budget.
const BEYOND: usize = 48 << 20;

/// The most that a hold may take where there is enough: what the largest body takes.
const LARGEST: usize = BODY_FACTOR * (64 << 20);

/// How much of all that may be held one hold may take where there is not: six sevenths.
const SHARE: (usize, usize) = (6, 7);

/// What a destination may keep itself: an eighth of the budget, within these bounds. Below the
/// lower one SQLite writes pages that it changes again; above the upper one nothing becomes faster.
const DESTINATION: (usize, usize, usize) = (8, 8 << 20, 48 << 20);

/// How long what may not wait for rows to be written waits for others to give way.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the first waits while nothing is staged that could be written. It should not have to at
/// all.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// How much memory all that is read in a run may take. Clones share it.
#[derive(Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

struct Inner {
    total: usize,
    most: usize,
    state: Mutex<State>,
    /// Notified when memory was given back, or the first is another.
    freed: Notify,
    /// Notified when a hold waits for memory: what is staged had better be written.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// The most that was held at once.
    peak: usize,
    /// Bytes of rows that are staged or being written.
    staged: usize,
    /// Number of the next hold.
    next: u64,
    /// The hold that the others keep room for, and what it holds.
    first: Option<u64>,
    first_held: usize,
    /// Holds that wait and whose turn has come, and how many of their requests do.
    waiting: BTreeMap<u64, usize>,
    /// All that wait.
    waiters: usize,
}

/// Whether memory was permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Granted,
    /// Not now.
    Later,
    /// Never: more than one hold may take.
    TooMuch,
}

impl MemoryBudget {
    /// A budget of this number of bytes, at least 1 MiB.
    pub fn new(bytes: usize) -> Self {
        let total = bytes.clamp(1 << 20, usize::MAX / SHARE.0 - BEYOND) + BEYOND;
        Self::with(total, (total * SHARE.0 / SHARE.1).min(LARGEST))
    }

    /// How many bytes a destination may keep for itself, such as pages of a database or files that
    /// are being encoded, beside a run with a budget of `bytes`: an eighth of it, at least 8 MiB
    /// and at most 48 MiB.
    pub const fn of_destination(bytes: usize) -> usize {
        let (part, least, most) = DESTINATION;
        let share = bytes / part;
        if share < least {
            least
        } else if share > most {
            most
        } else {
            share
        }
    }

    /// A budget that permits everything.
    pub fn unlimited() -> Self {
        Self::with(usize::MAX, usize::MAX)
    }

    fn with(total: usize, most: usize) -> Self {
        let (freed, wanted) = (Notify::new(), Notify::new());
        Self {
            inner: Arc::new(Inner {
                total,
                most,
                state: Mutex::default(),
                freed,
                wanted,
            }),
        }
    }

    /// The most that is held at once.
    pub fn total(&self) -> usize {
        self.inner.total
    }

    /// The most that is held for one page.
    pub fn most(&self) -> usize {
        self.inner.most
    }

    /// What is held now.
    pub fn held(&self) -> usize {
        self.inner.state().held
    }

    /// The most that was held at once so far.
    pub fn peak(&self) -> usize {
        self.inner.state().peak
    }

    /// A hold for what is read next.
    pub fn hold(&self) -> Hold {
        self.with_hold(false, false)
    }

    /// A hold that is permitted everything at once: what all others need to continue.
    pub fn urgent(&self) -> Hold {
        self.with_hold(false, true)
    }

    fn with_hold(&self, ahead: bool, urgent: bool) -> Hold {
        let mut state = self.inner.state();
        let id = state.next;
        state.next += 1;
        let (ahead, urgent, bytes) = (
            AtomicBool::new(ahead),
            AtomicBool::new(urgent),
            AtomicUsize::new(0),
        );
        Hold(Arc::new(Guard(Arc::new(Held {
            budget: self.clone(),
            id,
            ahead,
            urgent,
            bytes,
        }))))
    }

    /// Memory for rows, which a page had room for.
    pub fn staged(&self) -> Lease {
        Lease {
            budget: self.clone(),
            hold: None,
            bytes: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
        }
    }

    /// True while a hold waits for memory whose turn has come.
    pub fn is_wanted(&self) -> bool {
        !self.inner.state().waiting.is_empty()
    }

    /// Waits until a hold waits for memory.
    pub async fn wanted(&self) {
        self.inner.wanted.notified().await;
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("total", &self.inner.total)
            .field("most", &self.inner.most)
            .field("state", &*self.inner.state())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be held besides the most that one hold needs.
    fn spare(&self) -> usize {
        if self.total == usize::MAX {
            usize::MAX
        } else {
            self.total - self.most
        }
    }

    fn ask(&self, hold: &Held, bytes: usize) -> Answer {
        let mut state = self.state();
        let own = hold.bytes.load(Ordering::Relaxed);
        let is_urgent = hold.urgent.load(Ordering::Relaxed);
        if own.saturating_add(bytes) > self.most && !is_urgent {
            return Answer::TooMuch;
        }
        let after = state.held.saturating_add(bytes);
        if state.first != Some(hold.id) && !is_urgent {
            let reserve = self.most - state.first_held.min(self.most);
            if after > self.total.saturating_sub(reserve) {
                let is_next = state
                    .waiting
                    .first_key_value()
                    .is_none_or(|(oldest, _)| hold.id <= *oldest);
                if state.first.is_some() || hold.ahead.load(Ordering::Relaxed) || !is_next {
                    return Answer::Later;
                }
                (state.first, state.first_held) = (Some(hold.id), own);
            }
        }
        if state.first == Some(hold.id) && after > self.total && !is_urgent {
            return Answer::Later;
        }
        Self::take(&mut state, Some(hold), bytes);
        Answer::Granted
    }

    fn take(state: &mut State, hold: Option<&Held>, bytes: usize) {
        state.held = state.held.saturating_add(bytes);
        state.peak = state.peak.max(state.held);
        match hold {
            Some(hold) => {
                hold.bytes.fetch_add(bytes, Ordering::Relaxed);
                if state.first == Some(hold.id) {
                    state.first_held += bytes;
                }
            }
            None => state.staged = state.staged.saturating_add(bytes),
        }
    }

    fn give_back(&self, hold: Option<&Held>, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state();
        state.held = state.held.saturating_sub(bytes);
        match hold {
            Some(hold) => {
                hold.bytes.fetch_sub(bytes, Ordering::Relaxed);
                if state.first == Some(hold.id) {
                    state.first_held = state.first_held.saturating_sub(bytes);
                }
            }
            None => state.staged = state.staged.saturating_sub(bytes),
        }
        self.tell(&state);
    }

    fn tell(&self, state: &State) {
        if state.waiters > 0 {
            self.freed.notify_waiters();
        }
    }
}

impl Inner {
    /// True for the first when there is nothing that could be written.
    fn is_stuck(&self, hold: &Held) -> bool {
        let state = self.state();
        state.first == Some(hold.id) && state.staged == 0
    }
}

/// The error of what takes more memory than a page may.
pub(crate) fn too_much(most: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "the response takes more memory than the {} MiB that one may",
            most >> 20
        ),
    )
    .with_help(
        "ask for smaller pages if the source's configuration can, or raise `memory_budget_mb` \
         under `[sync]`",
    )
}

#[cfg(test)]
mod tests;
