//! Memory as permits for what is really held: from the first byte of a body until its rows are
//! written.
//!
//! A run has one [`MemoryBudget`], which all its sources share. What is read for one page, its
//! further requests included, is a [`Hold`]; bytes are permitted to it as [`Lease`]s, which go with
//! the bytes and are given back when these are dropped.
//!
//! **Nobody waits for ever.** A hold whose turn has come and that finds no room becomes *the
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
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind, Result};

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

tokio::task_local! {
    /// What is read at the moment.
    static CURRENT: Hold;
}

/// How much memory all that is read in a run may take. Clones share it.
#[derive(Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

struct Inner {
    total: usize,
    most: usize,
    state: Mutex<State>,
    /// Told when memory was given back, or the first is another.
    freed: Notify,
    /// Told when somebody waits for memory: what is staged had better be written.
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
    /// A budget of so many bytes, at least 1 MiB.
    pub fn new(bytes: usize) -> Self {
        let total = bytes.clamp(1 << 20, usize::MAX / SHARE.0 - BEYOND) + BEYOND;
        Self::with(total, (total * SHARE.0 / SHARE.1).min(LARGEST))
    }

    /// How many bytes a destination may keep for itself, such as pages of a database or files that
    /// are being encoded, beside a run with a budget of so many: an eighth of it, at least 8 MiB
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

    /// A hold that is permitted everything at once: what nobody else can go on without.
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

    /// True while somebody waits for memory whose turn has come.
    pub fn is_wanted(&self) -> bool {
        !self.inner.state().waiting.is_empty()
    }

    /// Waits until somebody waits for memory.
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

/// What is read for one page. Clones are the same hold, which ends with the last of them. Bytes may
/// outlive it: nothing more is asked for then.
#[derive(Clone)]
pub struct Hold(Arc<Guard>);

/// Ends the hold.
struct Guard(Arc<Held>);

struct Held {
    budget: MemoryBudget,
    id: u64,
    /// True before its turn has come.
    ahead: AtomicBool,
    /// True for one that waits for nobody.
    urgent: AtomicBool,
    bytes: AtomicUsize,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let inner = &self.0.budget.inner;
        self.0.urgent.store(true, Ordering::Relaxed);
        let mut state = inner.state();
        if state.first == Some(self.0.id) {
            (state.first, state.first_held) = (None, 0);
            inner.tell(&state);
        }
    }
}

impl Hold {
    fn held(&self) -> &Arc<Held> {
        &self.0.0
    }

    /// The hold of what is read at the moment; one without a limit outside of a run.
    pub(crate) fn current() -> Self {
        CURRENT
            .try_with(Self::clone)
            .unwrap_or_else(|_| MemoryBudget::unlimited().hold())
    }

    /// Reads something for this hold.
    pub async fn scope<F: Future>(&self, read: F) -> F::Output {
        CURRENT.scope(self.clone(), read).await
    }

    /// A hold of its own for what is begun ahead of its turn.
    pub(crate) fn ahead() -> Self {
        Self::current().held().budget.with_hold(true, false)
    }

    /// Lets what was begun ahead wait like others: now its turn has come.
    pub(crate) fn turn_has_come(&self) {
        if self.held().ahead.swap(false, Ordering::Relaxed) {
            self.held()
                .budget
                .inner
                .tell(&self.held().budget.inner.state());
        }
    }

    /// Waits for memory for so many bytes of a body, or for as much as it may take, before they are
    /// asked for.
    pub(crate) async fn room_for_body(&self, bytes: usize) -> Lease {
        let wanted = bytes.saturating_mul(BODY_FACTOR);
        let lease = self.lease();
        let own = self.held().bytes.load(Ordering::Relaxed);
        let room = wanted.min(self.held().budget.most().saturating_sub(own));
        // What is too much shows when it comes.
        let _ = self.held().wait(&lease, room, None).await;
        lease
    }

    /// Permits for nothing yet.
    pub(crate) fn lease(&self) -> Lease {
        Lease {
            budget: self.held().budget.clone(),
            hold: Some(Arc::clone(self.held())),
            bytes: AtomicUsize::new(0),
            waited: AtomicU64::new(0),
        }
    }

    /// A hold for something that is kept beyond the page, if [`may_keep`](Self::may_keep) allows
    /// it; none for what is itself read ahead of its turn.
    pub(crate) fn apart() -> Option<Self> {
        let current = Self::current();
        let is_ahead = current.held().ahead.load(Ordering::Relaxed);
        (!is_ahead).then(|| current.held().budget.hold())
    }

    /// True when what was read may be kept, though nothing is sure to drop it soon: there is so
    /// much room that nobody has to wait for it. Nothing more is read for the hold then.
    pub(crate) fn may_keep(&self) -> bool {
        let inner = &self.held().budget.inner;
        let mut state = inner.state();
        if state.held > inner.spare() || state.waiters > 0 {
            return false;
        }
        if state.first == Some(self.held().id) {
            (state.first, state.first_held) = (None, 0);
        }
        self.held().ahead.store(true, Ordering::Relaxed);
        true
    }

    /// Memory for something that is kept for others; none when there is not so much room that
    /// nobody has to wait for it.
    pub(crate) fn keep(&self, bytes: usize) -> Option<Lease> {
        let budget = &self.held().budget;
        let lease = budget.with_hold(true, false).lease();
        let inner = &budget.inner;
        let mut state = inner.state();
        if state.held.saturating_add(bytes) > inner.spare() || state.waiters > 0 {
            return None;
        }
        Inner::take(&mut state, lease.hold.as_deref(), bytes);
        lease.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(lease)
    }
}

impl Held {
    /// Waits until so many bytes are permitted; false when they are not until `deadline`.
    async fn wait(&self, lease: &Lease, bytes: usize, deadline: Option<Instant>) -> Result<bool> {
        let inner = &self.budget.inner;
        let granted = |answer| match answer {
            Answer::Granted => {
                lease.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(Some(true))
            }
            Answer::Later => Ok(None),
            Answer::TooMuch => Err(too_much(inner.most)),
        };
        if let Some(done) = granted(inner.ask(self, bytes))? {
            return Ok(done);
        }
        let mut waits = Waits::begin(self, lease);
        loop {
            let mut freed = pin!(inner.freed.notified());
            freed.as_mut().enable();
            waits.note();
            if let Some(done) = granted(inner.ask(self, bytes))? {
                return Ok(done);
            }
            inner.wanted.notify_one();
            let stuck = inner
                .is_stuck(self)
                .then(|| Instant::now() + FIRST_PATIENCE);
            let until = [deadline, stuck].into_iter().flatten().min();
            let Some(until) = until else {
                freed.await;
                continue;
            };
            if timeout_at(until, freed).await.is_ok() {
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            if inner.is_stuck(self) {
                Inner::take(&mut inner.state(), Some(self), bytes);
                lease.bytes.fetch_add(bytes, Ordering::Relaxed);
                return Ok(true);
            }
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

/// A hold among those that wait.
struct Waits<'h> {
    hold: &'h Held,
    lease: &'h Lease,
    since: Instant,
    /// True while it is among those whose turn has come.
    is_noted: bool,
}

impl<'h> Waits<'h> {
    fn begin(hold: &'h Held, lease: &'h Lease) -> Self {
        hold.budget.inner.state().waiters += 1;
        Self {
            hold,
            lease,
            since: Instant::now(),
            is_noted: false,
        }
    }

    /// Puts it among those whose turn has come, once it has.
    fn note(&mut self) {
        if !self.is_noted && !self.hold.ahead.load(Ordering::Relaxed) {
            self.is_noted = true;
            *self
                .hold
                .budget
                .inner
                .state()
                .waiting
                .entry(self.hold.id)
                .or_default() += 1;
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let inner = &self.hold.budget.inner;
        let mut state = inner.state();
        state.waiters -= 1;
        if self.is_noted {
            if let Some(count) = state.waiting.get_mut(&self.hold.id) {
                *count -= 1;
            }
            state.waiting.retain(|_, count| *count > 0);
        }
        let waited = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.lease.waited.fetch_add(waited, Ordering::Relaxed);
        inner.tell(&state);
    }
}

/// Bytes that are permitted, given back when it is dropped.
pub struct Lease {
    budget: MemoryBudget,
    /// What it is for; none: for rows that are staged.
    hold: Option<Arc<Held>>,
    bytes: AtomicUsize,
    /// Milliseconds that it was waited for.
    waited: AtomicU64,
}

impl Lease {
    /// Bytes that it permits at the moment.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How long it was waited for so far.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(self.waited.load(Ordering::Relaxed))
    }

    /// True when there is a budget to keep: a client outside of a run has none.
    pub(crate) fn is_bounded(&self) -> bool {
        self.budget.inner.total != usize::MAX
    }

    /// The most that it could grow to, as far as what is held for the same page allows.
    pub(crate) fn most(&self) -> usize {
        let Some(hold) = &self.hold else {
            return usize::MAX;
        };
        let others = hold
            .bytes
            .load(Ordering::Relaxed)
            .saturating_sub(self.bytes());
        self.budget.most().saturating_sub(others)
    }

    /// Waits until it permits so many bytes in all. What is not first in line waits for a moment
    /// only: false then.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] when that is more than is held for one page.
    pub(crate) async fn grow(&self, bytes: usize) -> Result<bool> {
        let more = bytes.saturating_sub(self.bytes());
        match &self.hold {
            Some(hold) if more > 0 => hold.wait_as_it_stands(self, more).await,
            _ => Ok(true),
        }
    }

    /// Waits until it permits so many bytes in all, however long that takes.
    ///
    /// # Errors
    /// As [`grow`](Self::grow).
    pub(crate) async fn grow_patiently(&self, bytes: usize) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes());
        match &self.hold {
            Some(hold) if more > 0 => hold.wait(self, more, None).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Takes so many bytes more without asking.
    pub fn take(&self, bytes: usize) {
        let inner = &self.budget.inner;
        Inner::take(&mut inner.state(), self.hold.as_deref(), bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what is beyond so many bytes.
    pub fn shrink(&self, bytes: usize) {
        let surplus = self.bytes().saturating_sub(bytes);
        self.bytes.fetch_sub(surplus, Ordering::Relaxed);
        self.budget.inner.give_back(self.hold.as_deref(), surplus);
    }
}

impl Held {
    /// Waits as long as it takes when this is the first, and otherwise for a moment.
    async fn wait_as_it_stands(&self, lease: &Lease, more: usize) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self
                .wait(lease, more, Some(Instant::now() + PATIENCE))
                .await?
            {
                return Ok(true);
            }
            let is_first = self.budget.inner.state().first == Some(self.id);
            if !is_first && Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget
            .inner
            .give_back(self.hold.as_deref(), self.bytes());
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// The bytes with what permits them: both go together.
pub(crate) fn leased(bytes: Bytes, lease: Arc<Lease>) -> Bytes {
    struct Leased {
        bytes: Bytes,
        _lease: Arc<Lease>,
    }
    impl AsRef<[u8]> for Leased {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Leased {
        bytes,
        _lease: lease,
    })
}

/// The error of what takes more memory than a page may.
pub(crate) fn too_much(most: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the response takes more memory than the {} MiB that one may", most >> 20))
        .with_help("ask for smaller pages if the source's configuration can, or raise `memory_budget_mb` under `[sync]`")
}

#[cfg(test)]
mod tests;
