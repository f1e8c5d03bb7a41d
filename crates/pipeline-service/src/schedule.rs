//! When a source is due: a cron expression in a time zone, or an interval.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use twox_hash::XxHash3_128;

/// Shortest interval.
const SHORTEST: Duration = Duration::from_secs(1);

/// Longest interval: longer ones belong into a cron expression.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// When a source is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// By a cron expression of five fields, in a time zone.
    Cron(Box<Cron>, Tz),
    /// At each multiple of an interval since 1970-01-01T00:00:00Z: `15m` is due at every quarter of
    /// an hour, wherever and whenever the process started.
    Every(Duration),
}

/// Why a schedule cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// The expression cannot be read.
    #[error("it is not a cron expression: {0}")]
    Cron(String),
    /// No date has what the expression asks for, such as 30 February.
    #[error("no date matches it")]
    Never,
    /// The interval is too short or too long.
    #[error("an interval is at least 1s and at most 366 days")]
    Interval,
}

impl Schedule {
    /// Reads an expression of five fields (minute, hour, day of month, month, day of week), or a
    /// nickname such as `@daily`.
    ///
    /// Where both days are restricted, either of them suffices, as in cron. An hour that the clock
    /// skips in spring is made up for at the end of the gap, and one that it repeats in autumn
    /// counts once.
    ///
    /// # Errors
    /// [`InvalidSchedule::Cron`] and [`InvalidSchedule::Never`].
    pub fn cron(expression: &str, zone: Tz) -> Result<Self, InvalidSchedule> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(expression)
            .map_err(|error| InvalidSchedule::Cron(error.to_string()))?;
        let schedule = Self::Cron(Box::new(cron), zone);
        match schedule.occurrence(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(InvalidSchedule::Never),
        }
    }

    /// Due each time that the interval has passed.
    ///
    /// # Errors
    /// [`InvalidSchedule::Interval`].
    pub fn every(interval: Duration) -> Result<Self, InvalidSchedule> {
        if (SHORTEST..=LONGEST).contains(&interval) {
            Ok(Self::Every(interval))
        } else {
            Err(InvalidSchedule::Interval)
        }
    }

    /// The first time after `after`, jitter included, at which the source is due. None at the end
    /// of the calendar.
    pub fn next(&self, after: DateTime<Utc>, jitter: Jitter) -> Option<DateTime<Utc>> {
        let mut occurrence = self.occurrence(after - jitter.most())?;
        loop {
            let following = self.occurrence(occurrence)?;
            let due = occurrence + jitter.delay(following - occurrence);
            if due > after {
                return Some(due);
            }
            occurrence = following;
        }
    }

    /// The first time after `after` that the schedule names, without jitter.
    fn occurrence(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron, zone) => {
                let after = after.with_timezone(zone);
                let found = cron.find_next_occurrence(&after, false).ok()?;
                Some(found.with_timezone(&Utc))
            }
            Self::Every(interval) => {
                let interval = i64::try_from(interval.as_millis()).ok()?;
                let passed = after.timestamp_millis().div_euclid(interval);
                DateTime::from_timestamp_millis(passed.checked_add(1)?.checked_mul(interval)?)
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron, zone) => write!(f, "{} {zone}", cron.as_str()),
            Self::Every(interval) => write!(f, "every {}", crate::words::duration(*interval)),
        }
    }
}

/// The name of a time zone, such as `Europe/Berlin`.
///
/// # Errors
/// When there is no such zone in the IANA database that this program was built with.
pub fn zone(name: &str) -> Result<Tz, chrono_tz::ParseError> {
    Tz::from_str(name)
}

/// How much later than its schedule says a source is started, so that sources with the same
/// schedule do not all begin at the same second. It follows from the source's name alone: the same
/// source always has the same delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter {
    /// Between 0 and 1.
    part: f64,
    most: Duration,
}

impl Jitter {
    /// The jitter of a source: at most `most`, and at most a tenth of the time between two starts.
    pub fn of(name: &str, most: Duration) -> Self {
        let hash = XxHash3_128::oneshot(name.as_bytes()).to_le_bytes();
        let low = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]);
        Self {
            part: f64::from(low) / f64::from(u32::MAX),
            most,
        }
    }

    /// No delay.
    pub fn none() -> Self {
        Self {
            part: 0.0,
            most: Duration::ZERO,
        }
    }

    fn most(self) -> TimeDelta {
        TimeDelta::from_std(self.most).unwrap_or(TimeDelta::zero())
    }

    fn delay(self, interval: TimeDelta) -> TimeDelta {
        let most = self
            .most
            .min(interval.to_std().unwrap_or(Duration::ZERO) / 10);
        TimeDelta::from_std(most.mul_f64(self.part)).unwrap_or(TimeDelta::zero())
    }
}

#[cfg(test)]
mod tests;
