//! Where the members of one record stand, found in one walk and without a copy.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Rejection, values};

/// The members of the record read last, as positions in its text; buffers are used again for the next.
pub(super) struct Members {
    names: Vec<String>,
    columns: HashMap<String, usize>,
    /// The column that came after each column last time: records of one stream have their members in the same order.
    successors: Vec<usize>,
    declared: Vec<Option<Member>>,
    unknown: Vec<Member>,
    misfits: Vec<Member>,
    repeated: Vec<Member>,
}

/// A member's key, with its quotes, and value.
#[derive(Clone, Copy)]
struct Member {
    key: Span,
    value: Span,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// The place of a part of `json`.
    fn of(part: &str, json: &str) -> Self {
        let start = part.as_ptr().addr() - json.as_ptr().addr();
        Self { start, end: start + part.len() }
    }

    fn text(self, json: &str) -> &str {
        &json[self.start..self.end]
    }
}

impl Member {
    /// The key as it is written, without its quotes.
    fn written(self, json: &str) -> &str {
        &json[self.key.start + 1..self.key.end - 1]
    }
}

/// What a key means; a key that is no Unicode text stands for itself.
fn name(key: &str) -> Cow<'_, str> {
    let written = &key[1..key.len() - 1];
    if !written.contains('\\') {
        return written.into();
    }
    let mut name = String::new();
    values::text(key, &mut name).map_or(Cow::Borrowed(written), |name| name.to_owned().into())
}

impl Members {
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let names: Vec<&str> = names.collect();
        let quoted: Vec<String> = names.iter().map(|name| serde_json::Value::from(*name).to_string()).collect();
        let columns = names.into_iter().map(str::to_owned).zip(0..).collect();
        Self {
            successors: (0..=quoted.len()).collect(),
            declared: vec![None; quoted.len()],
            names: quoted,
            columns,
            unknown: Vec::new(),
            misfits: Vec::new(),
            repeated: Vec::new(),
        }
    }

    /// Finds the members of a record, all of it being JSON.
    pub(super) fn read(&mut self, json: &str) -> Result<(), Rejection> {
        self.declared.fill(None);
        self.unknown.clear();
        self.misfits.clear();
        self.repeated.clear();
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let walked = deserializer.deserialize_map(Walk { members: self, json, previous: 0 }).and_then(|()| deserializer.end());
        walked.map_err(|_| match serde_json::from_str::<&RawValue>(json) {
            Ok(_) => Rejection::NotAnObject,
            Err(_) => Rejection::NotJson,
        })?;
        self.drop_repeated_unknown(json);
        Ok(())
    }

    /// The value of a column; none when it is absent or null.
    pub(super) fn value<'j>(&self, column: usize, json: &'j str) -> Option<&'j str> {
        self.declared[column].map(|member| member.value.text(json)).filter(|value| *value != "null")
    }

    /// Moves a column's member to those that no column holds.
    pub(super) fn set_aside(&mut self, column: usize) {
        self.misfits.extend(self.declared[column]);
    }

    /// Forgets everything but these columns.
    pub(super) fn keep_only(&mut self, kept: &[Option<usize>]) {
        for (index, member) in self.declared.iter_mut().enumerate() {
            if !kept.contains(&Some(index)) {
                *member = None;
            }
        }
        self.unknown.clear();
        self.repeated.clear();
    }

    /// Keys of earlier values that a later one replaced.
    pub(super) fn repeated<'j>(&self, json: &'j str) -> impl Iterator<Item = &'j str> {
        self.repeated.iter().map(move |member| member.written(json))
    }

    /// Keys that are not declared.
    pub(super) fn unknown<'j>(&self, json: &'j str) -> impl Iterator<Item = &'j str> {
        self.unknown.iter().map(move |member| member.written(json))
    }

    /// Keys, with their quotes, and values of members that no column holds, in the record's order.
    pub(super) fn extra<'j>(&mut self, json: &'j str) -> impl Iterator<Item = (&'j str, &'j str)> {
        self.unknown.append(&mut self.misfits);
        self.unknown.sort_unstable_by_key(|member| member.key.start);
        self.unknown.iter().map(move |member| (member.key.text(json), member.value.text(json)))
    }

    fn add(&mut self, member: Member, json: &str, previous: usize) -> usize {
        let Some(column) = self.column(member.key.text(json), previous) else {
            self.unknown.push(member);
            return previous;
        };
        self.successors[previous] = column;
        self.repeated.extend(self.declared[column].replace(member));
        column + 1
    }

    /// The column of a key. `previous` is one more than the column before it, 0 at the start.
    fn column(&self, key: &str, previous: usize) -> Option<usize> {
        let predicted = self.successors[previous];
        match self.names.get(predicted) {
            Some(name) if name == key => Some(predicted),
            _ => self.columns.get(&*name(key)).copied(),
        }
    }

    /// Keeps the last of several unknown members with one name.
    fn drop_repeated_unknown(&mut self, json: &str) {
        let Self { unknown, repeated, .. } = self;
        if unknown.len() < 2 {
            return;
        }
        let name = |member: &Member| name(member.key.text(json));
        unknown.sort_unstable_by(|a, b| name(a).cmp(&name(b)).then(b.key.start.cmp(&a.key.start)));
        unknown.dedup_by(|earlier, kept| {
            let is_repeated = name(earlier) == name(kept);
            repeated.extend(is_repeated.then_some(*earlier));
            is_repeated
        });
    }
}

/// One walk over a record's top level.
struct Walk<'m, 'j> {
    members: &'m mut Members,
    json: &'j str,
    previous: usize,
}

impl<'j> Visitor<'j> for Walk<'_, 'j> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&'j RawValue, &'j RawValue>()? {
            let member = Member { key: Span::of(key.get(), self.json), value: Span::of(value.get(), self.json) };
            self.previous = self.members.add(member, self.json, self.previous);
        }
        Ok(())
    }
}
