//! The columns of every stream. Members that grow by the account's own fields, and nested ones, are JSON.

use pipeline_core::{DataType, Field, Schema, TimeFormat};

/// How Zendesk writes an instant.
const TIME: DataType = DataType::Timestamp(TimeFormat::Rfc3339);

/// A ticket of the cursor export.
pub(crate) fn ticket() -> Schema {
    Schema::from_static(TICKET)
}

const TICKET: &[Field] = &[
    Field::new("id", DataType::Int64),
    Field::new("url", DataType::String),
    Field::new("external_id", DataType::String),
    Field::new("via", DataType::Json),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
    Field::new("generated_timestamp", DataType::Timestamp(TimeFormat::UnixSeconds)),
    Field::new("type", DataType::String),
    Field::new("subject", DataType::String),
    Field::new("raw_subject", DataType::String),
    Field::new("description", DataType::String),
    Field::new("priority", DataType::String),
    Field::new("status", DataType::String),
    Field::new("recipient", DataType::String),
    Field::new("requester_id", DataType::Int64),
    Field::new("submitter_id", DataType::Int64),
    Field::new("assignee_id", DataType::Int64),
    Field::new("organization_id", DataType::Int64),
    Field::new("group_id", DataType::Int64),
    Field::new("collaborator_ids", DataType::Json),
    Field::new("follower_ids", DataType::Json),
    Field::new("email_cc_ids", DataType::Json),
    Field::new("forum_topic_id", DataType::Int64),
    Field::new("problem_id", DataType::Int64),
    Field::new("has_incidents", DataType::Bool),
    Field::new("is_public", DataType::Bool),
    Field::new("due_at", TIME),
    Field::new("tags", DataType::Json),
    Field::new("custom_fields", DataType::Json),
    Field::new("satisfaction_rating", DataType::Json),
    Field::new("sharing_agreement_ids", DataType::Json),
    Field::new("custom_status_id", DataType::Int64),
    Field::new("followup_ids", DataType::Json),
    Field::new("ticket_form_id", DataType::Int64),
    Field::new("deleted_ticket_form_id", DataType::Int64),
    Field::new("brand_id", DataType::Int64),
    Field::new("allow_channelback", DataType::Bool),
    Field::new("allow_attachments", DataType::Bool),
    Field::new("from_messaging_channel", DataType::Bool),
    Field::new("encoded_id", DataType::String),
    Field::new("support_type", DataType::String),
];

/// The metrics of one ticket.
pub(crate) fn ticket_metric() -> Schema {
    Schema::from_static(TICKET_METRIC)
}

const TICKET_METRIC: &[Field] = &[
    Field::new("id", DataType::Int64),
    Field::new("ticket_id", DataType::Int64),
    Field::new("url", DataType::String),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
    Field::new("group_stations", DataType::Int64),
    Field::new("assignee_stations", DataType::Int64),
    Field::new("reopens", DataType::Int64),
    Field::new("replies", DataType::Int64),
    Field::new("assignee_updated_at", TIME),
    Field::new("requester_updated_at", TIME),
    Field::new("status_updated_at", TIME),
    Field::new("custom_status_updated_at", TIME),
    Field::new("initially_assigned_at", TIME),
    Field::new("assigned_at", TIME),
    Field::new("solved_at", TIME),
    Field::new("latest_comment_added_at", TIME),
    Field::new("reply_time_in_minutes", DataType::Json),
    Field::new("reply_time_in_seconds", DataType::Json),
    Field::new("first_resolution_time_in_minutes", DataType::Json),
    Field::new("full_resolution_time_in_minutes", DataType::Json),
    Field::new("agent_wait_time_in_minutes", DataType::Json),
    Field::new("requester_wait_time_in_minutes", DataType::Json),
    Field::new("on_hold_time_in_minutes", DataType::Json),
];

/// A user of the cursor export; `permanently_deleted` is there for inactive ones only.
pub(crate) fn user() -> Schema {
    Schema::from_static(USER)
}

const USER: &[Field] = &[
    Field::new("id", DataType::Int64),
    Field::new("url", DataType::String),
    Field::new("name", DataType::String),
    Field::new("email", DataType::String),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
    Field::new("time_zone", DataType::String),
    Field::new("iana_time_zone", DataType::String),
    Field::new("phone", DataType::String),
    Field::new("shared_phone_number", DataType::Bool),
    Field::new("photo", DataType::Json),
    Field::new("locale_id", DataType::Int64),
    Field::new("locale", DataType::String),
    Field::new("organization_id", DataType::Int64),
    Field::new("role", DataType::String),
    Field::new("verified", DataType::Bool),
    Field::new("external_id", DataType::String),
    Field::new("tags", DataType::Json),
    Field::new("alias", DataType::String),
    Field::new("active", DataType::Bool),
    Field::new("shared", DataType::Bool),
    Field::new("shared_agent", DataType::Bool),
    Field::new("last_login_at", TIME),
    Field::new("two_factor_auth_enabled", DataType::Bool),
    Field::new("signature", DataType::String),
    Field::new("details", DataType::String),
    Field::new("notes", DataType::String),
    Field::new("role_type", DataType::Int64),
    Field::new("custom_role_id", DataType::Int64),
    Field::new("moderator", DataType::Bool),
    Field::new("ticket_restriction", DataType::String),
    Field::new("only_private_comments", DataType::Bool),
    Field::new("restricted_agent", DataType::Bool),
    Field::new("suspended", DataType::Bool),
    Field::new("suspension_details", DataType::Json),
    Field::new("default_group_id", DataType::Int64),
    Field::new("report_csv", DataType::Bool),
    Field::new("is_billing_admin", DataType::Bool),
    Field::new("user_fields", DataType::Json),
    Field::new("permanently_deleted", DataType::Bool),
];

/// An address or account by which a user is known.
pub(crate) fn user_identity() -> Schema {
    Schema::from_static(USER_IDENTITY)
}

const USER_IDENTITY: &[Field] = &[
    Field::new("id", DataType::Int64),
    Field::new("user_id", DataType::Int64),
    Field::new("url", DataType::String),
    Field::new("type", DataType::String),
    Field::new("value", DataType::String),
    Field::new("verified", DataType::Bool),
    Field::new("primary", DataType::Bool),
    Field::new("deliverable_state", DataType::String),
    Field::new("undeliverable_count", DataType::Int64),
    Field::new("verification_method", DataType::String),
    Field::new("verified_at", TIME),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
];

/// An organization of the time-based export.
pub(crate) fn organization() -> Schema {
    Schema::from_static(ORGANIZATION)
}

const ORGANIZATION: &[Field] = &[
    Field::new("id", DataType::Int64),
    Field::new("url", DataType::String),
    Field::new("name", DataType::String),
    Field::new("shared_tickets", DataType::Bool),
    Field::new("shared_comments", DataType::Bool),
    Field::new("external_id", DataType::String),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
    Field::new("deleted_at", TIME),
    Field::new("domain_names", DataType::Json),
    Field::new("details", DataType::String),
    Field::new("notes", DataType::String),
    Field::new("group_id", DataType::Int64),
    Field::new("tags", DataType::Json),
    Field::new("organization_fields", DataType::Json),
];

/// A group of agents.
pub(crate) fn group() -> Schema {
    Schema::from_static(GROUP)
}

const GROUP: &[Field] = &[
    Field::new("id", DataType::Int64),
    Field::new("url", DataType::String),
    Field::new("name", DataType::String),
    Field::new("description", DataType::String),
    Field::new("is_public", DataType::Bool),
    Field::new("default", DataType::Bool),
    Field::new("deleted", DataType::Bool),
    Field::new("created_at", TIME),
    Field::new("updated_at", TIME),
];
