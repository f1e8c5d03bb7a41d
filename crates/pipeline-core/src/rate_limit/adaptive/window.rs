//! Windows that nobody announces: so many requests in a span of time, recognised by the pause that
//! follows them.
//!
//! A vendor that counts in windows accepts everything until the permits are used up, and then
//! nothing until some come back: all of them when a fixed window ends, or each of them a span after
//! it was spent, in a sliding one. Which it is need not be known: **whoever has no more than the
//! permits in any span of that length is refused by neither, and uses up both.** The span is
//! counted from an answer to the next request, so that latency never makes it shorter.
//!
//! The permits are what was accepted before a pause, the length is the time from the end of one
//! pause to the end of the next. The first pause gives a guess, as nobody knows when the first
//! window began; the second makes it known.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::time::Duration;

use crate::rate_limit::adaptive::controller::Gate;

/// Lengths that vendors use, in seconds.
const LENGTHS: [u64; 15] = [
    1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 86400,
];
/// A vendor tells the end of a pause in whole seconds, and the telling takes its time.
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
pub(crate) struct Window {
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

impl Window {
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
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    fn at(second: f64) -> Duration {
        Duration::from_secs_f64(second)
    }

    /// So many a minute, known since the second 100; requests were answered at these times.
    fn known(permits: f64, spent: &[f64]) -> Window {
        Window {
            spent: spent.iter().copied().map(at).collect(),
            ..Window::known(permits, at(60.0), at(100.0))
        }
    }

    /// The same, of which one pause was seen.
    fn guessed(permits: f64, spent: &[f64]) -> Window {
        Window {
            is_known: false,
            ..known(permits, spent)
        }
    }

    #[test]
    fn what_was_answered_and_what_is_under_way_is_used() {
        let window = Window {
            under_way: 2,
            ..known(10.0, &[100.0, 101.0, 130.0])
        };
        assert_eq!(
            [159.9, 160.0, 161.0, 190.0].map(|now| window.used(at(now))),
            [5.0, 4.0, 3.0, 2.0]
        );
        assert_eq!(
            [159.9, 160.0, 190.0].map(|now| window.next(at(now))),
            [Some(at(160.0)), Some(at(161.0)), None]
        );
        assert_eq!((window.mean(), known(0.5, &[]).mean()), (10.0 / 60.0, 0.01));
    }

    #[test]
    fn a_part_of_a_window_is_used_and_nobody_asks_for_more() {
        let gate = |permits, used: u32, part| {
            Window {
                under_way: used,
                ..known(permits, &[])
            }
            .gate(at(150.0), part)
        };
        assert_eq!(
            [4, 5].map(|used| gate(10.0, used, 0.5)),
            [Gate::Open, Gate::Answer]
        );
        assert_eq!(
            [0, 1].map(|used| gate(1.0, used, 0.5)),
            [Gate::Open, Gate::Answer],
            "one at least"
        );
        assert_eq!(
            [9, 10].map(|used| gate(10.0, used, 1.0)),
            [Gate::Open, Gate::Answer]
        );
        assert_eq!(
            known(1.0, &[120.0]).gate(at(150.0), 0.5),
            Gate::At(at(180.0))
        );
        let guess = Window {
            under_way: 8,
            ..guessed(10.0, &[99.0])
        };
        assert_eq!(
            guess.gate(at(150.0), 0.5),
            Gate::Open,
            "a guess is found out first"
        );
    }

    #[test]
    fn one_more_than_the_permits_asks_whether_there_are_more() {
        let window = |spent: &[f64], under_way| Window {
            ask: (at(150.0), 2.0),
            under_way,
            ..known(2.0, spent)
        };
        assert_eq!(
            window(&[120.0, 121.0], 0).gate(at(149.9), 1.0),
            Gate::At(at(180.0)),
            "it is too soon"
        );
        assert_eq!(window(&[120.0, 121.0], 0).gate(at(150.0), 1.0), Gate::Open);
        assert_eq!(
            window(&[120.0], 1).gate(at(150.0), 1.0),
            Gate::Answer,
            "after the answers that are due"
        );
        assert_eq!(
            window(&[120.0, 121.0, 122.0], 0).gate(at(150.0), 1.0),
            Gate::At(at(180.0)),
            "it was asked"
        );
        assert_eq!(
            window(&[120.0, 121.0], 0).gate(at(150.0), 0.9),
            Gate::At(at(180.0)),
            "others have the rest"
        );
        assert_eq!(
            guessed(2.0, &[99.0, 101.0]).gate(at(150.0), 1.0),
            Gate::At(at(159.0)),
            "one may have been of another window"
        );
        assert_eq!(
            guessed(2.0, &[100.0, 101.0]).gate(at(150.0), 1.0),
            Gate::Open
        );
    }

    #[test]
    fn a_question_is_asked_where_a_fixed_window_would_not_begin_anew() {
        let is_in_one = |now, spent: &[f64]| {
            Window {
                opened: (at(95.0), at(100.0)),
                ..known(2.0, spent)
            }
            .is_in_one(at(now))
        };
        assert_eq!(
            [100.0, 154.9, 155.0, 159.9].map(|now| is_in_one(now, &[])),
            [true, true, false, false]
        );
        assert_eq!(
            [160.0, 214.9, 215.0].map(|now| is_in_one(now, &[])),
            [true, true, false]
        );
        assert_eq!(
            [&[159.9][..], &[160.0], &[160.0, 170.0]].map(|spent| is_in_one(200.0, spent)),
            [false, true, true]
        );
        assert!(is_in_one(200.0, &[130.0]), "that one counts no more");
    }

    #[test]
    fn what_left_before_the_window_is_not_under_way_in_it() {
        let mut window = known(2.0, &[]);
        window.granted(at(99.9));
        assert_eq!(window.under_way, 0);
        window.granted(at(100.0));
        window.granted(at(100.1));
        window.unanswered(at(101.0), at(99.9));
        assert_eq!(window.under_way, 2);
        window.unanswered(at(101.0), at(100.0));
        assert_eq!(window.under_way, 1);
        window.spent = [at(110.0), at(111.0)].into();
        window.unanswered(at(170.0), at(99.9));
        assert_eq!(
            window.spent,
            [at(111.0)],
            "what counts no more is forgotten"
        );
    }

    #[test]
    fn further_permits_are_looked_for_in_growing_steps() {
        let mut window = known(2.0, &[110.0, 111.0]);
        let mut accept = |now| {
            assert!(window.accepted(at(now), at(now - 0.2)));
            (window.permits, window.step, window.ask.0.as_secs_f64())
        };
        assert_eq!(accept(112.0), (4.0, 2.0, 112.0));
        assert_eq!(accept(113.0), (4.0, 2.0, 112.0));
        assert_eq!(accept(114.0), (7.0, 4.0, 114.0));
        let disproved = |seen, step| {
            Window {
                seen,
                step,
                ..guessed(1.0, &[110.0])
            }
            .accepted(at(111.0), at(110.8))
        };
        assert_eq!(
            [
                (16.0, 8.0),
                (1.0, 8.0),
                (1.0, 9.0),
                (40.0, 20.0),
                (40.0, 21.0)
            ]
            .map(|(seen, step)| disproved(seen, step)),
            [true, true, false, true, false]
        );
    }

    #[test]
    fn a_refusal_of_one_more_than_the_permits_answers_the_question() {
        let refused = |spent: &[f64], window: Window| {
            let mut window = Window {
                spent: spent.iter().copied().map(at).collect(),
                ..window
            };
            let is_answer = window.refused(at(150.2), at(150.0));
            assert!(!window.is_open);
            (is_answer, window.permits, window.seen)
        };
        assert_eq!(
            refused(&[110.0, 120.0, 130.0], known(3.0, &[])),
            (true, 3.0, 3.0)
        );
        assert_eq!(
            refused(&[110.0, 120.0], known(3.0, &[])),
            (true, 2.0, 2.0),
            "there is one fewer"
        );
        assert_eq!(
            refused(&[110.0], known(3.0, &[])),
            (false, 3.0, 1.0),
            "far fewer: something else has changed"
        );
        assert_eq!(
            refused(
                &[110.0],
                Window {
                    step: 2.0,
                    ..known(3.0, &[])
                }
            ),
            (true, 1.0, 1.0)
        );
        assert_eq!(refused(&[], known(1.0, &[])), (true, 1.0, 0.0));
        assert_eq!(
            refused(&[90.0, 120.0, 130.0], guessed(3.0, &[])),
            (false, 3.0, 2.0),
            "of a guess, those since the pause"
        );
        assert_eq!(
            refused(&[91.0, 120.0, 130.0], known(3.0, &[])),
            (true, 3.0, 3.0)
        );
        let again = Window {
            is_open: false,
            seen: 7.0,
            ..known(3.0, &[])
        };
        assert_eq!(
            refused(&[110.0, 120.0, 130.0], again),
            (true, 7.0, 7.0),
            "the first refusal counts"
        );
        let mut asked = Window {
            ask: (at(150.2), 2.0),
            ..known(1.0, &[120.0])
        };
        asked.refused(at(150.1), at(150.0));
        assert_eq!(asked.ask, (at(150.2), 2.0), "it was not the question");
        asked.refused(at(150.2), at(150.0));
        assert_eq!(
            asked.ask,
            (at(150.2) + at(60.0 * 60.0), 8.0),
            "500 requests to one question, and once an hour at least"
        );
    }

    #[test]
    fn questions_become_rarer_until_it_is_one_an_hour() {
        let asks = |permits, length, mut every| {
            [(); 7].map(|()| {
                let mut window = Window {
                    ask: (at(0.0), every),
                    step: 4.0,
                    ..Window::known(permits, at(length), at(100.0))
                };
                window.ask_later(at(100.0));
                assert_eq!(window.step, 1.0);
                every = window.ask.1;
                (window.ask.0.as_secs_f64() - 100.0) / length
            })
        };
        assert_eq!(
            asks(600.0, 60.0, 2.0),
            [2.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
        );
        assert_eq!(
            asks(50.0, 60.0, 2.0),
            [10.0, 10.0, 16.0, 32.0, 60.0, 60.0, 60.0]
        );
        assert_eq!(asks(600.0, 7_200.0, 2.0), [1.0; 7]);
        assert_eq!(asks(600.0, 900.0, 8.0)[0], 4.0);
    }

    #[test]
    fn a_second_pause_makes_a_guess_known() {
        let opened = |window: Window| {
            let mut window = Window {
                opened: (at(99.0), at(100.0)),
                under_way: 3,
                step: 4.0,
                ..window
            };
            window.opened(at(163.0), (at(159.5), at(160.5)), at(162.8));
            assert_eq!(
                (window.opened, window.since, window.under_way),
                ((at(159.5), at(162.8)), at(163.0), 0)
            );
            window
        };
        let found = opened(Window {
            seen: 20.0,
            length: at(50.0),
            ..guessed(30.0, &[])
        });
        assert_eq!(
            (found.is_known, found.permits, found.length, found.step),
            (true, 20.0, at(60.0), 1.0)
        );
        assert_eq!(found.ask, (at(163.0) + at(25.0 * 60.0), 16.0));
        let nothing = opened(Window {
            seen: 0.0,
            ..guessed(30.0, &[])
        });
        assert_eq!(nothing.permits, 1.0);
    }

    #[test]
    fn a_pause_of_a_known_window_makes_it_a_guess() {
        let opened = |now: f64, seen| {
            let mut window = Window {
                seen,
                ..known(80.0, &[])
            };
            window.opened(at(now), (at(now - 3.0), at(now - 2.0)), at(now - 0.2));
            assert_eq!(
                (window.is_known, window.seen, window.length),
                (false, f64::INFINITY, at(60.0))
            );
            window.permits
        };
        assert_eq!(opened(160.0, 40.0), 40.0);
        assert_eq!(opened(160.0, 9.0), 10.0, "an eighth at least");
        assert_eq!(opened(159.9, 40.0), 80.0, "it began not long ago");
    }

    #[test]
    fn a_window_that_was_asked_too_fast_is_known() {
        let mut window = guessed(600.0, &[]);
        window.goes_on(at(130.0));
        assert_eq!((window.is_known, window.ask), (true, (at(250.0), 8.0)));
    }

    #[test]
    fn a_length_is_the_likeliest_of_those_that_vendors_use() {
        let between =
            |least, most, likely| length_between(at(least), at(most), at(likely)).as_secs_f64();
        assert_eq!(between(59.0, 61.0, 60.0), 60.0);
        assert_eq!(between(60.0, 60.0, 1.0), 60.0);
        assert_eq!(between(9.0, 31.0, 16.0), 15.0);
        assert_eq!(between(9.0, 31.0, 18.0), 20.0);
        assert_eq!(between(61.0, 90.0, 70.0), 90.0);
    }
}
