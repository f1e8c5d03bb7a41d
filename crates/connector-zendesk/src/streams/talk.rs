//! Talk: what is known of its lists. They are not offered yet, because no description of their records is at hand.

use std::time::Duration;

use pipeline_core::TimeFormat::Rfc3339;

use crate::limits::{EXPORT, SUPPORT};
use crate::table::{List, Reads, Walk, list, stream};

/// The lists of Talk. Their exports never say that they end: they do when a page is short or the time stands still.
/// Chat is left out: it has a host and credentials of its own.
pub const TALK: &[List] = &[
    list("calls", "/api/v2/channels/voice/stats/incremental/calls", &[stream("calls", "calls")])
        .walk(Walk::TimeExport)
        .reads(Reads::Changes(Duration::ZERO))
        .cursor("updated_at", Rfc3339)
        .limits(&[EXPORT, SUPPORT]),
    list("call_legs", "/api/v2/channels/voice/stats/incremental/legs", &[stream("call_legs", "legs")])
        .walk(Walk::TimeExport)
        .reads(Reads::Changes(Duration::ZERO))
        .cursor("updated_at", Rfc3339)
        .limits(&[EXPORT, SUPPORT]),
    list("talk_phone_numbers", "/api/v2/channels/voice/phone_numbers", &[stream("talk_phone_numbers", "phone_numbers")]),
    list("talk_agents_activity", "/api/v2/channels/voice/stats/agents_activity", &[stream("talk_agents_activity", "agents_activity")]),
    list(
        "talk_current_queue_activity",
        "/api/v2/channels/voice/stats/current_queue_activity",
        &[stream("talk_current_queue_activity", "current_queue_activity").key(&[])],
    )
    .walk(Walk::Once),
    list("talk_addresses", "/api/v2/channels/voice/addresses", &[stream("talk_addresses", "addresses")]),
    list("talk_greetings", "/api/v2/channels/voice/greetings", &[stream("talk_greetings", "greetings")]),
    list(
        "talk_greeting_categories",
        "/api/v2/channels/voice/greeting_categories",
        &[stream("talk_greeting_categories", "greeting_categories")],
    ),
    list("talk_ivrs", "/api/v2/channels/voice/ivr", &[stream("talk_ivrs", "ivrs")]),
    list("talk_lines", "/api/v2/channels/voice/lines", &[stream("talk_lines", "lines")]),
    list("talk_settings", "/api/v2/channels/voice/settings", &[stream("talk_settings", "settings").key(&[])]).walk(Walk::Once),
];
