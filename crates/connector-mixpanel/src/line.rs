//! Lines of the raw export: the proof that a response is complete, and the record made of an event.

use std::borrow::Cow;

use pipeline_core::{Error, ErrorKind, RawRecord, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Times above this are milliseconds: as seconds they lie beyond the year 5000.
const MAX_SECONDS: i64 = 100_000_000_000;

/// Characters of an error that are shown.
const MAX_SHOWN: usize = 200;

/// Digits of an event's key: 128 bits in hexadecimal.
const KEY_DIGITS: usize = 32;

/// Properties that change when an event is ingested again or its user is merged with another.
const VOLATILE: [&str; 6] =
    ["mp_processing_time_ms", "$mp_api_timestamp_ms", "$import", "$is_reshuffled", "distinct_id", "$distinct_id_before_identity"];

/// Columns that are made here; a member of the line with such a name yields to them.
const MADE: [&str; 6] = ["event_key", "time", "distinct_id", "insert_id", "mp_processing_time_ms", "properties"];

/// Refuses a line that shows that the export broke off: it does so with status 200, in text or in JSON.
pub(crate) fn check(line: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        event: Option<&'a RawValue>,
        #[serde(borrow)]
        properties: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let text = readable(line);
    if text.eq_ignore_ascii_case("terminated early") || text.eq_ignore_ascii_case("export terminated early") {
        return Err(broken("the export was terminated early"));
    }
    if !text.starts_with('{') {
        return Err(malformed("a line of the export is no event"));
    }
    let line: Line<'_> = serde_json::from_str(&text).map_err(|error| malformed("a line of the export is not JSON").with_source(error))?;
    match line {
        Line { event: Some(event), properties: Some(properties), .. } if starts(event, '"') && starts(properties, '{') => Ok(()),
        Line { error: Some(error), .. } => Err(reported(error.get())),
        _ => Err(malformed("a line of the export is no event")),
    }
}

/// The event as it is stored: what identifies it at the top, its properties unchanged below.
pub(crate) fn event(record: &RawRecord) -> Result<RawRecord> {
    let line = match readable(record.as_bytes()) {
        Cow::Borrowed(_) => record.clone(),
        Cow::Owned(repaired) => RawRecord::upsert(repaired),
    };
    let members = line.members()?;
    let properties = RawRecord::upsert(member(&members, "properties").unwrap_or("{}").to_owned());
    let event = Event { name: member(&members, "event").unwrap_or("null"), properties: properties.members()? };

    let key = format!("\"{}\"", event.key());
    let time = event.time_millis().map_or(Cow::Borrowed("null"), |millis| millis.to_string().into());
    let distinct_id = event.get("distinct_id").map_or(Cow::Borrowed("null"), quoted);
    let insert_id = event.insert_id().map_or(Cow::Borrowed("null"), quoted);
    let processed = event.get("mp_processing_time_ms").unwrap_or("null");
    let made = [&*key, &*time, &*distinct_id, &*insert_id, processed, text(&properties)];

    let others = members.iter().filter(|(name, _)| !MADE.contains(&&**name)).map(|(name, value)| (&**name, *value));
    Ok(RawRecord::from_members(MADE.into_iter().zip(made).chain(others)))
}

/// One line of the export.
struct Event<'a> {
    /// The event's name, as JSON.
    name: &'a str,
    properties: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Event<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        member(&self.properties, name).filter(|value| *value != "null")
    }

    fn insert_id(&self) -> Option<&'a str> {
        self.get("$insert_id").filter(|id| *id != "\"\"")
    }

    /// The time in milliseconds; projects and years differ in whether it is written in seconds.
    fn time_millis(&self) -> Option<i64> {
        let text = self.get("time")?.trim_matches('"');
        let time: i64 = text.split('.').next()?.parse().ok()?;
        if time.abs() > MAX_SECONDS { Some(time) } else { time.checked_mul(1000) }
    }

    /// What Mixpanel itself takes for the identity of an event: name, user, time and insert id.
    ///
    /// A merge of users rewrites `distinct_id` and keeps the former one beside it, so the former one counts. The time
    /// counts in whole seconds, whichever precision it was exported in. Events so old that they lack an insert id are
    /// told apart by everything that does not change when they are exported again.
    fn key(&self) -> String {
        let user = self.get("$distinct_id_before_identity").or_else(|| self.get("distinct_id")).unwrap_or_default();
        let mut hash = blake3::Hasher::new();
        let mut add = |json: &str| {
            let value: Cow<'_, str> = serde_json::from_str::<String>(json).map_or(json.into(), Cow::Owned);
            hash.update(&(value.len() as u64).to_le_bytes());
            hash.update(value.as_bytes());
        };
        add(self.name);
        add(user);
        if let Some(insert_id) = self.insert_id() {
            add("insert_id");
            add(insert_id);
            add(&self.time_millis().map_or(String::new(), |millis| millis.div_euclid(1000).to_string()));
        } else {
            add("properties");
            let mut stable: Vec<_> = self.properties.iter().filter(|(name, _)| !VOLATILE.contains(&&**name)).collect();
            stable.sort_unstable();
            for (name, value) in stable {
                add(name);
                add(value);
            }
        }
        let mut key = hash.finalize().to_hex();
        key.truncate(KEY_DIGITS);
        key.to_string()
    }
}

/// A string as it is; a number or a flag as a string. Identifiers come as either.
pub(crate) fn quoted(json: &str) -> Cow<'_, str> {
    match json.as_bytes().first() {
        Some(b'{' | b'[') | None => Cow::Borrowed("null"),
        Some(b'"' | b'n') => Cow::Borrowed(json),
        Some(_) => format!("\"{json}\"").into(),
    }
}

/// The value of one member.
pub(crate) fn member<'a>(members: &[(Cow<'a, str>, &'a str)], name: &str) -> Option<&'a str> {
    members.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// The line as text. Properties cut in the middle of a character are known to occur; they must not cost the day.
fn readable(line: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(line)
}

fn text(record: &RawRecord) -> &str {
    std::str::from_utf8(record.as_bytes()).unwrap_or("null")
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
        Error::new(ErrorKind::Unauthenticated, "the export ended because the credentials were refused")
    } else {
        broken("the export ended with an error")
    };
    error.with_context("answer", shown)
}

/// A line that is no event. The last one of an export shows that it was broken off.
fn malformed(message: &str) -> Error {
    Error::new(ErrorKind::Decode, message).with_help("set max_bad_lines to keep such lines apart and go on")
}
