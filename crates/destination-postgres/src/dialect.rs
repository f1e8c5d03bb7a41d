//! Types and names of columns, and how tables are made.

use arrow_schema::{DataType, Field};
use destination_sql::Dialect;
use pipeline_engine::cell::is_json;

use crate::config::{Json, PostgresConfig};
use crate::names::LONGEST;
use crate::table::{ORDER, WRITTEN_BY};

/// What differs between Postgres and others.
pub(crate) const DIALECT: Dialect = dialect(|field| column_type(field, "jsonb"));
/// The same with JSON as text.
const DIALECT_JSON: Dialect = dialect(|field| column_type(field, "json"));

const fn dialect(column_type: fn(&Field) -> &'static str) -> Dialect {
    Dialect {
        reserved_tables: &["pg_", "_pipeline"],
        reserved_columns: &[
            "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", WRITTEN_BY, ORDER,
        ],
        longest_name: LONGEST,
        column_type,
        widening: &[
            &["bigint", "numeric", "text"],
            &["double precision", "numeric", "text"],
            &["boolean", "text"],
            &["date", "text"],
            &["timestamp with time zone", "text"],
            &["jsonb", "text"],
            &["json", "text"],
        ],
    }
}

fn column_type(field: &Field, json: &'static str) -> &'static str {
    match field.data_type() {
        DataType::Boolean => "boolean",
        DataType::Int64 => "bigint",
        DataType::Float64 => "double precision",
        // All digits, whatever precision is declared.
        DataType::Decimal128(..) => "numeric",
        DataType::Date32 => "date",
        DataType::Timestamp(..) => "timestamp with time zone",
        _ if is_json(field) => json,
        _ => "text",
    }
}

/// How tables are made.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// The template of schemas.
    pub(crate) schema: String,
    pub(crate) json: Json,
}

impl Style {
    pub(crate) fn of(settings: &PostgresConfig) -> Self {
        Self {
            schema: settings.schema.clone(),
            json: settings.json,
        }
    }

    pub(crate) fn dialect(&self) -> &'static Dialect {
        match self.json {
            Json::Jsonb => &DIALECT,
            Json::Json => &DIALECT_JSON,
        }
    }
}
