#![doc = include_str!("../README.md")]

mod account;
mod answers;
mod calendar;
mod classify;
mod config;
mod discover;
mod export;
mod flatten;
mod json;
mod limits;
mod line;
mod profiles;
mod region;
mod reports;
mod rows;
mod schema;
mod seen;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono_tz::Tz;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pipeline_core::http::HttpClient;
use pipeline_core::slice::TimeRange;
use pipeline_core::state::SliceState;
use pipeline_core::{Advance, Availability, CheckReport, Connector, Endpoint, Error, ErrorKind, Page, Preparation, Result, declared};
use tokio::sync::OnceCell;

use crate::account::{Site, Told};
use crate::calendar::Calendar;
use crate::export::Exports;
use crate::region::Hosts;
use crate::rows::{About, Occurrences, reshape};
use crate::seen::Seen;
use crate::streams::{Credentials, Place, Project};

pub use calendar::TimeStorage;
pub use config::MixpanelConfig;
pub use export::Reread;
pub use flatten::{ColumnType, Flatten, Flattened, FlattenedProperty};
pub use region::Region;
pub use reports::{Parameter, Report};
pub use table::{STREAMS, Stream};

/// One Mixpanel project. Built by [`MixpanelConfig`].
#[derive(Debug)]
struct Mixpanel {
    project: Project,
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
    known: OnceCell<Known>,
    /// What the events of this run have shown.
    seen: Mutex<Seen>,
}

/// What is known of the project once Mixpanel was asked, if it had to be.
#[derive(Debug)]
struct Known {
    /// Index of the site that the project is at.
    site: usize,
    place: Place,
    /// The project with the columns that were found out.
    project: Project,
    /// What could not be found out.
    notes: Vec<String>,
    endpoints: Vec<Endpoint>,
    /// The export, for requests for several days.
    several_days: Option<Endpoint>,
    /// True when Mixpanel or the configuration told the zone.
    has_zone: bool,
}

impl Mixpanel {
    /// What is known, for the named endpoints or for all.
    async fn known(&self, endpoints: &[&str]) -> Result<&Known> {
        self.known.get_or_try_init(|| self.learn(endpoints)).await
    }

    /// Asks for the region and the zone where they are needed and not configured: a request that is not counted.
    async fn learn(&self, endpoints: &[&str]) -> Result<Known> {
        let needs_zone = |name: &str| self.project.needs_zone(name) || name == "export" && self.storage == TimeStorage::ProjectLocal;
        let wants_zone = endpoints.is_empty() || endpoints.iter().any(|name| needs_zone(name));
        let asks = self.project.credentials == Credentials::ServiceAccount && (self.sites.len() > 1 || wants_zone && self.zone.is_none());
        let nothing = Told { site: 0, zone: None };
        let told = if asks { self.ask().await?.unwrap_or(nothing) } else { nothing };
        let zone = self.zone.or(told.zone);
        if zone.is_none() && wants_zone && self.storage == TimeStorage::ProjectLocal {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the project's time zone is not known, and its events are stored in it")
                .with_context("field", "time_zone")
                .with_help("set time_zone to what the project's settings show, such as US/Pacific"));
        }
        let calendar = Calendar { zone: zone.unwrap_or(Tz::UTC), storage: self.storage };
        let Site { hosts, client, .. } = &self.sites[told.site];
        let place = Place { hosts: hosts.clone(), calendar, today: calendar.today(client.now()) };
        let (project, notes) = self.properties(client, hosts, endpoints).await?;
        let endpoints = project.endpoints(&place);
        let lines = project.lines(project.days.most());
        let several_days = endpoints.iter().find(|endpoint| endpoint.name() == export::NAME).map(|export| export.clone().ndjson(lines));
        Ok(Known { site: told.site, project, notes, endpoints, several_days, place, has_zone: zone.is_some() })
    }

    /// Finds out which properties there are, where all of them are to be columns of an endpoint.
    async fn properties(&self, client: &HttpClient, hosts: &Hosts, endpoints: &[&str]) -> Result<(Project, Vec<String>)> {
        let wants = |names: [&str; 2]| endpoints.is_empty() || endpoints.iter().any(|name| names.contains(name));
        let flattens = |what, names| self.project.flatten.contains(&what) && wants(names);
        let events = flattens(Flatten::Events, ["export", "activity"]);
        if !events && !flattens(Flatten::Profiles, ["engage", "group_profiles"]) {
            return Ok((self.project.clone(), Vec::new()));
        }
        let found = discover::properties(client, hosts, &self.project, events).await?;
        Ok((self.project.flattened(&found), found.notes))
    }

    /// Asks Mixpanel. Gives nothing when it refuses to tell the zone to a plan or a role that may read events all the same.
    async fn ask(&self) -> Result<Option<Told>> {
        let is_optional = self.sites.len() == 1 && self.storage == TimeStorage::Utc;
        match account::ask(&self.sites, self.project.id).await {
            Err(error) if is_optional && matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => Ok(None),
            told => told.map(Some),
        }
    }

    /// Reads a slice, and makes rows of what comes.
    fn rows<'a>(&'a self, known: &'a Known, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
        let streams: Vec<_> = endpoint.streams().filter_map(|stream| streams::stream(stream.name())).collect();
        let report = known.project.report(endpoint.name(), &slice);
        if report.is_none() && streams.iter().any(|stream| stream.asks.is_some()) {
            // The report was taken out of the configuration while its answer was still to be read.
            let nothing = Page::new(vec![Vec::new(); streams.len()], Some(Advance::End));
            return stream::iter([Ok(nothing)]).boxed();
        }
        let about = |stream| About {
            stream,
            calendar: known.place.calendar,
            today: known.place.today,
            report,
            columns: known.project.columns(stream),
            occurrences: Occurrences::default(),
            seen: Seen::default(),
        };
        let mut about: Vec<About<'_>> = streams.into_iter().map(about).collect();
        let client = &self.sites[known.site].client;
        if endpoint.name() != export::NAME {
            return declared::read(client, endpoint, slice).map(move |page| reshape(page?, &mut about)).boxed();
        }
        let read = slice.clone();
        let events = move |page: Result<Page>| {
            let page = reshape(page?, &mut about)?;
            if page.advance.is_some() {
                let mut seen = self.seen();
                for about in &mut about {
                    seen.add(&read, &std::mem::take(&mut about.seen));
                }
            }
            Ok(export::newer(page, export::processed_since(&read)))
        };
        let several_days = known.several_days.as_ref().unwrap_or(endpoint);
        export::read(Exports { client, endpoint, several_days, days: &self.project.days }, slice).map(events).boxed()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what is odd about names of columns.
    fn notes(&self, known: &Known, endpoints: &[&str]) -> Vec<String> {
        let warning = self.facts.iter().filter(|(name, _)| name == "warning").map(|(_, text)| text.clone());
        let readable = endpoints.iter().filter(|name| self.project.unavailable(name).is_none());
        let columns = readable.filter_map(|name| streams::stream(name)).flat_map(|stream| {
            let collisions = &known.project.columns(stream).collisions;
            collisions.iter().map(|collision| format!("{}: {collision}", stream.name))
        });
        let zone = !known.has_zone && endpoints.iter().any(|name| self.project.needs_zone(name));
        let zone = zone.then(|| "the project's time zone is not known, so that reports end with the day in UTC: set time_zone".to_owned());
        warning.chain(known.notes.iter().cloned()).chain(columns).chain(zone).collect()
    }

    fn client(&self) -> &HttpClient {
        &self.sites[self.known.get().map_or(0, |known| known.site)].client
    }
}

#[async_trait]
impl Connector for Mixpanel {
    fn client(&self) -> &HttpClient {
        self.client()
    }

    fn endpoints(&self) -> &[Endpoint] {
        self.known.get().map_or(&self.declared, |known| &known.endpoints)
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    async fn prepare(&self, endpoints: &[&str]) -> Result<Preparation> {
        let known = self.known(endpoints).await?;
        let refused = |name: &&str| Some(((*name).to_owned(), self.project.unavailable(name)?));
        let unavailable = endpoints.iter().filter_map(refused).collect();
        Ok(Preparation { notes: self.notes(known, endpoints), unavailable, ..Preparation::default() })
    }

    fn remarks(&self, endpoint: &str) -> Vec<String> {
        if endpoint != export::NAME {
            return Vec::new();
        }
        let (days, seen) = (&self.project.days, std::mem::take(&mut *self.seen()));
        seen.remarks(days, days.first(self.range))
    }

    async fn check(&self, endpoints: &[&str]) -> Result<CheckReport> {
        let known = self.known(endpoints).await?;
        let wanted = known.endpoints.iter().filter(|endpoint| endpoints.is_empty() || endpoints.contains(&endpoint.name()));
        let mut report = CheckReport { facts: self.facts.clone(), endpoints: Vec::new() };
        if let Some(region) = self.sites[known.site].region {
            report.facts.push(("region".to_owned(), region.name().to_owned()));
        }
        if known.has_zone {
            report.facts.push(("time zone".to_owned(), known.place.calendar.zone.name().to_owned()));
        }
        for endpoint in wanted {
            let name = endpoint.name();
            if let Some(error) = self.project.unavailable(name) {
                report.endpoints.push((name.to_owned(), Availability::Unavailable(error.to_string())));
                continue;
            }
            // A day of events can be gigabytes: one is enough.
            let probe = if name == "export" { endpoint.clone().query("limit", "1") } else { endpoint.clone() };
            report.endpoints.extend(declared::check(self.client(), &[probe], &[name]).await?.endpoints);
        }
        Ok(report)
    }

    fn read<'a>(&'a self, endpoint: &'a Endpoint, slice: SliceState) -> BoxStream<'a, Result<Page>> {
        let pages = async move {
            let known = self.known(&[]).await?;
            // Before anybody was asked, hosts and days were guesses.
            let endpoint = known.endpoints.iter().find(|known| known.name() == endpoint.name()).unwrap_or(endpoint);
            Ok::<_, Error>(self.rows(known, endpoint, slice))
        };
        stream::once(pages).try_flatten().boxed()
    }
}
