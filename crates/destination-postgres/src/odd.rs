//! JSON that Postgres refuses, made into JSON that it takes.
//!
//! `jsonb` has neither the character U+0000, nor half a character, nor numbers of any size; and no
//! type reads arrays of any depth. One such value would fail a `COPY` of all rows with it.

use crate::config::Json;

/// Arrays and objects inside each other. Postgres fails where its stack ends, which is a setting:
/// about 6,000 pass with the default of 2 MB.
const DEEPEST: usize = 1_000;

/// Digits of a number, and its exponent. `jsonb` keeps 131,072 digits before the point and 16,383
/// after it.
const LARGEST: usize = 1_000;

/// The JSON with what Postgres refuses replaced; none: it takes all of it. The character U+0000
/// becomes U+2400, half a character U+FFFD, and a number that is too large or a value that is too
/// deep becomes a string of its text.
pub(crate) fn mend(json: &str, as_type: Json) -> Option<String> {
    let mut mender = Mender {
        json,
        out: String::new(),
        copied: 0,
    };
    let (bytes, is_parsed) = (json.as_bytes(), as_type == Json::Jsonb);
    let (mut at, mut depth) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'"' => mender.string(at, is_parsed),
            b'{' | b'[' if depth == DEEPEST => mender.deep(at),
            b'{' | b'[' => {
                depth += 1;
                at + 1
            }
            b'}' | b']' => {
                depth -= 1;
                at + 1
            }
            b'-' | b'0'..=b'9' if is_parsed => mender.number(at),
            _ => at + 1,
        };
    }
    mender.finish()
}

struct Mender<'a> {
    json: &'a str,
    out: String,
    /// Up to where the text is in `out`, changed or not.
    copied: usize,
}

impl Mender<'_> {
    fn replace(&mut self, from: usize, to: usize, with: &str) {
        self.out.push_str(&self.json[self.copied..from]);
        self.out.push_str(with);
        self.copied = to;
    }

    fn finish(mut self) -> Option<String> {
        (self.copied > 0).then(|| {
            self.out.push_str(&self.json[self.copied..]);
            self.out
        })
    }

    /// Passes over the string that begins at a place, and returns where it ends.
    fn string(&mut self, start: usize, is_parsed: bool) -> usize {
        let bytes = self.json.as_bytes();
        let mut at = start + 1;
        while let Some(byte) = bytes.get(at) {
            at += match byte {
                b'"' => return at + 1,
                b'\\' if bytes.get(at + 1) == Some(&b'u') && is_parsed => self.escape(at),
                b'\\' => 2,
                _ => 1,
            };
        }
        at
    }

    /// Passes over an escaped character, and returns its length.
    fn escape(&mut self, at: usize) -> usize {
        match self.code(at) {
            Some(0) => self.replace(at, at + 6, "\\u2400"),
            Some(0xd800..=0xdbff) => {
                if let Some(0xdc00..=0xdfff) = self.code(at + 6) {
                    return 12;
                }
                self.replace(at, at + 6, "\\ufffd");
            }
            Some(0xdc00..=0xdfff) => self.replace(at, at + 6, "\\ufffd"),
            _ => {}
        }
        6
    }

    /// The number of the escaped character at a place, if there is one.
    fn code(&self, at: usize) -> Option<u32> {
        let digits = self.json.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self, start: usize) -> usize {
        let rest = &self.json[start..];
        let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let length = rest.find(|c| !is_of_number(c)).unwrap_or(rest.len());
        let text = &rest[..length];
        let exponent = text
            .split_once(['e', 'E'])
            .map_or(Some(0), |(_, exponent)| exponent.parse::<i32>().ok());
        let is_small = exponent.is_some_and(|exponent| exponent.unsigned_abs() as usize <= LARGEST);
        if length > LARGEST || !is_small {
            self.replace(start, start + length, &quoted(text));
        }
        start + length
    }

    /// Makes a string of the array or object that begins at a place, and returns where it ends.
    fn deep(&mut self, start: usize) -> usize {
        let bytes = self.json.as_bytes();
        let (mut at, mut depth) = (start, 0_usize);
        while let Some(byte) = bytes.get(at) {
            at = match byte {
                // What is inside is not parsed any more.
                b'"' => self.string(at, false),
                b'{' | b'[' => {
                    depth += 1;
                    at + 1
                }
                b'}' | b']' => {
                    depth -= 1;
                    at + 1
                }
                _ => at + 1,
            };
            if depth == 0 {
                break;
            }
        }
        self.replace(start, at, &quoted(&self.json[start..at]));
        at
    }
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| unreachable!("a text is a JSON string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_refuses_is_replaced_and_everything_else_stays() {
        for same in [
            r#"{"a":[1,-2.5e10,"x\"\\u0000 is text",null,true],"b":"\ud83d\ude00\u00e9"}"#,
            "1e400",
            r#""\\""#,
            "[]",
            "",
        ] {
            assert_eq!(mend(same, Json::Jsonb), None, "{same}");
        }
        for (json, mended) in [
            (r#"{"a\u0000":"\u0000b"}"#, r#"{"a\u2400":"\u2400b"}"#),
            (r#"["\ud800","\udc00x"]"#, r#"["\ufffd","\ufffdx"]"#),
            (r#"["\ud800\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
            ("[1e400000,2]", r#"["1e400000",2]"#),
            ("-1E-99999999999", r#""-1E-99999999999""#),
        ] {
            assert_eq!(mend(json, Json::Jsonb).as_deref(), Some(mended), "{json}");
            assert_eq!(mend(json, Json::Json), None, "{json}: the type keeps text");
        }
        let digits = "9".repeat(LARGEST + 1);
        assert_eq!(mend(&digits, Json::Jsonb), Some(format!("\"{digits}\"")));
    }

    #[test]
    fn what_is_too_deep_becomes_a_string() {
        let nested = |depth: usize, inner: &str| {
            format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth))
        };
        for as_type in [Json::Jsonb, Json::Json] {
            assert_eq!(mend(&nested(DEEPEST, "1"), as_type), None);
            let deep = nested(DEEPEST, r#"{"a":["]\u0000"]},2"#);
            let mended = nested(DEEPEST, r#""{\"a\":[\"]\\u0000\"]}",2"#);
            assert_eq!(mend(&deep, as_type), Some(mended));
        }
        let mended = mend(&nested(200_000, ""), Json::Jsonb).unwrap_or_default();
        let opened = mended.bytes().take_while(|byte| *byte == b'[').count();
        assert_eq!((opened, mended.as_bytes()[opened]), (DEEPEST, b'"'));
    }
}
