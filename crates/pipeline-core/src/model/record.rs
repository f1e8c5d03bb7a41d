//! Raw records: slices of a response body that nobody has parsed into a tree.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::json::scan;
use crate::json::scan::{Member, Members};

mod added;
mod composed;
mod page;
mod parts;
mod room;
mod split;
#[cfg(test)]
mod tests;

pub use self::added::Added;
pub use self::composed::Composer;
pub use self::page::{Advance, Page};
pub use self::parts::Parts;
pub(crate) use self::split::{BYTE_ORDER_MARK, split_within};
pub use self::split::{Envelope, RecordPath, Split, split};

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
    /// Every row is gone that has these values, and was written before: what belonged to something
    /// that was deleted. The JSON holds columns to compare, and not the whole primary key.
    DeleteMatching,
    /// Nothing: it could not be made a row, and is kept apart with the reason.
    Reject,
}

/// One record: one JSON value as the vendor wrote it, a slice of the page's body and not a copy,
/// and what was found in it and added to it since.
#[derive(Clone)]
pub struct RawRecord {
    text: Bytes,
    op: Op,
    found: Option<Found>,
    /// Members that do not stand in the text. There are none without what was found.
    added: Option<Added>,
    /// Why it is rejected.
    reason: Option<Arc<str>>,
}

/// What is known of an object that was cut from a document: it is JSON, and its members stand here.
#[derive(Clone)]
struct Found {
    document: Arc<Document>,
    /// Its members among those of the document.
    own: Range<usize>,
}

/// The members of all records of a document.
struct Document {
    members: Vec<Member>,
    /// What their nested values are without white space; names and values that stand in no text.
    beside: String,
    /// Of a record that was put together, whose names all stand beside the text: how long it is.
    composed: Option<usize>,
}

impl Document {
    /// None when what was found is no Unicode, which what was proved always is.
    fn new(found: Members) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            members: found.all,
            beside: String::from_utf8(found.compact).ok()?,
            composed: None,
        }))
    }

    /// Of a record that was put together.
    fn composed(members: Vec<Member>, beside: Vec<u8>, length: usize) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            members,
            beside: String::from_utf8(beside).ok()?,
            composed: Some(length),
        }))
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        Members::recycle(
            std::mem::take(&mut self.members),
            std::mem::take(&mut self.beside).into_bytes(),
        );
    }
}

impl Found {
    /// Finds the members of a text that nobody has read; none when it is not an object.
    fn of(text: &[u8]) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let start = scan::space(text, 0);
        (text.get(start) == Some(&b'{')).then_some(())?;
        let mut members = Members::default();
        let end = members.add(text, start)?;
        (scan::space(text, end) == text.len()).then_some(())?;
        let own = 0..members.all.len();
        Some(Self {
            document: Document::new(members)?,
            own,
        })
    }

    fn members(&self) -> &[Member] {
        self.document
            .members
            .get(self.own.clone())
            .unwrap_or_default()
    }

    /// Whether a member of a record with this text has the name.
    fn is(&self, member: &Member, name: &str, text: &[u8]) -> bool {
        let names = if self.document.composed.is_some() {
            self.document.beside.as_bytes()
        } else {
            text
        };
        *member.key.name(names) == *name.as_bytes()
    }
}

/// Where a value stands.
enum Stands<'r> {
    InText(Range<usize>),
    Beside(&'r str),
}

impl RawRecord {
    /// A record that inserts or updates.
    pub fn upsert(json: impl Into<Bytes>) -> Self {
        Self::new(json.into(), Op::Upsert)
    }

    /// A tombstone.
    pub fn delete(json: impl Into<Bytes>) -> Self {
        Self::new(json.into(), Op::Delete)
    }

    /// A tombstone of every row that has these values.
    pub fn delete_matching(json: impl Into<Bytes>) -> Self {
        Self::new(json.into(), Op::DeleteMatching)
    }

    fn new(text: Bytes, op: Op) -> Self {
        Self {
            text,
            op,
            found: None,
            added: None,
            reason: None,
        }
    }

    /// The record as one that cannot be made a row, and why. It takes none of its siblings with it.
    #[must_use]
    pub fn rejected(self, reason: &str) -> Self {
        Self {
            op: Op::Reject,
            reason: Some(reason.into()),
            ..self
        }
    }

    /// Why it is rejected, if it is.
    pub fn rejection(&self) -> Option<&Arc<str>> {
        self.reason.as_ref()
    }

    /// The members, if the record was cut from a document or put together: nothing has to be read
    /// for that.
    pub fn parts(&self) -> Option<Parts<'_>> {
        let found = self.found.as_ref()?;
        let text = std::str::from_utf8(&self.text).ok()?;
        let document = &found.document;
        let own = (found.members(), &*document.beside, document.composed);
        Some(Parts::of(text, own, self.added.as_ref()))
    }

    /// The parts, if the text alone is not the record.
    fn changed(&self) -> Option<Parts<'_>> {
        let composed = self.found.as_ref()?.document.composed;
        (composed.is_some() || self.added.is_some()).then(|| self.parts())?
    }

    /// The vendor's text, without what was added; of a record that was put together, what its
    /// values are parts of.
    pub fn source(&self) -> &Bytes {
        &self.text
    }

    /// The record as text: the vendor's bytes, or a copy where members were added.
    pub fn as_bytes(&self) -> Cow<'_, [u8]> {
        let Some(parts) = self.changed() else {
            return Cow::Borrowed(&self.text);
        };
        let mut text = Vec::with_capacity(parts.bytes());
        parts.write(&mut text);
        Cow::Owned(text)
    }

    /// The same as bytes that can be kept: a copy where members were added only.
    pub fn to_bytes(&self) -> Bytes {
        match self.as_bytes() {
            Cow::Borrowed(_) => self.text.clone(),
            Cow::Owned(text) => text.into(),
        }
    }

    /// The same in a buffer, where the text alone is not the record: so that many records need one
    /// buffer.
    pub fn text_in<'a>(&'a self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(parts) = self.changed() else {
            return &self.text;
        };
        buffer.clear();
        parts.write(buffer);
        buffer
    }

    /// Bytes of the record as text.
    pub fn len(&self) -> usize {
        self.changed().map_or(self.text.len(), Parts::bytes)
    }

    /// True for a text without a byte, which is not a record of any vendor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when it begins as an object does; what was found in it shows that it is one.
    pub fn is_object(&self) -> bool {
        self.found.is_some() || self.text.trim_ascii_start().first() == Some(&b'{')
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
        let read = match self.changed() {
            None => serde_json::from_slice(&self.text),
            Some(parts) => pairs(parts)
                .map(|(name, value)| Ok((name, serde_json::from_str::<&RawValue>(value)?)))
                .collect::<Result<Vec<_>, serde_json::Error>>()
                .and_then(|pairs| T::deserialize(MapDeserializer::new(pairs.into_iter()))),
        };
        read.map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                "a record does not fit the requested type",
            )
            .with_source(error)
        })
    }

    /// The value of one top-level member, as it stands in the record. Of several with that name it
    /// is the last.
    pub fn member(&self, name: &str) -> Option<&str> {
        match self.place(name)? {
            Stands::InText(place) => std::str::from_utf8(&self.text[place]).ok(),
            Stands::Beside(value) => Some(value),
        }
    }

    /// The value of the first top-level member of that name, found without looking at those behind
    /// it.
    pub fn first_member(&self, name: &str) -> Option<&str> {
        if self.added.is_some() {
            return self.member(name);
        }
        if let Some(found) = &self.found {
            let is_it = |member: &&Member| found.is(member, name, &self.text);
            return self.written(found.members().iter().find(is_it)?);
        }
        let mut found = None;
        scan::members(&self.text, scan::space(&self.text, 0), |key, at| {
            let end = scan::value(&self.text, at)?;
            found = (*key.name(&self.text) == *name.as_bytes()).then_some(at..end);
            // None ends the walk.
            found.is_none().then_some(end)
        });
        std::str::from_utf8(&self.text[found?]).ok()
    }

    /// A member of those that were found, as it is written.
    fn written(&self, member: &Member) -> Option<&str> {
        match self.stands(member)? {
            Stands::InText(place) => std::str::from_utf8(&self.text[place]).ok(),
            Stands::Beside(value) => Some(value),
        }
    }

    fn stands(&self, member: &Member) -> Option<Stands<'_>> {
        let place = member.value.range();
        if !place.is_empty() {
            return Some(Stands::InText(place));
        }
        let beside = &self.found.as_ref()?.document.beside;
        Some(Stands::Beside(member.compact?.of_text(beside)))
    }

    /// Where the value of one top-level member stands.
    fn place(&self, name: &str) -> Option<Stands<'_>> {
        let added = self.added.as_ref();
        let part = |parts: &'_ [added::Part]| parts.iter().rposition(|part| *part.name == *name);
        if let Some(parts) = added.map(Added::parts_after)
            && let Some(index) = part(parts)
        {
            return Some(Stands::Beside(&parts[index].value.raw));
        }
        let own = match &self.found {
            None => member(&self.text, name).map(Stands::InText),
            Some(found) => {
                let is_it = |member: &&Member| found.is(member, name, &self.text);
                let member = found.members().iter().rfind(is_it);
                member.and_then(|member| self.stands(member))
            }
        };
        let Some(added) = added else { return own };
        match (own, added.own(name.as_bytes())) {
            (Some(own), added::Own::AsWritten) => return Some(own),
            (Some(_), added::Own::Instead(value)) => return Some(Stands::Beside(&value.raw)),
            _ => {}
        }
        let parts = added.parts_before();
        Some(Stands::Beside(&parts[part(parts)?].value.raw))
    }

    /// The value of one top-level member, not copied if it stands in the text.
    pub(crate) fn slice(&self, name: &str) -> Option<Bytes> {
        Some(match self.place(name)? {
            Stands::InText(place) => self.text.slice(place),
            Stands::Beside(value) => Bytes::copy_from_slice(value.as_bytes()),
        })
    }

    /// The top-level members in their order, each value as it stands in the record.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the record is no JSON object.
    pub fn members(&self) -> Result<Vec<(Cow<'_, str>, &str)>> {
        if let Some(parts) = self.parts() {
            return Ok(pairs(parts).collect());
        }
        let mut json = serde_json::Deserializer::from_slice(&self.text);
        json.deserialize_map(AllMembersVisitor).map_err(|error| {
            Error::new(ErrorKind::Decode, "a record is no JSON object").with_source(error)
        })
    }

    /// A record made of members whose values are JSON already; the counterpart of
    /// [`RawRecord::members`].
    pub fn from_members<'m>(members: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let mut json = String::from("{");
        for (name, value) in members {
            if json.len() > 1 {
                json.push(',');
            }
            json.push_str(&added::quoted(name));
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
        Self::upsert(json)
    }

    /// The record with a member more, which counts whatever else has its name. The value is JSON
    /// already. What is no object stays as it is.
    pub fn with_member(&self, name: &str, value: &str) -> Self {
        self.clone().with(&Added::after([(name, value)]))
    }

    /// The record with members more, or less. What is no object stays as it is.
    #[must_use]
    pub fn with(mut self, added: &Added) -> Self {
        if added.is_empty() {
            return self;
        }
        if self.found.is_none() {
            self.found = Found::of(&self.text);
        }
        // Where members are written anew, their names are too.
        if !added.only_appends() && self.parts().is_some_and(Parts::has_escaped_names) {
            self = self.rewritten();
        }
        if self.found.is_some() {
            self.added = Some(match &self.added {
                None => added.clone(),
                Some(before) => before.and(added),
            });
        }
        self
    }

    /// The record as a text of its own, with names as they are written without need.
    fn rewritten(self) -> Self {
        let Some(parts) = self.parts() else {
            return self;
        };
        let pairs: Vec<_> = pairs(parts).collect();
        let copy = Self::from_members(pairs.iter().map(|(name, value)| (&**name, *value)));
        let found = Found::of(&copy.text);
        Self {
            op: self.op,
            reason: self.reason.clone(),
            found,
            ..copy
        }
        .with_memory_of(&self)
    }

    /// The record, which is a copy of parts of another, with what permits the other's memory: that
    /// has room for one copy.
    fn with_memory_of(self, other: &Self) -> Self {
        struct Both {
            text: Bytes,
            _other: Bytes,
        }
        impl AsRef<[u8]> for Both {
            fn as_ref(&self) -> &[u8] {
                &self.text
            }
        }
        Self {
            text: Bytes::from_owner(Both {
                text: self.text,
                _other: other.text.clone(),
            }),
            ..self
        }
    }

    /// The records with the same members more, or less.
    pub fn all_with(records: Vec<Self>, added: &Added) -> Vec<Self> {
        // The records of one parent share what they have, and so they can share both.
        let mut last: Option<(Added, Added)> = None;
        let with = |record: Self| {
            if let (Some(had), Some((known, both))) = (&record.added, &last)
                && had.is_same(known)
            {
                let added = Some(both.clone());
                return Self { added, ..record };
            }
            let had = record.added.clone();
            let record = record.with(added);
            last = had
                .zip(record.added.clone())
                .filter(|_| added.only_appends());
            record
        };
        records.into_iter().map(with).collect()
    }

    /// A top-level member that is a string or a number, as text.
    pub fn scalar(&self, name: &str) -> Option<String> {
        scalar_text(self.member(name)?)
    }
}

/// The names and values of a record.
fn pairs(parts: Parts<'_>) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let counted = (0..parts.len()).filter(move |place| !parts.is_left_out(*place));
    counted.map(move |place| {
        let name = match parts.name(place) {
            Cow::Borrowed(name) => String::from_utf8_lossy(name),
            Cow::Owned(name) => String::from_utf8_lossy(&name).into_owned().into(),
        };
        (name, parts.raw(place))
    })
}

impl PartialEq for RawRecord {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for RawRecord {}

impl fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {}",
            self.op,
            String::from_utf8_lossy(&self.as_bytes())
        )
    }
}

/// Where the last member of that name in an object has its value.
fn member(object: &[u8], name: &str) -> Option<Range<usize>> {
    let mut found = None;
    let start = scan::space(object, 0);
    if object.get(start) != Some(&b'{') {
        return None;
    }
    scan::members(object, start, |key, at| {
        let end = scan::value(object, at)?;
        if *key.name(object) == *name.as_bytes() {
            found = Some(at..end);
        }
        Some(end)
    })?;
    found
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
        b'"' => serde_json::from_str::<Cow<'_, str>>(json)
            .ok()
            .map(Cow::into_owned),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    }
}
