//! Half a character in JSON text: what cuts text by UTF-16 units leaves one half of an emoji,
//! written as `\ud83d`. JSON allows that, and what stores text does not: such a string is not
//! Unicode. It becomes U+FFFD, the character for what cannot be read.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;

/// U+FFFD, as long as what it replaces: nothing else moves.
const REPLACEMENT: &[u8; LENGTH] = b"\\ufffd";

/// Bytes of an escape such as `\ud83d`.
const LENGTH: usize = 6;

/// Replaces halves of surrogate pairs in JSON text, in values and in names. Returns how many there
/// were.
pub fn mend(json: Bytes) -> (Bytes, u64) {
    match mended(&json) {
        (Cow::Borrowed(_), _) => (json, 0),
        (Cow::Owned(mended), count) => (mended.into(), count),
    }
}

/// The same of text that is borrowed.
pub(crate) fn mended(json: &[u8]) -> (Cow<'_, [u8]>, u64) {
    // Most text has no escape of a surrogate at all, which is found out at the speed of memory.
    if memmem::find(json, b"\\ud").is_none() && memmem::find(json, b"\\uD").is_none() {
        return (Cow::Borrowed(json), 0);
    }
    let mut text = Cow::Borrowed(json);
    let mut count = 0;
    let mut paired = 0;
    for at in memmem::find_iter(json, b"\\u") {
        if at < paired || is_escaped(json, at) {
            continue;
        }
        match (unit(json, at), unit(json, at + LENGTH)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => paired = at + 2 * LENGTH,
            (Some(0xD800..=0xDFFF), _) => {
                text.to_mut()[at..at + LENGTH].copy_from_slice(REPLACEMENT);
                count += 1;
            }
            _ => {}
        }
    }
    (text, count)
}

/// True when the backslash is what another one escapes.
fn is_escaped(json: &[u8], at: usize) -> bool {
    json[..at]
        .iter()
        .rev()
        .take_while(|byte| **byte == b'\\')
        .count()
        % 2
        == 1
}

/// What the escape at this place means, in UTF-16; none when there is none.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + LENGTH)?.strip_prefix(b"\\u")?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    is_hex
        .then(|| u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn halves_become_the_replacement_character() {
        let cases = [
            (
                r#"{"a":"plain \u00e4 \n"}"#,
                r#"{"a":"plain \u00e4 \n"}"#,
                0,
            ),
            (r#"{"a":"\ud83d\ude00"}"#, r#"{"a":"\ud83d\ude00"}"#, 0),
            (r#"{"a":"\uD83D\uDE00"}"#, r#"{"a":"\uD83D\uDE00"}"#, 0),
            (r#"{"a":"cut \ud83d"}"#, r#"{"a":"cut \ufffd"}"#, 1),
            (r#"{"a":"\uDE00 cut"}"#, r#"{"a":"\ufffd cut"}"#, 1),
            (r#"{"a":"\ude00\ud83d"}"#, r#"{"a":"\ufffd\ufffd"}"#, 2),
            (
                r#"{"a":"\ud83d\ud83d\ude00"}"#,
                r#"{"a":"\ufffd\ud83d\ude00"}"#,
                1,
            ),
            (
                r#"{"a":"\ud83d\ude00\ude00"}"#,
                r#"{"a":"\ud83d\ude00\ufffd"}"#,
                1,
            ),
            (r#"{"a":"\ud83d\u0041"}"#, r#"{"a":"\ufffd\u0041"}"#, 1),
            (r#"{"a":"\ud83d\n"}"#, r#"{"a":"\ufffd\n"}"#, 1),
            (
                r#"{"p\ud83d":{"q\udfff":[1]}}"#,
                r#"{"p\ufffd":{"q\ufffd":[1]}}"#,
                2,
            ),
            (
                r#"{"a":"\\ud83d \\\ud83d \\\\ud83d"}"#,
                r#"{"a":"\\ud83d \\\ufffd \\\\ud83d"}"#,
                1,
            ),
            (r#"{"a":"\ud83d\\ude00"}"#, r#"{"a":"\ufffd\\ude00"}"#, 1),
            (r#"{"a":"\ud83"#, r#"{"a":"\ud83"#, 0),
            (r#"{"a":"\ud8zz"}"#, r#"{"a":"\ud8zz"}"#, 0),
        ];
        for (json, expected, count) in cases {
            let (mended, counted) = mend(Bytes::from_static(json.as_bytes()));
            assert_eq!(
                (std::str::from_utf8(&mended).unwrap(), counted),
                (expected, count),
                "{json}"
            );
        }
    }

    /// Whatever escapes stand beside each other, what is mended can be read, and what could be read
    /// before means the same.
    #[test]
    fn every_sequence_of_escapes_can_be_read() {
        let pieces = [
            "\\ud83d",
            "\\uDE00",
            "\\\\",
            "\\u0041",
            "x",
            "\\\"",
            "ud83d",
            "\u{1F600}",
        ];
        for number in 0..pieces.len().pow(5) {
            let parts = (0..5).map(|place| pieces[number / pieces.len().pow(place) % pieces.len()]);
            let json = format!("\"{}\"", parts.collect::<String>());
            let (text, count) = mend(Bytes::from(json.clone()));
            let read = serde_json::from_slice::<String>(&text)
                .unwrap_or_else(|error| panic!("{json}: {error}"));
            match serde_json::from_str::<String>(&json) {
                Ok(same) => assert_eq!((read, count), (same, 0), "{json}"),
                Err(_) => assert_eq!(read.matches('\u{FFFD}').count() as u64, count, "{json}"),
            }
            assert_eq!(mend(text.clone()), (text, 0), "{json}");
        }
    }
}
