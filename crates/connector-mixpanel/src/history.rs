//! The history that a project keeps: days before it are left out of every request that names days,
//! once Mixpanel has refused one.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};
use pipeline_core::http::HttpClient;
use pipeline_core::state::{Position, SliceState};
use pipeline_core::{Advance, Error, ErrorKind, Page, Reader, Result};

use crate::Known;

/// What Mixpanel answers when days are asked for that the project's plan does not keep, before the
/// number of those it does.
pub(crate) const TOO_OLD: &str = "Date range exceeds";

/// No plan keeps more days.
const MOST_KEPT: i64 = 36_600;

/// The first day that a project keeps; not known before a request for an earlier one was refused.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Option<NaiveDate>>);

impl History {
    /// The first day that is kept, as far as it is known.
    pub(crate) fn first(&self) -> Option<NaiveDate> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first day to ask for after a refusal of a request that began with `asked`. Nothing when
    /// the refusal has another reason, or the day that it names was asked for.
    pub(crate) fn refused(
        &self,
        error: &Error,
        asked: Option<NaiveDate>,
        now: DateTime<Utc>,
    ) -> Option<NaiveDate> {
        let later = kept_since(kept_days(error)?, now.date_naive(), asked)?;
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = first.map_or(later, |first| first.max(later));
        *first = Some(later);
        Some(later)
    }
}

/// The days of history that a project keeps, where it was refused for more:
/// `Date range exceeds 90 days into the past`.
fn kept_days(error: &Error) -> Option<i64> {
    let (_, rest) = error.context_value("answer")?.split_once(TOO_OLD)?;
    rest.split_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|days| (0..=MOST_KEPT).contains(days))
}

/// True for a refusal of days that the project does not keep.
pub(crate) fn is_too_old(error: &Error) -> bool {
    kept_days(error).is_some()
}

/// The first of the days that are kept and follow `asked`. It is a day later where the project's
/// day is ahead of UTC.
fn kept_since(kept: i64, today: NaiveDate, asked: Option<NaiveDate>) -> Option<NaiveDate> {
    let first = today.checked_sub_signed(TimeDelta::days(kept))?;
    let next = first.succ_opt()?;
    [first, next]
        .into_iter()
        .find(|day| asked.is_none_or(|asked| asked < *day))
}

/// Says what is left out of an endpoint.
pub(crate) fn tell(client: &HttpClient, endpoint: &str, first: NaiveDate) {
    client.notice(
        endpoint,
        &format!("the project's plan keeps no days before {first}: they are left out"),
    );
}

/// The error for a project that refuses the days that it says it keeps.
pub(crate) fn exhausted(error: Error) -> Error {
    if kept_days(&error).is_none() {
        return error;
    }
    Error::new(
        ErrorKind::Refused,
        "mixpanel refuses days that the project keeps by its own account",
    )
    .with_help("set a later start_date, or fewer report_days")
    .with_source(error)
}

/// Reads a list. When its days begin before those that the project keeps, it is asked for from the
/// first of those on.
pub(crate) fn read<'a>(
    known: &'a Known,
    reader: &'a Reader,
    name: &'a str,
    slice: SliceState,
) -> BoxStream<'a, Result<Page>> {
    let walk = Walk {
        known,
        reader,
        name,
        slice,
        first: None,
        pages: None,
    };
    stream::try_unfold(Some(walk), |walk| async move {
        let Some(mut walk) = walk else {
            return Ok(None);
        };
        Ok(walk.next().await?.map(|page| (page, Some(walk))))
    })
    .boxed()
}

/// A list that is being read.
struct Walk<'a> {
    known: &'a Known,
    reader: &'a Reader,
    name: &'a str,
    slice: SliceState,
    /// The first day of the history that its requests respect.
    first: Option<NaiveDate>,
    pages: Option<BoxStream<'a, Result<Page>>>,
}

impl Walk<'_> {
    async fn next(&mut self) -> Result<Option<Page>> {
        loop {
            if self.pages.is_none() {
                self.begin()?;
            }
            let Some(pages) = &mut self.pages else {
                return Ok(None);
            };
            match pages.try_next().await {
                Ok(page) => {
                    if let Some(Advance::Next(at)) =
                        page.as_ref().and_then(|page| page.advance.as_ref())
                    {
                        self.slice.position = Position::At(at.clone());
                    }
                    return Ok(page);
                }
                Err(error) if self.is_too_old(&error) => self.pages = None,
                Err(error) => return Err(exhausted(error)),
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.first = self.known.history.first();
        let unknown = || {
            Error::new(
                ErrorKind::Unexpected,
                "an endpoint is read that was not declared",
            )
        };
        let endpoint = self
            .known
            .endpoint(self.name, self.first)
            .ok_or_else(unknown)?;
        if let Some(first) = self.first.filter(|first| {
            self.known
                .asked(self.name, &self.slice)
                .is_some_and(|asked| asked < *first)
        }) {
            tell(self.reader.client(), self.name, first);
        }
        self.pages = Some(self.reader.read(endpoint, self.slice.clone()));
        Ok(())
    }

    /// True when it is known now, and was not when the request was made, that fewer days are kept.
    fn is_too_old(&self, error: &Error) -> bool {
        let asked = self.known.asked(self.name, &self.slice).max(self.first);
        self.known
            .history
            .refused(error, asked, self.reader.client().now())
            .is_some_and(|later| Some(later) != self.first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, day).unwrap()
    }

    #[test]
    fn the_first_day_that_is_kept_moves_once_more_and_never_back() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let refusal = |days: &str| {
            Error::new(ErrorKind::ConfigInvalid, "")
                .with_context("answer", format!("{TOO_OLD} {days} days into the past"))
        };
        let history = History::default();
        assert_eq!(history.refused(&refusal("many"), None, now), None);
        assert_eq!(
            history.refused(&refusal("10"), Some(day(1)), now),
            Some(day(12))
        );
        assert_eq!(
            history.refused(&refusal("10"), Some(day(12)), now),
            Some(day(13)),
            "the project's day is ahead of UTC"
        );
        assert_eq!(
            history.refused(&refusal("10"), Some(day(1)), now),
            Some(day(13)),
            "another request that began before"
        );
        assert_eq!(history.refused(&refusal("10"), Some(day(13)), now), None);
        assert_eq!(history.first(), Some(day(13)));
    }
}
