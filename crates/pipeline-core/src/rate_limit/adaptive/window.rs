//! Windows that are not announced: a number of requests in a span of time, recognised by the pause
//! that follows them.
//!
//! A vendor that counts in windows accepts everything until the permits are used up, and then
//! nothing until some come back: all of them when a fixed window ends, or each of them a span after
//! it was spent, in a sliding one. Which it is need not be known: **whoever has no more than the
//! permits in any span of that length is refused by neither, and uses up both.** The span is
//! counted from an answer to the next request, so that latency never makes it shorter.
//!
//! The permits are what was accepted before a pause, the length is the time from the end of one
//! pause to the end of the next. The first pause gives a guess, as it is unknown when the first
//! window began; the second makes it known.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::time::Duration;

use crate::rate_limit::adaptive::controller::Gate;

/// Lengths that vendors use, in seconds.
const LENGTHS: [u64; 15] = [
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 86400,
];
/// A vendor reports the end of a pause in whole seconds, and the answer takes time to arrive.
pub(crate) const TOLD: Duration = Duration::from_millis(1500);
/// Lengths until one request more than the permits is sent, to see whether there are more now: this
/// many at first, then twice as many each time, until it is once an hour.
const QUESTION: f64 = 8.0;
const RAREST: Duration = Duration::from_hours(1);
/// The same once there were more or fewer.
const CHANGED: f64 = 2.0;
/// Requests to one question at least.
const PER_QUESTION: f64 = 500.0;
/// What is left of the permits at least, however few were accepted: the rest may be an outage.
const LEAST: f64 = 0.125;

/// A window in which the vendor counts.
#[derive(Clone, Debug)]
pub(crate) struct LimitWindow {
    permits: f64,
    length: Duration,
    /// False while one pause was seen only.
    is_known: bool,
    /// The earliest and the latest time at which the last pause can have ended.
    opened: (Duration, Duration),
    /// Requests are counted since then.
    since: Duration,
    /// When each of the accepted requests that count was answered, oldest first.
    spent: VecDeque<Duration>,
    under_way: u32,
    /// Accepted when it began to refuse.
    seen: f64,
    /// False while it refuses.
    is_open: bool,
    /// When to ask for more, and lengths between two questions.
    ask: (Duration, f64),
    /// Requests to add when there are more.
    step: f64,
}

impl LimitWindow {
    /// A guess: the permits were used up in a pause that ended between these times, with the answer
    /// that came `now`.
    pub(crate) fn guess(
        spent: VecDeque<Duration>,
        permits: f64,
        length: Duration,
        opened: (Duration, Duration),
        now: Duration,
    ) -> Self {
        Self {
            permits,
            length,
            is_known: false,
            opened,
            since: now,
            spent,
            under_way: 0,
            seen: permits,
            is_open: true,
            ask: (now, CHANGED),
            step: 1.0,
        }
    }

    /// A window that was learned before.
    pub(crate) fn known(permits: f64, length: Duration, now: Duration) -> Self {
        let ask = (now + length.mul_f64(CHANGED), CHANGED);
        Self {
            is_known: true,
            ask,
            ..Self::guess(VecDeque::new(), permits, length, (now, now), now)
        }
    }

    pub(crate) fn permits(&self) -> f64 {
        self.permits
    }

    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Requests a second over the whole length.
    pub(crate) fn mean(&self) -> f64 {
        (self.permits / self.length.as_secs_f64()).max(0.01)
    }

    /// The requests that count, oldest first.
    fn counted(&self, now: Duration) -> Iter<'_, Duration> {
        self.spent
            .range(self.spent.partition_point(|at| *at + self.length <= now)..)
    }

    fn used(&self, now: Duration) -> f64 {
        count(self.counted(now).len()) + f64::from(self.under_way)
    }

    /// When the next permit comes back.
    pub(crate) fn next(&self, now: Duration) -> Option<Duration> {
        self.counted(now).next().map(|oldest| *oldest + self.length)
    }

    /// Whether a request may be sent now, if this part of the permits is used.
    pub(crate) fn gate(&self, now: Duration, part: f64) -> Gate {
        let (used, is_shared) = (self.used(now), self.is_known && part < 1.0);
        let permits = if is_shared {
            (self.permits * part).floor().max(1.0)
        } else {
            self.permits
        };
        if used < permits {
            return Gate::Open;
        }
        if !is_shared && used < permits + 1.0 && self.is_to_ask(now) {
            return if self.under_way == 0 {
                Gate::Open
            } else {
                Gate::Answer
            };
        }
        self.next(now).map_or(Gate::Answer, Gate::At)
    }

    /// True when one more than the permits is to be sent.
    fn is_to_ask(&self, now: Duration) -> bool {
        if self.is_known {
            return now >= self.ask.0 && self.is_in_one(now);
        }
        // When all that counts was spent since the pause: those before it may have been of an
        // earlier window.
        self.counted(now)
            .next()
            .is_none_or(|oldest| *oldest >= self.since)
    }

    /// True when all that counts would be in the same window if they were fixed: otherwise there
    /// would be more of the next.
    fn is_in_one(&self, now: Duration) -> bool {
        let (earliest, latest) = self.opened;
        let passed = now
            .saturating_sub(latest)
            .div_duration_f64(self.length)
            .floor();
        let (began, doubt) = (
            latest + self.length.mul_f64(passed),
            latest.saturating_sub(earliest),
        );
        now + doubt < began + self.length
            && self
                .counted(now)
                .next()
                .is_none_or(|oldest| *oldest >= began)
    }

    /// A request is sent. Only those that count when they [end](Self::ended) count now.
    pub(crate) fn granted(&mut self, sent: Duration) {
        self.under_way += u32::from(sent >= self.since);
    }

    /// A request has ended.
    fn ended(&mut self, now: Duration, sent: Duration) {
        if sent >= self.since {
            self.under_way = self.under_way.saturating_sub(1);
        }
        let expired = self.spent.partition_point(|at| *at + self.length <= now);
        self.spent.drain(..expired);
    }

    /// A request was accepted. False when so many were that a guess was none.
    pub(crate) fn accepted(&mut self, now: Duration, sent: Duration) -> bool {
        self.ended(now, sent);
        self.spent.push_back(now);
        self.is_open = true;
        if count(self.spent.len()) <= self.permits {
            return true;
        }
        // There are more than were known: twice as many further ones each time.
        self.permits = count(self.spent.len()) + self.step;
        self.step *= 2.0;
        self.ask = (now, CHANGED);
        self.is_known || self.step <= self.seen.max(16.0)
    }

    /// A request was refused. True when that was the answer to a question.
    pub(crate) fn refused(&mut self, now: Duration, sent: Duration) -> bool {
        if self.is_open {
            // Of a guess, those before the pause may have been of an earlier window.
            let since = if self.is_known {
                Duration::ZERO
            } else {
                self.since
            };
            let seen = self.counted(sent).filter(|at| **at >= since).count();
            (self.seen, self.is_open) = (count(seen), false);
        }
        self.ended(now, sent);
        let is_question =
            self.is_known && count(self.counted(sent).len()) >= self.permits - self.step;
        if is_question {
            self.permits = self.seen.max(1.0);
            if self.ask.0 <= now {
                self.ask_later(now);
            }
        }
        is_question
    }

    /// What became of a request is not known.
    pub(crate) fn unanswered(&mut self, now: Duration, sent: Duration) {
        self.ended(now, sent);
    }

    /// Questions become ever rarer, while they are answered with no.
    fn ask_later(&mut self, now: Duration) {
        let most = RAREST.div_duration_f64(self.length).max(1.0);
        let every = self.ask.1.max(PER_QUESTION / self.permits).min(most);
        self.step = 1.0;
        self.ask = (
            now + self.length.mul_f64(every),
            (2.0 * self.ask.1).max(QUESTION),
        );
    }

    /// A pause is over that was too short for this length: it was asked too fast.
    pub(crate) fn goes_on(&mut self, now: Duration) {
        self.is_known = true;
        self.ask_later(now);
    }

    /// A pause ended between these times, with the answer to a request that was sent then.
    pub(crate) fn opened(&mut self, now: Duration, opened: (Duration, Duration), sent: Duration) {
        let is_counted = now.saturating_sub(self.since) >= self.length;
        if self.is_known {
            // It has changed, or there was an outage: the next pause will tell.
            if is_counted {
                self.permits = self.seen.max(self.permits * LEAST);
            }
            // That it was a window no number of permits disproves.
            (self.is_known, self.seen) = (false, f64::INFINITY);
        } else {
            let (least, most) = (
                opened.0.saturating_sub(self.opened.1),
                opened.1.saturating_sub(self.opened.0),
            );
            self.length = length_between(least, most, self.length);
            self.permits = self.seen.max(1.0);
            self.is_known = true;
            self.ask.1 = QUESTION;
            self.ask_later(now);
        }
        self.opened = (opened.0, sent);
        self.since = now;
        self.under_way = 0;
    }
}

/// A length between these: of the usual ones the nearest to what was likely, if any fits; otherwise
/// the longest, which is safe.
pub(crate) fn length_between(least: Duration, most: Duration, likely: Duration) -> Duration {
    let fits = LENGTHS
        .iter()
        .map(|seconds| Duration::from_secs(*seconds))
        .filter(|length| (least..=most).contains(length));
    fits.min_by_key(|length| length.abs_diff(likely))
        .unwrap_or(most)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "fewer requests than a float is exact for"
)]
fn count(requests: usize) -> f64 {
    requests as f64
}

#[cfg(test)]
mod tests;
