//! The columns of every stream. What a project defines itself stays in `properties`.

use pipeline_core::DataType::{Bool, Date, Float64, Int64, Json, String};
use pipeline_core::{DataType, Field, TimeFormat};

/// How queries write an instant: without an offset, in UTC.
const TIME: DataType = DataType::Timestamp(TimeFormat::Rfc3339);

/// How exports write an instant.
const MILLIS: DataType = DataType::Timestamp(TimeFormat::UnixMillis);

/// Amounts of money that a project sends as it likes.
const AMOUNT: DataType = DataType::Decimal {
    precision: 38,
    scale: 9,
};

const fn column(name: &'static str, data_type: DataType) -> Field {
    Field::new(name, data_type)
}

/// An event. `event_key`, `time` and `time_is_ambiguous` are computed; see the crate's
/// documentation.
pub(crate) const EVENT: &[Field] = &[
    column("event_key", String),
    column("event", String),
    column("time", MILLIS),
    column("time_raw", Int64),
    column("time_is_ambiguous", Bool),
    column("export_day", Date),
    column("distinct_id", String),
    column("insert_id", String),
    column("distinct_id_before_identity", String),
    column("device_id", String),
    column("user_id", String),
    column("is_reshuffled", Bool),
    column("import", Bool),
    column("mp_country_code", String),
    column("city", String),
    column("region", String),
    column("os", String),
    column("browser", String),
    column("current_url", String),
    column("lib", String),
    column("lib_version", String),
    column("mp_processing_time_ms", MILLIS),
    column("mp_api_timestamp_ms", MILLIS),
    column("mp_api_endpoint", String),
    column("properties", Json),
];

/// A user profile.
pub(crate) const PROFILE: &[Field] = &[
    column("distinct_id", String),
    column("last_seen", TIME),
    column("last_seen_raw", String),
    column("created", TIME),
    column("email", String),
    column("name", String),
    column("first_name", String),
    column("last_name", String),
    column("phone", String),
    column("city", String),
    column("region", String),
    column("country_code", String),
    column("timezone", String),
    column("properties", Json),
];

/// A profile of a group, such as a company.
pub(crate) const GROUP_PROFILE: &[Field] = &[
    column("data_group_id", String),
    column("distinct_id", String),
    column("last_seen", TIME),
    column("last_seen_raw", String),
    column("created", TIME),
    column("name", String),
    column("properties", Json),
];

/// An entry of a list that a profile keeps as a property.
pub(crate) const LIST_ITEM: &[Field] = &[
    column("distinct_id", String),
    column("position", Int64),
    column("time", TIME),
    column("amount", AMOUNT),
    column("value", Json),
];

/// A saved cohort. `is_visible` is 0 or 1.
pub(crate) const COHORT: &[Field] = &[
    column("id", Int64),
    column("name", String),
    column("description", String),
    column("count", Int64),
    column("is_visible", Int64),
    column("created", TIME),
    column("project_id", Int64),
    column("data_group_id", Int64),
];

/// A user in a cohort.
pub(crate) const COHORT_MEMBER: &[Field] = &[
    column("cohort_id", Int64),
    column("distinct_id", String),
    column("last_seen", TIME),
    column("last_seen_raw", String),
    column("properties", Json),
];

/// A note on a day. `date` is the wall-clock time in the project's zone, as Mixpanel writes it.
pub(crate) const ANNOTATION: &[Field] = &[
    column("id", Int64),
    column("project_id", Int64),
    column("date", String),
    column("description", String),
    column("user", Json),
    column("tags", Json),
];

/// A tag of notes.
pub(crate) const ANNOTATION_TAG: &[Field] = &[
    column("id", Int64),
    column("name", String),
    column("project_id", Int64),
    column("has_annotations", Bool),
];

/// A saved funnel.
pub(crate) const FUNNEL: &[Field] = &[column("funnel_id", Int64), column("name", String)];

/// What a funnel showed on a day, week or month.
pub(crate) const FUNNEL_RESULT: &[Field] = &[
    column("funnel_id", Int64),
    column("name", String),
    column("date", Date),
    column("steps", Json),
    column("analysis", Json),
];

/// What a day earned.
pub(crate) const REVENUE: &[Field] = &[
    column("date", Date),
    column("amount", AMOUNT),
    column("count", Int64),
    column("paid_count", Int64),
];

/// How many of those who came on a day came back. `counts` has one number for each interval.
pub(crate) const RETENTION: &[Field] = &[
    column("report", String),
    column("segment", String),
    column("bucket", String),
    column("date", Date),
    column("first", Int64),
    column("counts", Json),
];

/// How many did something in one, two, three … of the units of a period.
pub(crate) const FREQUENCY: &[Field] = &[
    column("report", String),
    column("segment", String),
    column("bucket", String),
    column("date", Date),
    column("counts", Json),
];

/// A number for a segment and a span of time. `bucket` is the span as Mixpanel names it, `date` the
/// day in which it begins.
pub(crate) const SEGMENT: &[Field] = &[
    column("report", String),
    column("event", String),
    column("segment", String),
    column("bucket", String),
    column("date", Date),
    column("value", Float64),
];

/// A number for a span of time.
pub(crate) const TOTAL: &[Field] = &[
    column("report", String),
    column("event", String),
    column("bucket", String),
    column("date", Date),
    column("value", Float64),
];

/// A number for an event and a span of time.
pub(crate) const EVENT_COUNT: &[Field] = &[
    column("report", String),
    column("event", String),
    column("bucket", String),
    column("date", Date),
    column("value", Float64),
];

/// A number for a property's value and a span of time.
pub(crate) const PROPERTY_COUNT: &[Field] = &[
    column("report", String),
    column("event", String),
    column("property", String),
    column("property_value", String),
    column("bucket", String),
    column("date", Date),
    column("value", Float64),
];

/// One of today's most frequent events.
pub(crate) const TOP_EVENT: &[Field] = &[
    column("date", Date),
    column("event", String),
    column("amount", Int64),
    column("percent_change", Float64),
];

/// The name of an event of the last 31 days.
pub(crate) const EVENT_NAME: &[Field] = &[column("name", String)];

/// One of an event's most frequent properties.
pub(crate) const TOP_PROPERTY: &[Field] = &[
    column("report", String),
    column("event", String),
    column("property", String),
    column("count", Int64),
];

/// One of a property's most frequent values.
pub(crate) const PROPERTY_VALUE: &[Field] = &[
    column("report", String),
    column("event", String),
    column("property", String),
    column("property_value", String),
];

/// A number in a saved report. `headers` says what `series` consists of; `series_key` is the same
/// as text.
pub(crate) const INSIGHT: &[Field] = &[
    column("report", String),
    column("series_key", String),
    column("bucket", String),
    column("date", Date),
    column("headers", Json),
    column("series", Json),
    column("value", Float64),
    column("computed_at", TIME),
];

/// What can be known of an event or a profile: its documentation, and its properties.
pub(crate) const LEXICON_SCHEMA: &[Field] = &[
    column("entity_type", String),
    column("name", String),
    column("schema_json", Json),
];

/// A feature flag.
pub(crate) const FEATURE_FLAG: &[Field] = &[
    column("id", String),
    column("project_id", Int64),
    column("workspace_id", Int64),
    column("key", String),
    column("name", String),
    column("description", String),
    column("status", String),
    column("tags", Json),
    column("context", String),
    column("serving_method", String),
    column("ruleset", Json),
    column("experiment_id", String),
    column("is_experiment_active", Bool),
    column("data_group_id", Json),
    column("content_type", String),
    column("created", TIME),
    column("modified", TIME),
    column("enabled_at", TIME),
    column("deleted", TIME),
    column("creator_id", Int64),
    column("creator_name", String),
    column("creator_email", String),
    column("last_modified_by_id", Int64),
    column("last_modified_by_name", String),
    column("last_modified_by_email", String),
];

/// An experiment.
pub(crate) const EXPERIMENT: &[Field] = &[
    column("id", String),
    column("name", String),
    column("description", String),
    column("hypothesis", String),
    column("status", String),
    column("tags", Json),
    column("variants", Json),
    column("metrics", Json),
    column("settings", Json),
    column("exposures_cache", Json),
    column("results_cache", Json),
    column("feature_flag", Json),
    column("start_date", TIME),
    column("end_date", TIME),
    column("created", TIME),
    column("modified", TIME),
    column("deleted", TIME),
    column("creator_id", Int64),
    column("creator_name", String),
    column("creator_email", String),
    column("last_modified_by_id", Int64),
    column("last_modified_by_name", String),
    column("last_modified_by_email", String),
];

/// A lookup table.
pub(crate) const LOOKUP_TABLE: &[Field] = &[column("id", String), column("name", String)];

/// An import from a data warehouse. `run_every` is in nanoseconds.
pub(crate) const WAREHOUSE_IMPORT: &[Field] = &[
    column("id", Int64),
    column("import_type", String),
    column("sync_mode", String),
    column("warehouse_source_id", Int64),
    column("table_params", Json),
    column("paused", Bool),
    column("run_every", Int64),
    column("last_dispatch", Int64),
    column("is_deleted", Bool),
    column("created", TIME),
    column("creator_id", Int64),
    column("creator_name", String),
    column("creator_email", String),
];

/// A run of such an import. Times are numbers as Mixpanel writes them, and absent while they lie
/// ahead.
pub(crate) const WAREHOUSE_IMPORT_RUN: &[Field] = &[
    column("import_id", Int64),
    column("status", String),
    column("start_time", Int64),
    column("end_time", Int64),
    column("num_events_imported", Int64),
];

/// A project that the service account sees.
pub(crate) const PROJECT: &[Field] = &[
    column("id", String),
    column("name", String),
    column("organization_id", Int64),
    column("timezone", String),
    column("domain", String),
    column("has_workspaces", Bool),
    column("type", String),
];

/// Something that the service account sees, by its id; what else is known of it is in `_extra`.
pub(crate) const BY_ID: &[Field] = &[column("id", String)];
