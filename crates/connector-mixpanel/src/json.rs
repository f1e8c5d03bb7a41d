//! JSON taken apart without a tree, and rows put together from its parts.

use std::borrow::Cow;
use std::fmt;

use pipeline_core::{Error, ErrorKind, RawRecord, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object's members in their order, each value as it stands in the text.
pub(crate) type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// The members of an object.
pub(crate) fn members(json: &str) -> Result<Members<'_>> {
    serde_json::Deserializer::from_str(json)
        .deserialize_map(MembersVisitor)
        .map_err(unexpected)
}

/// The elements of an array, each as it stands in the text.
pub(crate) fn elements(json: &str) -> Result<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(unexpected)?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

/// The last member of that name, unless it is null.
pub(crate) fn find<'a>(members: &Members<'a>, name: &str) -> Option<&'a str> {
    members
        .iter()
        .rfind(|(known, _)| known == name)
        .map(|(_, value)| *value)
        .filter(|value| *value != "null")
}

/// The member of that name, without which an answer makes no sense.
pub(crate) fn expect<'a>(members: &Members<'a>, name: &'static str) -> Result<&'a str> {
    let missing = || {
        Error::new(
            ErrorKind::Decode,
            "an answer lacks a member that mixpanel documents",
        )
        .with_context("member", name)
    };
    find(members, name).ok_or_else(missing)
}

/// A record as text.
pub(crate) fn text(record: &RawRecord) -> Result<&str> {
    std::str::from_utf8(record.as_bytes()).map_err(|error| {
        Error::new(ErrorKind::Decode, "an answer of mixpanel is not text").with_source(error)
    })
}

/// A string as JSON.
pub(crate) fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| unreachable!("a string is always JSON"))
}

/// A string as it is; a number or a flag as a string, digit by digit. Identifiers come as either.
pub(crate) fn quoted(json: &str) -> Cow<'_, str> {
    match json.as_bytes().first() {
        Some(b'{' | b'[') | None => Cow::Borrowed("null"),
        Some(b'"' | b'n') => Cow::Borrowed(json),
        Some(_) => format!("\"{json}\"").into(),
    }
}

pub(crate) fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

fn unexpected(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::Decode,
        "an answer is not the JSON that mixpanel documents",
    )
    .with_source(error)
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.push((name, value.get()));
        }
        Ok(members)
    }
}

/// A member's name, borrowed when it holds no escape.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A row under construction: a JSON object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(String);

impl Row {
    /// A row of about so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Adds a value that is JSON already.
    pub(crate) fn json(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        if name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            self.0.push('"');
            self.0.push_str(name);
            self.0.push('"');
        } else {
            self.0.push_str(&quote(name));
        }
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    /// Adds a value that is JSON already, if there is one.
    pub(crate) fn json_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.json(name, value),
            None => self,
        }
    }

    /// Adds a string.
    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.json(name, &quote(value))
    }

    /// The row as a record.
    pub(crate) fn build(mut self) -> RawRecord {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        RawRecord::upsert(self.0)
    }
}
