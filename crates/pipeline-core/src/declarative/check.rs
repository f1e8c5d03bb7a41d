//! Tries endpoints: each is asked for its first page.

use futures::StreamExt;
use futures::stream;

use super::distinct::Distinct;
use super::{Fetched, List, Reader, call};
use crate::connector::slice::TimeRange;
use crate::connector::{CheckReport, Endpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::http::HttpClient;
use crate::model::Availability;
use crate::model::record::Page;
use crate::model::state::{EndpointState, Position};

/// Endpoints asked at the same time, once the first has shown that the vendor answers.
const PARALLEL: usize = 8;

/// Endpoints in a row without any answer after which the vendor cannot be reached any more.
const SILENT: usize = 3;

/// Asks declared endpoints for their first pages: what
/// [`Connector::check`](crate::Connector::check) does unless overridden.
///
/// The first is asked alone: where there is no way to the vendor, nobody waits for the others.
/// Observers hear of each endpoint as it is tried.
///
/// # Errors
/// As [`Connector::check`](crate::Connector::check).
pub async fn check(
    client: &HttpClient,
    endpoints: &[Endpoint],
    names: &[&str],
) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let wanted: Vec<&Endpoint> = endpoints
        .iter()
        .filter(|endpoint| names.is_empty() || names.contains(&endpoint.name()))
        .collect();
    let Some((first, others)) = wanted.split_first() else {
        return Ok(report);
    };
    let mut silent = 0;
    let reader = Reader::new(client.clone());
    let others: Vec<_> = others
        .iter()
        .map(|endpoint| tried(&reader, endpoint))
        .collect();
    let mut asked = Box::pin(
        stream::once(tried(&reader, first)).chain(stream::iter(others).buffered(PARALLEL)),
    );
    while let Some((endpoint, outcome)) = asked.next().await {
        let availability = match outcome {
            Ok(()) => Availability::Available,
            Err(error) => match error.kind() {
                ErrorKind::Unauthenticated
                | ErrorKind::ConfigInvalid
                | ErrorKind::Untrusted
                | ErrorKind::Disk => return Err(error),
                ErrorKind::Unavailable if is_silent(&error) => {
                    silent += 1;
                    if silent >= SILENT || report.endpoints.is_empty() {
                        return Err(error);
                    }
                    Availability::Failed(with_help(&error))
                }
                ErrorKind::PermissionDenied => Availability::Unavailable(with_help(&error)),
                ErrorKind::NotFound | ErrorKind::Refused => {
                    Availability::Refused(with_help(&error))
                }
                _ => Availability::Failed(with_help(&error)),
            },
        };
        if !matches!(availability, Availability::Failed(_)) {
            silent = 0;
        }
        client.checked(endpoint.name(), &availability);
        report
            .endpoints
            .push((endpoint.name().to_owned(), availability));
    }
    Ok(report)
}

async fn tried<'a>(reader: &Reader, endpoint: &'a Endpoint) -> (&'a Endpoint, Result<()>) {
    (endpoint, first_page(reader, endpoint).await.map(drop))
}

/// True when not even a refusal came.
fn is_silent(error: &Error) -> bool {
    error.context_value("status").is_none()
}

/// What happened, in the vendor's words, and what can be done about it.
fn with_help(error: &Error) -> String {
    error
        .help()
        .map_or_else(|| error.to_string(), |help| format!("{error}; {help}"))
}

/// The first page of an endpoint; of a child, that of the first parent on its first page.
pub(super) async fn first_page(reader: &Reader, endpoint: &Endpoint) -> Result<Page> {
    let mut list = List::new(reader, endpoint);
    if let Some(parent) = &endpoint.parent {
        let parents = Box::pin(first_page(reader, &parent.endpoint)).await?;
        list.parent = parents
            .records
            .into_iter()
            .next()
            .and_then(|records| records.into_iter().find(|record| parent.wants(record)));
        if list.parent.is_none() {
            return Ok(Page::new(Vec::new(), None));
        }
    }
    let slice = endpoint
        .slicer
        .plan(
            &EndpointState::default(),
            TimeRange::all(),
            reader.client().now(),
        )
        .pop()
        .unwrap_or_default();
    let request = list.request(&slice, &Position::Start)?;
    let response = reader
        .client()
        .send(&request, &call(endpoint, &Position::Start))
        .await?;
    // Whether what it holds is understood is for a sync to find out.
    let nothing = || Page::new(Vec::new(), None);
    let Ok(cut) = list
        .cut(
            &Position::Start,
            &request,
            &response,
            &mut Distinct::default(),
        )
        .await
    else {
        return Ok(nothing());
    };
    let fetched = Fetched {
        request,
        cut: Some(cut).filter(|_| !response.is_ignored),
    };
    Ok(list
        .page(&slice, &Position::Start, fetched)
        .await
        .unwrap_or_else(|_| nothing()))
}
