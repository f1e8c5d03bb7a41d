//! What Mixpanel tells a service account about itself: which region knows it, and the time zone of its projects.

use std::borrow::Cow;

use chrono_tz::Tz;
use pipeline_core::http::{Call, HttpClient, Method, Request};
use pipeline_core::{Error, ErrorKind, Result};

use crate::json::{Members, expect, find, members};
use crate::limits::APP;
use crate::region::{Hosts, Region};

/// The servers of one region, and a client for them.
#[derive(Debug)]
pub(crate) struct Site {
    /// The region; none where one server stands for all.
    pub(crate) region: Option<Region>,
    pub(crate) hosts: Hosts,
    pub(crate) client: HttpClient,
}

/// What an account told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Index of the site that knows it.
    pub(crate) site: usize,
    /// The project's zone; none when the project or its zone is not among what the account sees.
    pub(crate) zone: Option<Tz>,
}

/// Asks one site after the other until one knows the credentials. Costs nothing of the hourly budget.
///
/// # Errors
/// [`ErrorKind::Unauthenticated`] when none does. Any other failure ends the search: a region that does not answer could be
/// the right one.
pub(crate) async fn ask(sites: &[Site], project: u64) -> Result<Told> {
    let mut refused = None;
    for (site, Site { hosts, client, .. }) in sites.iter().enumerate() {
        match me(client, hosts).await {
            Ok(body) => return Ok(Told { site, zone: zone(&body, project)? }),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    let unknown = || Error::new(ErrorKind::Unexpected, "there is no region to ask");
    Err(refused.unwrap_or_else(unknown))
}

async fn me(client: &HttpClient, hosts: &Hosts) -> Result<String> {
    let invalid = |error| Error::new(ErrorKind::Unexpected, "the address of the account is no URL").with_source(error);
    let request = Request::new(Method::GET, hosts.query.join("/api/app/me").map_err(invalid)?);
    let response = client.send(&request, &Call { endpoint: "projects", buckets: &[Cow::Borrowed(APP)] }).await?;
    String::from_utf8(response.body.into())
        .map_err(|error| Error::new(ErrorKind::Decode, "what mixpanel tells of the account is not text").with_source(error))
}

/// The time zone of a project, from `{results: {projects: {id: {timezone}}}}`.
fn zone(body: &str, project: u64) -> Result<Option<Tz>> {
    let results = members(expect(&members(body)?, "results")?)?;
    let projects = find(&results, "projects").map(members).transpose()?.unwrap_or_default();
    let is_it = |id: &str| id.parse() == Ok(project);
    let Some((_, json)) = projects.iter().find(|(id, _)| is_it(id)) else { return Ok(None) };
    let told: Members<'_> = members(json)?;
    let Some(name) = find(&told, "timezone").and_then(|json| serde_json::from_str::<String>(json).ok()) else { return Ok(None) };
    parse_zone(&name).map(Some)
}

/// A time zone by its name in the IANA's database.
pub(crate) fn parse_zone(name: &str) -> Result<Tz> {
    name.parse().map_err(|_| {
        Error::new(ErrorKind::ConfigInvalid, format!("`{name}` is no time zone"))
            .with_context("field", "time_zone")
            .with_help("set time_zone to a name such as Europe/Lisbon")
    })
}
