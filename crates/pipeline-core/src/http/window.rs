//! Fixed windows that nobody announces, recognised by their phase.
//!
//! A vendor that counts in fixed windows accepts everything until the window's permits are used up, and then nothing until
//! the next one begins. What was accepted between two stalls is the window's permits; the time between the ends of two
//! stalls is its length. Both known, the permits are used in a burst, and the rest of the window is a pause without a single
//! refusal. A window opens with one request; only when it is accepted do others follow.

use std::time::Duration;

use super::control::Gate;

/// Lengths that vendors use, in seconds.
const LENGTHS: [u64; 15] = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 86400];
/// At most every so many windows one request more than the permits is sent, to see whether there are more now. A window that
/// small is asked more rarely, so that this costs two of 1,000 requests at most.
const RAREST: f64 = 8.0;
/// Requests to one question.
const QUESTION: f64 = 500.0;

/// So many more permits at once than were known are none of the same window.
const MOST_MORE: f64 = 4096.0;

/// A window in which the vendor counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    permits: f64,
    length: Option<Duration>,
    /// The earliest and the latest time at which the current one can have begun.
    began: (Duration, Duration),
    granted: f64,
    accepted: f64,
    /// True when its first request was accepted.
    is_open: bool,
    /// Where it stands with asking for more than its permits.
    asked: Asked,
    /// Windows until that is next done, and between two times.
    ask_in: (f64, f64),
    /// Requests to add when there are more.
    step: f64,
    /// Times that it was refused before its permits were used up.
    refusals: u32,
    mean: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    NotYet,
    UnderWay,
    Refused,
}

impl Window {
    /// A window of which only the permits are known, and between which times it began. One request of it is used.
    pub(super) fn new(permits: f64, began: (Duration, Duration), mean: f64) -> Self {
        Self {
            permits,
            length: None,
            began,
            granted: 1.0,
            accepted: 1.0,
            is_open: true,
            asked: Asked::NotYet,
            ask_in: (2.0, 2.0),
            step: 1.0,
            refusals: 0,
            mean,
        }
    }

    /// A window that was learned before, and a time at which one began.
    pub(super) fn known(permits: f64, length: Duration, began: Duration) -> Self {
        let fresh = Self::new(permits, (began, began), permits / length.as_secs_f64());
        Self { length: Some(length), granted: 0.0, accepted: 0.0, is_open: false, ..fresh }
    }

    pub(super) fn permits(&self) -> f64 {
        self.permits
    }

    /// What was accepted in it before the question that ended it.
    pub(super) fn spent(&self) -> f64 {
        self.accepted - 1.0
    }

    pub(super) fn length(&self) -> Option<Duration> {
        self.length
    }

    pub(super) fn began(&self) -> Duration {
        self.began.1
    }

    pub(super) fn end(&self) -> Option<Duration> {
        self.length.map(|length| self.began.1 + length)
    }

    fn is_over(&self, now: Duration) -> bool {
        self.end().is_some_and(|end| now >= end)
    }

    /// Whether a request may be sent now.
    pub(super) fn gate(&self, now: Duration) -> Gate {
        let Some(end) = self.end() else { return Gate::Open };
        if self.is_over(now) || self.granted < 1.0 {
            return Gate::Open;
        }
        if !self.is_open {
            return Gate::Answer;
        }
        match self.asked {
            Asked::NotYet if self.ask_in.0 < 1.0 && self.granted < self.permits + 1.0 => Gate::Open,
            Asked::NotYet | Asked::UnderWay if self.granted < self.permits => Gate::Open,
            _ => Gate::At(end),
        }
    }

    /// A request is sent. True when that was the last permit of a window of unknown length: what follows are questions.
    pub(super) fn granted(&mut self, now: Duration) -> bool {
        if self.is_over(now)
            && let Some(length) = self.length
        {
            let passed = (now.saturating_sub(self.began.1)).div_duration_f64(length).floor();
            let by = length.mul_f64(passed.max(1.0));
            self.began = (self.began.0 + by, self.began.1 + by);
            self.ask_in = self.next_question();
            (self.granted, self.accepted, self.is_open, self.asked) = (0.0, 0.0, false, Asked::NotYet);
            (self.step, self.refusals) = (1.0, 0);
        }
        self.granted += 1.0;
        if self.granted > self.permits && self.asked == Asked::NotYet {
            self.asked = Asked::UnderWay;
        }
        self.length.is_none() && self.granted >= self.permits
    }

    /// In how many windows more than the permits is asked for next; ever more rarely, if there never is more.
    fn next_question(&self) -> (f64, f64) {
        let (left, every) = self.ask_in;
        if left >= 1.0 {
            return (left - 1.0, every);
        }
        let least = QUESTION / self.permits;
        let every = (every * 2.0).min(least.max(RAREST)).max(least);
        (every - 1.0, every)
    }

    /// A request was accepted. False when so many were that this is no window.
    pub(super) fn accepted(&mut self, sent: Duration) -> bool {
        if sent < self.began.1 {
            return true;
        }
        self.is_open = true;
        self.accepted += 1.0;
        if self.accepted > self.permits {
            // There are more than were known: twice as many further ones each time.
            self.permits = self.accepted + self.step;
            self.step *= 2.0;
            self.ask_in = (0.0, 2.0);
        }
        self.step < MOST_MORE
    }

    /// A request was refused.
    pub(super) fn refused(&mut self, sent: Duration) {
        if sent >= self.began.1 && self.asked == Asked::UnderWay {
            self.asked = Asked::Refused;
            self.permits = self.accepted.max(1.0);
        }
    }

    /// A short stall within the window is over. False when that contradicts a window.
    pub(super) fn goes_on(&mut self, was_expected: bool) -> bool {
        if was_expected {
            (self.permits, self.step) = (self.granted + self.step, self.step * 2.0);
            return self.step < MOST_MORE;
        }
        self.refusals += 1;
        self.length.is_some() && self.refusals < 3
    }

    /// Requests a second over the time that the window lasted.
    pub(super) fn mean(&self) -> f64 {
        self.length.map_or(self.mean, |length| self.permits / length.as_secs_f64()).max(0.01)
    }

    /// A long stall is over: a window began between these times, and the one before it held so many requests. False when
    /// that is too little for a window.
    pub(super) fn opened(&mut self, began: (Duration, Duration)) -> bool {
        let spent = self.spent();
        if spent < 0.6 * self.permits {
            return false;
        }
        self.length = Some(nearest_length(self.began, began));
        *self = Self { permits: spent, length: self.length, ask_in: self.next_question(), ..Self::new(spent, began, self.mean) };
        true
    }
}

/// The length of a window of which two beginnings lie between these times: a usual one if any fits.
fn nearest_length(first: (Duration, Duration), second: (Duration, Duration)) -> Duration {
    let (least, most) = (second.0.saturating_sub(first.1), second.1.saturating_sub(first.0));
    let middle = second.1.saturating_sub(first.1);
    let fits = LENGTHS.iter().map(|seconds| Duration::from_secs(*seconds)).filter(|length| (least..=most).contains(length));
    fits.min_by_key(|length| length.abs_diff(middle)).unwrap_or(middle)
}
