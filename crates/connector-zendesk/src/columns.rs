//! Columns that Zendesk's OpenAPI files get wrong or do not know. Members that hold objects or
//! lists are JSON.

use pipeline_core::{DataType, Field, TimeFormat};

pub(crate) mod talk;

use crate::brands;
use DataType::{Bool, Int64, Json, String};

/// How Zendesk writes an instant.
const TIME: DataType = DataType::Timestamp(TimeFormat::Rfc3339);

/// How exports write theirs.
const SECONDS: DataType = DataType::Timestamp(TimeFormat::UnixSeconds);

/// Whose Help Center a row is of: every brand's has such records of its own.
pub(crate) const BRAND: &[Field] = &[Field::new(brands::COLUMN, Int64)];

/// What a ticket has in the export only, or in recent accounts only.
pub(crate) const TICKET_EXPORT: &[Field] = &[
    Field::new("generated_timestamp", SECONDS),
    Field::new("deleted_ticket_form_id", Int64),
    Field::new("support_type", String),
];

pub(crate) const TICKET_METRIC_MORE: &[Field] = &[
    Field::new("custom_status_updated_at", TIME),
    Field::new("reply_time_in_seconds", Json),
];

/// The file takes ticket events for metric events.
pub(crate) const TICKET_EVENT: &[Field] = &[
    Field::new("id", Int64),
    Field::new("ticket_id", Int64),
    Field::new("timestamp", SECONDS),
    Field::new("created_at", TIME),
    Field::new("updater_id", Int64),
    Field::new("via", String),
    Field::new("via_reference_id", Int64),
    Field::new("system", Json),
    Field::new("metadata", Json),
    Field::new("event_type", String),
    Field::new("child_events", Json),
];

/// A comment as an event shows it, and what only the ticket's own list of comments has.
pub(crate) const TICKET_COMMENT: &[Field] = &[
    Field::new("id", Int64),
    Field::new("ticket_id", Int64),
    Field::new("timestamp", SECONDS),
    Field::new("created_at", TIME),
    Field::new("event_type", String),
    Field::new("type", String),
    Field::new("author_id", Int64),
    Field::new("audit_id", Int64),
    Field::new("public", Bool),
    Field::new("body", String),
    Field::new("html_body", String),
    Field::new("plain_body", String),
    Field::new("attachments", Json),
    Field::new("via", Json),
    Field::new("via_reference_id", Int64),
    Field::new("metadata", Json),
    Field::new("data", Json),
    Field::new("uploads", Json),
    Field::new("formatted_from", String),
    Field::new("formatted_to", String),
    Field::new("transcription_visible", Bool),
];

/// What metric events have by their type.
pub(crate) const TICKET_METRIC_EVENT_MORE: &[Field] = &[
    Field::new("sla", Json),
    Field::new("group_sla", Json),
    Field::new("status", Json),
];

/// The file has no type for them, and an example with a damaged date.
pub(crate) const DELETED_TICKET: &[Field] = &[
    Field::new("id", Int64),
    Field::new("subject", String),
    Field::new("description", String),
    Field::new("actor", Json),
    Field::new("deleted_at", TIME),
    Field::new("previous_state", String),
];

pub(crate) const SIDE_CONVERSATION: &[Field] = &[
    Field::new("id", String),
    Field::new("url", String),
    Field::new("ticket_id", Int64),
    Field::new("subject", String),
    Field::new("preview_text", String),
    Field::new("state", String),
    Field::new("participants", Json),
    Field::new("external_ids", Json),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
    Field::new("message_added_at", TIME),
    Field::new("state_updated_at", TIME),
];

/// The reference knows little of them; what else there is goes to `_extra`.
pub(crate) const SIDE_CONVERSATION_EVENT: &[Field] = &[
    Field::new("id", String),
    Field::new("side_conversation_id", String),
    Field::new("ticket_id", Int64),
    Field::new("type", String),
    Field::new("via", Json),
    Field::new("actor", Json),
    Field::new("message", Json),
    Field::new("updates", Json),
    Field::new("created_at", TIME),
];

pub(crate) const OF_TICKET: &[Field] = &[Field::new("ticket_id", Int64)];

pub(crate) const TICKET_FIELD_MORE: &[Field] = &[
    Field::new("key", String),
    Field::new("raw_agent_description", String),
];

pub(crate) const FORM_TYPE: &[Field] = &[Field::new("form_type", String)];

pub(crate) const VIEW_MORE: &[Field] =
    &[Field::new("url", String), Field::new("raw_title", String)];

pub(crate) const METRIC_SETTINGS: &[Field] = &[Field::new("metric_settings", Json)];

pub(crate) const TOPIC_MORE: &[Field] = &[Field::new("community_id", Int64)];

pub(crate) const POST_MORE: &[Field] = &[Field::new("frozen", Bool)];

/// One field of a ticket that an event changed.
pub(crate) const FIELD_CHANGE: &[Field] = &[
    Field::new("id", Int64),
    Field::new("field", String),
    Field::new("value", String),
    Field::new("previous_value", String),
    Field::new("event_type", String),
    Field::new("event_id", Int64),
    Field::new("ticket_id", Int64),
    Field::new("timestamp", SECONDS),
    Field::new("created_at", TIME),
    Field::new("updater_id", Int64),
];

/// A ticket that was put on a schedule.
pub(crate) const SCHEDULE_ASSIGNMENT: &[Field] = &[
    Field::new("id", Int64),
    Field::new("schedule_id", Int64),
    Field::new("previous_schedule_id", Int64),
    Field::new("event_id", Int64),
    Field::new("ticket_id", Int64),
    Field::new("timestamp", SECONDS),
    Field::new("created_at", TIME),
    Field::new("updater_id", Int64),
];

pub(crate) const SURVEY_RESPONSE: &[Field] = &[
    Field::new("id", String),
    Field::new("survey_id", String),
    Field::new("survey_version", Int64),
    Field::new("survey", Json),
    Field::new("responder_id", Int64),
    Field::new("subject_zrns", Json),
    Field::new("subjects", Json),
    Field::new("answers", Json),
    Field::new("expires_at", TIME),
];

pub(crate) const SURVEY: &[Field] = &[
    Field::new("id", String),
    Field::new("version", Int64),
    Field::new("state", String),
    Field::new("questions", Json),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
];

pub(crate) const WEBHOOK: &[Field] = &[
    Field::new("id", String),
    Field::new("name", String),
    Field::new("description", String),
    Field::new("status", String),
    Field::new("endpoint", String),
    Field::new("http_method", String),
    Field::new("request_format", String),
    Field::new("subscriptions", Json),
    Field::new("external_source", Json),
    Field::new("created_at", TIME),
    Field::new("created_by", String),
    Field::new("updated_at", TIME),
    Field::new("updated_by", String),
];

/// The search index says what each result is.
pub(crate) const SEARCH_RESULT: &[Field] = &[
    Field::new("result_type", String),
    Field::new("support_type", String),
];

/// What users have beyond the file.
pub(crate) const USER_MORE: &[Field] = &[
    Field::new("permanently_deleted", Bool),
    Field::new("suspension_details", Json),
    Field::new("is_billing_admin", Bool),
];

pub(crate) const DELETED_AT: &[Field] = &[Field::new("deleted_at", TIME)];

pub(crate) const AGENT_STATUS: &[Field] = &[
    Field::new("id", Int64),
    Field::new("type", String),
    Field::new("custom", Bool),
    Field::new("attributes", Json),
    Field::new("updated_at", TIME),
];

pub(crate) const ATTRIBUTE_DEFINITION: &[Field] = &[
    Field::new("condition", String),
    Field::new("subject", String),
    Field::new("title", String),
    Field::new("type", String),
    Field::new("group", String),
    Field::new("nullable", Bool),
    Field::new("repeatable", Bool),
    Field::new("operators", Json),
    Field::new("values", Json),
];

pub(crate) const SCHEDULE: &[Field] = &[
    Field::new("id", Int64),
    Field::new("name", String),
    Field::new("time_zone", String),
    Field::new("intervals", Json),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
];

pub(crate) const HOLIDAY: &[Field] = &[
    Field::new("id", Int64),
    Field::new("schedule_id", Int64),
    Field::new("name", String),
    Field::new("start_date", DataType::Date),
    Field::new("end_date", DataType::Date),
];

pub(crate) const URL: &[Field] = &[Field::new("url", String)];

pub(crate) const NAME: &[Field] = &[Field::new("name", String)];

pub(crate) const OF_ARTICLE: &[Field] = &[Field::new("article_id", Int64)];

pub(crate) const OF_POST: &[Field] = &[Field::new("post_id", Int64)];

/// The file says that it is a number, and shows a text.
pub(crate) const TEXT_ID: &[Field] = &[Field::new("id", String)];
