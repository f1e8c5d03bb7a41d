//! Durations and numbers as people write and read them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// Parses a duration such as `200ms`, `90s`, `10m`, `1h 30m`, or `2 days`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    // The library reads `M` as months, where the user means minutes.
    let parsed = if text.contains('M') {
        None
    } else {
        humantime::parse_duration(text).ok()
    };
    parsed.ok_or_else(|| {
        format!("`{text}` is not a duration: write one such as 200ms, 90s, 10m, or 1h30m")
    })
}

/// A duration in the two units that matter: `850 ms`, `12.3 s`, `4 m 10 s`, `3 h 5 m`, `2 d 4 h`.
/// `humantime` would print all of them, down to the nanosecond.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The same for a difference of two instants; a negative one counts as zero.
pub(crate) fn ago(difference: TimeDelta) -> String {
    short(difference.to_std().unwrap_or_default())
}

/// A number with its thousands apart: `1 234 567`.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 row`, `12 000 rows`.
pub(crate) fn count(value: u64, thing: &str) -> String {
    format!(
        "{} {thing}{}",
        number(value),
        if value == 1 { "" } else { "s" }
    )
}

/// An instant to the second, in UTC: `2026-01-31T12:00:00Z`.
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("200ms", Some(200)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("10", None),
            ("", None),
            ("5 days", Some(432_000_000)),
            ("s", None),
            ("10M", None),
            ("-1s", None),
        ];
        for (text, millis) in cases {
            assert_eq!(
                duration(text).ok(),
                millis.map(Duration::from_millis),
                "{text}"
            );
        }
        assert!(duration("99999999999999999h").is_err());
    }

    #[test]
    fn numbers_and_times_are_short() {
        assert_eq!(
            [number(0), number(999), number(1_000), number(1_234_567)],
            ["0", "999", "1 000", "1 234 567"]
        );
        assert_eq!(
            [count(0, "row"), count(1, "row"), count(1_000, "row")],
            ["0 rows", "1 row", "1 000 rows"]
        );
        let seconds = |s| short(Duration::from_secs(s));
        assert_eq!(
            [
                seconds(0),
                seconds(12),
                seconds(250),
                seconds(11_100),
                seconds(187_200)
            ],
            ["0 ms", "12.0 s", "4 m 10 s", "3 h 5 m", "2 d 4 h"]
        );
    }
}
