#![doc = include_str!("../README.md")]

mod account;
mod answers;
mod calendar;
mod config;
mod discover;
mod errors;
mod export;
mod flatten;
mod history;
mod json;
mod limits;
mod line;
mod paging;
mod profiles;
mod project;
mod region;
mod reports;
mod rows;
mod schema;
mod seen;
mod streams;
#[cfg(test)]
mod tests;
mod vendor;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use chrono::NaiveDate;
use chrono_tz::Tz;
pub use config::MixpanelConfig;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pipeline_core::http::HttpClient;
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::{
    Advance, Availability, CheckReport, Connector, Endpoint, Error, ErrorKind, Origin, Page, Plan,
    Reader, Result, Session, declarative,
};

use crate::account::{Site, Told, Zone};
use crate::calendar::{Calendar, TimeStorage};
use crate::export::{Exports, Response};
use crate::flatten::Flatten;
use crate::history::History;
use crate::line::Malformed;
use crate::project::{Credentials, Place, Project, requires};
use crate::region::Hosts;
use crate::rows::{About, Occurrences, reshape};
use crate::seen::Seen;
use crate::vendor::{Lifted, Mixpanel, Requires, Slices};

/// The values of the configuration's fields.
pub mod options {
    pub use crate::calendar::TimeStorage;
    pub use crate::export::Reread;
    pub use crate::flatten::{ColumnType, Flatten, Flattened, FlattenedProperty};
    pub use crate::region::Region;
    pub use crate::reports::{Parameter, Report};
}

/// The tables of lists, from which the documentation is written.
#[doc(hidden)]
pub mod tables {
    pub use crate::streams::FAMILIES;
    pub use crate::vendor::{Api, Made, Mixpanel, Parameters, ReportParameters, Requires, Slices};
}

/// Attempts at a request of a check.
const CHECK_ATTEMPTS: u32 = 2;

/// One Mixpanel project. Built by [`MixpanelConfig`].
#[derive(Debug)]
struct MixpanelConnector {
    /// The project as it is configured, for what needs no request.
    mixpanel: Mixpanel,
    /// The servers that may know the project; mostly one.
    sites: Vec<Site>,
    /// The project's zone, where the configuration says it.
    zone: Option<Tz>,
    storage: TimeStorage,
    range: TimeRange,
    /// What the configuration is worth telling before it breaks.
    facts: Vec<(String, String)>,
    /// The endpoints as far as they are known before anybody is asked.
    declared: Vec<Endpoint>,
}

/// One run: what is known of the project, and what its events have shown.
#[derive(Debug)]
struct Run {
    reader: Reader,
    plan: Plan,
    known: Known,
    range: TimeRange,
    seen: Mutex<Seen>,
}

/// First days of the history that endpoints are made for: the one that Mixpanel names and the next,
/// around midnight.
const MOST_FIRST_DAYS: usize = 4;

/// What is known of the project once Mixpanel was asked, if it had to be.
#[derive(Debug)]
struct Known {
    /// Index of the site that the project is at.
    site: usize,
    /// The project with the columns that were found out, where and when it is read.
    mixpanel: Mixpanel,
    /// What could not be found out.
    notes: Vec<String>,
    endpoints: Vec<Endpoint>,
    /// The export, for requests for several days.
    several_days: Option<Endpoint>,
    /// The project's zone, and why it is not known.
    zone: Zone,
    /// Today in the project's zone, or in UTC.
    today: NaiveDate,
    history: History,
    /// The endpoints for a project that keeps no days before the first.
    shortened: [OnceLock<(NaiveDate, Vec<Endpoint>)>; MOST_FIRST_DAYS],
}

impl Known {
    /// An endpoint that asks for no day before `first`.
    fn endpoint(&self, name: &str, first: Option<NaiveDate>) -> Option<&Endpoint> {
        let endpoints = first
            .and_then(|first| self.shortened(first))
            .unwrap_or(&self.endpoints);
        endpoints.iter().find(|endpoint| endpoint.name() == name)
    }

    fn shortened(&self, first: NaiveDate) -> Option<&Vec<Endpoint>> {
        let make = || {
            (
                first,
                Mixpanel {
                    place: Place {
                        kept: Some(first),
                        ..self.mixpanel.place.clone()
                    },
                    ..self.mixpanel.clone()
                }
                .endpoints(),
            )
        };
        self.shortened
            .iter()
            .map(|slot| slot.get_or_init(make))
            .find(|(day, _)| *day == first)
            .map(|(_, endpoints)| endpoints)
    }

    /// The first day that a slice of an endpoint asks for, where it names days.
    fn asked(&self, endpoint: &str, slice: &SliceState) -> Option<NaiveDate> {
        self.mixpanel
            .project
            .first_day(endpoint, slice, &self.mixpanel.place)
    }

    /// Why an endpoint cannot be read; none: it can.
    fn unavailable(&self, endpoint: &str) -> Option<Error> {
        let needs_zone = self.mixpanel.place.calendar.storage == TimeStorage::ProjectLocal
            && requires(endpoint, Requires::EventZone);
        let zone = match &self.zone {
            Zone::Unknown(kind, reason) if needs_zone => Some(
                Error::new(
                    *kind,
                    format!(
                        "events are stored in the project's time zone, which is not known: {reason}"
                    ),
                )
                .with_context("field", "time_zone")
                .with_help("set time_zone to what the project's settings show, such as US/Pacific"),
            ),
            _ => None,
        };
        self.mixpanel.unavailable(endpoint).or(zone)
    }
}

impl MixpanelConnector {
    /// Asks for the region and the zone where they are needed and not configured: a request that is
    /// not counted.
    async fn learn(&self, endpoints: &[&str]) -> Result<Known> {
        let needs_zone = |name: &str| {
            self.mixpanel.needs_zone(name)
                || self.storage == TimeStorage::ProjectLocal
                    && requires(name, Requires::EventZone)
                    && self.mixpanel.unavailable(name).is_none()
        };
        let wants_zone = endpoints.is_empty() || endpoints.iter().any(|name| needs_zone(name));
        let asks = self.sites.len() > 1 || wants_zone && self.zone.is_none();
        let nothing = |reason: &str| Told {
            site: 0,
            zone: Zone::Unknown(ErrorKind::ConfigInvalid, reason.to_owned()),
        };
        let told = match self.mixpanel.project.credentials {
            Credentials::ServiceAccount if asks => self.ask().await?,
            Credentials::ServiceAccount => nothing("it is not configured"),
            Credentials::ProjectSecret => nothing("a project secret cannot ask for it"),
        };
        let zone = self.zone.map_or(told.zone, Zone::Known);
        let Site { hosts, client, .. } = &self.sites[told.site];
        let now = client.now();
        // Without a zone, queries end with a day that has begun wherever the project is: a later
        // one is refused.
        let calendar = Calendar {
            zone: zone.known().unwrap_or(calendar::LAST_ZONE),
            storage: self.storage,
        };
        let place = Place {
            hosts: hosts.clone(),
            calendar,
            today: calendar.today(now),
            kept: None,
        };
        let (project, notes) = self.properties(client, hosts, endpoints).await?;
        let lines = project.lines(project.days.most());
        let mixpanel = Mixpanel { project, place };
        let endpoints = mixpanel.endpoints();
        let several_days = endpoints
            .iter()
            .find(|endpoint| endpoint.name() == export::NAME)
            .map(|export| export.clone().ndjson(lines));
        let today = Calendar {
            zone: zone.known().unwrap_or(Tz::UTC),
            ..calendar
        }
        .today(now);
        let (history, shortened) = (History::default(), Default::default());
        Ok(Known {
            site: told.site,
            mixpanel,
            notes,
            endpoints,
            several_days,
            zone,
            today,
            history,
            shortened,
        })
    }

    /// Finds out which properties there are, where all of them are to be columns of an endpoint.
    async fn properties(
        &self,
        client: &HttpClient,
        hosts: &Hosts,
        endpoints: &[&str],
    ) -> Result<(Project, Vec<String>)> {
        let project = &self.mixpanel.project;
        let wants = |lifted| {
            let mut lifting = streams::lists().filter(|list| {
                let mut streams = list.streams.iter();
                streams.any(|stream| stream.facts.lifted == lifted)
            });
            endpoints.is_empty() || lifting.any(|list| endpoints.contains(&list.name))
        };
        let flattens = |what, lifted| project.flatten.contains(&what) && wants(lifted);
        let events = flattens(Flatten::Events, Lifted::Events);
        if !events && !flattens(Flatten::Profiles, Lifted::Profiles) {
            return Ok((project.clone(), Vec::new()));
        }
        let found = discover::properties(client, hosts, project, events).await?;
        Ok((project.flattened(&found), found.notes))
    }

    /// Asks Mixpanel. A plan or a role that may not ask may read events all the same, and whatever
    /// else needs no zone.
    async fn ask(&self) -> Result<Told> {
        let is_optional = |error: &Error| {
            let is_refusal = matches!(
                error.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::NotFound
                    | ErrorKind::Refused
                    | ErrorKind::Decode
            );
            self.sites.len() == 1 && is_refusal && error.context_value("project").is_none()
        };
        match account::ask(&self.sites, self.mixpanel.project.id).await {
            Err(error) if is_optional(&error) => Ok(Told {
                site: 0,
                zone: Zone::Unknown(
                    error.kind(),
                    format!("mixpanel does not report it: {error}"),
                ),
            }),
            told => told,
        }
    }

    /// Notices about the configuration, the names of columns, and what is not known.
    fn notices(&self, known: &Known, endpoints: &[&str]) -> Vec<String> {
        let warning = self
            .facts
            .iter()
            .filter(|(name, _)| name == "warning")
            .map(|(_, text)| text.clone());
        let readable = endpoints
            .iter()
            .filter(|name| known.unavailable(name).is_none());
        let columns = readable
            .filter_map(|name| streams::list(name))
            .flat_map(|list| list.streams)
            .flat_map(|stream| {
                let collisions = &known.mixpanel.project.columns(stream).collisions;
                collisions
                    .iter()
                    .map(|collision| format!("{}: {collision}", stream.name))
            });
        let needs_zone = endpoints.iter().any(|name| self.mixpanel.needs_zone(name));
        let zone = match &known.zone {
            Zone::Unknown(_, reason) if needs_zone => Some(format!(
                "the project's time zone is not known, so that reports end with a day that has begun in every zone: {reason}; set time_zone"
            )),
            _ => None,
        };
        warning
            .chain(known.notes.iter().cloned())
            .chain(columns)
            .chain(zone)
            .collect()
    }

    /// Asks an endpoint for as little as shows whether it can be read.
    async fn availability(&self, known: &Known, endpoint: &Endpoint) -> Result<Availability> {
        let client = &self.sites[known.site].client;
        let checked = |availability: Availability| {
            client.checked(endpoint.name(), &availability);
            availability
        };
        if let Some(error) = known.unavailable(endpoint.name()) {
            return Ok(checked(Availability::Unavailable(error.to_string())));
        }
        if endpoint.name() == export::NAME {
            return export::check(&Reader::new(client.with_attempts(1)), endpoint, self.range)
                .await
                .map(checked);
        }
        let client = client.with_attempts(CHECK_ATTEMPTS);
        let name = endpoint.name();
        let mut first = known.history.first();
        loop {
            let endpoint = known.endpoint(name, first).unwrap_or(endpoint);
            match declarative::check(&client, std::slice::from_ref(endpoint), &[name]).await {
                Ok(report) => {
                    let found = report
                        .endpoints
                        .into_iter()
                        .next()
                        .map(|(_, availability)| availability);
                    return Ok(found.unwrap_or_else(|| {
                        Availability::Failed("the endpoint was not asked".to_owned())
                    }));
                }
                Err(error) => {
                    let asked = known.asked(name, &SliceState::default()).max(first);
                    first = Some(
                        known
                            .history
                            .refused(&error, asked, client.now())
                            .ok_or_else(|| history::exhausted(error))?,
                    );
                }
            }
        }
    }
}

#[async_trait]
impl Connector for MixpanelConnector {
    fn client(&self) -> &HttpClient {
        &self.sites[0].client
    }

    fn endpoints(&self) -> &[Endpoint] {
        &self.declared
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    async fn open(self: Arc<Self>, endpoints: &[&str]) -> Result<Arc<dyn Session>> {
        let known = self.learn(endpoints).await?;
        // A project has a number of its own in each region.
        let origin = Origin::of_account(self.mixpanel.project.id.to_string());
        let origin = match self.sites[known.site].region {
            Some(region) => origin.realm(format!("region {}", region.name())),
            None => origin,
        };
        let notices = self.notices(&known, endpoints);
        let mut plan = Plan {
            endpoints: known.endpoints.clone(),
            origin,
            notices,
            ..Plan::default()
        };
        for name in endpoints {
            if let Some(reason) = known.unavailable(name) {
                plan.skip_endpoint(*name, reason);
            }
        }
        let reader = Reader::new(self.sites[known.site].client.clone());
        Ok(Arc::new(Run {
            reader,
            plan,
            known,
            range: self.range,
            seen: Mutex::default(),
        }))
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        let known = self.learn(endpoints).await?;
        let wanted = known
            .endpoints
            .iter()
            .filter(|endpoint| endpoints.is_empty() || endpoints.contains(&endpoint.name()));
        let mut report = CheckReport {
            facts: self.facts.clone(),
            endpoints: Vec::new(),
        };
        if let Some(region) = self.sites[known.site].region {
            report
                .facts
                .push(("region".to_owned(), region.name().to_owned()));
        }
        if let Some(zone) = known.zone.known() {
            report
                .facts
                .push(("time zone".to_owned(), zone.name().to_owned()));
        }
        for endpoint in wanted {
            report.endpoints.push((
                endpoint.name().to_owned(),
                self.availability(&known, endpoint).await?,
            ));
        }
        Ok(report)
    }
}

impl Session for Run {
    fn client(&self) -> &HttpClient {
        self.reader.client()
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        self.rows(endpoint, slice)
    }

    fn notices(&self, endpoint: &str) -> Vec<String> {
        if endpoint != export::NAME {
            return Vec::new();
        }
        let (days, seen) = (
            &self.known.mixpanel.project.days,
            std::mem::take(&mut *self.seen()),
        );
        seen.remarks(days, days.first(self.range))
    }
}

impl Run {
    /// Reads a slice, and makes rows of what comes.
    fn rows<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        slice: SliceState,
    ) -> BoxStream<'a, Result<Page>> {
        let known = &self.known;
        let (project, place) = (&known.mixpanel.project, &known.mixpanel.place);
        let list = streams::list(endpoint.name());
        let streams = list.map_or(&[][..], |list| list.streams);
        let report = project.report(endpoint.name(), &slice);
        let is_report = list.is_some_and(|list| matches!(list.slices, Some(Slices::Reports(_))));
        if report.is_none() && is_report {
            // The report was taken out of the configuration while its answer was still to be read.
            let nothing = Page::new(vec![Vec::new(); streams.len()], Some(Advance::End));
            return stream::iter([Ok(nothing)]).boxed();
        }
        let about = |stream| About {
            stream,
            calendar: place.calendar,
            today: known.today,
            report,
            columns: project.columns(stream),
            occurrences: Occurrences::default(),
            seen: Seen::default(),
            lines: Malformed::default(),
        };
        let mut about: Vec<About<'_>> = streams.iter().map(about).collect();
        let reader = &self.reader;
        if endpoint.name() != export::NAME {
            return history::read(known, reader, endpoint.name(), slice)
                .map(move |page| reshape(page?, &mut about))
                .boxed();
        }
        let read = slice.clone();
        let most_malformed = project.max_bad_lines;
        let events = move |response: Result<Response>| {
            let Response { page, asked } = response?;
            let mut page = reshape(page, &mut about)?;
            if page.advance.is_some() {
                let mut seen = self.seen();
                for about in &mut about {
                    about.occurrences = Occurrences::default();
                    seen.add(&read, &std::mem::take(&mut about.seen));
                    let malformed = std::mem::take(&mut about.lines).more_than(most_malformed);
                    page.gaps
                        .extend(malformed.map(|error| export::missed_day(&read, asked, &error)));
                }
            }
            Ok(export::newer(page, export::processed_since(&read)))
        };
        let several_days = known.several_days.as_ref().unwrap_or(endpoint);
        let exports = Exports {
            reader,
            endpoint,
            several_days,
            days: &project.days,
            history: &known.history,
        };
        export::read(exports, slice).map(events).boxed()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
