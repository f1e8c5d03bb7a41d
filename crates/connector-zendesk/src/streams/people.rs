//! People, groups and the account.

use std::time::Duration;

use pipeline_core::TimeFormat::Rfc3339;

use crate::limits::{EXPORT, SUPPORT};
use crate::table::{Columns, List, Reads, Walk, list, stream};
use crate::{columns, maps};

const EXPORTS: &[&str] = &[EXPORT, SUPPORT];

pub(super) const LISTS: &[List] = &[
    list(
        "users",
        "/api/v2/incremental/users/cursor",
        &[
            stream("users", "users")
                .added(columns::USER_MORE)
                .marked("active", "false")
                .note("inactive ones included; `permanently_deleted` is there for these only; a merged user turns inactive; a column more for each custom field"),
            stream("user_identities", "")
                .columns(Columns::Of("/api/v2/users/{user_id}/identities", "identities"))
                .expand(maps::identities)
                .note("read with the user: all of them each time that a user changes, so that those which are removed go"),
        ],
    )
    .walk(Walk::CursorExport)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("updated_at", Rfc3339)
    .query(&[("include", "identities")])
    .limits(EXPORTS),
    list(
        "organizations",
        "/api/v2/incremental/organizations",
        &[stream("organizations", "organizations")
            .added(columns::DELETED_AT)
            .stamped("deleted_at")
            .note("a column more for each custom field")],
    )
    .walk(Walk::TimeExport)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("updated_at", Rfc3339)
    .limits(EXPORTS),
    list(
        "deleted_users",
        "/api/v2/deleted_users",
        &[stream("deleted_users", "deleted_users").note("permanently deleted ones have another name, and neither email nor phone")],
    ),
    list("user_fields", "/api/v2/user_fields", &[stream("user_fields", "user_fields")]),
    list("organization_fields", "/api/v2/organization_fields", &[stream("organization_fields", "organization_fields")]),
    list("organization_memberships", "/api/v2/organization_memberships", &[stream("organization_memberships", "organization_memberships")]),
    list(
        "organization_subscriptions",
        "/api/v2/organization_subscriptions",
        &[stream("organization_subscriptions", "organization_subscriptions")],
    ),
    list("groups", "/api/v2/groups", &[stream("groups", "groups").marked("deleted", "true").note("deleted ones are asked for")])
        .query(&[("exclude_deleted", "false")]),
    list(
        "group_memberships",
        "/api/v2/group_memberships",
        &[stream("group_memberships", "group_memberships").note("`updated_at` may be missing")],
    ),
    list("brands", "/api/v2/brands", &[stream("brands", "brands").marked("is_deleted", "true").note("an agent sees only their own")]),
    list(
        "brand_agents",
        "/api/v2/brand_agents",
        &[stream("brand_agents", "brand_agents").added(columns::TEXT_ID).map(maps::textual_id).note("for administrators")],
    ),
    list("custom_roles", "/api/v2/custom_roles", &[stream("custom_roles", "custom_roles").note("needs Enterprise")]).walk(Walk::Once),
    list(
        "agent_statuses",
        "/api/v2/agent_availabilities/agent_statuses",
        &[stream("agent_statuses", "")
            .columns(Columns::Hand(columns::AGENT_STATUS))
            .expand(maps::agent_statuses)
            .note("needs omnichannel routing; `custom` tells the account's own from Zendesk's")],
    ),
    list(
        "account_attributes",
        "/api/v2/routing/attributes",
        &[stream("account_attributes", "attributes").note("needs skills-based routing")],
    )
    .walk(Walk::Numbered),
    list(
        "attribute_definitions",
        "/api/v2/routing/attributes/definitions",
        &[stream("attribute_definitions", "definitions")
            .columns(Columns::Hand(columns::ATTRIBUTE_DEFINITION))
            .key(&["condition", "subject"])
            .expand(maps::attribute_definitions)
            .note("`condition` is the list that the definition stands in, `all` or `any`")],
    )
    .walk(Walk::Once),
    list(
        "routing_attribute_changes",
        "/api/v2/incremental/routing/attributes",
        &[stream("routing_attribute_changes", "attributes")
            .key(&["id", "time", "type"])
            .note("a log (create, update, delete) that costs exports, so read only when named")],
    )
    .walk(Walk::CursorFeed)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("time", Rfc3339)
    .limits(EXPORTS)
    .opt_in(),
    list(
        "routing_attribute_value_changes",
        "/api/v2/incremental/routing/attribute_values",
        &[stream("routing_attribute_value_changes", "attribute_values")
            .key(&["id", "time", "type"])
            .note("a log (create, update, delete) that costs exports, so read only when named")],
    )
    .walk(Walk::CursorFeed)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("time", Rfc3339)
    .limits(EXPORTS)
    .opt_in(),
    list(
        "routing_instance_value_changes",
        "/api/v2/incremental/routing/instance_values",
        &[stream("routing_instance_value_changes", "instance_values")
            .key(&["id", "time", "type"])
            .note("a log of which agent or ticket got or lost which value; costs exports, so read only when named")],
    )
    .walk(Walk::CursorFeed)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("time", Rfc3339)
    .limits(EXPORTS)
    .opt_in(),
    list(
        "audit_logs",
        "/api/v2/audit_logs",
        &[stream("audit_logs", "audit_logs").note("needs Enterprise and an administrator; `actor_id` -1 is the system")],
    )
    .reads(Reads::Created)
    .cursor("created_at", Rfc3339)
    .query(&[("sort", "created_at")]),
    list(
        "schedules",
        "/api/v2/business_hours/schedules",
        &[stream("schedules", "schedules")
            .columns(Columns::Hand(columns::SCHEDULE))
            .note("needs Professional; intervals are minutes since Sunday 00:00, `time_zone` is a display name")],
    )
    .walk(Walk::Once)
    .shared(maps::schedule),
    list(
        "schedule_holidays",
        "/api/v2/business_hours/schedules/{id}/holidays",
        &[stream("schedule_holidays", "holidays").columns(Columns::Hand(columns::HOLIDAY)).note("one request for each schedule")],
    )
    .walk(Walk::Once)
    .each("schedules", None, &[("id", "schedule_id")]),
    list("locales", "/api/v2/locales", &[stream("locales", "locales")]).walk(Walk::Once),
    list("job_statuses", "/api/v2/job_statuses", &[stream("job_statuses", "job_statuses").note("kept for a short time only")]),
    list(
        "deletion_schedules",
        "/api/v2/deletion_schedules",
        &[stream("deletion_schedules", "deletion_schedules").note("for administrators")],
    )
    .walk(Walk::Once),
    list("sharing_agreements", "/api/v2/sharing_agreements", &[stream("sharing_agreements", "sharing_agreements")]).walk(Walk::Numbered),
    list(
        "recipient_addresses",
        "/api/v2/recipient_addresses",
        &[stream("recipient_addresses", "recipient_addresses").added(columns::URL).note("support addresses; for administrators")],
    ),
    list("custom_objects", "/api/v2/custom_objects", &[stream("custom_objects", "custom_objects").key(&["key"])]),
    list(
        "oauth_clients",
        "/api/v2/oauth/clients",
        &[stream("oauth_clients", "clients").without(&["secret"]).map(maps::client_without_secret).note("without their secrets")],
    ),
    list(
        "oauth_tokens",
        "/api/v2/oauth/tokens",
        &[stream("oauth_tokens", "tokens")
            .without(&["token", "refresh_token"])
            .map(maps::token_without_secrets)
            .note("who has access, without the tokens")],
    ),
];

/// The records of one kind of custom object, of which there is an export each. The configuration
/// names them.
pub(crate) const CUSTOM_OBJECT_RECORDS: List = list(
    "custom_object_records",
    "/api/v2/incremental/custom_objects/{custom_object_key}/cursor",
    &[stream("custom_object_records", "custom_object_records")
        .note("the values of a deleted record are `[DELETED]`")],
)
.walk(Walk::CursorExport)
.reads(Reads::Changes(Duration::ZERO))
.cursor("updated_at", Rfc3339)
.limits(&[EXPORT, SUPPORT]);

/// The fields of one kind of custom object.
pub(super) const CUSTOM_OBJECT_FIELDS: List = list(
    "custom_object_fields",
    "/api/v2/custom_objects/{custom_object_key}/fields",
    &[stream("custom_object_fields", "custom_object_fields").columns(Columns::Hand(&[]))],
);
