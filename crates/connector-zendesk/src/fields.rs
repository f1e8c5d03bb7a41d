//! Custom fields as columns: what an account defines is asked for before its records are read.

use futures::TryStreamExt;
use pipeline_core::state::SliceState;
use pipeline_core::{
    DataType, Endpoint, Error, ErrorKind, Field, Inside, Plan, Reader, Result, column_name,
};
use serde::Deserialize;

use crate::{is_refusal, streams};

#[cfg(test)]
mod tests;

/// Most columns that the records of one list get: destinations have limits, such as 2,000 columns
/// of SQLite.
const MAX_COLUMNS: usize = 1_000;

/// Types of ticket fields that are members of every ticket, and not among its custom fields.
const BUILT_IN: [&str; 9] = [
    "subject",
    "description",
    "status",
    "tickettype",
    "priority",
    "basic_priority",
    "group",
    "assignee",
    "custom_status",
];

/// Digits of a decimal field, in all and after the point. A longer one is in the JSON column only.
const DECIMAL: DataType = DataType::Decimal {
    precision: 38,
    scale: 9,
};

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
    /// The values are entries of a list with the id of their field, and not members of an object
    /// with its key.
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
            "text" | "textarea" | "regexp" | "partialcreditcard" | "tagger" | "dropdown" => {
                DataType::String
            }
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
        (
            &[
                "tickets",
                "tickets_search",
                "forgotten_tickets_search",
                "requests",
            ][..],
            "ticket_fields",
            "custom_fields",
            "custom_field_",
            true,
        ),
        (
            &["users"],
            "user_fields",
            "user_fields",
            "user_field_",
            false,
        ),
        (
            &["organizations"],
            "organization_fields",
            "organization_fields",
            "organization_field_",
            false,
        ),
    ];
    let listed = known
        .into_iter()
        .filter_map(|(lists, definitions, member, prefix, by_id)| {
            let definitions = endpoints
                .iter()
                .find(|endpoint| endpoint.name() == definitions)?
                .clone();
            Some(Custom {
                endpoints: lists.iter().map(|name| (*name).to_owned()).collect(),
                definitions,
                member,
                prefix,
                by_id,
            })
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

/// The endpoints, of which those whose records have custom fields say whether these are columns.
pub(crate) fn note_setting(
    endpoints: Vec<Endpoint>,
    kinds: &[Custom],
    are_columns: bool,
) -> Vec<Endpoint> {
    let note = |endpoint: Endpoint| {
        let has_fields = kinds.iter().any(|kind| kind.is_of(&endpoint));
        if has_fields {
            endpoint.setting("custom_field_columns", are_columns.to_string())
        } else {
            endpoint
        }
    };
    endpoints.into_iter().map(note).collect()
}

/// Asks for the custom fields of what the named endpoints list, and gives the endpoints with a
/// column for each.
///
/// Fields that the credentials may not read get no columns, which is told. When they cannot be read
/// for another reason, the endpoints are not read either: rows that are written without their
/// columns would keep old values in them.
///
/// # Errors
/// When the credentials are refused.
pub(crate) async fn learn(
    reader: &Reader,
    kinds: &[Custom],
    endpoints: &[Endpoint],
    wanted: &[&str],
) -> Result<Plan> {
    let mut plan = Plan {
        endpoints: endpoints.to_vec(),
        ..Plan::default()
    };
    for kind in kinds
        .iter()
        .filter(|kind| kind.endpoints.iter().any(|name| wanted.contains(&&**name)))
    {
        let name = kind.definitions.name();
        match kind.columns(reader).await {
            Ok((columns, notes)) => {
                plan.notices.extend(notes);
                let widened = |endpoint: Endpoint| {
                    if kind.is_of(&endpoint) {
                        endpoint.widen(&columns)
                    } else {
                        endpoint
                    }
                };
                plan.endpoints = plan.endpoints.into_iter().map(widened).collect();
            }
            Err(error) if error.kind() == ErrorKind::Unauthenticated => return Err(error),
            Err(error) if is_refusal(error.kind()) => {
                let without = "custom fields are in no columns of their own, and columns of earlier syncs keep what they hold";
                plan.notices
                    .push(format!("{name} may not be read ({error}): {without}"));
            }
            Err(error) => {
                let concerned = kind
                    .endpoints
                    .iter()
                    .filter(|name| wanted.contains(&&***name));
                for name in concerned {
                    plan.skip_endpoint(
                        name,
                        Error::new(
                            error.kind(),
                            format!("its custom fields cannot be asked for: {error}"),
                        ),
                    );
                }
            }
        }
    }
    Ok(plan)
}

impl Custom {
    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.iter().any(|name| name == endpoint.name())
    }

    /// Asks for the fields. Gives their columns, and what is odd about them.
    async fn columns(&self, reader: &Reader) -> Result<(Vec<Field>, Vec<String>)> {
        let mut definitions: Vec<Definition> = Vec::new();
        let mut pages = reader.read(&self.definitions, SliceState::default());
        while let Some(page) = pages.try_next().await? {
            for record in page.records.iter().flatten() {
                definitions.push(record.deserialize()?);
            }
        }
        Ok(self.make(definitions))
    }

    /// One column for each field that has a name. Where there are too many, active fields come
    /// first.
    fn make(&self, mut definitions: Vec<Definition>) -> (Vec<Field>, Vec<String>) {
        definitions.retain(|definition| !(self.by_id && BUILT_IN.contains(&&*definition.r#type)));
        definitions.sort_by_key(|definition| definition.active == Some(false));
        let mut notes = Vec::new();
        if let Some(more) = definitions
            .len()
            .checked_sub(MAX_COLUMNS)
            .filter(|more| *more > 0)
        {
            notes.push(format!(
                "{}: {more} of them get no column; their values are in `{}`",
                self.definitions.name(),
                self.member
            ));
            definitions.truncate(MAX_COLUMNS);
        }
        let mut columns: Vec<Field> = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let name = if self.by_id {
                definition.id.map(|id| id.to_string())
            } else {
                definition.key.clone()
            };
            let Some(name) = name else { continue };
            let plain = format!("{}{name}", self.prefix);
            let column = column_name(&plain, &name, |_| false);
            if columns.iter().any(|known| known.name == column) {
                continue;
            }
            if column != plain {
                notes.push(format!(
                    "{}: field `{name}` is column `{column}`",
                    self.definitions.name()
                ));
            }
            let entries = self.by_id.then_some(("id", "value"));
            let inside = Some(Inside {
                member: self.member.into(),
                name: name.into(),
                entries,
            });
            columns.push(Field {
                name: column.into(),
                data_type: definition.data_type(),
                inside,
            });
        }
        (columns, notes)
    }
}
