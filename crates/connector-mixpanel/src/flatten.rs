//! Properties as columns of their own, under names that depend on nothing but the property.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use pipeline_core::{DataType, Error, ErrorKind, Field, Result, Schema, TimeFormat};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::discover::Properties;

/// Most properties that become columns.
const MAX_COLUMNS: usize = 500;

/// What `$` becomes, which Mixpanel's own properties begin with.
const RESERVED: &str = "mp_reserved_";

/// What has properties that all become columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flatten {
    /// Events.
    Events,
    /// Profiles of users and groups.
    Profiles,
}

/// A property that becomes a column besides its place in `properties`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Flattened {
    /// Its name, such as `$browser` or `Plan`.
    Name(String),
    /// Its name, and what is to become of it.
    Full(FlattenedProperty),
}

impl Flattened {
    /// On one line, to compare it with what was configured before.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Full(FlattenedProperty {
                property,
                column,
                r#type,
            }) => {
                format!(
                    "{property} as {} {type:?}",
                    column.as_deref().unwrap_or_default()
                )
            }
        }
    }
}

/// A property, and the column that it becomes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlattenedProperty {
    /// The property's name.
    property: String,
    /// The column's name, instead of the one made from the property's.
    #[serde(default)]
    column: Option<String>,
    /// The column's type; values that do not fit it are kept in `_extra`.
    #[serde(default)]
    r#type: ColumnType,
}

/// Type of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Any value, as JSON text.
    #[default]
    Json,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A floating-point number.
    Number,
    /// A number with up to nine digits after the point, exactly.
    Decimal,
    /// True or false.
    Boolean,
    /// An instant such as `2026-01-31T12:00:00`.
    Timestamp,
}

impl ColumnType {
    fn data_type(self) -> DataType {
        match self {
            Self::Json => DataType::Json,
            Self::String => DataType::String,
            Self::Integer => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Decimal => DataType::Decimal {
                precision: 38,
                scale: 9,
            },
            Self::Boolean => DataType::Bool,
            Self::Timestamp => DataType::Timestamp(TimeFormat::Rfc3339),
        }
    }
}

/// The properties of events, or of profiles, that become columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    list: Vec<(String, DataType)>,
    by_property: HashMap<String, usize>,
    /// Names that are not what one would expect, and why.
    pub(crate) collisions: Vec<String>,
}

impl Columns {
    /// Of a stream that has no such properties.
    pub(crate) fn none() -> &'static Self {
        static NONE: LazyLock<Columns> = LazyLock::new(Columns::default);
        &NONE
    }

    /// Names the columns of a stream that has `promoted` ones already.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when two properties are to become one column, or too many are
    /// wanted.
    pub(crate) fn new(
        wanted: &[Flattened],
        promoted: &[Field],
        field: &'static str,
    ) -> Result<Self> {
        let invalid = |message: String| {
            Error::new(ErrorKind::ConfigInvalid, message).with_context("field", field)
        };
        if wanted.len() > MAX_COLUMNS {
            return Err(invalid(format!(
                "more than {MAX_COLUMNS} properties are to become columns"
            )));
        }
        let mut columns = Self::default();
        let mut taken: BTreeMap<String, &str> = BTreeMap::new();
        for wanted in wanted {
            let (property, chosen, data_type) = match wanted {
                Flattened::Name(property) => (property, None, ColumnType::default()),
                Flattened::Full(full) => (&full.property, full.column.as_ref(), full.r#type),
            };
            let made = column_name(property, promoted);
            let name = chosen.unwrap_or(&made);
            if promoted
                .iter()
                .any(|field| field.name.eq_ignore_ascii_case(name))
            {
                return Err(
                    invalid(format!("the stream has a column `{name}` of its own"))
                        .with_help("choose another name for the column"),
                );
            }
            if let Some(other) = taken.insert(name.to_ascii_lowercase(), property) {
                return Err(invalid(format!(
                    "`{other}` and `{property}` are to become the same column `{name}`"
                ))
                .with_help("name the property once, and give two properties two columns"));
            }
            if chosen.is_none() && *name != simple_name(property) {
                columns
                    .collisions
                    .push(format!("property `{property}` is column `{name}`"));
            }
            columns.add(property, name.clone(), data_type);
        }
        Ok(columns)
    }

    fn add(&mut self, property: &str, name: String, data_type: ColumnType) {
        self.by_property
            .insert(property.to_owned(), self.list.len());
        self.list.push((name, data_type.data_type()));
    }

    /// These columns, and one for each of the other properties that were found. What has no room,
    /// or whose name was chosen for another, stays in `properties` alone, and is told; so are
    /// properties whose names differ in less than columns' can.
    pub(crate) fn and(
        &self,
        found: &Properties,
        promoted: &[Field],
        is_lifted: impl Fn(&str) -> bool,
    ) -> Self {
        let mut columns = self.clone();
        let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut without = 0;
        for (property, data_type) in found
            .iter()
            .filter(|(property, _)| self.of(property).is_none() && !is_lifted(property))
        {
            let name = column_name(property, promoted);
            if columns.list.len() >= MAX_COLUMNS
                || columns
                    .list
                    .iter()
                    .any(|(taken, _)| taken.eq_ignore_ascii_case(&name))
            {
                without += 1;
                continue;
            }
            let looks = property
                .trim_start_matches('$')
                .to_ascii_lowercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            alike
                .entry(looks)
                .or_default()
                .push(format!("`{property}` is column `{name}`"));
            columns.add(property, name, *data_type);
        }
        columns.collisions.extend(
            alike
                .into_values()
                .filter(|alike| alike.len() > 1)
                .map(|alike| format!("property {}", alike.join(", "))),
        );
        if without > 0 {
            columns
                .collisions
                .push(format!("{without} properties have no column of their own: there are {MAX_COLUMNS}, or their names are taken"));
        }
        columns
    }

    /// The stream's schema with these columns.
    pub(crate) fn extend(&self, schema: Schema) -> Schema {
        self.list.iter().fold(schema, |schema, (name, data_type)| {
            schema.with(name.clone(), *data_type)
        })
    }

    /// The column of a property, if it has one.
    pub(crate) fn of(&self, property: &str) -> Option<&str> {
        // Mostly there is none, and every property of every event is asked for.
        if self.list.is_empty() {
            return None;
        }
        self.by_property
            .get(property)
            .map(|index| self.list[*index].0.as_str())
    }
}

/// What a property's column is called if its name says all: lower case, with `mp_reserved_` for
/// `$`.
fn simple_name(property: &str) -> String {
    property
        .strip_prefix('$')
        .map_or_else(|| property.to_owned(), |rest| format!("{RESERVED}{rest}"))
}

/// The name of a property's column: different for any two properties, and the same whichever others
/// there are.
///
/// * `$x` becomes `mp_reserved_x`.
/// * A property of the project's own that looks like one of those, or is called like a column that
///   every row has, gets `__u`.
/// * A name that holds capitals, or what a column's name cannot hold, is written without and gets a
///   hash of the original, so that `City`, `city` and `$city` are three columns. So does a name
///   that looks as if it had got one.
fn column_name(property: &str, promoted: &[Field]) -> String {
    let base = simple_name(property);
    let is_own = !property.starts_with('$');
    let is_taken = |name: &str| {
        is_own && (base.starts_with(RESERVED) || promoted.iter().any(|field| field.name == name))
    };
    pipeline_core::column_name(&base, property, is_taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema;

    fn names(properties: &[&str]) -> Vec<String> {
        properties
            .iter()
            .map(|property| column_name(property, schema::EVENT))
            .collect()
    }

    #[test]
    fn c51_names_depend_on_the_property_alone() {
        insta::assert_snapshot!(names(&["city", "City", "$city", "mp_reserved_city", "a b", "a-b", "a_b", "7up", "", "größe"]).join("\n"), @"
        city__u
        city__u__341732
        mp_reserved_city
        mp_reserved_city__u
        a_b__c95e5a
        a_b__ab628b
        a_b
        _7up__1714d2
        ___af1349
        gr__e__18ee84
        ");
        let odd = [
            "city__u",
            "time",
            "time__u",
            "$time__u",
            "city__0a1b2c",
            "City",
            "CITY",
            "$City",
            "mp_reserved_City",
        ];
        let mut columns = names(&odd);
        columns.sort();
        columns.dedup();
        assert_eq!(columns.len(), odd.len(), "{columns:?}");
    }

    #[test]
    fn c52_a_property_called_like_a_column_does_not_touch_it() {
        assert_eq!(
            names(&["event", "time_raw", "properties"]),
            ["event__u", "time_raw__u", "properties__u"]
        );
        let chosen = Flattened::Full(FlattenedProperty {
            property: "x".into(),
            column: Some("Time".into()),
            r#type: ColumnType::Json,
        });
        assert!(Columns::new(&[chosen], schema::EVENT, "event_columns").is_err());
    }

    #[test]
    fn one_column_holds_one_property() {
        let twice = [
            Flattened::Name("plan".into()),
            Flattened::Name("plan".into()),
        ];
        let error = Columns::new(&twice, schema::EVENT, "event_columns").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`plan` and `plan` are to become the same column `plan` (field: event_columns)"
        );
    }
}
