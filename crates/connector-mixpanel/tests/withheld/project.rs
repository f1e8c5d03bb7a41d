//! A Mixpanel of a few lines, the runs that read it, and the answers that many tests need.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use connector_mixpanel::MixpanelConfig;
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::{BuildContext, Clock, Connector, ConnectorConfig, Registry, TokioClock};
use pipeline_engine::{EndpointSummary, Job, Metrics, Options, Selection, Source, Summary, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;

/// A request as `path query form`, decoded.
type Answer = dyn Fn(&str) -> (u16, String) + Send + Sync;

/// A Mixpanel of a few lines, and the runs that read it into one destination.
pub(crate) struct Project {
    server: Arc<Server>,
    destination: Arc<MemoryDestination>,
    config: serde_json::Value,
}

struct Server {
    asked: Mutex<Vec<String>>,
    answer: Mutex<Box<Answer>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

#[async_trait]
impl HttpService for Server {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let pair = |(name, value): (String, String)| format!(" {name}={value}");
        let form = url::form_urlencoded::parse(&request.body).into_owned();
        let asked = request
            .query
            .into_iter()
            .chain(form)
            .map(pair)
            .fold(request.url.path().to_owned(), |line, pair| line + &pair);
        self.asked.lock().unwrap().push(asked.clone());
        let (status, body) = (self.answer.lock().unwrap())(&asked);
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            HeaderMap::new(),
            body,
        ))
    }
}

/// What a run did.
pub(crate) struct Run {
    pub(crate) summary: Summary,
    pub(crate) notices: Vec<String>,
}

impl Project {
    pub(crate) fn new(
        config: serde_json::Value,
        answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let mut all = json!({ "project_id": 7, "username": "loader", "secret": "dummy-secret", "region": "us", "start_date": "2026-11-20" });
        all.as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        all.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let server = Arc::new(Server {
            asked: Mutex::default(),
            answer: Mutex::new(Box::new(answer)),
        });
        Self {
            server,
            destination: Arc::new(MemoryDestination::default()),
            config: all,
        }
    }

    pub(crate) fn answers(&self, answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) {
        *self.server.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn connector(&self, metrics: Arc<Metrics>) -> (Arc<dyn Connector>, Arc<dyn Clock>) {
        let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z")
            .unwrap()
            .to_utc();
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now));
        let context = BuildContext::default()
            .transport(self.server.clone())
            .clock(Arc::clone(&clock))
            .observer(metrics)
            .seed(7);
        let mut registry = Registry::default();
        registry.add::<MixpanelConfig>();
        (
            registry
                .build(MixpanelConfig::NAME, self.config.clone(), context)
                .unwrap(),
            clock,
        )
    }

    pub(crate) async fn sync(&self, streams: &[&str]) -> Run {
        self.sync_with(streams, Options::default()).await
    }

    pub(crate) async fn sync_with(&self, streams: &[&str], options: Options) -> Run {
        let metrics = Arc::new(Metrics::default());
        let (connector, clock) = self.connector(metrics.clone());
        let streams = match streams {
            [] => Selection::All,
            named => Selection::Named(named.iter().map(ToString::to_string).collect()),
        };
        let source = Source {
            name: "product".to_owned(),
            connector,
            streams,
        };
        let summary = sync(
            Job::new("run", self.destination.clone(), vec![source])
                .clock(clock)
                .options(options)
                .observer(metrics.clone()),
        )
        .await
        .unwrap();
        Run {
            summary,
            notices: metrics
                .notices()
                .into_iter()
                .map(|(_, text)| text)
                .collect(),
        }
    }

    pub(crate) fn column(&self, stream: &str, column: &str) -> Vec<String> {
        let mut values = self.destination.column("product", stream, column);
        values.sort();
        values
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.server
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| asked.contains(part))
            .count()
    }

    pub(crate) fn asked(&self, part: &str) -> Vec<String> {
        self.server
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| asked.contains(part))
            .cloned()
            .collect()
    }
}

impl Run {
    pub(crate) fn endpoint(&self, name: &str) -> &EndpointSummary {
        self.summary
            .endpoints
            .iter()
            .find(|endpoint| endpoint.id.endpoint == name)
            .unwrap()
    }

    pub(crate) fn gaps(&self, endpoint: &str) -> Vec<&str> {
        self.endpoint(endpoint)
            .gaps
            .iter()
            .map(|gap| gap.name.as_str())
            .collect()
    }
}

pub(crate) fn ok(body: impl Into<String>) -> (u16, String) {
    (200, body.into())
}

pub(crate) fn refused(text: &str) -> (u16, String) {
    (400, format!(r#"{{"error":"{text}"}}"#))
}

pub(crate) fn value<'a>(asked: &'a str, name: &str) -> Option<&'a str> {
    asked
        .split(' ')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// A page of profiles.
pub(crate) fn profiles(
    page: usize,
    size: usize,
    total: Option<usize>,
    ids: &[&str],
) -> (u16, String) {
    let total = total.map_or(String::new(), |total| format!(r#""total":{total},"#));
    let ids: Vec<String> = ids
        .iter()
        .map(|id| format!(r#"{{"$distinct_id":"{id}","$properties":{{}}}}"#))
        .collect();
    ok(format!(
        r#"{{"page":{page},"page_size":{size},{total}"session_id":"s","status":"ok","results":[{}]}}"#,
        ids.join(",")
    ))
}

pub(crate) fn me(project: &str) -> (u16, String) {
    ok(format!(
        r#"{{"status":"ok","results":{{"projects":{{{project}}}}}}}"#
    ))
}
