//! Text with its escapes read, and where each byte of it came from: percent-encoding, JSON, HTML.

use std::ops::Range;

/// Longest entity of HTML that is read, without its `&` and `;`.
const ENTITY: usize = 8;

/// Text as its reader sees it.
pub(crate) struct Decoded {
    bytes: Vec<u8>,
    /// Where in the source each byte begins, and the source's end.
    at: Vec<usize>,
}

impl Decoded {
    /// Text as it is.
    pub(crate) fn plain(text: &[u8]) -> Self {
        Self {
            bytes: text.to_vec(),
            at: (0..=text.len()).collect(),
        }
    }

    /// The text.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part of the source that became a part of the text.
    pub(crate) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.at[range.start]..self.at[range.end]
    }

    /// The text with one layer of escapes read; none when it has no escape.
    pub(crate) fn decoded(&self) -> Option<Self> {
        let mut inner = Self {
            bytes: Vec::with_capacity(self.bytes.len()),
            at: Vec::with_capacity(self.at.len()),
        };
        let mut from = 0;
        while from < self.bytes.len() {
            let rest = &self.bytes[from..];
            let (decoded, length) = escape(rest).unwrap_or_else(|| (Unit::Byte(rest[0]), 1));
            match decoded {
                Unit::Byte(byte) => inner.push(byte, self.at[from]),
                Unit::Char(character) => {
                    character
                        .encode_utf8(&mut [0; 4])
                        .bytes()
                        .for_each(|byte| inner.push(byte, self.at[from]));
                }
            }
            from += length;
        }
        inner.at.push(self.at[self.bytes.len()]);
        (inner.bytes.len() != self.bytes.len()).then_some(inner)
    }

    fn push(&mut self, byte: u8, at: usize) {
        self.bytes.push(byte);
        self.at.push(at);
    }
}

/// What an escape stands for.
enum Unit {
    Byte(u8),
    Char(char),
}

/// The escape that text begins with, and how long it is.
fn escape(text: &[u8]) -> Option<(Unit, usize)> {
    match text {
        [b'%', digits @ ..] => Some((Unit::Byte(u8::try_from(hex(digits.get(..2)?)?).ok()?), 3)),
        [b'\\', b'x', digits @ ..] => {
            Some((Unit::Byte(u8::try_from(hex(digits.get(..2)?)?).ok()?), 4))
        }
        [b'\\', b'u', digits @ ..] => unicode(digits),
        [b'\\', character, ..] => {
            let byte = match character {
                b'"' | b'\'' | b'\\' | b'/' => *character,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                _ => return None,
            };
            Some((Unit::Byte(byte), 2))
        }
        [b'&', name @ ..] => {
            let end = name
                .iter()
                .take(ENTITY + 1)
                .position(|byte| *byte == b';')?;
            Some((
                Unit::Char(entity(std::str::from_utf8(&name[..end]).ok()?)?),
                end + 2,
            ))
        }
        _ => None,
    }
}

/// One unit of UTF-16, or the two of a pair, behind `\u`.
fn unicode(digits: &[u8]) -> Option<(Unit, usize)> {
    let first = hex(digits.get(..4)?)?;
    if let Some(character) = char::from_u32(first) {
        return Some((Unit::Char(character), 6));
    }
    let second = hex(digits.get(4..10)?.strip_prefix(b"\\u")?)?;
    let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    char::decode_utf16(pair)
        .next()?
        .ok()
        .map(|character| (Unit::Char(character), 12))
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        Some(number * 16 + char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn escapes_are_read_and_their_places_are_known() {
        let cases = [
            ("%2Fa%2f", "/a/"),
            ("\\u0073k\\/x\\\"", "sk/x\""),
            ("\\ud83d\\ude00 \\ud83d", "\u{1F600} \\ud83d"),
            ("a&amp;b&#47;&#x2F;&nbsp;", "a&b//&nbsp;"),
            ("\\x73%6", "s%6"),
            ("\\b\\f\\n\\r\\t\\'\\\\", "\u{8}\u{c}\n\r\t'\\"),
            ("&lt;&gt;&quot;&apos;", "<>\"'"),
            ("&#x00002F;&#x000002F;&#0000047;", "/&#x000002F;/"),
        ];
        for (text, expected) in cases {
            let inner = Decoded::plain(text.as_bytes()).decoded().unwrap();
            assert_eq!(std::str::from_utf8(inner.bytes()).unwrap(), expected);
            assert_eq!(
                inner.source(0..inner.bytes().len()),
                0..text.len(),
                "{text}"
            );
        }
        for plain in ["", "100 %", "%zz", "\\q", "&;", "&unknown;", "\\u12", "%"] {
            assert!(
                Decoded::plain(plain.as_bytes()).decoded().is_none(),
                "{plain}"
            );
        }
        let outer = Decoded::plain(b"%252F").decoded().unwrap();
        let inner = outer.decoded().unwrap();
        assert_eq!((inner.bytes(), inner.source(0..1)), (&b"/"[..], 0..5));
    }
}
