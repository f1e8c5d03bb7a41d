//! Lines of the raw export: the proof that a response is complete, and the row made of an event.

use std::borrow::Cow;

use chrono::DateTime;
use pipeline_core::{Error, ErrorKind, RawRecord, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::calendar::{Calendar, Moment};
use crate::json::{Members, Row, find, is_object, members, quoted};
use crate::rows::{About, Occurrences};
use crate::schema;

/// Times above this are milliseconds: as seconds they lie beyond the year 5000.
const MAX_SECONDS: i64 = 100_000_000_000;

/// Characters of an error that are shown.
const MAX_SHOWN: usize = 200;

/// What some programs write at the start of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

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

/// True for a property that is a column anyway.
pub(crate) fn is_lifted(property: &str) -> bool {
    LIFTED.iter().any(|(lifted, ..)| *lifted == property)
}

/// Refuses a line that is not an event, or that shows that the export broke off: it does so with
/// status 200, in text or in JSON.
pub(crate) fn check(line: &[u8]) -> Result<()> {
    if is_event(line)? {
        Ok(())
    } else {
        Err(malformed("an export line is not an event"))
    }
}

/// Refuses a line that shows that the export broke off. One that is JSON came whole, whether or not
/// it is an event.
pub(crate) fn check_whole(line: &[u8]) -> Result<()> {
    is_event(line).map(drop)
}

/// True for an event, false for another object.
fn is_event(line: &[u8]) -> Result<bool> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        event: Option<&'a RawValue>,
        #[serde(borrow)]
        properties: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let text = readable(line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line));
    if text.eq_ignore_ascii_case("terminated early")
        || text.eq_ignore_ascii_case("export terminated early")
    {
        return Err(broken("the export was terminated early"));
    }
    if !text.starts_with('{') {
        return Err(malformed("an export line is not an event"));
    }
    let line: Line<'_> = serde_json::from_str(&text)
        .map_err(|error| malformed("an export line is not JSON").with_source(error))?;
    match line {
        Line {
            event: Some(event),
            properties: Some(properties),
            ..
        } if starts(event, '"') && starts(properties, '{') => Ok(true),
        Line {
            error: Some(error), ..
        } => Err(reported(error.get())),
        _ => Ok(false),
    }
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
    let readable = readable(record.as_bytes());
    let line = members(&readable)?;
    let not_an_event = || malformed("an export line is not an event");
    let properties = find(&line, "properties")
        .filter(|properties| is_object(properties))
        .ok_or_else(not_an_event)?;
    let name = find(&line, "event")
        .filter(|name| name.starts_with('"'))
        .ok_or_else(not_an_event)?;
    let event = Event::new(name, properties)?;
    let mut row = event.row(about.calendar, &mut about.occurrences, properties.len());
    about.seen.late(event.lateness(about.calendar).unwrap_or(0));
    about.seen.users(
        event.name,
        &event.properties,
        event.lifted[DISTINCT_ID],
        event.lifted[FORMER_ID],
    );
    for (property, value) in &event.properties {
        if let Some(column) = about.columns.of(property) {
            row = row.json(column, value);
        }
    }
    row = row.json("properties", properties);
    if let Cow::Owned(_) = readable {
        // Kept in `_extra`, where it is counted and told.
        row = row.json("utf8_repaired", "true");
    }
    for (name, value) in line
        .iter()
        .filter(|(name, _)| name != "event" && name != "properties")
    {
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
    properties: Members<'a>,
    /// The values of [`LIFTED`].
    lifted: [Option<&'a str>; LIFTED.len()],
}

impl<'a> Event<'a> {
    fn new(name: &'a str, properties: &'a str) -> Result<Self> {
        let properties = members(properties)?;
        let mut lifted = [None; LIFTED.len()];
        for (name, value) in &properties {
            if let Some(index) = LIFTED.iter().position(|(property, ..)| property == name) {
                lifted[index] = Some(*value).filter(|value| *value != "null");
            }
        }
        // Answers about the events of some users write it so.
        lifted[DISTINCT_ID] = lifted[DISTINCT_ID].or_else(|| find(&properties, "$distinct_id"));
        Ok(Self {
            name,
            properties,
            lifted,
        })
    }

    fn row(&self, calendar: Calendar, occurrences: &mut Occurrences, length: usize) -> Row {
        let mut row = Row::with_capacity(length + length / 2 + 512)
            .json("event_key", &format!("\"{}\"", self.key(occurrences)));
        row = row.json("event", self.name);
        if let Some(Moment {
            millis,
            is_ambiguous,
        }) = self.time_millis().map(|millis| calendar.moment(millis))
        {
            row = row
                .json("time", &millis.to_string())
                .json_if("time_is_ambiguous", is_ambiguous.then_some("true"));
        }
        // The day that the export counts the event to, by the clock that its times are written in.
        if let Some(day) = self.time_millis().and_then(DateTime::from_timestamp_millis) {
            row = row.text("export_day", &day.date_naive().to_string());
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

    /// The time in milliseconds; projects and years differ in whether it is written in seconds.
    fn time_millis(&self) -> Option<i64> {
        let text = self.lifted[TIME]?.trim_matches('"');
        let time: i64 = text.split('.').next()?.parse().ok()?;
        if time.abs() > MAX_SECONDS {
            Some(time)
        } else {
            time.checked_mul(1000)
        }
    }

    /// Milliseconds from the event to its processing.
    fn lateness(&self, calendar: Calendar) -> Option<i64> {
        let processed: i64 = self.lifted[PROCESSED]?.parse().ok()?;
        Some(processed - calendar.moment(self.time_millis()?).millis)
    }

    /// What Mixpanel itself takes for the identity of an event: name, user, time and insert id.
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
            let value: Cow<'_, str> =
                serde_json::from_str::<String>(json).map_or(json.into(), Cow::Owned);
            hash.update(&(value.len() as u64).to_le_bytes());
            hash.update(value.as_bytes());
        };
        add(self.name);
        add(user);
        if let Some(insert_id) = self.insert_id() {
            add("insert_id");
            add(insert_id);
            add(&self
                .time_millis()
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
        let mut key = hash.finalize().to_hex();
        key.truncate(KEY_DIGITS);
        key.to_string()
    }
}

/// The line as text. Properties cut in the middle of a character are known to occur; they must not
/// cost the day.
fn readable(line: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(line)
}

fn starts(json: &RawValue, with: char) -> bool {
    json.get().starts_with(with)
}

/// An export that Mixpanel broke off, as it does with those that take too long.
fn broken(message: &str) -> Error {
    Error::new(ErrorKind::TooLarge, message).temporary()
}

/// An error in place of an event; all but refused credentials may pass.
fn reported(text: &str) -> Error {
    let shown: String = text.trim_matches('"').chars().take(MAX_SHOWN).collect();
    let error = if text.contains("Unable to authenticate") {
        Error::new(
            ErrorKind::Unauthenticated,
            "the export ended because the credentials were refused",
        )
    } else {
        broken("the export ended with an error")
    };
    error.with_context("answer", shown)
}

/// A line that is not an event. One that is not JSON either shows, as the last of an export, that
/// it was broken off.
fn malformed(message: &str) -> Error {
    Error::new(ErrorKind::Decode, message)
        .with_help("set max_bad_lines to accept such lines: they are kept in the table _rejected")
}
