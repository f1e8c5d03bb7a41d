//! The control rule: how fast to send requests where the limit is not documented, or where less is
//! allowed than was said.
//!
//! A pure state machine, fed with what was granted, accepted and refused. It is built on one
//! observation: **a limit that refuses has nothing left**, whichever way the vendor counts. Hence
//! what was accepted between two refusals, divided by the time between them, *is* the limit, exact
//! to one request, however fast or slowly was asked meanwhile.
//!
//! - **Growing**: the limit has not been met. The rate grows by the requests that are accepted, so
//!   an idle client does not.
//! - **Holding**: around the limit. A cycle begins a little below it and ends a little above it, so
//!   that its mean is the limit, with a refusal or two at its end, which measure the limit again.
//!   Cycles get longer while the measurement holds ([`AdaptiveRate::full_cycle`]). If the refusal
//!   does not come, and more was accepted than the limit explains, the limit has been raised: it
//!   grows again. If refusals continue, it has been lowered: the rate is cut until it can be
//!   measured.
//! - **Stalled**: everything is refused. One request at a time asks whether it is over, ever more
//!   rarely, or when the vendor says that it is. After an outage the rate is what it was before;
//!   otherwise the vendor counts in windows, see [`LimitWindow`].
//!
//! A refusal is only heeded if it was sent after the last one was known: those sent before say the
//! same thing again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::rate_limit::adaptive::window::{LimitWindow, TOLD, length_between};

/// Rate to begin with, a second: less than any limit that is worth an adaptive client.
const START: f64 = 4.0;
/// Growth in a second before the limit is first met: 10/s are reached in 2 s, 1,000/s in 12 s.
/// Faster growth would find the limit sooner and overshoot it by more: the refusals are what one
/// round trip carries at the rate reached.
const GROWTH: f64 = 1.6;
/// Growth in a second, and in requests, once the limit was met: slower, so that clients which share
/// a limit do not snatch at what one of them leaves; and with a fixed part, so that the smaller
/// ones catch up.
const REGROWTH: (f64, f64) = (0.12, 1.5);
/// What is left of the rate after a refusal while the limit is not known: it is under-run in a few
/// round trips.
const CUT: f64 = 0.85;
/// Where only a part of the limit is used: what comes back of the rate in a second after a refusal,
/// and what is left at least.
const RECOVERY: f64 = 0.02;
const LEAST: f64 = 0.05;
/// How far a full cycle goes below and above the limit. Enough to be past the limit's own jitter,
/// and at its end, over one round trip, less than one further request per 200/s.
const SWING: f64 = 0.015;
/// The same of a short cycle, whose measurement is less exact, at most.
const WIDEST: f64 = 0.1;
/// A full cycle in seconds, of a limit of 100/s; it grows with this power of the time between two
/// requests. A cycle costs one or two refusals, so that at 10/s they are 2 to 3 of 1,000; a shorter
/// one finds a raised limit sooner. As cycles of a smaller share hold fewer requests, and so
/// refusals, clients that share a limit tend to equal shares.
const CYCLE: f64 = 14.0;
const ROOT: f64 = 0.6;
/// Shortest full cycle, and the first one, in seconds.
const SHORTEST: (f64, f64) = (16.0, 4.0);
/// Requests accepted, and seconds passed, from which a measurement counts.
const MEASURED: (f64, f64) = (20.0, 1.0);
/// The same of a slow limit.
const SLOW: (f64, f64) = (5.0, 10.0);
/// Refusals in a row that make a stall.
const RUN: u32 = 4;
/// A steady limit does not explain a stall of this length.
const LONG: Duration = Duration::from_secs(2);
/// A window that is not known is used up in this part of its length.
const UNHURRIED: f64 = 4.0;
/// Requests of which it is remembered when they were accepted.
const RECENT: usize = 4096;
/// Pause between two questions in a stall; later a sixteenth of its age.
const ASK: Duration = Duration::from_secs(7);

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Yes, as the rate lets it.
    Open,
    /// At that time.
    At(Duration),
    /// When the answer to the one that was sent is there.
    Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Growing,
    Holding,
    Stalled(Stall),
}

/// Everything is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stall {
    since: Duration,
    /// When the last question that was refused was sent, and when that was known.
    refused: (Duration, Duration),
    /// True while a question is under way.
    asking: bool,
    /// When it is over, if the vendor said so.
    until: Option<Duration>,
}

/// The control of one bucket. Times are since a common origin.
#[derive(Clone, Debug)]
pub(crate) struct AdaptiveRate {
    /// Never exceeded, requests a second.
    cap: f64,
    /// Part of a limit that was found out that is used.
    part: f64,
    state: State,
    /// The limit; while growing, the rate.
    limit: f64,
    /// Part of it that is used until it is measured again.
    scale: f64,
    /// True when the limit is a measurement.
    is_measured: bool,
    /// True when it ever was.
    is_met: bool,
    /// Requests in that measurement.
    sample: f64,
    /// Length of the cycle in seconds.
    cycle: f64,
    /// When the cycle began, and what came of it.
    mark: Duration,
    accepted: f64,
    refused: f64,
    /// Refusals of requests sent before this are known already.
    heeded: Duration,
    /// Refusals since the last acceptance.
    run: u32,
    /// Accepted since the last stall.
    since_stall: f64,
    /// When the latest of them were.
    recent: VecDeque<Duration>,
    /// When the last long stall ended.
    last_stall: Option<Duration>,
    window: Option<LimitWindow>,
    pulse: Pulse,
}

/// Counts what is accepted in this second and the last.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    second: u64,
    now: f64,
    last: f64,
}

impl Pulse {
    fn beat(&mut self, now: Duration) {
        let second = now.as_secs();
        if second != self.second {
            self.last = if second == self.second + 1 {
                self.now
            } else {
                0.0
            };
            (self.second, self.now) = (second, 0.0);
        }
        self.now += 1.0;
    }

    fn rate(&self) -> f64 {
        self.last.max(self.now)
    }

    fn rate_at(&self, now: Duration) -> f64 {
        match now.as_secs() - self.second {
            0 => self.rate(),
            1 => self.now,
            _ => 0.0,
        }
    }
}

impl AdaptiveRate {
    /// Begins at the cap, or carefully if there is none.
    pub(crate) fn new(cap: f64, part: f64) -> Self {
        Self {
            cap,
            part,
            state: State::Growing,
            limit: if cap.is_finite() { cap } else { START },
            scale: 1.0,
            is_measured: false,
            is_met: false,
            sample: MEASURED.0,
            cycle: SHORTEST.1,
            mark: Duration::ZERO,
            accepted: 0.0,
            refused: 0.0,
            heeded: Duration::ZERO,
            run: 0,
            since_stall: 0.0,
            recent: VecDeque::new(),
            last_stall: None,
            window: None,
            pulse: Pulse::default(),
        }
    }

    /// Resumes with what was learned before. The limit may have changed since, so the first cycle
    /// is short.
    pub(crate) fn resume(&mut self, now: Duration, rate: Option<f64>, window: Option<LimitWindow>) {
        if let Some(rate) = rate {
            (self.limit, self.is_measured, self.is_met, self.state) =
                (rate, true, true, State::Holding);
            self.begin_cycle(now);
        }
        if let Some(window) = &window {
            self.limit = (UNHURRIED * window.mean()).max(START).min(self.cap);
        }
        self.window = window;
    }

    /// The limit in requests a second, if it has been measured.
    pub(crate) fn measured(&self) -> Option<f64> {
        Some(self.limit).filter(|_| self.is_measured && self.window.is_none())
    }

    /// The window, if the vendor counts in one.
    pub(crate) fn window(&self) -> Option<&LimitWindow> {
        self.window.as_ref().filter(|window| window.is_known())
    }

    /// How fast to ask at the moment, requests a second.
    pub(crate) fn rate(&self) -> f64 {
        let rate = match self.state {
            // What is not used cannot be measured again.
            State::Holding if self.part < 1.0 && self.is_met => self.limit * self.part * self.scale,
            State::Holding => self.limit * self.scale * (1.0 + self.swing()),
            State::Growing | State::Stalled(_) => self.limit * self.scale,
        };
        // Slower where it is not known when the permits are used up: what is under way then is
        // refused.
        let rate = match &self.window {
            Some(window) if !window.is_known() => rate.min(UNHURRIED * window.mean()),
            _ => rate,
        };
        rate.min(self.cap)
    }

    /// True when this part of the limit, as measured or as configured, is more than what was let
    /// through lately.
    pub(crate) fn is_far_below(&self, now: Duration, part: f64) -> bool {
        let is_steady = match self.state {
            State::Holding => {
                self.is_measured && now.saturating_sub(self.mark).as_secs_f64() > SHORTEST.1
            }
            State::Growing => !self.is_met && self.limit >= self.cap,
            State::Stalled(_) => false,
        };
        is_steady && self.window.is_none() && self.pulse.rate_at(now) < part * self.limit
    }

    /// Cycles hold ever more requests and ever fewer seconds, the faster the limit is.
    fn full_cycle(&self) -> f64 {
        (CYCLE * (100.0 / self.limit).powf(ROOT)).max(SHORTEST.0)
    }

    /// How far above the limit to ask, as a part of it.
    fn swing(&self) -> f64 {
        let full = self.full_cycle();
        let cycle = self.cycle.min(full);
        let swing = (SWING * (full / cycle).sqrt()).min(WIDEST);
        // By what was accepted, not by the time: who asks for little learns little.
        let passed = self.accepted / (self.limit * self.scale * cycle);
        if self.accepted < self.limit {
            // After a refusal there is nothing left: a gap first, so that jitter does not make
            // further ones.
            (-6.0 * swing).max(-0.5)
        } else if passed < 1.0 {
            swing * (2.0 * passed - 1.0)
        } else {
            swing * (1.5 * ((passed - 1.0) * cycle / 5.0).min(1.0)).exp()
        }
    }

    /// True when more was accepted in this cycle than the limit explains.
    fn is_raised(&self, now: Duration) -> bool {
        let limit = self.limit * self.scale;
        let expected = limit * (now.saturating_sub(self.mark)).as_secs_f64();
        let doubt = (0.15 * limit).max(6.0).max(expected / self.sample);
        let is_quiet = now.saturating_sub(self.heeded).as_secs_f64() > SHORTEST.1;
        is_quiet && self.accepted - expected > doubt
    }

    fn begin_cycle(&mut self, now: Duration) {
        (self.mark, self.accepted, self.refused, self.scale) = (now, 0.0, 0.0, 1.0);
    }

    /// Whether a request may be sent now.
    pub(crate) fn gate(&self, now: Duration) -> Gate {
        match (&self.state, &self.window) {
            (State::Stalled(stall), window) => {
                if stall.asking {
                    return Gate::Answer;
                }
                let age = stall.refused.1.saturating_sub(stall.since);
                let next = stall.refused.1 + (age / 2).min(ASK.max(age / 16));
                // In a known window there is nothing to ask before a permit comes back.
                let back = window
                    .as_ref()
                    .filter(|window| window.is_known() && age >= LONG)
                    .and_then(|window| window.next(stall.refused.1));
                let next = stall
                    .until
                    .filter(|until| *until > stall.refused.1)
                    .unwrap_or(next.max(back.unwrap_or_default()));
                if now >= next {
                    Gate::Open
                } else {
                    Gate::At(next)
                }
            }
            (_, Some(window)) => window.gate(now, self.part),
            _ => Gate::Open,
        }
    }

    /// A request is sent. One that left before the stall is no question, and its answer ends none:
    /// it is not waited for.
    pub(crate) fn granted(&mut self, sent: Duration) {
        if let State::Stalled(stall) = &mut self.state {
            stall.asking |= sent >= stall.since;
        }
        if let Some(window) = &mut self.window {
            window.granted(sent);
        }
    }

    /// A request was let through by the limit, whatever came of it.
    pub(crate) fn accepted(&mut self, now: Duration, sent: Duration) {
        self.pulse.beat(now);
        self.run = 0;
        self.accepted += 1.0;
        self.since_stall += 1.0;
        if self.window.is_none() {
            self.recent.push_back(now);
            self.recent
                .drain(..self.recent.len().saturating_sub(RECENT));
        }
        if self
            .window
            .as_mut()
            .is_some_and(|window| !window.accepted(now, sent))
        {
            self.give_up_window(now);
        }
        match self.state {
            State::Stalled(stall) if sent >= stall.since => self.end_stall(now, sent, stall),
            State::Stalled(_) => {}
            // A window is used as fast as it was found out.
            _ if self.window.is_some() => {}
            State::Growing => self.grow(),
            State::Holding if self.part < 1.0 && self.is_met => {
                self.scale = (self.scale + RECOVERY / self.limit).min(1.0);
            }
            State::Holding if self.is_raised(now) => {
                (self.limit, self.scale, self.is_measured) = (self.rate(), 1.0, false);
                self.cycle = (self.cycle / 2.0).max(SHORTEST.1);
                self.state = State::Growing;
            }
            State::Holding => {}
        }
    }

    /// By one accepted request, unless the rate is not used.
    fn grow(&mut self) {
        if self.limit < (2.0 * self.pulse.rate()).max(START) {
            let step = if self.is_met {
                REGROWTH.0 + REGROWTH.1 / self.limit
            } else {
                GROWTH.ln()
            };
            self.limit = (self.limit + step).min(self.cap);
        }
    }

    /// A request was refused by the limit.
    pub(crate) fn refused(&mut self, now: Duration, sent: Duration, wait: Option<Duration>) {
        self.run += 1;
        self.refused += 1.0;
        let is_answer = self.window.as_mut().map(|window| window.refused(now, sent));
        if let State::Stalled(stall) = &mut self.state {
            if sent >= stall.since {
                (stall.asking, stall.refused) = (false, (sent, now));
            }
            stall.until = stall.until.max(wait.map(|wait| now + wait));
            return;
        }
        if is_answer.is_none() && sent >= self.heeded {
            self.heed(now);
        }
        let is_over = match is_answer {
            Some(is_answer) => !is_answer,
            None => self.run >= RUN || wait.is_some(),
        };
        if is_over {
            self.stall(now, wait.map(|wait| now + wait));
        }
    }

    /// What became of a request is not known.
    pub(crate) fn unanswered(&mut self, now: Duration, sent: Duration) {
        if let Some(window) = &mut self.window {
            window.unanswered(now, sent);
        }
        if let State::Stalled(stall) = &mut self.state
            && sent >= stall.since
        {
            stall.asking = false;
        }
    }

    fn heed(&mut self, now: Duration) {
        self.heeded = now;
        let elapsed = now.saturating_sub(self.mark).as_secs_f64();
        let is_storm = self.refused >= 3.0 && self.refused > 0.1 * self.accepted;
        if self.state == State::Growing {
            self.state = State::Holding;
            self.begin_cycle(now);
            self.scale = CUT;
        } else if self.part < 1.0 && self.is_met {
            self.scale = (self.scale * CUT).max(LEAST);
        } else if elapsed >= MEASURED.1
            && (self.accepted >= MEASURED.0 || elapsed >= SLOW.1 && self.accepted >= SLOW.0)
        {
            let limit = self.accepted / elapsed;
            let has_fallen = self.is_measured && limit < 0.8 * self.limit;
            self.cycle = if has_fallen {
                SHORTEST.1
            } else {
                (self.cycle * 2.0).min(self.full_cycle())
            };
            (self.limit, self.sample, self.is_measured, self.is_met) =
                (limit, self.accepted, true, true);
            self.begin_cycle(now);
        } else if !self.is_measured || is_storm {
            self.scale *= CUT;
        }
    }

    /// It was no window: the requests of one, over the time that it lasted, are a limit to begin
    /// with.
    fn give_up_window(&mut self, now: Duration) {
        let Some(window) = self.window.take() else {
            return;
        };
        (self.limit, self.is_met, self.is_measured) = (window.mean(), true, true);
        (self.state, self.cycle) = (State::Holding, SHORTEST.1);
        self.begin_cycle(now);
    }

    fn stall(&mut self, now: Duration, until: Option<Duration>) {
        self.state = State::Stalled(Stall {
            since: now,
            refused: (now, now),
            asking: false,
            until,
        });
    }

    /// A question was answered with yes.
    fn end_stall(&mut self, now: Duration, sent: Duration, stall: Stall) {
        let is_long = sent.saturating_sub(stall.since) >= LONG;
        // What the vendor reports is exact to a second.
        let told = stall
            .until
            .filter(|until| *until <= sent)
            .map(|until| (until.saturating_sub(TOLD), until));
        let opened = told.unwrap_or((stall.refused.0, sent));
        let permits = self.since_stall - 1.0;
        let again = self
            .last_stall
            .is_some_and(|last| sent.saturating_sub(stall.since) * 10 >= sent.saturating_sub(last));
        if is_long {
            self.since_stall = 1.0;
            self.last_stall = Some(sent);
        }
        self.state = if self.window.is_some() {
            State::Growing
        } else {
            State::Holding
        };
        self.heeded = now;
        match &mut self.window {
            Some(window) if is_long => window.opened(now, opened, sent),
            Some(window) => {
                window.goes_on(now);
                self.limit = (self.limit * CUT).max(2.0 * window.mean());
            }
            // An outage is hardly followed by another: what comes again is a window.
            None if is_long && permits >= MEASURED.0 && (!self.is_met || again) => {
                self.begin_window(now, opened, sent, permits);
            }
            // An outage: the limit is what it was.
            None if is_long => {
                self.recent.clear();
                self.begin_cycle(now);
            }
            None => {}
        }
    }

    /// What was accepted since the last stall was a window's, which ended between these times.
    fn begin_window(
        &mut self,
        now: Duration,
        opened: (Duration, Duration),
        sent: Duration,
        permits: f64,
    ) {
        self.limit *= self.scale;
        let used = std::mem::take(&mut self.recent);
        let first = used.front().copied().unwrap_or(now);
        let (least, most) = (
            opened.0.saturating_sub(first),
            opened.1.saturating_sub(first),
        );
        let length = length_between(least, most, (least + most) / 2);
        self.window = Some(LimitWindow::guess(
            used,
            permits,
            length.max(LONG),
            (opened.0, sent),
            now,
        ));
        self.state = State::Growing;
        self.begin_cycle(now);
    }
}

#[cfg(test)]
mod tests;
