//! One bucket of one client: what the configuration allows, what the vendor announces and what was
//! learned, put together.
//!
//! The order of truth: the configured quota is never exceeded, unless it is only what the vendor
//! publishes and headers tell the account's own; below it, what was learned from refusals sets the
//! pace; what headers announce replaces what was learned, as they are exact; and a pause that the
//! vendor asks for stops everything.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, OnceCell};

use crate::rate_limit::adaptive::controller::{AdaptiveRate, Gate};
use crate::rate_limit::adaptive::window::Window;
use crate::rate_limit::concurrency::ConcurrencyLimit;
use crate::rate_limit::headers::RateLimitInfo;
use crate::rate_limit::ledger::{Learned, LearnedWindow};
use crate::rate_limit::quota::{BucketKey, Quota, Reservation, at_least_one, whole};
use crate::rate_limit::reported::{LONG, ReportedLimit};
use crate::rate_limit::usage::{BucketUse, Counted};
use crate::rate_limit::wait_queue::Line;

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
    /// nobody is woken for nothing.
    pub(crate) line: Arc<Line>,
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
    counted: Counted,
}

/// What stands in the way of a request.
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
            counted: Counted::default(),
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

    /// What is never exceeded: the declared quota, or what the vendor tells in the place of what it
    /// publishes.
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

    /// Takes note of what the answer to a request says about this bucket.
    pub(crate) fn learn(&self, now: Duration, sent: Duration, hints: &[&RateLimitInfo]) {
        let per = if self.quota.is_known() {
            self.quota.per
        } else {
            Duration::ZERO
        };
        self.state().announced.learn(now, sent, hints, per);
    }

    /// Goes on with what an earlier run has learned.
    pub(crate) fn recall(&self, now: Duration, wall: DateTime<Utc>, learned: &Learned) {
        if wall - learned.at > MEMORY {
            return;
        }
        let window = learned.window.and_then(|window| {
            let length = Duration::try_from_secs_f64(window.seconds)
                .ok()
                .filter(|length| !length.is_zero())?;
            Some(Window::known(window.permits, length, now))
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
        // Of what was told the account's other programs may have another part next time.
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

fn words(window: &Window) -> String {
    format!(
        "{} requests in {} s, as was found out",
        window.permits(),
        window.length().as_secs_f64().round()
    )
}

impl State {
    /// What headers tell of a short span is left to the pace.
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn bucket(quota: Quota) -> Bucket {
        Bucket::new(
            BucketKey {
                account: 1,
                bucket: "read".to_owned(),
            },
            quota,
        )
    }

    fn wall(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap()
    }

    const NOTHING: Learned = Learned {
        at: DateTime::UNIX_EPOCH,
        rate: None,
        window: None,
        slots: None,
        told: None,
    };

    /// A bucket that goes on with what was learned an hour before.
    fn recalled(quota: Quota, learned: Learned) -> Bucket {
        let bucket = bucket(quota);
        bucket.recall(
            second(100),
            wall(3_600),
            &Learned {
                at: wall(0),
                ..learned
            },
        );
        bucket
    }

    fn window(permits: f64, seconds: f64) -> Learned {
        Learned {
            window: Some(LearnedWindow { permits, seconds }),
            ..NOTHING
        }
    }

    /// The limit in words, after one request.
    fn limit(bucket: &Bucket) -> String {
        bucket.granted(second(100));
        bucket.usage().unwrap().limit
    }

    #[test]
    fn a_burst_is_a_tenth_of_a_second_of_an_unknown_limit_and_no_more_than_the_pace_of_a_known_one()
    {
        let burst = |bucket: &Bucket| {
            (
                bucket.charge(second(100)).pace.burst.get(),
                bucket.charge(second(100)).pace.permits,
            )
        };
        assert_eq!(burst(&bucket(Quota::unknown())), (2, 4.0));
        let (burst_of_many, permits) = burst(&recalled(
            Quota::unknown(),
            Learned {
                rate: Some(95.0),
                ..NOTHING
            },
        ));
        assert_eq!(f64::from(burst_of_many), (permits / 10.0).floor());
        assert!(burst_of_many > 2, "{burst_of_many}");
        let slowed = bucket(Quota::per_second(100).burst(100));
        assert_eq!(burst(&slowed), (100, 100.0));
        let five = RateLimitInfo {
            limit: Some(5.0),
            window: Some(second(1)),
            ..RateLimitInfo::default()
        };
        slowed.learn(second(100), second(99), &[&five]);
        assert_eq!(burst(&slowed), (5, 5.0));
    }

    #[test]
    fn the_limit_that_binds_is_named() {
        let narrow = bucket(Quota::per_second(10).concurrency(2));
        assert_eq!(narrow.describe(second(100)), "read: 10 requests/s");
        narrow.granted(second(100));
        narrow.granted(second(100));
        assert_eq!(narrow.describe(second(100)), "read: 2 requests at once");
        narrow.released();
        assert_eq!(narrow.describe(second(100)), "read: 10 requests/s");
        let known = recalled(Quota::unknown(), window(700.0, 60.0));
        assert_eq!(
            known.describe(second(100)),
            "read: 700 requests in 60 s, as was found out"
        );
        let refused = bucket(Quota::unknown());
        for n in 0..4 {
            refused.refused(second(101 + n), second(100 + n), None);
        }
        refused.granted(second(105));
        assert_eq!(
            refused.describe(second(105)),
            "read: everything is refused, asked again from time to time"
        );
    }

    #[test]
    fn what_was_found_out_is_named_where_it_is_less_than_what_is_allowed() {
        let found = |quota: Quota, learned| limit(&recalled(quota, learned));
        let rate = |rate| Learned {
            rate: Some(rate),
            ..NOTHING
        };
        assert_eq!(
            found(Quota::unknown(), rate(95.0)),
            "95.0 requests/s, as was found out"
        );
        assert_eq!(
            found(Quota::per_second(10), rate(9.5)),
            "9.5 requests/s, as was found out"
        );
        assert_eq!(found(Quota::per_second(10), rate(10.0)), "10 requests/s");
        assert_eq!(found(Quota::per_second(10), rate(11.0)), "10 requests/s");
        assert_eq!(
            found(Quota::unknown(), window(700.0, 60.0)),
            "700 requests in 60 s, as was found out"
        );
        assert_eq!(
            found(Quota::unknown(), window(700.0, 0.0)),
            "no known limit",
            "a window without a length is not one"
        );
        assert_eq!(
            found(Quota::unknown(), window(700.0, -1.0)),
            "no known limit"
        );
        assert_eq!(
            found(
                Quota::per_second(10),
                Learned {
                    slots: Some(7),
                    ..NOTHING
                }
            ),
            "10 requests/s, 7 at once"
        );
    }

    #[test]
    fn who_is_refused_far_below_the_limit_has_too_many_requests_under_way() {
        let refuse = |at_once: u32, wait: Option<Duration>| {
            let bucket = bucket(Quota::per_second(100));
            (0..at_once).for_each(|_| bucket.granted(second(100)));
            bucket.refused(second(101), second(100), wait);
            let usage = bucket.usage().unwrap();
            assert_eq!(usage.refused, 1);
            usage.limit
        };
        assert_eq!(refuse(5, None), "100 requests/s, 4 at once");
        assert_eq!(
            refuse(1, None),
            "100 requests/s",
            "one at once is not too many"
        );
        assert_eq!(
            refuse(5, Some(second(1))),
            "100 requests/s",
            "the vendor says that it is the rate"
        );
    }

    #[test]
    fn too_many_at_once_leave_fewer_slots() {
        let bucket = bucket(Quota::unknown());
        (0..8).for_each(|_| bucket.granted(second(100)));
        bucket.too_many(second(101), second(100));
        let usage = bucket.usage().unwrap();
        assert_eq!(
            (usage.refused, usage.limit.as_str()),
            (1, "no known limit, 7 at once")
        );
        assert!(matches!(
            bucket.obstacle(second(101)),
            Some(Obstacle::Concurrency)
        ));
        (0..3).for_each(|_| bucket.released());
        assert!(bucket.obstacle(second(101)).is_none(), "5 of 6");
    }

    #[test]
    fn a_question_whose_answer_is_lost_is_asked_again() {
        let bucket = bucket(Quota::unknown());
        for n in 0..4 {
            bucket.granted(second(100 + n));
            bucket.refused(second(101 + n), second(100 + n), None);
            bucket.released();
        }
        assert!(bucket.obstacle(second(200)).is_none());
        bucket.granted(second(200));
        assert!(matches!(
            bucket.obstacle(second(200)),
            Some(Obstacle::Gate(Gate::Answer))
        ));
        bucket.unanswered(second(230), second(200));
        bucket.released();
        assert!(bucket.obstacle(second(230)).is_none());
    }

    #[test]
    fn what_was_learned_is_forgotten_after_a_week() {
        let after = |seconds| {
            let bucket = bucket(Quota::unknown());
            bucket.recall(
                second(100),
                wall(seconds),
                &Learned {
                    at: wall(0),
                    rate: Some(95.0),
                    ..NOTHING
                },
            );
            limit(&bucket)
        };
        let week = 7 * 24 * 3_600;
        assert_eq!(after(week), "95.0 requests/s, as was found out");
        assert_eq!(after(week + 1), "no known limit");
    }

    #[test]
    fn each_thing_that_was_learned_is_kept_once_a_minute() {
        let quota = || Quota::per_hour(60).published();
        assert_eq!(
            recalled(quota(), NOTHING).to_keep(wall(3_600)),
            None,
            "nothing was learned"
        );
        let kept = [
            Learned {
                rate: Some(0.01),
                ..NOTHING
            },
            window(30.0, 3_600.0),
            Learned {
                slots: Some(7),
                ..NOTHING
            },
            Learned {
                told: Some(120.0),
                ..NOTHING
            },
        ];
        for learned in kept {
            let bucket = recalled(quota(), learned);
            assert_eq!(bucket.to_keep(wall(59)), None, "{learned:?}");
            assert_eq!(
                bucket.to_keep(wall(60)),
                Some(Learned {
                    at: wall(60),
                    ..learned
                })
            );
            assert_eq!(bucket.to_keep(wall(60)), None, "it is kept already");
            assert_eq!(
                bucket.to_keep(wall(120)),
                Some(Learned {
                    at: wall(120),
                    ..learned
                })
            );
        }
    }

    #[test]
    fn what_headers_tell_replaces_a_published_quota_and_lowers_a_long_one() {
        let allowed = |quota: Quota, told: f64| {
            let bucket = bucket(quota);
            bucket.learn(
                second(100),
                second(99),
                &[&RateLimitInfo {
                    limit: Some(told),
                    ..RateLimitInfo::default()
                }],
            );
            bucket.allowed().permits
        };
        assert_eq!(
            [240.0, 20.0].map(|told| allowed(Quota::per_hour(60).published(), told)),
            [240.0, 20.0]
        );
        assert_eq!(
            [240.0, 20.0].map(|told| allowed(Quota::per_hour(60), told)),
            [60.0, 20.0]
        );
        assert_eq!(
            [240.0, 20.0].map(|told| allowed(Quota::per_minute(60), told)),
            [60.0; 2],
            "the pace is enough"
        );
    }
}
