//! A connector that reads what it declares, and the records of a run without the engine.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;

use super::{Reader, check};
use crate::connector::slice::TimeRange;
use crate::connector::{CheckReport, Connector, Endpoint, Plan, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::http::HttpClient;
use crate::model::origin::Origin;
use crate::model::record::{Page, RawRecord};
use crate::model::state::{EndpointState, SliceState};

/// A connector whose endpoints say all there is to say: nothing has to be learned before a run.
///
/// Build it in [`ConnectorConfig::build`](crate::ConnectorConfig::build). A vendor that needs more,
/// such as the custom fields of an account, has a [`Connector`] of its own.
#[derive(Debug)]
pub struct DeclarativeConnector {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    range: TimeRange,
    origin: Origin,
}

impl DeclarativeConnector {
    /// Reads these endpoints through a client.
    pub fn new(client: HttpClient, endpoints: Vec<Endpoint>) -> Self {
        Self {
            client,
            endpoints,
            range: TimeRange::all(),
            origin: Origin::default(),
        }
    }

    /// The oldest data wanted, from the configuration.
    pub fn range(mut self, range: TimeRange) -> Self {
        self.range = range;
        self
    }

    /// Whose data is read, as far as the configuration says it.
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }
}

#[async_trait]
impl Connector for DeclarativeConnector {
    fn client(&self) -> &HttpClient {
        &self.client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        check(&self.client, &self.endpoints, endpoints).await
    }

    async fn open(self: Arc<Self>, _endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        let plan = Plan {
            endpoints: self.endpoints.clone(),
            origin: self.origin.clone(),
            ..Plan::default()
        };
        Ok(Arc::new(DeclarativeSession {
            reader: Reader::new(self.client.clone()),
            plan,
        }))
    }
}

#[derive(Debug)]
struct DeclarativeSession {
    reader: Reader,
    plan: Plan,
}

impl Session for DeclarativeSession {
    fn client(&self) -> &HttpClient {
        self.reader.client()
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        self.reader.read(endpoint, slice)
    }
}

/// Reads streams from a program of one's own, without the engine. Nothing is checkpointed.
pub trait SessionExt: Session {
    /// The records of one stream in a time range, in the vendor's order within each slice.
    fn records<'a>(&'a self, stream: &str, range: TimeRange) -> BoxStream<'a, Result<RawRecord>> {
        let of_endpoint = |endpoint: &'a Endpoint| {
            Some((
                endpoint,
                endpoint.streams().position(|def| def.name() == stream)?,
            ))
        };
        // A stream that several endpoints feed is read whole by the first; the others follow its
        // changes. Accounts have one each.
        let mut found = self
            .plan()
            .endpoints
            .iter()
            .filter_map(of_endpoint)
            .peekable();
        let Some((first, _)) = found.peek() else {
            let error = Error::new(
                ErrorKind::ConfigInvalid,
                format!("unknown stream `{stream}`"),
            );
            return stream::once(async { Err(error) }).boxed();
        };
        let name = first.name();
        let (now, state) = (self.client().now(), EndpointState::default());
        let mut slices = Vec::new();
        for (endpoint, index) in found.filter(|(endpoint, _)| endpoint.name() == name) {
            slices.extend(
                endpoint
                    .slicer()
                    .plan(&state, range, now)
                    .into_iter()
                    .map(|slice| (endpoint, index, slice)),
            );
        }
        let records = move |(endpoint, index, slice): (&'a Endpoint, usize, SliceState)| {
            let pages = self.read(endpoint, slice);
            pages
                .map_ok(move |mut page: Page| {
                    stream::iter(std::mem::take(&mut page.records[index]).into_iter().map(Ok))
                })
                .try_flatten()
        };
        stream::iter(slices).flat_map(records).boxed()
    }

    /// The records of one stream as the caller's own type.
    fn typed<'a, T: DeserializeOwned + Send + 'a>(
        &'a self,
        stream: &str,
        range: TimeRange,
    ) -> BoxStream<'a, Result<T>> {
        self.records(stream, range)
            .map(|record| record?.deserialize())
            .boxed()
    }
}

impl<S: Session + ?Sized> SessionExt for S {}
