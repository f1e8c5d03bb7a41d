//! Business rules.

use pipeline_core::Transform::Map;
use pipeline_core::declarative::{ListDef, StreamDef};

use crate::limits::{SUPPORT, TAGS, WEBHOOKS};
use crate::vendor::{Pages, Zendesk};
use crate::{columns, transform};

pub(super) const LISTS: &[ListDef<Zendesk>] = &[
    ListDef::get("macros", "/api/v2/macros")
        .records("macros")
        .streams(&[
            StreamDef::generated("macros").note("only those that the configured user can see")
        ])
        .params(&[("include", "permissions,usage_30d")]),
    ListDef::get("triggers", "/api/v2/triggers")
        .records("triggers")
        .streams(&[StreamDef::generated("triggers")]),
    ListDef::get("trigger_categories", "/api/v2/trigger_categories")
        .records("trigger_categories")
        .streams(&[StreamDef::generated("trigger_categories")]),
    ListDef::get("automations", "/api/v2/automations")
        .records("automations")
        .streams(&[StreamDef::generated("automations").added(&[columns::URL])]),
    ListDef::get("views", "/api/v2/views")
        .records("views")
        .streams(&[StreamDef::generated("views")
            .added(&[columns::VIEW_MORE])
            .note("only those that the configured user can see")]),
    ListDef::get("sla_policies", "/api/v2/slas/policies")
        .records("sla_policies")
        .streams(&[StreamDef::generated("sla_policies")
            .added(&[columns::METRIC_SETTINGS])
            .note("needs Professional or Suite Growth, and an administrator")])
        .pages(Pages::Numbered),
    ListDef::get("group_sla_policies", "/api/v2/group_slas/policies")
        .records("group_sla_policies")
        .streams(&[StreamDef::generated("group_sla_policies")
            .note("needs Enterprise and an administrator")])
        .pages(Pages::Once),
    ListDef::get("tags", "/api/v2/tags")
        .records("tags")
        .streams(&[StreamDef::generated("tags").key(&["name"]).note(
            "the 20,000 most used ones of the last 60 days; `count` changes all the time; \
                     for administrators",
        )])
        .cost(&[TAGS, SUPPORT]),
    ListDef::get("dynamic_content", "/api/v2/dynamic_content/items")
        .records("items")
        .streams(&[StreamDef::generated("dynamic_content").note("for administrators")]),
    ListDef::get("targets", "/api/v2/targets")
        .records("targets")
        .streams(&[StreamDef::generated("targets")
            .hidden(&["password", "token", "api_token", "secret"])
            .transform(Map(transform::target_without_secrets))
            .note("what webhooks replaced; without their secrets; for administrators")])
        .pages(Pages::Once),
    ListDef::get("webhooks", "/api/v2/webhooks")
        .records("webhooks")
        .streams(&[StreamDef::new("webhooks", columns::WEBHOOK)
            .hidden(&["authentication", "custom_headers", "signing_secret"])
            .transform(Map(transform::webhook_without_secrets))
            .note("without their credentials, headers and secrets; for administrators")])
        .cost(&[WEBHOOKS, SUPPORT]),
    ListDef::get("workspaces", "/api/v2/workspaces")
        .records("workspaces")
        .streams(&[StreamDef::generated("workspaces")])
        .pages(Pages::Numbered),
    ListDef::get("queues", "/api/v2/queues")
        .records("queues")
        .streams(&[StreamDef::generated("queues").note("needs omnichannel routing")])
        .pages(Pages::Once),
];
