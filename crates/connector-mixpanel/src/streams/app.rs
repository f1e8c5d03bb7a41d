//! What Mixpanel's own pages are made of: annotations, the Lexicon, flags, imports, and the account.

use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use crate::vendor::Requires::{ServiceAccount, Workspace};
use crate::vendor::{Api, Made, Mixpanel, Parameters, Requires};
use crate::{answers, schema};

/// A list of the App API.
const fn app(name: &'static str, path: &'static str) -> ListDef<Mixpanel> {
    const REQUIRES: &[Requires] = &[ServiceAccount];
    ListDef::get(name, path)
        .records("results")
        .pages(Api::App)
        .requires(REQUIRES)
}

pub(super) const LISTS: &[ListDef<Mixpanel>] = &[
    app("annotations", "projects/{project}/annotations")
        .streams(&[StreamDef::new("annotations", schema::ANNOTATION)
            .note("notes on days; from `start_date` to `end_date` where they are set")])
        .facts(Parameters::AnnotatedDays),
    app("annotation_tags", "projects/{project}/annotations/tags")
        .records("")
        .streams(&[StreamDef::new("annotation_tags", schema::ANNOTATION_TAG)
            .facts(Made::by(answers::bare_or_enveloped))]),
    app("lexicon_schemas", "projects/{project}/schemas")
        .streams(&[StreamDef::new("lexicon_schemas", schema::LEXICON_SCHEMA)
            .key(&["entity_type", "name"])
            .facts(Made::by(answers::lexicon_schema))
            .note("events and profiles that have a schema")])
        .pages(Api::Lexicon),
    app(
        "feature_flags",
        "projects/{project}/workspaces/{workspace}/feature-flags",
    )
    .streams(&[StreamDef::new("feature_flags", schema::FEATURE_FLAG)
        .note("needs `workspace_id`; archived ones too")])
    .params(&[("include_archived", "true")])
    .requires(&[ServiceAccount, Workspace]),
    app("experiments", "workspaces/{workspace}/experiments")
        .streams(&[StreamDef::new("experiments", schema::EXPERIMENT).note("needs `workspace_id`")])
        .requires(&[ServiceAccount, Workspace]),
    app("lookup_tables", "lookup-tables")
        .streams(&[StreamDef::new("lookup_tables", schema::LOOKUP_TABLE)])
        .pages(Api::Ingestion),
    app(
        "warehouse_imports",
        "projects/{project}/warehouse-sources/imports",
    )
    .streams(&[
        StreamDef::new("warehouse_imports", schema::WAREHOUSE_IMPORT)
            .note("imports from data warehouses"),
    ]),
    app(
        "warehouse_import_runs",
        "projects/{project}/warehouse-sources/imports/{id}/history",
    )
    .records("results/runs")
    .streams(&[
        StreamDef::new("warehouse_import_runs", schema::WAREHOUSE_IMPORT_RUN)
            .key(&[])
            .note("the 30 newest runs of each import"),
    ])
    .child_of(ParentRef::to("warehouse_imports").include(&[("id", "import_id")])),
    app("projects", "me").records("").streams(&[
        StreamDef::new("projects", schema::PROJECT).facts(Made::by(answers::by_id)),
        StreamDef::new("workspaces", schema::BY_ID).facts(Made::by(answers::by_id)),
        StreamDef::new("organizations", schema::BY_ID).facts(Made::by(answers::by_id)),
    ]),
];
