//! JSON values as the values of columns: exactly, or not at all.
//!
//! Every function takes the text of one valid JSON value that is not null, and returns none when
//! the type cannot hold it.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};

use pipeline_core::slice::{parse_day, parse_time};
use pipeline_core::{RawRecord, TimeFormat};

/// Digits that every double gives back unchanged.
const SAFE_DIGITS: usize = 15;

/// The `id` of an object, if it is a text or a number.
pub(super) fn id(object: &str) -> Option<String> {
    RawRecord::upsert(object.to_owned()).scalar("id")
}

pub(super) fn boolean(json: &str) -> Option<bool> {
    match json {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A whole number without point or exponent. Minus zero is none: its sign would be lost.
pub(super) fn int64(json: &str) -> Option<i64> {
    if json == "-0" {
        None
    } else {
        json.parse().ok()
    }
}

/// A number that its nearest double gives back: printing the double, in its shortest form or with
/// 17 digits, yields the same digits. So a vendor's doubles fit, and longer numbers and larger
/// integers do not.
pub(super) fn float64(json: &str, scratch: &mut String) -> Option<f64> {
    let value: f64 = json.parse().ok()?;
    let is_zero = significant_digits(json).next().is_none();
    // Beyond these lie infinity and the doubles that have fewer digits.
    if !value.is_normal() && !is_zero {
        return None;
    }
    if json.len() <= SAFE_DIGITS || significant_digits(json).count() <= SAFE_DIGITS {
        return Some(value);
    }
    let mut is_same = |print: &dyn Fn(&mut String) -> std::fmt::Result| {
        scratch.clear();
        print(scratch).is_ok() && significant_digits(json).eq(significant_digits(scratch))
    };
    (is_same(&|text| write!(text, "{value:e}")) || is_same(&|text| write!(text, "{value:.16e}")))
        .then_some(value)
}

/// The digits of a number from the first to the last that is not zero.
fn significant_digits(number: &str) -> impl Iterator<Item = u8> {
    let mantissa = number.split(['e', 'E']).next().unwrap_or(number);
    let is_significant = |byte: u8| matches!(byte, b'1'..=b'9');
    let start = mantissa
        .bytes()
        .position(is_significant)
        .unwrap_or(mantissa.len());
    let end = mantissa
        .bytes()
        .rposition(is_significant)
        .map_or(start, |last| last + 1);
    mantissa[start..end].bytes().filter(u8::is_ascii_digit)
}

/// A number, or a string that holds one, as a whole number of units of `10^-scale`. Never rounded;
/// minus zero is none.
pub(super) fn decimal(json: &str, precision: u8, scale: i8) -> Option<i128> {
    let number = json
        .strip_prefix('"')
        .map_or(Some(json), |rest| rest.strip_suffix('"'))?;
    let (is_negative, number) = number
        .strip_prefix('-')
        .map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mut units: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = (byte as char).to_digit(10)?;
        units = units.checked_mul(10)?.checked_add(digit.into())?;
    }
    if units == 0 {
        return (!is_negative).then_some(0);
    }
    let mut shift = i64::from(exponent) + i64::from(scale) - i64::try_from(fraction.len()).ok()?;
    while shift > 0 {
        units = units.checked_mul(10)?;
        shift -= 1;
    }
    while shift < 0 && units % 10 == 0 {
        units /= 10;
        shift += 1;
    }
    let fits = shift == 0 && units < 10_i128.checked_pow(precision.into())?;
    fits.then_some(if is_negative { -units } else { units })
}

/// The text that a string stands for; none when it is not Unicode, as with half a surrogate pair.
pub(super) fn text<'a>(json: &'a str, scratch: &'a mut String) -> Option<&'a str> {
    let mut rest = json.strip_prefix('"')?.strip_suffix('"')?;
    let Some(mut at) = memchr::memchr(b'\\', rest.as_bytes()) else {
        return Some(rest);
    };
    scratch.clear();
    loop {
        scratch.push_str(&rest[..at]);
        let (character, after) = escaped(&rest[at + 1..])?;
        scratch.push(character);
        rest = after;
        match memchr::memchr(b'\\', rest.as_bytes()) {
            Some(next) => at = next,
            None => break,
        }
    }
    scratch.push_str(rest);
    Some(scratch)
}

/// Reads what follows a backslash; returns the character meant and the text after it.
fn escaped(text: &str) -> Option<(char, &str)> {
    let mut characters = text.chars();
    let character = match characters.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return escaped_unit(characters.as_str()),
        itself => itself,
    };
    Some((character, characters.as_str()))
}

fn escaped_unit(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| u16::from_str_radix(text.get(..4)?, 16).ok();
    let (first, rest) = (unit(text)?, text.get(4..)?);
    if let Ok(character) = char::decode_utf16([first]).next()? {
        return Some((character, rest));
    }
    let pair = rest.strip_prefix("\\u")?;
    let character = char::decode_utf16([first, unit(pair)?]).next()?.ok()?;
    Some((character, pair.get(4..)?))
}

/// Days since 1970.
pub(super) fn date(json: &str) -> Option<i32> {
    let day = parse_day(json.strip_prefix('"')?.strip_suffix('"')?)?;
    i32::try_from(day.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// Microseconds since 1970. None for finer fractions, leap seconds, and years outside 1 to 9999,
/// which a mistaken unit yields and few databases know.
pub(super) fn timestamp(json: &str, format: TimeFormat, scratch: &mut String) -> Option<i64> {
    let time: DateTime<Utc> = match format {
        TimeFormat::UnixSeconds => DateTime::from_timestamp_secs(int64(json)?)?,
        TimeFormat::UnixMillis => DateTime::from_timestamp_millis(int64(json)?)?,
        TimeFormat::Rfc3339 | TimeFormat::Date => parse_time(text(json, scratch)?, format)?,
    };
    let is_exact = time.nanosecond() < 1_000_000_000
        && time.nanosecond().is_multiple_of(1_000)
        && (1..=9999).contains(&time.year());
    is_exact.then(|| time.timestamp_micros())
}
