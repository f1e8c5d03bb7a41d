//! A record as its members: those that stand in its text, and those that were added.

use std::borrow::Cow;

use super::added::{Added, Own, Part};
use crate::json::scan::{self, Member};

/// The members of a record in their order, each known by its place among them.
///
/// Of several with one name the last counts. Names and values are JSON, as the vendor wrote them;
/// values without the white space between their parts.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'r> {
    text: &'r str,
    own: &'r [Member],
    /// Nested values without white space; of a composed record its names, and what does not stand
    /// in its text.
    beside: &'r str,
    /// Bytes of a composed record as text.
    composed: Option<usize>,
    added: Option<&'r Added>,
}

/// Where a member is from.
enum From<'r> {
    Text(&'r Member),
    Added(&'r Part),
}

impl<'r> Parts<'r> {
    /// The members of an object that was not cut from a document, as they were found in `text`.
    /// None when what was found is not Unicode, which what was proved always is.
    pub fn new(text: &'r str, found: &'r scan::Members) -> Option<Self> {
        Some(Self {
            text,
            own: &found.all,
            beside: std::str::from_utf8(&found.compact).ok()?,
            composed: None,
            added: None,
        })
    }

    pub(super) fn of(
        text: &'r str,
        (own, beside, composed): (&'r [Member], &'r str, Option<usize>),
        added: Option<&'r Added>,
    ) -> Self {
        Self {
            text,
            own,
            beside,
            composed,
            added,
        }
    }

    /// How many places there are.
    #[inline]
    pub fn len(self) -> usize {
        self.own.len() + self.before().len() + self.after().len()
    }

    /// True when there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn before(self) -> &'r [Part] {
        self.added.map_or(&[], Added::parts_before)
    }

    #[inline]
    fn after(self) -> &'r [Part] {
        self.added.map_or(&[], Added::parts_after)
    }

    #[inline]
    fn at(self, place: usize) -> From<'r> {
        let before = self.before();
        if let Some(part) = before.get(place) {
            return From::Added(part);
        }
        let place = place - before.len();
        match self.own.get(place) {
            Some(member) => From::Text(member),
            None => From::Added(&self.after()[place - self.own.len()]),
        }
    }

    /// What becomes of one of the record's own members.
    #[inline]
    fn fate(self, member: &Member) -> Own<'r> {
        match self.added.filter(|added| !added.only_appends()) {
            None => Own::AsWritten,
            Some(added) => added.own(&member.key.name(self.names())),
        }
    }

    /// What the spans of names are in.
    fn names(self) -> &'r [u8] {
        if self.composed.is_some() {
            self.beside.as_bytes()
        } else {
            self.text.as_bytes()
        }
    }

    /// True where the record's own member does not count, because it was left out.
    #[inline]
    pub fn is_left_out(self, place: usize) -> bool {
        match self.at(place) {
            From::Text(member) => matches!(self.fate(member), Own::LeftOut),
            From::Added(_) => false,
        }
    }

    /// A member's name as it is written, with its quotes.
    #[inline]
    pub fn key(self, place: usize) -> &'r str {
        match self.at(place) {
            From::Text(member) if self.composed.is_some() => member.key.span.of_text(self.beside),
            From::Text(member) => member.key.span.of_text(self.text),
            From::Added(part) => &part.key,
        }
    }

    /// What a member's name means.
    #[inline]
    pub fn name(self, place: usize) -> Cow<'r, [u8]> {
        match self.at(place) {
            From::Text(member) => member.key.name(self.names()),
            From::Added(part) => part.name.as_bytes().into(),
        }
    }

    /// A member's value, without white space around its parts.
    #[inline]
    pub fn value(self, place: usize) -> &'r str {
        match self.at(place) {
            From::Text(member) => match self.fate(member) {
                Own::LeftOut => "null",
                Own::Instead(value) => value.compact(),
                Own::AsWritten => member.compact.map_or_else(
                    || member.value.of_text(self.text),
                    |compact| compact.of_text(self.beside),
                ),
            },
            From::Added(part) => part.value.compact(),
        }
    }

    /// A member's value as it is written.
    pub(super) fn raw(self, place: usize) -> &'r str {
        match self.at(place) {
            From::Text(member) => match self.fate(member) {
                Own::LeftOut => "null",
                Own::Instead(value) => &value.raw,
                Own::AsWritten => written(member, self.text, self.beside),
            },
            From::Added(part) => &part.value.raw,
        }
    }

    /// True when the text is the record, or the beginning of it.
    fn is_text(self) -> bool {
        self.composed.is_none() && self.added.is_none_or(Added::only_appends)
    }

    /// True when a name has escapes, so that it reads other than it is written.
    pub(super) fn has_escaped_names(self) -> bool {
        self.composed.is_none() && self.own.iter().any(|member| member.key.is_escaped)
    }

    /// Bytes of the record as text.
    pub(super) fn bytes(self) -> usize {
        if let (Some(length), None) = (self.composed, self.added) {
            return length;
        }
        let mut count = Count(0);
        self.write(&mut count);
        count.0
    }

    /// Writes a composed record to which nothing was added.
    fn write_composed(self, out: &mut impl Sink) {
        let mut separator = "{";
        for member in self.own {
            out.push(separator);
            out.push(member.key.span.of_text(self.beside));
            out.push(":");
            out.push(written(member, self.text, self.beside));
            separator = ",";
        }
        out.push(if self.own.is_empty() { "{}" } else { "}" });
    }

    /// Writes the record as text: the vendor's with what was added behind it, or else the members
    /// without white space between them.
    pub(super) fn write(self, out: &mut impl Sink) {
        if self.composed.is_some() && self.added.is_none() {
            return self.write_composed(out);
        }
        let is_text = self.is_text();
        let mut separator = '{';
        let places = if is_text {
            let body = self.text.trim_ascii_end();
            let body = body.strip_suffix('}').unwrap_or(body);
            out.push(body);
            if !self.own.is_empty() {
                separator = ',';
            } else if body.trim_ascii_end().ends_with('{') {
                separator = ' ';
            }
            self.own.len()..self.len()
        } else {
            0..self.len()
        };
        for place in places.filter(|place| is_text || !self.is_left_out(*place)) {
            match separator {
                '{' => out.push("{"),
                ',' => out.push(","),
                _ => {}
            }
            out.push(self.key(place));
            out.push(":");
            out.push(self.raw(place));
            separator = ',';
        }
        if separator == '{' {
            out.push("{");
        }
        out.push("}");
    }
}

/// A value as it is written, in the text or beside it.
pub(super) fn written<'r>(member: &Member, text: &'r str, beside: &'r str) -> &'r str {
    match member.compact {
        Some(compact) if member.value.range().is_empty() => compact.of_text(beside),
        _ => member.value.of_text(text),
    }
}

/// Takes a text in pieces.
pub(super) trait Sink {
    fn push(&mut self, text: &str);
}

impl Sink for Vec<u8> {
    fn push(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

/// Counts the bytes.
struct Count(usize);

impl Sink for Count {
    fn push(&mut self, text: &str) {
        self.0 += text.len();
    }
}
