//! Raw records: slices of a response body that nobody has parsed into a tree.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};

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
}

/// One record as the vendor wrote it: one JSON value, a slice of the page's body and not a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct RawRecord {
    json: Bytes,
    op: Op,
}

impl RawRecord {
    /// A record that inserts or updates.
    pub fn upsert(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), op: Op::Upsert }
    }

    /// A tombstone.
    pub fn delete(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), op: Op::Delete }
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

    /// The value of one top-level member, as it stands in the record.
    pub fn member(&self, name: &str) -> Option<&str> {
        let mut found = None;
        let mut json = serde_json::Deserializer::from_slice(&self.json);
        json.deserialize_map(MemberVisitor { name, found: &mut found }).ok()?;
        found.map(RawValue::get)
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

    /// A top-level member that is a string or a number, as text.
    pub fn scalar(&self, name: &str) -> Option<String> {
        scalar_text(self.member(name)?)
    }
}

impl fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.op, String::from_utf8_lossy(&self.json))
    }
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
/// `data` is the array under `data`; the empty path is the body itself, an array or one record; `tickets/*/metric_set`
/// is the object inside each ticket; a last member that is an object is one record, null is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPath(Vec<String>);

impl RecordPath {
    /// Reads a path; a leading `/` is allowed.
    pub fn new(path: &str) -> Self {
        Self(path.split('/').filter(|segment| !segment.is_empty()).map(ToOwned::to_owned).collect())
    }
}

/// A response body cut into records, and its other top-level members.
#[derive(Debug)]
pub struct Split {
    /// The records found by each path, in the body's order.
    pub records: Vec<Vec<RawRecord>>,
    /// The top-level members, the record arrays included.
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
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let (_, json) = self.members.iter().find(|(name, _)| name == first)?;
        if rest.is_empty() {
            return Some(json.clone());
        }
        Self::parse(json).ok()?.get(rest)
    }

    /// A string or number as text; none for null, absent and other values.
    pub fn text(&self, path: &str) -> Option<String> {
        scalar_text(std::str::from_utf8(&self.get(path)?).ok()?)
    }

    /// A boolean; none for anything else.
    pub fn flag(&self, path: &str) -> Option<bool> {
        serde_json::from_slice(&self.get(path)?).ok()
    }

    fn parse(object: &Bytes) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(object);
        Ok(Self { members: MembersSeed { body: object }.deserialize(&mut json)? })
    }
}

/// Cuts a body into the records found by each path.
///
/// Walks the body once; a path with `*` walks the records of its prefix once more. Nothing is copied.
///
/// # Errors
/// [`ErrorKind::Decode`] when the body is not JSON or a path leads nowhere: a short page is never made of a damaged one.
pub fn split(body: &Bytes, paths: &[RecordPath]) -> Result<Split> {
    let damaged = |error: serde_json::Error| {
        Error::new(ErrorKind::Decode, "the response is not the JSON that the vendor documents").with_source(error)
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let envelope = match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Envelope { members: MembersSeed { body }.deserialize(&mut json).map_err(damaged)? },
        _ => Envelope::default(),
    };
    json.end().or_else(|error| if envelope.members.is_empty() { Ok(()) } else { Err(error) }).map_err(damaged)?;
    let mut records = vec![Vec::new(); paths.len()];
    for (path, records) in paths.iter().zip(&mut records) {
        let start = match path.0.split_first() {
            None => vec![body.clone()],
            Some((first, _)) => {
                let member = envelope.members.iter().find(|(name, _)| name == first).map(|(_, json)| json.clone());
                vec![member.ok_or_else(|| missing(path))?]
            }
        };
        let rest = path.0.get(1..).unwrap_or_default();
        let found = rest.iter().try_fold(start, |values, segment| descend(&values, segment, path))?;
        for value in found {
            push_records(&value, records).map_err(damaged)?;
        }
    }
    Ok(Split { records, envelope })
}

fn missing(path: &RecordPath) -> Error {
    Error::new(ErrorKind::Decode, "the response has no records where the vendor documents them").with_context("path", path.0.join("/"))
}

/// Every value one segment further down.
fn descend(values: &[Bytes], segment: &str, path: &RecordPath) -> Result<Vec<Bytes>> {
    let mut found = Vec::with_capacity(values.len());
    for value in values {
        if segment == "*" {
            let mut json = serde_json::Deserializer::from_slice(value);
            ElementsSeed { body: value, each: &mut |element| found.push(element) }.deserialize(&mut json).map_err(|_| missing(path))?;
        } else {
            let envelope = Envelope::parse(value).map_err(|_| missing(path))?;
            found.extend(envelope.get(segment));
        }
    }
    Ok(found)
}

fn push_records(value: &Bytes, records: &mut Vec<RawRecord>) -> Result<(), serde_json::Error> {
    match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => {
            let mut json = serde_json::Deserializer::from_slice(value);
            ElementsSeed { body: value, each: &mut |element| records.push(RawRecord::upsert(element)) }.deserialize(&mut json)?;
            json.end()
        }
        Some(b'{') => {
            let record: &RawValue = serde_json::from_slice(value)?;
            records.push(RawRecord::upsert(value.slice_ref(record.get().as_bytes())));
            Ok(())
        }
        _ => serde_json::from_slice::<()>(value),
    }
}

struct MembersSeed<'b> {
    body: &'b Bytes,
}

impl<'de> DeserializeSeed<'de> for MembersSeed<'de> {
    type Value = Vec<(String, Bytes)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersSeed<'de> {
    type Value = Vec<(String, Bytes)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            members.push((key.into_owned(), self.body.slice_ref(value.get().as_bytes())));
        }
        Ok(members)
    }
}

struct ElementsSeed<'b, 'f> {
    body: &'b Bytes,
    each: &'f mut dyn FnMut(Bytes),
}

impl<'de> DeserializeSeed<'de> for ElementsSeed<'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ElementsSeed<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            (self.each)(self.body.slice_ref(element.get().as_bytes()));
        }
        Ok(())
    }
}
