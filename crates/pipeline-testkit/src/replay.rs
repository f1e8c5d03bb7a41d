//! A transport that answers from recorded exchanges.

use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use pipeline_core::http::{
    HeaderMap, HeaderName, HeaderValue, HttpService, RawResponse, Request, StatusCode,
    TransportError,
};

use crate::fixture::{Exchange, RecordedRequest, RecordedResponse, is_for_token};
use crate::secrets::Secrets;

/// Headers that describe how the body was on the wire. Bodies are stored as they are after that, so
/// they are not replayed.
const NOT_REPLAYED: [&str; 4] = [
    "connection",
    "content-encoding",
    "content-length",
    "transfer-encoding",
];

/// Parts that a body arrives in.
const CHUNKS: usize = 3;

/// Answers requests from recorded exchanges, each once and, among equal requests, in order.
///
/// The host, the headers of a request and the order of its query are not compared.
pub struct Replay {
    exchanges: Vec<Exchange>,
    secrets: Secrets,
    repeats_tokens: bool,
    /// How often an exchange answers again when there is no other.
    repeats: u32,
    log: Mutex<Log>,
}

impl fmt::Debug for Replay {
    /// Nothing of the exchanges: they hold the tokens that the vendor issues.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replay({})", self.exchanges.len())
    }
}

#[derive(Debug, Default)]
struct Log {
    /// How many requests each exchange has answered.
    used: Vec<u32>,
    requests: Vec<String>,
    answers: Vec<u16>,
    unexpected: Vec<String>,
}

/// The parts of a request that are compared.
#[derive(Debug)]
struct Asked {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn new(request: &Request) -> Self {
        let url = request.full_url();
        let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        query.sort();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        Self {
            method: request.method.to_string(),
            path: url.path().to_owned(),
            query,
            body,
        }
    }

    fn is_for_token(&self) -> bool {
        is_for_token(&self.method, &self.path)
    }

    fn matches(&self, exchange: &Exchange) -> bool {
        self.is(&exchange.request)
    }

    fn is(&self, recorded: &RecordedRequest) -> bool {
        self.method == recorded.method
            && self.path == recorded.path
            && self.query == recorded.query
            && recorded.body.as_ref().is_none_or(|body| *body == self.body)
    }

    /// One line without credentials: of a token request nothing but where it goes.
    fn line(&self, secrets: &Secrets) -> String {
        let mut line = format!("{} {}", self.method, self.path);
        if self.is_for_token() {
            return line;
        }
        for (name, value) in &self.query {
            _ = write!(line, " {name}={value}");
        }
        if !self.body.is_empty() {
            _ = write!(line, " body: {}", self.body);
        }
        secrets.hide(&line)
    }
}

impl Replay {
    /// A transport that knows these exchanges. The secrets are kept out of what it reports.
    pub fn new(exchanges: Vec<Exchange>, secrets: Secrets) -> Self {
        let log = Log {
            used: vec![0; exchanges.len()],
            ..Log::default()
        };
        Self {
            exchanges,
            secrets,
            repeats_tokens: false,
            repeats: 0,
            log: Mutex::new(log),
        }
    }

    /// Answers every request for a token, whatever its body and however often it comes, as the last
    /// recorded one.
    pub fn repeating_tokens(mut self) -> Self {
        self.repeats_tokens = true;
        self
    }

    /// Answers a request that comes more often than it was recorded as the last time, so many times
    /// at most: a page that is damaged is asked for again, and who asks for ever finds an end.
    pub fn repeating(mut self, times: u32) -> Self {
        self.repeats = times;
        self
    }

    /// The requests answered so far, one a line, without credentials.
    pub fn requests(&self) -> Vec<String> {
        self.log().requests.clone()
    }

    /// The statuses of the answers to those that were not for tokens.
    pub fn answers(&self) -> Vec<u16> {
        self.log().answers.clone()
    }

    /// The requests that nothing was recorded for, one a line.
    pub fn unexpected(&self) -> Vec<String> {
        self.log().unexpected.clone()
    }

    /// The exchanges that were not requested, one a line.
    pub fn unused(&self) -> Vec<String> {
        let log = self.log();
        let unused = self
            .exchanges
            .iter()
            .zip(&log.used)
            .enumerate()
            .filter(|(_, (_, used))| **used == 0);
        let line = |exchange: &Exchange| {
            let request = exchange.request.clone();
            Asked {
                method: request.method,
                path: request.path,
                query: request.query,
                body: request.body.unwrap_or_default(),
            }
            .line(&self.secrets)
        };
        unused
            .map(|(index, (exchange, _))| format!("exchange {}: {}", index + 1, line(exchange)))
            .collect()
    }

    /// What would be answered, without counting the request. None: nothing is recorded for it.
    pub(crate) fn peek(&self, request: &Request) -> Option<&RecordedResponse> {
        let index = self.find(&Asked::new(request), &self.log())?;
        self.exchanges.get(index).map(|exchange| &exchange.response)
    }

    fn find(&self, asked: &Asked, log: &Log) -> Option<usize> {
        if self.repeats_tokens && asked.is_for_token() {
            return self.exchanges.iter().rposition(|exchange| {
                exchange.request.is_for_token() && exchange.request.path == asked.path
            });
        }
        let mut known = self.exchanges.iter().zip(&log.used);
        let last = || {
            self.exchanges
                .iter()
                .rposition(|exchange| asked.matches(exchange))
        };
        known
            .position(|(exchange, used)| *used == 0 && asked.matches(exchange))
            .or_else(|| last().filter(|last| log.used[*last] <= self.repeats))
    }

    /// All answers with records that this path gave to anything.
    pub(crate) fn of_path(&self, request: &Request) -> Vec<&RecordedResponse> {
        let asked = Asked::new(request);
        let is_of_path = |exchange: &&Exchange| {
            asked.method == exchange.request.method && asked.path == exchange.request.path
        };
        let is_success = |exchange: &&Exchange| (200..300).contains(&exchange.response.status);
        self.exchanges
            .iter()
            .filter(is_of_path)
            .filter(is_success)
            .map(|exchange| &exchange.response)
            .collect()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request is the recorded one.
pub(crate) fn is_recorded(request: &Request, recorded: &RecordedRequest) -> bool {
    Asked::new(request).is(recorded)
}

#[async_trait]
impl HttpService for Replay {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        let asked = Asked::new(&request);
        let mut log = self.log();
        let Some(index) = self.find(&asked, &log) else {
            log.unexpected.push(asked.line(&self.secrets));
            return Err(TransportError::Refused(
                "nothing is recorded for this request".to_owned(),
            ));
        };
        log.used[index] += 1;
        log.requests.push(asked.line(&self.secrets));
        let recorded = &self.exchanges[index].response;
        if !asked.is_for_token() {
            log.answers.push(recorded.status);
        }
        response(recorded)
    }
}

/// A recorded response as it comes from a network: in parts.
fn response(recorded: &RecordedResponse) -> Result<RawResponse, TransportError> {
    let parts = chunks(&recorded.body);
    let body = stream::iter(parts.into_iter().map(Ok)).boxed();
    Ok(RawResponse {
        status: status(recorded)?,
        headers: headers(recorded)?,
        body,
    })
}

pub(crate) fn status(recorded: &RecordedResponse) -> Result<StatusCode, TransportError> {
    StatusCode::from_u16(recorded.status)
        .map_err(|_| TransportError::Refused(format!("{} is no status", recorded.status)))
}

pub(crate) fn headers(recorded: &RecordedResponse) -> Result<HeaderMap, TransportError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &recorded.headers {
        if NOT_REPLAYED.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        let header = HeaderName::try_from(name)
            .ok()
            .zip(HeaderValue::try_from(value).ok());
        let (name, value) = header.ok_or_else(|| {
            TransportError::Refused(format!("the recorded header `{name}` is no header"))
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn chunks(body: &Bytes) -> Vec<Bytes> {
    let size = body.len().div_ceil(CHUNKS).max(1);
    (0..body.len())
        .step_by(size)
        .map(|start| body.slice(start..(start + size).min(body.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::TryStreamExt;
    use pipeline_core::http::Method;

    use super::*;

    fn exchange(path: &str, page: &str, body: &str) -> Exchange {
        serde_json::from_value(serde_json::json!({
            "request": { "method": "GET", "path": path, "query": { "page": page, "key": "hidden-key" } },
            "response": { "status": 200, "headers": { "Content-Encoding": "gzip", "X-Id": "7" }, "body_text": body },
        }))
        .unwrap()
    }

    fn request(path: &str, page: &str) -> Request {
        let mut request = Request::new(
            Method::GET,
            format!("https://example.com{path}?key=hidden-key")
                .parse()
                .unwrap(),
        );
        request.set_query("page", page);
        request
    }

    async fn body(replay: &Replay, request: Request) -> (usize, Vec<u8>) {
        let parts: Vec<Bytes> = replay
            .call(request)
            .await
            .unwrap()
            .body
            .try_collect()
            .await
            .unwrap();
        (parts.len(), parts.concat())
    }

    #[tokio::test]
    async fn equal_requests_are_answered_in_order_and_once() {
        let exchanges = vec![
            exchange("/a", "1", "first"),
            exchange("/a", "1", "second"),
            exchange("/a", "2", "never"),
        ];
        let replay = Replay::new(exchanges, Secrets::new(["hidden-key".to_owned()]));
        assert_eq!(
            body(&replay, request("/a", "1")).await,
            (3, b"first".to_vec())
        );
        assert_eq!(
            body(&replay, request("/a", "1")).await,
            (3, b"second".to_vec())
        );
        assert!(replay.call(request("/a", "1")).await.is_err());
        assert_eq!(replay.requests(), ["GET /a key=[secret] page=1"; 2]);
        assert_eq!(replay.unexpected(), ["GET /a key=[secret] page=1"]);
        assert_eq!(replay.unused(), ["exchange 3: GET /a key=[secret] page=2"]);
    }

    #[tokio::test]
    async fn a_request_that_comes_again_is_answered_as_the_last_time_and_not_for_ever() {
        let exchanges = vec![exchange("/a", "1", "first"), exchange("/a", "1", "second")];
        let replay = Replay::new(exchanges, Secrets::default()).repeating(1);
        assert_eq!(body(&replay, request("/a", "1")).await.1, b"first".to_vec());
        for _ in 0..2 {
            assert_eq!(
                body(&replay, request("/a", "1")).await.1,
                b"second".to_vec()
            );
        }
        assert!(replay.call(request("/a", "1")).await.is_err());
    }

    #[tokio::test]
    async fn headers_of_the_wire_are_not_replayed() {
        let replay = Replay::new(vec![exchange("/a", "1", "")], Secrets::default());
        let response = replay.call(request("/a", "1")).await.unwrap();
        assert_eq!(
            response
                .headers
                .keys()
                .map(HeaderName::as_str)
                .collect::<Vec<_>>(),
            ["x-id"]
        );
    }
}
