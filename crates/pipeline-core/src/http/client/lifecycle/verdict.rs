//! What follows from an answer: it is returned, asked for again, or an error.

use std::time::Duration;

use tokio::time::Instant;

use super::{Exchange, FOR_EVER, Pause, Step, TOO_LARGE_ATTEMPTS, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::http::auth::CredentialGeneration;
use crate::http::client::breaker::{Admission, RequestFailure};
use crate::http::client::received::{Body, Target};
use crate::rate_limit::{Feedback, Hint, Throttle, Turn};

impl Exchange<'_> {
    /// Does what the verdict asks for.
    pub(super) async fn act(
        &mut self,
        verdict: Verdict,
        generation: CredentialGeneration,
        (admission, failure): (Admission<'_>, RequestFailure),
        again: Option<Pause>,
    ) -> Result<Step> {
        match verdict {
            Verdict::Accept(received) => {
                admission.answered();
                self.client.budget.earn(self.retrying.is_some());
                self.client.note_answer(self.call.endpoint);
                if let (Target::Memory(room), Body::Memory(body)) = (&self.target, &received.body) {
                    room.came(body.len());
                }
                Ok(Step::Done(received))
            }
            Verdict::GiveWay(length) => {
                admission.answered();
                if let Target::Memory(room) = &self.target {
                    room.gave_way(length);
                }
                Ok(Step::Again(Duration::ZERO))
            }
            Verdict::Fail(error) => {
                admission.answered();
                Err(error)
            }
            Verdict::Refresh(error) => {
                admission.answered();
                if self.refreshed || !self.client.authenticator.refresh(generation).await? {
                    return Err(error);
                }
                self.refreshed = true;
                Ok(Step::Again(Duration::ZERO))
            }
            Verdict::Throttled(_, after, error) => {
                admission.answered();
                self.throttled(again, after, error)
            }
            Verdict::Retry(after, error) => {
                if let Some(wait) = admission.failed(failure) {
                    self.client.observer.observe(&Event::BreakerOpened {
                        host: &self.host,
                        wait,
                    });
                }
                self.retry(after, error).await
            }
        }
    }

    /// The limit that was hit: the one that the headers say is used up, else the request's
    /// narrowest bucket.
    fn scope(&self, hints: &[Hint]) -> Option<Throttle> {
        let mut used_up = hints.iter().filter(|(_, hint)| hint.is_used_up());
        match (
            used_up.clone().find(|(_, hint)| !hint.concurrency),
            used_up.next(),
        ) {
            (Some((bucket, _)), _) => Some(Throttle::Rate(bucket.clone())),
            (None, Some((bucket, _))) => Some(Throttle::Concurrency(bucket.clone())),
            (None, None) => self
                .client
                .limiter
                .narrowest(self.call.buckets)
                .map(|bucket| Throttle::Rate(bucket.into())),
        }
    }

    /// Reports the result of the attempt to the limits. After a throttled one, gives who has to
    /// wait and for how long.
    pub(super) async fn report(
        &mut self,
        verdict: &Verdict,
        hints: &[Hint],
        turn: &mut Turn,
    ) -> Result<Option<Pause>> {
        let limiter = &self.client.limiter;
        match verdict {
            Verdict::Accept(_) | Verdict::Refresh(_) | Verdict::Fail(_) | Verdict::GiveWay(_) => {
                limiter.report(turn, &Feedback::Accepted).await?;
                Ok(None)
            }
            // Whether the limits let it through is not known.
            Verdict::Retry(..) => Ok(None),
            Verdict::Throttled(scope, after, _) => {
                let wait = self.backoff.next(*after);
                let Some(scope) = scope.clone().or_else(|| self.scope(hints)) else {
                    return Ok(Some(Pause {
                        wait,
                        by_limit: false,
                    }));
                };
                let by_limit = limiter
                    .report(turn, &Feedback::Refused(scope.clone(), *after))
                    .await?;
                let Throttle::Rate(bucket) = &scope else {
                    return Ok(Some(Pause {
                        wait,
                        by_limit: false,
                    }));
                };
                // Otherwise only this request waits: how fast the others may come, the bucket has
                // just learned.
                let by_limit = by_limit && (after.is_some() || limiter.is_long(bucket));
                if by_limit {
                    limiter.pause(bucket, wait).await?;
                }
                Ok(Some(Pause { wait, by_limit }))
            }
        }
    }

    /// Throttled attempts are not failures: only time bounds them.
    fn throttled(
        &mut self,
        again: Option<Pause>,
        after: Option<Duration>,
        error: Error,
    ) -> Result<Step> {
        let Pause { wait, by_limit } = again.unwrap_or(Pause {
            wait: self.backoff.next(after),
            by_limit: false,
        });
        let error = self.check_wait(wait, error)?;
        self.announce_retry(&error, wait);
        Ok(Step::Again(if by_limit { Duration::ZERO } else { wait }))
    }

    pub(super) async fn retry(&mut self, after: Option<Duration>, error: Error) -> Result<Step> {
        self.failures += 1;
        let wait = self.backoff.next(after);
        if after.is_some()
            && let Some(bucket) = self.client.limiter.narrowest(self.call.buckets)
        {
            self.client.limiter.pause(&bucket, wait).await?;
        }
        self.too_large += u32::from(error.kind() == ErrorKind::TooLarge);
        if self.failures >= self.most_attempts || self.too_large >= TOO_LARGE_ATTEMPTS {
            return Err(error);
        }
        let error = self.check_wait(wait, error)?;
        let client = self.client;
        if !self
            .retrying
            .get_or_insert_with(|| client.budget.begin())
            .spend()
        {
            return Err(error.with_help(
                "too many requests fail at the same time: the source is unavailable, run again \
                 later",
            ));
        }
        self.announce_retry(&error, wait);
        Ok(Step::Again(wait))
    }

    /// Refuses a wait that the policy does not allow.
    fn check_wait(&self, wait: Duration, error: Error) -> Result<Error> {
        if wait > self.client.retry.max_server_delay.min(FOR_EVER) {
            return Err(self.too_long(wait).with_source(error));
        }
        if Instant::now() + wait > self.deadline {
            Err(error)
        } else {
            Ok(error)
        }
    }

    fn announce_retry(&self, error: &Error, wait: Duration) {
        let (source, endpoint) = (self.client.source.as_str(), self.call.endpoint);
        self.client.observer.observe(&Event::Retrying {
            source,
            endpoint,
            reason: error.message(),
            wait,
        });
    }

    pub(super) fn too_long(&self, wait: Duration) -> Error {
        let resume = chrono::TimeDelta::from_std(wait)
            .ok()
            .and_then(|wait| self.client.now().checked_add_signed(wait));
        let error = Error::new(
            ErrorKind::RateLimited,
            "the next request is allowed only after a longer pause than this run may wait",
        )
        .temporary();
        match resume {
            Some(at) => {
                let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                error
                    .with_help(format!("run again after {at}: it resumes where it stopped"))
                    .with_context("resume_at", at)
            }
            None => error.with_help("run again later: it resumes where it stopped"),
        }
    }
}
