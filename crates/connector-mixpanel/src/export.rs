//! The walk through the raw export: newest days first, in requests of as many days as fit, of a part of a day if need be.
//!
//! One request of sixty an hour brings a month of a small project and a day of a large one. How many days a request asks
//! for follows from what the last one brought; what Mixpanel does not finish is asked for in parts.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};
use pipeline_core::http::{HttpClient, Request};
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, Position, SliceState, Window};
use pipeline_core::{Advance, Endpoint, Error, ErrorKind, Page, RawRecord, Result, declared};

#[cfg(test)]
mod tests;

/// Name of the endpoint.
pub(crate) const NAME: &str = "export";

/// Parts into which a request is cut that Mixpanel does not finish: a day into quarters, and those again, down to
/// [`SHORTEST`].
const PARTS: i32 = 4;

/// The shortest time that a request asks for.
const SHORTEST: TimeDelta = TimeDelta::minutes(15);

/// What Mixpanel says when days are asked for that the project's plan does not keep, before the number of those it does.
pub(crate) const TOO_OLD: &str = "Date range exceeds";

/// No plan keeps more days.
const MOST_KEPT: i64 = 36_600;

/// How often the first day of a slice is moved: to what is kept, and by a day more where the project's day is ahead of UTC.
const MOST_MOVES: u32 = 2;

const DAY: TimeDelta = TimeDelta::days(1);

/// How many times what a request should bring it may.
const MOST: u64 = 4;

/// Requests that a slice must still need for a part of it to be given to another task.
const WORTH_SPLITTING: u64 = 3;

/// How long before the day of the last sync an event may have been processed that it did not see: an hour until an event
/// shows, and fourteen that a project's midnight may come before that of UTC, in which processing is told.
const MARGIN: TimeDelta = TimeDelta::hours(15);

/// Member of a slice's query, not sent: of its events only those count that were processed since, in milliseconds.
const PROCESSED_SINCE: &str = "processed_since";

/// Which events of days that are read again are stored again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reread {
    /// All: rows merge by key, and merges of users within the lookback show.
    #[default]
    All,
    /// Those that Mixpanel processed since the last sync, for destinations that keep every version of a row.
    New,
}

/// The days to export, as the project counts them, and how many of them a request asks for.
///
/// Every sync reads the days since the last one, and again the `lookback` before, because events arrive late; once a week
/// it reads the `sweep` before. A position is `END LENGTH LIMIT`: everything from `END` on is read, the next request asks
/// for `LENGTH` seconds before it, and none for more than `LIMIT`, which is lowered where Mixpanel did not finish.
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

/// How far a slice is read, and how the walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Everything of the slice from here on is read.
    until: DateTime<Utc>,
    /// What the next request asks for.
    length: TimeDelta,
    /// The most that one may ask for.
    limit: TimeDelta,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let until = DateTime::parse_from_rfc3339(parts.next()?).ok()?.to_utc();
        let mut seconds = || TimeDelta::try_seconds(parts.next()?.parse().ok()?).filter(|length| *length >= SHORTEST);
        Some(Self { until, length: seconds()?, limit: seconds()? })
    }

    fn to_text(self) -> String {
        let Self { until, length, limit } = self;
        format!("{} {} {}", until.to_rfc3339_opts(SecondsFormat::Secs, true), length.num_seconds(), limit.num_seconds())
    }

    fn position(self) -> Position {
        Position::At(self.to_text())
    }
}

fn midnight(time: DateTime<Utc>) -> DateTime<Utc> {
    floor(time, DAY)
}

fn floor(time: DateTime<Utc>, grain: TimeDelta) -> DateTime<Utc> {
    let grain = grain.num_seconds().max(1);
    DateTime::from_timestamp(time.timestamp().div_euclid(grain) * grain, 0).unwrap_or(time)
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
    /// Where a slice is read. At its start nobody knows how much a day holds.
    fn place(&self, slice: &SliceState) -> Option<Place> {
        match &slice.position {
            Position::Start => Some(self.start(slice.window?)),
            Position::At(text) => Place::parse(text),
            Position::End => None,
        }
    }

    /// The first request asks for the days that are more than whole requests, so that the others are as long as they may be.
    fn start(&self, window: Window) -> Place {
        let days = window.since.map_or(1, |since| (window.until - since).num_days().max(1));
        let length = TimeDelta::days((days - 1) % self.window.num_days().max(1) + 1);
        Place { until: window.until, length, limit: self.window }
    }

    /// Most bytes that a request for several days may bring; what is more is asked for in parts. At first nobody knows how much
    /// a day holds.
    pub(crate) fn most(&self) -> u64 {
        self.bytes.saturating_mul(MOST)
    }

    /// What of a slice is not read.
    fn unread(&self, slice: &SliceState) -> Option<Span> {
        Some((slice.window?.since?, self.place(slice)?.until))
    }

    /// What the next request asks for. Days are not mixed with parts of days: dates are all that Mixpanel cuts by itself.
    fn next(place: Place, since: DateTime<Utc>) -> Window {
        let grain = if place.length < DAY { place.length } else { DAY };
        let start = floor(place.until - TimeDelta::nanoseconds(1), grain) + grain - place.length;
        Window { since: Some(start.max(since)), until: place.until }
    }

    /// Where to go on after a request that brought so many bytes; none at the slice's end.
    fn after(&self, place: Place, window: Window, since: DateTime<Utc>, bytes: u64) -> Option<Place> {
        let until = window.since.filter(|start| *start > since)?;
        let seconds = (window.until - until).num_seconds().unsigned_abs().max(1);
        let fitting = (u128::from(self.bytes) * u128::from(seconds)).checked_div(u128::from(bytes)).unwrap_or(u128::MAX);
        let fitting = i64::try_from(fitting).ok().and_then(TimeDelta::try_seconds).unwrap_or(place.limit).min(place.limit);
        let length = if fitting >= DAY { TimeDelta::days(fitting.num_days()) } else { place.limit.min(DAY) };
        Some(Place { until, length, ..place })
    }

    /// A smaller request for the same time.
    fn smaller(place: Place, window: Window) -> Option<Place> {
        let length = window.until - window.since?;
        let part = if length > DAY { TimeDelta::days((length.num_days() / i64::from(PARTS)).max(1)) } else { length / PARTS };
        let part = part.max(SHORTEST);
        (part < length).then_some(Place { until: place.until, length: part, limit: part })
    }

    /// The first instant of what the next sync must read again when everything before `covered` was asked for.
    fn again_since(&self, covered: DateTime<Utc>, end: DateTime<Utc>) -> DateTime<Utc> {
        let week = |time: DateTime<Utc>| time.timestamp().div_euclid(TimeDelta::weeks(1).num_seconds());
        let sweeps = week(covered) < week(end);
        // The running day was not over when it was read.
        let unfinished = if self.include_today { DAY } else { TimeDelta::zero() };
        covered - unfinished - if sweeps { self.lookback.max(self.sweep) } else { self.lookback }
    }

    /// The first instant that a first sync reads.
    pub(crate) fn first(&self, range: TimeRange) -> DateTime<Utc> {
        midnight(range.start.unwrap_or(self.oldest))
    }

    /// When days that every sync leaves alone are read again, to go on a sentence.
    pub(crate) fn how_read_again(&self) -> String {
        if self.sweep > self.lookback {
            format!(": the weekly sweep does so for {} days, a full refresh for all", self.sweep.num_days())
        } else {
            ": set sweep_days to have that done once a week, or run a full refresh".to_owned()
        }
    }

    /// What to say of an event that was processed so many milliseconds after it happened: whether others as late are missed.
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
    fn slices(&self, new: Option<Span>, again: Vec<Span>, covered: Option<DateTime<Utc>>) -> Vec<SliceState> {
        let slice = |(since, until): Span| SliceState { window: Some(Window { since: Some(since), until }), ..SliceState::default() };
        if self.reread == Reread::All {
            // Nothing sets the two apart, and one request may do for both.
            return joined(again.into_iter().chain(new)).into_iter().map(slice).collect();
        }
        let filter = covered.filter(|_| self.reread == Reread::New).map(|covered| (covered - MARGIN).timestamp_millis().to_string());
        let query = || filter.iter().map(|since| (PROCESSED_SINCE.to_owned(), since.clone())).collect();
        let again = again.into_iter().map(slice).map(|again| SliceState { query: query(), ..again });
        again.chain(new.map(slice)).collect()
    }
}

impl Slicer for Days {
    /// `now` is the time by which the project counts its days.
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        let today = midnight(now);
        let end = if self.include_today { today + DAY } else { today };
        let end = range.end.map_or(end, |wanted| end.min(midnight(wanted + DAY - TimeDelta::nanoseconds(1))));
        let start = self.first(range);
        let planned = state.slices.values().filter_map(|slice| Some(slice.window?.until)).max();
        let Some(covered) = planned.max(state.cursor) else {
            return self.slices((start < end).then_some((start, end)), Vec::new(), None);
        };
        let unread: Vec<Span> = state.unfinished().filter_map(|(_, slice)| self.unread(slice)).collect();
        if end <= covered {
            // There is no day that was not asked for; only the running one has grown.
            let running = (today, end);
            return if self.include_today { self.slices(None, without(running, unread), None) } else { Vec::new() };
        }
        let again = self.again_since(covered, end).max(start.min(covered));
        self.slices(Some((covered.max(start), end)), without((again, covered), unread), Some(covered))
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        let Some(Window { since: Some(since), until }) = slice.window else { return Ok(()) };
        let last = until - TimeDelta::nanoseconds(1);
        request.set_query("from_date", day(since));
        request.set_query("to_date", day(last));
        // Half open, and open at both ends of the day, so that nothing falls between the parts.
        let mut conditions = Vec::new();
        if midnight(since) != since {
            conditions.push(format!("properties[\"$time\"] >= datetime({})", since.timestamp()));
        }
        if midnight(until) != until {
            conditions.push(format!("properties[\"$time\"] < datetime({})", until.timestamp()));
        }
        if !conditions.is_empty() {
            request.set_query("where", conditions.join(" and "));
        }
        Ok(())
    }

    /// Gives the older half of the unread requests away, whole requests.
    fn split(&self, slice: &SliceState) -> Option<(SliceState, SliceState)> {
        let requests = self.requests_left(slice).filter(|requests| *requests >= WORTH_SPLITTING)?;
        let (place, window) = (self.place(slice)?, slice.window?);
        if place.length < DAY {
            return None;
        }
        let middle = place.until - place.length * i32::try_from(requests.div_ceil(2)).ok()?;
        let kept = SliceState { window: Some(Window { since: Some(middle), ..window }), ..slice.clone() };
        let given = SliceState {
            window: Some(Window { since: window.since, until: middle }),
            position: Place { until: middle, ..place }.position(),
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
        let (span, length) = ((until - since).num_seconds().unsigned_abs(), length.num_seconds().unsigned_abs());
        Some(span.div_ceil(length.max(1)))
    }

    fn lookback(&self) -> TimeDelta {
        self.lookback
    }
}

fn day(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d").to_string()
}

/// What the export is read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exports<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) endpoint: &'a Endpoint,
    /// The endpoint for requests for more than a day, which may be too large.
    pub(crate) several_days: &'a Endpoint,
    pub(crate) days: &'a Days,
}

/// Reads one slice of the export, request by request. Records are lines as they were sent.
pub(crate) fn read(exports: Exports<'_>, slice: SliceState) -> BoxStream<'_, Result<Page>> {
    let Some((place, since)) = exports.days.place(&slice).zip(slice.window.and_then(|window| window.since)) else {
        return stream::once(async { Err(Error::new(ErrorKind::Decode, "the stored position is not a place in the export")) }).boxed();
    };
    let walk = Walk { exports, since, place, response: None, bytes: 0, clamped: false, moved: 0 };
    stream::try_unfold(Some(walk), |walk| async move {
        let Some(mut walk) = walk else { return Ok(None) };
        let page = walk.page().await?;
        let is_last = matches!(page.advance, Some(Advance::End));
        Ok(Some((page, (!is_last).then_some(walk))))
    })
    .boxed()
}

/// A slice that is being read.
struct Walk<'a> {
    exports: Exports<'a>,
    /// The first instant of the slice.
    since: DateTime<Utc>,
    place: Place,
    /// The pages of the response that is being loaded; all of it is on disk.
    response: Option<BoxStream<'a, Result<Page>>>,
    /// Bytes of its events so far.
    bytes: u64,
    /// True once the last day was left out because it has not begun in the project's zone.
    clamped: bool,
    /// How often the first day was moved to what the project keeps.
    moved: u32,
}

impl Walk<'_> {
    async fn page(&mut self) -> Result<Page> {
        loop {
            let window = Days::next(self.place, self.since);
            let Exports { client, endpoint, several_days, .. } = self.exports;
            let is_day = window.since.is_none_or(|since| window.until - since <= DAY);
            let endpoint = if is_day { endpoint } else { several_days };
            let slice = SliceState { window: Some(window), ..SliceState::default() };
            let response = self.response.get_or_insert_with(|| declared::read(client, endpoint, slice));
            match response.try_next().await {
                Ok(Some(page)) if page.advance.is_none() => {
                    self.bytes += page.records.iter().flatten().map(|record| record.as_bytes().len() as u64).sum::<u64>();
                    return Ok(page);
                }
                Ok(end) => return Ok(self.end(window, end)),
                Err(error) => match self.other(window, error)? {
                    Some(place) => self.place = place,
                    None => return Ok(self.end(Window { since: Some(self.since), ..window }, None)),
                },
            }
            self.response = None;
        }
    }

    /// The end of a response: a place to stop and go on.
    fn end(&mut self, window: Window, end: Option<Page>) -> Page {
        let bytes = std::mem::take(&mut self.bytes);
        self.response = None;
        let advance = match self.exports.days.after(self.place, window, self.since, bytes) {
            Some(next) => {
                self.place = next;
                Advance::Next(next.to_text())
            }
            None => Advance::End,
        };
        let records = end.map_or_else(|| vec![Vec::new(); self.exports.endpoint.streams().len()], |end| end.records);
        Page::new(records, Some(advance))
    }

    /// What to ask for instead, after a failure that came before the first record; nothing when the rest is not kept.
    fn other(&mut self, window: Window, error: Error) -> Result<Option<Place>> {
        let located = |error: Error| match window.since {
            Some(since) => error.with_context("from", since.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => error,
        };
        match error.kind() {
            ErrorKind::TooLarge => match Days::smaller(self.place, window) {
                Some(smaller) => {
                    let what = format!(
                        "the export from {} on did not come whole ({}): it goes on in requests for {}",
                        day(window.since.unwrap_or(self.since)),
                        error.message(),
                        length(smaller.length),
                    );
                    self.exports.client.notice(self.exports.endpoint.name(), &what);
                    Ok(Some(smaller))
                }
                None => Err(located(error)),
            },
            ErrorKind::CursorExpired => {
                let earlier = self.place.until - DAY;
                let is_read_again = self.exports.days.lookback >= DAY && earlier > self.since && !self.clamped;
                self.clamped = true;
                if is_read_again { Ok(Some(Place { until: earlier, ..self.place })) } else { Err(too_early(error)) }
            }
            ErrorKind::PermissionDenied => match kept_days(&error).filter(|_| self.moved < MOST_MOVES) {
                Some(kept) => Ok(self.begin_later(kept)),
                None => Err(located(error)),
            },
            _ => Err(located(error)),
        }
    }

    /// Leaves out the days that the project no longer keeps, and says so. Nothing when all that is left is among them.
    fn begin_later(&mut self, kept: i64) -> Option<Place> {
        let first = midnight(self.exports.client.now()) - TimeDelta::days(kept - i64::from(self.moved));
        self.moved += 1;
        let what = format!("the project keeps {kept} days of history: days before {} cannot be exported and are left out", day(first));
        self.exports.client.notice(self.exports.endpoint.name(), &what);
        self.since = self.since.max(first);
        (self.place.until > self.since).then_some(self.place)
    }
}

/// The days of history that a project keeps, where it was refused for more: `Date range exceeds 90 days into the past`.
fn kept_days(error: &Error) -> Option<i64> {
    let (_, rest) = error.context_value("answer")?.split_once(TOO_OLD)?;
    rest.split_whitespace().next()?.parse().ok().filter(|days| (0..=MOST_KEPT).contains(days))
}

fn length(span: TimeDelta) -> String {
    match span.num_minutes() {
        minutes if minutes % (24 * 60) == 0 => format!("{} days", minutes / (24 * 60)),
        minutes if minutes % 60 == 0 => format!("{} hours", minutes / 60),
        minutes => format!("{minutes} minutes"),
    }
}

fn too_early(error: Error) -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the last day of the export has not begun in the project's time zone")
        .with_help("set time_zone and time_storage as the project has them, or include_today to false")
        .with_source(error)
}

/// The watermark of a slice whose events were read before, in milliseconds since 1970.
pub(crate) fn processed_since(slice: &SliceState) -> Option<i64> {
    slice.query.iter().find(|(name, _)| name == PROCESSED_SINCE).and_then(|(_, since)| since.parse().ok())
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
