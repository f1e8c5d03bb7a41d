//! One bucket of one client: what the configuration allows, what the vendor announces and what was
//! learned, put together.
//!
//! The order of truth: the configured quota is never exceeded, unless it is only what the vendor
//! publishes and headers report the account's own; below it, what was learned from refusals sets
//! the pace; what headers announce replaces what was learned, as they are exact; and a pause that
//! the vendor asks for stops everything.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, OnceCell};

use crate::rate_limit::adaptive::controller::{AdaptiveRate, Gate};
use crate::rate_limit::adaptive::window::LimitWindow;
use crate::rate_limit::concurrency::ConcurrencyLimit;
use crate::rate_limit::headers::RateLimitInfo;
use crate::rate_limit::ledger::{Learned, LearnedWindow};
use crate::rate_limit::quota::{BucketKey, Quota, Reservation, at_least_one, whole};
use crate::rate_limit::reported::{LONG, ReportedLimit};
use crate::rate_limit::usage::{BucketUse, RequestCounts};
use crate::rate_limit::wait_queue::WaitQueue;

/// Who is refused at less than this part of the rate that is known has too many requests under way.
const FAR_BELOW: f64 = 0.5;
/// Learned values that are older say nothing.
const MEMORY: TimeDelta = TimeDelta::days(7);
/// Learned values are kept anew after this time.
const KEEP_EVERY: TimeDelta = TimeDelta::minutes(1);

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) key: BucketKey,
    /// As it was declared; what is never exceeded is what is [`allowed`](Self::allowed).
    pub(crate) quota: Quota,
    state: Mutex<State>,
    /// The line of those who wait, first come, first served. Only its head asks the store, so
    /// no request is woken in vain.
    pub(crate) line: Arc<WaitQueue>,
    pub(crate) answered: Notify,
    pub(crate) recalled: OnceCell<()>,
}

#[derive(Debug)]
struct State {
    in_flight: u32,
    /// The same when the last request was sent: of answers that come together the last finds no
    /// others under way.
    at_once: u32,
    control: AdaptiveRate,
    announced: ReportedLimit,
    slots: ConcurrencyLimit,
    kept: Option<DateTime<Utc>>,
    counted: RequestCounts,
}

/// What holds up a request.
pub(crate) enum Obstacle {
    /// Too many are under way.
    Concurrency,
    /// As the control or the vendor's headers say.
    Gate(Gate),
}

impl Bucket {
    pub(crate) fn new(key: BucketKey, quota: Quota) -> Self {
        let state = State {
            in_flight: 0,
            at_once: 0,
            control: AdaptiveRate::new(
                quota.rate(),
                if quota.is_known() { 1.0 } else { quota.part },
            ),
            announced: ReportedLimit::default(),
            slots: ConcurrencyLimit::default(),
            kept: None,
            counted: RequestCounts::default(),
        };
        Self {
            key,
            quota,
            state: Mutex::new(state),
            line: Arc::default(),
            answered: Notify::new(),
            recalled: OnceCell::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps a request from being sent now, besides the rate.
    pub(crate) fn obstacle(&self, now: Duration) -> Option<Obstacle> {
        let state = self.state();
        if state
            .slots(now, &self.quota)
            .is_some_and(|slots| state.in_flight >= slots)
        {
            return Some(Obstacle::Concurrency);
        }
        let gates = [
            state.control.gate(now),
            state.announced.gate(now, state.in_flight),
        ];
        gates
            .into_iter()
            .find(|gate| *gate != Gate::Open)
            .map(Obstacle::Gate)
    }

    /// What is never exceeded: the declared quota, or what the vendor reports in the place of what
    /// it publishes.
    pub(crate) fn allowed(&self) -> Quota {
        self.state().allowed(&self.quota)
    }

    /// What one request costs, at the pace of the moment.
    pub(crate) fn charge(&self, now: Duration) -> Reservation {
        let state = self.state();
        let (quota, rate) = (state.allowed(&self.quota), state.rate(now, &self.quota));
        let permits = rate * quota.per.as_secs_f64();
        let burst = if quota.is_known() {
            quota.burst.get().min(whole(permits))
        } else {
            whole(rate / 10.0).max(2)
        };
        let pace = Quota {
            permits,
            burst: at_least_one(burst),
            ..quota
        };
        Reservation {
            key: self.key.clone(),
            quota,
            pace,
            cost: 1,
        }
    }

    /// The limit that binds at the moment, in words.
    pub(crate) fn describe(&self, now: Duration) -> String {
        let (state, name) = (self.state(), &self.key.bucket);
        let slots = state.slots(now, &self.quota);
        if let Some(slots) = slots.filter(|slots| state.in_flight >= *slots) {
            return format!("{name}: {slots} requests at once");
        }
        match (state.control.gate(now), state.control.window()) {
            (Gate::Open, None) => {
                format!(
                    "{name}: {}",
                    Quota {
                        permits: state.rate(now, &self.quota) * self.quota.per.as_secs_f64(),
                        ..self.quota
                    }
                )
            }
            (_, Some(window)) => format!("{name}: {}", words(window)),
            _ => format!("{name}: everything is refused, asked again from time to time"),
        }
    }

    /// A request is sent.
    pub(crate) fn granted(&self, sent: Duration) {
        let mut state = self.state();
        state.in_flight += 1;
        state.at_once = state.in_flight;
        let quota = state.allowed(&self.quota);
        state.counted.sent(
            sent,
            quota
                .is_known()
                .then(|| (f64::from(quota.ceiling()), quota.per)),
        );
        state.control.granted(sent);
    }

    /// A request waited for this bucket.
    pub(crate) fn waited(&self, time: Duration) {
        self.state().counted.waited += time;
    }

    /// What was used of it so far.
    pub(crate) fn usage(&self) -> Option<BucketUse> {
        let state = self.state();
        let found = match state.control.window() {
            Some(window) => Some((words(window), window.mean(), window.length())),
            None => state.control.measured().map(|rate| {
                (
                    format!("{rate:.1} requests/s, as was found out"),
                    rate,
                    Duration::from_secs(1),
                )
            }),
        };
        let quota = state.allowed(&self.quota);
        let (mut limit, found) = match found.filter(|(_, rate, _)| *rate < quota.rate()) {
            Some((limit, rate, per)) => (limit, Some((rate, per))),
            None => (quota.to_string(), None),
        };
        if let Some(slots) = state.slots.met().map(whole) {
            limit = format!("{limit}, {slots} at once");
        }
        state.counted.figures(&self.key.bucket, limit, found)
    }

    /// The slot of a request is free.
    pub(crate) fn released(&self) {
        self.state().in_flight -= 1;
        self.answered.notify_one();
    }

    /// The limit let a request through.
    pub(crate) fn accepted(&self, now: Duration, sent: Duration) {
        self.state().control.accepted(now, sent);
    }

    /// The limit refused a request; the vendor may have said for how long.
    pub(crate) fn refused(&self, now: Duration, sent: Duration, wait: Option<Duration>) {
        let mut state = self.state();
        state.counted.refused += 1;
        if state.announced.used_up_until(now).is_some() {
            // The headers have said so, and say when it ends: there is nothing to find out.
            state.control.unanswered(now, sent);
        } else if wait.is_none() && state.control.is_far_below(now, FAR_BELOW) && state.at_once > 1
        {
            state.control.unanswered(now, sent);
            state.fewer_slots(now);
        } else {
            state.control.refused(now, sent, wait);
        }
    }

    /// What became of a request is not known.
    pub(crate) fn unanswered(&self, now: Duration, sent: Duration) {
        self.state().control.unanswered(now, sent);
    }

    /// There were too many requests at once.
    pub(crate) fn too_many(&self, now: Duration, sent: Duration) {
        let mut state = self.state();
        state.counted.refused += 1;
        state.control.unanswered(now, sent);
        state.fewer_slots(now);
    }

    /// Learns what the answer to a request says about this bucket.
    pub(crate) fn learn(&self, now: Duration, sent: Duration, hints: &[&RateLimitInfo]) {
        let per = if self.quota.is_known() {
            self.quota.per
        } else {
            Duration::ZERO
        };
        self.state().announced.learn(now, sent, hints, per);
    }

    /// Resumes with what an earlier run has learned.
    pub(crate) fn recall(&self, now: Duration, wall: DateTime<Utc>, learned: &Learned) {
        if wall - learned.at > MEMORY {
            return;
        }
        let window = learned.window.and_then(|window| {
            let length = Duration::try_from_secs_f64(window.seconds)
                .ok()
                .filter(|length| !length.is_zero())?;
            Some(LimitWindow::known(window.permits, length, now))
        });
        let mut state = self.state();
        state.control.resume(now, learned.rate, window);
        if let Some(slots) = learned.slots {
            state.slots.resume(now, slots);
        }
        if let Some(told) = learned.told.filter(|_| self.quota.is_published) {
            state
                .announced
                .resume(told * self.quota.part, self.quota.per);
        }
        state.kept = Some(learned.at);
    }

    /// What is to be kept for the next run, if it is time to.
    pub(crate) fn to_keep(&self, wall: DateTime<Utc>) -> Option<Learned> {
        let mut state = self.state();
        if state.kept.is_some_and(|kept| wall - kept < KEEP_EVERY) {
            return None;
        }
        let rate = state.control.measured();
        let window = state.control.window();
        let window = window.map(|window| LearnedWindow {
            permits: window.permits(),
            seconds: window.length().as_secs_f64(),
        });
        let slots = state.slots.met().map(whole);
        // Of what was reported the account's other programs may have another part next time.
        let told = state
            .announced
            .limit()
            .filter(|_| self.quota.is_published)
            .map(|limit| limit / self.quota.part);
        if rate.is_none() && window.is_none() && slots.is_none() && told.is_none() {
            return None;
        }
        state.kept = Some(wall);
        Some(Learned {
            at: wall,
            rate,
            window,
            slots,
            told,
        })
    }
}

fn words(window: &LimitWindow) -> String {
    format!(
        "{} requests in {} s, as was found out",
        window.permits(),
        window.length().as_secs_f64().round()
    )
}

impl State {
    /// What headers report of a short span is left to the pace.
    fn allowed(&self, declared: &Quota) -> Quota {
        match self.announced.limit() {
            Some(told) if declared.is_published => declared.of(told),
            Some(told) if declared.per > LONG => declared.of(told.min(declared.permits)),
            _ => *declared,
        }
    }

    fn rate(&self, now: Duration, declared: &Quota) -> f64 {
        self.announced.rate(now, self.in_flight).map_or_else(
            || self.control.rate(),
            |told| told.min(self.allowed(declared).rate()),
        )
    }

    fn slots(&self, now: Duration, quota: &Quota) -> Option<u32> {
        let learned = self.slots.limit(now).map(whole);
        [
            quota.concurrency.map(NonZeroU32::get),
            self.announced.concurrency(),
            learned,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn fewer_slots(&mut self, now: Duration) {
        self.slots.too_many(now, self.at_once);
    }
}

#[cfg(test)]
mod tests;
