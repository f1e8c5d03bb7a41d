//! JSON taken apart without a tree, and rows put together from its parts.

use std::borrow::Cow;

use bytes::Bytes;
use pipeline_core::json::scan;
use pipeline_core::json::scan::Key;
use pipeline_core::{Composer, Error, ErrorKind, RawRecord, Result};
use serde_json::value::RawValue;

/// An object's members in their order, each value as it stands in the text.
pub(crate) type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// The members of an object.
pub(crate) fn members(json: &str) -> Result<Members<'_>> {
    let (text, mut members) = (json.as_bytes(), Vec::new());
    let end = scan::members(text, scan::space(text, 0), |key, start| {
        let end = scan::value(text, start)?;
        members.push((name(key, json)?, json.get(start..end)?));
        Some(end)
    });
    let is_object = is_object(json) && end.map(|end| scan::space(text, end)) == Some(text.len());
    if is_object {
        Ok(members)
    } else {
        Err(damaged(json))
    }
}

/// The members of a record, with those that it inherited.
pub(crate) fn of_record(record: &RawRecord) -> Result<Members<'_>> {
    record
        .members()
        .map_err(|error| Error::new(ErrorKind::Decode, UNEXPECTED).with_source(error))
}

/// What a member's name means.
pub(crate) fn name(key: Key, json: &str) -> Option<Cow<'_, str>> {
    let written = key.span.of_text(json);
    if key.is_escaped {
        serde_json::from_str(written).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(written.get(1..written.len() - 1)?))
    }
}

/// What is wrong with a text that is not an object, in the words of `serde_json`.
pub(crate) fn damaged(json: &str) -> Error {
    match serde_json::from_str::<std::collections::HashMap<String, &RawValue>>(json) {
        Err(error) => unexpected(error),
        Ok(_) => Error::new(ErrorKind::Decode, UNEXPECTED),
    }
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
    std::str::from_utf8(record.source()).map_err(|error| {
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

/// The message of an answer that is not what it should be.
const UNEXPECTED: &str = "an answer is not the JSON that mixpanel documents";

fn unexpected(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Decode, UNEXPECTED).with_source(error)
}

/// A row under construction. Its values are JSON, and are not copied where they are parts of what
/// Mixpanel sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(Composer);

impl Row {
    /// A row of parts of a record.
    pub(crate) fn of(record: &RawRecord) -> Self {
        Self::of_text(record.source().clone())
    }

    /// A row of parts of a text.
    pub(crate) fn of_text(text: Bytes) -> Self {
        Self(Composer::of(text))
    }

    /// Adds a value that is JSON already.
    pub(crate) fn json(mut self, name: &str, value: &str) -> Self {
        self.0.add(name, value);
        self
    }

    /// Adds a value that is JSON already, without white space between its parts.
    pub(crate) fn compact(mut self, name: &str, value: &str) -> Self {
        self.0.add_compact(name, value);
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
    pub(crate) fn build(self) -> RawRecord {
        self.0.build()
    }
}
