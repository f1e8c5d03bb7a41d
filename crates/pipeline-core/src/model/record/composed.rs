//! Records made of the parts of others, without writing them as text.

use bytes::Bytes;

use super::{Document, Found, Op, RawRecord, added};
use crate::json::scan::{self, Key, Member, Span};

/// A record under construction, whose members refer to a text where they stand in it.
///
/// What does not stand in the text is kept beside it. Names may be any: they need not be those that
/// the values have in the text.
#[derive(Clone, Debug, Default)]
pub struct Composer {
    text: Bytes,
    members: Vec<Member>,
    beside: Vec<u8>,
    open: Vec<u8>,
    /// Bytes that names and values have as text.
    length: usize,
}

impl Composer {
    /// A record whose values are parts of `text` for the most part.
    pub fn of(text: Bytes) -> Self {
        Self {
            text,
            members: Vec::with_capacity(32),
            beside: Vec::with_capacity(1024),
            open: Vec::new(),
            length: 0,
        }
    }

    /// Adds a member whose value is valid JSON, without white space around it. It is not copied if
    /// it is a part of the text.
    pub fn add(&mut self, name: &str, value: &str) {
        let before = self.beside.len();
        if value.starts_with(['{', '[']) {
            scan::compact(value, &mut self.open, &mut self.beside);
        }
        let compact = (self.beside.len() > before).then(|| Span::new(before, self.beside.len()));
        self.push(name, value, compact);
    }

    /// Adds a member whose value has no white space between its parts either.
    pub fn add_compact(&mut self, name: &str, value: &str) {
        self.push(name, value, None);
    }

    fn push(&mut self, name: &str, value: &str, compact: Option<Span>) {
        let key = self.key(name);
        self.length += key.span.range().len() + value.len();
        let (value, compact) = match (self.place(value), compact) {
            (Some(place), compact) => (place, compact),
            (None, None) => (Span::new(0, 0), Some(self.keep(value))),
            // Both are needed: one to be stored, one as what was sent.
            (None, Some(compact)) => {
                let text = [&*self.text, value.as_bytes()].concat();
                let place = Span::new(self.text.len(), text.len());
                self.text = text.into();
                (place, Some(compact))
            }
        };
        self.members.push(Member {
            key,
            value,
            compact,
        });
    }

    fn key(&mut self, name: &str) -> Key {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        let start = self.beside.len();
        // No end before the last byte: names are short, and all but all of them plain.
        let is_escaped = if name
            .bytes()
            .fold(true, |plain, byte| plain & is_plain(byte))
        {
            self.beside.push(b'"');
            self.beside.extend_from_slice(name.as_bytes());
            self.beside.push(b'"');
            false
        } else {
            let quoted = added::quoted(name);
            self.beside.extend_from_slice(quoted.as_bytes());
            quoted.contains('\\')
        };
        Key {
            span: Span::new(start, self.beside.len()),
            is_escaped,
        }
    }

    /// Where a part of the text stands in it; none for other text.
    fn place(&self, value: &str) -> Option<Span> {
        let start = (value.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let end = start.checked_add(value.len())?;
        (end <= self.text.len() && !value.is_empty()).then(|| Span::new(start, end))
    }

    fn keep(&mut self, value: &str) -> Span {
        let start = self.beside.len();
        self.beside.extend_from_slice(value.as_bytes());
        Span::new(start, self.beside.len())
    }

    /// The record.
    pub fn build(self) -> RawRecord {
        let own = 0..self.members.len();
        // A colon in each member, a comma between two, and the braces.
        let length = self.length + own.len() + own.len().saturating_sub(1) + 2;
        RawRecord {
            text: self.text,
            op: Op::Upsert,
            found: Document::composed(self.members, self.beside, length)
                .map(|document| Found { document, own }),
            added: None,
            reason: None,
        }
    }
}
