//! Tickets and what belongs to them.

use std::time::Duration;

use pipeline_core::TimeFormat::{Rfc3339, UnixSeconds};

use pipeline_core::Deletes;
use pipeline_core::Transform::{Expand, Map};
use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use crate::limits::{DELETED_TICKETS, EXPORT, SEARCH_EXPORT, SUPPORT, TICKET_AUDITS};
use crate::vendor::{Described, Pages, Slices, Zendesk};
use crate::{columns, events, transform};

const EXPORTS: &[&str] = &[EXPORT, SUPPORT];
const ALL_TYPES: (&str, &str) = ("support_type_scope", "all");

/// Where an export goes on is exactly where it stopped.
const ONWARD: Slices = Slices::Changes(Duration::ZERO);

pub(super) const LISTS: &[ListDef<Zendesk>] = &[
    // One export feeds both: its pages are the scarce resource. Its order is that of
    // `generated_timestamp`; `updated_at` misses changes made by the system, and the scrubbing of a
    // permanently deleted ticket.
    ListDef::get("tickets", "/api/v2/incremental/tickets/cursor")
        .records("tickets")
        .streams(&[
            StreamDef::generated("tickets")
                .added(&[columns::TICKET_EXPORT])
                .hidden(&["fields", "comment"])
                .deletes(Deletes::marked("status", "deleted"))
                .transform(Map(transform::lean_ticket))
                .note(
                    "archived tickets and those of AI agents included; a permanently deleted one \
                     is scrubbed: `subject` = `SCRUBBED`; a column more for each custom field",
                ),
            StreamDef::generated("ticket_metrics")
                .facts(Described::With("/api/v2/ticket_metrics", "ticket_metrics"))
                .added(&[columns::TICKET_METRIC_MORE])
                .transform(Expand(transform::metrics))
                .note(
                    "archived tickets included; a deleted ticket sends none, and its last metrics \
                     stay",
                ),
        ])
        .pages(Pages::CursorExport)
        .slices(ONWARD)
        .incremental()
        .cursor("generated_timestamp", UnixSeconds)
        .params(&[("include", "metric_sets"), ALL_TYPES])
        .cache_pages(transform::ticket)
        .cost(EXPORTS),
    ListDef::get("ticket_events", "/api/v2/incremental/ticket_events")
        .records("ticket_events")
        .streams(&[
            StreamDef::new("ticket_events", columns::TICKET_EVENT)
                .transform(Map(events::without_texts))
                .note(
                    "the last minute is withheld; `child_events` say what happened, and \
                     `ticket_comments` what was said",
                ),
            StreamDef::new("ticket_comments", columns::TICKET_COMMENT)
                .transform(Expand(events::comments))
                .note(
                    "`via` is an object or a text; a comment that is redacted or made private \
                     later is read again",
                ),
            StreamDef::new("ticket_field_history", columns::FIELD_CHANGE)
                .key(&["id", "field"])
                .transform(Expand(events::field_changes))
                .note(
                    "a row for each field that an event set or changed; what is not text is JSON \
                     in `value` and `previous_value`",
                ),
            StreamDef::new("ticket_schedules", columns::SCHEDULE_ASSIGNMENT)
                .transform(Expand(events::schedule_assignments))
                .note("a row each time that a ticket was put on a schedule of business hours"),
        ])
        .pages(Pages::TimeExport)
        .slices(ONWARD)
        .incremental()
        .cursor("timestamp", UnixSeconds)
        .params(&[("include", "comment_events"), ALL_TYPES])
        .cache_pages(events::rewritten_ticket)
        .cost(EXPORTS),
    // What an event tells of a redaction is that there was one: the ticket's comments are read
    // again. Those of a ticket that was deleted cannot be, and which of them was redacted is not
    // known: what must not be read by anybody goes with the rest.
    ListDef::get("rewritten_comments", "/api/v2/tickets/{ticket_id}/comments")
        .records("comments")
        .streams(&[StreamDef::new("ticket_comments", columns::TICKET_COMMENT)])
        .child_of(
            ParentRef::to("ticket_events")
                .include(&[("ticket_id", "ticket_id")])
                .cascade_delete(),
        )
        .corrects(),
    ListDef::get(
        "ticket_metric_events",
        "/api/v2/incremental/ticket_metric_events",
    )
    .records("ticket_metric_events")
    .streams(&[StreamDef::generated("ticket_metric_events")
        .added(&[columns::TICKET_METRIC_EVENT_MORE])
        .deletes(Deletes::marked("deleted", "true"))
        .note("`sla`, `group_sla` and `status` are there for the types that have them")])
    .pages(Pages::TimeExport)
    .slices(Slices::Changes(Duration::from_secs(1)))
    .incremental()
    .cursor("time", Rfc3339)
    .cost(EXPORTS),
    ListDef::get("ticket_audits", "/api/v2/tickets/{id}/audits")
        .records("audits")
        .streams(&[StreamDef::generated("ticket_audits").note(
            "one request for each ticket that changed, so read only when named; needs the \
                     scope `read`",
        )])
        .cost(&[TICKET_AUDITS, SUPPORT])
        .child_of(
            ParentRef::to("tickets")
                .filter(transform::is_live)
                .include(&[("id", "ticket_id")]),
        )
        .opt_in(),
    // A redaction changes the ticket, so that its audits are read again with the export that says
    // so. An export that lags behind the events does not keep the text for longer.
    ListDef::get("rewritten_audits", "/api/v2/tickets/{ticket_id}/audits")
        .records("audits")
        .streams(&[StreamDef::generated("ticket_audits")])
        .cost(&[TICKET_AUDITS, SUPPORT])
        .child_of(ParentRef::to("ticket_events").include(&[("ticket_id", "ticket_id")]))
        .opt_in()
        .corrects(),
    ListDef::get(
        "side_conversations",
        "/api/v2/tickets/{id}/side_conversations",
    )
    .records("side_conversations")
    .streams(&[
        StreamDef::new("side_conversations", columns::SIDE_CONVERSATION).note(
            "one request for each ticket that changed, so read only when named; needs \
                     Suite Professional or the Collaboration add-on",
        ),
    ])
    .pages(Pages::Numbered)
    .cache_pages(transform::side_conversation)
    .child_of(
        ParentRef::to("tickets")
            .filter(transform::is_live)
            .include(&[("id", "ticket_id")]),
    )
    .opt_in(),
    ListDef::get(
        "side_conversation_events",
        "/api/v2/tickets/{ticket_id}/side_conversations/{id}/events",
    )
    .records("events")
    .streams(&[
        StreamDef::new("side_conversation_events", columns::SIDE_CONVERSATION_EVENT).note(
            "the messages of side conversations; one request for each conversation, so \
                     read only when named",
        ),
    ])
    .pages(Pages::Numbered)
    .child_of(
        ParentRef::to("side_conversations")
            .include(&[("id", "side_conversation_id"), ("ticket_id", "ticket_id")]),
    )
    .opt_in(),
    ListDef::get("conversation_log", "/api/v2/tickets/{id}/conversation_log")
        .records("events")
        .streams(&[StreamDef::generated("conversation_log")
            .added(&[columns::OF_TICKET])
            .note(
                "messaging with the turns of bots; one request for each ticket that changed, \
                     so read only when named",
            )])
        .child_of(
            ParentRef::to("tickets")
                .filter(transform::is_live)
                .include(&[("id", "ticket_id")]),
        )
        .opt_in(),
    ListDef::get("satisfaction_ratings", "/api/v2/satisfaction_ratings")
        .records("satisfaction_ratings")
        .streams(&[StreamDef::generated("satisfaction_ratings")
            .note("needs Professional or Suite Growth, and an administrator")])
        .slices(Slices::Windows)
        .incremental()
        .cursor("updated_at", Rfc3339)
        .params(&[("sort", "created_at")]),
    ListDef::get("survey_responses", "/api/v2/guide/survey_responses")
        .records("survey_responses")
        .streams(&[
            StreamDef::new("survey_responses", columns::SURVEY_RESPONSE).note(
                "what customers answer to the CSAT surveys of today; needs Professional or \
                     Suite Growth",
            ),
        ]),
    ListDef::get("surveys", "/api/v2/guide/en-us/surveys")
        .records("surveys")
        .streams(&[StreamDef::new("surveys", columns::SURVEY).note(
            "the CSAT surveys with their questions, texts that are translated in English; \
                     needs Professional or Suite Growth",
        )]),
    ListDef::get("satisfaction_reasons", "/api/v2/satisfaction_reasons")
        .records("reasons")
        .streams(&[
            StreamDef::generated("satisfaction_reasons").deletes(Deletes::stamped("deleted_at"))
        ])
        .pages(Pages::Once),
    ListDef::get("deleted_tickets", "/api/v2/deleted_tickets")
        .records("deleted_tickets")
        .streams(&[
            StreamDef::new("deleted_tickets", columns::DELETED_TICKET).note(
                "who deleted a ticket, for 30 days; archived ones are missing, which the \
                     stream `tickets` marks",
            ),
        ])
        .params(&[ALL_TYPES])
        .cost(&[DELETED_TICKETS, SUPPORT]),
    ListDef::get("suspended_tickets", "/api/v2/suspended_tickets")
        .records("suspended_tickets")
        .streams(&[StreamDef::generated("suspended_tickets").note("Zendesk purges them")]),
    ListDef::get("ticket_skips", "/api/v2/skips")
        .records("skips")
        .streams(&[StreamDef::generated("ticket_skips")
            .note("of tickets that are not archived; `ticket` is the ticket of that time")])
        .params(&[("sort_order", "asc")]),
    ListDef::get("ticket_activities", "/api/v2/activities")
        .records("activities")
        .streams(&[StreamDef::generated("ticket_activities").note(
            "only what concerns the configured user, for 30 days; older ones are gone \
                     with what they quote",
        )]),
    ListDef::get("ticket_fields", "/api/v2/ticket_fields")
        .records("ticket_fields")
        .streams(&[StreamDef::generated("ticket_fields").added(&[columns::TICKET_FIELD_MORE])]),
    ListDef::get("ticket_forms", "/api/v2/ticket_forms")
        .records("ticket_forms")
        .streams(&[StreamDef::generated("ticket_forms")
            .added(&[columns::FORM_TYPE])
            .deletes(Deletes::stamped("deleted_at"))])
        .params(&[("form_type", "all")]),
    ListDef::get("ticket_form_statuses", "/api/v2/ticket_form_statuses")
        .records("ticket_form_statuses")
        .streams(&[StreamDef::generated("ticket_form_statuses")])
        .pages(Pages::Once),
    ListDef::get("custom_ticket_statuses", "/api/v2/custom_statuses")
        .records("custom_statuses")
        .streams(&[StreamDef::generated("custom_ticket_statuses")
            .added(&[columns::URL])
            .note("only undeleted ones")])
        .pages(Pages::Once),
    ListDef::get("tickets_search", "/api/v2/search/export")
        .records("results")
        .streams(&[StreamDef::generated("tickets_search")
            .facts(Described::With(
                "/api/v2/incremental/tickets/cursor",
                "tickets",
            ))
            .added(&[columns::SEARCH_RESULT])
            .hidden(&["fields", "comment"])
            .transform(Map(transform::lean_ticket))
            .note(
                "fast but stale: no deleted tickets, no changes by the system, so read only \
                     when named",
            )])
        .slices(Slices::Search)
        .incremental()
        .cursor("updated_at", Rfc3339)
        .params(&[("filter[type]", "ticket"), ALL_TYPES])
        .cost(&[SEARCH_EXPORT, SUPPORT])
        .opt_in(),
    ListDef::get("requests", "/api/v2/requests")
        .records("requests")
        .streams(&[StreamDef::generated("requests").note(
            "only those of the configured user, as an end user sees tickets; read only \
                     when named",
        )])
        .opt_in(),
];
