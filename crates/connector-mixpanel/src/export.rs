//! The walk through the raw export: newest days first, in requests of as many days as fit, of a
//! part of a day if need be.
//!
//! One request of sixty an hour brings a month of a small project and a day of a large one. How
//! many days a request asks for follows from what the last one brought; what Mixpanel does not
//! finish is asked for in parts, and a day that cannot be read is found among the others and passed
//! over.

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::Request;
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, Position, SliceState, Window};
use pipeline_core::{Page, RawRecord, Result, Since};

use self::place::{DAY, Place, midnight};

mod place;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use self::walk::{Exports, Response, check, missed_day, read};

/// Name of the endpoint.
pub(crate) const NAME: &str = "export";

/// How many times what a request should bring it may.
const MOST: u64 = 4;

/// Requests that a slice must still need for a part of it to be given to another task.
const WORTH_SPLITTING: u64 = 3;

/// How long before the day of the last sync an event may have been processed that it did not see:
/// an hour until an event shows, and fourteen that a project's midnight may come before that of
/// UTC, in which processing is told.
const MARGIN: TimeDelta = TimeDelta::hours(15);

/// Member of a slice's query, not sent: of its events only those count that were processed since,
/// in milliseconds.
const PROCESSED_SINCE: &str = "processed_since";

/// Which events of days that are read again are stored again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reread {
    /// All: rows merge by key, and merges of users within the lookback show.
    #[default]
    All,
    /// Those that Mixpanel processed since the last sync, for destinations that keep every version
    /// of a row.
    New,
}

/// The days to export, as the project counts them, and how many of them a request asks for.
///
/// Every sync reads the days since the last one, and again the `lookback` before, because events
/// arrive late; once a week it reads the `sweep` before.
#[derive(Clone, Debug)]
pub(crate) struct Days {
    /// First day of a first sync that is not told another.
    pub(crate) oldest: DateTime<Utc>,
    /// Most days of a request.
    pub(crate) window: TimeDelta,
    /// Bytes of events that a request should bring.
    pub(crate) bytes: u64,
    /// Time that is read again.
    pub(crate) lookback: TimeDelta,
    /// Time that is read again once a week.
    pub(crate) sweep: TimeDelta,
    /// Whether the running day is read too, and again by the next sync.
    pub(crate) include_today: bool,
    /// What of it is stored again.
    pub(crate) reread: Reread,
}

/// Spans of time, half open.
type Span = (DateTime<Utc>, DateTime<Utc>);

/// What of a span is in none of the others.
fn without(span: Span, others: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut others: Vec<Span> = others.into_iter().collect();
    others.sort_unstable();
    let (mut since, until) = span;
    let mut rest = Vec::new();
    for (start, end) in others {
        if start > since {
            rest.push((since, start.min(until)));
        }
        since = since.max(end);
    }
    rest.push((since, until));
    rest.retain(|(since, until)| since < until);
    rest
}

/// The same time in as few spans as possible; they come in order.
fn joined(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for (since, until) in spans {
        match joined.last_mut() {
            Some(last) if last.1 == since => last.1 = until,
            _ => joined.push((since, until)),
        }
    }
    joined
}

impl Days {
    /// Where a slice is read. At its start the size of a day is not known.
    fn place(&self, slice: &SliceState) -> Option<Place> {
        match &slice.position {
            Position::Start => Some(self.start(slice.window?)),
            Position::At(text) => Place::parse(text),
            Position::End => None,
        }
    }

    /// Most bytes that a request for several days may bring; what is more is asked for in parts. At
    /// first the size of a day is not known.
    pub(crate) fn most(&self) -> u64 {
        self.bytes.saturating_mul(MOST)
    }

    /// What of a slice is not read.
    fn unread(&self, slice: &SliceState) -> Option<Span> {
        Some((slice.window?.since?, self.place(slice)?.until))
    }

    /// The first instant of what the next sync must read again when everything before `covered` was
    /// asked for.
    fn again_since(&self, covered: DateTime<Utc>, end: DateTime<Utc>) -> DateTime<Utc> {
        let week = |time: DateTime<Utc>| {
            time.timestamp()
                .div_euclid(TimeDelta::weeks(1).num_seconds())
        };
        let sweeps = week(covered) < week(end);
        // The running day was not over when it was read.
        let unfinished = if self.include_today {
            DAY
        } else {
            TimeDelta::zero()
        };
        covered
            - unfinished
            - if sweeps {
                self.lookback.max(self.sweep)
            } else {
                self.lookback
            }
    }

    /// The end of the last day that is read.
    fn latest(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let today = midnight(now);
        if self.include_today {
            today + DAY
        } else {
            today
        }
    }

    /// The first instant that a first sync reads.
    pub(crate) fn first(&self, range: TimeRange) -> DateTime<Utc> {
        midnight(range.start.unwrap_or(self.oldest))
    }

    /// When days that every sync leaves alone are read again, to go on a sentence.
    pub(crate) fn how_read_again(&self) -> String {
        if self.sweep > self.lookback {
            format!(
                ": the weekly sweep does so for {} days, a full refresh for all",
                self.sweep.num_days()
            )
        } else {
            ": set sweep_days to have that done once a week, or run a full refresh".to_owned()
        }
    }

    /// What to say of an event that was processed so many milliseconds after it happened: whether
    /// others as late are missed.
    pub(crate) fn too_late(&self, millis: i64) -> Option<String> {
        let again = self.lookback.max(self.sweep);
        (millis > again.num_milliseconds()).then(|| {
            format!(
                "some events arrive more than {} days late: of days that are not read again such events are missing; raise lookback_days, \
                 or set sweep_days to read older days once a week",
                again.num_days()
            )
        })
    }

    /// Slices for what is read for the first time, and for what is read again.
    fn slices(
        &self,
        new: Option<Span>,
        again: Vec<Span>,
        covered: Option<DateTime<Utc>>,
    ) -> Vec<SliceState> {
        let slice = |(since, until): Span| SliceState {
            window: Some(Window {
                since: Some(since),
                until,
            }),
            ..SliceState::default()
        };
        if self.reread == Reread::All {
            // Nothing sets the two apart, and one request may do for both.
            return joined(again.into_iter().chain(new))
                .into_iter()
                .map(slice)
                .collect();
        }
        let filter = covered
            .filter(|_| self.reread == Reread::New)
            .map(|covered| (covered - MARGIN).timestamp_millis().to_string());
        let query = || {
            filter
                .iter()
                .map(|since| (PROCESSED_SINCE.to_owned(), since.clone()))
                .collect()
        };
        let again = again.into_iter().map(slice).map(|again| SliceState {
            query: query(),
            ..again
        });
        again.chain(new.map(slice)).collect()
    }
}

impl Slicer for Days {
    /// `now` is the time by which the project counts its days.
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        let (today, end) = (midnight(now), self.latest(now));
        let end = range.end.map_or(end, |wanted| {
            end.min(midnight(wanted + DAY - TimeDelta::nanoseconds(1)))
        });
        let start = self.first(range);
        let planned = state
            .slices
            .values()
            .filter_map(|slice| Some(slice.window?.until))
            .max();
        let Some(covered) = planned.max(state.cursor) else {
            return self.slices((start < end).then_some((start, end)), Vec::new(), None);
        };
        let unread = state
            .unfinished()
            .filter_map(|(_, slice)| self.unread(slice));
        // Days that are missing are read by themselves, unless everything is read again.
        let missing = state
            .gaps
            .values()
            .filter(|gap| !gap.stale)
            .filter_map(|gap| self.unread(&gap.slice));
        let unread: Vec<Span> = unread.chain(missing).collect();
        if end <= covered {
            // There is no day that was not asked for; only the running one has grown.
            let running = (today, end);
            return if self.include_today {
                self.slices(None, without(running, unread), None)
            } else {
                Vec::new()
            };
        }
        let again = self.again_since(covered, end).max(start.min(covered));
        self.slices(
            Some((covered, end)),
            without((again, covered), unread),
            Some(covered),
        )
    }

    fn since(&self, range: TimeRange) -> Option<Since> {
        Some(Since::At(self.first(range)))
    }

    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(self.latest(now))
    }

    fn before(&self, since: Since, covered: DateTime<Utc>) -> Option<Vec<SliceState>> {
        let Since::At(since) = since else { return None };
        Some(self.slices(
            (since < covered).then_some((since, covered)),
            Vec::new(),
            None,
        ))
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        let Some(Window {
            since: Some(since),
            until,
        }) = slice.window
        else {
            return Ok(());
        };
        let last = until - TimeDelta::nanoseconds(1);
        request.set_query("from_date", day(since));
        request.set_query("to_date", day(last));
        // Half open, and open at both ends of the day, so that nothing falls between the parts.
        let mut conditions = Vec::new();
        if midnight(since) != since {
            conditions.push(format!(
                "properties[\"$time\"] >= datetime({})",
                since.timestamp()
            ));
        }
        if midnight(until) != until {
            conditions.push(format!(
                "properties[\"$time\"] < datetime({})",
                until.timestamp()
            ));
        }
        if !conditions.is_empty() {
            request.set_query("where", conditions.join(" and "));
        }
        Ok(())
    }

    /// Gives the older half of the unread requests away, whole requests.
    fn split(&self, slice: &SliceState) -> Option<(SliceState, SliceState)> {
        let requests = self
            .requests_left(slice)
            .filter(|requests| *requests >= WORTH_SPLITTING)?;
        let (place, window) = (self.place(slice)?, slice.window?);
        if place.length < DAY || place.suspect.is_some() {
            return None;
        }
        let middle = place.until - place.length * i32::try_from(requests.div_ceil(2)).ok()?;
        let kept = SliceState {
            window: Some(Window {
                since: Some(middle),
                ..window
            }),
            ..slice.clone()
        };
        let given = SliceState {
            window: Some(Window {
                since: window.since,
                until: middle,
            }),
            position: Place {
                until: middle,
                ..place
            }
            .position(),
            ..slice.clone()
        };
        Some((kept, given))
    }

    fn requests_left(&self, slice: &SliceState) -> Option<u64> {
        let (since, until) = self.unread(slice)?;
        let length = match &slice.position {
            Position::Start if until - since > DAY => return None,
            _ => self.place(slice)?.length,
        };
        let (span, length) = (
            (until - since).num_seconds().unsigned_abs(),
            length.num_seconds().unsigned_abs(),
        );
        Some(span.div_ceil(length.max(1)))
    }

    /// Days are; within a day no event says where it stands.
    fn is_newest_first(&self) -> bool {
        true
    }

    fn lookback(&self) -> TimeDelta {
        self.lookback
    }
}

/// The day that an instant is in, as it is sent.
pub(crate) fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d").to_string()
}

/// The watermark of a slice whose events were read before, in milliseconds since 1970.
pub(crate) fn processed_since(slice: &SliceState) -> Option<i64> {
    slice
        .query
        .iter()
        .find(|(name, _)| name == PROCESSED_SINCE)
        .and_then(|(_, since)| since.parse().ok())
}

/// Leaves out the events that were processed before; those of which that is not known stay.
pub(crate) fn newer(mut page: Page, since: Option<i64>) -> Page {
    let Some(since) = since else { return page };
    let processed = |event: &RawRecord| event.scalar("mp_processing_time_ms")?.parse::<i64>().ok();
    for events in &mut page.records {
        events.retain(|event| processed(event).is_none_or(|processed| processed >= since));
    }
    page
}
