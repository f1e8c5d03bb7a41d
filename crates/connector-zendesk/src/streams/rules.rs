//! Business rules.

use crate::limits::{SUPPORT, TAGS, WEBHOOKS};
use crate::table::{Columns, List, Walk, list, stream};
use crate::{columns, maps};

pub(super) const LISTS: &[List] = &[
    list("macros", "/api/v2/macros", &[stream("macros", "macros").note("only those that the configured user can see")])
        .query(&[("include", "permissions,usage_30d")]),
    list("triggers", "/api/v2/triggers", &[stream("triggers", "triggers")]),
    list("trigger_categories", "/api/v2/trigger_categories", &[stream("trigger_categories", "trigger_categories")]),
    list("automations", "/api/v2/automations", &[stream("automations", "automations").added(columns::URL)]),
    list(
        "views",
        "/api/v2/views",
        &[stream("views", "views").added(columns::VIEW_MORE).note("only those that the configured user can see")],
    ),
    list(
        "sla_policies",
        "/api/v2/slas/policies",
        &[stream("sla_policies", "sla_policies")
            .added(columns::METRIC_SETTINGS)
            .note("needs Professional or Suite Growth, and an administrator")],
    )
    .walk(Walk::Numbered),
    list(
        "group_sla_policies",
        "/api/v2/group_slas/policies",
        &[stream("group_sla_policies", "group_sla_policies").note("needs Enterprise and an administrator")],
    )
    .walk(Walk::Once),
    list(
        "tags",
        "/api/v2/tags",
        &[stream("tags", "tags")
            .key(&["name"])
            .note("the 20,000 most used ones of the last 60 days; `count` changes all the time; for administrators")],
    )
    .limits(&[TAGS, SUPPORT]),
    list("dynamic_content", "/api/v2/dynamic_content/items", &[stream("dynamic_content", "items").note("for administrators")]),
    list(
        "targets",
        "/api/v2/targets",
        &[stream("targets", "targets")
            .without(&["password", "token", "api_token", "secret"])
            .map(maps::target_without_secrets)
            .note("what webhooks replaced; without their secrets; for administrators")],
    )
    .walk(Walk::Once),
    list(
        "webhooks",
        "/api/v2/webhooks",
        &[stream("webhooks", "webhooks")
            .columns(Columns::Hand(columns::WEBHOOK))
            .without(&["authentication", "custom_headers", "signing_secret"])
            .map(maps::webhook_without_secrets)
            .note("without their credentials, headers and secrets; for administrators")],
    )
    .limits(&[WEBHOOKS, SUPPORT]),
    list("workspaces", "/api/v2/workspaces", &[stream("workspaces", "workspaces")]).walk(Walk::Numbered),
    list("queues", "/api/v2/queues", &[stream("queues", "queues").note("needs omnichannel routing")]).walk(Walk::Once),
];
