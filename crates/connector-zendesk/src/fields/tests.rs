//! Which columns custom fields become.
#![allow(clippy::unwrap_used)]
use super::*;

fn columns(endpoint: &str, definitions: &serde_json::Value) -> String {
    let endpoints = streams::endpoints(1000, &[]);
    let kinds = kinds(&endpoints, &["apartment".to_owned()]);
    let kind = kinds
        .iter()
        .find(|kind| kind.endpoints.iter().any(|name| name == endpoint))
        .unwrap();
    let (columns, notes) = kind.make(serde_json::from_value(definitions.clone()).unwrap());
    let shown = columns.iter().map(
        |Field {
             name,
             data_type,
             inside,
         }| {
            let Inside {
                member,
                name: inner,
                entries,
            } = inside.as_ref().unwrap();
            format!("{name}: {data_type:?} in {member} {inner} {entries:?}")
        },
    );
    shown
        .chain(notes.into_iter().map(|note| format!("note: {note}")))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn custom_fields_of_tickets_are_columns_by_id() {
    let fields = serde_json::json!([
        { "id": 1, "type": "subject", "active": true },
        { "id": 7, "type": "text", "active": false },
        { "id": 2, "type": "integer", "title": "Seats", "active": true },
        { "id": 3, "type": "decimal" },
        { "id": 4, "type": "checkbox" },
        { "id": 5, "type": "date" },
        { "id": 6, "type": "multiselect" },
        { "id": 8, "type": "tagger" },
        { "id": 9, "type": "lookup", "relationship_target_type": "zen:user" },
        { "id": 10, "type": "lookup", "relationship_target_type": "zen:custom_object:apartment" },
        { "id": 11, "type": "lookup", "relationship_target_type": null },
        { "id": 18_446_744_073_709_551_615_u64, "type": "of another age" },
        { "id": 2, "type": "text" },
        { "type": "text" },
    ]);
    insta::assert_snapshot!(columns("tickets", &fields), @r#"
    custom_field_2: Int64 in custom_fields 2 Some(("id", "value"))
    custom_field_3: Decimal { precision: 38, scale: 9 } in custom_fields 3 Some(("id", "value"))
    custom_field_4: Bool in custom_fields 4 Some(("id", "value"))
    custom_field_5: Date in custom_fields 5 Some(("id", "value"))
    custom_field_6: Json in custom_fields 6 Some(("id", "value"))
    custom_field_8: String in custom_fields 8 Some(("id", "value"))
    custom_field_9: Int64 in custom_fields 9 Some(("id", "value"))
    custom_field_10: String in custom_fields 10 Some(("id", "value"))
    custom_field_11: Json in custom_fields 11 Some(("id", "value"))
    custom_field_18446744073709551615: Json in custom_fields 18446744073709551615 Some(("id", "value"))
    custom_field_7: String in custom_fields 7 Some(("id", "value"))
    "#);
}

#[test]
fn custom_fields_of_others_are_columns_by_key() {
    let fields = serde_json::json!([
        { "id": 1, "key": "plan", "type": "dropdown" },
        { "id": 2, "key": "Plan", "type": "text" },
        { "id": 3, "key": "seats-booked", "type": "integer" },
        { "id": 4, "key": "subject", "type": "subject" },
        { "id": 5, "key": null, "type": "text" },
    ]);
    insta::assert_snapshot!(columns("users", &fields), @"
    user_field_plan: String in user_fields plan None
    user_field_plan__f63dd9: String in user_fields Plan None
    user_field_seats_booked__2b8424: Int64 in user_fields seats-booked None
    user_field_subject: Json in user_fields subject None
    note: user_fields: field `Plan` is column `user_field_plan__f63dd9`
    note: user_fields: field `seats-booked` is column `user_field_seats_booked__2b8424`
    ");
    insta::assert_snapshot!(columns("custom_object_apartment", &fields), @"
    custom_object_field_plan: String in custom_object_fields plan None
    custom_object_field_plan__f63dd9: String in custom_object_fields Plan None
    custom_object_field_seats_booked__2b8424: Int64 in custom_object_fields seats-booked None
    custom_object_field_subject: Json in custom_object_fields subject None
    note: custom_object_apartment_fields: field `Plan` is column `custom_object_field_plan__f63dd9`
    note: custom_object_apartment_fields: field `seats-booked` is column `custom_object_field_seats_booked__2b8424`
    ");
}

#[test]
fn there_are_no_more_columns_than_destinations_take() {
    let field =
        |id: usize| serde_json::json!({ "id": id, "type": "text", "active": id.is_multiple_of(2) });
    let many: Vec<_> = (1..=1_500).map(field).collect();
    let shown = columns("tickets", &many.into());
    assert_eq!(
        shown
            .lines()
            .filter(|line| line.starts_with("custom_field_"))
            .count(),
        MAX_COLUMNS
    );
    assert!(
        shown.contains("custom_field_1500: "),
        "active ones come first"
    );
    assert!(
        shown.ends_with(
            "note: ticket_fields: 500 of them get no column; their values are in `custom_fields`"
        ),
        "{shown}"
    );
}
