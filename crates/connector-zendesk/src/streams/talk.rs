//! Talk: its exports, and what is known of its other lists, which are not offered because no
//! description of their records is at hand. Chat is left out: it has a host and credentials of its
//! own.

use std::time::Duration;

use pipeline_core::TimeFormat::Rfc3339;

use crate::columns::talk;
use crate::limits::{SUPPORT, TALK_EXPORT};
use crate::table::{Columns, List, Reads, Walk, list, stream};

const EXPORTS: &[&str] = &[TALK_EXPORT, SUPPORT];

/// The exports of Talk. They never say that they end: they do when a page is short or the time
/// stands still.
pub(super) const LISTS: &[List] = &[
    list(
        "calls",
        "/api/v2/channels/voice/stats/incremental/calls",
        &[stream("calls", "calls")
            .columns(Columns::Hand(talk::CALL))
            .note("needs Talk, and an administrator")],
    )
    .walk(Walk::TimeExport)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("updated_at", Rfc3339)
    .limits(EXPORTS),
    list(
        "call_legs",
        "/api/v2/channels/voice/stats/incremental/legs",
        &[stream("call_legs", "legs")
            .columns(Columns::Hand(talk::CALL_LEG))
            .note("the parts of calls: who talked to whom, and for how long")],
    )
    .walk(Walk::TimeExport)
    .reads(Reads::Changes(Duration::ZERO))
    .cursor("updated_at", Rfc3339)
    .limits(EXPORTS),
];

/// The other lists of Talk.
pub const TALK: &[List] = &[
    list(
        "talk_phone_numbers",
        "/api/v2/channels/voice/phone_numbers",
        &[stream("talk_phone_numbers", "phone_numbers")],
    ),
    list(
        "talk_agents_activity",
        "/api/v2/channels/voice/stats/agents_activity",
        &[stream("talk_agents_activity", "agents_activity")],
    ),
    list(
        "talk_current_queue_activity",
        "/api/v2/channels/voice/stats/current_queue_activity",
        &[stream("talk_current_queue_activity", "current_queue_activity").key(&[])],
    )
    .walk(Walk::Once),
    list(
        "talk_addresses",
        "/api/v2/channels/voice/addresses",
        &[stream("talk_addresses", "addresses")],
    ),
    list(
        "talk_greetings",
        "/api/v2/channels/voice/greetings",
        &[stream("talk_greetings", "greetings")],
    ),
    list(
        "talk_greeting_categories",
        "/api/v2/channels/voice/greeting_categories",
        &[stream("talk_greeting_categories", "greeting_categories")],
    ),
    list(
        "talk_ivrs",
        "/api/v2/channels/voice/ivr",
        &[stream("talk_ivrs", "ivrs")],
    ),
    list(
        "talk_lines",
        "/api/v2/channels/voice/lines",
        &[stream("talk_lines", "lines")],
    ),
    list(
        "talk_settings",
        "/api/v2/channels/voice/settings",
        &[stream("talk_settings", "settings").key(&[])],
    )
    .walk(Walk::Once),
];
