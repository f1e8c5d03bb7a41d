//! What the configuration says of a project, and where and when it is read.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use pipeline_core::declarative::{ListDef, StreamDef, compile};
use pipeline_core::state::SliceState;
use pipeline_core::{Endpoint, Error, Lines, Result};

use crate::calendar::Calendar;
use crate::config::{DEFAULT_HISTORY, MixpanelConfig, day};
use crate::discover::Found;
use crate::export::Days;
use crate::flatten::{Columns, Flatten, Flattened};
use crate::region::Hosts;
use crate::reports::{REPORT, Report};
use crate::vendor::{Lifted, Mixpanel, Parameters, Requires};
use crate::{line, profiles, schema, streams};

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

impl MixpanelConfig {
    /// What the configuration says about the endpoints.
    pub(crate) fn project(&self, now: DateTime<Utc>) -> Result<Project> {
        let groups = self.group_ids.iter().map(|id| Report::of_group(id));
        let date = |field, text: &Option<String>| {
            Ok::<_, Error>(day(field, text.as_deref())?.map(|day| day.date_naive()))
        };
        Ok(Project {
            id: self.project_id,
            workspace_id: self.workspace_id,
            credentials: self.credentials(),
            days: self.days(now),
            max_bad_lines: self.max_bad_lines,
            annotated: (
                date("start_date", &self.start_date)?,
                date("end_date", &self.end_date)?,
            ),
            slim_cohort_members: self.slim_cohort_members,
            legacy_revenue: self.legacy_revenue,
            report_days: self.report_days,
            reports: self.reports.iter().cloned().chain(groups).collect(),
            event_columns: Columns::new(&self.event_columns, schema::EVENT, "event_columns")?,
            profile_columns: Columns::new(
                &self.profile_columns,
                schema::PROFILE,
                "profile_columns",
            )?,
            flatten: self.flatten.clone(),
            settings: self.settings(),
        })
    }

    /// What decides how rows of events look, as text.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let listed = |mut names: Vec<String>| {
            names.sort_unstable();
            names.join(", ")
        };
        vec![
            (
                "event_columns",
                listed(self.event_columns.iter().map(Flattened::describe).collect()),
            ),
            (
                "flatten",
                listed(
                    self.flatten
                        .iter()
                        .map(|what| format!("{what:?}").to_ascii_lowercase())
                        .collect(),
                ),
            ),
        ]
    }

    fn days(&self, now: DateTime<Utc>) -> Days {
        let days = |days: u32| TimeDelta::days(days.into());
        Days {
            oldest: now - DEFAULT_HISTORY,
            window: days(self.export_window_days),
            bytes: u64::from(self.export_window_mb) << 20,
            lookback: days(self.lookback_days),
            sweep: days(self.sweep_days),
            include_today: self.include_today,
            reread: self.reread,
        }
    }
}

impl Mixpanel {
    /// Everything that is read, in the order of the tables.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        compile(&streams::lists().copied().collect::<Vec<_>>(), self)
    }

    /// Why an endpoint cannot be read as configured; none: it can.
    pub(crate) fn unavailable(&self, endpoint: &str) -> Option<Error> {
        streams::list(endpoint)?.unmet(self)
    }

    /// True when the days of an endpoint that can be read are those of the project's zone, so that
    /// the zone must be known.
    pub(crate) fn needs_zone(&self, endpoint: &str) -> bool {
        requires(endpoint, Requires::ProjectZone) && self.unavailable(endpoint).is_none()
    }
}

/// Whether an endpoint requires something.
pub(crate) fn requires(endpoint: &str, what: Requires) -> bool {
    streams::list(endpoint).is_some_and(|list| list.requires.contains(&what))
}

impl Project {
    /// The workspace as parameters and settings have it; empty without one.
    pub(crate) fn view(&self) -> String {
        self.workspace_id
            .map_or_else(String::new, |id| id.to_string())
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
            project.profile_columns =
                self.profile_columns
                    .and(&found.profiles, schema::PROFILE, profiles::is_lifted);
        }
        project
    }

    /// The properties that are columns of a stream.
    pub(crate) fn columns(&self, stream: &StreamDef<Mixpanel>) -> &Columns {
        match stream.facts.lifted {
            Lifted::Events => &self.event_columns,
            Lifted::Profiles => &self.profile_columns,
            Lifted::Nothing => Columns::none(),
        }
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

    /// The first day of the parameters of a list's requests, as configured.
    pub(crate) fn asked_since(&self, list: &ListDef<Mixpanel>, place: &Place) -> Option<NaiveDate> {
        match list.facts {
            Parameters::ReportDays => {
                Some(place.today - TimeDelta::days(i64::from(self.report_days) - 1))
            }
            Parameters::AnnotatedDays => self.annotated.0,
            Parameters::Fixed | Parameters::CohortMembers => None,
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
        let list = streams::list(endpoint);
        list.and_then(|list| self.asked_since(list, place))
            .or_else(since)
    }

    /// The report that a slice asks for; none when the endpoint has none, or it is not configured
    /// any more.
    pub(crate) fn report(&self, endpoint: &str, slice: &SliceState) -> Option<&Report> {
        let (_, name) = slice.query.iter().find(|(name, _)| name == REPORT)?;
        self.reports
            .iter()
            .find(|report| report.stream == endpoint && report.name == *name)
    }
}
