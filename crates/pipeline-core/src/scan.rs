//! Steps over JSON that is known to be valid: what is left to do is to find where things end.
//!
//! Given anything else, the functions end early or return none; they never read beyond the text.

use std::ops::Range;

/// How many bytes are copied at once.
#[cfg(feature = "engine")]
const STEP: usize = 16;

/// The place of the first byte from `at` on that is no white space.
pub(crate) fn skip_space(json: &[u8], mut at: usize) -> usize {
    // Pretty-printed JSON is set in by many spaces.
    while json.get(at..at + 8) == Some(b"        ") {
        at += 8;
    }
    while matches!(json.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The place after the string that starts at `at`.
pub(crate) fn end_of_string(json: &[u8], mut at: usize) -> usize {
    at += 1;
    loop {
        // Most strings are short: eight bytes at once are faster than a search that has to be set up.
        while let Some(bytes) = json.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()) {
            let bytes = u64::from_le_bytes(bytes);
            let found = equal(bytes, b'"') | equal(bytes, b'\\');
            if found != 0 {
                at += (found.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match json.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return json.len(),
        }
    }
}

/// Has the high bit of the lowest byte that is `byte`, and perhaps of bytes above it; zero when none is.
fn equal(bytes: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = bytes ^ (LOW * u64::from(byte));
    zero.wrapping_sub(LOW) & !zero & HIGH
}

/// The place after the number or literal that starts at `at`.
pub(crate) fn end_of_word(json: &[u8], at: usize) -> usize {
    let length = json[at..].iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
    length.map_or(json.len(), |length| at + length)
}

/// The value of a top-level member of an object, and where it stands; of several with that name it is the last. None when
/// there is none, and when a name is written with escapes, which has to be read.
pub(crate) fn member(json: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let mut found = None;
    members(json, skip_space(json, 0), |key, value| {
        if json.get(key.start + 1..key.end - 1) == Some(name) {
            found = Some((value.start, value.end));
        }
    })?;
    found
}

/// Hands on the key, with its quotes, and the value of every member of the object that starts at `at`.
pub(crate) fn members(json: &[u8], mut at: usize, mut each: impl FnMut(Range<usize>, Range<usize>)) -> Option<()> {
    loop {
        at = skip_space(json, at + 1);
        if *json.get(at)? != b'"' {
            return Some(());
        }
        let key = at..end_of_string(json, at);
        let start = skip_space(json, skip_space(json, key.end) + 1);
        at = end_of_value(json, start)?;
        each(key, start..at);
        at = skip_space(json, at);
        if *json.get(at)? != b',' {
            return Some(());
        }
    }
}

/// Hands on every element of the array that starts at `at`.
#[cfg(feature = "engine")]
pub(crate) fn elements(json: &[u8], mut at: usize, mut each: impl FnMut(Range<usize>)) -> Option<()> {
    loop {
        let start = skip_space(json, at + 1);
        if *json.get(start)? == b']' {
            return Some(());
        }
        at = end_of_value(json, start)?;
        each(start..at);
        at = skip_space(json, at);
        if *json.get(at)? != b',' {
            return Some(());
        }
    }
}

/// The place after the value that starts at `at`.
fn end_of_value(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match CLASSES[usize::from(*json.get(at)?)] {
            Class::Quote => at = end_of_string(json, at),
            Class::Plain if depth == 0 => at = end_of_word(json, at),
            Class::Plain => at += 1,
            Class::Space => at = skip_space(json, at),
            Class::Open => {
                depth += 1;
                at += 1;
            }
            Class::Close => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Appends the object or array that starts at `at` without the white space that means nothing, strings and numbers as they
/// are written; returns the place after it.
#[cfg(feature = "engine")]
pub(crate) fn compact(json: &[u8], mut at: usize, into: &mut Vec<u8>) -> Option<usize> {
    let (mut start, mut depth) = (at, 0_usize);
    loop {
        match CLASSES[usize::from(*json.get(at)?)] {
            Class::Plain => at += 1,
            Class::Quote => at = end_of_string(json, at),
            Class::Space => {
                append(json, start, at, into);
                at = skip_space(json, at);
                start = at;
            }
            Class::Open => {
                depth += 1;
                at += 1;
            }
            Class::Close => {
                depth = depth.checked_sub(1)?;
                at += 1;
                if depth == 0 {
                    append(json, start, at, into);
                    return Some(at);
                }
            }
        }
    }
}

/// Appends a part of the text. Parts are short: a block of fixed size is copied faster than as many bytes as it takes.
#[cfg(feature = "engine")]
fn append(json: &[u8], start: usize, end: usize, into: &mut Vec<u8>) {
    match json.get(start..start + STEP) {
        Some(block) if end - start <= STEP => {
            let length = into.len() + (end - start);
            into.extend_from_slice(block);
            into.truncate(length);
        }
        _ => into.extend_from_slice(&json[start..end]),
    }
}

#[derive(Clone, Copy)]
enum Class {
    /// Nothing that this step has to look at.
    Plain,
    Quote,
    Space,
    Open,
    Close,
}

static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Plain; 256];
    classes[b'"' as usize] = Class::Quote;
    classes[b' ' as usize] = Class::Space;
    classes[b'\n' as usize] = Class::Space;
    classes[b'\r' as usize] = Class::Space;
    classes[b'\t' as usize] = Class::Space;
    classes[b'{' as usize] = Class::Open;
    classes[b'[' as usize] = Class::Open;
    classes[b'}' as usize] = Class::Close;
    classes[b']' as usize] = Class::Close;
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_quote() {
        for text in
            [r#""""#, r#""a""#, r#""1234567""#, r#""12345678""#, r#""123456789 and more""#, r#""\"""#, r#""1234567\"""#, r#""\\\\""#]
        {
            for after in ["", ",", ", \"next\": \"value with \\\" in it\""] {
                let json = format!("{text}{after}");
                assert_eq!(end_of_string(json.as_bytes(), 0), text.len(), "{json}");
            }
        }
    }

    #[test]
    fn damaged_text_ends_early() {
        for json in ["\"", "\"a", "\"a\\", "\"12345678", "{", "[[", "{\"a\": [1, 2", "{\"a", "]", "12"] {
            assert!(end_of_string(json.as_bytes(), 0) <= json.len() + 1, "{json}");
            assert!(end_of_value(json.as_bytes(), 0).is_none_or(|end| end <= json.len() + 1), "{json}");
            assert_eq!(member(json.as_bytes(), b"b"), None, "{json}");
        }
    }

    #[test]
    fn the_last_member_of_a_name_is_found() {
        let json = r#" { "a" : {"b": [1, {"c": "}"}]} , "b":"x\"]", "c" : -1e5 , "b" :[ {"b": 0}, "]" ] } "#;
        let found = |name: &str| member(json.as_bytes(), name.as_bytes()).map(|(start, end)| &json[start..end]);
        assert_eq!(found("a"), Some(r#"{"b": [1, {"c": "}"}]}"#));
        assert_eq!(found("b"), Some(r#"[ {"b": 0}, "]" ]"#));
        assert_eq!(found("c"), Some("-1e5"));
        assert_eq!(found("d"), None);
        assert_eq!(member(b"{}", b"a"), None);
    }
}
