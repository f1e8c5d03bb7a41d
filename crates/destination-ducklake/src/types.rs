//! Types of columns: of the engine's Arrow columns, and of the catalogue.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field, TimeUnit};
use pipeline_engine::cell::{Cell, Column, JSON, is_json};

/// What every value can be written as.
pub(crate) const TEXT: &str = "varchar";

/// The catalogue's type of a column.
pub(crate) fn lake_type(field: &Field) -> String {
    match field.data_type() {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int64 => "int64".to_owned(),
        DataType::Float64 => "float64".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => "timestamptz".to_owned(),
        DataType::Utf8 if is_json(field) => "json".to_owned(),
        _ => TEXT.to_owned(),
    }
}

/// A column of a type of the catalogue; none: it is not one that this crate writes.
pub(crate) fn field(name: &str, lake_type: &str) -> Option<Field> {
    let data_type = match lake_type {
        "boolean" => DataType::Boolean,
        "int64" => DataType::Int64,
        "float64" => DataType::Float64,
        "date" => DataType::Date32,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "json" | TEXT => DataType::Utf8,
        other => {
            let (precision, scale) = other
                .strip_prefix("decimal(")?
                .strip_suffix(')')?
                .split_once(',')?;
            DataType::Decimal128(precision.parse().ok()?, scale.parse().ok()?)
        }
    };
    let field = Field::new(name, data_type, true);
    Some(if lake_type == "json" {
        field.with_metadata(HashMap::from([(JSON.to_owned(), "true".to_owned())]))
    } else {
        field
    })
}

/// The type that holds what a column has and what is to be written to it.
pub(crate) fn wider(present: &str, wanted: &str) -> String {
    if present == wanted || (present == TEXT && wanted == "json") {
        present.to_owned()
    } else {
        TEXT.to_owned()
    }
}

/// A column as one of that type. What it is not already, it becomes as text, which is what it was
/// widened to.
pub(crate) fn fit(column: &Column<'_>, array: &ArrayRef, wanted: &DataType) -> ArrayRef {
    if array.data_type() == wanted {
        return Arc::clone(array);
    }
    if let (DataType::Timestamp(TimeUnit::Microsecond, _), DataType::Timestamp(_, zone)) =
        (array.data_type(), wanted)
    {
        let values = array.as_primitive::<arrow_array::types::TimestampMicrosecondType>();
        return Arc::new(values.clone().with_timezone_opt(zone.clone()));
    }
    let mut text = String::new();
    let values: StringArray = (0..array.len())
        .map(|row| match column.cell(row) {
            Cell::Null => None,
            cell => {
                text.clear();
                cell.push_text(&mut text);
                Some(text.clone())
            }
        })
        .collect();
    Arc::new(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_type_of_the_catalogue_is_a_type_of_arrow_and_back() {
        for name in [
            "boolean",
            "int64",
            "float64",
            "decimal(38,3)",
            "date",
            "timestamptz",
            "json",
            "varchar",
        ] {
            assert_eq!(lake_type(&field("x", name).unwrap()), name);
        }
        for foreign in ["int32", "struct", "decimal(x,1)", "uuid"] {
            assert!(field("x", foreign).is_none(), "{foreign}");
        }
    }

    #[test]
    fn a_type_is_widened_to_text_and_stays_there() {
        for (present, wanted, wider_type) in [
            ("int64", "int64", "int64"),
            ("int64", "varchar", "varchar"),
            ("varchar", "int64", "varchar"),
            ("int64", "float64", "varchar"),
            ("json", "varchar", "varchar"),
            ("varchar", "json", "varchar"),
        ] {
            assert_eq!(wider(present, wanted), wider_type, "{present} and {wanted}");
        }
    }
}
