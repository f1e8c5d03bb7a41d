//! Queries that every project can be asked, and the reports that it has saved.

use pipeline_core::RawRecord;
use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use crate::vendor::Requires::{Groups, LegacyRevenue, ProjectZone};
use crate::vendor::{Api, Lifted, Made, Mixpanel, Parameters, ReportParameters, Slices};
use crate::{answers, profiles, schema};

/// Asking for the members of an empty cohort would cost a request of sixty an hour.
fn has_members(cohort: &RawRecord) -> bool {
    cohort.member("count") != Some("0")
}

pub(super) const LISTS: &[ListDef<Mixpanel>] = &[
    ListDef::get("cohorts", "cohorts/list")
        .streams(&[StreamDef::new("cohorts", schema::COHORT).note("saved cohorts")])
        .pages(Api::QueryForm),
    ListDef::get("funnels_list", "funnels/list").streams(&[StreamDef::new(
        "funnels_list",
        schema::FUNNEL,
    )
    .key(&["funnel_id"])
    .note("saved funnels")]),
    ListDef::get("event_names", "events/names")
        .streams(&[StreamDef::new("event_names", schema::EVENT_NAME)
            .key(&["name"])
            .facts(Made::by(answers::name))
            .note("events of the last 31 days, 5000 at most")])
        .params(&[("type", "general"), ("limit", "5000")]),
    ListDef::get("top_events", "events/top")
        .records("events")
        .streams(&[StreamDef::new("top_events", schema::TOP_EVENT)
            .key(&["date", "event"])
            .facts(Made::by(answers::top_event))
            .note("today's most frequent events")])
        .params(&[("type", "general")])
        .requires(&[ProjectZone]),
    ListDef::get("cohort_members", "engage")
        .records("results")
        .streams(&[StreamDef::new("cohort_members", schema::COHORT_MEMBER)
            .key(&["cohort_id", "distinct_id"])
            .facts(Made::by(profiles::profile))
            .note("one request for each cohort that has members")])
        .pages(Api::Engage)
        .params(&[("filter_by_cohort", "{id}"), ("include_all_users", "true")])
        .facts(Parameters::CohortMembers)
        .child_of(
            ParentRef::to("cohorts")
                .filter(has_members)
                .include(&[("id", "cohort_id")]),
        ),
    ListDef::get("group_profiles", "engage")
        .records("results")
        .streams(&[StreamDef::new("group_profiles", schema::GROUP_PROFILE)
            .key(&["data_group_id", "distinct_id"])
            .facts(Made::by(profiles::profile).lifting(Lifted::Profiles))
            .note("needs `group_ids`")])
        .pages(Api::Engage)
        .slices(Slices::Reports(ReportParameters {
            required: &["data_group_id"],
            optional: &["where"],
            has_days: false,
        }))
        .requires(&[Groups]),
    ListDef::get("funnels", "funnels")
        .streams(&[StreamDef::new("funnels", schema::FUNNEL_RESULT)
            .key(&["funnel_id", "date"])
            .facts(Made::by(answers::funnel))
            .note("the last `report_days` of every funnel, one request each; older days stay")])
        .params(&[("funnel_id", "{funnel_id}")])
        .facts(Parameters::ReportDays)
        .child_of(
            ParentRef::to("funnels_list").include(&[("funnel_id", "funnel_id"), ("name", "name")]),
        )
        .incremental()
        .requires(&[ProjectZone]),
    ListDef::get("revenue", "engage/revenue")
        .streams(&[StreamDef::new("revenue", schema::REVENUE)
            .key(&["date"])
            .facts(Made::by(answers::revenue))
            .note("needs `legacy_revenue`; Mixpanel documents it no more")])
        .params(&[("unit", "day")])
        .facts(Parameters::ReportDays)
        .incremental()
        .requires(&[LegacyRevenue, ProjectZone]),
];
