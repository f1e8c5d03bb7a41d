//! Faults: what a vendor or a network does wrong, and what must come of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};
use pipeline_core::http::{
    HeaderMap, HeaderValue, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use pipeline_core::{Clock, ErrorKind};
use tokio::time::Instant;

use crate::fixture::is_for_token;
use crate::replay::{Replay, headers, status};

/// What the vendor asks to wait where it says so.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(7);

/// Longer than any timeout.
const STALL: Duration = Duration::from_hours(1);

/// Something that goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 401, then fine.
    Unauthorized,
    /// 401 for ever.
    UnauthorizedForEver,
    /// 429 with `Retry-After` in seconds.
    ThrottledSeconds,
    /// 429 with `Retry-After` as a date.
    ThrottledDate,
    /// 429 without a word on how long.
    Throttled,
    /// 500 three times.
    InternalErrors,
    /// 503 three times.
    Outage,
    /// 503 for ever.
    OutageForEver,
    /// The connection breaks before the headers.
    ResetBeforeHeaders,
    /// The connection breaks after the headers.
    ResetAfterHeaders,
    /// The connection breaks in the middle of the body.
    CutBody,
    /// The body ends in its middle, and nothing shows it.
    TruncatedBody,
    /// The body stops coming in its middle.
    StalledBody,
    /// A page without records which says what the recorded page says about the next.
    EmptyPage,
    /// A page for people with status 200, as from a proxy, for ever.
    Html,
}

/// What must come of a fault. In every case nothing is read twice and no secret shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The same records.
    Same,
    /// The same records, no earlier than after the pause that the vendor asked for.
    SameAfter(Duration),
    /// An error, with the records of all pages before.
    Fails(&'static [ErrorKind]),
    /// Either of these.
    SameOrFails(&'static [ErrorKind]),
    /// All records but those of the emptied page, or an error.
    WithoutPageOrFails(&'static [ErrorKind]),
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 15] = [
        Self::Unauthorized,
        Self::UnauthorizedForEver,
        Self::ThrottledSeconds,
        Self::ThrottledDate,
        Self::Throttled,
        Self::InternalErrors,
        Self::Outage,
        Self::OutageForEver,
        Self::ResetBeforeHeaders,
        Self::ResetAfterHeaders,
        Self::CutBody,
        Self::TruncatedBody,
        Self::StalledBody,
        Self::EmptyPage,
        Self::Html,
    ];

    /// How many attempts of the request it hits.
    fn attempts(self) -> u32 {
        match self {
            Self::UnauthorizedForEver | Self::OutageForEver | Self::Html => u32::MAX,
            Self::InternalErrors | Self::Outage => 3,
            _ => 1,
        }
    }

    /// Whether it can befall a request that is answered with this status: a refusal holds no
    /// records, and without its body it may mean something else.
    pub(crate) fn befalls(self, status: u16) -> bool {
        let is_of_body = matches!(
            self,
            Self::ResetAfterHeaders
                | Self::CutBody
                | Self::TruncatedBody
                | Self::StalledBody
                | Self::EmptyPage
        );
        !is_of_body || (200..300).contains(&status)
    }

    /// What must come of it, for a connector that can ask for another token or that cannot.
    pub(crate) fn expected(self, refreshes_tokens: bool) -> Expected {
        match self {
            Self::Unauthorized if refreshes_tokens => Expected::Same,
            Self::Unauthorized | Self::UnauthorizedForEver => {
                Expected::Fails(&[ErrorKind::Unauthenticated])
            }
            Self::ThrottledSeconds | Self::ThrottledDate => Expected::SameAfter(RETRY_AFTER),
            Self::OutageForEver => Expected::Fails(&[ErrorKind::Unavailable]),
            Self::Html => Expected::Fails(&[
                ErrorKind::Refused,
                ErrorKind::Decode,
                ErrorKind::Unavailable,
            ]),
            Self::TruncatedBody => Expected::SameOrFails(&[ErrorKind::Decode]),
            Self::EmptyPage => Expected::WithoutPageOrFails(&[ErrorKind::Decode]),
            _ => Expected::Same,
        }
    }

    /// Most attempts of one request that a fault may cost: a refused credential is not a reason to
    /// try on.
    pub(crate) fn most_attempts(self, refreshes_tokens: bool) -> u32 {
        match self {
            Self::Unauthorized | Self::UnauthorizedForEver => 1 + u32::from(refreshes_tokens),
            _ => u32::MAX,
        }
    }
}

/// Answers one request, and the attempts to repeat it, with a fault; everything else as recorded,
/// also what is requested at the same time. A fault that is for ever befalls every request from
/// that one on.
#[derive(Debug)]
pub struct Faulty {
    replay: Arc<Replay>,
    clock: Arc<dyn Clock>,
    fault: Fault,
    at: usize,
    progress: Mutex<Progress>,
}

/// What distinguishes a request from others: method, URL and body.
type Asked = (String, Bytes);

#[derive(Debug, Default)]
struct Progress {
    /// Data requests answered as recorded.
    passed: usize,
    /// The request that the fault befalls, once it has come.
    target: Option<Asked>,
    /// Attempts answered with the fault, of each request.
    faulted: HashMap<Asked, u32>,
    /// When the last of them was.
    last: Option<Instant>,
    /// How long it took from there to the next attempt.
    pause: Option<Duration>,
}

impl Faulty {
    /// Puts a fault in the place of the data request number `at`, from 0. Requests for tokens are
    /// not counted.
    pub fn new(replay: Arc<Replay>, clock: Arc<dyn Clock>, fault: Fault, at: usize) -> Self {
        Self {
            replay,
            clock,
            fault,
            at,
            progress: Mutex::default(),
        }
    }

    /// How many attempts of one request were answered with the fault, at most.
    pub fn faulted(&self) -> u32 {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .faulted
            .values()
            .copied()
            .max()
            .unwrap_or(0)
    }

    /// How long it took from the last of them to the next attempt, if there was one.
    pub fn pause(&self) -> Option<Duration> {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pause
    }

    /// Whether this attempt is answered with the fault.
    fn hits(&self, request: &Request) -> bool {
        if is_for_token(request.method.as_str(), request.url.path()) {
            return false;
        }
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = (
            format!("{} {}", request.method, request.full_url()),
            request.body.clone(),
        );
        if progress.passed == self.at && progress.target.is_none() {
            progress.target = Some(asked.clone());
        }
        let is_target = progress.target.as_ref() == Some(&asked);
        let is_for_ever = self.fault.attempts() == u32::MAX && progress.target.is_some();
        let faulted = progress.faulted.get(&asked).copied().unwrap_or(0);
        let hits = is_for_ever || (is_target && faulted < self.fault.attempts());
        if hits {
            progress.faulted.insert(asked, faulted + 1);
            progress.last = Some(Instant::now());
        } else {
            progress.passed += 1;
            let pause = progress
                .last
                .filter(|_| is_target)
                .map(|last| last.elapsed());
            progress.pause = progress.pause.or(pause);
        }
        hits
    }

    /// The recorded response whose body comes otherwise. Does not use the exchange up, as the
    /// client will ask again.
    fn instead(
        &self,
        request: &Request,
        change: impl FnOnce(Bytes) -> stream::BoxStream<'static, Result<Bytes, TransportError>>,
    ) -> Result<RawResponse, TransportError> {
        let recorded = self.replay.peek(request).ok_or_else(|| {
            TransportError::Refused("nothing is recorded for this request".to_owned())
        })?;
        Ok(RawResponse {
            status: status(recorded)?,
            headers: headers(recorded)?,
            body: change(recorded.body.clone()),
        })
    }

    async fn without_records(&self, request: Request) -> Result<RawResponse, TransportError> {
        let emptied = self
            .replay
            .peek(&request)
            .and_then(|recorded| emptied(&recorded.body));
        let response = self.replay.call(request).await?;
        Ok(match emptied {
            Some(body) => RawResponse::full(response.status, response.headers, body),
            None => response,
        })
    }
}

#[async_trait]
impl HttpService for Faulty {
    async fn call(&self, request: Request) -> Result<RawResponse, TransportError> {
        if !self.hits(&request) {
            return self.replay.call(request).await;
        }
        let refusal = |status, headers| Ok(refusal(&request, status, headers));
        match self.fault {
            Fault::Unauthorized | Fault::UnauthorizedForEver => {
                refusal(StatusCode::UNAUTHORIZED, HeaderMap::new())
            }
            Fault::ThrottledSeconds => refusal(
                StatusCode::TOO_MANY_REQUESTS,
                retry_after(&RETRY_AFTER.as_secs().to_string(), None),
            ),
            Fault::ThrottledDate => {
                let now = self.clock.now();
                let until = now + TimeDelta::from_std(RETRY_AFTER).unwrap_or_default();
                refusal(
                    StatusCode::TOO_MANY_REQUESTS,
                    retry_after(&http_date(until), Some(now)),
                )
            }
            Fault::Throttled => refusal(StatusCode::TOO_MANY_REQUESTS, HeaderMap::new()),
            Fault::InternalErrors => refusal(StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new()),
            Fault::Outage | Fault::OutageForEver => {
                refusal(StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new())
            }
            Fault::Html => refusal(StatusCode::OK, HeaderMap::new()),
            Fault::ResetBeforeHeaders => Err(reset()),
            Fault::ResetAfterHeaders => {
                self.instead(&request, |_| stream::iter([Err(reset())]).boxed())
            }
            Fault::CutBody => self.instead(&request, |body| {
                stream::iter([Ok(first_half(&body)), Err(reset())]).boxed()
            }),
            Fault::TruncatedBody => self.instead(&request, |body| {
                stream::iter([Ok(first_half(&body))]).boxed()
            }),
            Fault::StalledBody => self.instead(&request, stalled),
            Fault::EmptyPage => self.without_records(request).await,
        }
    }
}

fn reset() -> TransportError {
    TransportError::Interrupted(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
}

pub(crate) fn first_half(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

fn stalled(body: Bytes) -> stream::BoxStream<'static, Result<Bytes, TransportError>> {
    let rest = body.slice(body.len() / 2..);
    let late = async move {
        tokio::time::sleep(STALL).await;
        Ok(rest)
    };
    stream::iter([Ok(first_half(&body))])
        .chain(stream::once(late))
        .boxed()
}

/// A page for people which repeats the request's credentials, as some servers do.
fn refusal(request: &Request, status: StatusCode, mut headers: HeaderMap) -> RawResponse {
    let sent: Vec<String> = request
        .headers
        .values()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let body = format!(
        "<html><body>{status}: {} with {}</body></html>",
        request.full_url(),
        sent.join(", ")
    );
    headers.insert("content-type", HeaderValue::from_static("text/html"));
    RawResponse::full(status, headers, body)
}

fn retry_after(value: &str, date: Option<DateTime<Utc>>) -> HeaderMap {
    let values = [
        ("retry-after", Some(value.to_owned())),
        ("date", date.map(http_date)),
    ];
    values
        .into_iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::try_from(value?).ok()?)))
        .collect()
}

fn http_date(time: DateTime<Utc>) -> String {
    httpdate::fmt_http_date(time.into())
}

/// A JSON object whose arrays of objects are empty; none when there is none to empty.
pub(crate) fn emptied(body: &Bytes) -> Option<Bytes> {
    let mut page: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let mut removed = 0;
    for list in page
        .values_mut()
        .filter_map(serde_json::Value::as_array_mut)
    {
        if list.first().is_some_and(serde_json::Value::is_object) {
            removed += list.len() as u64;
            list.clear();
        }
    }
    // What is not there is not counted, either: a list that is cut short is another fault.
    for name in ["count", "total"] {
        if let Some(count) = page.get(name).and_then(serde_json::Value::as_u64) {
            page.insert(name.to_owned(), count.saturating_sub(removed).into());
        }
    }
    (removed > 0).then(|| Bytes::from(serde_json::Value::from(page).to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_lists_of_records_are_emptied() {
        let body = Bytes::from_static(br#"{"data":[{"id":1}],"warnings":["a"],"has_more":true}"#);
        let emptied: serde_json::Value = serde_json::from_slice(&emptied(&body).unwrap()).unwrap();
        assert_eq!(
            emptied,
            serde_json::json!({"data": [], "warnings": ["a"], "has_more": true})
        );
        assert_eq!(super::emptied(&Bytes::from_static(b"{}\n{}")), None);
    }

    #[tokio::test]
    async fn t3_a_fault_hits_one_of_several_requests_under_way_at_the_same_time() {
        let exchange = |path: &str| {
            serde_json::from_value(serde_json::json!({
                "request": { "method": "GET", "path": path, "query": {} },
                "response": { "status": 200, "headers": {}, "body": { "data": [] } },
            }))
            .unwrap()
        };
        let exchanges = ["/parents", "/a", "/b", "/c"].map(exchange).to_vec();
        let replay =
            Arc::new(Replay::new(exchanges, crate::secrets::Secrets::default()).repeating(8));
        let clock: Arc<dyn Clock> =
            Arc::new(pipeline_core::TokioClock::starting_at(DateTime::UNIX_EPOCH));
        for (fault, expected, attempts) in [
            (Fault::Unauthorized, [200, 200, 401, 200, 200, 200], 1),
            (Fault::Outage, [200, 200, 503, 200, 503, 200], 2),
            (
                Fault::UnauthorizedForEver,
                [200, 200, 401, 401, 401, 401],
                2,
            ),
        ] {
            let faulty = Faulty::new(Arc::clone(&replay), Arc::clone(&clock), fault, 2);
            let mut statuses = Vec::new();
            for path in ["/parents", "/a", "/b", "/c", "/b", "/a"] {
                let request = Request::new(
                    pipeline_core::http::Method::GET,
                    format!("https://shop.test{path}").parse().unwrap(),
                );
                statuses.push(faulty.call(request).await.unwrap().status.as_u16());
            }
            assert_eq!(
                (&statuses[..], faulty.faulted()),
                (&expected[..], attempts),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn refused_credentials_are_tried_once_more_at_most() {
        assert_eq!(Fault::UnauthorizedForEver.most_attempts(false), 1);
        assert_eq!(Fault::UnauthorizedForEver.most_attempts(true), 2);
    }

    #[test]
    fn faults_of_records_befall_answers_that_have_some() {
        assert!(Fault::EmptyPage.befalls(200) && !Fault::EmptyPage.befalls(400));
        assert!(Fault::ResetBeforeHeaders.befalls(400));
    }
}
