//! The circuit breaker: a host that fails again and again is left alone for a while, then asked
//! once.
//!
//! What opens it says that the host, or the way to it, does not work: no connection, no answer, or
//! a gateway's report that no server is behind it, for several things that were asked for. A server
//! that fails at what it was asked for is there: such a request is asked again at growing
//! intervals, within the retry budget, and holds up no other host.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Transient failures in a row that open the breaker.
const THRESHOLD: u32 = 10;
/// Paths for which gateways may report that no server is behind them before it is the host that
/// fails.
const FEW_PATHS: usize = 2;
/// First pause; doubles with every probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Breakers by host.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    hosts: Mutex<HashMap<String, State>>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Requests pass.
    Closed(Streak),
    /// Nothing passes until then.
    Open { until: Instant, pause: Duration },
    /// One request passes, to see.
    HalfOpen { pause: Duration },
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    failures: u32,
    /// True when one of them was on the way to the host.
    broken: bool,
    /// The first paths of which a gateway reported that no server is behind it.
    paths: [Option<u64>; FEW_PATHS],
    /// True when there were more paths.
    many: bool,
}

impl Streak {
    fn with(mut self, failure: RequestFailure) -> Self {
        self.failures += 1;
        match failure {
            RequestFailure::Way => self.broken = true,
            RequestFailure::Gateway(path) => match self
                .paths
                .iter_mut()
                .find(|known| known.is_none_or(|known| known == path))
            {
                Some(place) => *place = Some(path),
                None => self.many = true,
            },
            RequestFailure::Answer => self.failures -= 1,
        }
        self
    }

    fn opens(&self) -> bool {
        self.failures >= THRESHOLD && (self.broken || self.many)
    }
}

/// How a request failed that may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFailure {
    /// No answer came, or none that was whole.
    Way,
    /// A gateway said that the server behind it does not answer for this path, by its hash.
    Gateway(u64),
    /// The server answered that it failed.
    Answer,
}

/// The breaker stays open for longer than the caller may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StaysOpen;

impl Breaker {
    /// Waits until a request may pass, but not beyond the deadline.
    pub(crate) async fn admit(
        &self,
        host: &str,
        deadline: Instant,
    ) -> Result<Admission<'_>, StaysOpen> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.enter(host) {
                Entry::Pass { probe } => {
                    return Ok(Admission {
                        breaker: self,
                        host: host.to_owned(),
                        probe,
                        reported: false,
                    });
                }
                Entry::At(until) if until > deadline => return Err(StaysOpen),
                Entry::At(until) => sleep_until(until).await,
                Entry::Probing => timeout_at(deadline, changed).await.map_err(|_| StaysOpen)?,
            }
        }
    }

    fn enter(&self, host: &str) -> Entry {
        self.with(host, |state| match *state {
            State::Closed(_) => Entry::Pass { probe: false },
            State::Open { until, .. } if Instant::now() < until => Entry::At(until),
            State::Open { pause, .. } => {
                *state = State::HalfOpen { pause };
                Entry::Pass { probe: true }
            }
            State::HalfOpen { .. } => Entry::Probing,
        })
    }

    fn with<T>(&self, host: &str, change: impl FnOnce(&mut State) -> T) -> T {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        change(
            hosts
                .entry(host.to_owned())
                .or_insert(State::Closed(Streak::default())),
        )
    }
}

enum Entry {
    Pass { probe: bool },
    At(Instant),
    Probing,
}

/// Leave to send one request.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    host: String,
    probe: bool,
    reported: bool,
}

impl Admission<'_> {
    /// The host answered, with whatever.
    pub(crate) fn answered(mut self) {
        self.report(|_| State::Closed(Streak::default()));
    }

    /// The host failed in a way that may pass. Gives the pause if that opened the breaker.
    pub(crate) fn failed(mut self, failure: RequestFailure) -> Option<Duration> {
        let open = |pause| State::Open {
            until: Instant::now() + pause,
            pause,
        };
        let state = self.report(|state| match state {
            State::Closed(streak) => {
                let streak = streak.with(failure);
                if streak.opens() {
                    open(FIRST_PAUSE)
                } else {
                    State::Closed(streak)
                }
            }
            State::HalfOpen { .. } if failure == RequestFailure::Answer => {
                State::Closed(Streak::default())
            }
            State::HalfOpen { pause } => open((pause * 2).min(LONGEST_PAUSE)),
            State::Open { .. } => state,
        });
        match state {
            (State::Open { pause, .. }, true) => Some(pause),
            _ => None,
        }
    }

    /// Changes the state; returns the new one and whether this call opened the breaker.
    fn report(&mut self, change: impl FnOnce(State) -> State) -> (State, bool) {
        self.reported = true;
        let probe = self.probe;
        let outcome = self.breaker.with(&self.host, |state| {
            let was_open = matches!(state, State::Open { .. });
            // An answer to a request from before the breaker opened says nothing new; only the
            // probe decides.
            if probe || matches!(state, State::Closed(_)) {
                *state = change(*state);
            }
            (*state, !was_open && matches!(state, State::Open { .. }))
        });
        self.breaker.changed.notify_waiters();
        outcome
    }
}

impl Drop for Admission<'_> {
    /// A probe that was cancelled decides nothing: the next request is the probe.
    fn drop(&mut self) {
        if self.probe && !self.reported {
            self.report(|state| match state {
                State::HalfOpen { pause } => State::Open {
                    until: Instant::now(),
                    pause,
                },
                other => other,
            });
        }
    }
}
