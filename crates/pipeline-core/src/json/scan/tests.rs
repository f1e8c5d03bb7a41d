//! Tests of the proof: what `serde_json` accepts is accepted, what it refuses is refused, and
//! members stand where it finds them.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::RawRecord;

/// True when the text is one JSON value with white space around it.
fn is_json(text: &[u8]) -> bool {
    let end = value(text, space(text, 0)).map(|end| space(text, end));
    end == Some(text.len())
}

/// Holds the proof against `serde_json`, and what was found against what that finds.
fn agree(text: &[u8]) {
    let reference = serde_json::from_slice::<&RawValue>(text);
    assert_eq!(
        is_json(text),
        reference.is_ok(),
        "{:?}: {reference:?}",
        String::from_utf8_lossy(text)
    );
    let start = space(text, 0);
    if text.get(start) != Some(&b'{') {
        return;
    }
    let mut found = Members::default();
    let end = found.add(text, start).map(|end| space(text, end));
    assert_eq!(
        end == Some(text.len()),
        reference.is_ok(),
        "{:?}",
        String::from_utf8_lossy(text)
    );
    // A name with half a surrogate pair is one that `serde_json` skips, and does not read.
    let Ok(expected) = RawRecord::upsert(text.to_vec()).members().map(|members| {
        members
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.to_owned()))
            .collect::<Vec<_>>()
    }) else {
        return;
    };
    if reference.is_err() {
        return;
    }
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let members: Vec<_> = found
        .all
        .iter()
        .map(|member| (utf8(&member.key.name(text)), utf8(member.value.of(text))))
        .collect();
    assert_eq!(members, expected);
    for member in &found.all {
        let value = utf8(member.value.of(text));
        match member.compact {
            Some(compact) => assert_eq!(utf8(compact.of(&found.compact)), without_space(&value)),
            None => assert!(!value.starts_with(['{', '[']) || without_space(&value) == value),
        }
    }
}

/// The text without the white space between its tokens.
fn without_space(json: &str) -> String {
    let (mut out, mut is_string, mut is_escaped) = (String::new(), false, false);
    for character in json.chars() {
        if is_string || !matches!(character, ' ' | '\n' | '\r' | '\t') {
            out.push(character);
        }
        is_string ^= character == '"' && !is_escaped;
        is_escaped = is_string && character == '\\' && !is_escaped;
    }
    out
}

/// Each with white space, in an array and as a member, and far from and near to the end of the
/// text.
fn agree_everywhere(text: &[u8]) {
    for (before, after) in [
        ("", ""),
        (" \n\t\r", "\n                      \n "),
        ("[", "]"),
        ("[\n  1,\n  ", "\n]"),
        ("{\"a\":", "}"),
        ("{\n  \"a\" : ", ",\n  \"b\": {\n    \"c\": [ ]\n  }\n}"),
        (
            "{\"a\":{\"b\": ",
            "}, \"a string that is longer than a block\": null}",
        ),
    ] {
        agree(&[before.as_bytes(), text, after.as_bytes()].concat());
    }
}

#[test]
fn hostile_texts_are_judged_as_serde_json_judges_them() {
    let texts: [&[u8]; 79] = [
        b"",
        b" ",
        b"null",
        b"nul",
        b"nulll",
        b"nullx",
        b"true",
        b"tru",
        b"false",
        b"falsey",
        b"NaN",
        b"Infinity",
        b"undefined",
        b"None",
        b"0",
        b"-0",
        b"-",
        b"+1",
        b"01",
        b"007",
        b"-01",
        b"00",
        b"0.0",
        b"0.",
        b".5",
        b"1.",
        b"1.e5",
        b"1.5",
        b"1.5.5",
        b"1e",
        b"1e+",
        b"1e-",
        b"1e5",
        b"1E+5",
        b"1e-05",
        b"1e400",
        b"-1e-400",
        b"1e5.5",
        b"18446744073709551616",
        b"123456789012345678901234567890",
        b"0x10",
        b"1_0",
        b"1 2",
        b"\"",
        b"\"\"",
        b"\"a",
        b"\"a\\\"",
        b"\"\\\\\"",
        b"\"\\a\"",
        b"\"\\u12\"",
        b"\"\\u123g\"",
        b"\"\\u0041\"",
        b"\"\\ud800\"",
        b"\"\\udc00\\ud800\"",
        b"\"tab\there\"",
        b"\"line\nbreak\"",
        b"\"nul\0\"",
        b"\"delete\x7f\"",
        b"'a'",
        b"\"\xff\"",
        b"\"\xc3\xa9\"",
        b"\"\xc3\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xf4\x90\x80\x80\"",
        b"\"a string of sixteen\xff\"",
        b"\xef\xbb\xbf1",
        b"\xc2\xa01",
        b"\x0c1",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[[]",
        b"[]]",
        b"{\"a\":1,}",
        b"{\"a\"}",
        b"{a:1}",
        b"{\"a\":1,\"a\":2}",
        b"[}",
        b"{]",
    ];
    for text in texts {
        agree_everywhere(text);
    }
    for text in [
        "{\"a\" 1}",
        "{1:2}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "{\"\\ud800\":1}",
        "{\"\\u0061\":1}",
        "{\"\\x\":1}",
        "[1]/**/",
        "[1]//",
        "{} {}",
    ] {
        agree_everywhere(text.as_bytes());
    }
}

#[test]
fn strings_end_at_their_quote_wherever_a_block_ends() {
    for length in 0..40 {
        for special in ["", "\\\"", "\\\\", "\\u00e9", "é", "\u{7f}", "\u{1f}", "\""] {
            for at in 0..=length {
                agree_everywhere(
                    format!("\"{}{special}{}\"", "x".repeat(at), "y".repeat(length - at))
                        .as_bytes(),
                );
            }
        }
    }
}

#[test]
fn no_depth_exhausts_the_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[ {\"a\": ", "} ]")] {
        let deep = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
        assert!(is_json(deep.as_bytes()));
        assert!(!is_json(&deep.as_bytes()[..deep.len() - 1]));
        assert!(!is_json(&deep.as_bytes()[..deep.len() / 2]));
    }
}

#[test]
fn buffers_are_used_again_and_hold_nothing_of_the_text_before() {
    let found = |text: &[u8]| {
        let mut members = Members::with_room_for(text.len());
        assert_eq!((members.all.len(), members.compact.len()), (0, 0));
        members.add(text, 0).unwrap();
        members
    };
    let text = br#"{ "a": [ 1, 2 ], "b": { "c": null } }"#;
    let first = found(text);
    let buffers = (first.all.as_ptr(), first.compact.as_ptr());
    Members::recycle(first.all, first.compact);
    Members::recycle(Vec::new(), Vec::new());
    let second = found(text);
    assert_eq!((second.all.as_ptr(), second.compact.as_ptr()), buffers);
    assert_eq!(second.compact, br#"[1,2]{"c":null}"#);
    let huge = Vec::with_capacity(SPARE_BYTES + 1);
    Members::recycle(second.all, huge);
    assert_ne!(found(text).compact.capacity(), SPARE_BYTES + 1);
}

/// Pieces of which texts are made that are nearly JSON.
fn piece() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"{"[..],
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\"a\"",
        b"\"b\":",
        b"\"long enough for a block\"",
        b"\\u00e9",
        b"\\n",
        b"1",
        b"-0.5e3",
        b"0",
        b".",
        b"e",
        b"-",
        b"true",
        b"false",
        b"null",
        b" ",
        b"\n",
        b"\n                 ",
        b"\t",
        b"\r",
        b"\x01",
        b"\xc3\xa9",
        b"\xff",
        b"{}",
        b"[]",
        b", ",
    ])
}

/// Valid JSON, pretty-printed or not.
fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-12.5e+10".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        let space = prop::sample::select(vec![
            "",
            " ",
            "\n",
            "\n      ",
            "\n                        ",
            "\r\n\t",
        ]);
        (
            prop::collection::vec((any::<String>(), inner), 0..6),
            any::<bool>(),
            space,
        )
            .prop_map(|(values, is_object, space)| {
                let mut json = String::from(if is_object { "{" } else { "[" });
                for (index, (name, value)) in values.iter().enumerate() {
                    json.push_str(if index > 0 { "," } else { "" });
                    if is_object {
                        write!(
                            json,
                            "{space}{}{space}:",
                            serde_json::to_string(name).unwrap()
                        )
                        .unwrap();
                    }
                    write!(json, "{space}{value}{space}").unwrap();
                }
                json.push(if is_object { '}' } else { ']' });
                json
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn texts_of_any_pieces_are_judged_as_serde_json_judges_them(pieces in prop::collection::vec(piece(), 0..24)) {
        agree(&pieces.concat());
        agree(&[b"{\"a\":", &*pieces.concat(), b"}"].concat());
    }

    #[test]
    fn documents_and_damaged_ones_are_judged_as_serde_json_judges_them(
        json in document(), at in any::<prop::sample::Index>(), byte in any::<u8>(), piece in piece(),
    ) {
        agree(json.as_bytes());
        let at = at.index(json.len());
        let mut changed = json.clone().into_bytes();
        changed[at] = byte;
        agree(&changed);
        changed.splice(at..=at, piece.iter().copied());
        agree(&changed);
        agree(&json.as_bytes()[..at]);
    }
}
