//! A connector of which only some streams exist, so that a test that reads everything reads what a case has recorded.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::stream::BoxStream;
use pipeline_core::http::HttpClient;
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::{Connector, Endpoint, Page, Preparation, Result};

/// The endpoints of a connector that feed certain streams. A feed of changes is left out: it has nothing to report of an
/// account that is read for the first time, and no case has recorded it for every list.
#[derive(Debug)]
pub(crate) struct Narrowed {
    inner: Arc<dyn Connector>,
    streams: Vec<String>,
    declared: Vec<Endpoint>,
    /// What the connector has once it was prepared.
    prepared: OnceLock<Vec<Endpoint>>,
}

impl Narrowed {
    pub(crate) fn new(inner: Arc<dyn Connector>, streams: &[String]) -> Self {
        let declared = narrowed(inner.endpoints(), streams);
        Self { inner, streams: streams.to_vec(), declared, prepared: OnceLock::new() }
    }
}

fn narrowed(endpoints: &[Endpoint], streams: &[String]) -> Vec<Endpoint> {
    let is_wanted = |endpoint: &&Endpoint| endpoint.streams().any(|stream| streams.iter().any(|name| name == stream.name()));
    endpoints.iter().filter(|endpoint| !endpoint.is_last()).filter(is_wanted).cloned().collect()
}

#[async_trait]
impl Connector for Narrowed {
    fn client(&self) -> &HttpClient {
        self.inner.client()
    }

    fn endpoints(&self) -> &[Endpoint] {
        self.prepared.get().unwrap_or(&self.declared)
    }

    fn range(&self) -> TimeRange {
        self.inner.range()
    }

    async fn prepare(&self, endpoints: &[&str]) -> Result<Preparation> {
        let mut preparation = self.inner.prepare(endpoints).await?;
        preparation.endpoints = preparation.endpoints.map(|endpoints| narrowed(&endpoints, &self.streams));
        self.prepared.get_or_init(|| narrowed(self.inner.endpoints(), &self.streams));
        Ok(preparation)
    }

    fn remarks(&self, endpoint: &str) -> Vec<String> {
        self.inner.remarks(endpoint)
    }

    fn read<'a>(&'a self, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
        self.inner.read(endpoint, slice)
    }
}
