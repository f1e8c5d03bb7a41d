//! The servers that the limiter is measured against: how they count, what they say about it, and
//! who else uses them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::{
    HeaderMap, HttpService, RawResponse, Request, StatusCode, TransportError,
};
use tokio::time::{Instant, sleep};

use super::random::{MEAN_LATENCY, Random};

/// How a server counts. Times are in seconds since the run began.
#[derive(Clone, Debug)]
pub(crate) enum Count {
    /// A bucket that fills at a rate that may change, up to what comes in one second.
    Bucket {
        rate: fn(f64) -> f64,
        tokens: f64,
        at: f64,
    },
    /// This number in each window, which may change; the first began at `phase`.
    Window {
        permits: fn(f64) -> f64,
        seconds: f64,
        phase: f64,
        current: f64,
        used: f64,
    },
    /// This number in any window.
    Log {
        permits: usize,
        seconds: f64,
        accepted: VecDeque<f64>,
    },
}

impl Count {
    pub(crate) fn bucket(rate: fn(f64) -> f64) -> Self {
        Self::Bucket {
            rate,
            tokens: rate(0.0),
            at: 0.0,
        }
    }

    pub(crate) fn window(permits: fn(f64) -> f64, seconds: f64, phase: f64) -> Self {
        Self::Window {
            permits,
            seconds,
            phase,
            current: f64::NEG_INFINITY,
            used: 0.0,
        }
    }

    pub(crate) fn log(permits: usize, seconds: f64) -> Self {
        Self::Log {
            permits,
            seconds,
            accepted: VecDeque::new(),
        }
    }

    /// What is allowed a second.
    pub(crate) fn allowed(&self, now: f64) -> f64 {
        match self {
            Self::Bucket { rate, .. } => rate(now),
            Self::Window {
                permits, seconds, ..
            } => permits(now) / seconds,
            Self::Log {
                permits, seconds, ..
            } => *permits as f64 / seconds,
        }
    }

    /// The span in which the server counts, and what it allows in it.
    pub(crate) fn span(&self, now: f64) -> (f64, f64) {
        match self {
            Self::Bucket { rate, .. } => (1.0, 2.0 * rate(now)),
            Self::Window {
                permits, seconds, ..
            } => (*seconds, permits(now)),
            Self::Log {
                permits, seconds, ..
            } => (*seconds, *permits as f64),
        }
    }

    /// Accepts so much, or nothing.
    fn take(&mut self, now: f64, cost: f64) -> bool {
        let left = self.left(now);
        if left < cost {
            return false;
        }
        match self {
            Self::Bucket { tokens, .. } => *tokens -= cost,
            Self::Window { used, .. } => *used += cost,
            Self::Log { accepted, .. } => accepted.push_back(now),
        }
        true
    }

    fn left(&mut self, now: f64) -> f64 {
        match self {
            Self::Bucket { rate, tokens, at } => {
                let rate = rate(now);
                *tokens = (*tokens + rate * (now - *at)).min(rate);
                *at = now;
                *tokens
            }
            Self::Window {
                permits,
                seconds,
                phase,
                current,
                used,
            } => {
                let number = ((now - *phase) / *seconds).floor();
                if number > *current {
                    (*current, *used) = (number, 0.0);
                }
                permits(now) - *used
            }
            Self::Log {
                permits,
                seconds,
                accepted,
            } => {
                while accepted.front().is_some_and(|at| *at + *seconds <= now) {
                    accepted.pop_front();
                }
                (*permits - accepted.len()) as f64
            }
        }
    }

    /// Seconds until there is more.
    fn reset(&self, now: f64) -> f64 {
        match self {
            Self::Bucket { .. } => 1.0,
            Self::Window { seconds, phase, .. } => seconds - (now - phase).rem_euclid(*seconds),
            Self::Log {
                seconds, accepted, ..
            } => accepted.front().map_or(0.0, |at| at + seconds - now),
        }
    }
}

/// What a server says about its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Nothing,
    /// `x-ratelimit-*`, reset in seconds since 1970.
    GitHub,
    /// `x-rate-limit*` and `ratelimit-reset` in seconds, rounded down.
    Zendesk,
    /// `RateLimit` and `RateLimit-Policy`.
    Ietf,
    /// `Retry-After` in seconds, with a refusal.
    RetrySeconds,
    /// `Retry-After` as a date, with a refusal.
    RetryDate,
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: f64,
    pub(crate) client: usize,
    pub(crate) accepted: bool,
}

/// A server with its latency.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) says: Says,
    /// Requests that may be under way at once.
    pub(crate) slots: Option<u32>,
    /// Between these times everything is refused.
    pub(crate) storm: (f64, f64),
    /// The part of what is allowed that others use.
    pub(crate) foreign: fn(f64) -> f64,
    pub(crate) epoch: DateTime<Utc>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    began: Option<Instant>,
    count: Count,
    random: Random,
    arrivals: Vec<Arrival>,
    under_way: u32,
    /// When others last used it, and what they still want.
    foreign: (f64, f64),
}

impl Server {
    pub(crate) fn new(count: Count, says: Says, epoch: DateTime<Utc>, seed: u64) -> Self {
        let random = Random::new(seed);
        let state = State {
            began: None,
            count,
            random,
            arrivals: Vec::new(),
            under_way: 0,
            foreign: (0.0, 0.0),
        };
        Self {
            says,
            slots: None,
            storm: (0.0, 0.0),
            foreign: |_| 0.0,
            epoch,
            state: Mutex::new(state),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins the run's time.
    pub(crate) fn begin(&self) {
        self.with(|state| state.began = Some(Instant::now()));
    }

    /// What is allowed to the measured clients at a time, a second.
    pub(crate) fn allowed(&self, now: f64) -> f64 {
        let is_storm = self.storm.0 <= now && now < self.storm.1;
        let at_once = self
            .slots
            .map_or(f64::INFINITY, |slots| f64::from(slots) / MEAN_LATENCY);
        if is_storm {
            0.0
        } else {
            self.with(|state| state.count.allowed(now)).min(at_once) * (1.0 - (self.foreign)(now))
        }
    }

    /// Everything that arrived, and how the server counts.
    pub(crate) fn log(&self) -> (Vec<Arrival>, Count) {
        self.with(|state| (std::mem::take(&mut state.arrivals), state.count.clone()))
    }

    /// Answers one request; true when it was accepted.
    pub(crate) async fn answer(&self, client: usize) -> (bool, HeaderMap) {
        let half = self.with(|state| state.random.latency().div_f64(2.0));
        sleep(half).await;
        let (accepted, headers) = self.with(|state| {
            state.under_way += 1;
            let now = state
                .began
                .map_or(0.0, |began| began.elapsed().as_secs_f64());
            self.others(state, now);
            let is_storm = self.storm.0 <= now && now < self.storm.1;
            let has_slot = self.slots.is_none_or(|slots| state.under_way <= slots);
            let accepted = !is_storm && has_slot && state.count.take(now, 1.0);
            state.arrivals.push(Arrival {
                at: now,
                client,
                accepted,
            });
            (accepted, self.headers(state, now, accepted))
        });
        sleep(half).await;
        self.with(|state| state.under_way -= 1);
        (accepted, headers)
    }

    /// Others come at a steady rate, and are refused like anybody.
    fn others(&self, state: &mut State, now: f64) {
        let (last, wanted) = &mut state.foreign;
        *wanted += (self.foreign)(now) * state.count.allowed(now) * (now - *last);
        *last = now;
        while *wanted >= 1.0 {
            *wanted -= 1.0;
            state.count.take(now, 1.0);
        }
    }

    fn headers(&self, state: &mut State, now: f64, accepted: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: String| {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        };
        let wall =
            self.epoch + TimeDelta::from_std(Duration::from_secs_f64(now)).unwrap_or_default();
        let date = |at: DateTime<Utc>| at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        set("date", date(wall));
        let (left, reset) = (
            state.count.left(now).max(0.0).floor(),
            state.count.reset(now),
        );
        let (span, permits) = state.count.span(now);
        let at = wall + TimeDelta::from_std(Duration::from_secs_f64(reset)).unwrap_or_default();
        match self.says {
            Says::GitHub => {
                set("x-ratelimit-limit", permits.to_string());
                set("x-ratelimit-remaining", left.to_string());
                set("x-ratelimit-reset", at.timestamp().to_string());
            }
            Says::Zendesk => {
                set("x-rate-limit", permits.to_string());
                set("x-rate-limit-remaining", left.to_string());
                set("ratelimit-reset", reset.floor().to_string());
            }
            Says::Ietf => {
                set(
                    "ratelimit-policy",
                    format!("\"default\";q={permits};w={span}"),
                );
                set(
                    "ratelimit",
                    format!("\"default\";r={left};t={}", reset.ceil()),
                );
            }
            Says::Nothing | Says::RetrySeconds | Says::RetryDate => {}
        }
        match self.says {
            Says::Nothing => {}
            Says::RetryDate if !accepted => {
                set("retry-after", date(at + TimeDelta::milliseconds(999)));
            }
            _ if !accepted => set("retry-after", reset.ceil().to_string()),
            _ => {}
        }
        headers
    }
}

/// The server as one client sees it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) server: std::sync::Arc<Server>,
    pub(crate) client: usize,
}

#[async_trait::async_trait]
impl HttpService for Line {
    async fn call(&self, _request: Request) -> Result<RawResponse, TransportError> {
        let (accepted, headers) = self.server.answer(self.client).await;
        let status = if accepted {
            StatusCode::OK
        } else {
            StatusCode::TOO_MANY_REQUESTS
        };
        Ok(RawResponse::full(status, headers, "{}"))
    }
}
