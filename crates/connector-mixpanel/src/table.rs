//! The table of streams: what is requested for each, and what its rows are made of.

use pipeline_core::http::Method;
use pipeline_core::{Deletes, Field, RawRecord};

use crate::rows::{Rows, as_sent};
use crate::{answers, line, profiles, schema};

/// One stream as data.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The stream's name.
    pub name: &'static str,
    /// Where its rows come from.
    pub(crate) source: Source,
    /// Columns that identify a row; none: every row is another one.
    pub key: &'static [&'static str],
    /// Its columns.
    pub columns: &'static [Field],
    /// Makes the rows.
    pub(crate) rows: Rows,
    /// How deletions show.
    pub(crate) deletes: Deletes,
    /// What must be configured of it; none: nothing.
    pub(crate) asks: Option<Asks>,
    /// What a reader of the data must know.
    pub note: &'static str,
}

/// Where the rows of a stream come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// Requests of its own.
    List(List),
    /// A property of profiles that is a list.
    Property(&'static str),
    /// The answers to another stream's requests.
    With(&'static str),
}

/// What is requested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    /// Which of Mixpanel's interfaces.
    pub(crate) api: Api,
    /// The path behind that of the interface. `{project}` and `{workspace}` are those of the
    /// configuration.
    pub(crate) path: &'static str,
    /// Where the records stand in an answer.
    pub(crate) records: &'static str,
    /// Parameters of every request.
    pub(crate) query: &'static [(&'static str, &'static str)],
    /// The list whose records each are asked about.
    pub(crate) parent: Option<Parent>,
}

/// The list whose records each are asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    /// Its stream.
    pub(crate) stream: &'static str,
    /// Which of its records are worth a request.
    pub(crate) when: fn(&RawRecord) -> bool,
    /// Members of it that rows carry, and under which name.
    pub(crate) inherit: &'static [(&'static str, &'static str)],
}

/// Mixpanel's interfaces. Each has hosts, credentials and limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// Raw events: 60 requests an hour, 3 a second.
    Export,
    /// Queries: 60 requests an hour of all kinds together, 5 at once.
    Query,
    /// Queries that take a form.
    QueryForm,
    /// Profiles: a query whose pages after the first are not counted.
    Engage,
    /// What Mixpanel's own pages are made of: not counted, for service accounts only.
    App,
    /// The Lexicon: as that, five requests a minute.
    Lexicon,
    /// The host that events are sent to: for service accounts only.
    Ingestion,
}

/// What a configuration must say before a stream can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asks {
    /// Parameters that a report must have.
    pub(crate) required: &'static [&'static str],
    /// Parameters that it may have.
    pub(crate) optional: &'static [&'static str],
    /// True when a report covers some days.
    pub(crate) has_days: bool,
}

impl Stream {
    const fn list(name: &'static str, api: Api, path: &'static str, records: &'static str) -> Self {
        let list = List {
            api,
            path,
            records,
            query: &[],
            parent: None,
        };
        Self::from(name, Source::List(list))
    }

    const fn from(name: &'static str, source: Source) -> Self {
        Self {
            name,
            source,
            key: &["id"],
            columns: &[],
            rows: as_sent,
            deletes: Deletes::BySnapshot,
            asks: None,
            note: "",
        }
    }

    /// A list that profiles keep as a property.
    const fn property(name: &'static str, property: &'static str) -> Self {
        Self::from(name, Source::Property(property))
            .holds(schema::LIST_ITEM, &["distinct_id", "position"])
            .made_by(profiles::list_items)
    }

    /// Answers to reports of the configuration.
    const fn report(
        name: &'static str,
        path: &'static str,
        required: &'static [&'static str],
        optional: &'static [&'static str],
    ) -> Self {
        let mut stream = Self::list(name, Api::Query, path, "");
        stream.asks = Some(Asks {
            required,
            optional,
            has_days: true,
        });
        stream
    }

    const fn by(mut self, api: Api) -> Self {
        if let Source::List(list) = &mut self.source {
            list.api = api;
        }
        self
    }

    const fn holds(mut self, columns: &'static [Field], key: &'static [&'static str]) -> Self {
        self.columns = columns;
        self.key = key;
        self
    }

    const fn made_by(mut self, rows: Rows) -> Self {
        self.rows = rows;
        self
    }

    const fn records_at(mut self, records: &'static str) -> Self {
        if let Source::List(list) = &mut self.source {
            list.records = records;
        }
        self
    }

    const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        if let Source::List(list) = &mut self.source {
            list.query = query;
        }
        self
    }

    const fn each(
        mut self,
        stream: &'static str,
        inherit: &'static [(&'static str, &'static str)],
        when: fn(&RawRecord) -> bool,
    ) -> Self {
        if let Source::List(list) = &mut self.source {
            list.parent = Some(Parent {
                stream,
                when,
                inherit,
            });
        }
        self
    }

    /// Rows of days that are no longer asked for stay. Only where an answer has a row for
    /// everything in each of its days: rows that go without a trace would stay as well.
    const fn kept(mut self) -> Self {
        self.deletes = Deletes::Invisible;
        self
    }

    /// Today's state, which no days are asked for.
    const fn undated(mut self) -> Self {
        if let Some(asks) = &mut self.asks {
            asks.has_days = false;
        }
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// The stream whose requests this one is read from: mostly itself.
    pub fn endpoint(&self) -> &'static str {
        match self.source {
            Source::List(_) => self.name,
            Source::Property(_) => "engage",
            Source::With(stream) => stream,
        }
    }
}

impl Stream {
    /// What is requested for it, for a reader of the documentation.
    pub fn request(&self) -> String {
        match &self.source {
            Source::List(List {
                api, path, parent, ..
            }) => {
                let each = parent.map_or_else(String::new, |parent| {
                    format!(", for each of `{}`", parent.stream)
                });
                format!("`{} {}/{path}`{each}", api.method(), api.prefix())
            }
            Source::Property(property) => format!("`{property}` of `engage`"),
            Source::With(stream) => format!("answers to `{stream}`"),
        }
    }

    /// What a sync spends on it, of the budgets that Mixpanel counts by the hour.
    pub fn cost(&self) -> &'static str {
        match &self.source {
            Source::List(List {
                api: Api::Export, ..
            }) => "exports",
            Source::List(List {
                api: Api::Query | Api::QueryForm | Api::Engage,
                parent: Some(_),
                ..
            }) => "a query each",
            Source::List(List {
                api: Api::Query | Api::QueryForm | Api::Engage,
                ..
            }) if self.asks.is_some() => "a query each",
            Source::List(List {
                api: Api::Query | Api::QueryForm | Api::Engage,
                ..
            }) => "a query",
            _ => "nothing",
        }
    }
}

impl Api {
    /// The path that all its paths begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Export => "/api/2.0",
            Self::Query | Self::QueryForm | Self::Engage => "/api/query",
            Self::App | Self::Lexicon => "/api/app",
            Self::Ingestion => "",
        }
    }

    /// How it is asked.
    pub(crate) fn method(self) -> Method {
        match self {
            Self::QueryForm | Self::Engage => Method::POST,
            _ => Method::GET,
        }
    }
}

fn all(_record: &RawRecord) -> bool {
    true
}

/// Asking for the members of an empty cohort would cost a request of sixty an hour.
fn has_members(cohort: &RawRecord) -> bool {
    cohort.member("count") != Some("0")
}

const SEGMENT_KEY: &[&str] = &["report", "segment", "bucket"];
const SEGMENTED: &[&str] = &["on", "unit", "where"];

/// Every stream, in the order in which it is worth reading: what costs the hourly budget least
/// comes first.
pub const STREAMS: &[Stream] = &[
    Stream {
        deletes: Deletes::Invisible,
        ..Stream::list("export", Api::Export, "export", "")
    }
    .holds(schema::EVENT, &["event_key"])
    .made_by(line::event)
    .note("raw events; incremental by day"),
    Stream::list("engage", Api::Engage, "engage", "results")
        .holds(schema::PROFILE, &["distinct_id"])
        .made_by(profiles::profile)
        .note("user profiles"),
    Stream::property("transactions", "$transactions").note("what users paid, from their profiles"),
    Stream::property("campaigns", "$campaigns")
        .note("campaigns that users were in, from their profiles"),
    Stream::property("android_devices", "$android_devices").note("push tokens, from profiles"),
    Stream::property("ios_devices", "$ios_devices").note("push tokens, from profiles"),
    Stream::property("answers", "$answers").note("of a product that Mixpanel ended, from profiles"),
    Stream::property("surveys", "$surveys").note("as answers"),
    Stream::property("survey_collections", "$survey_collections").note("as answers"),
    Stream::property("collections", "$collections").note("as answers"),
    Stream::property("responses", "$responses").note("as answers"),
    Stream::list("cohorts", Api::QueryForm, "cohorts/list", "")
        .holds(schema::COHORT, &["id"])
        .note("saved cohorts"),
    Stream::list("funnels_list", Api::Query, "funnels/list", "")
        .holds(schema::FUNNEL, &["funnel_id"])
        .note("saved funnels"),
    Stream::list("event_names", Api::Query, "events/names", "")
        .holds(schema::EVENT_NAME, &["name"])
        .made_by(answers::name)
        .query(&[("type", "general"), ("limit", "5000")])
        .note("events of the last 31 days, 5000 at most"),
    Stream::list("top_events", Api::Query, "events/top", "events")
        .holds(schema::TOP_EVENT, &["date", "event"])
        .made_by(answers::top_event)
        .query(&[("type", "general")])
        .note("today's most frequent events"),
    Stream::list("cohort_members", Api::Engage, "engage", "results")
        .holds(schema::COHORT_MEMBER, &["cohort_id", "distinct_id"])
        .made_by(profiles::profile)
        .query(&[("filter_by_cohort", "{id}"), ("include_all_users", "true")])
        .each("cohorts", &[("id", "cohort_id")], has_members)
        .note("one request for each cohort that has members"),
    Stream::report("group_profiles", "engage", &["data_group_id"], &["where"])
        .by(Api::Engage)
        .undated()
        .records_at("results")
        .holds(schema::GROUP_PROFILE, &["data_group_id", "distinct_id"])
        .made_by(profiles::profile)
        .note("needs `group_ids`"),
    Stream::list("funnels", Api::Query, "funnels", "")
        .holds(schema::FUNNEL_RESULT, &["funnel_id", "date"])
        .made_by(answers::funnel)
        .query(&[("funnel_id", "{funnel_id}")])
        .each(
            "funnels_list",
            &[("funnel_id", "funnel_id"), ("name", "name")],
            all,
        )
        .kept()
        .note("the last `report_days` of every funnel, one request each; older days stay"),
    Stream::list("revenue", Api::Query, "engage/revenue", "")
        .holds(schema::REVENUE, &["date"])
        .made_by(answers::revenue)
        .query(&[("unit", "day")])
        .kept()
        .note("needs `legacy_revenue`; Mixpanel documents it no more"),
    Stream::report("insights", "insights", &["bookmark_id"], &[])
        .undated()
        .holds(schema::INSIGHT, &["report", "series_key", "bucket"])
        .made_by(answers::insights)
        .note("a saved report"),
    Stream::report(
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
    .holds(schema::RETENTION, SEGMENT_KEY)
    .made_by(answers::retention),
    Stream::report(
        "frequency",
        "retention/addiction",
        &["unit", "addiction_unit"],
        &["event", "where", "on", "limit"],
    )
    .holds(schema::FREQUENCY, SEGMENT_KEY)
    .made_by(answers::frequency),
    Stream::report(
        "segmentation",
        "segmentation",
        &["event"],
        &["on", "unit", "interval", "where", "limit", "type"],
    )
    .holds(schema::SEGMENT, SEGMENT_KEY)
    .made_by(answers::segments),
    Stream::report(
        "segmentation_numeric",
        "segmentation/numeric",
        &["event", "on"],
        &["unit", "where", "type"],
    )
    .holds(schema::SEGMENT, SEGMENT_KEY)
    .made_by(answers::segments),
    Stream::report(
        "segmentation_sum",
        "segmentation/sum",
        &["event", "on"],
        SEGMENTED,
    )
    .holds(schema::TOTAL, &["report", "bucket"])
    .made_by(answers::totals)
    .kept(),
    Stream::report(
        "segmentation_average",
        "segmentation/average",
        &["event", "on"],
        SEGMENTED,
    )
    .holds(schema::TOTAL, &["report", "bucket"])
    .made_by(answers::totals)
    .kept(),
    Stream::report("event_counts", "events", &["event", "type", "unit"], &[])
        .holds(schema::EVENT_COUNT, &["report", "event", "bucket"])
        .made_by(answers::event_counts)
        .kept()
        .note("`event` is a list of names"),
    Stream::report(
        "event_property_counts",
        "events/properties",
        &["event", "name", "type", "unit"],
        &["values", "limit"],
    )
    .holds(
        schema::PROPERTY_COUNT,
        &["report", "property_value", "bucket"],
    )
    .made_by(answers::property_counts),
    Stream::report(
        "event_properties_top",
        "events/properties/top",
        &["event"],
        &["limit"],
    )
    .undated()
    .holds(schema::TOP_PROPERTY, &["report", "property"])
    .made_by(answers::top_properties),
    Stream::report(
        "event_property_values",
        "events/properties/values",
        &["event", "name"],
        &["limit"],
    )
    .undated()
    .holds(schema::PROPERTY_VALUE, &["report", "property_value"])
    .made_by(answers::property_value),
    Stream::report("activity", "stream/query", &["distinct_ids"], &[])
        .records_at("results/events")
        .holds(schema::EVENT, &["event_key"])
        .made_by(line::event)
        .note("the events of some users; an interface that Mixpanel maintains only"),
    Stream::list(
        "annotations",
        Api::App,
        "projects/{project}/annotations",
        "results",
    )
    .holds(schema::ANNOTATION, &["id"])
    .note("notes on days; from `start_date` to `end_date` where they are set"),
    Stream::list(
        "annotation_tags",
        Api::App,
        "projects/{project}/annotations/tags",
        "",
    )
    .holds(schema::ANNOTATION_TAG, &["id"])
    .made_by(answers::bare_or_enveloped),
    Stream::list(
        "lexicon_schemas",
        Api::Lexicon,
        "projects/{project}/schemas",
        "results",
    )
    .holds(schema::LEXICON_SCHEMA, &["entity_type", "name"])
    .made_by(answers::lexicon_schema)
    .note("events and profiles that have a schema"),
    Stream::list(
        "feature_flags",
        Api::App,
        "projects/{project}/workspaces/{workspace}/feature-flags",
        "results",
    )
    .holds(schema::FEATURE_FLAG, &["id"])
    .query(&[("include_archived", "true")])
    .note("needs `workspace_id`; archived ones too"),
    Stream::list(
        "experiments",
        Api::App,
        "workspaces/{workspace}/experiments",
        "results",
    )
    .holds(schema::EXPERIMENT, &["id"])
    .note("needs `workspace_id`"),
    Stream::list("lookup_tables", Api::Ingestion, "lookup-tables", "results")
        .holds(schema::LOOKUP_TABLE, &["id"]),
    Stream::list(
        "warehouse_imports",
        Api::App,
        "projects/{project}/warehouse-sources/imports",
        "results",
    )
    .holds(schema::WAREHOUSE_IMPORT, &["id"])
    .note("imports from data warehouses"),
    Stream::list(
        "warehouse_import_runs",
        Api::App,
        "projects/{project}/warehouse-sources/imports/{id}/history",
        "results/runs",
    )
    .holds(schema::WAREHOUSE_IMPORT_RUN, &[])
    .each("warehouse_imports", &[("id", "import_id")], all)
    .note("the 30 newest runs of each import"),
    Stream::list("projects", Api::App, "me", "")
        .holds(schema::PROJECT, &["id"])
        .made_by(answers::by_id),
    Stream::from("workspaces", Source::With("projects"))
        .holds(schema::BY_ID, &["id"])
        .made_by(answers::by_id),
    Stream::from("organizations", Source::With("projects"))
        .holds(schema::BY_ID, &["id"])
        .made_by(answers::by_id),
];
