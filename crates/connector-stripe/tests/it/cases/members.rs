//! Members of records that are not as the specification has them.

use std::collections::BTreeMap;

use pipeline_core::RawRecord;
use pipeline_engine::cell::Column;
use pipeline_engine::decode::Decoder;

/// The row of a charge with these members.
fn charge(members: &str) -> BTreeMap<String, String> {
    let (mut row, mut text) = (BTreeMap::new(), String::new());
    let mut decoder = charges(members);
    for column in Column::of(&decoder.finish().unwrap().unwrap()).unwrap() {
        column.cell(0).push_text(&mut text);
        row.insert(column.name().to_owned(), std::mem::take(&mut text));
    }
    row
}

/// The members of a charge that did not go to their column, and how many.
fn drift(members: &str) -> Vec<(String, u64)> {
    charges(members)
        .drift()
        .into_iter()
        .map(|drift| (drift.field.clone(), drift.count))
        .collect()
}

/// What has decoded a charge with these members.
pub(super) fn charges(members: &str) -> Decoder {
    let charges = connector_stripe::tables::stream("charges").unwrap();
    let mut decoder = Decoder::new(&charges.streams[0].schema(), &["id".into()]);
    let now = "2026-01-31T00:00:00Z".parse().unwrap();
    decoder
        .push(
            &RawRecord::upsert(format!(r#"{{"id":"ch_1",{members}}}"#)),
            now,
        )
        .unwrap();
    decoder
}

#[test]
fn c44_an_object_in_the_place_of_an_id_gives_the_id() {
    let expanded =
        r#""customer":{"id":"cus_1","object":"customer","name":"Jo"},"payment_intent":"pi_1""#;
    let row = charge(expanded);
    assert_eq!(
        (&*row["customer"], &*row["payment_intent"]),
        ("cus_1", "pi_1")
    );
    assert_eq!(
        row["_extra"], r#"{"customer":{"id":"cus_1","object":"customer","name":"Jo"}}"#,
        "and nothing of the object is lost"
    );
    assert_eq!(drift(expanded), [("customer".to_owned(), 1)]);
}

#[test]
fn c45_a_new_member_is_kept_and_a_new_value_of_an_enumeration_passes() {
    assert_eq!(drift(r#""hologram":{"a":1}"#), [("hologram".to_owned(), 1)]);
    assert!(drift(r#""status":"teleported""#).is_empty());
    let row = charge(r#""hologram":{"a":1},"status":"teleported""#);
    assert_eq!(
        (&*row["_extra"], &*row["status"]),
        (r#"{"hologram":{"a":1}}"#, "teleported")
    );
}

#[test]
fn c46_a_value_of_another_type_is_kept_and_counted() {
    for (field, value) in [
        ("billing_details", r#""none""#),
        ("metadata", "[]"),
        ("amount", r#"{"value":1}"#),
    ] {
        let members = format!("\"{field}\":{value}");
        assert_eq!(drift(&members), [(field.to_owned(), 1)]);
        let row = charge(&members);
        assert_eq!(
            (&*row[field], &*row["_extra"]),
            ("", &*format!("{{{members}}}"))
        );
    }
}
