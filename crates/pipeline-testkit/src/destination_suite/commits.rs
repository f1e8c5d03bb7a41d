//! The endpoints of the suite, and commits of their progress.

use std::sync::Arc;

use pipeline_core::Result;
use pipeline_core::state::{CheckpointDelta, EndpointId, EndpointState, Position, SliceState};
use pipeline_engine::{Commit, Destination, Table};

use super::rows::{Row, batch};

/// The endpoint that the suite reads.
pub fn endpoint(name: &str) -> EndpointId {
    EndpointId::new("demo", name)
}

/// The change that plans an endpoint: one slice, nothing read.
pub fn plan(name: &str) -> CheckpointDelta {
    let mut to = EndpointState::default().next_plan();
    to.add_slice(SliceState::default());
    CheckpointDelta::Replace {
        endpoint: endpoint(name),
        from: EndpointState::default(),
        to,
    }
}

/// The change that reads on from one page to the next; page 0 is the start.
pub fn advance(name: &str, from: usize) -> CheckpointDelta {
    let position = |page: usize| {
        if page == 0 {
            Position::Start
        } else {
            Position::At(page.to_string())
        }
    };
    CheckpointDelta::Advance {
        endpoint: endpoint(name),
        plan: 1,
        slice: 0,
        from: position(from),
        to: position(from + 1),
        watermark: None,
        newest: None,
        seen: Vec::new(),
        gaps: Vec::new(),
    }
}

/// A commit of some changes.
pub fn commit(changes: Vec<CheckpointDelta>) -> Commit {
    Commit {
        run: "run-1".to_owned(),
        changes,
        bytes: 7,
        content_hash: "00ff".to_owned(),
        ..Commit::default()
    }
}

/// Writes rows and commits them in one transaction.
pub async fn store(
    destination: &dyn Destination,
    writes: &[(&Arc<Table>, Vec<Row>)],
    commit: &Commit,
) -> Result<u64> {
    let mut transaction = destination.begin().await?;
    for (table, rows) in writes {
        transaction.write(table, batch(table, rows)).await?;
    }
    transaction.commit(commit).await
}
