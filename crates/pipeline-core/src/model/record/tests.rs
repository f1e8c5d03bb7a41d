//! Tests of what records carry beside their text: it must not show whether a member was added, or
//! written by the vendor.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// Records with this text, one that nobody has read and one that was cut from a page.
fn both(json: &str) -> [RawRecord; 2] {
    let page = Bytes::from(format!("[ {json} ]"));
    let mut cut = split(&page, &[RecordPath::new("")]).unwrap().records;
    [RawRecord::upsert(json.to_owned()), cut.remove(0).remove(0)]
}

fn text(record: &RawRecord) -> String {
    String::from_utf8(record.as_bytes().into_owned()).unwrap()
}

/// What a record is after these additions, which must be the same however it was made and asked.
fn changed(json: &str, added: &[Added]) -> String {
    let [given, cut] = both(json).map(|record| added.iter().fold(record, RawRecord::with));
    assert_eq!(given, cut);
    agree(&cut);
    text(&cut)
}

/// Holds what a record says of its members against a record that has its text and nothing else.
fn agree(record: &RawRecord) {
    let json = text(record);
    let plain = RawRecord::upsert(json.clone());
    assert_eq!(record.len(), json.len());
    assert_eq!(record.text_in(&mut vec![1, 2]), json.as_bytes());
    let Ok(members) = plain.members() else {
        return;
    };
    assert_eq!(record.members().unwrap(), members);
    for (name, _) in &members {
        assert_eq!(record.member(name), plain.member(name), "{name} of {json}");
        assert_eq!(record.slice(name), plain.slice(name), "{name} of {json}");
        assert!(record.first_member(name).is_some(), "{name} of {json}");
    }
    assert_eq!(record.member("absent"), None);
    let Some(parts) = record.parts() else { return };
    let mut found = scan::Members::default();
    found.add(json.as_bytes(), scan::space(json.as_bytes(), 0));
    let expected = Parts::new(&json, &found).unwrap();
    let of = |parts: Parts<'_>| -> Vec<(Vec<u8>, String)> {
        let counted = (0..parts.len()).filter(|place| !parts.is_left_out(*place));
        let member = |place| {
            (
                parts.name(place).into_owned(),
                parts.value(place).to_owned(),
            )
        };
        counted.map(member).collect()
    };
    assert_eq!(of(parts), of(expected), "{json}");
}

#[test]
fn members_are_added_before_after_and_in_the_place_of_a_records_own() {
    let owner = || Added::before([("owner", "7"), ("id", "\"p\"")]);
    let account = || Added::after([("_account", "\"acct_1\"")]);
    let cases = [
        (r#"{"id":null,"a":1}"#, vec![owner()]),
        (r#"{ "a" : [ 1, 2 ] , "id" : 1 }"#, vec![owner(), account()]),
        ("{\n  \"a\": {\"b\": 1}\n}\n", vec![account()]),
        ("{ }", vec![account()]),
        ("{}", vec![owner()]),
        (r#"{"_account":"other","a":1}"#, vec![account()]),
        (
            r#"{"a":1,"list":{"data":[1],"more":true},"a":2}"#,
            vec![Added::instead([
                ("a", "[ 3 ]"),
                ("list", r#"{"data": [1, 2]}"#),
                ("none", "0"),
            ])],
        ),
        (
            r#"{"id":1,"secret":"s","name":"n","secret":2}"#,
            vec![Added::without(&["secret", "none"]), account()],
        ),
        (
            r#"{"id":1}"#,
            vec![owner(), account(), Added::without(&["owner", "id"])],
        ),
        (
            r#"{"id":1}"#,
            vec![
                owner(),
                account(),
                Added::instead([("owner", "8"), ("_account", "null"), ("id", "9")]),
            ],
        ),
        (r#"{"gr\u00f6\u00dfe":1,"a":"\u00e9"}"#, vec![owner()]),
        (r#"{"gr\u00f6\u00dfe":1}"#, vec![account()]),
        ("[1]", vec![owner(), account()]),
        ("\"text\"", vec![owner(), account()]),
    ];
    let shown = cases.map(|(json, added)| format!("{json:?}\n    {}", changed(json, &added)));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_is_added_is_what_is_read() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row<'a> {
        id: u64,
        owner: Option<&'a str>,
        gone: Option<u64>,
        #[serde(default)]
        absent: bool,
    }
    let [_, record] = both(r#"{"id":1,"gone":2}"#);
    let record = record
        .with(&Added::before([("owner", "\"o\"")]))
        .with(&Added::instead([("gone", "null")]));
    let expected = Row {
        id: 1,
        owner: Some("o"),
        gone: None,
        absent: false,
    };
    assert_eq!(record.deserialize::<Row<'_>>().unwrap(), expected);
    assert!(record.deserialize::<BTreeMap<String, u64>>().is_err());
    assert_eq!(record.scalar("owner").as_deref(), Some("o"));
}

#[test]
fn records_of_one_parent_share_what_was_added() {
    let parent = Added::before([("owner", "1")]);
    let children = ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"].map(|json| {
        let [_, child] = both(json);
        child.with(&parent)
    });
    let account = Added::after([("_account", "\"x\"")]);
    let all = RawRecord::all_with(children.to_vec(), &account);
    assert_eq!(text(&all[2]), r#"{"owner":1,"a":3,"_account":"x"}"#);
    let added = |index: usize| all[index].added.as_ref().unwrap();
    assert!(added(0).is_same(added(1)) && added(1).is_same(added(2)));
}

#[test]
fn a_composed_record_is_what_its_members_say() {
    let source = Bytes::from_static(
        br#"{"time":17,"$city":"Z\u00fcrich","tags":[ 1, {"a" : 2} ],"plain":[1]}"#,
    );
    let value = |part: &str| {
        let text = std::str::from_utf8(&source).unwrap();
        &text[text.find(part).unwrap()..][..part.len()]
    };
    let mut composer = Composer::of(source.clone());
    composer.add("key", "\"k\"");
    composer.add("time", value("17"));
    composer.add("city", value(r#""Z\u00fcrich""#));
    composer.add("tags", value(r#"[ 1, {"a" : 2} ]"#));
    composer.add_compact("plain", value("[1]"));
    composer.add("own", "[ 3 , 4 ]");
    composer.add("na\"me", "null");
    let record = composer.build();
    let expected = r#"{"key":"k","time":17,"city":"Z\u00fcrich","tags":[ 1, {"a" : 2} ],"plain":[1],"own":[ 3 , 4 ],"na\"me":null}"#;
    assert_eq!(text(&record), expected);
    agree(&record);
    assert_eq!(record.parts().unwrap().value(3), r#"[1,{"a":2}]"#);
    assert_eq!(record.parts().unwrap().value(5), "[3,4]");
    // Nothing is left of the text but where it was: what has to be copied takes all with it.
    let mut referring = Composer::of(source.clone());
    referring.add("city", value(r#""Z\u00fcrich""#));
    let referring = referring.build();
    let city = referring.member("city").unwrap().as_ptr();
    assert!(source.as_ptr_range().contains(&city), "the value is copied");
    let with = record.with(&Added::after([("_account", "1")]));
    assert_eq!(
        text(&with),
        format!("{},\"_account\":1}}", &expected[..expected.len() - 1])
    );
    agree(&with);
    assert_eq!(text(&Composer::default().build()), "{}");
}

/// Values as vendors write them, with white space between their parts and without.
fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "1",
        "null",
        "\"a\\\"b\"",
        "\"é\"",
        "{}",
        "[ ]",
        "{\"a\": [1, 2 ]}",
        "[{\"b\":null}]",
    ])
    .prop_map(str::to_owned)
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "d\\u0065", "e"])
}

proptest! {
    /// Whatever is added in whichever order, all who look at the record see the same.
    #[test]
    fn all_see_the_same_record(
        own in prop::collection::vec((names(), value()), 0..6),
        added in prop::collection::vec((0..4_u8, prop::collection::vec((names(), value()), 0..3)), 0..4),
        space in prop::sample::select(vec!["", " ", "\n  "]),
    ) {
        let members: Vec<String> = own.iter().map(|(name, value)| format!("{space}\"{name}\":{space}{value}")).collect();
        let json = format!("{{{}{space}}}", members.join(","));
        let added: Vec<Added> = added
            .iter()
            .map(|(kind, members)| {
                let members = members.iter().map(|(name, value)| (*name, value.as_str()));
                match kind {
                    0 => Added::before(members),
                    1 => Added::after(members),
                    2 => Added::instead(members),
                    _ => Added::without(&members.map(|(name, _)| name).collect::<Vec<_>>()),
                }
            })
            .collect();
        let expected = added.iter().fold(json.clone(), |json, added| rewritten(&json, added));
        let shown = changed(&json, &added);
        let meaning = |json: &str| serde_json::from_str::<BTreeMap<String, serde_json::Value>>(json).unwrap();
        prop_assert_eq!(meaning(&shown), meaning(&expected), "{} with {:?}", json, added);
    }
}

/// The record as it would be if each addition were written into its text, and read again.
fn rewritten(json: &str, added: &Added) -> String {
    text(&RawRecord::upsert(json.to_owned()).with(added))
}
