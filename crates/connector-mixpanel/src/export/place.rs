//! How far a slice of the export is read, and what its next request asks for: all of it pure.
//!
//! Two things shorten requests, and both end where the trouble ends. What Mixpanel does not finish
//! is asked for in parts. Behind it, or once a part brought so little that it cannot have been the
//! size, requests grow again; when the longer ones fail again and again, at ever longer distances.
//! What fails for another reason is halved until the day is found that does so.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use pipeline_core::state::{Position, Window};

use super::Days;

pub(super) const DAY: TimeDelta = TimeDelta::days(1);

/// Parts into which a request is cut that Mixpanel does not finish: a day into quarters, and those
/// again, down to [`SHORTEST`].
const PARTS: i32 = 4;

/// The shortest time that a request asks for.
pub(super) const SHORTEST: TimeDelta = TimeDelta::minutes(15);

/// Doublings of the distance at which longer requests are tried again.
const MOST_DOUBLINGS: u32 = 10;

/// How far a slice is read, and how the walk continues.
///
/// A position is `END LENGTH LIMIT`, and after a failure
/// `END LENGTH LIMIT SUSPECT FAILURES LOWERED`, with `-` for what is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Everything of the slice from here on is read, or passed over.
    pub(super) until: DateTime<Utc>,
    /// What the next request asks for.
    pub(super) length: TimeDelta,
    /// The most that one may ask for.
    pub(super) limit: TimeDelta,
    /// The first instant of a span before `until` that could not be read as a whole: a day of it
    /// fails.
    pub(super) suspect: Option<DateTime<Utc>>,
    /// How often longer requests were not finished, since one of the full length was.
    pub(super) failures: u32,
    /// The instant down to which the limit is lowered. Behind it the limit grows with every
    /// request.
    pub(super) lowered: Option<DateTime<Utc>>,
}

impl Place {
    /// A place that nothing has failed at.
    pub(super) fn new(until: DateTime<Utc>, length: TimeDelta, limit: TimeDelta) -> Self {
        Self {
            until,
            length,
            limit,
            suspect: None,
            failures: 0,
            lowered: None,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let time = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
        let until = time(parts.next()?)?;
        let mut seconds = || {
            TimeDelta::try_seconds(parts.next()?.parse().ok()?).filter(|length| *length >= SHORTEST)
        };
        let place = Self::new(until, seconds()?, seconds()?);
        let Some(suspect) = parts.next() else {
            return Some(place);
        };
        let failures = parts.next()?.parse().ok()?;
        Some(Self {
            suspect: time(suspect),
            failures,
            lowered: time(parts.next()?),
            ..place
        })
    }

    pub(super) fn to_text(self) -> String {
        let Self {
            until,
            length,
            limit,
            suspect,
            failures,
            lowered,
        } = self;
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let shown = |instant: Option<DateTime<Utc>>| instant.map_or("-".to_owned(), time);
        let text = format!(
            "{} {} {}",
            time(until),
            length.num_seconds(),
            limit.num_seconds()
        );
        if self == Self::new(until, length, limit) {
            return text;
        }
        format!("{text} {} {failures} {}", shown(suspect), shown(lowered))
    }

    pub(super) fn position(self) -> Position {
        Position::At(self.to_text())
    }

    /// The place at which the day is looked for that made a request for several fail. None when it
    /// was a request for one.
    pub(super) fn suspecting(self, window: Window) -> Option<Self> {
        let since = window.since.filter(|since| window.until - *since > DAY)?;
        Some(Self {
            suspect: Some(since),
            ..self
        })
    }
}

pub(super) fn midnight(time: DateTime<Utc>) -> DateTime<Utc> {
    floor(time, DAY)
}

fn floor(time: DateTime<Utc>, grain: TimeDelta) -> DateTime<Utc> {
    let grain = grain.num_seconds().max(1);
    DateTime::from_timestamp(time.timestamp().div_euclid(grain) * grain, 0).unwrap_or(time)
}

impl Days {
    /// The first request asks for the days that are more than whole requests, so that the others
    /// are as long as they may be.
    pub(super) fn start(&self, window: Window) -> Place {
        let days = window
            .since
            .map_or(1, |since| (window.until - since).num_days().max(1));
        let length = TimeDelta::days((days - 1) % self.window.num_days().max(1) + 1);
        Place::new(window.until, length, self.window)
    }

    /// What the next request asks for. Days are not mixed with parts of days: dates are all that
    /// Mixpanel cuts by itself.
    ///
    /// Of days that cannot be read as a whole it is the newer half. When that comes, it is one of
    /// the older days that fails, and they are halved without asking for all of them.
    pub(super) fn next(place: Place, since: DateTime<Utc>) -> Window {
        let since = place.suspect.map_or(since, |suspect| suspect.max(since));
        let length = match place.suspect {
            Some(_) => place.length.min(TimeDelta::days(
                ((place.until - since).num_days() / 2).max(1),
            )),
            None => place.length,
        };
        let grain = length.min(DAY);
        let start = floor(place.until - TimeDelta::nanoseconds(1), grain) + grain - length;
        Window {
            since: Some(start.max(since)),
            until: place.until,
        }
    }

    /// The next position after a response of this many bytes; none at the end of the slice.
    pub(super) fn after(
        &self,
        place: Place,
        window: Window,
        since: DateTime<Utc>,
        bytes: u64,
    ) -> Option<Place> {
        let until = window.since.filter(|start| *start > since)?;
        let mut place = Place {
            until,
            suspect: place.suspect.filter(|suspect| *suspect < until),
            ..place
        };
        let seconds = (window.until - until).num_seconds().unsigned_abs().max(1);
        let fitting = (u128::from(self.bytes) * u128::from(seconds))
            .checked_div(u128::from(bytes))
            .unwrap_or(u128::MAX);
        let fitting = i64::try_from(fitting)
            .ok()
            .and_then(TimeDelta::try_seconds)
            .unwrap_or(TimeDelta::MAX);
        // Where a request of the full length would bring little, it was not its size that kept it
        // from being finished.
        let is_small = fitting >= self.window;
        match place.lowered {
            None => place.failures = 0,
            Some(lowered) if until <= lowered || is_small && place.failures == 1 => {
                let longest = if is_small && until == midnight(until) {
                    self.window
                } else if is_small {
                    DAY
                } else {
                    place.limit * PARTS
                };
                place.limit = longest.min(self.window);
                place.lowered = Some(until).filter(|_| place.limit < self.window);
            }
            Some(_) => {}
        }
        let fitting = fitting.min(place.limit);
        let length = if fitting >= DAY {
            TimeDelta::days(fitting.num_days())
        } else {
            place.limit.min(DAY)
        };
        Some(Place { length, ..place })
    }

    /// A smaller request for the same time, after one that Mixpanel did not finish. What is older
    /// is asked for in longer ones again: at once, and when those fail too, after as many days as a
    /// request may have, three times as many, seven and so on.
    pub(super) fn smaller(&self, place: Place, window: Window) -> Option<Place> {
        let since = window.since?;
        let length = window.until - since;
        // Of what was to be asked for, which the rest of a day can be shorter than: parts of a day
        // divide it.
        let cut = |length: TimeDelta| {
            if length > DAY {
                TimeDelta::days((length.num_days() / i64::from(PARTS)).max(1))
            } else {
                (length / PARTS).max(SHORTEST)
            }
        };
        let mut part = cut(place.length.max(length));
        while part >= length && part > SHORTEST {
            part = cut(part);
        }
        let is_part = place.lowered.is_some_and(|lowered| place.until > lowered);
        let failures = if is_part {
            place.failures
        } else {
            place.failures + 1
        };
        let distance = self.window * ((1 << failures.saturating_sub(1).min(MOST_DOUBLINGS)) - 1);
        let lowered = if let Some(lowered) = place.lowered.filter(|_| is_part) {
            // Once longer requests have failed again, parts of parts do not bring them back sooner.
            if failures > 1 {
                since.min(lowered)
            } else {
                since
            }
        } else {
            midnight(since)
                .checked_sub_signed(distance)
                .unwrap_or(DateTime::UNIX_EPOCH)
        };
        (part < length).then_some(Place {
            length: part,
            limit: part,
            failures,
            lowered: Some(lowered),
            ..place
        })
    }

    /// The place behind a day that is passed over, of which a request for `window` failed, and that
    /// day. Older days are asked for as before; when the day after it was passed over as well, one
    /// day first.
    pub(super) fn pass(
        &self,
        window: Window,
        passed: Option<DateTime<Utc>>,
    ) -> Option<(Window, Place)> {
        let since = midnight(window.since?);
        let day = Window {
            since: Some(since),
            until: since + DAY,
        };
        let length = if passed == Some(day.until) {
            DAY
        } else {
            self.window
        };
        Some((day, Place::new(since, length, self.window)))
    }
}
