//! Tests of cutting a body into records: all of them or an error, and never a copy.

use bytes::Bytes;
use proptest::prelude::*;

use crate::{Envelope, ErrorKind, RawRecord, RecordPath, Result, Split, split};

fn cut(body: &str, paths: &[&str]) -> Result<Split> {
    let paths: Vec<RecordPath> = paths.iter().map(|path| RecordPath::new(path)).collect();
    split(&Bytes::copy_from_slice(body.as_bytes()), &paths)
}

fn texts(records: &[RawRecord]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8(record.as_bytes().to_vec()).unwrap())
        .collect()
}

/// The records of one path, or the message of the error.
fn found(body: &str, path: &str) -> Result<String, String> {
    let split = cut(body, &[path]).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Decode);
        error.message().to_owned()
    })?;
    Ok(texts(&split.records[0]).join(" | "))
}

#[test]
fn records_are_found_by_their_path() {
    for (body, path, expected) in [
        (
            r#"{"data":[{"id":1},{"id":2}],"more":true}"#,
            "data",
            r#"{"id":1} | {"id":2}"#,
        ),
        (
            r#"{"data":[{"id":1},{"id":2}]}"#,
            "/data",
            r#"{"id":1} | {"id":2}"#,
        ),
        (
            r#"{ "data" : [ {"id" : 1} , {"id":2} ] } "#,
            "data",
            r#"{"id" : 1} | {"id":2}"#,
        ),
        (r#"{"d\u0061ta":[1]}"#, "data", "1"),
        (r#"{"a":{"b":{"c":[1,2]}}}"#, "a/b/c", "1 | 2"),
        (r#"{"data":[]}"#, "data", ""),
        (r#"{"data": {"id":1} }"#, "data", r#"{"id":1}"#),
        (
            r#"[{"id":1},[2],"3",null]"#,
            "",
            r#"{"id":1} | [2] | "3" | null"#,
        ),
        (r#" {"id":1} "#, "", r#"{"id":1}"#),
        ("[]", "", ""),
        (
            r#"{"tickets":[{"m":{"id":1}},{"m":null},{},{"m":{"id":2}}]}"#,
            "tickets/*/m",
            r#"{"id":1} | {"id":2}"#,
        ),
        (
            r#"{"tickets":[{"tags":[1,2]},{"tags":[]},{"tags":[3]}]}"#,
            "tickets/*/tags",
            "1 | 2 | 3",
        ),
        (
            r#"{"a":[{"b":[{"c":{"d":1}}]},{"b":null}]}"#,
            "a/*/b/*/c",
            r#"{"d":1}"#,
        ),
        (r#"{"tickets":[{"m":{}}]}"#, "tickets/*/m", "{}"),
        (r#"{"tickets":[{"tags":null},{}]}"#, "tickets/*/tags", ""),
        (r#"[{"m":{"id":1}}]"#, "*/m", r#"{"id":1}"#),
        (r#"{"data":[1],"data":[2,3]}"#, "data", "2 | 3"),
        (r#"{"data":null,"data":[1]}"#, "data", "1"),
        ("\u{feff}{\"data\":[1]}", "data", "1"),
        ("\u{feff}[1]", "", "1"),
        (
            r#"{"data":["]","\"]",{"a":"}"}]}"#,
            "data",
            r#""]" | "\"]" | {"a":"}"}"#,
        ),
    ] {
        assert_eq!(
            found(body, path).as_deref(),
            Ok(expected),
            "{path} in {body}"
        );
    }
}

#[test]
fn a5_a_damaged_body_is_refused_as_a_whole_and_null_is_not_an_empty_list() {
    let (not_json, no_records) = (
        "the response is not the JSON that the vendor documents",
        "the response has no records where the vendor documents them",
    );
    for (body, path, message) in [
        ("", "data", not_json),
        ("<html><body>Bad gateway</body></html>", "data", not_json),
        ("<html>", "", not_json),
        (r#"{"data":[{"id":1},{"id":2}"#, "data", not_json),
        (r#"{"data":[{"id":1},{"id":2}]"#, "data", not_json),
        (r#"{"data":[{"id":1},{"id":"#, "data", not_json),
        (r#"[{"id":1},"#, "", not_json),
        (r#"{"data":[1]}{"#, "data", not_json),
        (r#"{"data":[1]} x"#, "data", not_json),
        ("{} x", "", not_json),
        ("[1] x", "", not_json),
        (r#"{"data":[1,]}"#, "data", not_json),
        (r#"{"data":[1],}"#, "data", not_json),
        (r#"{"other":[1]}"#, "data", no_records),
        ("{}", "data", no_records),
        ("{}", "", no_records),
        ("null", "", no_records),
        (r#"{"data":null}"#, "data", no_records),
        (r#"{"data": {} }"#, "data", no_records),
        (r#"{"data":[1],"data":null}"#, "data", no_records),
        (r#"{"tickets":null}"#, "tickets/*/m", no_records),
        (r#"{"a":{"b":null}}"#, "a/b", no_records),
        ("[1]", "data", no_records),
        (r#"{"data":1}"#, "data", no_records),
        (r#"{"data":"x"}"#, "data", no_records),
        (r#""x""#, "", no_records),
        (r#"{"a":{}}"#, "a/b", no_records),
        (r#"{"a":null}"#, "a/b", no_records),
        (r#"{"a":[1]}"#, "a/b", no_records),
        (r#"{"a":{"b":1}}"#, "a/*", no_records),
        (r#"{"a":[1]}"#, "a/*/b", no_records),
    ] {
        assert_eq!(found(body, path).unwrap_err(), message, "{path} in {body}");
    }
    assert_eq!(
        split(
            &Bytes::from_static(b"{\"data\":[\"\xff\"]}"),
            &[RecordPath::new("data")]
        )
        .unwrap_err()
        .kind(),
        ErrorKind::Decode
    );
}

#[test]
fn several_paths_share_one_body() {
    let body = r#"{"tickets":[{"id":1,"m":{"id":11}},{"id":2,"m":{"id":12}}],"users":[{"id":3}],"count":2}"#;
    let split = cut(body, &["tickets", "tickets/*/m", "users"]).unwrap();
    assert_eq!(
        texts(&split.records[0]),
        [r#"{"id":1,"m":{"id":11}}"#, r#"{"id":2,"m":{"id":12}}"#]
    );
    assert_eq!(texts(&split.records[1]), [r#"{"id":11}"#, r#"{"id":12}"#]);
    assert_eq!(texts(&split.records[2]), [r#"{"id":3}"#]);
    assert_eq!(split.envelope.text("count").as_deref(), Some("2"));
    let twice = cut(body, &["users", "users"]).unwrap();
    assert_eq!(texts(&twice.records[0]), texts(&twice.records[1]));
}

#[test]
fn records_are_slices_of_the_body() {
    let body = Bytes::from(
        r#" {"data": [ {"id":1}, {"id":2} ], "deep": {"list": [{"m": {"id":3}}]}, "one": {"id":4}}"#,
    );
    let paths = ["data", "deep/list", "deep/list/*/m", "one", ""].map(RecordPath::new);
    let split = split(&body, &paths).unwrap();
    let inside = body.as_ptr_range();
    for record in split.records.iter().flatten() {
        assert!(
            inside.contains(&record.as_bytes().as_ptr()),
            "{record:?} is a copy"
        );
    }
    assert!(inside.contains(&split.envelope.get("deep/list").unwrap().as_ptr()));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let split = cut(&format!(r#"{{"data":[{deep}],"more":{deep}}}"#), &["data"]).unwrap();
    assert_eq!(split.records[0][0].as_bytes(), deep.as_bytes());
    assert!(cut(&"[".repeat(200_000), &["data"]).is_err());
    assert!(
        cut(
            &format!(r#"{{"a":{}"#, "{\"a\":".repeat(200_000)),
            &["data"]
        )
        .is_err()
    );
}

fn envelope(body: &str) -> Envelope {
    cut(body, &[]).unwrap().envelope
}

#[test]
fn the_envelope_is_asked_by_path() {
    let envelope = envelope(
        r#"{"s":"a\nb","n":1.50,"t":true,"f":false,"z":null,"e":"","m":{"c":"x","d":{"e":[1 ,2]}},"r":1,"r":2,"k\u0065y":7}"#,
    );
    let texts = [
        "s", "n", "t", "z", "e", "m", "m/c", "m/d/e", "m/x", "s/x", "absent", "r", "key", "",
    ]
    .map(|path| envelope.text(path));
    let expected = [
        Some("a\nb"),
        Some("1.50"),
        None,
        None,
        Some(""),
        None,
        Some("x"),
        None,
        None,
        None,
        None,
        Some("2"),
        Some("7"),
        None,
    ];
    assert_eq!(texts.each_ref().map(Option::as_deref), expected);
    assert_eq!(
        ["t", "f", "z", "n", "s", "absent"].map(|path| envelope.flag(path)),
        [Some(true), Some(false), None, None, None, None]
    );
    assert_eq!(envelope.get("m/d/e").as_deref(), Some(&b"[1 ,2]"[..]));
}

#[test]
fn members_of_a_record_are_read_one_at_a_time() {
    let record = RawRecord::upsert(
        r#"{"id":12345678901234567890,"name":"caf\u00e9","gone":null,"o":{"id":2},"id2":1,"id2":"last"}"#,
    );
    let scalars = ["id", "name", "gone", "o", "id2", "absent"].map(|name| record.scalar(name));
    assert_eq!(
        scalars.each_ref().map(Option::as_deref),
        [
            Some("12345678901234567890"),
            Some("café"),
            None,
            None,
            Some("last"),
            None
        ]
    );
    assert_eq!(record.member("o"), Some(r#"{"id":2}"#));
    assert_eq!(RawRecord::upsert("[1]").member("id"), None);
    assert_eq!(RawRecord::upsert(r#"{"id":1"#).member("id"), None);
    assert!(
        record
            .deserialize::<Vec<u8>>()
            .is_err_and(|error| error.kind() == ErrorKind::Decode)
    );
}

fn any_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let object = prop::collection::btree_map(any::<String>(), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|members| Value::Object(members.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn cutting_undoes_joining(values in prop::collection::vec(any_value(), 0..12), pretty in any::<bool>()) {
        let body = serde_json::json!({"before": {"data": 1}, "data": &values, "after": ["]"]});
        let body = if pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        let array = if pretty { serde_json::to_string_pretty(&values).unwrap() } else { serde_json::to_string(&values).unwrap() };
        for (body, path) in [(&body, "data"), (&array, "")] {
            let split = cut(body, &[path]).unwrap();
            let records: Vec<serde_json::Value> = split.records[0].iter().map(|record| record.deserialize().unwrap()).collect();
            prop_assert_eq!(&records, &values);
        }
    }

    #[test]
    fn no_part_of_a_body_counts_as_a_whole_one(values in prop::collection::vec(any_value(), 0..6), at in any::<prop::sample::Index>()) {
        let body = serde_json::json!({"data": values, "more": false}).to_string();
        let cut_at = (0..=at.index(body.len())).rev().find(|at| body.is_char_boundary(*at)).unwrap();
        prop_assert!(cut(&body[..cut_at], &["data"]).is_err());
    }
}

#[test]
fn a_member_of_a_cut_record_is_that_of_a_given_one() {
    for json in [
        r#"{"id": "a", "list" : {"id": 1, "more": false}, "id": "b", "empty": {}}"#,
        r#"{"i\u0064": "escaped", "text": "\"id\": 5"}"#,
        r#"{"id":-1.5e3,"list":[{"id":"]}"}]}"#,
        "{}",
    ] {
        let given = RawRecord::upsert(json);
        let cut = cut(&format!("[{json}]"), &[""]).unwrap().records[0][0].clone();
        for name in ["id", "list", "text", "empty", "more", "none"] {
            assert_eq!(cut.member(name), given.member(name), "{name} of {json}");
        }
    }
}
