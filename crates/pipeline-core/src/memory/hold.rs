//! What is held for one page, and how it waits for room.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::time::{Instant, timeout_at};

use super::lease::Lease;
use super::{Answer, BODY_FACTOR, FIRST_PATIENCE, Inner, MemoryBudget, PATIENCE, too_much};
use crate::error::Result;

tokio::task_local! {
    /// What is read at the moment.
    static CURRENT: Hold;
}

/// What is read for one page. Clones are the same hold, which ends with the last of them. Bytes may
/// outlive it: nothing more is asked for then.
#[derive(Clone)]
pub struct Hold(pub(super) Arc<Guard>);

/// Ends the hold.
pub(super) struct Guard(pub(super) Arc<Held>);

pub(super) struct Held {
    pub(super) budget: MemoryBudget,
    pub(super) id: u64,
    /// True before its turn has come.
    pub(super) ahead: AtomicBool,
    /// True for one that does not wait.
    pub(super) urgent: AtomicBool,
    pub(super) bytes: AtomicUsize,
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
    pub(super) fn held(&self) -> &Arc<Held> {
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

    /// Waits for memory for `bytes` of a body, or for as much as it may take, before they are
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
    /// much room that no hold has to wait for it. Nothing more is read for the hold then.
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
    /// no hold has to wait for it.
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
    /// Waits until `bytes` are permitted; false when they are not until `deadline`.
    pub(super) async fn wait(
        &self,
        lease: &Lease,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<bool> {
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

impl Held {
    /// Waits as long as it takes when this is the first, and otherwise for a moment.
    pub(super) async fn wait_as_it_stands(&self, lease: &Lease, more: usize) -> Result<bool> {
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
