//! What Mixpanel adds to the language of declarations: its interfaces, reports and days, and how
//! rows are made of its answers.

use pipeline_core::declarative::{ListDef, StreamDef, Vendor};
use pipeline_core::http::Method;
use pipeline_core::{Endpoint, Error, ErrorKind, Lines, Stream, SyncMode};

use crate::calendar::{Calendar, DayClock, LAST_ZONE, ProjectDays, TimeStorage};
use crate::limits::{APP, EXPORT, EXPORT_PACE, EXPORTS_AT_ONCE, LEXICON, QUERY, QUERY_PACE};
use crate::line;
use crate::paging::AppPages;
use crate::profiles::SessionPages;
use crate::project::{Credentials, Place, Project};
use crate::reports::Reports;
use crate::rows::{Rows, as_sent};

/// A project's lists, as the configuration wants them, where and when they are read.
#[derive(Clone, Debug)]
pub struct Mixpanel {
    pub(crate) project: Project,
    pub(crate) place: Place,
}

/// Mixpanel's interfaces. Each has hosts, credentials, limits and pages of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
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

/// What a list is asked for by.
#[derive(Clone, Copy, Debug)]
pub enum Slices {
    /// Days of events.
    Events,
    /// The configured reports of the list's name.
    Reports(ReportParameters),
}

/// What a configuration must say before a report can be read.
#[derive(Clone, Copy, Debug)]
pub struct ReportParameters {
    /// Parameters that a report must have.
    pub(crate) required: &'static [&'static str],
    /// Parameters that it may have.
    pub(crate) optional: &'static [&'static str],
    /// True when a report covers some days.
    pub(crate) has_days: bool,
}

/// What must be there before a list can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    /// Credentials that may read more than events and queries.
    ServiceAccount,
    /// The id of a workspace.
    Workspace,
    /// That the user wants revenue although it may end.
    LegacyRevenue,
    /// A report of the list's name.
    Report,
    /// A kind of groups.
    Groups,
    /// The project's time zone, where it can be learned: its days are those of the zone.
    ProjectZone,
    /// The project's time zone, where events are stored in it.
    EventZone,
}

/// Parameters that depend on the configuration or on the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// None does.
    Fixed,
    /// The days that reports cover: `from_date` and `to_date`.
    ReportDays,
    /// The configured days, as far as there are: `fromDate` and `toDate`.
    AnnotatedDays,
    /// What is asked for of the members of cohorts.
    CohortMembers,
}

/// How the rows of a stream are made, and which of a project's properties are its columns.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Makes the rows of a record.
    pub(crate) rows: Rows,
    /// The list of a profile that the rows are the entries of.
    pub(crate) property: Option<&'static str>,
    /// The configured properties that are columns.
    pub(crate) lifted: Lifted,
}

/// Whose properties are columns of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifted {
    Nothing,
    Events,
    Profiles,
}

impl Made {
    /// Rows that this function makes.
    pub(crate) const fn by(rows: Rows) -> Self {
        Self {
            rows,
            property: None,
            lifted: Lifted::Nothing,
        }
    }

    /// Rows with columns for configured properties.
    pub(crate) const fn lifting(self, lifted: Lifted) -> Self {
        Self { lifted, ..self }
    }

    /// Rows of the entries of a property.
    pub(crate) const fn of(self, property: &'static str) -> Self {
        Self {
            property: Some(property),
            ..self
        }
    }

    /// The list of a profile that the rows are the entries of.
    pub fn property(&self) -> Option<&'static str> {
        self.property
    }
}

impl Api {
    /// The path that all its paths begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Export => "/api/2.0",
            Self::Query | Self::QueryForm | Self::Engage => "/api/query",
            Self::App | Self::Lexicon => "/api/app",
            Self::Ingestion => "",
        }
    }

    /// How it is asked.
    pub fn method(self) -> Method {
        match self {
            Self::QueryForm | Self::Engage => Method::POST,
            _ => Method::GET,
        }
    }
}

impl Mixpanel {
    /// The path of a list. `{project}` and `{workspace}` are those of the configuration.
    fn path(&self, list: &ListDef<Self>) -> String {
        format!("{}/{}", list.pages.prefix(), list.path)
            .replace("{project}", &self.project.id.to_string())
            .replace("{workspace}", &self.project.view())
    }

    fn with_project(&self, endpoint: Endpoint) -> Endpoint {
        endpoint.query("project_id", self.project.id.to_string())
    }

    /// Requests of the Query API.
    fn query(&self, endpoint: Endpoint) -> Endpoint {
        let endpoint = self.with_project(endpoint).buckets([QUERY, QUERY_PACE]);
        match self.project.workspace_id {
            Some(id) => endpoint.query("workspace_id", id.to_string()),
            None => endpoint,
        }
    }

    /// Event time says nothing about when an event arrived, so days are read again until they are
    /// settled. A merge of users rewrites events in place, hence a key that survives it. No cursor
    /// is declared: days that are read again hold millions of events, which the destination merges
    /// by key; remembering each would be a copy of them.
    fn export(&self, endpoint: Endpoint) -> Endpoint {
        self.with_project(endpoint)
            .base(self.place.hosts.data.clone())
            .max_concurrent_slices(EXPORTS_AT_ONCE.into())
            .ndjson(Lines {
                check: line::check_whole,
                malformed: u32::MAX,
                most: u64::MAX,
            })
            .buckets([EXPORT, EXPORT_PACE])
    }

    /// The parameters of a list that depend on the configuration or on the day.
    fn parameters(&self, list: &ListDef<Self>, endpoint: Endpoint) -> Endpoint {
        let Place { kept, today, .. } = self.place;
        let first = self.project.asked_since(list, &self.place);
        let first = first.map(|first| kept.map_or(first, |kept| first.max(kept)));
        match list.facts {
            Parameters::ReportDays => endpoint
                .query("from_date", first.unwrap_or(today).to_string())
                .query("to_date", today.to_string()),
            Parameters::CohortMembers if self.project.slim_cohort_members => {
                endpoint.query("output_properties", "[\"$last_seen\"]")
            }
            Parameters::AnnotatedDays => {
                let days = [("fromDate", first), ("toDate", self.project.annotated.1)];
                let days = days
                    .into_iter()
                    .filter_map(|(name, day)| Some((name, day?)));
                days.fold(endpoint, |endpoint, (name, day)| {
                    endpoint.query(name, day.to_string())
                })
            }
            Parameters::Fixed | Parameters::CohortMembers => endpoint,
        }
    }

    /// The settings that decide what stored rows look like.
    fn settings(&self, list: &ListDef<Self>, endpoint: Endpoint) -> Endpoint {
        let Calendar { zone, storage } = self.place.calendar;
        let is_export = list.pages == Api::Export;
        let endpoint = if is_export {
            let settings = self.project.settings.iter();
            settings.fold(
                endpoint.setting("time_storage", storage.name()),
                |endpoint, (name, value)| endpoint.setting(name, value.clone()),
            )
        } else {
            endpoint.setting("workspace_id", self.project.view())
        };
        // What days mean; where it is not known, nothing can be said of a change.
        let is_counted_by_zone = !is_export || storage == TimeStorage::ProjectLocal;
        if is_counted_by_zone && zone != LAST_ZONE {
            endpoint.setting("time_zone", zone.name())
        } else {
            endpoint
        }
    }
}

impl Vendor for Mixpanel {
    type Pages = Api;
    type Slices = Slices;
    type Requires = Requires;
    type List = Parameters;
    type Stream = Made;

    const PAGES: Api = Api::Query;
    const LIST: Parameters = Parameters::Fixed;
    const STREAM: Made = Made::by(as_sent);

    /// What all requests of an interface have in common.
    fn request(&self, list: &ListDef<Self>) -> Endpoint {
        let path = self.path(list);
        let endpoint = if list.pages.method() == Method::POST {
            Endpoint::post(list.name, path)
        } else {
            Endpoint::get(list.name, path)
        };
        match list.pages {
            Api::Export => self.export(endpoint),
            Api::Query | Api::QueryForm => self.query(endpoint),
            // The pages of a session are not counted after the first.
            Api::Engage => self
                .query(endpoint)
                .paginate(SessionPages)
                .next_page_buckets([QUERY_PACE]),
            Api::App => endpoint.paginate(AppPages).buckets([APP]),
            Api::Lexicon => endpoint.paginate(AppPages).buckets([LEXICON, APP]),
            Api::Ingestion => self
                .with_project(endpoint)
                .base(self.place.hosts.ingestion.clone())
                .buckets([APP]),
        }
    }

    fn slices(&self, list: &ListDef<Self>, slices: Slices, endpoint: Endpoint) -> Endpoint {
        let Place { calendar, kept, .. } = self.place;
        match slices {
            Slices::Events => endpoint.slices(ProjectDays {
                days: self.project.days.clone(),
                calendar,
                clock: DayClock::Export,
            }),
            Slices::Reports(parameters) => {
                let asked = self.project.reports.iter();
                let asked = asked.filter(|report| report.stream == list.name).cloned();
                endpoint.slices(ProjectDays {
                    days: Reports {
                        asked: asked.collect(),
                        is_dated: parameters.has_days,
                        days: self.project.report_days,
                        kept,
                    },
                    calendar,
                    clock: DayClock::Query,
                })
            }
        }
    }

    fn finish(&self, list: &ListDef<Self>, endpoint: Endpoint) -> Endpoint {
        let endpoint = self.parameters(list, endpoint);
        match list.mode {
            SyncMode::Incremental => self.settings(list, endpoint),
            SyncMode::FullRefresh => endpoint,
        }
    }

    /// Columns that the configuration names come before those of the table that have no such name.
    fn stream(&self, _list: &ListDef<Self>, def: &StreamDef<Self>, stream: Stream) -> Stream {
        stream.with_schema(self.project.columns(def).extend(def.schema()))
    }

    fn missing(&self, list: &ListDef<Self>, requires: Requires) -> Option<Error> {
        let project = &self.project;
        let is_configured = || {
            project
                .reports
                .iter()
                .any(|report| report.stream == list.name)
        };
        let (is_there, message, help) = match requires {
            Requires::ServiceAccount => (
                project.credentials == Credentials::ServiceAccount,
                "a project secret may not read this",
                "configure a service account instead: username and secret",
            ),
            Requires::Workspace => (
                project.workspace_id.is_some(),
                "it belongs to a workspace, and none is configured",
                "set workspace_id",
            ),
            Requires::LegacyRevenue => (
                project.legacy_revenue,
                "mixpanel documents revenue no more and may end it",
                "set legacy_revenue to true to read it all the same",
            ),
            Requires::Groups => (
                is_configured(),
                "no group is configured",
                "set group_ids to the ids that the project's settings show beside group keys",
            ),
            Requires::Report => (
                is_configured(),
                "no report of this kind is configured",
                "add one to reports",
            ),
            Requires::ProjectZone | Requires::EventZone => return None,
        };
        (!is_there).then(|| Error::new(ErrorKind::Unsupported, message).with_help(help))
    }
}
