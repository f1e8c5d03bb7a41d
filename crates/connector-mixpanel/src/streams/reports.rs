//! Reports of the configuration.
//!
//! Those that are incremental keep the rows of days that are no longer asked for. Only where an
//! answer has a row for everything in each of its days: rows that go without a trace would stay as
//! well.

use pipeline_core::declarative::{ListDef, StreamDef};

use crate::vendor::Requires::{EventZone, ProjectZone, Report};
use crate::vendor::{Lifted, Made, Mixpanel, ReportParameters, Requires, Slices};
use crate::{answers, line, schema};

const SEGMENT_KEY: &[&str] = &["report", "segment", "bucket"];
const SEGMENTED: &[&str] = &["on", "unit", "where"];

/// Reports that cover some days.
const fn dated(
    name: &'static str,
    path: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
) -> ListDef<Mixpanel> {
    const REQUIRES: &[Requires] = &[Report, ProjectZone];
    ListDef::get(name, path)
        .slices(Slices::Reports(ReportParameters {
            required,
            optional,
            has_days: true,
        }))
        .requires(REQUIRES)
}

/// Reports of today's state, which no days are asked for.
const fn undated(
    name: &'static str,
    path: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
) -> ListDef<Mixpanel> {
    const REQUIRES: &[Requires] = &[Report];
    ListDef::get(name, path)
        .slices(Slices::Reports(ReportParameters {
            required,
            optional,
            has_days: false,
        }))
        .requires(REQUIRES)
}

pub(super) const LISTS: &[ListDef<Mixpanel>] = &[
    undated("insights", "insights", &["bookmark_id"], &[]).streams(&[StreamDef::new(
        "insights",
        schema::INSIGHT,
    )
    .key(&["report", "series_key", "bucket"])
    .facts(Made::by(answers::insights))
    .note("a saved report")]),
    dated(
        "retention",
        "retention",
        &[],
        &[
            "retention_type",
            "born_event",
            "event",
            "born_where",
            "where",
            "interval",
            "interval_count",
            "unit",
            "unbounded_retention",
            "on",
            "limit",
        ],
    )
    .streams(&[StreamDef::new("retention", schema::RETENTION)
        .key(SEGMENT_KEY)
        .facts(Made::by(answers::retention))]),
    dated(
        "frequency",
        "retention/addiction",
        &["unit", "addiction_unit"],
        &["event", "where", "on", "limit"],
    )
    .streams(&[StreamDef::new("frequency", schema::FREQUENCY)
        .key(SEGMENT_KEY)
        .facts(Made::by(answers::frequency))]),
    dated(
        "segmentation",
        "segmentation",
        &["event"],
        &["on", "unit", "interval", "where", "limit", "type"],
    )
    .streams(&[StreamDef::new("segmentation", schema::SEGMENT)
        .key(SEGMENT_KEY)
        .facts(Made::by(answers::segments))]),
    dated(
        "segmentation_numeric",
        "segmentation/numeric",
        &["event", "on"],
        &["unit", "where", "type"],
    )
    .streams(&[StreamDef::new("segmentation_numeric", schema::SEGMENT)
        .key(SEGMENT_KEY)
        .facts(Made::by(answers::segments))]),
    dated(
        "segmentation_sum",
        "segmentation/sum",
        &["event", "on"],
        SEGMENTED,
    )
    .streams(&[StreamDef::new("segmentation_sum", schema::TOTAL)
        .key(&["report", "bucket"])
        .facts(Made::by(answers::totals))])
    .incremental(),
    dated(
        "segmentation_average",
        "segmentation/average",
        &["event", "on"],
        SEGMENTED,
    )
    .streams(&[StreamDef::new("segmentation_average", schema::TOTAL)
        .key(&["report", "bucket"])
        .facts(Made::by(answers::totals))])
    .incremental(),
    dated("event_counts", "events", &["event", "type", "unit"], &[])
        .streams(&[StreamDef::new("event_counts", schema::EVENT_COUNT)
            .key(&["report", "event", "bucket"])
            .facts(Made::by(answers::event_counts))
            .note("`event` is a list of names")])
        .incremental(),
    dated(
        "event_property_counts",
        "events/properties",
        &["event", "name", "type", "unit"],
        &["values", "limit"],
    )
    .streams(&[
        StreamDef::new("event_property_counts", schema::PROPERTY_COUNT)
            .key(&["report", "property_value", "bucket"])
            .facts(Made::by(answers::property_counts)),
    ]),
    undated(
        "event_properties_top",
        "events/properties/top",
        &["event"],
        &["limit"],
    )
    .streams(
        &[StreamDef::new("event_properties_top", schema::TOP_PROPERTY)
            .key(&["report", "property"])
            .facts(Made::by(answers::top_properties))],
    ),
    undated(
        "event_property_values",
        "events/properties/values",
        &["event", "name"],
        &["limit"],
    )
    .streams(&[
        StreamDef::new("event_property_values", schema::PROPERTY_VALUE)
            .key(&["report", "property_value"])
            .facts(Made::by(answers::property_value)),
    ]),
    dated("activity", "stream/query", &["distinct_ids"], &[])
        .records("results/events")
        .streams(&[StreamDef::new("activity", schema::EVENT)
            .key(&["event_key"])
            .facts(Made::by(line::event).lifting(Lifted::Events))
            .note("the events of some users; an interface that Mixpanel maintains only")])
        .requires(&[Report, ProjectZone, EventZone]),
];
