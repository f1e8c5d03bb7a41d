//! Raw records: slices of a response body that nobody has parsed into a tree.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::scan;

/// Index of a stream among those that an endpoint feeds.
pub type StreamIndex = usize;

/// What a record means for the row with its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Op {
    /// The row is now this.
    #[default]
    Upsert,
    /// The row is gone; the JSON holds at least the primary key. A tombstone.
    Delete,
    /// Every row is gone that has these values, and was written before: what belonged to something that was deleted. The
    /// JSON holds columns to compare, and not the whole primary key.
    DeleteMatching,
}

/// One record as the vendor wrote it: one JSON value, a slice of the page's body and not a copy.
#[derive(Clone)]
pub struct RawRecord {
    json: Bytes,
    op: Op,
    /// True when it was cut from a document that was read to its end: it need not be proved to be JSON once more.
    is_json: bool,
}

impl RawRecord {
    /// A record that inserts or updates.
    pub fn upsert(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), op: Op::Upsert, is_json: false }
    }

    /// A tombstone.
    pub fn delete(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), op: Op::Delete, is_json: false }
    }

    /// A tombstone of every row that has these values.
    pub fn delete_matching(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), op: Op::DeleteMatching, is_json: false }
    }

    /// A part of a document that is JSON.
    pub(crate) fn cut(json: Bytes) -> Self {
        Self { json, op: Op::Upsert, is_json: true }
    }

    #[cfg(feature = "engine")]
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// The vendor's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// What the record means.
    pub fn op(&self) -> Op {
        self.op
    }

    /// Reads the record into a type of the caller's.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the record does not fit the type.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_slice(&self.json)
            .map_err(|error| Error::new(ErrorKind::Decode, "a record does not fit the requested type").with_source(error))
    }

    /// The value of one top-level member, as it stands in the record. Of several with that name it is the last.
    pub fn member(&self, name: &str) -> Option<&str> {
        if self.is_plain() {
            let (start, end) = scan::member(&self.json, name.as_bytes())?;
            return std::str::from_utf8(&self.json[start..end]).ok();
        }
        member(&self.json, name).ok()?
    }

    /// False when no member of this name, at whatever depth, is `true`: a glance, where most records need no more.
    pub(crate) fn may_be_true(&self, name: &str) -> bool {
        let is_true = |at: usize| {
            let value = self.json[at + name.len()..].strip_prefix(b"\"").and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"));
            value.is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
        };
        !self.is_plain() || memchr::memmem::find_iter(&self.json, name).any(is_true)
    }

    /// True when it is JSON in which no name is written with escapes, so that names are found by their bytes.
    fn is_plain(&self) -> bool {
        self.is_json && memchr::memchr(b'\\', &self.json).is_none()
    }

    /// The value of one top-level member, not copied.
    pub(crate) fn slice(&self, name: &str) -> Option<Bytes> {
        Some(self.json.slice_ref(self.member(name)?.as_bytes()))
    }

    /// The top-level members in their order, each value as it stands in the record.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the record is no JSON object.
    pub fn members(&self) -> Result<Vec<(Cow<'_, str>, &str)>> {
        let mut json = serde_json::Deserializer::from_slice(&self.json);
        json.deserialize_map(AllMembersVisitor)
            .map_err(|error| Error::new(ErrorKind::Decode, "a record is no JSON object").with_source(error))
    }

    /// A record made of members whose values are JSON already; the counterpart of [`RawRecord::members`].
    pub fn from_members<'m>(members: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let mut json = String::from("{");
        for (name, value) in members {
            if json.len() > 1 {
                json.push(',');
            }
            json.push_str(&serde_json::to_string(name).unwrap_or_else(|_| unreachable!("a string is always JSON")));
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
        Self::upsert(json)
    }

    /// The record with a member more, which counts whatever else has its name. The value is JSON already. What is no object
    /// stays as it is.
    pub fn with_member(&self, name: &str, value: &str) -> Self {
        let Some(body) = self.json.trim_ascii_end().strip_suffix(b"}") else { return self.clone() };
        let name = serde_json::to_string(name).unwrap_or_else(|_| unreachable!("a string is always JSON"));
        let mut json = Vec::with_capacity(body.len() + name.len() + value.len() + 3);
        json.extend_from_slice(body);
        if !body.trim_ascii_end().ends_with(b"{") {
            json.push(b',');
        }
        json.extend_from_slice(name.as_bytes());
        json.push(b':');
        json.extend_from_slice(value.as_bytes());
        json.push(b'}');
        Self { json: json.into(), ..*self }
    }

    /// A top-level member that is a string or a number, as text.
    pub fn scalar(&self, name: &str) -> Option<String> {
        scalar_text(self.member(name)?)
    }
}

impl PartialEq for RawRecord {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json && self.op == other.op
    }
}

impl Eq for RawRecord {}

impl fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.op, String::from_utf8_lossy(&self.json))
    }
}

/// The last member of that name in an object.
fn member<'a>(object: &'a [u8], name: &str) -> Result<Option<&'a str>, serde_json::Error> {
    let mut found = None;
    serde_json::Deserializer::from_slice(object).deserialize_map(MemberVisitor { name, found: &mut found })?;
    Ok(found.map(RawValue::get))
}

struct MemberVisitor<'n, 'o, 'de> {
    name: &'n str,
    found: &'o mut Option<&'de RawValue>,
}

impl<'de> Visitor<'de> for MemberVisitor<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if key == self.name {
                *self.found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct AllMembersVisitor;

impl<'de> Visitor<'de> for AllMembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Key(name), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            members.push((name, value.get()));
        }
        Ok(members)
    }
}

/// An object key, borrowed when it holds no escape.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Text of a JSON string or number; nothing for other values and for null.
pub(crate) fn scalar_text(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<Cow<'_, str>>(json).ok().map(Cow::into_owned),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    }
}

/// One page of one slice, on its way to the destination.
#[derive(Debug)]
pub struct Page {
    /// The page's records, by the stream that they belong to.
    pub records: Vec<Vec<RawRecord>>,
    /// Where to go on. None: more of the same response follows, so this is no place to stop.
    pub advance: Option<Advance>,
    /// How far in time the slice is read; none: as far as the cursor of the first stream's last record says.
    pub reached: Option<DateTime<Utc>>,
    /// Records of a parent list that were passed over, because what belongs to them was refused.
    pub skipped: u64,
}

impl Page {
    /// A page of records, and what follows it.
    pub fn new(records: Vec<Vec<RawRecord>>, advance: Option<Advance>) -> Self {
        Self { records, advance, reached: None, skipped: 0 }
    }
}

/// What follows a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// There is more, at this position.
    Next(String),
    /// There is nothing more now; the next sync goes on at this position.
    CaughtUp(String),
    /// The slice is read.
    End,
}

/// Where a stream's records stand in a response: members separated by `/`, where `*` stands for every element.
///
/// * `data` is the array under `data`; the empty path is the body itself, an array or one record.
/// * `tickets/*/metric_set` is the object inside each ticket; a ticket without one is passed over.
/// * A last member that is an object is one record. Null is none, and so is a null in the place of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPath(pub(crate) Vec<String>);

impl RecordPath {
    /// Reads a path; a leading `/` is allowed.
    pub fn new(path: &str) -> Self {
        Self(path.split('/').filter(|segment| !segment.is_empty()).map(ToOwned::to_owned).collect())
    }

    /// The member that it is, if it leads no deeper.
    pub(crate) fn name(&self) -> Option<&str> {
        match &*self.0 {
            [name] if name != "*" => Some(name),
            _ => None,
        }
    }
}

/// A response body cut into records, and its other top-level members.
#[derive(Debug)]
pub struct Split {
    /// The records found by each path, in the body's order.
    pub records: Vec<Vec<RawRecord>>,
    /// The top-level members, but for an array that a path names: it is in `records`.
    pub envelope: Envelope,
}

/// The top-level members of a response body, unparsed.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    members: Vec<(String, Bytes)>,
}

impl Envelope {
    /// The raw JSON at a path such as `meta/after_cursor`; none when it is absent.
    pub fn get(&self, path: &str) -> Option<Bytes> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let first = self.member(segments.next()?)?.clone();
        segments.try_fold(first, |json, segment| Some(json.slice_ref(member(&json, segment).ok()??.as_bytes())))
    }

    /// A string or number as text; none for null, absent and other values.
    pub fn text(&self, path: &str) -> Option<String> {
        scalar_text(std::str::from_utf8(&self.get(path)?).ok()?)
    }

    /// A boolean; none for anything else.
    pub fn flag(&self, path: &str) -> Option<bool> {
        serde_json::from_slice(&self.get(path)?).ok()
    }

    fn member(&self, name: &str) -> Option<&Bytes> {
        self.members.iter().rfind(|(known, _)| known == name).map(|(_, json)| json)
    }
}

/// Cuts a body into the records found by each path.
///
/// Walks the body once; a path of several segments walks what it leads through once more. Nothing is copied. A byte order
/// mark is passed over.
///
/// # Errors
/// [`ErrorKind::Decode`] when the body is not JSON or a path leads nowhere: a short page is never made of a damaged one.
pub fn split(body: &Bytes, paths: &[RecordPath]) -> Result<Split> {
    let damaged = |error: serde_json::Error| {
        Error::new(ErrorKind::Decode, "the response is not the JSON that the vendor documents").with_source(error)
    };
    let body = &body.slice(if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 }..);
    let mut cut = Cut { body, paths, records: vec![None; paths.len()], envelope: Envelope::default() };
    let mut json = serde_json::Deserializer::from_slice(body);
    let walked = match first_byte(body) {
        Some(b'{') => json.deserialize_map(&mut cut),
        _ => json.deserialize_ignored_any(IgnoredAny).map(|_| ()),
    };
    walked.and_then(|()| json.end()).map_err(damaged)?;
    let Cut { records, envelope, .. } = cut;
    let records = records.into_iter().zip(paths).map(|(records, path)| records.map_or_else(|| find(body, &envelope, path), Ok));
    Ok(Split { records: records.collect::<Result<_>>()?, envelope })
}

/// What some programs write at the start of a text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

fn first_byte(json: &[u8]) -> Option<u8> {
    json.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// The records at a path of a body that is known to be JSON.
fn find(body: &Bytes, envelope: &Envelope, path: &RecordPath) -> Result<Vec<RawRecord>> {
    let missing = || {
        Error::new(ErrorKind::Decode, "the response has no records where the vendor documents them").with_context("path", path.0.join("/"))
    };
    let (mut values, rest) = match path.0.split_first() {
        Some((first, rest)) if first != "*" => (vec![envelope.member(first).ok_or_else(missing)?.clone()], rest),
        _ => (vec![body.clone()], &*path.0),
    };
    let mut is_optional = false;
    for segment in rest {
        let mut found = Vec::with_capacity(values.len());
        is_optional |= segment == "*";
        for value in values.iter().filter(|value| !is_optional || first_byte(value) != Some(b'n')) {
            if segment == "*" {
                elements(value, |element| found.push(element)).map_err(|_| missing())?;
            } else {
                match member(value, segment).map_err(|_| missing())? {
                    Some(json) => found.push(value.slice_ref(json.as_bytes())),
                    None if is_optional => {}
                    None => return Err(missing()),
                }
            }
        }
        values = found;
    }
    let mut records = Vec::new();
    for value in values {
        match first_byte(&value) {
            Some(b'[') => elements(&value, |element| records.push(RawRecord::cut(element))).map_err(|_| missing())?,
            Some(b'{') => records.push(RawRecord::cut(value.slice_ref(value.trim_ascii()))),
            Some(b'n') => {}
            _ => return Err(missing()),
        }
    }
    Ok(records)
}

/// Hands on every element of an array.
fn elements(array: &Bytes, each: impl FnMut(Bytes)) -> Result<(), serde_json::Error> {
    ElementsSeed { body: array, each }.deserialize(&mut serde_json::Deserializer::from_slice(array))
}

/// Walks a body's top level: an array that is a path's records is cut at once, all else is kept as it is.
struct Cut<'b, 'p> {
    body: &'b Bytes,
    paths: &'p [RecordPath],
    records: Vec<Option<Vec<RawRecord>>>,
    envelope: Envelope,
}

impl Cut<'_, '_> {
    /// The path that this member, and nothing below it, is the end of; none when another path leads through it as well.
    fn path(&self, key: &str) -> Option<usize> {
        let mut paths = self.paths.iter().enumerate().filter(|(_, path)| path.0.first().is_some_and(|first| first == key));
        let (index, path) = paths.next()?;
        (path.0.len() == 1 && paths.next().is_none()).then_some(index)
    }

    /// True when the value after a key that was just read is an array. The key is a slice of the body, without its quotes.
    fn array_follows(&self, key: &Key<'_>) -> bool {
        let Key(Cow::Borrowed(key)) = key else { return false };
        let after = key.as_ptr().addr() - self.body.as_ptr().addr() + key.len() + 1;
        let value = self.body[after..].trim_ascii_start().strip_prefix(b":");
        value.is_some_and(|value| value.trim_ascii_start().starts_with(b"["))
    }
}

impl<'de> Visitor<'de> for &mut Cut<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let path = self.path(&key.0);
            if let Some(path) = path.filter(|_| self.array_follows(&key)) {
                let mut records = Vec::new();
                map.next_value_seed(ElementsSeed { body: self.body, each: |element| records.push(RawRecord::cut(element)) })?;
                self.records[path] = Some(records);
            } else {
                let value: &RawValue = map.next_value()?;
                self.envelope.members.push((key.0.into_owned(), self.body.slice_ref(value.get().as_bytes())));
                path.map(|path| self.records[path].take());
            }
        }
        Ok(())
    }
}

struct ElementsSeed<'b, F> {
    body: &'b Bytes,
    each: F,
}

impl<'de, F: FnMut(Bytes)> DeserializeSeed<'de> for ElementsSeed<'de, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Bytes)> Visitor<'de> for ElementsSeed<'de, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            (self.each)(self.body.slice_ref(element.get().as_bytes()));
        }
        Ok(())
    }
}
