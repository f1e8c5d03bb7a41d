//! A transport that answers from a function.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use connector_stripe::{API_VERSION, StripeConfig, StripeConnector};
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::{BuildContext, Connector, Session, TokioClock};

type Answer = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// What is answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl From<(u16, String)> for Reply {
    fn from((status, body): (u16, String)) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
        }
    }
}

impl Reply {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A transport that answers from a function and remembers what it was asked.
pub(crate) struct Fake {
    answer: Answer,
    /// True while a run begins: its request for the account is not the test's.
    opening: AtomicBool,
    pub(crate) sent: Mutex<Vec<Request>>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

#[async_trait]
impl HttpService for Fake {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let Reply {
            status,
            headers,
            body,
        } = match request.url.path() {
            "/v1/account" if self.opening.load(Ordering::Relaxed) => {
                (200, r#"{"id":"acct_own"}"#.to_owned()).into()
            }
            _ => (self.answer)(&request),
        };
        self.sent.lock().unwrap().push(request);
        let fixed = [
            ("content-type", "application/json"),
            ("request-id", "req_1"),
            ("stripe-version", API_VERSION),
        ];
        let mut all: HeaderMap = fixed
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        for (name, value) in headers {
            all.insert(name, value.parse().unwrap());
        }
        Ok(RawResponse::full(
            StatusCode::from_u16(status).unwrap(),
            all,
            Bytes::from(body),
        ))
    }
}

impl Fake {
    pub(crate) fn new<R: Into<Reply>>(
        answer: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Arc<Self> {
        let answer = Box::new(move |request: &Request| answer(request).into());
        Arc::new(Self {
            answer,
            opening: AtomicBool::default(),
            sent: Mutex::default(),
        })
    }

    /// Lists without an object.
    pub(crate) fn empty() -> Arc<Self> {
        Self::new(|_| page::<&str>(&[], false))
    }

    /// Begins a run, and forgets what was requested for that.
    pub(crate) async fn open(self: &Arc<Self>, config: StripeConfig) -> Arc<dyn Session> {
        self.open_in(config, BuildContext::default()).await
    }

    /// Begins a run in a context of the test's own.
    pub(crate) async fn open_in(
        self: &Arc<Self>,
        config: StripeConfig,
        context: BuildContext,
    ) -> Arc<dyn Session> {
        self.opening.store(true, Ordering::Relaxed);
        let session = Arc::new(self.connect_in(config, context))
            .open(&[])
            .await
            .unwrap();
        self.opening.store(false, Ordering::Relaxed);
        self.sent.lock().unwrap().clear();
        session
    }

    pub(crate) fn connect(self: &Arc<Self>, config: StripeConfig) -> StripeConnector {
        self.connect_in(config, BuildContext::default())
    }

    /// The same with bounds or an observer of its own.
    pub(crate) fn connect_in(
        self: &Arc<Self>,
        config: StripeConfig,
        context: BuildContext,
    ) -> StripeConnector {
        let clock = Arc::new(TokioClock::starting_at(
            "2026-01-31T00:00:00Z".parse().unwrap(),
        ));
        StripeConnector::new(config, context.transport(self.clone()).clock(clock).seed(7)).unwrap()
    }

    /// The requests so far, as a person reads them.
    pub(crate) fn urls(&self) -> Vec<String> {
        let readable = |request: &Request| {
            let url = request.full_url();
            let query: Vec<String> = url
                .query_pairs()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{} {}?{}", request.method, url.path(), query.join("&"))
        };
        self.sent.lock().unwrap().iter().map(readable).collect()
    }
}

/// The value of a parameter.
pub(crate) fn param<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request
        .query
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

pub(crate) fn page<S: AsRef<str>>(ids: &[S], has_more: bool) -> (u16, String) {
    let data: Vec<_> = ids
        .iter()
        .map(|id| serde_json::json!({ "id": id.as_ref(), "created": 1_769_000_000 }))
        .collect();
    (
        200,
        serde_json::json!({ "object": "list", "data": data, "has_more": has_more }).to_string(),
    )
}

pub(crate) fn refusal(status: u16, code: &str, param: &str, message: &str) -> (u16, String) {
    (
        status,
        serde_json::json!({ "error": { "code": code, "param": param, "message": message } })
            .to_string(),
    )
}
