//! Durations and numbers as people write and read them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// Reads a duration such as `200ms`, `90s`, `10m`, `1h` or `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write one such as 200ms, 90s, 10m or 1h30m");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// A duration in the two units that matter: `850 ms`, `12.3 s`, `4 m 10 s`, `3 h 5 m`, `2 d 4 h`.
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
            ("5 days", None),
            ("s", None),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
        assert!(duration("99999999999999999h").is_err());
    }

    #[test]
    fn numbers_and_times_are_short() {
        assert_eq!([number(0), number(999), number(1_000), number(1_234_567)], ["0", "999", "1 000", "1 234 567"]);
        let seconds = |s| short(Duration::from_secs(s));
        assert_eq!(
            [seconds(0), seconds(12), seconds(250), seconds(11_100), seconds(187_200)],
            ["0 ms", "12.0 s", "4 m 10 s", "3 h 5 m", "2 d 4 h"]
        );
    }
}
