//! Custom fields as columns: what an account defines is asked for before its records are read.

use futures::TryStreamExt;
use pipeline_core::http::HttpClient;
use pipeline_core::state::SliceState;
use pipeline_core::{DataType, Endpoint, Error, ErrorKind, Field, Inside, Preparation, Result, column_name, declared};
use serde::Deserialize;

use crate::streams;

/// Most columns that the records of one list get: destinations have limits, such as 2,000 columns of SQLite.
const MAX_COLUMNS: usize = 1_000;

/// Types of ticket fields that are members of every ticket, and not among its custom fields.
const BUILT_IN: [&str; 9] =
    ["subject", "description", "status", "tickettype", "priority", "basic_priority", "group", "assignee", "custom_status"];

/// Digits of a decimal field, in all and after the point. A longer one is in the JSON column only.
const DECIMAL: DataType = DataType::Decimal { precision: 38, scale: 9 };

/// Records that have custom fields.
#[derive(Debug)]
pub(crate) struct Custom {
    /// The endpoints that list such records.
    endpoints: Vec<String>,
    /// The list of the fields' definitions.
    definitions: Endpoint,
    /// The member that holds the values.
    member: &'static str,
    /// What the columns' names begin with.
    prefix: &'static str,
    /// The values are entries of a list with the id of their field, and not members of an object with its key.
    by_id: bool,
}

/// A custom field, as far as it makes a column. Its title is none of it: titles change.
#[derive(Clone, Debug, Deserialize)]
struct Definition {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    active: Option<bool>,
    #[serde(default)]
    relationship_target_type: Option<String>,
}

impl Definition {
    /// How values are stored. What is not known holds anything.
    fn data_type(&self) -> DataType {
        match &*self.r#type {
            "text" | "textarea" | "regexp" | "partialcreditcard" | "tagger" | "dropdown" => DataType::String,
            "integer" => DataType::Int64,
            "decimal" => DECIMAL,
            "checkbox" => DataType::Bool,
            "date" => DataType::Date,
            "lookup" => match self.relationship_target_type.as_deref() {
                Some("zen:user" | "zen:organization" | "zen:ticket") => DataType::Int64,
                // Records of custom objects have textual ids.
                Some(target) if target.starts_with("zen:custom_object:") => DataType::String,
                _ => DataType::Json,
            },
            _ => DataType::Json,
        }
    }
}

/// The kinds of records that have custom fields, those of the configured custom objects included.
pub(crate) fn kinds(endpoints: &[Endpoint], custom_objects: &[String]) -> Vec<Custom> {
    let known = [
        (&["tickets", "tickets_search", "requests"][..], "ticket_fields", "custom_fields", "custom_field_", true),
        (&["users"], "user_fields", "user_fields", "user_field_", false),
        (&["organizations"], "organization_fields", "organization_fields", "organization_field_", false),
    ];
    let listed = known.into_iter().filter_map(|(lists, definitions, member, prefix, by_id)| {
        let definitions = endpoints.iter().find(|endpoint| endpoint.name() == definitions)?.clone();
        Some(Custom { endpoints: lists.iter().map(|name| (*name).to_owned()).collect(), definitions, member, prefix, by_id })
    });
    let objects = custom_objects.iter().map(|key| Custom {
        endpoints: vec![streams::custom_object(key)],
        definitions: streams::custom_object_fields(key),
        member: "custom_object_fields",
        prefix: "custom_object_field_",
        by_id: false,
    });
    listed.chain(objects).collect()
}

/// Asks for the custom fields of what the named endpoints list, and gives the endpoints with a column for each.
///
/// Fields that the credentials may not read get no columns, which is told. When they cannot be read for another reason, the
/// endpoints are not read either: rows that are written without their columns would keep old values in them.
///
/// # Errors
/// When the credentials are refused.
pub(crate) async fn learn(
    client: &HttpClient,
    kinds: &[Custom],
    endpoints: &[Endpoint],
    wanted: &[&str],
) -> Result<(Vec<Endpoint>, Preparation)> {
    let (mut endpoints, mut preparation) = (endpoints.to_vec(), Preparation::default());
    for kind in kinds.iter().filter(|kind| kind.endpoints.iter().any(|name| wanted.contains(&&**name))) {
        let name = kind.definitions.name();
        match kind.columns(client).await {
            Ok((columns, notes)) => {
                preparation.notes.extend(notes);
                let widened = |endpoint: Endpoint| if kind.is_of(&endpoint) { endpoint.widen(&columns) } else { endpoint };
                endpoints = endpoints.into_iter().map(widened).collect();
            }
            Err(error) if error.kind() == ErrorKind::Unauthenticated => return Err(error),
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Unsupported) => {
                let without = "custom fields are in no columns of their own, and columns of earlier syncs keep what they hold";
                preparation.notes.push(format!("{name} may not be read ({error}): {without}"));
            }
            Err(error) => {
                let concerned = kind.endpoints.iter().filter(|name| wanted.contains(&&***name));
                let why = || Error::new(error.kind(), format!("its custom fields cannot be asked for: {error}"));
                preparation.unavailable.extend(concerned.map(|name| (name.clone(), why())));
            }
        }
    }
    Ok((endpoints, preparation))
}

impl Custom {
    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.iter().any(|name| name == endpoint.name())
    }

    /// Asks for the fields. Gives their columns, and what is odd about them.
    async fn columns(&self, client: &HttpClient) -> Result<(Vec<Field>, Vec<String>)> {
        let mut definitions: Vec<Definition> = Vec::new();
        let mut pages = declared::read(client, &self.definitions, SliceState::default());
        while let Some(page) = pages.try_next().await? {
            for record in page.records.iter().flatten() {
                definitions.push(record.deserialize()?);
            }
        }
        Ok(self.make(definitions))
    }

    /// One column for each field that has a name. Where there are too many, active fields come first.
    fn make(&self, mut definitions: Vec<Definition>) -> (Vec<Field>, Vec<String>) {
        definitions.retain(|definition| !(self.by_id && BUILT_IN.contains(&&*definition.r#type)));
        definitions.sort_by_key(|definition| definition.active == Some(false));
        let mut notes = Vec::new();
        if let Some(more) = definitions.len().checked_sub(MAX_COLUMNS).filter(|more| *more > 0) {
            notes.push(format!("{}: {more} of them get no column; their values are in `{}`", self.definitions.name(), self.member));
            definitions.truncate(MAX_COLUMNS);
        }
        let mut columns: Vec<Field> = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let name = if self.by_id { definition.id.map(|id| id.to_string()) } else { definition.key.clone() };
            let Some(name) = name else { continue };
            let plain = format!("{}{name}", self.prefix);
            let column = column_name(&plain, &name, |_| false);
            if columns.iter().any(|known| known.name == column) {
                continue;
            }
            if column != plain {
                notes.push(format!("{}: field `{name}` is column `{column}`", self.definitions.name()));
            }
            let entries = self.by_id.then_some(("id", "value"));
            let inside = Some(Inside { member: self.member.into(), name: name.into(), entries });
            columns.push(Field { name: column.into(), data_type: definition.data_type(), inside });
        }
        (columns, notes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn columns(endpoint: &str, definitions: &serde_json::Value) -> String {
        let endpoints = streams::endpoints(1000, &[]);
        let kinds = kinds(&endpoints, &["apartment".to_owned()]);
        let kind = kinds.iter().find(|kind| kind.endpoints.iter().any(|name| name == endpoint)).unwrap();
        let (columns, notes) = kind.make(serde_json::from_value(definitions.clone()).unwrap());
        let shown = columns.iter().map(|Field { name, data_type, inside }| {
            let Inside { member, name: inner, entries } = inside.as_ref().unwrap();
            format!("{name}: {data_type:?} in {member} {inner} {entries:?}")
        });
        shown.chain(notes.into_iter().map(|note| format!("note: {note}"))).collect::<Vec<_>>().join("\n")
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
        let field = |id: usize| serde_json::json!({ "id": id, "type": "text", "active": id.is_multiple_of(2) });
        let many: Vec<_> = (1..=1_500).map(field).collect();
        let shown = columns("tickets", &many.into());
        assert_eq!(shown.lines().filter(|line| line.starts_with("custom_field_")).count(), MAX_COLUMNS);
        assert!(shown.contains("custom_field_1500: "), "active ones come first");
        assert!(shown.ends_with("note: ticket_fields: 500 of them get no column; their values are in `custom_fields`"), "{shown}");
    }
}
