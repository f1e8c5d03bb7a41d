//! Lines of the raw export: the proof that a response is complete, and the row made of an event.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use chrono::{DateTime, Datelike, NaiveDate};
use pipeline_core::{Error, ErrorKind, RawRecord, Result};

use self::event::Line;
pub(crate) use self::judge::{check, check_whole};
use crate::calendar::{Calendar, Moment};
use crate::json::{Members, Row, find, quoted};
use crate::rows::{About, Occurrences};
use crate::schema;

mod event;
mod judge;
#[cfg(test)]
mod tests;

/// Times above this are milliseconds: as seconds they lie beyond the year 5000.
const MAX_SECONDS: i64 = 100_000_000_000;

/// Digits of an event's key: 128 bits in hexadecimal.
const KEY_DIGITS: usize = 32;

/// Properties that change when an event is ingested again or its user is merged with another.
const VOLATILE: [&str; 6] = [
    "mp_processing_time_ms",
    "$mp_api_timestamp_ms",
    "$import",
    "$is_reshuffled",
    "distinct_id",
    "$distinct_id_before_identity",
];

/// How a property becomes a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lift {
    /// A string, even if it was written as a number.
    Text,
    /// As it is.
    Verbatim,
}

/// Columns lifted out of the properties: the property, the column, and how. The first four are
/// looked at more closely.
const LIFTED: [(&str, &str, Lift); 19] = [
    ("time", "time_raw", Lift::Verbatim),
    ("distinct_id", "distinct_id", Lift::Text),
    ("$insert_id", "insert_id", Lift::Text),
    (
        "$distinct_id_before_identity",
        "distinct_id_before_identity",
        Lift::Text,
    ),
    ("$device_id", "device_id", Lift::Text),
    ("$user_id", "user_id", Lift::Text),
    ("$is_reshuffled", "is_reshuffled", Lift::Verbatim),
    ("$import", "import", Lift::Verbatim),
    ("mp_country_code", "mp_country_code", Lift::Text),
    ("$city", "city", Lift::Text),
    ("$region", "region", Lift::Text),
    ("$os", "os", Lift::Text),
    ("$browser", "browser", Lift::Text),
    ("$current_url", "current_url", Lift::Text),
    ("mp_lib", "lib", Lift::Text),
    ("$lib_version", "lib_version", Lift::Text),
    (
        "mp_processing_time_ms",
        "mp_processing_time_ms",
        Lift::Verbatim,
    ),
    (
        "$mp_api_timestamp_ms",
        "mp_api_timestamp_ms",
        Lift::Verbatim,
    ),
    ("$mp_api_endpoint", "mp_api_endpoint", Lift::Text),
];
const TIME: usize = 0;
const DISTINCT_ID: usize = 1;
const INSERT_ID: usize = 2;
const FORMER_ID: usize = 3;
const PROCESSED: usize = 16;

/// The longest name of a lifted property.
const LONGEST: usize = "$distinct_id_before_identity".len();

/// The lifted properties by the length of their names: every property of every event is looked for
/// among them.
static BY_LENGTH: LazyLock<[Vec<usize>; LONGEST + 1]> = LazyLock::new(|| {
    let of = |length| (0..LIFTED.len()).filter(move |index| LIFTED[*index].0.len() == length);
    std::array::from_fn(|length| of(length).collect())
});

/// Which of the lifted properties it is, if it is one.
fn lifted(property: &str) -> Option<usize> {
    let alike = BY_LENGTH.get(property.len())?;
    alike
        .iter()
        .copied()
        .find(|index| LIFTED[*index].0 == property)
}

/// True for a property that is a column anyway.
pub(crate) fn is_lifted(property: &str) -> bool {
    lifted(property).is_some()
}

/// The event as it is stored: what identifies it and what most projects ask for at the top, all
/// properties unchanged below. A malformed line is counted, and rejected with its text.
#[expect(clippy::unnecessary_wraps, reason = "others of its type fail")]
pub(crate) fn event(
    record: &RawRecord,
    about: &mut About<'_>,
    out: &mut Vec<RawRecord>,
) -> Result<()> {
    about.lines.read += 1;
    out.push(row(record, about).unwrap_or_else(|error| {
        let rejected = record.clone().rejected(error.message());
        about.lines.add(error);
        rejected
    }));
    Ok(())
}

/// The lines of a response: how many there were, and which are malformed.
#[derive(Debug, Default)]
pub(crate) struct Malformed {
    read: u64,
    count: u64,
    first: Option<Error>,
}

impl Malformed {
    fn add(&mut self, error: Error) {
        self.count += 1;
        self.first
            .get_or_insert_with(|| error.with_context("line", self.read.to_string()));
    }

    /// What is wrong with the first, when there are more than may be.
    pub(crate) fn more_than(self, most: u32) -> Option<Error> {
        let Self { count, first, .. } = self;
        first
            .filter(|_| count > u64::from(most))
            .map(|first| first.with_context("malformed_lines", count.to_string()))
    }
}

fn row(record: &RawRecord, about: &mut About<'_>) -> Result<RawRecord> {
    let text = record.to_bytes();
    if let Ok(line) = std::str::from_utf8(&text) {
        return row_of(&text, line, false, about);
    }
    let repaired = Bytes::from(readable(&text).into_owned());
    let line = std::str::from_utf8(&repaired).unwrap_or_default();
    row_of(&repaired, line, true, about)
}

/// The row of a line, which is what `text` says.
fn row_of(text: &Bytes, line: &str, is_repaired: bool, about: &mut About<'_>) -> Result<RawRecord> {
    let line = Line::read(line)?;
    let event = Event::new(line.event, &line.properties);
    let mut row = event.lift(
        Row::of_text(text.clone()),
        about.calendar,
        &mut about.occurrences,
    );
    about.seen.late(event.lateness(about.calendar).unwrap_or(0));
    about.seen.users(
        event.name,
        event.properties,
        event.lifted[DISTINCT_ID],
        event.lifted[FORMER_ID],
    );
    for (property, value) in &line.properties {
        if let Some(column) = about.columns.of(property) {
            row = row.json(column, value);
        }
    }
    row = if line.is_compact {
        row.compact("properties", line.text)
    } else {
        row.json("properties", line.text)
    };
    if is_repaired {
        // Kept in `_extra`, where it is counted and told.
        row = row.json("utf8_repaired", "true");
    }
    for (name, value) in &line.others {
        // Old exports have further members beside the properties. None may take the place of a
        // column.
        let is_taken = schema::EVENT.iter().any(|field| field.name == *name);
        row = if is_taken {
            row.json(&format!("{name}__u"), value)
        } else {
            row.json(name, value)
        };
    }
    Ok(row.build())
}

/// One line of the export.
struct Event<'a> {
    /// The event's name, as JSON.
    name: &'a str,
    properties: &'a Members<'a>,
    /// The values of [`LIFTED`].
    lifted: [Option<&'a str>; LIFTED.len()],
    /// When it happened, in milliseconds, by the clock that the export's times are written in.
    millis: Option<i64>,
}

impl<'a> Event<'a> {
    fn new(name: &'a str, properties: &'a Members<'a>) -> Self {
        let mut values = [None; LIFTED.len()];
        for (name, value) in properties {
            if let Some(index) = lifted(name) {
                values[index] = Some(*value).filter(|value| *value != "null");
            }
        }
        // Answers about the events of some users write it so.
        values[DISTINCT_ID] = values[DISTINCT_ID].or_else(|| find(properties, "$distinct_id"));
        Self {
            name,
            properties,
            lifted: values,
            millis: values[TIME].and_then(time_millis),
        }
    }

    /// Adds what identifies the event, and what most projects ask for.
    fn lift(&self, row: Row, calendar: Calendar, occurrences: &mut Occurrences) -> Row {
        let mut row = row
            .json("event_key", &self.key(occurrences))
            .json("event", self.name);
        if let Some(millis) = self.millis {
            let Moment {
                millis: utc,
                is_ambiguous,
            } = calendar.moment(millis);
            row = row
                .json("time", &utc.to_string())
                .json_if("time_is_ambiguous", is_ambiguous.then_some("true"));
            // The day that the export counts the event to, by the clock that its times are written
            // in.
            if let Some(day) = DateTime::from_timestamp_millis(millis) {
                row = row.json("export_day", &day_text(day.date_naive()));
            }
        }
        for ((_, column, lift), value) in LIFTED.iter().zip(self.lifted) {
            row = match (lift, value) {
                (Lift::Text, Some(value)) => row.json(column, &quoted(value)),
                (_, value) => row.json_if(column, value),
            };
        }
        row
    }

    fn insert_id(&self) -> Option<&'a str> {
        self.lifted[INSERT_ID].filter(|id| *id != "\"\"")
    }

    /// Milliseconds from the event to its processing.
    fn lateness(&self, calendar: Calendar) -> Option<i64> {
        let processed: i64 = self.lifted[PROCESSED]?.parse().ok()?;
        Some(processed - calendar.moment(self.millis?).millis)
    }

    /// What Mixpanel itself takes for the identity of an event: name, user, time and insert id. A
    /// hash of them, as JSON.
    ///
    /// A merge of users rewrites `distinct_id` and keeps the former one beside it, so the former
    /// one counts. The time counts in whole seconds, whichever precision it was exported in. Events
    /// so old that they lack an insert id are told apart by everything that does not change when
    /// they are exported again, and equal ones by their number.
    fn key(&self, occurrences: &mut Occurrences) -> String {
        let user = self.lifted[FORMER_ID]
            .or(self.lifted[DISTINCT_ID])
            .unwrap_or_default();
        let mut hash = blake3::Hasher::new();
        let mut add = |json: &str| {
            let value = meant(json);
            hash.update(&(value.len() as u64).to_le_bytes());
            hash.update(value.as_bytes());
        };
        add(self.name);
        add(user);
        if let Some(insert_id) = self.insert_id() {
            add("insert_id");
            add(insert_id);
            add(&self
                .millis
                .map_or(String::new(), |millis| millis.div_euclid(1000).to_string()));
        } else {
            add("properties");
            let mut stable: Vec<_> = self
                .properties
                .iter()
                .filter(|(name, _)| !VOLATILE.contains(&&**name))
                .collect();
            stable.sort_unstable();
            for (name, value) in stable {
                add(name);
                add(value);
            }
            let line = hash.finalize();
            let line = line
                .as_bytes()
                .first_chunk()
                .map_or(0, |start| u64::from_le_bytes(*start));
            if let before @ 1.. = occurrences.before(line) {
                hash.update(&before.to_le_bytes());
            }
        }
        let digits = hash.finalize().to_hex();
        let mut key = String::with_capacity(KEY_DIGITS + 2);
        key.push('"');
        key.push_str(&digits[..KEY_DIGITS]);
        key.push('"');
        key
    }
}

/// A time in milliseconds; projects and years differ in whether it is written in seconds.
fn time_millis(json: &str) -> Option<i64> {
    let time: i64 = json.trim_matches('"').split('.').next()?.parse().ok()?;
    if time.abs() > MAX_SECONDS {
        Some(time)
    } else {
        time.checked_mul(1000)
    }
}

/// A day as JSON. Every event has one, and what formats dates of any kind takes its time.
fn day_text(day: NaiveDate) -> String {
    let Some(year) = u32::try_from(day.year()).ok().filter(|year| *year < 10_000) else {
        return format!("\"{day}\"");
    };
    let digit = |number: u32| char::from_digit(number % 10, 10).unwrap_or('0');
    let mut text = String::with_capacity("\"2026-01-31\"".len());
    text.push('"');
    text.extend([1000, 100, 10, 1].map(|place| digit(year / place)));
    for part in [day.month(), day.day()] {
        text.push('-');
        text.extend([digit(part / 10), digit(part)]);
    }
    text.push('"');
    text
}

/// What a string means; any other value as it is written.
fn meant(json: &str) -> Cow<'_, str> {
    if !json.starts_with(['"', ' ', '\n', '\r', '\t']) {
        return json.into();
    }
    let is_plain = |text: &&str| {
        let is_plain = |byte| byte >= b' ' && byte != b'"' && byte != b'\\';
        text.bytes().all(is_plain)
    };
    let inner = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    if let Some(plain) = inner.filter(is_plain) {
        return plain.into();
    }
    serde_json::from_str::<String>(json).map_or(json.into(), Cow::Owned)
}

/// The line as text. Properties cut in the middle of a character are known to occur; they must not
/// cost the day.
fn readable(line: &[u8]) -> Cow<'_, str> {
    // What mends is several times as slow as what only looks.
    std::str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed)
}

/// A line that is not an event. One that is not JSON either shows, as the last of an export, that
/// it was broken off.
fn malformed(message: &str) -> Error {
    Error::new(ErrorKind::Decode, message)
        .with_help("set max_bad_lines to accept such lines: they are kept in the table _rejected")
}
