//! A Mixpanel of a few lines, and what a run reads from it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use connector_mixpanel::MixpanelConfig;
use futures::TryStreamExt;
use pipeline_core::http::{
    HeaderMap, HeaderName, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::slice::TimeRange;
use pipeline_core::{
    BuildContext, Connector, ConnectorConfig, Error, Registry, SessionExt, TokioClock,
};
use pipeline_engine::{Job, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;
use tokio::time::Instant;

/// What the server says: a status, headers, a body.
pub(crate) type Said = (u16, Vec<(&'static str, String)>, String);

type Answer = dyn Fn(&str, usize) -> Said + Send + Sync;

/// A Mixpanel that remembers what it was asked, and when.
pub(crate) struct Server {
    pub(crate) asked: Mutex<Vec<(Instant, String)>>,
    answer: Box<Answer>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Answers by the request (host, path and form), and how many were made before.
    pub(crate) fn new(answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            answer: Box::new(answer),
        })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(_, asked)| asked.clone())
            .collect()
    }

    /// Seconds between the first request and the second.
    pub(crate) fn pause(&self) -> f64 {
        let asked = self.asked.lock().unwrap();
        (asked[1].0 - asked[0].0).as_secs_f64()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.contains(part))
            .count()
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let line = format!(
            "{}{} {form}",
            request.url.host_str().unwrap_or_default(),
            request.url.path()
        );
        let before = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((Instant::now(), line.clone()));
            asked.len() - 1
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, headers, body) = (self.answer)(&line, before);
        let header = |(name, value): (&str, String)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let headers: HeaderMap = headers.into_iter().map(header).collect();
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            headers,
            body,
        ))
    }
}

pub(crate) fn ok(body: impl Into<String>) -> Said {
    (200, Vec::new(), body.into())
}

pub(crate) fn refused(status: u16, body: &str) -> Said {
    (status, Vec::new(), body.to_owned())
}

pub(crate) fn connector(server: &Arc<Server>, changes: &serde_json::Value) -> Arc<dyn Connector> {
    let mut config = json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret", "region": "us", "start_date": "2026-11-20" });
    config
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    config
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z")
        .unwrap()
        .to_utc();
    let context = BuildContext::default()
        .transport(server.clone())
        .clock(Arc::new(TokioClock::starting_at(now)))
        .seed(7);
    registry
        .build(MixpanelConfig::NAME, config, context)
        .unwrap()
}

pub(crate) async fn records(connector: &Arc<dyn Connector>, stream: &str) -> Result<usize, Error> {
    let run = Arc::clone(connector).open(&[stream]).await?;
    let records: Vec<_> = run.records(stream, TimeRange::all()).try_collect().await?;
    Ok(records.len())
}

pub(crate) async fn read_all(
    connector: &Arc<dyn Connector>,
    streams: &[&str],
    destination: &Arc<MemoryDestination>,
) -> Summary {
    let streams = Selection::Named(streams.iter().map(ToString::to_string).collect());
    let source = Source {
        name: "product".to_owned(),
        connector: Arc::clone(connector),
        streams,
    };
    sync(Job::new("run", destination.clone(), vec![source]))
        .await
        .unwrap()
}
