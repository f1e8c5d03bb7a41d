//! Reads slices of the export: one request after the other, each response proved complete before
//! its first event counts.

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};
use pipeline_core::gap::{Missed, is_of_unit};
use pipeline_core::slice::TimeRange;
use pipeline_core::state::{EndpointState, SliceState, Window};
use pipeline_core::{
    Advance, Availability, Endpoint, Error, ErrorKind, ErrorStatus, Page, Reader, Result,
};

use super::place::{DAY, Place, midnight};
use super::{Days, day};
use crate::history;
use crate::history::History;

/// Attempts at a request for a day that is made because another one failed, before the day is
/// passed over. Other requests are made once then: what fails is asked for again, in parts.
const ATTEMPTS_AT_A_DAY: u32 = 2;

/// Failures without an answer between them after which Mixpanel is asked for something else, to
/// tell an outage from days that fail. It is asked at the first failure too, which is the end of
/// all attempts that are worth it.
const DOUBTFUL: u32 = 3;

/// What the export is read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exports<'a> {
    pub(crate) reader: &'a Reader,
    /// The endpoint for requests for a day.
    pub(crate) endpoint: &'a Endpoint,
    /// The endpoint for requests for more than a day, which may be too large.
    pub(crate) several_days: &'a Endpoint,
    pub(crate) days: &'a Days,
    pub(crate) history: &'a History,
}

/// A page of a response, and the time that was asked for.
pub(crate) struct Response {
    pub(crate) page: Page,
    pub(crate) asked: Window,
}

/// Reads one slice of the export, request by request. Records are lines as they were sent.
pub(crate) fn read(exports: Exports<'_>, slice: SliceState) -> BoxStream<'_, Result<Response>> {
    let Some((place, since)) = exports
        .days
        .place(&slice)
        .zip(slice.window.and_then(|window| window.since))
    else {
        return stream::once(async {
            Err(Error::new(
                ErrorKind::Decode,
                "the stored position is not a place in the export",
            ))
        })
        .boxed();
    };
    let walk = Walk {
        exports,
        slice,
        since,
        place,
        response: None,
        bytes: 0,
        clamped: false,
        failures: 0,
        doubts: 0,
        has_read: false,
        passed: None,
    };
    stream::try_unfold(Some(walk), |walk| async move {
        let Some(mut walk) = walk else {
            return Ok(None);
        };
        let response = walk.next().await?;
        let is_last = matches!(response.page.advance, Some(Advance::End));
        Ok(Some((response, (!is_last).then_some(walk))))
    })
    .boxed()
}

/// Asks for one event of the last day. A day without events, and one that the project does not
/// keep, can be read.
///
/// # Errors
/// When whether it can be read does not depend on the endpoint: the credentials, the configuration,
/// an outage.
pub(crate) async fn check(
    reader: &Reader,
    endpoint: &Endpoint,
    range: TimeRange,
) -> Result<Availability> {
    let planned = endpoint
        .slicer()
        .plan(&EndpointState::default(), range, reader.client().now());
    let Some(until) = planned
        .iter()
        .filter_map(|slice| Some(slice.window?.until))
        .max()
    else {
        return Ok(Availability::Available);
    };
    match one_event(reader, endpoint, until - DAY).await {
        Err(error) if history::is_too_old(&error) => Ok(Availability::Available),
        Err(error) => match error.kind() {
            ErrorKind::Unauthenticated
            | ErrorKind::Unavailable
            | ErrorKind::Untrusted
            | ErrorKind::ConfigInvalid => Err(error),
            ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Refused => {
                Ok(Availability::Unavailable(error.to_string()))
            }
            _ => Ok(Availability::Failed(error.to_string())),
        },
        Ok(()) => Ok(Availability::Available),
    }
}

/// Asks for one event of a day.
async fn one_event(reader: &Reader, endpoint: &Endpoint, since: DateTime<Utc>) -> Result<()> {
    let endpoint = endpoint.clone().query("limit", "1");
    let window = Window {
        since: Some(since),
        until: since + DAY,
    };
    let mut pages = reader.read(
        &endpoint,
        SliceState {
            window: Some(window),
            ..SliceState::default()
        },
    );
    while pages.try_next().await?.is_some() {}
    Ok(())
}

/// The day of a slice of which a request could not be read, or only in part.
pub(crate) fn missed_day(slice: &SliceState, asked: Window, error: &Error) -> Missed {
    let since = midnight(asked.since.unwrap_or(asked.until - DAY));
    let last = midnight(asked.until - TimeDelta::nanoseconds(1));
    let name = if since == last {
        day(since)
    } else {
        format!("{} to {}", day(since), day(last))
    };
    let window = Some(Window {
        since: Some(since),
        until: last + DAY,
    });
    let unit = SliceState {
        window,
        query: slice.query.clone(),
        unit: Some(name.clone()),
        ..SliceState::default()
    };
    let missed = Missed::new(name, unit).because(error);
    if since == last {
        missed.keeping("export_day", format!("\"{}\"", day(since)))
    } else {
        missed
    }
}

/// A slice that is being read.
struct Walk<'a> {
    exports: Exports<'a>,
    slice: SliceState,
    /// The first instant of the slice.
    since: DateTime<Utc>,
    place: Place,
    /// The pages of the response that is being loaded; all of it is on disk.
    response: Option<BoxStream<'a, Result<Page>>>,
    /// Bytes of its events so far.
    bytes: u64,
    /// True once the last day was left out because it has not begun in the project's zone.
    clamped: bool,
    /// Requests that failed in a row, since one of them came whole.
    failures: u32,
    /// Those of them that failed since Mixpanel last answered anything.
    doubts: u32,
    /// True once Mixpanel has sent something.
    has_read: bool,
    /// The first instant of the day that was passed over last.
    passed: Option<DateTime<Utc>>,
}

/// How the walk continues after a failure.
enum Turn {
    /// With another request.
    Ask(Place),
    /// Behind a day that is missing.
    Pass(Box<Missed>, Place),
    /// Not at all: the rest is not kept.
    End,
}

impl<'a> Walk<'a> {
    async fn next(&mut self) -> Result<Response> {
        loop {
            let first = self.exports.history.first();
            if let Some(first) = first
                .and_then(|first| first.and_hms_opt(0, 0, 0))
                .map(|first| first.and_utc())
                .filter(|first| *first > self.since)
            {
                self.begin_later(first);
            }
            if self.place.until <= self.since {
                return Ok(self.end(
                    Window {
                        since: Some(self.since),
                        until: self.place.until,
                    },
                    None,
                ));
            }
            let window = Days::next(self.place, self.since);
            let response = self.response.take().unwrap_or_else(|| self.ask(window));
            let (response, next) = advance(response).await;
            match next {
                Ok(Some(page)) if page.advance.is_none() => {
                    self.response = Some(response);
                    self.bytes += page
                        .records
                        .iter()
                        .flatten()
                        .map(|record| record.as_bytes().len() as u64)
                        .sum::<u64>();
                    return Ok(Response {
                        page,
                        asked: window,
                    });
                }
                Ok(end) => return Ok(self.end(window, end)),
                Err(error) => match self.turn(window, error).await? {
                    Turn::Ask(place) => self.place = place,
                    Turn::Pass(missed, place) => return Ok(self.pass(window, *missed, place)),
                    Turn::End => {
                        return Ok(self.end(
                            Window {
                                since: Some(self.since),
                                ..window
                            },
                            None,
                        ));
                    }
                },
            }
        }
    }

    /// Asks for some days, or a part of one.
    fn ask(&self, window: Window) -> BoxStream<'a, Result<Page>> {
        let Exports {
            reader,
            endpoint,
            several_days,
            ..
        } = self.exports;
        let length = window.since.map_or(DAY, |since| window.until - since);
        let endpoint = if length <= DAY {
            endpoint
        } else {
            several_days
        };
        let slice = SliceState {
            window: Some(window),
            ..SliceState::default()
        };
        let is_repeated = self.failures > 0
            || self.place.failures > 0
            || self.place.suspect.is_some()
            || self.is_missing();
        let attempts = if length == DAY { ATTEMPTS_AT_A_DAY } else { 1 };
        let reader = if is_repeated {
            reader.with_attempts(attempts)
        } else {
            reader.clone()
        };
        reader.read(endpoint, slice)
    }

    /// True when the slice is a day that could not be read before.
    fn is_missing(&self) -> bool {
        self.slice.unit.is_some()
    }

    /// The end of a response: a place to stop and continue.
    fn end(&mut self, window: Window, end: Option<Page>) -> Response {
        let bytes = std::mem::take(&mut self.bytes);
        (self.failures, self.doubts, self.has_read) = (0, 0, true);
        let next = self
            .exports
            .days
            .after(self.place, window, self.since, bytes);
        let records = end.map_or_else(|| self.no_records(), |end| end.records);
        Response {
            page: Page::new(records, Some(self.advance_to(next))),
            asked: window,
        }
    }

    /// The end of a day that is passed over.
    fn pass(&mut self, window: Window, missed: Missed, place: Place) -> Response {
        self.passed = Some(place.until);
        let next = Some(place).filter(|place| place.until > self.since);
        let page = Page::new(self.no_records(), Some(self.advance_to(next)));
        Response {
            page: Page {
                gaps: vec![missed],
                ..page
            },
            asked: window,
        }
    }

    fn advance_to(&mut self, next: Option<Place>) -> Advance {
        let Some(next) = next else {
            return Advance::End;
        };
        self.place = next;
        Advance::Next(next.to_text())
    }

    fn no_records(&self) -> Vec<Vec<pipeline_core::RawRecord>> {
        vec![Vec::new(); self.exports.endpoint.streams().len()]
    }

    /// How to continue after a failure that came before the first event of a response.
    async fn turn(&mut self, window: Window, error: Error) -> Result<Turn> {
        self.bytes = 0;
        let error = match window.since {
            Some(since) => {
                error.with_context("from", since.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            None => error,
        };
        let asked = window.since.map(|since| since.date_naive());
        match error.kind() {
            ErrorKind::CursorExpired => self.end_earlier(error),
            ErrorKind::ConfigInvalid => self
                .kept(&error, asked)
                .ok_or_else(|| history::exhausted(error)),
            _ if concerns_all(&error) => Err(error),
            ErrorKind::TooLarge
                if let Some(smaller) = self.exports.days.smaller(self.place, window) =>
            {
                Ok(self.ask_for_less(window, &error, smaller))
            }
            _ => {
                let error = self.doubt(error).await?;
                self.look_for_the_day(window, error).await
            }
        }
    }

    /// Asks for a part of what Mixpanel did not finish.
    fn ask_for_less(&mut self, window: Window, error: &Error, smaller: Place) -> Turn {
        self.failures += 1;
        let what = format!(
            "the export from {} on did not come whole ({}): it continues in requests for {}",
            day(window.since.unwrap_or(self.since)),
            error.message(),
            length(smaller.length),
        );
        self.exports
            .reader
            .client()
            .notice(self.exports.endpoint.name(), &what);
        Turn::Ask(smaller)
    }

    /// Counts a failure. Unless Mixpanel has answered lately, it is asked for another day, to tell
    /// days that fail from an outage.
    ///
    /// # Errors
    /// The failure, when the other day fails as well.
    async fn doubt(&mut self, error: Error) -> Result<Error> {
        self.failures += 1;
        if error.kind() == ErrorKind::Decode && error.status() == ErrorStatus::Permanent {
            // What came is not what it should be, but it came.
            (self.doubts, self.has_read) = (0, true);
            return Ok(error);
        }
        self.doubts += 1;
        let is_refused_later = error.kind() == ErrorKind::Refused && self.has_read;
        let is_first = self.failures == 1 && !is_refused_later;
        if !self.is_missing() && (is_first || self.doubts >= DOUBTFUL) {
            self.probe(error).await
        } else {
            Ok(error)
        }
    }

    /// Asks for an event of the day before the slice, which no request of the slice asks for.
    async fn probe(&mut self, error: Error) -> Result<Error> {
        let Exports {
            reader, endpoint, ..
        } = self.exports;
        let is_refusal = error.kind() == ErrorKind::Refused;
        match one_event(
            &reader.with_attempts(1),
            endpoint,
            midnight(self.since) - DAY,
        )
        .await
        {
            Ok(()) => self.has_read = true,
            Err(other) if history::is_too_old(&other) => self.has_read = true,
            // A refusal is an answer, which an outage does not give.
            Err(other)
                if !is_refusal
                    && other.status() == ErrorStatus::Permanent
                    && !concerns_all(&other) => {}
            Err(_) => return Err(error),
        }
        self.doubts = 0;
        Ok(error)
    }

    /// Continues with fewer days, or behind the day when there is but one.
    async fn look_for_the_day(&mut self, window: Window, error: Error) -> Result<Turn> {
        if self.is_missing() {
            return Err(error);
        }
        if let Some(place) = self.place.suspecting(window) {
            let what = format!(
                "the export from {} on failed ({error}): the day that fails is looked for",
                day(window.since.unwrap_or(self.since))
            );
            self.exports
                .reader
                .client()
                .notice(self.exports.endpoint.name(), &what);
            return Ok(Turn::Ask(place));
        }
        // Nothing was answered since the day failed: it may not be the day.
        let error = if self.doubts > 0 {
            self.probe(error).await?
        } else {
            error
        };
        let Some((day, place)) = self.exports.days.pass(window, self.passed) else {
            return Err(error);
        };
        Ok(Turn::Pass(
            Box::new(missed_day(&self.slice, day, &error)),
            place,
        ))
    }

    /// Leaves out the last day, once, when it has not begun in the project's zone.
    fn end_earlier(&mut self, error: Error) -> Result<Turn> {
        let earlier = self.place.until - DAY;
        let is_read_again =
            self.exports.days.lookback >= DAY && earlier > self.since && !self.clamped;
        self.clamped = true;
        if is_read_again {
            Ok(Turn::Ask(Place {
                until: earlier,
                ..self.place
            }))
        } else {
            Err(too_early(error))
        }
    }

    /// Leaves out the days that the project no longer keeps. Nothing when that is not what failed.
    fn kept(&mut self, error: &Error, asked: Option<NaiveDate>) -> Option<Turn> {
        let first =
            self.exports
                .history
                .refused(error, asked, self.exports.reader.client().now())?;
        self.begin_later(first.and_hms_opt(0, 0, 0)?.and_utc());
        Some(if self.place.until > self.since {
            Turn::Ask(self.place)
        } else {
            Turn::End
        })
    }

    fn begin_later(&mut self, first: DateTime<Utc>) {
        history::tell(
            self.exports.reader.client(),
            self.exports.endpoint.name(),
            first.date_naive(),
        );
        self.since = self.since.max(first);
    }
}

/// The next page of a response, and the rest of it.
async fn advance(
    mut response: BoxStream<'_, Result<Page>>,
) -> (BoxStream<'_, Result<Page>>, Result<Option<Page>>) {
    let next = response.try_next().await;
    (response, next)
}

/// True for failures that have nothing to do with the days that were asked for.
fn concerns_all(error: &Error) -> bool {
    let is_unpaid = error.context_value("status") == Some("402");
    is_unpaid
        || !is_of_unit(error)
        || matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Unsupported
        )
}

fn length(span: TimeDelta) -> String {
    match span.num_minutes() {
        minutes if minutes % (24 * 60) == 0 => format!("{} days", minutes / (24 * 60)),
        minutes if minutes % 60 == 0 => format!("{} hours", minutes / 60),
        minutes => format!("{minutes} minutes"),
    }
}

fn too_early(error: Error) -> Error {
    Error::new(
        ErrorKind::ConfigInvalid,
        "the last day of the export has not begun in the project's time zone",
    )
    .with_help("set time_zone and time_storage as the project has them, or include_today to false")
    .with_source(error)
}
