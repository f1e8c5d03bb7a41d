//! Tickets and what belongs to them.

use std::time::Duration;

use pipeline_core::TimeFormat::{Rfc3339, UnixSeconds};

use crate::limits::{DELETED_TICKETS, EXPORT, SEARCH_EXPORT, SUPPORT, TICKET_AUDITS};
use crate::table::{Columns, List, Reads, Walk, list, stream};
use crate::{columns, events, maps};

const EXPORTS: &[&str] = &[EXPORT, SUPPORT];
const ALL_TYPES: (&str, &str) = ("support_type_scope", "all");

/// Where an export goes on is exactly where it stopped.
const ONWARD: Reads = Reads::Changes(Duration::ZERO);

pub(super) const LISTS: &[List] = &[
    // One export feeds both: its pages are the scarce resource. Its order is that of
    // `generated_timestamp`; `updated_at` misses changes made by the system, and the scrubbing of a
    // permanently deleted ticket.
    list(
        "tickets",
        "/api/v2/incremental/tickets/cursor",
        &[
            stream("tickets", "tickets")
                .added(columns::TICKET_EXPORT)
                .without(&["fields", "comment"])
                .marked("status", "deleted")
                .map(maps::lean_ticket)
                .note(
                    "archived tickets and those of AI agents included; a permanently deleted one is scrubbed: `subject` = `SCRUBBED`; \
                     a column more for each custom field",
                ),
            stream("ticket_metrics", "tickets")
                .columns(Columns::Of("/api/v2/ticket_metrics", "ticket_metrics"))
                .added(columns::TICKET_METRIC_MORE)
                .expand(maps::metrics)
                .note("archived tickets included; a deleted ticket sends none, and its last metrics stay"),
        ],
    )
    .walk(Walk::CursorExport)
    .reads(ONWARD)
    .cursor("generated_timestamp", UnixSeconds)
    .query(&[("include", "metric_sets"), ALL_TYPES])
    .shared(maps::ticket)
    .limits(EXPORTS),
    list(
        "ticket_events",
        "/api/v2/incremental/ticket_events",
        &[
            stream("ticket_events", "ticket_events")
                .columns(Columns::Hand(columns::TICKET_EVENT))
                .map(events::without_texts)
                .note("the last minute is withheld; `child_events` say what happened, and `ticket_comments` what was said"),
            stream("ticket_comments", "ticket_events")
                .columns(Columns::Hand(columns::TICKET_COMMENT))
                .expand(events::comments)
                .note("`via` is an object or a text; a comment that is redacted or made private later is read again"),
            stream("ticket_field_history", "ticket_events")
                .columns(Columns::Hand(columns::FIELD_CHANGE))
                .key(&["id", "field"])
                .expand(events::field_changes)
                .note("a row for each field that an event set or changed; what is not text is JSON in `value` and `previous_value`"),
            stream("ticket_schedules", "ticket_events")
                .columns(Columns::Hand(columns::SCHEDULE_ASSIGNMENT))
                .expand(events::schedule_assignments)
                .note("a row each time that a ticket was put on a schedule of business hours"),
        ],
    )
    .walk(Walk::TimeExport)
    .reads(ONWARD)
    .cursor("timestamp", UnixSeconds)
    .query(&[("include", "comment_events"), ALL_TYPES])
    .shared(events::rewritten_ticket)
    .limits(EXPORTS),
    // What an event tells of a redaction is that there was one: the ticket's comments are read
    // again. Those of a ticket that was deleted cannot be, and which of them was redacted is not
    // known: what must not be read by anybody goes with the rest.
    list(
        "rewritten_comments",
        "/api/v2/tickets/{ticket_id}/comments",
        &[stream("ticket_comments", "comments").columns(Columns::Hand(columns::TICKET_COMMENT))],
    )
    .each("ticket_events", None, &[("ticket_id", "ticket_id")])
    .cascade_delete()
    .last(),
    list(
        "ticket_metric_events",
        "/api/v2/incremental/ticket_metric_events",
        &[stream("ticket_metric_events", "ticket_metric_events")
            .added(columns::TICKET_METRIC_EVENT_MORE)
            .marked("deleted", "true")
            .note("`sla`, `group_sla` and `status` are there for the types that have them")],
    )
    .walk(Walk::TimeExport)
    .reads(Reads::Changes(Duration::from_secs(1)))
    .cursor("time", Rfc3339)
    .limits(EXPORTS),
    list(
        "ticket_audits",
        "/api/v2/tickets/{id}/audits",
        &[stream("ticket_audits", "audits")
            .note("one request for each ticket that changed, so read only when named; needs the scope `read`")],
    )
    .limits(&[TICKET_AUDITS, SUPPORT])
    .each("tickets", Some(maps::is_live), &[("id", "ticket_id")])
    .opt_in(),
    // A redaction changes the ticket, so that its audits are read again with the export that says
    // so. An export that lags behind the events does not keep the text for longer.
    list("rewritten_audits", "/api/v2/tickets/{ticket_id}/audits", &[stream("ticket_audits", "audits")])
        .limits(&[TICKET_AUDITS, SUPPORT])
        .each("ticket_events", None, &[("ticket_id", "ticket_id")])
        .opt_in()
        .last(),
    list(
        "side_conversations",
        "/api/v2/tickets/{id}/side_conversations",
        &[stream("side_conversations", "side_conversations").columns(Columns::Hand(columns::SIDE_CONVERSATION)).note(
            "one request for each ticket that changed, so read only when named; needs Suite Professional or the Collaboration add-on",
        )],
    )
    .walk(Walk::Numbered)
    .shared(maps::side_conversation)
    .each("tickets", Some(maps::is_live), &[("id", "ticket_id")])
    .opt_in(),
    list(
        "side_conversation_events",
        "/api/v2/tickets/{ticket_id}/side_conversations/{id}/events",
        &[stream("side_conversation_events", "events")
            .columns(Columns::Hand(columns::SIDE_CONVERSATION_EVENT))
            .note("the messages of side conversations; one request for each conversation, so read only when named")],
    )
    .walk(Walk::Numbered)
    .each("side_conversations", None, &[("id", "side_conversation_id"), ("ticket_id", "ticket_id")])
    .opt_in(),
    list(
        "conversation_log",
        "/api/v2/tickets/{id}/conversation_log",
        &[stream("conversation_log", "events")
            .added(columns::OF_TICKET)
            .note("messaging with the turns of bots; one request for each ticket that changed, so read only when named")],
    )
    .each("tickets", Some(maps::is_live), &[("id", "ticket_id")])
    .opt_in(),
    list(
        "satisfaction_ratings",
        "/api/v2/satisfaction_ratings",
        &[stream("satisfaction_ratings", "satisfaction_ratings").note("needs Professional or Suite Growth, and an administrator")],
    )
    .reads(Reads::Windows)
    .cursor("updated_at", Rfc3339)
    .query(&[("sort", "created_at")]),
    list(
        "survey_responses",
        "/api/v2/guide/survey_responses",
        &[stream("survey_responses", "survey_responses")
            .columns(Columns::Hand(columns::SURVEY_RESPONSE))
            .note("what customers answer to the CSAT surveys of today; needs Professional or Suite Growth")],
    ),
    list(
        "surveys",
        "/api/v2/guide/en-us/surveys",
        &[stream("surveys", "surveys")
            .columns(Columns::Hand(columns::SURVEY))
            .note("the CSAT surveys with their questions, texts that are translated in English; needs Professional or Suite Growth")],
    ),
    list("satisfaction_reasons", "/api/v2/satisfaction_reasons", &[stream("satisfaction_reasons", "reasons").stamped("deleted_at")])
        .walk(Walk::Once),
    list(
        "deleted_tickets",
        "/api/v2/deleted_tickets",
        &[stream("deleted_tickets", "deleted_tickets")
            .columns(Columns::Hand(columns::DELETED_TICKET))
            .note("who deleted a ticket, for 30 days; archived ones are missing, which the stream `tickets` marks")],
    )
    .query(&[ALL_TYPES])
    .limits(&[DELETED_TICKETS, SUPPORT]),
    list("suspended_tickets", "/api/v2/suspended_tickets", &[stream("suspended_tickets", "suspended_tickets").note("Zendesk purges them")]),
    list(
        "ticket_skips",
        "/api/v2/skips",
        &[stream("ticket_skips", "skips").note("of tickets that are not archived; `ticket` is the ticket of that time")],
    )
    .query(&[("sort_order", "asc")]),
    list(
        "ticket_activities",
        "/api/v2/activities",
        &[stream("ticket_activities", "activities")
            .note("only what concerns the configured user, for 30 days; older ones are gone with what they quote")],
    ),
    list("ticket_fields", "/api/v2/ticket_fields", &[stream("ticket_fields", "ticket_fields").added(columns::TICKET_FIELD_MORE)]),
    list("ticket_forms", "/api/v2/ticket_forms", &[stream("ticket_forms", "ticket_forms").added(columns::FORM_TYPE).stamped("deleted_at")])
        .query(&[("form_type", "all")]),
    list("ticket_form_statuses", "/api/v2/ticket_form_statuses", &[stream("ticket_form_statuses", "ticket_form_statuses")])
        .walk(Walk::Once),
    list(
        "custom_ticket_statuses",
        "/api/v2/custom_statuses",
        &[stream("custom_ticket_statuses", "custom_statuses").added(columns::URL).note("only undeleted ones")],
    )
    .walk(Walk::Once),
    list(
        "tickets_search",
        "/api/v2/search/export",
        &[stream("tickets_search", "results")
            .columns(Columns::Of("/api/v2/incremental/tickets/cursor", "tickets"))
            .added(columns::SEARCH_RESULT)
            .without(&["fields", "comment"])
            .map(maps::lean_ticket)
            .note("fast but stale: no deleted tickets, no changes by the system, so read only when named")],
    )
    .reads(Reads::Search)
    .cursor("updated_at", Rfc3339)
    .query(&[("filter[type]", "ticket"), ALL_TYPES])
    .limits(&[SEARCH_EXPORT, SUPPORT])
    .opt_in(),
    list(
        "requests",
        "/api/v2/requests",
        &[stream("requests", "requests").note("only those of the configured user, as an end user sees tickets; read only when named")],
    )
    .opt_in(),
];
