//! A connector of which only some streams exist, and whose pages are watched on their way to the
//! engine.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use pipeline_core::http::HttpClient;
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::{CheckReport, Connector, Endpoint, Page, Plan, Result, Session};

use crate::fixture::Fixture;
use crate::tape::Tape;

/// The endpoints of a connector that feed the streams of a case.
///
/// A feed of changes is left out unless the case has a second sync: it has nothing to report of an
/// account that is read for the first time, and no case has recorded it for every list.
pub(crate) struct Watched {
    inner: Arc<dyn Connector>,
    streams: Vec<String>,
    has_feeds: bool,
    range: TimeRange,
    declared: Vec<Endpoint>,
    tape: Arc<Tape>,
}

impl fmt::Debug for Watched {
    /// As the connector itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A run of it.
#[derive(Debug)]
struct WatchedRun {
    inner: Arc<dyn Session>,
    plan: Plan,
    tape: Arc<Tape>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Connector>, fixture: &Fixture, tape: Arc<Tape>) -> Self {
        let mut watched = Self {
            streams: fixture.streams.clone(),
            has_feeds: fixture.again.is_some(),
            range: fixture
                .start
                .map_or_else(|| inner.range(), TimeRange::since),
            declared: Vec::new(),
            inner,
            tape,
        };
        watched.declared = watched.narrowed(watched.inner.endpoints());
        watched
    }

    fn narrowed(&self, endpoints: &[Endpoint]) -> Vec<Endpoint> {
        let is_wanted = |endpoint: &&Endpoint| {
            let feeds_case = endpoint
                .streams()
                .any(|stream| self.streams.iter().any(|name| name == stream.name()));
            feeds_case && (self.has_feeds || !endpoint.is_last())
        };
        endpoints.iter().filter(is_wanted).cloned().collect()
    }
}

#[async_trait]
impl Connector for Watched {
    fn client(&self) -> &HttpClient {
        self.inner.client()
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.declared
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        self.inner.check(endpoints).await
    }

    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        let inner = Arc::clone(&self.inner).open(endpoints).await?;
        let plan = Plan {
            endpoints: self.narrowed(&inner.plan().endpoints),
            ..inner.plan().clone()
        };
        self.tape.opened(&plan);
        Ok(Arc::new(WatchedRun {
            inner,
            plan,
            tape: Arc::clone(&self.tape),
        }))
    }
}

impl Session for WatchedRun {
    fn client(&self) -> &HttpClient {
        self.inner.client()
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        if let Some(page) = self.tape.caught_up(endpoint, &slice) {
            return async { Ok(page) }.into_stream().boxed();
        }
        let pages = self.inner.read(endpoint, slice);
        let watched = stream::unfold(pages, move |mut pages| async move {
            self.tape.die_if_due().await;
            let page = pages.next().await?;
            if let Ok(page) = &page {
                self.tape.page_read(endpoint, page);
            }
            Some((page, pages))
        });
        watched.boxed()
    }

    fn notices(&self, endpoint: &str) -> Vec<String> {
        self.inner.notices(endpoint)
    }
}
