//! The HTTP client: what it is made of. What happens to a request is in
//! [`lifecycle`](crate::http::client::lifecycle).

pub(crate) mod address;
pub(crate) mod breaker;
mod builder;
pub(crate) mod classify;
mod decoded;
mod lifecycle;
pub(crate) mod received;
pub(crate) mod redact;
pub(crate) mod retry;
pub(crate) mod words;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

pub use self::address::{below, path_segment};
use self::address::{mount, root};
use self::breaker::Breaker;
pub use self::builder::HttpClientBuilder;
pub(crate) use self::builder::check_url;
use self::builder::header_map;
pub use self::classify::{Classifier, ResponseAction};
use self::classify::{is_prose, says_error};
use self::lifecycle::Exchange;
use self::received::{Body, Room, Target};
use self::redact::Redactor;
pub use self::redact::Secrets;
use self::retry::RetryBudget;
pub use self::retry::RetryPolicy;
use self::words::REFUSED;
pub use self::words::WEB_PAGE;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Observer};
use crate::http::auth::Authenticator;
use crate::http::{BuildContext, HeaderMap, HeaderName, HttpService, Method, Spool, StatusCode};
use crate::json::lines::Lines;
use crate::memory::Hold;
use crate::message::{Request, Response};
use crate::model::Availability;
use crate::model::state::EndpointId;
use crate::rate_limit::{BucketUse, Limiter, RateLimitParser, Remaining, date};

/// Difference to the vendor's clock that may be latency and rounding.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// How long a body is taken to be of which none has come yet.
const FIRST_BODY: usize = 64 << 10;

/// A larger difference to the vendor's clock is not one of two clocks.
const LARGEST_SKEW: TimeDelta = TimeDelta::days(366);

/// What the client must know about a request besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The endpoint's name, for events and errors.
    pub endpoint: &'a str,
    /// Names of the quotas it counts against. A name without a quota is not a limit.
    pub buckets: &'a [Cow<'static, str>],
}

/// Sends requests: breaker, limits, auth, send, observe, classify, act. Clones share everything.
///
/// Every request is a read: one that failed on its way is sent again whatever its method.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Arc<Inner>,
    scope: Option<Arc<Scope>>,
    /// Attempts at each request; none: as the retry policy says.
    attempts: Option<u32>,
}

/// One of several accounts that the credentials open.
#[derive(Debug)]
struct Scope {
    account: String,
    headers: HeaderMap,
}

/// Whether web pages that came in the place of answers can be a portal's, which answers everything
/// from then on.
#[derive(Debug, Default)]
pub(crate) struct Portal {
    /// Requests sent so far.
    sent: AtomicU64,
    /// How many there were when the first web page had come, and one more; zero: none has come.
    begun: AtomicU64,
    /// True when the vendor has answered a request that was sent after that.
    is_none: AtomicBool,
}

impl Portal {
    /// Gives the number of the request that is sent now.
    pub(crate) fn send(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed)
    }

    /// Records what came.
    pub(crate) fn observe(&self, request: u64, is_web_page: bool) {
        if is_web_page {
            let next = self.sent.load(Ordering::Relaxed) + 1;
            let _ = self
                .begun
                .compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed);
        } else if (1..=request + 1).contains(&self.begun.load(Ordering::Relaxed)) {
            self.is_none.store(true, Ordering::Relaxed);
        }
    }
}

/// What the clones of a client share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) base: Url,
    origins: RwLock<Vec<Url>>,
    pub(crate) source: String,
    pub(crate) transport: Arc<dyn HttpService>,
    clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) redactor: Redactor,
    pub(crate) classifier: Option<Arc<dyn Classifier>>,
    pub(crate) readers: Vec<Arc<dyn RateLimitParser>>,
    pub(crate) headers: HeaderMap,
    pub(crate) request_id: Option<HeaderName>,
    /// The header of requests that answers repeat, and whether one did not.
    pub(crate) repeated: Option<HeaderName>,
    pub(crate) was_told_otherwise: AtomicBool,
    /// True when errors may quote the words of refusals.
    pub(crate) quotes: bool,
    pub(crate) portal: Portal,
    pub(crate) limiter: Limiter,
    pub(crate) breaker: Breaker,
    pub(crate) budget: RetryBudget,
    pub(crate) retry: RetryPolicy,
    pub(crate) max_body: u64,
    pub(crate) read_timeout: Duration,
    pub(crate) total_timeout: Duration,
    /// Names of endpoints for which an answer was taken.
    answered: Mutex<HashSet<String>>,
    /// How long bodies are, by endpoint; of all accounts together.
    usual: Mutex<HashMap<String, Arc<AtomicUsize>>>,
    /// Milliseconds that the vendor's clock is ahead of ours.
    skew: AtomicI64,
    rng: Mutex<fastrand::Rng>,
}

impl HttpClient {
    /// A client for one account at one vendor. Credentials go to the base URL's origin only.
    ///
    /// ```
    /// # use pipeline_core::{BuildContext, http::{Bearer, HttpClient}, rate_limit::Quota};
    /// let builder = HttpClient::builder(&BuildContext::new("shop"), "https://api.acme.example".parse()?);
    /// let client = builder.authenticator(Bearer::new("key".into())).quota("account", Quota::per_second(10)).build()?;
    /// assert_eq!(client.base().as_str(), "https://api.acme.example/");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(context: &BuildContext, base: Url) -> HttpClientBuilder {
        HttpClientBuilder::new(context, base)
    }

    /// The base URL without its path, which comes before those of requests when they are sent:
    /// requests are made with the vendor's own paths, as `client.base().join("/v1/charges")`.
    pub fn base(&self) -> &Url {
        &self.inner.base
    }

    /// The current wall-clock time: the vendor's own, as its answers report it, or the injected
    /// clock's.
    pub fn now(&self) -> DateTime<Utc> {
        self.inner.now()
    }

    /// The earlier of the vendor's clock and the injected one: what had happened by then has
    /// happened, even if one of them is wrong.
    pub fn earlier_now(&self) -> DateTime<Utc> {
        self.inner.now().min(self.inner.clock.now())
    }

    /// How far the vendor's clock is ahead of the injected one, as its answers report.
    pub fn ahead(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.inner.skew.load(Ordering::Relaxed))
    }

    /// A request for one of the vendor's paths, at the base URL or another origin that the client
    /// knows. The path of that URL comes before it when it is sent.
    pub(crate) fn request(
        &self,
        method: Method,
        base: &Url,
        path: &str,
    ) -> Result<Request, url::ParseError> {
        let mut request = Request::new(method, root(base).join(path)?);
        request.mount = self.inner.mount(&request.url);
        Ok(request)
    }

    /// The client for one of several accounts that the credentials open. It shares everything with
    /// this one, limits included; its requests carry these headers, and errors and events name the
    /// account with the endpoint.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when a header cannot be sent.
    pub fn for_account(&self, account: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let scope = Scope {
            account: account.to_owned(),
            headers: header_map(headers.iter().copied())?,
        };
        Ok(Self {
            scope: Some(Arc::new(scope)),
            ..self.clone()
        })
    }

    /// True when a web page has come in the place of an answer, and since then no answer of the
    /// vendor's to anything.
    pub fn may_be_behind_portal(&self) -> bool {
        let Portal { begun, is_none, .. } = &self.inner.portal;
        begun.load(Ordering::Relaxed) > 0 && !is_none.load(Ordering::Relaxed)
    }

    /// The same client, for requests that are not worth more than this number of attempts. It
    /// shares everything with this one.
    #[must_use]
    pub fn with_attempts(&self, most: u32) -> Self {
        Self {
            attempts: Some(most),
            ..self.clone()
        }
    }

    /// Adds an origin that requests, and with them the credentials, may go to: one that only the
    /// account itself could name, such as the host of a part of it. Clones of the client learn it,
    /// too.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] as for [`HttpClientBuilder::build`].
    pub fn add_origin(&self, url: Url) -> Result<()> {
        check_url(&url)?;
        self.inner
            .origins
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(url);
        Ok(())
    }

    /// The account that it is for, where there are several.
    pub fn account(&self) -> Option<&str> {
        self.scope.as_ref().map(|scope| &*scope.account)
    }

    /// The endpoint's name with the account.
    fn qualified(&self, endpoint: &str) -> String {
        EndpointId::of_account("", endpoint, self.account()).endpoint
    }

    /// The request with the account's headers.
    fn scoped(&self, request: &Request) -> Request {
        let mut request = request.clone();
        for (name, value) in self.scope.iter().flat_map(|scope| &scope.headers) {
            request.headers.insert(name, value.clone());
        }
        request
    }

    /// Reports something to observers that the user should know: a warning, a plan, a
    /// decision. An empty `endpoint` stands for the whole source.
    pub fn notice(&self, endpoint: &str, message: &str) {
        let endpoint = if endpoint.is_empty() {
            String::new()
        } else {
            self.qualified(endpoint)
        };
        self.inner.observer.observe(&Event::Notice {
            source: &self.inner.source,
            endpoint: &endpoint,
            message,
        });
    }

    /// Reports to observers that an endpoint was tried by a check, and whether it can be read.
    pub fn checked(&self, endpoint: &str, availability: &Availability) {
        let endpoint = self.qualified(endpoint);
        self.inner.observer.observe(&Event::Checked {
            source: &self.inner.source,
            endpoint: &endpoint,
            availability,
        });
    }

    /// True when the vendor answered a request for the endpoint, its account included, with other
    /// than a refusal.
    pub fn has_answered(&self, endpoint: &str) -> bool {
        self.inner
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(endpoint)
    }

    /// The error of a success that does not have what was asked for, in the vendor's words where it
    /// has some: an error object in the place of records, or a sentence in the place of JSON.
    pub(crate) fn explained(&self, error: Error, request: &Request, response: &Response) -> Error {
        let is_refusal = says_error(&response.body);
        if !is_refusal && !is_prose(&response.body) {
            return error;
        }
        // What the request carried is known since it was sent.
        let words =
            redact::excerpt(&response.body, &self.inner.redactor.learn([])).unwrap_or_default();
        let error = if is_refusal {
            Error::new(
                ErrorKind::Refused,
                "the server reported an error in a successful response",
            )
            .with_help(REFUSED)
        } else {
            error
        };
        error
            .with_context("answer", words)
            .with_context("path", request.url.path())
    }

    /// Reports characters to observers that could not be read and are U+FFFD now.
    pub(crate) fn tell_repaired(&self, endpoint: &str, characters: u64) {
        self.inner
            .tell_repaired(&self.qualified(endpoint), characters);
    }

    /// The limit that decides how long this number of requests takes, in words, and how long that
    /// is.
    ///
    /// # Errors
    /// As [`left`](Self::left).
    pub async fn forecast(
        &self,
        call: &Call<'_>,
        requests: u64,
    ) -> Result<Option<(String, Duration)>> {
        self.inner.limiter.forecast(call.buckets, requests).await
    }

    /// What is left of a bucket's quota at the moment, what earlier runs spent included: to plan a
    /// run by. None when the bucket or its quota is unknown.
    ///
    /// # Errors
    /// When what earlier runs spent cannot be read.
    pub async fn left(&self, bucket: &str) -> Result<Option<Remaining>> {
        self.inner.limiter.left(bucket).await
    }

    /// What was used of each limit so far, by the name of its bucket. Buckets that no request
    /// counted against are left out.
    pub fn usage(&self) -> Vec<BucketUse> {
        self.inner.limiter.usage()
    }

    /// Sends a request and reads its response to the end.
    ///
    /// # Errors
    /// When the vendor refuses, or when the retries are used up; callers need not retry what this
    /// returns. The context holds `endpoint`, `path`, and `status` and `request_id` if an answer
    /// came. [`ErrorKind::CursorExpired`] when the vendor refuses the position, and
    /// [`ErrorKind::RateLimited`] with the context `resume_at` when it asks for a pause longer than
    /// this run may wait.
    pub async fn send(&self, request: &Request, call: &Call<'_>) -> Result<Response> {
        // A task of its own, so that it continues while its sender is busy with something else:
        // a request that waits in line for a limit, or holds a place under it, would otherwise
        // hold up all requests behind it.
        let (inner, request) = (Arc::clone(&self.inner), self.scoped(request));
        let (endpoint, buckets, attempts) = (
            self.qualified(call.endpoint),
            call.buckets.to_vec(),
            self.attempts,
        );
        let room = Room {
            hold: Hold::current(),
            usual: self.inner.usual(call.endpoint),
        };
        let exchange = async move {
            let call = Call {
                endpoint: &endpoint,
                buckets: &buckets,
            };
            Exchange::new(&inner, &request, &call, Target::Memory(room))?
                .at_most(attempts)
                .run()
                .await
        };
        let panicked = |error| {
            Error::new(ErrorKind::Unexpected, "a request's task panicked").with_source(error)
        };
        let received = AbortOnDropHandle::new(tokio::spawn(exchange))
            .await
            .map_err(panicked)??;
        let body = match &received.body {
            Body::Memory(body) => body.clone(),
            Body::Spool(_) => bytes::Bytes::new(),
        };
        self.inner
            .tell_repaired(&self.qualified(call.endpoint), received.repaired);
        let body = received.leased(body);
        let is_ignored = received.is_ignored;
        Ok(Response {
            status: received.status,
            headers: received.headers,
            body,
            is_ignored,
            lease: received.lease,
        })
    }

    /// Sends a request and writes its response to a temporary file, however large, compressed as it
    /// comes. Its lines are judged on the way, so the file is complete when this returns.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::TooLarge`] when the vendor did not finish the
    /// answer three times: a request for less may succeed.
    pub async fn download(
        &self,
        request: &Request,
        call: &Call<'_>,
        lines: Lines,
    ) -> Result<Spool> {
        let (request, endpoint) = (self.scoped(request), self.qualified(call.endpoint));
        let call = Call {
            endpoint: &endpoint,
            buckets: call.buckets,
        };
        let received = Exchange::new(&self.inner, &request, &call, Target::Spool(lines))?
            .at_most(self.attempts)
            .run()
            .await?;
        match received.body {
            Body::Spool(_) if received.is_ignored => Ok(Spool::empty()),
            Body::Spool(spool) => {
                self.inner.tell_repaired(call.endpoint, spool.repaired());
                Ok(spool)
            }
            Body::Memory(_) => Ok(Spool::empty()),
        }
    }
}

impl Inner {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::milliseconds(self.skew.load(Ordering::Relaxed))
    }

    /// Learns how far the vendor's clock is from ours. An answer from a cache is from another time,
    /// a failure may be another server's than the vendor's, and a year is no difference between
    /// clocks that agree on certificates.
    pub(crate) fn learn_time(&self, status: StatusCode, headers: &HeaderMap, latency: Duration) {
        let is_of_another =
            status.is_server_error() || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        if is_of_another || headers.contains_key(http::header::AGE) {
            return;
        }
        let Some(theirs) = date(headers).map(DateTime::<Utc>::from) else {
            return;
        };
        let ahead = theirs - self.clock.now();
        if ahead.abs() > LARGEST_SKEW {
            return;
        }
        let is_skewed = ahead
            .abs()
            .to_std()
            .is_ok_and(|difference| difference > CLOCK_TOLERANCE + latency);
        self.skew.store(
            if is_skewed {
                ahead.num_milliseconds()
            } else {
                0
            },
            Ordering::Relaxed,
        );
    }

    /// Records that an answer for an endpoint was taken.
    pub(crate) fn note_answer(&self, endpoint: &str) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if !answered.contains(endpoint) {
            answered.insert(endpoint.to_owned());
        }
    }

    /// How long the bodies of an endpoint are.
    fn usual(&self, endpoint: &str) -> Arc<AtomicUsize> {
        let mut usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        match usual.get(endpoint) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(
                usual
                    .entry(endpoint.to_owned())
                    .or_insert_with(|| Arc::new(AtomicUsize::new(FIRST_BODY))),
            ),
        }
    }

    pub(crate) fn fork_rng(&self) -> fastrand::Rng {
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fork()
    }

    /// The path that comes before those of the vendor at the origin of a URL: that of the base URL
    /// that leads there.
    pub(crate) fn mount(&self, url: &Url) -> String {
        let origins = self.origins.read().unwrap_or_else(PoisonError::into_inner);
        origins
            .iter()
            .find(|known| known.origin() == url.origin())
            .map_or("", mount)
            .to_owned()
    }

    /// The request as it is sent.
    pub(crate) fn mounted(&self, mut request: Request) -> Request {
        let mount = self.mount(&request.url);
        if !mount.is_empty() {
            let path = format!("{mount}{}", request.url.path());
            request.url.set_path(&path);
        }
        request
    }

    fn tell_repaired(&self, endpoint: &str, characters: u64) {
        if characters > 0 {
            self.observer.observe(&Event::Repaired {
                source: &self.source,
                endpoint,
                characters,
            });
        }
    }

    /// Refuses a request that would carry the credentials to where they do not belong, or in the
    /// clear.
    pub(crate) fn check_origin(&self, url: &Url) -> Result<()> {
        let origins = self.origins.read().unwrap_or_else(PoisonError::into_inner);
        if !origins.iter().any(|known| known.origin() == url.origin()) {
            return Err(Error::new(
                ErrorKind::Unexpected,
                "the request goes to a host that the credentials are not meant for",
            )
            .with_context("host", url.host_str().unwrap_or_default()));
        }
        Ok(())
    }
}
