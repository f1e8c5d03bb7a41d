//! What a vendor's headers say about a bucket: what is left of the current window, and when the
//! next begins.
//!
//! Answers overtake each other, and do not know of requests under way. Hence two rules: an answer
//! to a request that was sent after the last news came replaces them, an older one can only lower
//! them; and every request under way counts as not yet counted, which corrects itself with each
//! answer. Others may spend from the same account, so what is left is paced to last until the
//! window ends, anew with every answer.

use std::time::Duration;

use crate::rate_limit::adaptive::controller::Gate;
use crate::rate_limit::headers::RateLimitInfo;

/// What is left of a longer window may be used at any pace, until nothing is left.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// Vendors report whole seconds: the window may end this much later.
const ROUNDING: Duration = Duration::from_secs(1);
/// What is left is not spread over less than this.
const SHORTEST: Duration = Duration::from_millis(500);

/// The news about one bucket. Times are since a common origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportedLimit {
    /// Requests a second, where a limit and its window are reported.
    rate: Option<f64>,
    /// Requests in a window as long as the configured one.
    limit: Option<f64>,
    /// Requests at once.
    concurrency: Option<u32>,
    window: Option<Told>,
}

/// What is left of a window.
#[derive(Clone, Copy, Debug)]
struct Told {
    left: f64,
    end: Duration,
    /// When this was known.
    known: Duration,
    /// True when its pace matters.
    is_short: bool,
}

impl ReportedLimit {
    /// Learns what the answer to a request said about this bucket, whose configured quota
    /// spans `per`.
    pub(crate) fn learn(
        &mut self,
        now: Duration,
        sent: Duration,
        hints: &[&RateLimitInfo],
        per: Duration,
    ) {
        let slots = hints
            .iter()
            .filter(|hint| hint.concurrency)
            .filter_map(|hint| hint.limit.map(crate::rate_limit::quota::whole));
        self.concurrency = slots.filter(|slots| *slots > 0).min().or(self.concurrency);
        let long = per.max(LONG);
        let rates = hints.iter().filter(|hint| !hint.concurrency);
        let told = rates.clone().filter_map(|hint| {
            let window = hint.window.unwrap_or(per);
            (window <= long && (hint.window.is_some() || per > Duration::ZERO))
                .then_some(hint.limit? / window.as_secs_f64())
        });
        self.rate = told
            .filter(|rate| *rate > 0.0)
            .min_by(f64::total_cmp)
            .or(self.rate);
        let same = rates
            .clone()
            .filter(|hint| hint.window.is_none_or(|window| window == per))
            .filter_map(|hint| hint.limit);
        self.limit = same
            .filter(|limit| *limit > 0.0)
            .min_by(f64::total_cmp)
            .or(self.limit);
        // The window that lasts longest with what is left binds.
        let left = rates.filter_map(|hint| {
            let (left, reset) = (hint.remaining?, hint.reset?);
            Some(Told {
                left,
                end: now + reset,
                known: now,
                is_short: hint.window.unwrap_or(reset) <= LONG,
            })
        });
        let pace = |told: &Told| told.left / told.end.saturating_sub(now).as_secs_f64().max(1.0);
        if let Some(told) = left.min_by(|a, b| pace(a).total_cmp(&pace(b))) {
            self.tell(sent, told);
        }
    }

    fn tell(&mut self, sent: Duration, told: Told) {
        match &mut self.window {
            Some(known) if sent < known.known => {
                if told.end + ROUNDING + ROUNDING > known.end {
                    known.left = known.left.min(told.left);
                    known.end = known.end.max(told.end);
                }
            }
            // The same window's end, reported again: the latest report is the least rounded off.
            Some(known) if told.left <= known.left && told.end.abs_diff(known.end) <= ROUNDING => {
                *known = Told {
                    end: known.end.max(told.end),
                    ..told
                };
            }
            _ => self.window = Some(told),
        }
    }

    /// Resumes with a limit that was reported to an earlier run, over a window of this length.
    pub(crate) fn resume(&mut self, limit: f64, per: Duration) {
        (self.limit, self.rate) = (Some(limit), Some(limit / per.as_secs_f64()));
    }

    /// Requests in a window as long as the configured one.
    pub(crate) fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Requests at once.
    pub(crate) fn concurrency(&self) -> Option<u32> {
        self.concurrency
    }

    /// Requests a second that the news allow; none: they say nothing.
    pub(crate) fn rate(&self, now: Duration, in_flight: u32) -> Option<f64> {
        let paced = self
            .window
            .filter(|told| told.is_short && now < told.end + ROUNDING)
            .map(|told| {
                let left = (told.left - f64::from(in_flight)).max(0.0);
                // To the earliest end that the rounding leaves open: what is done before it costs
                // nothing.
                left.max(1.0)
                    / told
                        .end
                        .saturating_sub(now + ROUNDING)
                        .max(SHORTEST)
                        .as_secs_f64()
            });
        match (self.rate, paced) {
            // What others have left can be used up faster than the window's own rate.
            (_, Some(paced)) => Some(paced),
            (rate, None) => rate,
        }
    }

    /// Whether a request may be sent now.
    pub(crate) fn gate(&self, now: Duration, in_flight: u32) -> Gate {
        let Some(told) = &self.window else {
            return Gate::Open;
        };
        let end = told.end + ROUNDING;
        let in_flight = f64::from(in_flight);
        if now >= end {
            // A new window: the first answer says how much it holds.
            return if in_flight > 0.0 {
                Gate::Answer
            } else {
                Gate::Open
            };
        }
        match told.left - in_flight {
            left if left >= 1.0 => Gate::Open,
            _ if in_flight > 0.0 && told.left >= 1.0 => Gate::Answer,
            _ => Gate::At(end),
        }
    }

    /// The time at which a used-up window ends.
    pub(crate) fn used_up_until(&self, now: Duration) -> Option<Duration> {
        self.window
            .filter(|told| told.left < 1.0 && now < told.end)
            .map(|told| told.end + ROUNDING)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn left(left: f64, reset: u64) -> RateLimitInfo {
        RateLimitInfo {
            remaining: Some(left),
            reset: Some(second(reset)),
            ..RateLimitInfo::default()
        }
    }

    fn limit(limit: f64, window: Option<u64>) -> RateLimitInfo {
        RateLimitInfo {
            limit: Some(limit),
            window: window.map(second),
            ..RateLimitInfo::default()
        }
    }

    fn at_once(limit: f64) -> RateLimitInfo {
        RateLimitInfo {
            limit: Some(limit),
            concurrency: true,
            ..RateLimitInfo::default()
        }
    }

    fn told(hints: &[RateLimitInfo], per: Duration) -> ReportedLimit {
        let mut announced = ReportedLimit::default();
        announced.learn(
            second(10),
            second(9),
            &hints.iter().collect::<Vec<_>>(),
            per,
        );
        announced
    }

    /// 50 requests are left until the second 60, as is known since the second 10; then this is
    /// told, in another answer.
    fn then(now: u64, sent: u64, hint: RateLimitInfo) -> ReportedLimit {
        let mut announced = told(&[left(50.0, 50)], MINUTE);
        announced.learn(second(now), second(sent), &[&hint], MINUTE);
        announced
    }

    #[test]
    fn the_least_of_several_limits_holds_and_none_of_nothing() {
        let announced = told(
            &[
                at_once(7.0),
                at_once(5.0),
                at_once(0.0),
                limit(120.0, None),
                limit(1.0, Some(1)),
            ],
            MINUTE,
        );
        assert_eq!(
            (
                announced.concurrency(),
                announced.limit(),
                announced.rate(second(10), 0)
            ),
            (Some(5), Some(120.0), Some(1.0))
        );
        let announced = told(&[at_once(0.0), limit(0.0, None)], MINUTE);
        assert_eq!(
            (
                announced.concurrency(),
                announced.limit(),
                announced.rate(second(10), 0)
            ),
            (None, None, None)
        );
        let announced = told(
            &[limit(900.0, Some(86_400)), limit(90.0, Some(60))],
            second(30),
        );
        assert_eq!(
            (announced.limit(), announced.rate(second(10), 0)),
            (None, Some(1.5)),
            "a day's sets no pace"
        );
        let announced = told(&[limit(900.0, None)], Duration::ZERO);
        assert_eq!(
            announced.rate(second(10), 0),
            None,
            "nobody says in which span"
        );
    }

    #[test]
    fn a_limit_of_an_earlier_run_holds_until_another_is_told() {
        let mut announced = ReportedLimit::default();
        announced.resume(100.0, second(50));
        assert_eq!(
            (announced.limit(), announced.rate(second(10), 0)),
            (Some(100.0), Some(2.0))
        );
        announced.learn(second(10), second(9), &[&limit(25.0, None)], second(50));
        assert_eq!(
            (announced.limit(), announced.rate(second(10), 0)),
            (Some(25.0), Some(0.5))
        );
    }

    #[test]
    fn the_window_that_lasts_longest_with_what_is_left_binds() {
        let announced = told(&[left(50.0, 10), left(60.0, 40)], MINUTE);
        assert_eq!(announced.gate(second(10), 59), Gate::Open);
        assert_eq!(announced.rate(second(10), 0), Some(60.0 / 39.0));
    }

    #[test]
    fn what_is_left_is_paced_to_the_earliest_end() {
        let announced = told(
            &[RateLimitInfo {
                limit: Some(120.0),
                ..left(50.0, 50)
            }],
            MINUTE,
        );
        assert_eq!(
            announced.rate(second(10), 20),
            Some(30.0 / 49.0),
            "those under way may not be counted yet"
        );
        assert_eq!(announced.rate(second(10), 50), Some(1.0 / 49.0));
        assert_eq!(
            announced.rate(second(60), 20),
            Some(60.0),
            "over half a second at least"
        );
        assert_eq!(announced.rate(second(61), 20), Some(2.0), "a new window");
        let unhurried = told(
            &[RateLimitInfo {
                window: Some(second(61)),
                ..left(50.0, 50)
            }],
            MINUTE,
        );
        assert_eq!(unhurried.rate(second(10), 0), None);
        let minute = told(
            &[RateLimitInfo {
                window: Some(MINUTE),
                ..left(50.0, 50)
            }],
            MINUTE,
        );
        assert_eq!(minute.rate(second(10), 0), Some(50.0 / 49.0));
    }

    #[test]
    fn nothing_is_sent_when_nothing_is_left_and_one_request_opens_the_next_window() {
        let announced = told(&[left(2.0, 50)], MINUTE);
        let gates = |now| [0, 1, 2].map(|in_flight| announced.gate(second(now), in_flight));
        assert_eq!(gates(10), [Gate::Open, Gate::Open, Gate::Answer]);
        assert_eq!(
            gates(60),
            [Gate::Open, Gate::Open, Gate::Answer],
            "the end is told in whole seconds"
        );
        assert_eq!(gates(61), [Gate::Open, Gate::Answer, Gate::Answer]);
        let used_up = told(&[left(0.9, 50)], MINUTE);
        assert_eq!(
            [0, 1].map(|in_flight| used_up.gate(second(10), in_flight)),
            [Gate::At(second(61)); 2]
        );
        assert_eq!(
            [10, 59, 60].map(|now| used_up.used_up_until(second(now))),
            [Some(second(61)), Some(second(61)), None]
        );
        assert_eq!(
            told(&[left(1.0, 50)], MINUTE).used_up_until(second(10)),
            None
        );
    }

    #[test]
    fn an_answer_to_a_request_that_was_sent_before_the_news_lowers_them_only() {
        let lowered = |reset| then(11, 9, left(0.0, reset)).gate(second(11), 0);
        assert_eq!(
            lowered(48),
            Gate::At(second(61)),
            "told of the end at 59, in whole seconds"
        );
        assert_eq!(lowered(51), Gate::At(second(63)), "the later end");
        assert_eq!(
            lowered(47),
            Gate::Open,
            "a window that ended before this one"
        );
        assert_eq!(
            then(11, 9, left(60.0, 49)).gate(second(11), 50),
            Gate::Answer
        );
        assert_eq!(
            then(11, 10, left(60.0, 49)).gate(second(11), 50),
            Gate::Open,
            "sent when the news were there"
        );
    }

    #[test]
    fn an_answer_to_a_request_that_was_sent_after_the_news_replaces_them() {
        let end = |hint| match then(12, 11, hint).gate(second(12), 0) {
            Gate::At(end) => end,
            gate => panic!("{gate:?}"),
        };
        assert_eq!(end(left(0.0, 47)), second(61), "the same end, rounded off");
        assert_eq!(end(left(0.0, 49)), second(62));
        assert_eq!(end(left(0.0, 46)), second(59), "another window");
        let mut more = then(12, 11, left(0.0, 48));
        more.learn(second(14), second(13), &[&left(10.0, 45)], MINUTE);
        assert_eq!(
            more.rate(second(14), 0),
            Some(10.0 / 44.0),
            "there is more: another window"
        );
    }
}
