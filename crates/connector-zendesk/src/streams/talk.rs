//! Talk: its exports, and what is known of its other lists, which are not offered because no
//! description of their records is at hand. Chat is left out: it has a host and credentials of its
//! own.

use std::time::Duration;

use pipeline_core::TimeFormat::Rfc3339;

use pipeline_core::declarative::{ListDef, StreamDef};

use crate::columns::talk;
use crate::limits::{SUPPORT, TALK_EXPORT};
use crate::vendor::{Pages, Slices, Zendesk};

const EXPORTS: &[&str] = &[TALK_EXPORT, SUPPORT];

/// The exports of Talk. They never say that they end: they do when a page is short or the time
/// stands still.
pub(super) const LISTS: &[ListDef<Zendesk>] = &[
    ListDef::get("calls", "/api/v2/channels/voice/stats/incremental/calls")
        .records("calls")
        .streams(&[StreamDef::new("calls", talk::CALL).note("needs Talk, and an administrator")])
        .pages(Pages::TimeExport)
        .slices(Slices::Changes(Duration::ZERO))
        .incremental()
        .cursor("updated_at", Rfc3339)
        .cost(EXPORTS),
    ListDef::get("call_legs", "/api/v2/channels/voice/stats/incremental/legs")
        .records("legs")
        .streams(&[StreamDef::new("call_legs", talk::CALL_LEG)
            .note("the parts of calls: who talked to whom, and for how long")])
        .pages(Pages::TimeExport)
        .slices(Slices::Changes(Duration::ZERO))
        .incremental()
        .cursor("updated_at", Rfc3339)
        .cost(EXPORTS),
];

/// The other lists of Talk.
pub const TALK: &[ListDef<Zendesk>] = &[
    ListDef::get("talk_phone_numbers", "/api/v2/channels/voice/phone_numbers")
        .records("phone_numbers")
        .streams(&[StreamDef::generated("talk_phone_numbers")]),
    ListDef::get(
        "talk_agents_activity",
        "/api/v2/channels/voice/stats/agents_activity",
    )
    .records("agents_activity")
    .streams(&[StreamDef::generated("talk_agents_activity")]),
    ListDef::get(
        "talk_current_queue_activity",
        "/api/v2/channels/voice/stats/current_queue_activity",
    )
    .records("current_queue_activity")
    .streams(&[StreamDef::generated("talk_current_queue_activity").key(&[])])
    .pages(Pages::Once),
    ListDef::get("talk_addresses", "/api/v2/channels/voice/addresses")
        .records("addresses")
        .streams(&[StreamDef::generated("talk_addresses")]),
    ListDef::get("talk_greetings", "/api/v2/channels/voice/greetings")
        .records("greetings")
        .streams(&[StreamDef::generated("talk_greetings")]),
    ListDef::get(
        "talk_greeting_categories",
        "/api/v2/channels/voice/greeting_categories",
    )
    .records("greeting_categories")
    .streams(&[StreamDef::generated("talk_greeting_categories")]),
    ListDef::get("talk_ivrs", "/api/v2/channels/voice/ivr")
        .records("ivrs")
        .streams(&[StreamDef::generated("talk_ivrs")]),
    ListDef::get("talk_lines", "/api/v2/channels/voice/lines")
        .records("lines")
        .streams(&[StreamDef::generated("talk_lines")]),
    ListDef::get("talk_settings", "/api/v2/channels/voice/settings")
        .records("settings")
        .streams(&[StreamDef::generated("talk_settings").key(&[])])
        .pages(Pages::Once),
];
