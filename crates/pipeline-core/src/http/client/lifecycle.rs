//! One request on its way through its attempts: memory, breaker, limits, auth, send, observe,
//! classify, act. The order is an invariant: what waits for memory keeps no place under a limit
//! from others.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::LOCATION;
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Attempt, Event};
use crate::http::auth::CredentialGeneration;
use crate::http::client::breaker::{Admission, RequestFailure};
use crate::http::client::classify::{ResponseAction, default_action, is_cut_off, is_web_page};
use crate::http::client::received::{Body, NotReceived, Received, Target, receive};
use crate::http::client::redact::Secrets;
use crate::http::client::retry::{Backoff, Retrying};
use crate::http::client::words::{failure, refusal_help};
use crate::http::client::{Call, Inner, redact};
use crate::http::transport::transport_error;
use crate::http::{HeaderMap, StatusCode, TransportError};
use crate::memory::Lease;
use crate::message::Request;
use crate::rate_limit::{Hint, Throttle, Turn, Wait, retry_after};

mod errors;
mod verdict;

/// Longer than any run, and short enough to be added to a time.
const FOR_EVER: Duration = Duration::from_hours(365 * 24);

/// Shortest wait that is reported to observers.
const NOTEWORTHY: Duration = Duration::from_millis(50);

/// Attempts at an answer that the vendor does not finish because of its size.
const TOO_LARGE_ATTEMPTS: u32 = 3;

/// One request, its attempts so far, and its bounds.
pub(crate) struct Exchange<'a> {
    client: &'a Inner,
    request: Request,
    call: &'a Call<'a>,
    target: Target,
    host: String,
    deadline: Instant,
    sent: u32,
    /// The number of the last one among all requests of the client.
    number: u64,
    most_attempts: u32,
    failures: u32,
    /// Failures that an answer's size may have caused.
    too_large: u32,
    refreshed: bool,
    backoff: Backoff,
    retrying: Option<Retrying<'a>>,
    /// What must not show up in an error or an event.
    secrets: Arc<Secrets>,
}

/// What came of sending a request once.
struct Outcome {
    result: Result<Received, NotReceived>,
    latency: Duration,
}

/// What is reported to observers about an attempt.
struct Facts {
    status: Option<StatusCode>,
    bytes: u64,
    request_id: Option<String>,
    latency: Duration,
}

/// What an outcome means.
enum Verdict {
    Accept(Box<Received>),
    /// The credential was refused.
    Refresh(Error),
    Retry(Option<Duration>, Error),
    Throttled(Option<Throttle>, Option<Duration>, Error),
    Fail(Error),
    /// It is asked for again when there is memory for this much.
    GiveWay(usize),
}

/// How long a throttled request has to wait, and whether that is the limit's affair.
#[derive(Clone, Copy)]
struct Pause {
    wait: Duration,
    by_limit: bool,
}

/// What comes after an attempt that did not fail for good.
enum Step {
    Done(Box<Received>),
    Again(Duration),
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        client: &'a Inner,
        request: &Request,
        call: &'a Call<'a>,
        target: Target,
    ) -> Result<Self> {
        client.check_origin(&request.url)?;
        let mut request = request.clone();
        for (name, value) in &client.headers {
            request.headers.entry(name).or_insert_with(|| value.clone());
        }
        Ok(Self {
            client,
            host: request.url.host_str().unwrap_or_default().to_owned(),
            request,
            call,
            target,
            deadline: Instant::now() + client.retry.max_elapsed.min(FOR_EVER),
            sent: 0,
            number: 0,
            most_attempts: client.retry.max_attempts,
            failures: 0,
            too_large: 0,
            refreshed: false,
            backoff: Backoff::new(&client.retry, client.fork_rng()),
            retrying: None,
            secrets: Arc::default(),
        })
    }

    /// Bounds the attempts further than the policy does.
    pub(crate) fn at_most(mut self, attempts: Option<u32>) -> Self {
        self.most_attempts =
            attempts.map_or(self.most_attempts, |most| most.min(self.most_attempts));
        self
    }

    /// Sends the request until an attempt decides. Waits are between attempts, and outside their
    /// timeouts.
    pub(crate) async fn run(mut self) -> Result<Received> {
        loop {
            match self.attempt().await {
                Ok(Step::Done(received)) => return Ok(*received),
                Ok(Step::Again(wait)) => sleep(wait).await,
                Err(error) => return Err(self.located(error).persistent()),
            }
        }
    }

    /// One attempt, from the breaker to the decision.
    async fn attempt(&mut self) -> Result<Step> {
        let lease = self.memory().await;
        let admission = self.breaker().await?;
        let mut turn = self.limits().await?;
        let (authenticated, generation) = self.auth().await?;
        self.secrets = self.learn_secrets(&authenticated, generation).await;
        let outcome = self.send(authenticated, lease).await;
        let (facts, hints) = self.observe(&outcome, &turn);
        let verdict = self.classify(outcome);
        self.record(&facts, &turn, &verdict);
        let again = self.report(&verdict, &hints, &mut turn).await?;
        drop(turn);
        let failure = self.failure_of(facts.status);
        self.act(verdict, generation, (admission, failure), again)
            .await
    }

    /// Waits for memory for as long a body as is usual, so that nothing is asked for that there is
    /// no room for.
    async fn memory(&mut self) -> Option<Arc<Lease>> {
        let Target::Memory(room) = &self.target else {
            return None;
        };
        let lease = room.ready().await;
        self.deadline += lease.waited();
        Some(Arc::new(lease))
    }

    async fn breaker(&self) -> Result<Admission<'a>> {
        self.client
            .breaker
            .admit(&self.host, self.deadline)
            .await
            .map_err(|_| {
                Error::new(
                    ErrorKind::Unavailable,
                    "the host failed too often, and requests to it are paused for longer than this \
                     run may wait",
                )
                .temporary()
                .with_context("host", self.host.clone())
            })
    }

    async fn limits(&mut self) -> Result<Turn> {
        let turn = self
            .client
            .limiter
            .acquire(self.call.buckets, |obstacle| self.before_wait(obstacle))
            .await?;
        if self.sent == 0 {
            // Waiting in line is not a fault of the request.
            self.deadline += turn.waited;
        }
        Ok(turn)
    }

    fn before_wait(&self, obstacle: &Wait) -> Result<()> {
        if obstacle.wait > self.client.retry.max_server_delay.min(FOR_EVER) {
            return Err(self
                .too_long(obstacle.wait)
                .with_context("limit", obstacle.limit.clone()));
        }
        if obstacle.wait > NOTEWORTHY {
            let (source, endpoint) = (self.client.source.as_str(), self.call.endpoint);
            self.client.observer.observe(&Event::Waiting {
                source,
                endpoint,
                limit: &obstacle.limit,
                wait: obstacle.wait,
            });
        }
        Ok(())
    }

    /// Every attempt carries the credential that is current.
    async fn auth(&self) -> Result<(Request, CredentialGeneration)> {
        let mut request = self.request.clone();
        let generation = self.client.authenticator.authenticate(&mut request).await?;
        Ok((request, generation))
    }

    /// What must not be shown: what this request carries, and what the authenticator and earlier
    /// requests had.
    async fn learn_secrets(
        &self,
        authenticated: &Request,
        generation: CredentialGeneration,
    ) -> Arc<Secrets> {
        let mut values = redact::values(&self.request, authenticated);
        if self.client.redactor.is_new(generation) {
            let held = self.client.authenticator.secrets().await;
            values.extend(held.iter().map(|secret| secret.expose_secret().to_owned()));
        }
        self.client.redactor.learn(values)
    }

    async fn send(&mut self, authenticated: Request, lease: Option<Arc<Lease>>) -> Outcome {
        self.sent += 1;
        self.number = self.client.portal.send();
        let started = Instant::now();
        let waited = |lease: &Arc<Lease>| lease.waited();
        let before = lease.as_ref().map_or(Duration::ZERO, waited);
        let result = match &lease {
            Some(lease) => {
                let mut received = pin!(receive(
                    self.client,
                    &self.target,
                    authenticated,
                    Some(lease)
                ));
                loop {
                    // A wait for memory is not the vendor's.
                    let due =
                        started + self.client.total_timeout + lease.waited().saturating_sub(before);
                    match timeout_at(due, &mut received).await {
                        Ok(received) => break received,
                        Err(_)
                            if Instant::now()
                                < started
                                    + self.client.total_timeout
                                    + lease.waited().saturating_sub(before) => {}
                        Err(_) => {
                            break Err(transport_error(TransportError::Timeout("total")).into());
                        }
                    }
                }
            }
            None => receive(self.client, &self.target, authenticated, None).await,
        };
        let waited = lease
            .as_ref()
            .map_or(Duration::ZERO, waited)
            .saturating_sub(before);
        self.deadline += match self.target {
            Target::Memory(_) => waited,
            // However long a download takes, it leaves as much time for another attempt.
            Target::Spool(_) => started.elapsed(),
        };
        Outcome {
            result,
            latency: started.elapsed().saturating_sub(waited),
        }
    }

    /// Learns from the answer before anything is decided, so that all requests profit.
    fn observe(&self, outcome: &Outcome, turn: &Turn) -> (Facts, Vec<Hint>) {
        let mut facts = Facts {
            status: None,
            bytes: 0,
            request_id: None,
            latency: outcome.latency,
        };
        let Ok(received) = &outcome.result else {
            return (facts, Vec::new());
        };
        facts.status = Some(received.status);
        facts.request_id = self.request_id(&received.headers);
        facts.bytes = match &received.body {
            Body::Memory(body) => body.len() as u64,
            Body::Spool(spool) => spool.length(),
        };
        self.client
            .learn_time(received.status, &received.headers, outcome.latency);
        self.check_repeated(received);
        if received.status.is_success() {
            self.client
                .portal
                .observe(self.number, is_web_page(&self.answer(received)));
        }
        let (answer, now) = (self.answer(received), self.client.now());
        let hints: Vec<_> = self
            .client
            .readers
            .iter()
            .flat_map(|reader| reader.read(&answer, now))
            .map(|(bucket, hint)| (bucket, hint.plausible()))
            .collect();
        self.client.limiter.learn(turn, &hints);
        (facts, hints)
    }

    /// Reports to observers, once, when an answer does not repeat what was asked for.
    fn check_repeated(&self, received: &Received) {
        let Some(name) = self
            .client
            .repeated
            .as_ref()
            .filter(|_| received.status.is_success())
        else {
            return;
        };
        let value = |headers: &HeaderMap| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
        };
        let (Some(asked), Some(answered)) =
            (value(&self.request.headers), value(&received.headers))
        else {
            return;
        };
        if asked != answered && !self.client.was_told_otherwise.swap(true, Ordering::Relaxed) {
            let answered = redact::request_id(&answered, &self.secrets);
            let message = format!(
                "answers have the {name} {answered}, and not the {asked} that is asked for: what \
                 they hold may differ from what is expected"
            );
            self.client.observer.observe(&Event::Notice {
                source: &self.client.source,
                endpoint: "",
                message: &message,
            });
        }
    }

    /// Decides what the outcome means; asks the vendor's classifier first.
    fn classify(&self, outcome: Outcome) -> Verdict {
        let received = match outcome.result {
            Ok(received) => received,
            Err(NotReceived::GaveWay(length)) => return Verdict::GiveWay(length),
            Err(NotReceived::Error(error)) if error.is_temporary() => {
                return Verdict::Retry(None, error);
            }
            Err(NotReceived::Error(error)) => return Verdict::Fail(error),
        };
        let answer = self.answer(&received);
        let vendor = self
            .client
            .classifier
            .as_ref()
            .and_then(|classifier| classifier.classify(&answer));
        let cut_off = received.status != StatusCode::NO_CONTENT
            && matches!(&received.body, Body::Memory(body) if is_cut_off(body));
        let error = |kind, message: &str| self.refusal(kind, message, &received);
        let asked = |after: Option<Duration>| {
            after.or_else(|| retry_after(&received.headers, self.client.now()))
        };
        match vendor.unwrap_or_else(|| default_action(&answer)) {
            ResponseAction::Accept
                if received.status.is_success() && cut_off && !is_web_page(&answer) =>
            {
                // Its words are records, which an error must not show.
                Verdict::Retry(
                    None,
                    self.answer_error(
                        ErrorKind::Decode,
                        "the response is empty or cut off",
                        &received,
                    )
                    .temporary(),
                )
            }
            ResponseAction::Accept => Verdict::Accept(Box::new(received)),
            ResponseAction::Ignore => Verdict::Accept(Box::new(Received {
                is_ignored: true,
                ..received
            })),
            ResponseAction::RefreshAuth => Verdict::Refresh(
                error(ErrorKind::Unauthenticated, "the credentials were refused").with_help(
                    "check that the credentials are complete, not expired, and belong to this \
                     account",
                ),
            ),
            ResponseAction::Retry {
                throttled: false,
                after,
            } => Verdict::Retry(
                asked(after),
                error(ErrorKind::Unavailable, "the server failed").temporary(),
            ),
            ResponseAction::TooLarge => Verdict::Retry(
                asked(None),
                error(
                    ErrorKind::TooLarge,
                    "the vendor could not finish an answer of this size",
                )
                .temporary(),
            ),
            ResponseAction::RetryOnce => {
                let error = error(ErrorKind::Unavailable, "the server failed").temporary();
                if self.failures == 0 {
                    Verdict::Retry(asked(None), error)
                } else {
                    Verdict::Fail(error)
                }
            }
            ResponseAction::Retry {
                throttled: true,
                after,
            } => Verdict::Throttled(
                None,
                asked(after),
                error(
                    ErrorKind::RateLimited,
                    "the vendor allows no more requests at the moment",
                )
                .temporary(),
            ),
            ResponseAction::Throttled { scope, after } => Verdict::Throttled(
                Some(scope),
                asked(after),
                error(
                    ErrorKind::RateLimited,
                    "the vendor allows no more requests at the moment",
                )
                .temporary(),
            ),
            ResponseAction::ResetPagination => Verdict::Fail(error(
                ErrorKind::CursorExpired,
                "the vendor refuses the position to resume from",
            )),
            // What only the body would have shown.
            ResponseAction::Fail(ErrorKind::Refused | ErrorKind::Unexpected, _)
                if received.broken =>
            {
                Verdict::Retry(
                    None,
                    error(ErrorKind::Decode, "the response is empty or cut off").temporary(),
                )
            }
            ResponseAction::Fail(kind, help) => {
                let error = error(kind, failure(kind, &answer));
                Verdict::Fail(
                    match help.or_else(|| refusal_help(kind, &answer).map(str::to_owned)) {
                        Some(help) => error.with_help(self.secrets.hide(&help)),
                        None => error,
                    },
                )
            }
        }
    }

    /// Reports the attempt to observers.
    fn record(&self, facts: &Facts, turn: &Turn, verdict: &Verdict) {
        let failure = match verdict {
            Verdict::Accept(_) => None,
            Verdict::GiveWay(_) => Some("dropped, as what is read before needs the memory"),
            Verdict::Refresh(error)
            | Verdict::Retry(_, error)
            | Verdict::Throttled(_, _, error)
            | Verdict::Fail(error) => Some(error.message()),
        };
        self.client.observer.observe(&Event::Attempt(&Attempt {
            at: self.client.now(),
            source: &self.client.source,
            endpoint: self.call.endpoint,
            path: &self.secrets.hide(self.request.url.path()),
            attempt: self.sent,
            status: facts.status,
            latency: facts.latency,
            bytes: facts.bytes,
            limit_wait: turn.waited,
            limit: turn.limit.as_deref(),
            failure,
            throttled: matches!(verdict, Verdict::Throttled(..)),
            request_id: facts.request_id.as_deref(),
        }));
    }

    /// What a failure with this status says of the host.
    fn failure_of(&self, status: Option<StatusCode>) -> RequestFailure {
        match status.map(|status| status.as_u16()) {
            None => RequestFailure::Way,
            Some(502..=504 | 520..=530) => RequestFailure::Gateway(
                BuildHasherDefault::<DefaultHasher>::default().hash_one(self.request.url.path()),
            ),
            Some(_) => RequestFailure::Answer,
        }
    }
}

/// Where a redirect leads; only the host, as the rest may hold a secret.
fn redirect_host(request: &Request, received: &Received) -> Option<String> {
    let location = received
        .headers
        .get(LOCATION)
        .filter(|_| received.status.is_redirection())?
        .to_str()
        .ok()?;
    request
        .url
        .join(location)
        .ok()?
        .host_str()
        .map(str::to_owned)
}
