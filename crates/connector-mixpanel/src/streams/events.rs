//! Events, and the profiles of users with the lists that they keep.

use pipeline_core::declarative::{ListDef, StreamDef};

use crate::vendor::Requires::EventZone;
use crate::vendor::{Api, Lifted, Made, Mixpanel, Slices};
use crate::{line, profiles, schema};

/// A list that profiles keep as a property.
const fn property(name: &'static str, property: &'static str) -> StreamDef<Mixpanel> {
    StreamDef::new(name, schema::LIST_ITEM)
        .key(&["distinct_id", "position"])
        .facts(Made::by(profiles::list_items).of(property))
}

pub(super) const LISTS: &[ListDef<Mixpanel>] = &[
    ListDef::get("export", "export")
        .streams(&[StreamDef::new("export", schema::EVENT)
            .key(&["event_key"])
            .facts(Made::by(line::event).lifting(Lifted::Events))
            .note("raw events; incremental by day")])
        .pages(Api::Export)
        .slices(Slices::Events)
        .incremental()
        .params(&[("time_in_ms", "true")])
        .requires(&[EventZone]),
    ListDef::get("engage", "engage")
        .records("results")
        .streams(&[
            StreamDef::new("engage", schema::PROFILE)
                .key(&["distinct_id"])
                .facts(Made::by(profiles::profile).lifting(Lifted::Profiles))
                .note("user profiles"),
            property("transactions", "$transactions").note("what users paid, from their profiles"),
            property("campaigns", "$campaigns")
                .note("campaigns that users were in, from their profiles"),
            property("android_devices", "$android_devices").note("push tokens, from profiles"),
            property("ios_devices", "$ios_devices").note("push tokens, from profiles"),
            property("answers", "$answers").note("of a product that Mixpanel ended, from profiles"),
            property("surveys", "$surveys").note("as answers"),
            property("survey_collections", "$survey_collections").note("as answers"),
            property("collections", "$collections").note("as answers"),
            property("responses", "$responses").note("as answers"),
        ])
        .pages(Api::Engage),
];
