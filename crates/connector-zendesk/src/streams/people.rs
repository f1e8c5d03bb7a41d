//! People, groups and the account.

use std::time::Duration;

use pipeline_core::TimeFormat::Rfc3339;

use pipeline_core::Deletes;
use pipeline_core::Transform::{Expand, Map};
use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use crate::limits::{EXPORT, SUPPORT};
use crate::vendor::{Described, Pages, Slices, Zendesk};
use crate::{columns, transform};

const EXPORTS: &[&str] = &[EXPORT, SUPPORT];

pub(super) const LISTS: &[ListDef<Zendesk>] = &[
    ListDef::get("users", "/api/v2/incremental/users/cursor")
        .records("users")
        .streams(&[
            StreamDef::generated("users")
                .added(&[columns::USER_MORE])
                .deletes(Deletes::marked("active", "false"))
                .note(
                    "inactive ones included; `permanently_deleted` is there for these only; a \
                     merged user turns inactive; a column more for each custom field",
                ),
            StreamDef::generated("user_identities")
                .records("")
                .facts(Described::With(
                    "/api/v2/users/{user_id}/identities",
                    "identities",
                ))
                .transform(Expand(transform::identities))
                .note(
                    "read with the user: all of them each time that a user changes, so that those \
                     which are removed go",
                ),
        ])
        .pages(Pages::CursorExport)
        .slices(Slices::Changes(Duration::ZERO))
        .incremental()
        .cursor("updated_at", Rfc3339)
        .params(&[("include", "identities")])
        .cost(EXPORTS),
    ListDef::get("organizations", "/api/v2/incremental/organizations")
        .records("organizations")
        .streams(&[StreamDef::generated("organizations")
            .added(&[columns::DELETED_AT])
            .deletes(Deletes::stamped("deleted_at"))
            .note("a column more for each custom field")])
        .pages(Pages::TimeExport)
        .slices(Slices::Changes(Duration::ZERO))
        .incremental()
        .cursor("updated_at", Rfc3339)
        .cost(EXPORTS),
    ListDef::get("deleted_users", "/api/v2/deleted_users")
        .records("deleted_users")
        .streams(&[StreamDef::generated("deleted_users")
            .note("permanently deleted ones have another name, and neither email nor phone")]),
    ListDef::get("user_fields", "/api/v2/user_fields")
        .records("user_fields")
        .streams(&[StreamDef::generated("user_fields")]),
    ListDef::get("organization_fields", "/api/v2/organization_fields")
        .records("organization_fields")
        .streams(&[StreamDef::generated("organization_fields")]),
    ListDef::get(
        "organization_memberships",
        "/api/v2/organization_memberships",
    )
    .records("organization_memberships")
    .streams(&[StreamDef::generated("organization_memberships")]),
    ListDef::get(
        "organization_subscriptions",
        "/api/v2/organization_subscriptions",
    )
    .records("organization_subscriptions")
    .streams(&[StreamDef::generated("organization_subscriptions")]),
    ListDef::get("groups", "/api/v2/groups")
        .records("groups")
        .streams(&[StreamDef::generated("groups")
            .deletes(Deletes::marked("deleted", "true"))
            .note("deleted ones are asked for")])
        .params(&[("exclude_deleted", "false")]),
    ListDef::get("group_memberships", "/api/v2/group_memberships")
        .records("group_memberships")
        .streams(&[StreamDef::generated("group_memberships").note("`updated_at` may be missing")]),
    ListDef::get("brands", "/api/v2/brands")
        .records("brands")
        .streams(&[StreamDef::generated("brands")
            .deletes(Deletes::marked("is_deleted", "true"))
            .note("an agent sees only their own")]),
    ListDef::get("brand_agents", "/api/v2/brand_agents")
        .records("brand_agents")
        .streams(&[StreamDef::generated("brand_agents")
            .added(&[columns::TEXT_ID])
            .transform(Map(transform::textual_id))
            .note("for administrators")]),
    ListDef::get("custom_roles", "/api/v2/custom_roles")
        .records("custom_roles")
        .streams(&[StreamDef::generated("custom_roles").note("needs Enterprise")])
        .pages(Pages::Once),
    ListDef::get(
        "agent_statuses",
        "/api/v2/agent_availabilities/agent_statuses",
    )
    .streams(&[StreamDef::new("agent_statuses", columns::AGENT_STATUS)
        .transform(Expand(transform::agent_statuses))
        .note("needs omnichannel routing; `custom` tells the account's own from Zendesk's")]),
    ListDef::get("account_attributes", "/api/v2/routing/attributes")
        .records("attributes")
        .streams(&[StreamDef::generated("account_attributes").note("needs skills-based routing")])
        .pages(Pages::Numbered),
    ListDef::get(
        "attribute_definitions",
        "/api/v2/routing/attributes/definitions",
    )
    .records("definitions")
    .streams(&[
        StreamDef::new("attribute_definitions", columns::ATTRIBUTE_DEFINITION)
            .key(&["condition", "subject"])
            .transform(Expand(transform::attribute_definitions))
            .note("`condition` is the list that the definition stands in, `all` or `any`"),
    ])
    .pages(Pages::Once),
    ListDef::get(
        "routing_attribute_changes",
        "/api/v2/incremental/routing/attributes",
    )
    .records("attributes")
    .streams(&[StreamDef::generated("routing_attribute_changes")
        .key(&["id", "time", "type"])
        .note("a log (create, update, delete) that costs exports, so read only when named")])
    .pages(Pages::CursorFeed)
    .incremental()
    .cursor("time", Rfc3339)
    .cost(EXPORTS)
    .opt_in(),
    ListDef::get(
        "routing_attribute_value_changes",
        "/api/v2/incremental/routing/attribute_values",
    )
    .records("attribute_values")
    .streams(&[StreamDef::generated("routing_attribute_value_changes")
        .key(&["id", "time", "type"])
        .note("a log (create, update, delete) that costs exports, so read only when named")])
    .pages(Pages::CursorFeed)
    .incremental()
    .cursor("time", Rfc3339)
    .cost(EXPORTS)
    .opt_in(),
    ListDef::get(
        "routing_instance_value_changes",
        "/api/v2/incremental/routing/instance_values",
    )
    .records("instance_values")
    .streams(&[StreamDef::generated("routing_instance_value_changes")
        .key(&["id", "time", "type"])
        .note(
            "a log of which agent or ticket got or lost which value; costs exports, so \
                     read only when named",
        )])
    .pages(Pages::CursorFeed)
    .incremental()
    .cursor("time", Rfc3339)
    .cost(EXPORTS)
    .opt_in(),
    ListDef::get("audit_logs", "/api/v2/audit_logs")
        .records("audit_logs")
        .streams(&[StreamDef::generated("audit_logs")
            .note("needs Enterprise and an administrator; `actor_id` -1 is the system")])
        .slices(Slices::Created)
        .incremental()
        .cursor("created_at", Rfc3339)
        .params(&[("sort", "created_at")]),
    ListDef::get("schedules", "/api/v2/business_hours/schedules")
        .records("schedules")
        .streams(&[StreamDef::new("schedules", columns::SCHEDULE).note(
            "needs Professional; intervals are minutes since Sunday 00:00, `time_zone` is \
                     a display name",
        )])
        .pages(Pages::Once)
        .cache_pages(transform::schedule),
    ListDef::get(
        "schedule_holidays",
        "/api/v2/business_hours/schedules/{id}/holidays",
    )
    .records("holidays")
    .streams(&[
        StreamDef::new("schedule_holidays", columns::HOLIDAY).note("one request for each schedule")
    ])
    .pages(Pages::Once)
    .child_of(ParentRef::to("schedules").include(&[("id", "schedule_id")])),
    ListDef::get("locales", "/api/v2/locales")
        .records("locales")
        .streams(&[StreamDef::generated("locales")])
        .pages(Pages::Once),
    ListDef::get("job_statuses", "/api/v2/job_statuses")
        .records("job_statuses")
        .streams(&[StreamDef::generated("job_statuses").note("kept for a short time only")]),
    ListDef::get("deletion_schedules", "/api/v2/deletion_schedules")
        .records("deletion_schedules")
        .streams(&[StreamDef::generated("deletion_schedules").note("for administrators")])
        .pages(Pages::Once),
    ListDef::get("sharing_agreements", "/api/v2/sharing_agreements")
        .records("sharing_agreements")
        .streams(&[StreamDef::generated("sharing_agreements")])
        .pages(Pages::Numbered),
    ListDef::get("recipient_addresses", "/api/v2/recipient_addresses")
        .records("recipient_addresses")
        .streams(&[StreamDef::generated("recipient_addresses")
            .added(&[columns::URL])
            .note("support addresses; for administrators")]),
    ListDef::get("custom_objects", "/api/v2/custom_objects")
        .records("custom_objects")
        .streams(&[StreamDef::generated("custom_objects").key(&["key"])]),
    ListDef::get("oauth_clients", "/api/v2/oauth/clients")
        .records("clients")
        .streams(&[StreamDef::generated("oauth_clients")
            .hidden(&["secret"])
            .transform(Map(transform::client_without_secret))
            .note("without their secrets")]),
    ListDef::get("oauth_tokens", "/api/v2/oauth/tokens")
        .records("tokens")
        .streams(&[StreamDef::generated("oauth_tokens")
            .hidden(&["token", "refresh_token"])
            .transform(Map(transform::token_without_secrets))
            .note("who has access, without the tokens")]),
];

/// The records of one kind of custom object, of which there is an export each. The configuration
/// names them.
pub(crate) const CUSTOM_OBJECT_RECORDS: ListDef<Zendesk> = ListDef::get(
    "custom_object_{custom_object_key}",
    "/api/v2/incremental/custom_objects/{custom_object_key}/cursor",
)
.records("custom_object_records")
.streams(&[StreamDef::generated("custom_object_records")
    .note("the values of a deleted record are `[DELETED]`")])
.pages(Pages::CursorExport)
.slices(Slices::Changes(Duration::ZERO))
.incremental()
.cursor("updated_at", Rfc3339)
.cost(&[EXPORT, SUPPORT]);

/// The fields of one kind of custom object.
pub(super) const CUSTOM_OBJECT_FIELDS: ListDef<Zendesk> = ListDef::get(
    "custom_object_{custom_object_key}_fields",
    "/api/v2/custom_objects/{custom_object_key}/fields",
)
.records("custom_object_fields")
.streams(&[StreamDef::new("custom_object_fields", &[])]);
