//! Runs of the connectors that tests are made of.

use std::sync::Arc;

use futures::stream::BoxStream;
use pipeline_core::http::HttpClient;
use pipeline_core::state::SliceState;
use pipeline_core::{Connector, Endpoint, Page, Plan, Reader, Result, Session};

/// A connector whose runs have no state of their own.
pub(super) trait Fake: Connector {
    /// See [`Session::read`].
    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        Reader::new(self.client().clone()).read(endpoint, slice)
    }
}

/// A run of a [`Fake`].
#[derive(Debug)]
struct Run<C> {
    connector: Arc<C>,
    plan: Plan,
}

/// Begins a run that reads what a connector declares.
pub(super) fn open<C: Fake>(connector: Arc<C>) -> Arc<dyn Session> {
    let plan = Plan {
        endpoints: connector.endpoints().to_vec(),
        ..Plan::default()
    };
    open_as(connector, plan)
}

/// Begins a run that reads a plan.
pub(super) fn open_as<C: Fake>(connector: Arc<C>, plan: Plan) -> Arc<dyn Session> {
    Arc::new(Run { connector, plan })
}

impl<C: Fake> Session for Run<C> {
    fn client(&self) -> &HttpClient {
        self.connector.client()
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        self.connector.read(endpoint, slice)
    }
}
