#![allow(clippy::unwrap_used)]

use connector_zendesk::tables::Zendesk;
use pipeline_core::{DataType, Field, Vendor};

use super::api::{Api, Property};
use super::{Column, SCHEMA, data_type, generated, verify_seal};

const FILE: &str = r#"
paths:
  /api/v2/tickets/{ticket_id}/things:
    get:
      responses:
        "200":
          content:
            application/json:
              schema:
                $ref: '#/components/schemas/Things'
components:
  schemas:
    Things:
      type: object
      properties:
        count: { type: integer }
        things: { type: array, items: { $ref: '#/components/schemas/Thing' } }
    Thing:
      allOf:
        - { type: object, properties: { id: { type: integer }, when_at: { type: string } } }
        - $ref: '#/components/schemas/More'
    More:
      type: object
      properties:
        note: { type: string, description: = }
        created: { type: string, format: date-time, example: 2026-01-01T00:00:00Z }
        hidden: { type: string, writeOnly: true }
        via: { oneOf: [ { type: string }, { type: object } ] }
"#;

#[test]
fn a_list_tells_what_it_holds_whatever_its_braces_are_called() {
    let api = Api::of(FILE).unwrap();
    let item = api.item("/api/v2/tickets/{id}/things", "things").unwrap();
    let columns: Vec<String> = api
        .properties(&item)
        .into_iter()
        .filter(|(_, property)| !property.write_only)
        .map(|(name, property)| format!("{name}: {}", data_type(&name, &property).unwrap()))
        .collect();
    assert_eq!(
        columns,
        [
            "created: Timestamp(Rfc3339)",
            "id: Int64",
            "note: String",
            "via: Json",
            "when_at: Timestamp(Rfc3339)"
        ]
    );
    assert_eq!(
        api.item("/api/v2/things", "things")
            .unwrap_err()
            .to_string(),
        "GET /api/v2/things is not described"
    );
    assert_eq!(
        api.item("/api/v2/tickets/{id}/things", "others")
            .unwrap_err()
            .to_string(),
        "GET /api/v2/tickets/{ticket_id}/things answers no `others`"
    );
}

#[test]
fn invented_values_are_always_the_same_and_have_no_other_members() {
    let api = Api::of(FILE).unwrap();
    let item = api.item("/api/v2/tickets/{id}/things", "things").unwrap();
    let sample = serde_json::to_string(&item.sample(3)).unwrap();
    assert_eq!(sample, serde_json::to_string(&item.sample(3)).unwrap());
    let names: Vec<String> = item.sample(1).into_iter().map(|(name, _)| name).collect();
    assert!(
        names
            .iter()
            .all(|name| ["id", "created", "note", "via", "when_at"].contains(&name.as_str())),
        "{names:?}"
    );
}

#[test]
fn a_type_without_a_column_is_an_error() {
    let property = Property {
        kind: Some("file".to_owned()),
        format: None,
        write_only: false,
    };
    assert!(data_type("x", &property).is_err());
}

#[test]
fn an_edited_file_is_noticed() {
    let text = SCHEMA.render(&[("things", &[])]);
    verify_seal(&text, "x").unwrap();
    assert!(verify_seal(&text.replace("_ => &[]", "_ => todo"), "x").is_err());
}

#[test]
fn the_columns_in_use_are_written_as_they_are() {
    let column = |field: &Field| Column {
        name: field.name.to_string(),
        data_type: match field.data_type {
            DataType::Bool => "Bool",
            DataType::Int64 => "Int64",
            DataType::Float64 => "Float64",
            DataType::Timestamp(_) => super::TIMESTAMP,
            DataType::Json => "Json",
            _ => "String",
        },
    };
    let streams: Vec<(&str, Vec<Column>)> = generated()
        .map(|(_, stream)| stream.name)
        .map(|name| (name, Zendesk::columns(name).iter().map(column).collect()))
        .collect();
    let streams: Vec<_> = streams
        .iter()
        .map(|(name, columns)| (*name, &**columns))
        .collect();
    let written = include_str!("../../../../crates/connector-zendesk/src/schema.rs");
    assert_eq!(SCHEMA.render(&streams), written);
}
