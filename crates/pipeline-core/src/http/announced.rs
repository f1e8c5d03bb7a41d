//! What a vendor's headers say about a bucket: what is left of the current window, and when the next begins.
//!
//! Answers overtake each other, and do not know of requests under way. Hence two rules: an answer to a request that was sent
//! after the last news came replaces them, an older one can only lower them; and every request under way counts as not yet
//! counted, which corrects itself with each answer. Others may spend from the same account, so what is left is paced to last
//! until the window ends, anew with every answer.

use std::time::Duration;

use super::control::Gate;
use super::headers::RateHint;

/// What is left of a longer window may be used at any pace, until nothing is left.
pub(super) const LONG: Duration = Duration::from_mins(1);
/// Seconds are told whole: the window may end this much later than was told.
const ROUNDING: Duration = Duration::from_secs(1);
/// What is left is not spread over less than this.
const SHORTEST: Duration = Duration::from_millis(500);

/// The news about one bucket. Times are since a common origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    /// Requests a second, where a limit and its window are told.
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

impl Announced {
    /// Takes note of what the answer to a request said about this bucket, whose configured quota spans `per`.
    pub(super) fn learn(&mut self, now: Duration, sent: Duration, hints: &[&RateHint], per: Duration) {
        let slots = hints.iter().filter(|hint| hint.concurrency).filter_map(|hint| hint.limit.map(super::limit::whole));
        self.concurrency = slots.filter(|slots| *slots > 0).min().or(self.concurrency);
        let long = per.max(LONG);
        let rates = hints.iter().filter(|hint| !hint.concurrency);
        let told = rates.clone().filter_map(|hint| {
            let window = hint.window.unwrap_or(per);
            (window <= long && (hint.window.is_some() || per > Duration::ZERO)).then_some(hint.limit? / window.as_secs_f64())
        });
        self.rate = told.filter(|rate| *rate > 0.0).min_by(f64::total_cmp).or(self.rate);
        let same = rates.clone().filter(|hint| hint.window.is_none_or(|window| window == per)).filter_map(|hint| hint.limit);
        self.limit = same.filter(|limit| *limit > 0.0).min_by(f64::total_cmp).or(self.limit);
        // The window that lasts longest with what is left binds.
        let left = rates.filter_map(|hint| {
            let (left, reset) = (hint.remaining?, hint.reset?);
            Some(Told { left, end: now + reset, known: now, is_short: hint.window.unwrap_or(reset) <= LONG })
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
            // The same window's end, told anew: the latest telling is the least rounded off.
            Some(known) if told.left <= known.left && told.end.abs_diff(known.end) <= ROUNDING => {
                *known = Told { end: known.end.max(told.end), ..told };
            }
            _ => self.window = Some(told),
        }
    }

    /// Goes on with a limit that an earlier run was told, over a window of this length.
    pub(super) fn resume(&mut self, limit: f64, per: Duration) {
        (self.limit, self.rate) = (Some(limit), Some(limit / per.as_secs_f64()));
    }

    /// Requests in a window as long as the configured one.
    pub(super) fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Requests at once.
    pub(super) fn concurrency(&self) -> Option<u32> {
        self.concurrency
    }

    /// Requests a second that the news allow; none: they say nothing.
    pub(super) fn rate(&self, now: Duration, in_flight: u32) -> Option<f64> {
        let paced = self.window.filter(|told| told.is_short && now < told.end + ROUNDING).map(|told| {
            let left = (told.left - f64::from(in_flight)).max(0.0);
            // To the earliest end that the rounding leaves open: what is done before it costs nothing.
            left.max(1.0) / told.end.saturating_sub(now + ROUNDING).max(SHORTEST).as_secs_f64()
        });
        match (self.rate, paced) {
            // What others have left can be used up faster than the window's own rate.
            (_, Some(paced)) => Some(paced),
            (rate, None) => rate,
        }
    }

    /// Whether a request may be sent now.
    pub(super) fn gate(&self, now: Duration, in_flight: u32) -> Gate {
        let Some(told) = &self.window else { return Gate::Open };
        let end = told.end + ROUNDING;
        let in_flight = f64::from(in_flight);
        if now >= end {
            // A new window: the first answer says how much it holds.
            return if in_flight > 0.0 { Gate::Answer } else { Gate::Open };
        }
        match told.left - in_flight {
            left if left >= 1.0 => Gate::Open,
            _ if in_flight > 0.0 && told.left >= 1.0 => Gate::Answer,
            _ => Gate::At(end),
        }
    }

    /// The time at which a used-up window ends.
    pub(super) fn used_up_until(&self, now: Duration) -> Option<Duration> {
        self.window.filter(|told| told.left < 1.0 && now < told.end).map(|told| told.end + ROUNDING)
    }
}
