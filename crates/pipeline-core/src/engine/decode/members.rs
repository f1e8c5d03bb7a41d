//! Where the members of one record stand, found in one walk and without a copy.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::inside::Container;
use super::{Rejection, values};
use crate::scan;
use crate::schema::Field;

/// The members of the record read last, as positions in its text; buffers are used again for the next.
pub(super) struct Members {
    /// The written names of columns, with their quotes; none for columns whose values stand inside a member.
    names: Vec<Option<String>>,
    columns: HashMap<String, usize>,
    /// The column that came after each column last time: records of one stream have their members in the same order.
    successors: Vec<usize>,
    declared: Vec<Option<Member>>,
    containers: Vec<Container>,
    unknown: Vec<Member>,
    misfits: Vec<Member>,
    repeated: Vec<Member>,
    /// Objects and arrays without their white space.
    compact: Vec<u8>,
}

/// A member's key, with its quotes, and value.
#[derive(Clone, Copy)]
struct Member {
    key: Span,
    value: Value,
}

#[derive(Clone, Copy)]
enum Value {
    /// A string, number or literal, as it stands in the record.
    Written(Span),
    /// An object or array, in the buffer of compact ones.
    Compact(Span),
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
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
pub(super) fn name(key: &str) -> Cow<'_, str> {
    let written = &key[1..key.len() - 1];
    if !written.contains('\\') {
        return written.into();
    }
    let mut name = String::new();
    values::text(key, &mut name).map_or(Cow::Borrowed(written), |name| name.to_owned().into())
}

impl Members {
    pub(super) fn new(fields: &[Field]) -> Self {
        let named = |field: &Field| field.inside.is_none().then(|| serde_json::Value::from(&*field.name).to_string());
        let names: Vec<Option<String>> = fields.iter().map(named).collect();
        let own = fields.iter().zip(0..).filter(|(field, _)| field.inside.is_none());
        let columns: HashMap<String, usize> = own.map(|(field, column)| (field.name.to_string(), column)).collect();
        Self {
            successors: (0..=fields.len()).collect(),
            declared: vec![None; fields.len()],
            containers: Container::of(fields, &columns),
            names,
            columns,
            unknown: Vec::new(),
            misfits: Vec::new(),
            repeated: Vec::new(),
            compact: Vec::new(),
        }
    }

    /// Finds the members of a record. What is not known to be JSON is proved to be first.
    pub(super) fn read(&mut self, json: &str, is_json: bool) -> Result<(), Rejection> {
        self.declared.fill(None);
        self.unknown.clear();
        self.misfits.clear();
        self.repeated.clear();
        self.compact.clear();
        if !is_json && serde_json::from_str::<&RawValue>(json).is_err() {
            return Err(Rejection::NotJson);
        }
        self.walk(json).ok_or(Rejection::NotAnObject)?;
        self.drop_repeated_unknown(json);
        self.look_inside();
        Ok(())
    }

    /// Finds what columns show of the inside of members.
    fn look_inside(&mut self) {
        let Self { containers, declared, compact, .. } = self;
        for container in containers {
            // Anything but an object or an array has no inside.
            let Some(Member { key, value: Value::Compact(span) }) = declared[container.column] else { continue };
            let offset = span.start;
            container.find(&compact[span.start..span.end], |column, value| {
                let value = Value::Compact(Span { start: offset + value.start, end: offset + value.end });
                declared[column] = Some(Member { key, value });
            });
        }
    }

    /// Walks over the top level of a record; none when it is no object.
    fn walk(&mut self, json: &str) -> Option<()> {
        let bytes = json.as_bytes();
        let (mut at, mut previous) = (scan::skip_space(bytes, 0), 0);
        if bytes.get(at) != Some(&b'{') {
            return None;
        }
        loop {
            at = scan::skip_space(bytes, at + 1);
            if *bytes.get(at)? == b'}' {
                return Some(());
            }
            let start = at;
            let column = self.predicted(bytes, at, previous);
            let end = column.map_or_else(|| scan::end_of_string(bytes, at), |(_, length)| at + length);
            let key = Span { start, end };
            let colon = scan::skip_space(bytes, end);
            at = scan::skip_space(bytes, colon + 1);
            let value = match bytes.get(at)? {
                b'{' | b'[' => {
                    let start = self.compact.len();
                    at = scan::compact(bytes, at, &mut self.compact)?;
                    Value::Compact(Span { start, end: self.compact.len() })
                }
                first => {
                    let start = at;
                    at = if *first == b'"' { scan::end_of_string(bytes, at) } else { scan::end_of_word(bytes, at) };
                    Value::Written(Span { start, end: at })
                }
            };
            previous = self.add(Member { key, value }, column.map(|(column, _)| column), json, previous);
            at = scan::skip_space(bytes, at);
            match bytes.get(at)? {
                b',' => {}
                _ => return Some(()),
            }
        }
    }

    /// The value of a column, without white space around its parts; none when it is absent or null.
    pub(super) fn value<'j>(&'j self, column: usize, json: &'j str) -> Option<&'j str> {
        self.text(self.declared[column]?, json).filter(|value| *value != "null")
    }

    fn text<'j>(&'j self, member: Member, json: &'j str) -> Option<&'j str> {
        match member.value {
            Value::Written(span) => Some(span.text(json)),
            Value::Compact(Span { start, end }) => std::str::from_utf8(&self.compact[start..end]).ok(),
        }
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
    pub(super) fn extra<'j>(&'j mut self, json: &'j str) -> impl Iterator<Item = (&'j str, &'j str)> {
        self.unknown.append(&mut self.misfits);
        self.unknown.sort_unstable_by_key(|member| member.key.start);
        self.unknown.iter().filter_map(|member| Some((member.key.text(json), self.text(*member, json)?)))
    }

    fn add(&mut self, member: Member, predicted: Option<usize>, json: &str, previous: usize) -> usize {
        let known = || self.columns.get(&*name(member.key.text(json))).copied();
        let Some(column) = predicted.or_else(known) else {
            self.unknown.push(member);
            return previous;
        };
        self.successors[previous] = column;
        self.repeated.extend(self.declared[column].replace(member));
        column + 1
    }

    /// The column that came after `previous` last time, and the length of its name, if that stands at `at`. `previous` is
    /// one more than the column before, 0 at the start.
    fn predicted(&self, json: &[u8], at: usize, previous: usize) -> Option<(usize, usize)> {
        let predicted = self.successors[previous];
        let name = self.names.get(predicted)?.as_ref().filter(|name| json[at..].starts_with(name.as_bytes()))?;
        Some((predicted, name.len()))
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
