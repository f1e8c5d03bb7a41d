//! The columns of every stream. What a project defines itself stays in `properties`.

use pipeline_core::{DataType, Field, Schema, TimeFormat};

/// How queries write an instant: without an offset, in UTC.
const TIME: DataType = DataType::Timestamp(TimeFormat::Rfc3339);

/// How exports write an instant.
const MILLIS: DataType = DataType::Timestamp(TimeFormat::UnixMillis);

/// An event. `event_key` is computed; see the crate's documentation.
pub(crate) fn event() -> Schema {
    Schema::from_static(EVENT)
}

const EVENT: &[Field] = &[
    Field::new("event_key", DataType::String),
    Field::new("event", DataType::String),
    Field::new("time", MILLIS),
    Field::new("distinct_id", DataType::String),
    Field::new("insert_id", DataType::String),
    Field::new("mp_processing_time_ms", MILLIS),
    Field::new("properties", DataType::Json),
];

/// A user profile.
pub(crate) fn profile() -> Schema {
    Schema::from_static(PROFILE)
}

const PROFILE: &[Field] = &[
    Field::new("distinct_id", DataType::String),
    Field::new("last_seen", TIME),
    Field::new("created", TIME),
    Field::new("email", DataType::String),
    Field::new("name", DataType::String),
    Field::new("first_name", DataType::String),
    Field::new("last_name", DataType::String),
    Field::new("phone", DataType::String),
    Field::new("city", DataType::String),
    Field::new("region", DataType::String),
    Field::new("country_code", DataType::String),
    Field::new("timezone", DataType::String),
    Field::new("properties", DataType::Json),
];

/// A saved cohort. `is_visible` is 0 or 1.
pub(crate) fn cohort() -> Schema {
    Schema::from_static(COHORT)
}

const COHORT: &[Field] = &[
    Field::new("id", DataType::Int64),
    Field::new("name", DataType::String),
    Field::new("description", DataType::String),
    Field::new("count", DataType::Int64),
    Field::new("is_visible", DataType::Int64),
    Field::new("created", TIME),
    Field::new("project_id", DataType::Int64),
    Field::new("data_group_id", DataType::Int64),
];
