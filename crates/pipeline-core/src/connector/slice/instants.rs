//! Points in time as vendors and configurations write them.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

use crate::error::{Error, ErrorKind, Result};
use crate::model::schema::TimeFormat;

/// Reads the start that a configuration asks for: a day, which means its first instant in UTC, or
/// an RFC 3339 time. None when it is neither.
pub fn parse_start(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    parse_time(text, TimeFormat::Date).or_else(|| parse_time(text, TimeFormat::Rfc3339))
}

/// Refuses a start that leaves nothing to read.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] when it is still to come.
pub fn check_start(start: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    if start < now {
        return Ok(start);
    }
    Err(
        Error::new(ErrorKind::ConfigInvalid, "the start date is in the future")
            .with_context("field", "start_date")
            .with_help(
                "nothing that happened until now would be read: write a day that is over, such as \
                 2026-01-31",
            ),
    )
}

/// An instant as the vendor writes it.
pub fn render_time(time: DateTime<Utc>, format: TimeFormat) -> String {
    match format {
        TimeFormat::UnixSeconds => time.timestamp().to_string(),
        TimeFormat::UnixMillis => time.timestamp_millis().to_string(),
        TimeFormat::Rfc3339 => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        TimeFormat::Date => time.format("%Y-%m-%d").to_string(),
    }
}

/// Reads an instant as the vendor writes it; none when it is not one.
pub fn parse_time(text: &str, format: TimeFormat) -> Option<DateTime<Utc>> {
    match format {
        TimeFormat::UnixSeconds => DateTime::from_timestamp(text.parse().ok()?, 0),
        TimeFormat::UnixMillis => DateTime::from_timestamp_millis(text.parse().ok()?),
        TimeFormat::Rfc3339 => parse_rfc3339(text),
        TimeFormat::Date => parse_day(text).and_then(midnight),
    }
}

fn midnight(day: NaiveDate) -> Option<DateTime<Utc>> {
    Some(day.and_hms_opt(0, 0, 0)?.and_utc())
}

/// Reads a day written `YYYY-MM-DD`, and in no other way.
pub fn parse_day(text: &str) -> Option<NaiveDate> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text
            .get(range)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<u32>().ok()
    };
    let is_separated = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    if is_separated {
        NaiveDate::from_ymd_opt(
            number(0..4)?.try_into().ok()?,
            number(5..7)?,
            number(8..10)?,
        )
    } else {
        None
    }
}

/// RFC 3339, and the common variants without an offset or with a space between day and time.
fn parse_rfc3339(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let normal: Cow<'_, str> = if text.contains(' ') {
        text.replacen(' ', "T", 1).into()
    } else {
        text.into()
    };
    normal
        .parse::<chrono::NaiveDateTime>()
        .ok()
        .map(|time| time.and_utc())
}
