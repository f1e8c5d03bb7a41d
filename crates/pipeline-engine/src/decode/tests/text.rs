//! Whatever stands in the strings of an answer, columns of text are Unicode and columns of JSON are
//! JSON to every reader.

use pipeline_core::json::mend::mend;

use super::*;

/// A string as vendors write them: plain, with escapes, and cut in the middle of an escape's pair.
fn string() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "é",
        "\u{1F600}",
        "\\ud83d",
        "\\uDE00",
        "\\uD83D\\ude00",
        "\\u0000",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\ufffd",
        "ud83d",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A value with names of its own that occur twice, and numbers that no double holds exactly.
fn value() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec![
        "0",
        "-0",
        "1.50",
        "1e300",
        "-12345678901234567890123456789.5",
        "null",
        "true",
    ]);
    let leaf = prop_oneof![string(), number.prop_map(str::to_owned)];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let members = prop::collection::vec((string(), inner.clone()), 0..4);
        let object = members.prop_map(|members| {
            let members: Vec<String> = members
                .into_iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            format!("{{ {} }}", members.join(" , "))
        });
        prop_oneof![
            prop::collection::vec(inner, 0..4)
                .prop_map(|values| format!("[{}]", values.join(", "))),
            object
        ]
    })
}

proptest! {
    #[test]
    fn columns_can_be_read_whatever_the_strings_hold(json in value(), text in string(), (name, other) in (string(), value()), id in string()) {
        let record = format!("{{\"id\":{id},\"json\":{json},\"text\":{text},{name}:{other},{name}:1}}");
        let (mended, count) = mend(bytes::Bytes::from(record.clone()));
        prop_assert_eq!(count == 0, serde_json::from_str::<serde_json::Value>(&record).is_ok(), "{}", record);
        let batch = decode(mended).map_err(|rejection| TestCaseError::fail(format!("{rejection}: {record}")))?;
        for column in ["json", EXTRA] {
            let column = batch.column_by_name(column).unwrap().as_string::<i32>();
            if column.is_valid(0) {
                let read = serde_json::from_str::<serde_json::Value>(column.value(0));
                prop_assert!(read.is_ok(), "{}: {:?}", column.value(0), read);
            }
        }
        prop_assert!(batch.column_by_name("text").unwrap().is_valid(0), "a string is text: {}", record);
        prop_assert!(batch.column_by_name("id").unwrap().is_valid(0), "a string is a key: {}", record);
    }
}
