//! The endpoints, made from the table of streams and the configuration.

use chrono::{NaiveDate, TimeDelta};
use pipeline_core::http::Method;
use pipeline_core::state::SliceState;
use pipeline_core::{Deletes, Endpoint, Error, ErrorKind, Lines, Schema, StreamDef};

use crate::calendar::{Calendar, DayClock, LAST_ZONE, ProjectDays, TimeStorage};
use crate::discover::Found;
use crate::export::Days;
use crate::flatten::{Columns, Flatten};
use crate::limits::{APP, EXPORT, EXPORT_PACE, EXPORTS_AT_ONCE, LEXICON, QUERY, QUERY_PACE};
use crate::paging::AppPages;
use crate::profiles::SessionPages;
use crate::region::Hosts;
use crate::reports::{REPORT, Report, Reports};
use crate::table::{Api, List, STREAMS, Source, Stream};
use crate::{export, line, schema};

/// What the configuration says about the endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Sent with every request.
    pub(crate) id: u64,
    /// The view that queries are made in, for projects with data views.
    pub(crate) workspace_id: Option<u64>,
    /// Who reads it.
    pub(crate) credentials: Credentials,
    /// The days to export.
    pub(crate) days: Days,
    /// Lines of an export that may be malformed.
    pub(crate) max_bad_lines: u32,
    /// First and last day of annotations.
    pub(crate) annotated: (Option<NaiveDate>, Option<NaiveDate>),
    /// Whether members of cohorts come with one property only.
    pub(crate) slim_cohort_members: bool,
    /// Whether revenue is asked for, which Mixpanel documents no more.
    pub(crate) legacy_revenue: bool,
    /// Days that funnels, revenue and reports cover.
    pub(crate) report_days: u32,
    /// The reports asked for.
    pub(crate) reports: Vec<Report>,
    /// Properties of events that are columns.
    pub(crate) event_columns: Columns,
    /// Properties of profiles that are columns.
    pub(crate) profile_columns: Columns,
    /// What has properties that are all to be columns.
    pub(crate) flatten: Vec<Flatten>,
    /// Settings that decide how rows of events look, as text.
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// Who reads a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A service account, which can be asked what it sees.
    ServiceAccount,
    /// The project's own secret, which may read events and make queries, and nothing else.
    ProjectSecret,
}

/// Where and when a project is read.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The servers of its region.
    pub(crate) hosts: Hosts,
    /// What its days mean.
    pub(crate) calendar: Calendar,
    /// Today, in its zone.
    pub(crate) today: NaiveDate,
    /// The first day that the project keeps, once that is known. No earlier one is asked for.
    pub(crate) kept: Option<NaiveDate>,
}

/// A stream of the table by its name.
pub(crate) fn stream(name: &str) -> Option<&'static Stream> {
    STREAMS.iter().find(|stream| stream.name == name)
}

impl Project {
    /// Everything that is read, in the order of the table.
    pub(crate) fn endpoints(&self, place: &Place) -> Vec<Endpoint> {
        STREAMS
            .iter()
            .filter_map(|stream| self.endpoint(stream, place))
            .collect()
    }

    /// The endpoint that reads a stream, unless another stream's does.
    fn endpoint(&self, stream: &'static Stream, place: &Place) -> Option<Endpoint> {
        let Source::List(list) = &stream.source else {
            return None;
        };
        let endpoint = match list.api {
            Api::Export => self.export(place),
            _ => self.list(stream, list, place),
        };
        let mut fed = STREAMS.iter().filter(|fed| fed.endpoint() == stream.name);
        let endpoint = fed.by_ref().fold(endpoint, |endpoint, fed| {
            endpoint.feeds(self.definition(fed), list.records)
        });
        let endpoint = match &list.parent {
            Some(parent) => {
                let parents = self.endpoint(self::stream(parent.stream)?, place)?;
                let child = endpoint.for_each(parents).when(parent.when);
                parent
                    .inherit
                    .iter()
                    .fold(child, |child, (member, name)| child.inherit(member, name))
            }
            None => endpoint,
        };
        if stream.deletes != Deletes::Invisible {
            return Some(endpoint);
        }
        // What days mean; where it is not known, nothing can be said of a change.
        let Calendar { zone, storage } = place.calendar;
        let is_counted_by_zone = list.api != Api::Export || storage == TimeStorage::ProjectLocal;
        let endpoint = endpoint.incremental();
        let view = self
            .workspace_id
            .map_or_else(String::new, |id| id.to_string());
        let endpoint = if list.api == Api::Export {
            endpoint
        } else {
            endpoint.setting("workspace_id", view)
        };
        Some(if is_counted_by_zone && zone != LAST_ZONE {
            endpoint.setting("time_zone", zone.name())
        } else {
            endpoint
        })
    }

    fn definition(&self, stream: &'static Stream) -> StreamDef {
        let schema = self
            .columns(stream)
            .extend(Schema::from_static(stream.columns));
        StreamDef::new(stream.name, schema)
            .primary_key(stream.key.iter().copied())
            .deletes(stream.deletes)
    }

    /// The project with a column for each property that was found.
    pub(crate) fn flattened(&self, found: &Found) -> Self {
        let mut project = self.clone();
        if self.flatten.contains(&Flatten::Events) {
            project.event_columns =
                self.event_columns
                    .and(&found.events, schema::EVENT, line::is_lifted);
        }
        if self.flatten.contains(&Flatten::Profiles) {
            project.profile_columns = self.profile_columns.and(
                &found.profiles,
                schema::PROFILE,
                crate::profiles::is_lifted,
            );
        }
        project
    }

    /// The properties that are columns of a stream.
    pub(crate) fn columns(&self, stream: &Stream) -> &Columns {
        match stream.name {
            "export" | "activity" => &self.event_columns,
            "engage" | "group_profiles" => &self.profile_columns,
            _ => Columns::none(),
        }
    }

    /// Event time says nothing about when an event arrived, so days are read again until they are
    /// settled. A merge of users rewrites events in place, hence a key that survives it. No cursor
    /// is declared: days that are read again hold millions of events, which the destination merges
    /// by key; remembering each would be a copy of them.
    fn export(&self, place: &Place) -> Endpoint {
        let export = Endpoint::get(export::NAME, "/api/2.0/export")
            .setting("time_storage", place.calendar.storage.name());
        let export = self.settings.iter().fold(export, |export, (name, value)| {
            export.setting(name, value.clone())
        });
        export
            .query("project_id", self.id.to_string())
            .base(place.hosts.data.clone())
            .query("time_in_ms", "true")
            .slices(ProjectDays {
                days: self.days.clone(),
                calendar: place.calendar,
                clock: DayClock::Export,
            })
            .at_most(EXPORTS_AT_ONCE.into())
            .ndjson(Lines {
                check: line::check_whole,
                malformed: u32::MAX,
                most: u64::MAX,
            })
            .buckets([EXPORT, EXPORT_PACE])
    }

    /// What the lines of an export for several days, of at most so many bytes, must be like. The
    /// day of a malformed line is looked for; of one day the events are stored, and the lines that
    /// are malformed are set apart.
    pub(crate) fn lines(&self, most: u64) -> Lines {
        Lines {
            check: line::check,
            malformed: self.max_bad_lines,
            most,
        }
    }

    /// A list as the table has it.
    fn list(&self, stream: &'static Stream, list: &List, place: &Place) -> Endpoint {
        let path = self.path(list);
        let endpoint = if list.api.method() == Method::POST {
            Endpoint::post(stream.name, path)
        } else {
            Endpoint::get(stream.name, path)
        };
        let endpoint = self.of_api(endpoint, list.api, place);
        let endpoint = list.query.iter().fold(endpoint, |endpoint, (name, value)| {
            endpoint.query(*name, *value)
        });
        let endpoint = self.configured(endpoint, stream, place);
        if stream.asks.is_none() {
            return endpoint;
        }
        let days = Reports {
            kept: place.kept,
            ..Reports::of(stream, &self.reports, self.report_days)
        };
        endpoint.slices(ProjectDays {
            days,
            calendar: place.calendar,
            clock: DayClock::Query,
        })
    }

    fn path(&self, list: &List) -> String {
        let workspace = self
            .workspace_id
            .map_or_else(String::new, |id| id.to_string());
        format!("{}/{}", list.api.prefix(), list.path)
            .replace("{project}", &self.id.to_string())
            .replace("{workspace}", &workspace)
    }

    /// What all requests of an interface have in common.
    fn of_api(&self, endpoint: Endpoint, api: Api, place: &Place) -> Endpoint {
        let with_project = |endpoint: Endpoint| endpoint.query("project_id", self.id.to_string());
        match api {
            Api::App => endpoint.paginate(AppPages).buckets([APP]),
            Api::Lexicon => endpoint.paginate(AppPages).buckets([LEXICON, APP]),
            Api::Ingestion => with_project(endpoint)
                .base(place.hosts.ingestion.clone())
                .buckets([APP]),
            Api::Export | Api::Query | Api::QueryForm | Api::Engage => {
                let endpoint = with_project(endpoint).buckets([QUERY, QUERY_PACE]);
                let endpoint = match self.workspace_id {
                    Some(id) => endpoint.query("workspace_id", id.to_string()),
                    None => endpoint,
                };
                match api {
                    // The pages of a session are not counted after the first.
                    Api::Engage => endpoint
                        .paginate(SessionPages)
                        .next_page_buckets([QUERY_PACE]),
                    _ => endpoint,
                }
            }
        }
    }

    /// Parameters that depend on the configuration or on the day.
    fn configured(&self, endpoint: Endpoint, stream: &Stream, place: &Place) -> Endpoint {
        let first = self
            .asked_since(stream.name, place)
            .map(|first| place.kept.map_or(first, |kept| first.max(kept)));
        let dated = |endpoint: Endpoint| {
            let first = first.unwrap_or(place.today);
            endpoint
                .query("from_date", first.to_string())
                .query("to_date", place.today.to_string())
        };
        match stream.name {
            "funnels" | "revenue" => dated(endpoint),
            "cohort_members" if self.slim_cohort_members => {
                endpoint.query("output_properties", "[\"$last_seen\"]")
            }
            "annotations" => {
                let endpoint = first.into_iter().fold(endpoint, |endpoint, day| {
                    endpoint.query("fromDate", day.to_string())
                });
                self.annotated
                    .1
                    .into_iter()
                    .fold(endpoint, |endpoint, day| {
                        endpoint.query("toDate", day.to_string())
                    })
            }
            _ => endpoint,
        }
    }

    /// The first day of the parameters of a stream's requests, as configured.
    fn asked_since(&self, stream: &str, place: &Place) -> Option<NaiveDate> {
        match stream {
            "funnels" | "revenue" => {
                Some(place.today - TimeDelta::days(i64::from(self.report_days) - 1))
            }
            "annotations" => self.annotated.0,
            _ => None,
        }
    }

    /// The first day that a slice of an endpoint asks for, as configured; none where it names no
    /// days.
    pub(crate) fn first_day(
        &self,
        endpoint: &str,
        slice: &SliceState,
        place: &Place,
    ) -> Option<NaiveDate> {
        let since = || Some(slice.window?.since?.date_naive());
        self.asked_since(endpoint, place).or_else(since)
    }

    /// Why a stream's endpoint cannot be read as configured; none: it can.
    pub(crate) fn unavailable(&self, endpoint: &str) -> Option<Error> {
        let stream = stream(endpoint)?;
        let Source::List(list) = &stream.source else {
            return None;
        };
        let refuse = |message: &str, help: &str| {
            Some(Error::new(ErrorKind::Unsupported, message).with_help(help))
        };
        let needs_account = matches!(list.api, Api::App | Api::Lexicon | Api::Ingestion);
        if needs_account && self.credentials == Credentials::ProjectSecret {
            return refuse(
                "a project secret may not read this",
                "configure a service account instead: username and secret",
            );
        }
        if list.path.contains("{workspace}") && self.workspace_id.is_none() {
            return refuse(
                "it belongs to a workspace, and none is configured",
                "set workspace_id",
            );
        }
        match stream.name {
            "revenue" if !self.legacy_revenue => refuse(
                "mixpanel documents revenue no more and may end it",
                "set legacy_revenue to true to read it all the same",
            ),
            name if stream.asks.is_none()
                || self.reports.iter().any(|report| report.stream == name) =>
            {
                None
            }
            "group_profiles" => refuse(
                "no group is configured",
                "set group_ids to the ids that the project's settings show beside group keys",
            ),
            _ => refuse("no report of this kind is configured", "add one to reports"),
        }
    }

    /// The report that a slice asks for; none when the endpoint has none, or it is not configured
    /// any more.
    pub(crate) fn report(&self, endpoint: &str, slice: &SliceState) -> Option<&Report> {
        let (_, name) = slice.query.iter().find(|(name, _)| name == REPORT)?;
        self.reports
            .iter()
            .find(|report| report.stream == endpoint && report.name == *name)
    }

    /// True when a stream's days are those of the project's zone, so that the zone must be known.
    pub(crate) fn needs_zone(&self, endpoint: &str) -> bool {
        let asks_days = stream(endpoint)
            .and_then(|stream| stream.asks)
            .is_some_and(|asks| asks.has_days);
        (asks_days || matches!(endpoint, "funnels" | "revenue" | "top_events"))
            && self.unavailable(endpoint).is_none()
    }
}
