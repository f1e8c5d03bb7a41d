//! Proves text to be JSON, and notes where the members of its records stand, in one pass.
//!
//! What is accepted is what `serde_json` accepts when it reads a `RawValue`: numbers of any length,
//! any escape of four digits, any depth, names that come twice, and no byte more than the grammar
//! has. A test holds the two against each other.
//!
//! Functions take the place of a thing's first byte and return the place after its last; none when
//! it is damaged.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

/// Bytes that are copied at once: more than most names and values have.
const BLOCK: usize = 32;

/// Bytes that a member has at least in most vendors' records.
const BYTES_PER_MEMBER: usize = 48;

/// The most members of one record. Vendors' records have thousands where they have many; what has
/// more is no record of theirs, and would take 32 bytes of memory for each, several times over.
pub const MOST_MEMBERS: usize = 250_000;

/// The most bytes of buffers that a thread keeps for its next text.
const SPARE_BYTES: usize = 4 << 20;

thread_local! {
    /// The largest buffers of the texts that this thread is done with. Without them an eighth of
    /// the time that cutting a page takes goes into new memory.
    static SPARE: Cell<Option<Members>> = const { Cell::new(None) };
}

/// A part of a text, which must be below 4 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "larger texts are refused before"
    )]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Where it starts and ends.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes of `text` that it spans; empty where the text is shorter.
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.range()).unwrap_or_default()
    }

    /// The same of a text that is known to be Unicode.
    pub fn of_text(self, text: &str) -> &str {
        text.get(self.range()).unwrap_or_default()
    }

    /// A part of it, by its place in it.
    pub fn part(self, part: Range<usize>) -> Self {
        let start = self.range().start;
        Self::new(start + part.start, start + part.end)
    }
}

/// A member's name.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written, with its quotes.
    pub span: Span,
    /// Whether it has escapes, so that it reads other than it is written.
    pub is_escaped: bool,
}

impl Key {
    /// As it is written, without its quotes.
    pub fn written(self, text: &[u8]) -> &[u8] {
        let Range { start, end } = self.span.range();
        text.get(start + 1..end - 1).unwrap_or_default()
    }

    /// What it means; a name that is not Unicode text means itself.
    pub fn name(self, text: &[u8]) -> Cow<'_, [u8]> {
        let read = || serde_json::from_slice::<String>(self.span.of(text)).ok();
        match self.is_escaped.then(read).flatten() {
            Some(name) => Cow::Owned(name.into_bytes()),
            None => Cow::Borrowed(self.written(text)),
        }
    }
}

/// A member of a record.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The name.
    pub key: Key,
    /// The value as it is written in the record.
    pub value: Span,
    /// An object or array that has white space: where [`Members::compact`] has it without.
    pub compact: Option<Span>,
}

/// The members of one or many records, those of each in its order; and what their nested values are
/// without white space.
#[derive(Debug, Default)]
pub struct Members {
    /// The members.
    pub all: Vec<Member>,
    /// The nested values without white space, one after another.
    pub compact: Vec<u8>,
    /// True once a record had more members than one may.
    pub is_overfull: bool,
    open: Vec<u8>,
}

impl Members {
    /// Bytes of memory that they take.
    pub fn bytes(&self) -> usize {
        size_of::<Member>() * self.all.len() + self.compact.len()
    }

    /// With room for what a text of this length may hold: a buffer that grows is copied and leaves
    /// its memory behind.
    pub fn with_room_for(length: usize) -> Self {
        let mut members = SPARE
            .try_with(Cell::take)
            .ok()
            .flatten()
            .unwrap_or_default();
        members.clear();
        members.all.reserve(length / BYTES_PER_MEMBER);
        members.compact.reserve(length / 2);
        members
    }

    /// Keeps the buffers for the next text of this thread, unless it has larger ones.
    pub fn recycle(all: Vec<Member>, compact: Vec<u8>) {
        if size_of::<Member>() * all.capacity() + compact.capacity() > SPARE_BYTES {
            return;
        }
        // A thread that is ending has no use for them.
        let _ = SPARE.try_with(|spare| {
            let larger = spare
                .take()
                .filter(|kept| kept.all.capacity() > all.capacity());
            spare.set(Some(larger.unwrap_or(Self {
                all,
                compact,
                ..Self::default()
            })));
        });
    }

    /// Forgets the members and keeps the buffers.
    pub fn clear(&mut self) {
        self.all.clear();
        self.compact.clear();
        self.is_overfull = false;
    }

    /// Gives back what an unusual text took.
    pub fn trim(&mut self) {
        if size_of::<Member>() * self.all.capacity() + self.compact.capacity() > SPARE_BYTES {
            *self = Self::default();
        }
    }

    /// Adds the members of the object at `at`, as they are written in the text. None also when
    /// there are more than [`MOST_MEMBERS`].
    pub fn add(&mut self, record: &[u8], at: usize) -> Option<usize> {
        let most = self.all.len() + MOST_MEMBERS;
        members(record, at, |key, start| {
            if self.all.len() >= most {
                self.is_overfull = true;
                return None;
            }
            let before = self.compact.len();
            let end = match record.get(start)? {
                b'{' | b'[' => nested(record, start, &mut self.open, &mut self.compact)?,
                _ => value(record, start)?,
            };
            let compact =
                (self.compact.len() > before).then(|| Span::new(before, self.compact.len()));
            self.all.push(Member {
                key,
                value: Span::new(start, end),
                compact,
            });
            Some(end)
        })
    }
}

/// Steps over the object at `at`. `value` is called for every member with its name and where its
/// value begins, and says where the value ends.
pub fn members(
    json: &[u8],
    at: usize,
    mut value: impl FnMut(Key, usize) -> Option<usize>,
) -> Option<usize> {
    let mut at = space(json, at + 1);
    if json.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        let start = at;
        let (end, is_escaped) = string(json, start)?;
        at = space(json, end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        at = value(
            Key {
                span: Span::new(start, end),
                is_escaped,
            },
            space(json, at + 1),
        )?;
        at = space(json, at);
        match json.get(at)? {
            b',' => at = space(json, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Steps over the array at `at`. `element` is called with where each element begins, and says where
/// it ends.
pub fn elements(
    json: &[u8],
    at: usize,
    mut element: impl FnMut(usize) -> Option<usize>,
) -> Option<usize> {
    let mut at = space(json, at + 1);
    if json.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = space(json, element(at)?);
        match json.get(at)? {
            b',' => at = space(json, at + 1),
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Steps over a value of any kind.
pub fn value(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'{' | b'[' => nested(json, at, &mut Vec::new(), &mut Nowhere),
        b'"' => string(json, at).map(|(end, _)| end),
        _ => word(json, at),
    }
}

/// Steps over a value of any kind, and tells whether it has no white space between its parts.
pub fn packed(json: &[u8], at: usize) -> Option<(usize, bool)> {
    let mut spaces = Spaces(false);
    let end = match json.get(at)? {
        b'{' | b'[' => nested(json, at, &mut Vec::new(), &mut spaces)?,
        _ => value(json, at)?,
    };
    Some((end, !spaces.0))
}

/// Appends a JSON value without its white space; nothing when it has none, or is not an object or
/// array. `open` is a buffer that many calls can share.
pub(crate) fn compact(json: &str, open: &mut Vec<u8>, out: &mut Vec<u8>) {
    let before = out.len();
    if json.starts_with(['{', '[']) && nested(json.as_bytes(), 0, open, out).is_none() {
        out.truncate(before);
    }
}

/// The same of one value; none when it has no white space.
pub(crate) fn compacted(json: &str) -> Option<String> {
    let mut out = Vec::new();
    compact(json, &mut Vec::new(), &mut out);
    String::from_utf8(out).ok().filter(|out| !out.is_empty())
}

/// Takes what is left of an object or array when its white space is left out.
trait Compact {
    fn append(&mut self, json: &[u8], start: usize, end: usize);
}

struct Nowhere;

impl Compact for Nowhere {
    fn append(&mut self, _: &[u8], _: usize, _: usize) {}
}

/// Notices that there is white space.
struct Spaces(bool);

impl Compact for Spaces {
    fn append(&mut self, _: &[u8], _: usize, _: usize) {
        self.0 = true;
    }
}

impl Compact for Vec<u8> {
    /// Parts are short: a block of fixed size is copied faster than as many bytes as it takes.
    fn append(&mut self, json: &[u8], start: usize, end: usize) {
        match json.get(start..start + BLOCK) {
            Some(block) if end - start <= BLOCK => {
                let length = self.len() + (end - start);
                self.extend_from_slice(block);
                self.truncate(length);
            }
            _ => self.extend_from_slice(&json[start..end]),
        }
    }
}

/// Steps over the object or array at `at`, and appends it without its white space if it has some.
/// `open` is for the brackets that are open, so that no depth exhausts the stack.
fn nested(
    json: &[u8],
    mut at: usize,
    open: &mut Vec<u8>,
    compact: &mut impl Compact,
) -> Option<usize> {
    let (first, mut kept) = (at, at);
    let mut skip = |at: usize| {
        let after = space(json, at);
        if after > at {
            compact.append(json, kept, at);
            kept = after;
        }
        after
    };
    open.clear();
    // What ends the innermost of what is open; zero outside.
    let mut closing = 0;
    let end = 'walk: loop {
        match *json.get(at)? {
            opening @ (b'{' | b'[') => {
                open.push(closing);
                closing = opening + 2;
                at = skip(at + 1);
                if json.get(at) != Some(&closing) {
                    if opening == b'{' {
                        at = name(json, at, &mut skip)?;
                    }
                    continue;
                }
            }
            b'"' => at = string(json, at)?.0,
            _ => at = word(json, at)?,
        }
        loop {
            at = skip(at);
            let byte = *json.get(at)?;
            if byte == b',' {
                at = skip(at + 1);
                if closing == b'}' {
                    at = name(json, at, &mut skip)?;
                }
                break;
            }
            if byte != closing {
                return None;
            }
            at += 1;
            closing = open.pop()?;
            if closing == 0 {
                break 'walk at;
            }
        }
    };
    if kept > first {
        compact.append(json, kept, end);
    }
    Some(end)
}

/// Steps over a name and its colon to where the value begins.
fn name(json: &[u8], at: usize, skip: &mut impl FnMut(usize) -> usize) -> Option<usize> {
    let (end, _) = string(json, at)?;
    let at = skip(end);
    (json.get(at) == Some(&b':')).then(|| skip(at + 1))
}

/// The place of the first byte from `at` on that is not white space.
pub fn space(json: &[u8], mut at: usize) -> usize {
    loop {
        match json.get(at) {
            // Pretty-printed lines are set in by many spaces.
            Some(b'\n') => {
                at += 1;
                while let Some(bytes) = eight(json, at) {
                    let other = bytes ^ (LOW * u64::from(b' '));
                    at += (other.trailing_zeros() / 8) as usize;
                    if other != 0 {
                        break;
                    }
                }
            }
            Some(b' ' | b'\r' | b'\t') => at += 1,
            _ => return at,
        }
    }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Eight bytes at once, the first in the lowest.
fn eight(json: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*json.get(at..)?.first_chunk()?))
}

/// Marks the high bit of the first byte that cannot stand inside a string as it is, and perhaps of
/// bytes after it: a quote, a backslash, or one below a space.
fn special(bytes: u64) -> u64 {
    // Flipping this bit puts the quote in the place of the space, and what is below the space stays
    // below.
    let low = (bytes ^ (LOW * 0x02)).wrapping_sub(LOW * 0x21);
    let backslash = (bytes ^ (LOW * u64::from(b'\\'))).wrapping_sub(LOW);
    // A byte of 0x80 and above is none of them; a borrow comes from a marked byte only.
    (low | backslash) & !bytes & HIGH
}

/// Steps over the string at `at`; returns whether it is written with escapes.
#[inline]
pub fn string(json: &[u8], start: usize) -> Option<(usize, bool)> {
    if json.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    while let Some(bytes) = eight(json, at) {
        let found = special(bytes) | (bytes & HIGH);
        if found != 0 {
            at += (found.trailing_zeros() / 8) as usize;
            if json.get(at) == Some(&b'"') {
                return Some((at + 1, false));
            }
            break;
        }
        // Not the sum of both cases: the processor reads on while it finds out which one this is.
        at += 8;
    }
    rest_of_string(json, start, at)
}

/// The same of a string that continues at `at` with an escape or with what is no ASCII, or that
/// ends a text.
#[cold]
fn rest_of_string(json: &[u8], start: usize, mut at: usize) -> Option<(usize, bool)> {
    // Bytes of which one has its high bit set when the text is not ASCII.
    let (mut is_escaped, mut wide) = (false, 0);
    loop {
        while let Some(bytes) = eight(json, at) {
            wide |= bytes;
            let special = special(bytes);
            if special != 0 {
                at += (special.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match *json.get(at)? {
            b'"' => break,
            b'\\' => {
                is_escaped = true;
                at = escape(json, at + 1)?;
            }
            byte if byte < b' ' => return None,
            byte => {
                wide |= u64::from(byte);
                at += 1;
            }
        }
    }
    at += 1;
    (wide & HIGH == 0 || std::str::from_utf8(&json[start..at]).is_ok()).then_some((at, is_escaped))
}

/// Steps over what follows a backslash.
fn escape(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => json
            .get(at + 1..at + 5)?
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then_some(at + 5),
        _ => None,
    }
}

/// Steps over the number or literal at `at`.
fn word(json: &[u8], at: usize) -> Option<usize> {
    let literal = |text: &[u8]| json[at..].starts_with(text).then_some(at + text.len());
    match json.get(at)? {
        b'-' | b'0'..=b'9' => number(json, at),
        b'n' => literal(b"null"),
        b't' => literal(b"true"),
        b'f' => literal(b"false"),
        _ => None,
    }
}

fn number(json: &[u8], mut at: usize) -> Option<usize> {
    if json[at] == b'-' {
        at += 1;
    }
    at = if json.get(at) == Some(&b'0') {
        at + 1
    } else {
        digits(json, at)?
    };
    if json.get(at) == Some(&b'.') {
        at = digits(json, at + 1)?;
    }
    if let Some(b'e' | b'E') = json.get(at) {
        let is_signed = matches!(json.get(at + 1), Some(b'+' | b'-'));
        at = digits(json, at + 1 + usize::from(is_signed))?;
    }
    Some(at)
}

/// Steps over one or more digits.
fn digits(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while json.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    (at > start).then_some(at)
}

#[cfg(test)]
mod tests;
