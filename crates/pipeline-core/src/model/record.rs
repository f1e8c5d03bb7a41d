//! Raw records: slices of a response body that nobody has parsed into a tree.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::json::scan;
use crate::json::scan::{Member, Members};
use crate::model::gap::Missed;

mod room;
use self::room::Room;

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

/// One record as the vendor wrote it: one JSON value, a slice of the page's body and not a copy.
#[derive(Clone)]
pub struct RawRecord {
    json: Bytes,
    op: Op,
    found: Option<Found>,
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
    /// What their nested values are without white space.
    compact: String,
}

impl Document {
    /// None when what was found is no Unicode, which what was proved always is.
    fn new(found: Members) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            members: found.all,
            compact: String::from_utf8(found.compact).ok()?,
        }))
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        Members::recycle(
            std::mem::take(&mut self.members),
            std::mem::take(&mut self.compact).into_bytes(),
        );
    }
}

impl RawRecord {
    /// A record that inserts or updates.
    pub fn upsert(json: impl Into<Bytes>) -> Self {
        Self {
            json: json.into(),
            op: Op::Upsert,
            found: None,
            reason: None,
        }
    }

    /// A tombstone.
    pub fn delete(json: impl Into<Bytes>) -> Self {
        Self {
            json: json.into(),
            op: Op::Delete,
            found: None,
            reason: None,
        }
    }

    /// A tombstone of every row that has these values.
    pub fn delete_matching(json: impl Into<Bytes>) -> Self {
        Self {
            json: json.into(),
            op: Op::DeleteMatching,
            found: None,
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

    /// The members, and what they are when compact, if the record was cut from a document.
    pub fn found(&self) -> Option<(&[Member], &str)> {
        let Found { document, own } = self.found.as_ref()?;
        Some((document.members.get(own.clone())?, &document.compact))
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
        serde_json::from_slice(&self.json).map_err(|error| {
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
        std::str::from_utf8(&self.json[self.place(name)?]).ok()
    }

    /// The value of the first top-level member of that name, found without looking at those behind
    /// it.
    pub fn first_member(&self, name: &str) -> Option<&str> {
        let is_it = |key: scan::Key| *key.name(&self.json) == *name.as_bytes();
        let place = if let Some(Found { document, own }) = &self.found {
            document
                .members
                .get(own.clone())?
                .iter()
                .find(|member| is_it(member.key))?
                .value
                .range()
        } else {
            let mut found = None;
            scan::members(&self.json, scan::space(&self.json, 0), |key, at| {
                let end = scan::value(&self.json, at)?;
                found = is_it(key).then_some(at..end);
                // None ends the walk.
                found.is_none().then_some(end)
            });
            found?
        };
        std::str::from_utf8(&self.json[place]).ok()
    }

    /// Where the value of one top-level member stands.
    fn place(&self, name: &str) -> Option<Range<usize>> {
        let Some(Found { document, own }) = &self.found else {
            return member(&self.json, name);
        };
        let is_it = |member: &&Member| *member.key.name(&self.json) == *name.as_bytes();
        Some(
            document
                .members
                .get(own.clone())?
                .iter()
                .rfind(is_it)?
                .value
                .range(),
        )
    }

    /// The value of one top-level member, not copied.
    pub(crate) fn slice(&self, name: &str) -> Option<Bytes> {
        Some(self.json.slice(self.place(name)?))
    }

    /// The top-level members in their order, each value as it stands in the record.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the record is no JSON object.
    pub fn members(&self) -> Result<Vec<(Cow<'_, str>, &str)>> {
        let mut json = serde_json::Deserializer::from_slice(&self.json);
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
            json.push_str(
                &serde_json::to_string(name)
                    .unwrap_or_else(|_| unreachable!("a string is always JSON")),
            );
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
        Self::upsert(json)
    }

    /// The record with a member more, which counts whatever else has its name. The value is JSON
    /// already. What is no object stays as it is.
    pub fn with_member(&self, name: &str, value: &str) -> Self {
        let Some(body) = self.json.trim_ascii_end().strip_suffix(b"}") else {
            return self.clone();
        };
        let name =
            serde_json::to_string(name).unwrap_or_else(|_| unreachable!("a string is always JSON"));
        let mut json = Vec::with_capacity(body.len() + name.len() + value.len() + 3);
        json.extend_from_slice(body);
        if !body.trim_ascii_end().ends_with(b"{") {
            json.push(b',');
        }
        json.extend_from_slice(name.as_bytes());
        json.push(b':');
        json.extend_from_slice(value.as_bytes());
        json.push(b'}');
        Self {
            json: json.into(),
            op: self.op,
            found: None,
            reason: self.reason.clone(),
        }
    }

    /// The record, which is a copy of parts of another, with what permits the other's memory: that
    /// has room for one copy.
    pub(crate) fn with_memory_of(self, other: &Self) -> Self {
        struct Both {
            json: Bytes,
            _other: Bytes,
        }
        impl AsRef<[u8]> for Both {
            fn as_ref(&self) -> &[u8] {
                &self.json
            }
        }
        Self {
            json: Bytes::from_owner(Both {
                json: self.json,
                _other: other.json.clone(),
            }),
            ..self
        }
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

/// One page of one slice, on its way to the destination.
#[derive(Debug)]
pub struct Page {
    /// The page's records, by the stream that they belong to.
    pub records: Vec<Vec<RawRecord>>,
    /// Where to go on. None: more of the same response follows, so this is no place to stop.
    pub advance: Option<Advance>,
    /// How far in time the slice is read; none: as far as the cursor of the first stream's last
    /// record says.
    pub reached: Option<DateTime<Utc>>,
    /// Records of a parent list that were passed over, because what belongs to them was refused.
    pub skipped: u64,
    /// Units that the page's position passes over, because they could not be read.
    pub gaps: Vec<Missed>,
    /// The unit whose records all of them are, where it can be read by itself and rows of it may be
    /// stored: when records of it cannot be rows, a refresh does not take the stored ones for
    /// deleted.
    pub unit: Option<Missed>,
    /// True when what the slice still has is in hand: to split it would be to ask for that again.
    pub in_hand: bool,
    /// Fingerprint of the records of the response, as they came: a list is not believed that sends
    /// the same ones again. None for a page without records, and where pages are not compared.
    pub digest: Option<u64>,
}

impl Page {
    /// A page of records, and what follows it.
    pub fn new(records: Vec<Vec<RawRecord>>, advance: Option<Advance>) -> Self {
        Self {
            records,
            advance,
            reached: None,
            skipped: 0,
            gaps: Vec::new(),
            unit: None,
            in_hand: false,
            digest: None,
        }
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

/// Where a stream's records stand in a response: members separated by `/`, where `*` stands for
/// every element.
///
/// * `data` is the array under `data`; the empty path is the body itself, an array or one record.
/// * `tickets/*/metric_set` is the object inside each ticket; a ticket without one is passed over.
/// * A last member that is an object is one record, unless it is empty.
/// * Null, or nothing, is an error, as it is not an empty list; behind `*` it is none, as not every
///   element has such a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPath(pub(crate) Vec<String>);

impl RecordPath {
    /// Reads a path; a leading `/` is allowed.
    pub fn new(path: &str) -> Self {
        Self(
            path.split('/')
                .filter(|segment| !segment.is_empty())
                .map(ToOwned::to_owned)
                .collect(),
        )
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
    /// Bytes of memory that all of it takes besides the body.
    pub(crate) memory: usize,
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
        segments.try_fold(first, |json, segment| {
            Some(json.slice(member(&json, segment)?))
        })
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
        self.members
            .iter()
            .rfind(|(known, _)| known == name)
            .map(|(_, json)| json)
    }
}

/// Cuts a body into the records found by each path.
///
/// Walks the body once, which proves all of it to be JSON; a path of several segments walks what it
/// leads through once more. Nothing is copied but nested values, without their white space. A byte
/// order mark is passed over.
///
/// # Errors
/// [`ErrorKind::Decode`] when the body is not JSON or a path leads nowhere: a short page is never
/// made of a damaged one. [`ErrorKind::TooLarge`] when it has 4 GiB.
pub fn split(body: &Bytes, paths: &[RecordPath]) -> Result<Split> {
    split_within(body, paths, usize::MAX)?
        .ok_or_else(|| unreachable!("nothing is larger than that"))
}

/// The same of a body whose records may take so many bytes of memory, besides those of the body:
/// for where their members stand, and for what there is of each. None when they take more.
pub(crate) fn split_within(
    body: &Bytes,
    paths: &[RecordPath],
    room: usize,
) -> Result<Option<Split>> {
    if u32::try_from(body.len()).is_err() {
        return Err(Error::new(
            ErrorKind::TooLarge,
            "the response has 4 GiB or more",
        ));
    }
    let body = &body.slice(
        if body.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        }..,
    );
    let (members, room) = (
        Members::with_room_for(body.len()),
        Room {
            most: room,
            ..Room::default()
        },
    );
    let mut cut = Cut {
        body,
        paths,
        records: vec![None; paths.len()],
        envelope: Envelope::default(),
        members,
        room,
    };
    if cut.walk().is_none() {
        let refused = if cut.members.is_overfull {
            overfull()
        } else {
            damaged(body)
        };
        return if cut.room.is_full {
            Ok(None)
        } else {
            Err(refused)
        };
    }
    let Cut {
        records,
        envelope,
        members,
        mut room,
        ..
    } = cut;
    room.taken = members.bytes();
    let document = Document::new(members).ok_or_else(|| damaged(body))?;
    let records = records
        .into_iter()
        .zip(paths)
        .map(|(records, path)| match records {
            Some(places) => Ok(places
                .into_iter()
                .map(|place| place.record(body, &document))
                .collect()),
            None => find(body, &envelope, path, &mut room),
        });
    let records = records.collect::<Result<_>>();
    let memory = room.bytes(0);
    if room.is_full {
        Ok(None)
    } else {
        Ok(Some(Split {
            records: records?,
            envelope,
            memory,
        }))
    }
}

fn overfull() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "a record of the response has more than {} members",
            scan::MOST_MEMBERS
        ),
    )
}

/// What is wrong with a body, in the words of `serde_json`.
fn damaged(body: &[u8]) -> Error {
    let error = Error::new(
        ErrorKind::Decode,
        "the response is not the JSON that the vendor documents",
    );
    match serde_json::from_slice::<&RawValue>(body) {
        Err(source) => error.with_source(source),
        Ok(_) => error,
    }
}

/// What some programs write at the start of a text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

fn first_byte(json: &[u8]) -> Option<u8> {
    json.iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// The records at a path of a body that is known to be JSON.
fn find(
    body: &Bytes,
    envelope: &Envelope,
    path: &RecordPath,
    room: &mut Room,
) -> Result<Vec<RawRecord>> {
    let missing = || {
        Error::new(
            ErrorKind::Decode,
            "the response has no records where the vendor documents them",
        )
        .with_context("path", path.0.join("/"))
    };
    let (mut values, rest) = match path.0.split_first() {
        Some((first, rest)) if first != "*" => (
            vec![envelope.member(first).ok_or_else(missing)?.clone()],
            rest,
        ),
        _ => (vec![body.clone()], &*path.0),
    };
    let mut is_optional = false;
    for segment in rest {
        let mut found = Vec::with_capacity(values.len());
        for value in values
            .iter()
            .filter(|value| !is_optional || first_byte(value) != Some(b'n'))
        {
            if segment == "*" {
                let (_, places) = Place::all(value, room).ok_or_else(missing)?;
                found.extend(
                    places
                        .iter()
                        .map(|place| value.slice(place.start..place.end)),
                );
            } else {
                match member(value, segment) {
                    Some(place) => found.push(value.slice(place)),
                    None if is_optional && first_byte(value) == Some(b'{') => {}
                    None => return Err(missing()),
                }
            }
        }
        is_optional |= segment == "*";
        values = found;
    }
    let mut records = Vec::new();
    for value in values {
        match first_byte(&value) {
            Some(b'[') => {
                let (members, places) = Place::all(&value, room).ok_or_else(missing)?;
                let document = Document::new(members).ok_or_else(missing)?;
                records.extend(
                    places
                        .into_iter()
                        .map(|place| place.record(&value, &document)),
                );
            }
            Some(b'{') => {
                let (mut members, value) =
                    (Members::default(), value.slice_ref(value.trim_ascii()));
                let place = Place::of(&value, 0, &mut members).ok_or_else(missing)?;
                if members.all.is_empty() && !is_optional {
                    return Err(missing());
                }
                records.push(place.record(&value, &Document::new(members).ok_or_else(missing)?));
            }
            Some(b'n') if is_optional => {}
            _ => return Err(missing()),
        }
    }
    Ok(records)
}

/// Where a record stands in a text.
#[derive(Clone)]
struct Place {
    start: usize,
    end: usize,
    /// Its members among those of all records; none for what is no object.
    members: Option<Range<usize>>,
}

impl Place {
    /// Finds the end of the value that starts at `start`, and its members.
    fn of(json: &[u8], start: usize, members: &mut Members) -> Option<Self> {
        if json.get(start) != Some(&b'{') {
            return Some(Self {
                start,
                end: scan::value(json, start)?,
                members: None,
            });
        }
        let before = members.all.len();
        let end = start + members.add(&json[start..], 0)?;
        Some(Self {
            start,
            end,
            members: Some(before..members.all.len()),
        })
    }

    /// The elements of an array; none when it is none, or there is no room for them.
    fn all(array: &[u8], room: &mut Room) -> Option<(Members, Vec<Self>)> {
        let (mut members, mut places) = (Members::with_room_for(array.len()), Vec::new());
        let start = scan::space(array, 0);
        (array.get(start) == Some(&b'[')).then_some(())?;
        Self::elements(array, start, &mut members, &mut places, room)?;
        room.taken += members.bytes();
        Some((members, places))
    }

    /// Adds the elements of the array that starts at `start`; returns the place after it.
    fn elements(
        json: &[u8],
        start: usize,
        members: &mut Members,
        places: &mut Vec<Self>,
        room: &mut Room,
    ) -> Option<usize> {
        scan::elements(json, start, |at| {
            let place = Self::of(json, at, members)?;
            let end = place.end;
            places.push(place);
            room.add(members)?;
            Some(end)
        })
    }

    fn record(self, text: &Bytes, document: &Arc<Document>) -> RawRecord {
        let found = self.members.map(|own| Found {
            document: Arc::clone(document),
            own,
        });
        RawRecord {
            json: text.slice(self.start..self.end),
            op: Op::Upsert,
            found,
            reason: None,
        }
    }
}

/// Walks a body's top level: an array that is a path's records is cut at once, all else is kept as
/// it is.
struct Cut<'b, 'p> {
    body: &'b Bytes,
    paths: &'p [RecordPath],
    records: Vec<Option<Vec<Place>>>,
    envelope: Envelope,
    members: Members,
    room: Room,
}

impl Cut<'_, '_> {
    /// None when the body is damaged.
    fn walk(&mut self) -> Option<()> {
        let body: &[u8] = self.body;
        let start = scan::space(body, 0);
        let end = match body.get(start)? {
            b'{' => scan::members(body, start, |key, at| self.member(key.span.of(body), at))?,
            b'[' if matches!(self.paths, [path] if path.0.is_empty()) => self.cut(0, start)?,
            _ => scan::value(body, start)?,
        };
        (scan::space(body, end) == body.len()).then_some(())
    }

    /// Takes the value of a member.
    fn member(&mut self, key: &[u8], at: usize) -> Option<usize> {
        let Key(name) = serde_json::from_slice(key).ok()?;
        let path = self.path(&name);
        if let Some(path) = path.filter(|_| self.body.get(at) == Some(&b'[')) {
            return self.cut(path, at);
        }
        let end = scan::value(self.body, at)?;
        self.room.add(&self.members)?;
        self.envelope
            .members
            .push((name.into_owned(), self.body.slice(at..end)));
        path.map(|path| self.records[path].take());
        Some(end)
    }

    /// Cuts the array that is the records of a path.
    fn cut(&mut self, path: usize, at: usize) -> Option<usize> {
        let mut places = Vec::new();
        let end = Place::elements(
            self.body,
            at,
            &mut self.members,
            &mut places,
            &mut self.room,
        )?;
        self.records[path] = Some(places);
        Some(end)
    }

    /// The path that this member, and nothing below it, is the end of; none when another path leads
    /// through it as well.
    fn path(&self, key: &str) -> Option<usize> {
        let mut paths = self
            .paths
            .iter()
            .enumerate()
            .filter(|(_, path)| path.0.first().is_some_and(|first| first == key));
        let (index, path) = paths.next()?;
        (path.0.len() == 1 && paths.next().is_none()).then_some(index)
    }
}
