//! Tests of the one scan: it finds what a parser finds, and judges as a parser judges.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::json::is_object;

/// Names and values as Mixpanel writes them, and as they should not be written.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "event",
        "properties",
        "error",
        "time",
        "$insert_id",
        "distinct_id",
        "plan",
        "gr\\u00f6\\u00dfe",
        "\\u0065vent",
        "",
    ])
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "-0.5e3",
        "null",
        "\"Buy\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"é\"",
        "true",
        "{}",
        "[ ]",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(2, 8, 4, |inner| {
            let members = prop::collection::vec((name(), inner.clone()), 0..4);
            prop_oneof![
                object(members),
                prop::collection::vec(inner, 0..3).prop_map(|list| format!("[{}]", list.join(","))),
            ]
        })
}

/// An object, written with white space or without.
fn object(
    members: impl Strategy<Value = Vec<(&'static str, String)>>,
) -> impl Strategy<Value = String> {
    (members, prop::sample::select(vec!["", " "])).prop_map(|(members, space)| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!("{space}\"{name}\":{space}{value}"))
            .collect();
        format!("{{{}{space}}}", members.join(","))
    })
}

/// A line, mostly of an event.
fn line() -> impl Strategy<Value = String> {
    let properties = prop::collection::vec((name(), value()), 0..6);
    let event = object(properties)
        .prop_map(|properties| vec![("event", "\"Buy\"".to_owned()), ("properties", properties)]);
    let more = prop::collection::vec((name(), value()), 0..3);
    object((event, more).prop_map(|(event, more)| [event, more].concat()))
}

/// What a parser finds in an object; the last of a name counts.
fn parsed(json: &str) -> Option<BTreeMap<String, &str>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
    Some(
        members
            .into_iter()
            .map(|(name, value)| (name, value.get()))
            .collect(),
    )
}

fn last<'t>(members: &Members<'t>) -> BTreeMap<String, &'t str> {
    members
        .iter()
        .map(|(name, value)| (name.clone().into_owned(), *value))
        .collect()
}

fn shown(verdict: Result<bool>) -> String {
    match verdict {
        Ok(is_event) => is_event.to_string(),
        Err(error) => format!("{error} {:?} {}", error.kind(), error.is_temporary()),
    }
}

proptest! {
    #[test]
    fn one_scan_finds_what_a_parser_finds(line in line()) {
        let found = Line::read(&line);
        let Some(mut members) = parsed(&line) else {
            prop_assert!(found.is_err(), "{line}");
            return Ok(());
        };
        let (event, properties) = (members.remove("event"), members.remove("properties"));
        let is_event = event.is_some_and(|name| name.starts_with('"')) && properties.is_some_and(is_object);
        // A name that no text can hold is one that a parser refuses, wherever it stands.
        let is_readable = properties.is_none_or(|json| !is_object(json) || parsed(json).is_some());
        prop_assert_eq!(found.is_ok(), is_event && is_readable, "{}", line);
        let Ok(found) = found else { return Ok(()) };
        prop_assert_eq!(Some(found.event), event);
        prop_assert_eq!(Some(found.text), properties);
        prop_assert_eq!(last(&found.others), members);
        prop_assert_eq!(last(&found.properties), parsed(found.text).unwrap());
        let space = |json: &str| pipeline_core::json::scan::packed(json.as_bytes(), 0).unwrap();
        prop_assert_eq!((found.text.len(), found.is_compact), space(found.text), "{}", line);
    }

    /// The quick look at a line must not find an event where the thorough one finds none.
    #[test]
    fn lines_are_judged_as_a_parser_judges_them(line in line(), at in any::<prop::sample::Index>(), byte in any::<Option<u8>>()) {
        let mut line = line.into_bytes();
        if let Some(byte) = byte {
            let at = at.index(line.len());
            line[at] = byte;
        }
        prop_assert_eq!(shown(judge::is_event(&line)), shown(judge::judge(&line)), "{}", String::from_utf8_lossy(&line));
    }

    #[test]
    fn a_string_means_what_a_parser_reads(json in value(), text in "[\"a \\\\\nn]{0,6}") {
        for json in [json, text] {
            let read = serde_json::from_str::<String>(&json).unwrap_or_else(|_| json.clone());
            prop_assert_eq!(meant(&json), read);
        }
    }

    #[test]
    fn a_day_is_written_as_it_is_everywhere(days in -800_000..4_000_000_i32) {
        let day = NaiveDate::from_num_days_from_ce_opt(days).unwrap();
        prop_assert_eq!(day_text(day), format!("\"{day}\""));
    }
}
