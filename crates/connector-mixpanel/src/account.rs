//! What Mixpanel reports to a service account about itself: which region knows it, and the time
//! zone of its projects.

use std::borrow::Cow;

use chrono_tz::Tz;
use pipeline_core::http::{Call, HttpClient, Method, Request};
use pipeline_core::{Error, ErrorKind, Result};

use crate::json::{Members, expect, find, members};
use crate::limits::APP;
use crate::region::{Hosts, Region};

/// Projects that an error names.
const MOST_NAMED: usize = 5;

/// The servers of one region, and a client for them.
#[derive(Debug)]
pub(crate) struct Site {
    /// The region; none where one server stands for all.
    pub(crate) region: Option<Region>,
    pub(crate) hosts: Hosts,
    pub(crate) client: HttpClient,
}

/// What an account reported.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Index of the site that knows it.
    pub(crate) site: usize,
    /// The project's zone.
    pub(crate) zone: Zone,
}

/// The time zone of a project, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Known(Tz),
    /// What kind of failure it is that it is not known, where that is one, and why.
    Unknown(ErrorKind, String),
}

impl Zone {
    pub(crate) fn known(&self) -> Option<Tz> {
        match self {
            Self::Known(zone) => Some(*zone),
            Self::Unknown(..) => None,
        }
    }
}

/// Asks one site after the other until one knows the credentials and the project. Costs nothing of
/// the hourly budget.
///
/// # Errors
/// [`ErrorKind::Unauthenticated`] when none knows the credentials, and
/// [`ErrorKind::PermissionDenied`] when those that do report other projects only. Any other failure
/// ends the search: a region that does not answer could be the right one.
pub(crate) async fn ask(sites: &[Site], project: u64) -> Result<Told> {
    let mut refused = None;
    for (site, Site { hosts, client, .. }) in sites.iter().enumerate() {
        match me(client, hosts).await {
            Ok(body) => match seen(&body, project)? {
                Seen::Project(zone) => return Ok(Told { site, zone }),
                Seen::Others(error) => refused = Some(error),
            },
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                refused.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    let unknown = || Error::new(ErrorKind::Unexpected, "there is no region to ask");
    Err(refused.unwrap_or_else(unknown))
}

async fn me(client: &HttpClient, hosts: &Hosts) -> Result<String> {
    let invalid = |error| {
        Error::new(
            ErrorKind::Unexpected,
            "the address of the account is not a URL",
        )
        .with_source(error)
    };
    let request = Request::new(
        Method::GET,
        hosts.query.join("/api/app/me").map_err(invalid)?,
    );
    let response = client
        .send(
            &request,
            &Call {
                endpoint: "projects",
                buckets: &[Cow::Borrowed(APP)],
            },
        )
        .await?;
    String::from_utf8(response.body.into()).map_err(|error| {
        Error::new(
            ErrorKind::Decode,
            "what mixpanel reports of the account is not text",
        )
        .with_source(error)
    })
}

/// What an account sees.
#[derive(Debug)]
enum Seen {
    /// The project.
    Project(Zone),
    /// Other projects, or none.
    Others(Error),
}

/// Looks for a project in `{results: {projects: {id: {timezone}}}}`. An answer without `projects`
/// says nothing about it.
fn seen(body: &str, project: u64) -> Result<Seen> {
    let results = members(expect(&members(body)?, "results")?)?;
    let Some(projects) = find(&results, "projects").map(members).transpose()? else {
        return Ok(Seen::Project(unreported()));
    };
    let is_it = |id: &str| id.parse() == Ok(project);
    let Some((_, json)) = projects.iter().find(|(id, _)| is_it(id)) else {
        return Ok(Seen::Others(not_seen(project, &projects)));
    };
    let told: Members<'_> = members(json)?;
    let name = find(&told, "timezone")
        .and_then(|json| serde_json::from_str::<String>(json).ok())
        .unwrap_or_default();
    Ok(Seen::Project(match name.parse() {
        Ok(zone) => Zone::Known(zone),
        Err(_) if name.is_empty() => unreported(),
        Err(_) => Zone::Unknown(
            ErrorKind::ConfigInvalid,
            format!("mixpanel reports the unknown time zone `{name}`"),
        ),
    }))
}

fn unreported() -> Zone {
    Zone::Unknown(
        ErrorKind::ConfigInvalid,
        "mixpanel does not report the project's time zone".to_owned(),
    )
}

fn not_seen(project: u64, projects: &Members<'_>) -> Error {
    let mut named: Vec<&str> = projects
        .iter()
        .take(MOST_NAMED)
        .map(|(id, _)| &**id)
        .collect();
    if projects.len() > MOST_NAMED {
        named.push("…");
    }
    let sees = if named.is_empty() {
        "no project".to_owned()
    } else {
        named.join(", ")
    };
    Error::new(
        ErrorKind::PermissionDenied,
        "the service account does not see the project",
    )
    .with_context("project", project.to_string())
    .with_context("sees", sees)
    .with_help("give the service account a role in the project, or correct project_id")
}

/// A time zone by its name in the IANA's database.
pub(crate) fn parse_zone(name: &str) -> Result<Tz> {
    name.parse().map_err(|_| {
        Error::new(
            ErrorKind::ConfigInvalid,
            format!("unknown time zone `{name}`"),
        )
        .with_context("field", "time_zone")
        .with_help("set time_zone to a name such as Europe/Lisbon")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_zone_is_known_or_there_is_a_reason() {
        let zone =
            |project: &str| match seen(&format!(r#"{{"status":"ok","results":{project}}}"#), 7)
                .unwrap()
            {
                Seen::Project(Zone::Known(zone)) => zone.name().to_owned(),
                Seen::Project(Zone::Unknown(_, why)) => why,
                Seen::Others(error) => error.to_string(),
            };
        assert_eq!(
            zone(r#"{"projects":{"7":{"timezone":"US/Pacific"}}}"#),
            "US/Pacific"
        );
        for absent in [
            r#"{"projects":{"7":{"timezone":""}}}"#,
            r#"{"projects":{"7":{"timezone":null}}}"#,
            r#"{"projects":{"7":{}}}"#,
            "{}",
        ] {
            assert_eq!(
                zone(absent),
                "mixpanel does not report the project's time zone"
            );
        }
        assert_eq!(
            zone(r#"{"projects":{"7":{"timezone":"Mars/Base"}}}"#),
            "mixpanel reports the unknown time zone `Mars/Base`"
        );
        assert_eq!(
            zone(r#"{"projects":{}}"#),
            "the service account does not see the project (project: 7, sees: no project)"
        );
        let many = r#"{"projects":{"1":{},"2":{},"3":{},"4":{},"5":{},"6":{}}}"#;
        assert_eq!(
            zone(many),
            "the service account does not see the project (project: 7, sees: 1, 2, 3, 4, 5, …)"
        );
    }
}
