//! Where states are kept, and a store in memory.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use super::{CheckpointDelta, EndpointId, EndpointState};
use crate::error::Result;
use crate::model::run_log::{Claim, RunRecord};

/// Holds endpoint states apart from the data, for destinations that cannot hold them.
#[async_trait]
pub trait CheckpointStore: Send + Sync + fmt::Debug {
    /// The stored state; a default one when nothing is stored.
    async fn load(&self, endpoint: &EndpointId) -> Result<EndpointState>;

    /// Every stored state.
    async fn list(&self) -> Result<Vec<(EndpointId, EndpointState)>>;

    /// Applies all changes or none; refuses with [`ErrorKind::CheckpointConflict`](crate::ErrorKind::CheckpointConflict) unless each
    /// starts from what is stored.
    async fn apply(&self, changes: &[CheckpointDelta]) -> Result<()>;

    /// Takes the right to read a source, as a destination does.
    async fn claim(&self, _source: &str, _run: &str) -> Result<Claim> {
        Ok(Box::new(()))
    }

    /// Whether a sync reads the source at the moment; none: the store cannot find out.
    async fn is_claimed(&self, _source: &str) -> Result<Option<bool>> {
        Ok(None)
    }

    /// Remembers a run, as a destination does.
    async fn record_run(&self, _run: &RunRecord) -> Result<()> {
        Ok(())
    }

    /// The newest runs, newest first, at most `limit`.
    async fn runs(&self, _limit: usize) -> Result<Vec<RunRecord>> {
        Ok(Vec::new())
    }
}

/// A store that forgets when the process ends.
#[derive(Debug, Default)]
pub struct MemoryCheckpoints {
    pub(super) states: std::sync::Mutex<BTreeMap<EndpointId, EndpointState>>,
}

impl MemoryCheckpoints {
    fn states(&self) -> std::sync::MutexGuard<'_, BTreeMap<EndpointId, EndpointState>> {
        self.states
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl CheckpointStore for MemoryCheckpoints {
    async fn load(&self, endpoint: &EndpointId) -> Result<EndpointState> {
        Ok(self.states().get(endpoint).cloned().unwrap_or_default())
    }

    async fn list(&self) -> Result<Vec<(EndpointId, EndpointState)>> {
        Ok(self
            .states()
            .iter()
            .map(|(id, state)| (id.clone(), state.clone()))
            .collect())
    }

    async fn apply(&self, changes: &[CheckpointDelta]) -> Result<()> {
        let mut states = self.states();
        let mut next = states.clone();
        for change in changes {
            next.entry(change.endpoint().clone())
                .or_default()
                .apply(change)?;
        }
        *states = next;
        Ok(())
    }
}
