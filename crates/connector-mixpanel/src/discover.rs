//! The properties that a project has, found out before a sync where all of them are to be columns.
//!
//! The Lexicon tells types and costs nothing, but has schemas of only those events and profiles
//! that somebody described. Which properties events have is found by a query. Mixpanel documents
//! that query for one event; without one it lists those of all.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pipeline_core::http::{Call, HttpClient, Method, Request};
use pipeline_core::{Error, ErrorKind, Result};

use crate::flatten::ColumnType;
use crate::json::{elements, expect, find, members};
use crate::limits::{APP, LEXICON, QUERY, QUERY_PACE};
use crate::project::{Credentials, Project};
use crate::region::Hosts;

/// Most properties that the query lists.
const MOST: &str = "2000";

/// Properties by name, with their types.
pub(crate) type Properties = BTreeMap<String, ColumnType>;

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) events: Properties,
    pub(crate) profiles: Properties,
    /// What could not be asked, in words.
    pub(crate) notes: Vec<String>,
}

/// Asks the Lexicon, which a project secret may not read, and with a query for the properties of
/// events where those are wanted. What a plan or a role does not allow is told, and the rest used.
pub(crate) async fn properties(
    client: &HttpClient,
    hosts: &Hosts,
    project: &Project,
    of_events: bool,
) -> Result<Found> {
    let (mut found, id) = (Found::default(), project.id);
    if project.credentials == Credentials::ServiceAccount {
        let lexicon = ask(
            client,
            hosts,
            &format!("/api/app/projects/{id}/schemas"),
            &[],
            &[LEXICON, APP],
        )
        .await;
        if let Some(body) = allowed(lexicon, "the Lexicon", &mut found.notes)? {
            read_schemas(&body, &mut found)?;
        }
    }
    if of_events {
        let query = [("project_id", id.to_string()), ("limit", MOST.to_owned())];
        let top = ask(
            client,
            hosts,
            "/api/query/events/properties/top",
            &query,
            &[QUERY, QUERY_PACE],
        )
        .await;
        if let Some(body) = allowed(top, "the list of properties", &mut found.notes)? {
            for (property, _) in members(&body)? {
                found
                    .events
                    .entry(property.into_owned())
                    .or_insert(ColumnType::Json);
            }
        }
    }
    Ok(found)
}

async fn ask(
    client: &HttpClient,
    hosts: &Hosts,
    path: &str,
    query: &[(&str, String)],
    buckets: &[&'static str],
) -> Result<String> {
    let invalid = |error| {
        Error::new(
            ErrorKind::Unexpected,
            "the address of the properties is not a URL",
        )
        .with_source(error)
    };
    let mut request = Request::new(Method::GET, hosts.query.join(path).map_err(invalid)?);
    for (name, value) in query {
        request.set_query(name, value);
    }
    let buckets: Vec<Cow<'static, str>> = buckets
        .iter()
        .map(|bucket| Cow::Borrowed(*bucket))
        .collect();
    let response = client
        .send(
            &request,
            &Call {
                endpoint: "properties",
                buckets: &buckets,
            },
        )
        .await?;
    String::from_utf8(response.body.into()).map_err(|error| {
        Error::new(
            ErrorKind::Decode,
            "what mixpanel tells of properties is not text",
        )
        .with_source(error)
    })
}

/// An answer, unless the account may not have it.
fn allowed(answer: Result<String>, what: &str, notes: &mut Vec<String>) -> Result<Option<String>> {
    match answer {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Refused
            ) =>
        {
            notes.push(format!(
                "{what} may not be read, so that fewer properties are columns: {}",
                error.message()
            ));
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

/// Reads `{results: [{entityType, name, schemaJson: {properties: {property: {type}}}}]}`. A
/// property of two events that differ in its type can hold anything.
fn read_schemas(body: &str, found: &mut Found) -> Result<()> {
    for entry in elements(expect(&members(body)?, "results")?)? {
        let entry = members(entry)?;
        let properties = match find(&entry, "entityType") {
            Some("\"event\"") => &mut found.events,
            Some("\"profile\"") => &mut found.profiles,
            _ => continue,
        };
        let schema = find(&entry, "schemaJson")
            .map(members)
            .transpose()?
            .unwrap_or_default();
        for (property, described) in find(&schema, "properties")
            .map(members)
            .transpose()?
            .unwrap_or_default()
        {
            let told = members(described)
                .ok()
                .and_then(|described| Some(column_type(find(&described, "type")?)));
            let told = told.unwrap_or_default();
            let known = properties.entry(property.into_owned()).or_insert(told);
            if *known != told {
                *known = ColumnType::Json;
            }
        }
    }
    Ok(())
}

/// The type of a column for a type of the Lexicon, which are those of JSON Schema. Numbers stay as
/// they are written: they may have more digits than a floating-point number.
fn column_type(told: &str) -> ColumnType {
    match told {
        "\"string\"" => ColumnType::String,
        "\"boolean\"" => ColumnType::Boolean,
        "\"integer\"" => ColumnType::Integer,
        _ => ColumnType::Json,
    }
}
