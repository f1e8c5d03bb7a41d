//! A server of a few lines, and what a run reads from it.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use connector_mixpanel::MixpanelConfig;
use futures::stream::{self, StreamExt};
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::{
    BuildContext, Clock, Connector, ConnectorConfig, ErrorKind, Observer, Registry, TokioClock,
};
use pipeline_engine::{Job, Metrics, Outcome, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;

/// What the server says: a status, and a body in pieces of which the last may be a broken
/// connection.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) encoding: Option<&'static str>,
    pub(crate) pieces: Vec<Option<Bytes>>,
}

impl Said {
    pub(crate) fn of(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            encoding: None,
            pieces: vec![Some(body.into())],
        }
    }
}

pub(crate) fn ok(body: impl Into<Bytes>) -> Said {
    Said::of(200, body)
}

pub(crate) fn zipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

type Answer = dyn Fn(&str, usize) -> Said + Send + Sync;

/// Answers by the request's query and how many were made before.
pub(crate) struct Server {
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) answer: Box<Answer>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let value = |name: &str| {
            request
                .query
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        let dates = [value("from_date"), value("to_date"), value("where")]
            .into_iter()
            .flatten();
        let line = dates.collect::<Vec<_>>().join(" ");
        let before = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(line.clone());
            asked.len() - 1
        };
        let said = (self.answer)(&line, before);
        let mut headers = HeaderMap::new();
        if let Some(encoding) = said.encoding {
            headers.insert("content-encoding", encoding.parse().unwrap());
        }
        let piece = |piece: Option<Bytes>| {
            piece.ok_or_else(|| TransportError::Interrupted("reset by peer".into()))
        };
        let body = stream::iter(said.pieces.into_iter().map(piece)).boxed();
        Ok(RawResponse {
            status: StatusCode::from_u16(said.status).unwrap(),
            headers,
            body,
        })
    }
}

/// A project of one day, 2026-11-21, unless the configuration is changed, and what was read of it.
pub(crate) struct Read {
    server: Arc<Server>,
    pub(crate) destination: Arc<MemoryDestination>,
    pub(crate) summary: Summary,
    pub(crate) notices: Vec<String>,
}

/// What is read from, and the clock of the run.
pub(crate) type Reading = (Arc<dyn Connector>, Arc<dyn Clock>);

pub(crate) fn connector(
    config: serde_json::Value,
    answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static,
    observer: Arc<dyn Observer>,
) -> (Arc<Server>, Reading) {
    let server = Arc::new(Server {
        asked: Mutex::default(),
        answer: Box::new(answer),
    });
    let reading = connector_of(&server, config, observer);
    (server, reading)
}

pub(crate) fn connector_of(
    server: &Arc<Server>,
    config: serde_json::Value,
    observer: Arc<dyn Observer>,
) -> Reading {
    let mut all = json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret", "region": "us", "start_date": "2026-11-21" });
    all.as_object_mut()
        .unwrap()
        .extend(config.as_object().unwrap().clone());
    let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z")
        .unwrap()
        .to_utc();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now));
    let context = BuildContext::default()
        .transport(server.clone())
        .clock(Arc::clone(&clock))
        .observer(observer)
        .seed(7);
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>();
    (
        registry.build(MixpanelConfig::NAME, all, context).unwrap(),
        clock,
    )
}

pub(crate) async fn read_with(
    config: serde_json::Value,
    answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static,
) -> Read {
    let metrics = Arc::new(Metrics::default());
    let (server, (connector, clock)) = connector(config, answer, metrics.clone());
    let destination = Arc::new(MemoryDestination::default());
    let source = Source {
        name: "product".to_owned(),
        connector,
        streams: Selection::Named(vec!["export".to_owned()]),
    };
    let summary = sync(Job::new("run", destination.clone(), vec![source]).clock(clock))
        .await
        .unwrap();
    let notices = metrics
        .notices()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    Read {
        server,
        destination,
        summary,
        notices,
    }
}

pub(crate) async fn read(answer: impl Fn(&str, usize) -> Said + Send + Sync + 'static) -> Read {
    read_with(json!({}), answer).await
}

impl Read {
    /// The notes of the events, sorted.
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |properties: String| {
            let properties: serde_json::Value = serde_json::from_str(&properties).unwrap();
            properties["note"].as_str().unwrap_or_default().to_owned()
        };
        let mut notes: Vec<String> = self
            .destination
            .column("product", "export", "properties")
            .into_iter()
            .map(note)
            .collect();
        notes.sort();
        notes
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.server.asked.lock().unwrap().clone()
    }

    pub(crate) fn failure(&self) -> (ErrorKind, String) {
        match &self.summary.endpoints[0].outcome {
            Outcome::Failed { error } => (error.kind, error.message.clone()),
            other => panic!("{other:?}"),
        }
    }
}

/// An event at an hour of the day.
pub(crate) fn event_at(id: &str, hour: i64, note: &str) -> String {
    let time = (1_795_219_200 + hour * 3_600) * 1_000;
    format!(
        r#"{{"event":"Buy","properties":{{"time":{time},"distinct_id":"u","$insert_id":"{id}","note":"{note}"}}}}"#
    )
}

pub(crate) fn event(id: &str, note: &str) -> String {
    event_at(id, 1, note)
}

/// So many events, as lines.
pub(crate) fn events(count: usize) -> String {
    (0..count)
        .map(|n| event(&n.to_string(), &format!("note {n}")) + "\n")
        .collect()
}
