//! Bytes that are permitted, until they are given back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::hold::Held;
use super::{Inner, MemoryBudget};
use crate::error::Result;

/// Bytes that are permitted, given back when it is dropped.
pub struct Lease {
    pub(super) budget: MemoryBudget,
    /// What it is for; none: for rows that are staged.
    pub(super) hold: Option<Arc<Held>>,
    pub(super) bytes: AtomicUsize,
    /// Milliseconds that it was waited for.
    pub(super) waited: AtomicU64,
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

    /// Waits until it permits `bytes` in all. What is not first in line waits for a moment
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

    /// Waits until it permits `bytes` in all, however long that takes.
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

    /// Takes `bytes` more without asking.
    pub fn take(&self, bytes: usize) {
        let inner = &self.budget.inner;
        Inner::take(&mut inner.state(), self.hold.as_deref(), bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink(&self, bytes: usize) {
        let surplus = self.bytes().saturating_sub(bytes);
        self.bytes.fetch_sub(surplus, Ordering::Relaxed);
        self.budget.inner.give_back(self.hold.as_deref(), surplus);
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
