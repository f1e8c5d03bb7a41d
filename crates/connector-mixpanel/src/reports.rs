//! Reports: questions that a configuration asks Mixpanel, answered anew by every sync.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use pipeline_core::gap::Missed;
use pipeline_core::http::Request;
use pipeline_core::slice::{Slicer, TimeRange};
use pipeline_core::state::{EndpointState, Position, SliceState, Window};
use pipeline_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::json::quote;
use crate::streams;
use crate::vendor::{ReportParameters, Slices};

/// Most days that a report covers.
pub(crate) const MAX_DAYS: u32 = 3660;

/// The parameter that asks for profiles of groups.
pub(crate) const GROUP: &str = "data_group_id";

/// What names a slice's report in the state.
pub(crate) const REPORT: &str = "report";

/// A question to Mixpanel's Query API.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Names the report; the rows carry the name.
    pub(crate) name: String,
    /// The stream that the answer goes to, such as `segmentation` or `retention`.
    pub(crate) stream: String,
    /// Parameters as Mixpanel's reference names them. The project, the workspace and the dates are
    /// filled in.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, Parameter>,
    /// Days that it covers, up to today in the project's time zone; as many as `report_days` unless
    /// set.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3660))]
    pub(crate) days: Option<u32>,
}

/// The value of a parameter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Parameter {
    /// Yes or no.
    Flag(bool),
    /// A number, such as the id of a saved report.
    Number(i64),
    /// Text, such as the name of an event or an expression.
    Text(String),
    /// Several texts, such as the names of events.
    List(Vec<String>),
}

impl Parameter {
    /// The value as it is sent: text as it is, lists as JSON.
    fn written(&self) -> Cow<'_, str> {
        match self {
            Self::Flag(flag) => flag.to_string().into(),
            Self::Number(number) => number.to_string().into(),
            Self::Text(text) => Cow::Borrowed(text),
            Self::List(texts) => format!(
                "[{}]",
                texts
                    .iter()
                    .map(|text| quote(text))
                    .collect::<Vec<_>>()
                    .join(",")
            )
            .into(),
        }
    }
}

impl Report {
    /// The beginning of the week or month that a day is in, where the report counts by those: a
    /// part of one would be told as if it were all of it.
    fn begun(&self, day: DateTime<Utc>) -> DateTime<Utc> {
        let before = match self.parameter("unit").as_deref() {
            Some("month") => day.day0(),
            Some("week") => day.weekday().num_days_from_monday(),
            _ => 0,
        };
        day - TimeDelta::days(before.into())
    }

    /// The first day, from `day` on, with which a week or month begins where the report counts by
    /// those.
    fn whole_since(&self, day: NaiveDate) -> NaiveDate {
        let begun = self
            .begun(day.and_time(NaiveTime::MIN).and_utc())
            .date_naive();
        if begun == day {
            return day;
        }
        let next = if self.parameter("unit").as_deref() == Some("month") {
            begun.checked_add_months(Months::new(1))
        } else {
            begun.checked_add_days(Days::new(7))
        };
        next.unwrap_or(day)
    }

    /// A request for the profiles of one kind of group.
    pub(crate) fn of_group(id: &str) -> Self {
        let parameters = BTreeMap::from([(GROUP.to_owned(), Parameter::Text(id.to_owned()))]);
        Self {
            name: id.to_owned(),
            stream: "group_profiles".to_owned(),
            parameters,
            days: None,
        }
    }

    /// A parameter's value as it is sent: text as it is, lists as JSON.
    pub(crate) fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        self.parameters.get(name).map(Parameter::written)
    }

    /// Refuses what Mixpanel would refuse, or not understand.
    fn check(&self) -> Result<()> {
        let invalid = |message: String| {
            Error::new(ErrorKind::ConfigInvalid, message).with_context("field", "reports")
        };
        let name = &self.name;
        let kinds = || {
            streams::lists()
                .filter(|list| matches!(list.slices, Some(Slices::Reports(_))))
                .map(|list| list.name)
        };
        let slices = streams::list(&self.stream).and_then(|list| list.slices);
        let Some(Slices::Reports(ReportParameters {
            required, optional, ..
        })) = slices
        else {
            return Err(invalid(format!(
                "report `{name}`: there is no stream `{}` of reports",
                self.stream
            ))
            .with_help(format!(
                "streams of reports: {}",
                kinds().collect::<Vec<_>>().join(", ")
            )));
        };
        let known: Vec<&str> = required.iter().chain(optional).copied().collect();
        if let Some(unknown) = self
            .parameters
            .keys()
            .find(|given| !known.contains(&given.as_str()))
        {
            return Err(invalid(format!(
                "report `{name}`: `{}` has no parameter `{unknown}`",
                self.stream
            ))
            .with_help(format!("its parameters: {}", known.join(", "))));
        }
        if let Some(missing) = required
            .iter()
            .find(|required| !self.parameters.contains_key(**required))
        {
            return Err(invalid(format!(
                "report `{name}`: the parameter `{missing}` is missing"
            )));
        }
        if self
            .days
            .is_some_and(|days| !(1..=MAX_DAYS).contains(&days))
        {
            return Err(invalid(format!(
                "report `{name}`: the days are not between 1 and {MAX_DAYS}"
            )));
        }
        Ok(())
    }
}

/// Checks the configured reports, and that no two of a stream share a name.
pub(crate) fn check(reports: &[Report]) -> Result<()> {
    reports.iter().try_for_each(Report::check)?;
    let twice = reports.iter().enumerate().find(|(index, report)| {
        reports[..*index]
            .iter()
            .any(|other| (&other.name, &other.stream) == (&report.name, &report.stream))
    });
    twice.map_or(Ok(()), |(_, report)| {
        let message = format!(
            "two reports of `{}` are called `{}`",
            report.stream, report.name
        );
        Err(Error::new(ErrorKind::ConfigInvalid, message).with_context("field", "reports"))
    })
}

/// One request for each report, which every sync makes.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    /// What is asked for.
    pub(crate) asked: Vec<Report>,
    /// True when Mixpanel must be told the days.
    pub(crate) is_dated: bool,
    /// How many, where a report does not say.
    pub(crate) days: u32,
    /// The first day that the project keeps, once that is known.
    pub(crate) kept: Option<NaiveDate>,
}

impl Slicer for Reports {
    /// `now` is the project's own clock, see [`ProjectDays`](crate::calendar::ProjectDays).
    fn plan(
        &self,
        state: &EndpointState,
        _range: TimeRange,
        now: DateTime<Utc>,
    ) -> Vec<SliceState> {
        if !state.slices.is_empty() {
            return Vec::new();
        }
        let tomorrow = (now.date_naive() + TimeDelta::days(1))
            .and_time(NaiveTime::MIN)
            .and_utc();
        let since = |report: &Report| {
            report.begun(tomorrow - TimeDelta::days(report.days.unwrap_or(self.days).into()))
        };
        let window = |report: &Report| Window {
            since: Some(since(report)),
            until: tomorrow,
        };
        let slice = |report: &Report| SliceState {
            window: self.is_dated.then(|| window(report)),
            query: vec![(REPORT.to_owned(), report.name.clone())],
            ..SliceState::default()
        };
        self.asked.iter().map(slice).collect()
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        let name = slice
            .query
            .iter()
            .find(|(name, _)| name == REPORT)
            .map(|(_, value)| value);
        let Some(report) = self.asked.iter().find(|report| Some(&report.name) == name) else {
            return Err(Error::new(
                ErrorKind::Unexpected,
                "a slice asks for a report that is not configured",
            ));
        };
        for (name, value) in &report.parameters {
            request.set_query(name, value.written());
        }
        if let Some(Window {
            since: Some(since),
            until,
        }) = slice.window
        {
            let last = (until - TimeDelta::days(1)).date_naive();
            let since = self.kept.map_or(since.date_naive(), |kept| {
                since.date_naive().max(report.whole_since(kept)).min(last)
            });
            request.set_query("from_date", since.to_string());
            request.set_query("to_date", last.to_string());
        }
        Ok(())
    }

    /// A report that cannot be computed says nothing about the others; nor does a kind of groups.
    fn unit(&self, slice: &SliceState) -> Option<Missed> {
        let (_, name) = slice.query.iter().find(|(name, _)| name == REPORT)?;
        let report = self.asked.iter().find(|report| report.name == *name)?;
        let unit = SliceState {
            unit: Some(name.clone()),
            position: Position::Start,
            ..slice.clone()
        };
        Some(match report.parameter(GROUP) {
            Some(group) => {
                Missed::new(format!("group {group}"), unit).keeping(GROUP, quote(&group))
            }
            None => Missed::new(format!("report {name}"), unit).keeping(REPORT, quote(name)),
        })
    }
}
