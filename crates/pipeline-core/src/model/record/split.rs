//! Cuts a response body into records, which are slices of it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::room::Room;
use super::{Document, Found, Key, RawRecord, member, scalar_text};
use crate::error::{Error, ErrorKind, Result};
use crate::json::scan;
use crate::json::scan::Members;

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
pub(super) struct Place {
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
            found,
            ..RawRecord::upsert(text.slice(self.start..self.end))
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
