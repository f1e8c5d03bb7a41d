//! Columns whose values stand inside a member.

use pipeline_core::{Field, Inside};

use super::recovered::{any_json, without_space};
use super::*;

fn inside(
    name: &'static str,
    data_type: DataType,
    member: &'static str,
    inner: &'static str,
) -> Field {
    let entries = (member == "list").then_some(("id", "value"));
    Field {
        inside: Some(Inside {
            member: member.into(),
            name: inner.into(),
            entries,
        }),
        ..Field::new(name, data_type)
    }
}

fn schema() -> Schema {
    Schema::default()
        .with("id", DataType::Int64)
        .with("list", DataType::Json)
        .with("object", DataType::Json)
        .extend([
            inside("text", DataType::String, "list", "1"),
            inside("int", DataType::Int64, "list", "2"),
            inside(
                "money",
                DataType::Decimal {
                    precision: 38,
                    scale: 9,
                },
                "list",
                "3",
            ),
            inside("day", DataType::Date, "list", "4"),
            inside("flag", DataType::Bool, "list", "5"),
            inside("many", DataType::Json, "list", "6"),
            inside("plan", DataType::String, "object", "plan"),
            inside("seats", DataType::Int64, "object", "seats"),
            inside("ratio", DataType::Float64, "object", "a \"b\""),
            inside("nowhere", DataType::String, "absent", "plan"),
        ])
}

/// Decodes records one after another with one decoder, and shows the inner columns of each,
/// `_extra` and what did not fit.
fn rows(records: &[&str]) -> String {
    let mut decoder = Decoder::new(&schema(), &["id".into()]);
    for record in records {
        decoder
            .push(
                &RawRecord::upsert((*record).to_owned()),
                DateTime::UNIX_EPOCH,
            )
            .unwrap();
    }
    let batch = decoder.finish().unwrap().unwrap();
    let schema = schema();
    let shown = |row: usize| {
        let names = schema
            .fields()
            .iter()
            .filter(|field| field.inside.is_some())
            .map(|field| &*field.name)
            .chain([EXTRA]);
        let cells = names.filter_map(|name| Some(format!("{name} = {}", cell(&batch, name, row)?)));
        cells.collect::<Vec<_>>().join("; ")
    };
    let drift = decoder
        .drift()
        .into_iter()
        .map(|drift| format!("{:?} {} {}", drift.kind, drift.field, drift.count));
    (0..records.len())
        .map(shown)
        .chain(drift)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn values_inside_members_are_columns_and_stay_where_they_are() {
    let records = [
        r#"{"id":1,"list":[{"id":1,"value":"gold"},{"id":2,"value":7},{"id":3,"value":1.10},{"id":4,"value":"2026-01-31"},{"id":5,"value":true},{"id":6,"value":["a", "b"]}],"object":{"plan":"pro","seats":3}}"#,
        r#"{"id":2,"list": [ {"value" : "7" , "id" : "2"} , {"id":1,"value":"caf\u00e9"} ] , "object" : { "seats" : "12" } }"#,
        r#"{"id":3,"list":[{"id":4,"value":"2026-01-31T00:00:00Z"},{"id":9,"value":"unknown"},{"id":2,"value":null}]}"#,
        r#"{"id":4}"#,
    ];
    insta::assert_snapshot!(rows(&records), @r#"
    text = "gold"; int = 7; money = 1.100000000; day = 2026-01-31; flag = true; many = "[\"a\",\"b\"]"; plan = "pro"; seats = 3
    text = "café"; int = 7; seats = 12
    day = 2026-01-31

    "#);
    let mut decoder = Decoder::new(&schema(), &["id".into()]);
    decoder
        .push(&RawRecord::upsert(records[0]), DateTime::UNIX_EPOCH)
        .unwrap();
    let batch = decoder.finish().unwrap().unwrap();
    assert_eq!(
        cell(&batch, "object", 0).unwrap(),
        r#""{\"plan\":\"pro\",\"seats\":3}""#,
        "the member stays whole"
    );
}

#[test]
fn c50_odd_values_inside_members_are_null_and_told_and_lost_nowhere() {
    let records = [
        // Of no type that the columns have.
        r#"{"id":1,"list":[{"id":1,"value":5},{"id":2,"value":"x7"},{"id":3,"value":true},{"id":4,"value":"soon"},{"id":5,"value":"true"},{"id":6,"value":{"a":1}}]}"#,
        r#"{"id":2,"list":[{"id":2,"value":9223372036854775808},{"id":2,"value":"inf"},{"id":3,"value":"1e400"},{"id":4,"value":"2026-01-31T00:00:01Z"}],"object":{"plan":["a"],"a \"b\"":"NaN"}}"#,
        // Shaped otherwise than they should be.
        r#"{"id":3,"list":{"1":"no list","value":"x"},"object":[{"plan":"no object"}]}"#,
        r#"{"id":4,"list":"text","object":7}"#,
        r#"{"id":5,"list":[1,"a",null,[],{},{"id":1},{"value":"a"},{"id":{"id":1},"value":"b"},{"id":null,"value":"c"},[{"id":1,"value":"d"}]],"object":{}}"#,
        // Twice: the last one counts. Names with escapes.
        r#"{"id":6,"list":[{"id":1,"value":"first"},{"id":1,"value":"last"},{"\u0069d":2,"v\u0061lue":8}],"object":{"plan":"first","pl\u0061n":"last","a \"b\"":0.5}}"#,
        // A member of the column's own name is another one's.
        r#"{"id":7,"text":"of the record","object":{"plan":"a","list":[{"id":1,"value":"deeper"}]}}"#,
    ];
    insta::assert_snapshot!(rows(&records), @r#"
    many = "{\"a\":1}"


    
    
    text = "last"; int = 8; plan = "last"; ratio = 0.5
    plan = "a"; _extra = "{\"text\":\"of the record\"}"
    UnknownField text 1
    InnerMismatch day 2
    InnerMismatch flag 1
    InnerMismatch int 2
    InnerMismatch money 2
    InnerMismatch plan 1
    InnerMismatch ratio 1
    InnerMismatch text 1
    "#);
}

#[test]
fn a_tombstone_has_no_inner_columns() {
    let mut decoder = Decoder::new(&schema(), &["id".into()]);
    decoder
        .push(
            &RawRecord::delete(r#"{"id":1,"object":{"plan":"pro"}}"#),
            DateTime::UNIX_EPOCH,
        )
        .unwrap();
    assert_eq!(cell(&decoder.finish().unwrap().unwrap(), "plan", 0), None);
}

proptest! {
    /// What is found is what a parser finds, in whichever order the entries come.
    #[test]
    fn inner_columns_are_what_a_parser_finds(entries in prop::collection::vec((0..8_u8, any_json()), 0..12)) {
        let list = entries.iter().map(|(id, value)| format!("{{\"id\": {id}, \"value\": {value}}}")).collect::<Vec<_>>().join(" , ");
        let mut decoder = Decoder::new(&schema(), &["id".into()]);
        for json in [format!("{{\"id\":1,\"list\":[{list}]}}"), "{\"id\":2}".to_owned(), format!("{{\"id\":3,\"list\":[{list}]}}")] {
            decoder.push(&RawRecord::upsert(json), DateTime::UNIX_EPOCH).unwrap();
        }
        let batch = decoder.finish().unwrap().unwrap();
        let last = entries.iter().rfind(|(id, _)| *id == 6).map(|(_, value)| without_space(value)).filter(|value| value != "null");
        prop_assert_eq!(cell(&batch, "many", 0), last.map(|value| format!("{value:?}")));
        prop_assert_eq!(cell(&batch, "many", 1), None);
        prop_assert_eq!(cell(&batch, "many", 2), cell(&batch, "many", 0));
    }
}
