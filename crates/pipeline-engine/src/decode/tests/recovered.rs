//! Whatever a record holds, all of it can be recovered from its row.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// JSON text of any value: odd numbers, escapes and white space included.
pub(super) fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}")),
        any_string(),
        "\"[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:00)?)?\"",
        (0..4_000_000_000_000_i64).prop_map(|value| value.to_string()),
        "\"-?[0-9]{1,9}(\\.[0-9]{0,3})?\"",
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..5)
            .prop_map(|values| format!("[ {} ]", values.join(" ,\n")));
        let object = prop::collection::vec((any_string(), inner), 0..5).prop_map(|members| {
            format!(
                "{{\t{} }}",
                members
                    .iter()
                    .map(|(key, value)| format!("{key} : {value}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        });
        prop_oneof![array, object]
    })
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"([a-z :,{}\\[\\]]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00|é){0,8}\"",
    ]
}

fn any_member() -> impl Strategy<Value = (String, String)> {
    let names: Vec<String> = schema()
        .fields()
        .iter()
        .skip(1)
        .map(|field| format!("\"{}\"", field.name))
        .collect();
    (
        prop_oneof![4 => prop::sample::select(names), 1 => any_string(), 1 => Just("\"unknown\"".to_owned())],
        any_json(),
    )
}

/// Members by key, or by the key as written when it is no text; the last of several counts.
fn members(json: &str) -> BTreeMap<String, &RawValue> {
    serde_json::from_str::<RawMembers<'_>>(json).unwrap().0
}

struct RawMembers<'j>(BTreeMap<String, &'j RawValue>);

impl<'de> serde::Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> serde::de::Visitor<'de> for All {
            type Value = RawMembers<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    members.insert(
                        serde_json::from_str(key.get()).unwrap_or_else(|_| key.get().to_owned()),
                        value,
                    );
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// JSON text without insignificant white space, by the plainest means.
pub(super) fn without_space(json: &str) -> String {
    let (mut text, mut in_string, mut escaped) = (String::new(), false, false);
    for character in json.chars() {
        if in_string || !character.is_ascii_whitespace() {
            text.push(character);
        }
        in_string ^= character == '"' && !escaped;
        escaped = in_string && character == '\\' && !escaped;
    }
    text
}

/// True when the cell of a declared column says what the record said.
fn is_recovered(batch: &RecordBatch, name: &str, json: &str) -> bool {
    let column = batch.column_by_name(name).unwrap();
    let text = || serde_json::from_str::<String>(json).unwrap();
    match schema().field(name).unwrap().data_type {
        DataType::Bool => {
            column.as_boolean().value(0) == serde_json::from_str::<bool>(json).unwrap()
        }
        DataType::Int64 => column.as_primitive::<Int64Type>().value(0).to_string() == json,
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(0);
            let number = json.parse::<f64>().unwrap();
            value == number
                && value.is_sign_negative() == number.is_sign_negative()
                && same_digits(json, value)
        }
        DataType::Decimal { .. } => {
            let number = json.trim_matches('"');
            plain(&column.as_primitive::<Decimal128Type>().value_as_string(0)) == plain(number)
        }
        DataType::String | DataType::Reference => column.as_string::<i32>().value(0) == text(),
        DataType::Date => {
            column
                .as_primitive::<Date32Type>()
                .value_as_date(0)
                .unwrap()
                .to_string()
                == text()
        }
        DataType::Timestamp(format) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(0);
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            match format {
                TimeFormat::UnixSeconds => {
                    time.timestamp().to_string() == json && micros % 1_000_000 == 0
                }
                TimeFormat::UnixMillis => {
                    time.timestamp_millis().to_string() == json && micros % 1_000 == 0
                }
                TimeFormat::Date => {
                    time.format("%Y-%m-%d").to_string() == text() && micros % 86_400_000_000 == 0
                }
                TimeFormat::Rfc3339 => {
                    let text = text();
                    let normal = if text.ends_with('Z') || text[19..].contains(['+', '-']) {
                        text
                    } else {
                        text + "Z"
                    };
                    DateTime::parse_from_rfc3339(&normal).unwrap().to_utc() == time
                }
            }
        }
        DataType::Json | DataType::Object | DataType::Array => {
            column.as_string::<i32>().value(0) == without_space(json)
        }
    }
}

/// A number of at most 15 digits, or one that a double prints back.
fn same_digits(json: &str, value: f64) -> bool {
    let digits = |text: &str| {
        let mantissa = text
            .split(['e', 'E'])
            .next()
            .unwrap()
            .replace(['-', '.'], "");
        mantissa
            .trim_start_matches('0')
            .trim_end_matches('0')
            .to_owned()
    };
    let written = digits(json);
    written.len() <= 15
        || written == digits(&format!("{value:e}"))
        || written == digits(&format!("{value:.16e}"))
}

/// A decimal number as sign, digits without zeros at either end, and the power of ten of the last
/// digit.
fn plain(number: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa
        .trim_start_matches('-')
        .split_once('.')
        .unwrap_or((mantissa.trim_start_matches('-'), ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let dropped = digits.len() - trimmed.len();
    let power = exponent.parse::<i64>().unwrap() - i64::try_from(fraction.len()).unwrap()
        + i64::try_from(dropped).unwrap();
    let digits = trimmed.trim_start_matches('0').to_owned();
    let power = if digits.is_empty() { 0 } else { power };
    (number.starts_with('-'), digits, power)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_member_is_recovered_from_the_row(list in prop::collection::vec(any_member(), 0..14)) {
        let list = list.iter().fold(String::new(), |text, (key, value)| format!("{text},\n {key}: {value}"));
        let json = format!("{{ \"id\": \"x\"{list}}}");
        let expected = members(&json);
        let Ok(batch) = decode(json.clone()) else {
            // Only a repeated id that is no longer a string loses the record.
            prop_assert!(!expected["id"].get().starts_with('"') || serde_json::from_str::<String>(expected["id"].get()).is_err());
            return Ok(());
        };
        let extra_column = batch.column_by_name(EXTRA).unwrap().as_string::<i32>();
        let extra_json = if extra_column.is_null(0) { "{}" } else { extra_column.value(0) };
        let mut extra = members(extra_json);
        for (key, value) in expected {
            let kept = extra.remove(&key).map(RawValue::get);
            if schema().field(&key).is_none() {
                prop_assert_eq!(kept, Some(&*without_space(value.get())));
            } else if value.get() == "null" {
                prop_assert!(kept.is_none() && cell(&batch, &key, 0).is_none());
            } else if cell(&batch, &key, 0).is_none() || (key == "reference" && value.get().starts_with('{')) {
                prop_assert_eq!(kept, Some(&*without_space(value.get())), "{} is lost", key);
            } else {
                prop_assert!(kept.is_none());
                prop_assert!(is_recovered(&batch, &key, value.get()), "{} is not {}", key, value.get());
            }
        }
        prop_assert!(extra.is_empty(), "invented: {:?}", extra);
    }

    #[test]
    fn damaged_records_are_accepted_exactly_when_they_are_json(
        list in prop::collection::vec(any_member(), 1..5), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let list = list.iter().fold(String::new(), |text, (key, value)| format!("{text},{key}:{value}"));
        let mut json = format!("{{\"id\":\"x\"{list}}}").into_bytes();
        let at = at.index(json.len());
        if cut { json.truncate(at) } else { json[at] = byte }
        let is_json = serde_json::from_slice::<&RawValue>(&json).is_ok();
        let is_rejected = decode(json) .is_err_and(|reason| reason == Rejection::NotJson);
        prop_assert_eq!(is_json, !is_rejected);
    }

    #[test]
    fn rows_do_not_depend_on_the_order_of_earlier_members(order in Just((1..12).collect::<Vec<usize>>()).prop_shuffle(), gaps in any::<u16>()) {
        let values = ["\"x\"", "true", "1", "1.5", "2.5", "\"t\"", "\"2026-01-31\"", "1", "2", "\"2026-01-31T00:00:00Z\"", "\"2026-01-31\"", "[]"];
        let schema = schema();
        let member = |index: usize| format!("\"{}\":{}", schema.fields()[index].name, values[index]);
        let record = |indices: &[usize]| {
            let present = indices.iter().filter(|index| gaps & (1 << **index) == 0);
            format!("{{\"id\":\"x\",{}\"new\":1}}", present.fold(String::new(), |text, index| text + &member(*index) + ",\"gap\":0,"))
        };
        let sorted: Vec<usize> = (1..12).collect();
        let mut decoder = decoder();
        for indices in [&order, &sorted, &order, &sorted] {
            decoder.push(&RawRecord::upsert(record(indices)), DateTime::UNIX_EPOCH).unwrap();
        }
        let batch = decoder.finish().unwrap().unwrap();
        let row = |row| schema.fields().iter().map(|field| cell(&batch, &field.name, row)).collect::<Vec<_>>();
        prop_assert!(row(0) == row(1) && row(1) == row(2) && row(2) == row(3));
        prop_assert_eq!(decode(record(&sorted)).unwrap(), batch.slice(1, 1));
    }
}
